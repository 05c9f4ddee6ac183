#include "trainer/predict.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "engine/datatype.h"
#include "trainer/apply.h"
#include "trainer/metric.h"

static void print_element(FILE *out, const struct nn_tensor *tensor, int64_t i)
{
    if (tensor->datatype == NN_BOOL) {
        fputs(((const uint8_t *)tensor->data)[i] ? "true" : "false", out);
    } else if (nn_datatype_is_real(tensor->datatype)) {
        /* Nine digits read back to the same float32; JSON knows no infinity. */
        double x = nn_tensor_element(tensor, i);
        if (isfinite(x))
            fprintf(out, "%.*g", tensor->datatype == NN_FP64 ? 17 : 9, x);
        else
            fputs("null", out);
    } else {
        uint64_t bits = datatype_integer(tensor->datatype, tensor->data, i);
        if (datatype_is_signed(tensor->datatype))
            fprintf(out, "%" PRId64, (int64_t)bits);
        else
            fprintf(out, "%" PRIu64, bits);
    }
}

/* The elements from *next on, nested as axes axis ... rank - 1. */
static void print_nested(FILE *out, const struct nn_tensor *tensor, int axis, int64_t *next)
{
    if (axis == tensor->shape.rank) {
        print_element(out, tensor, (*next)++);
        return;
    }
    fputc('[', out);
    for (int64_t i = 0; i < tensor->shape.dims[axis]; i++) {
        if (i > 0)
            fputc(',', out);
        print_nested(out, tensor, axis + 1, next);
    }
    fputc(']', out);
}

static void print_text(FILE *out, const char *text)
{
    json_t *string = json_string(text);
    if (!string || json_dumpf(string, out, JSON_ENCODE_ANY) != 0)
        fputs("null", out);
    json_decref(string);
}

static void print_row(FILE *out, const struct nn_model *model, const struct application *a,
                      int64_t row)
{
    fputs("{\"prediction\":", out);
    for (int i = 0; i < a->n_outputs; i++) {
        const struct nn_tensor *tensor = &a->outputs[i];
        int64_t next = row * shape_product(&tensor->shape, 1, tensor->shape.rank);
        if (a->n_outputs > 1) {
            fputc(i == 0 ? '{' : ',', out);
            print_text(out, nn_model_output(model, i)->name);
            fputc(':', out);
        }
        print_nested(out, tensor, 1, &next);
    }
    if (a->n_outputs > 1)
        fputc('}', out);
    const struct nn_tensor *first = &a->outputs[0];
    int64_t n = shape_product(&first->shape, 1, first->shape.rank);
    int n_labels = nn_model_n_labels(model);
    if (first->datatype == NN_FP32 && (n == n_labels || (n == 1 && n_labels == 2))) {
        fputs(",\"label\":", out);
        print_text(
            out, nn_model_label(model,
                                metric_class((const nn_real *)first->data + row * n, n, 0.5)));
    }
    fputs("}\n", out);
}

int predict(FILE *out, const char *bundle_path, const char *file, int n_threads,
            struct nn_error *error)
{
    struct published published;
    if (published_open(&published, bundle_path, ".", error) != 0)
        return -1;
    struct dataset set = {0};
    struct application application = {0};
    int status = -1;
    if (dataset_load_features(&set, file, &published.request, error) != 0)
        goto done;
    if (apply_model(&application, published.model, &set, n_threads, error) != 0) {
        nn_fail_in(error, "%s", file);
        goto done;
    }
    for (int64_t i = 0; i < set.n; i++)
        print_row(out, published.model, &application, i);
    status =
        fflush(out) == 0 && !ferror(out) ? 0 : nn_fail(error, "output: %s", strerror(errno));

done:
    application_release(&application);
    dataset_release(&set);
    published_close(&published);
    return status;
}
