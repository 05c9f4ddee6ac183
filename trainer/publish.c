#include "trainer/publish.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/formats/bundle.h"
#include "engine/formats/json_read.h"
#include "engine/kernels/kernels.h"

enum { GOLDEN_ROWS = 4 };

/* ---- golden samples --------------------------------------------------------------------- */

/* Runs a graph as it stands: every operation after the other, nothing optimised, so that what
 * the samples expect does not come from the code that they are to check. values: [n_values],
 * those of the inputs are filled in; the others' memory is taken here. */
static int run_graph(const struct graph *g, struct nn_tensor *values, struct nn_error *error)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct graph_node *node = &g->nodes[i];
        const struct nn_tensor **inputs = calloc((size_t)node->n_inputs + 1, sizeof *inputs);
        struct nn_tensor **outputs = calloc((size_t)node->n_outputs + 1, sizeof *outputs);
        void *scratch = tensor_allocate(node->scratch + 1);
        bool ok = inputs && outputs && scratch;
        for (int k = 0; ok && k < node->n_inputs; k++)
            inputs[k] = node->inputs[k] == GRAPH_NONE ? NULL : &values[node->inputs[k]];
        for (int k = 0; ok && k < node->n_outputs; k++) {
            if (node->outputs[k] == GRAPH_NONE)
                continue;
            outputs[k] = &values[node->outputs[k]];
            outputs[k]->data = tensor_allocate(
                (size_t)tensor_bytes(outputs[k]->datatype, &outputs[k]->shape) + 1);
            ok = outputs[k]->data != NULL;
        }
        if (ok)
            node->op->forward(&(struct op_call){.attributes = node->attributes,
                                                .n_inputs = node->n_inputs,
                                                .n_outputs = node->n_outputs,
                                                .inputs = inputs,
                                                .outputs = outputs,
                                                .scratch = scratch,
                                                .n_parts = 1});
        free(scratch);
        free(outputs);
        free(inputs);
        if (!ok)
            return nn_fail(error, "no memory for golden samples");
    }
    return 0;
}

/* Rows spread evenly over the data. Returns their number. */
static int64_t choose_rows(const struct dataset *set, int64_t rows[GOLDEN_ROWS])
{
    int64_t n = set->n < GOLDEN_ROWS ? set->n : GOLDEN_ROWS;
    for (int64_t i = 0; i < n; i++)
        rows[i] = set->n * i / n;
    return n;
}

/* values: [n_values]; those that are not constants own their memory. */
static int make_golden(struct graph *g, const struct dataset *set, struct nn_tensor *values,
                       struct nn_error *error)
{
    int64_t rows[GOLDEN_ROWS], n = choose_rows(set, rows);
    if (graph_infer(g, n, error) != 0)
        return -1;
    for (int v = 0; v < g->n_values; v++) {
        const struct graph_value *value = &g->values[v];
        values[v] = (struct nn_tensor){value->type.datatype, value->type.shape, NULL};
        if (value->producer < 0 && !value->is_input)
            values[v].data = (void *)(uintptr_t)value->type.constant;
    }
    for (int i = 0; i < g->n_inputs; i++) {
        struct nn_tensor *input = &values[g->inputs[i]];
        input->data = tensor_allocate((size_t)tensor_bytes(input->datatype, &input->shape) + 1);
        if (!input->data)
            return nn_fail(error, "no memory for golden samples");
        dataset_gather(set, i, rows, n, input->datatype, input->data);
    }
    return run_graph(g, values, error);
}

static void free_values(const struct graph *g, struct nn_tensor *values)
{
    for (int v = 0; values && v < g->n_values; v++)
        if (g->values[v].producer >= 0 || g->values[v].is_input)
            free(values[v].data);
    free(values);
}

/* ---- provenance ------------------------------------------------------------------------- */

static void set_figure(json_t *object, const char *key, double value)
{
    if (isfinite(value))
        json_object_set_new(object, key, json_real(value));
}

/* JSON of what came of the training. Neither time nor threads are in it: the same training
 * gives the same text. To be freed. */
static char *training_text(const struct publication *p)
{
    const struct fit_result *result = p->result;
    static const char *const ends[] = {"done", "stopped early", "interrupted",
                                       "stopped: not finite"};
    char digest[17];
    snprintf(digest, sizeof digest, "%016" PRIx64, p->data_digest);
    json_t *metrics = json_object();
    for (int i = 0; i < result->n_epochs; i++) {
        const struct fit_epoch *epoch = &result->epochs[i];
        if (epoch->epoch != result->best_epoch)
            continue;
        set_figure(metrics, "loss", epoch->loss);
        set_figure(metrics, "accuracy", epoch->accuracy);
        set_figure(metrics, "validation_loss", epoch->validation_loss);
        set_figure(metrics, "validation_accuracy", epoch->validation_accuracy);
    }
    json_t *json =
        json_pack("{s:{s:s, s:I, s:I}, s:I, s:i, s:i, s:s, s:o, s:s, s:s}", "data", "digest",
                  digest, "samples", (json_int_t)p->train->n, "validation_samples",
                  (json_int_t)(p->validation ? p->validation->n : 0), "seed",
                  (json_int_t)p->recipe->seed, "epochs", result->n_epochs, "best_epoch",
                  result->best_epoch, "end", ends[result->end], "metrics", metrics, "program",
                  "predictd-train " PREDICTD_VERSION, "blas", kernels_blas());
    char *text =
        json ? json_print(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    return text;
}

static void write_figure(FILE *file, double value)
{
    if (isfinite(value))
        fprintf(file, "%.9g", value);
    putc(',', file);
}

static int write_history(const char *path, const struct fit_result *result,
                         struct nn_error *error)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return nn_fail(error, "%s: %s", path, strerror(errno));
    fputs("epoch,learning_rate,loss,accuracy,validation_loss,validation_accuracy,seconds,"
          "elapsed_seconds\n",
          file);
    double elapsed = 0;
    for (int i = 0; i < result->n_epochs; i++) {
        const struct fit_epoch *epoch = &result->epochs[i];
        elapsed += epoch->seconds;
        fprintf(file, "%d,", epoch->epoch);
        write_figure(file, epoch->learning_rate);
        write_figure(file, epoch->loss);
        write_figure(file, epoch->accuracy);
        write_figure(file, epoch->validation_loss);
        write_figure(file, epoch->validation_accuracy);
        fprintf(file, "%.3f,%.3f\n", epoch->seconds, elapsed);
    }
    if (ferror(file) | fclose(file))
        return nn_fail(error, "%s: cannot be written", path);
    return 0;
}

/* ---- versions --------------------------------------------------------------------------- */

/* Versions have at most so many digits, for the server too. */
enum { MAX_DIGITS = 18 };
static const int64_t max_version = INT64_C(999999999999999999);

/* A version's folder is a number without leading zeros; 0: the name is none. */
static int64_t version_of(const char *name)
{
    size_t digits = strspn(name, "0123456789");
    if (digits == 0 || digits > MAX_DIGITS || name[digits] != '\0' || name[0] == '0')
        return 0;
    return strtoll(name, NULL, 10);
}

static int make_folders(const char *path, struct nn_error *error)
{
    char *copy = strdup(path);
    if (!copy)
        return nn_fail(error, "out of memory");
    int status = 0;
    for (char *slash = copy; slash && status == 0;) {
        slash = strchr(slash + 1, '/');
        if (slash)
            *slash = '\0';
        if (copy[0] != '\0' && mkdir(copy, 0777) != 0 && errno != EEXIST)
            status = nn_fail(error, "%s: %s", copy, strerror(errno));
        if (slash)
            *slash = '/';
    }
    free(copy);
    return status;
}

int publish_check(const char *directory, struct nn_error *error)
{
    char *path = strdup(*directory ? directory : "."), *slash;
    if (!path)
        return nn_fail(error, "out of memory");
    struct stat state;
    int status = 0;
    while (stat(path, &state) != 0 && status == 0) {
        if (errno != ENOENT || strcmp(path, ".") == 0)
            status = nn_fail(error, "%s: %s", path, strerror(errno));
        else if (!(slash = strrchr(path, '/')))
            strcpy(path, ".");
        else
            slash[slash == path] = '\0';
    }
    if (status == 0 && !S_ISDIR(state.st_mode))
        status = nn_fail(error, "%s: %s", path, strerror(ENOTDIR));
    if (status == 0 && access(path, W_OK | X_OK) != 0)
        status = nn_fail(error, "%s: cannot publish there: %s", path, strerror(errno));
    free(path);
    return status;
}

/* Makes the folder of the next version: whoever makes it has the number for himself. Returns
 * its path, to be freed. */
static char *make_version(const char *directory, struct nn_error *error)
{
    if (make_folders(directory, error) != 0)
        return NULL;
    DIR *folder = opendir(directory);
    if (!folder) {
        nn_fail(error, "%s: %s", directory, strerror(errno));
        return NULL;
    }
    int64_t version = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        if (version_of(entry->d_name) > version)
            version = version_of(entry->d_name);
    closedir(folder);
    for (;;) {
        char *path;
        if (version == max_version) {
            nn_fail(error, "%s: no version can follow %" PRId64, directory, version);
            return NULL;
        }
        if (asprintf(&path, "%s/%" PRId64, directory, ++version) < 0) {
            nn_fail(error, "out of memory");
            return NULL;
        }
        if (mkdir(path, 0777) == 0)
            return path;
        if (errno != EEXIST) {
            nn_fail(error, "%s: %s", path, strerror(errno));
            free(path);
            return NULL;
        }
        free(path);
    }
}

/* The recipe with the columns that the training found: `predict` and `evaluate` then take them
 * by name, wherever another file has them. To be freed. */
static char *recipe_with_columns(const struct publication *p)
{
    json_t *columns = p->train->columns;
    json_t *input = json_array_get(json_object_get(p->recipe->json, "inputs"), 0);
    if (!columns || json_object_get(input, "columns"))
        return recipe_text(p->recipe);
    struct recipe recipe = {.json = json_deep_copy(p->recipe->json)};
    input = json_array_get(json_object_get(recipe.json, "inputs"), 0);
    char *text = json_object_set(input, "columns", columns) == 0 ? recipe_text(&recipe) : NULL;
    json_decref(recipe.json);
    return text;
}

/* ---- all of it -------------------------------------------------------------------------- */

static int write_bundle(const struct publication *p, const char *path, struct nn_error *error)
{
    int status = -1;
    char *recipe = recipe_with_columns(p), *training = training_text(p);
    struct nn_tensor *values = NULL, *golden = NULL;
    struct graph *g = network_publication(p->network, p->recipe, p->result->weights, error);
    if (!g)
        goto done;
    values = calloc((size_t)g->n_values + 1, sizeof *values);
    golden = calloc((size_t)(g->n_inputs + g->n_outputs) + 1, sizeof *golden);
    if (!recipe || !training || !values || !golden) {
        nn_fail(error, "out of memory");
        goto done;
    }
    if (make_golden(g, p->validation ? p->validation : p->train, values, error) != 0)
        goto done;
    for (int i = 0; i < g->n_inputs; i++)
        golden[i] = values[g->inputs[i]];
    for (int i = 0; i < g->n_outputs; i++)
        golden[g->n_inputs + i] = values[g->outputs[i]];
    status = bundle_write(&(struct bundle_content){.graph = g,
                                                   .n_labels = p->train->n_labels,
                                                   .labels = p->train->labels,
                                                   .golden_inputs = golden,
                                                   .golden_outputs = golden + g->n_inputs,
                                                   .recipe = recipe,
                                                   .training = training},
                          path, error);

done:
    if (g)
        free_values(g, values);
    graph_free(g);
    free(golden);
    free(recipe);
    free(training);
    return status;
}

char *publish(const struct publication *p, const char *directory, struct nn_error *error)
{
    char *bundle = NULL, *history = NULL;
    char *folder = make_version(directory, error);
    if (!folder)
        return NULL;
    int status = -1;
    if (asprintf(&bundle, "%s/model.safetensors", folder) < 0)
        bundle = NULL;
    if (asprintf(&history, "%s/history.csv", folder) < 0)
        history = NULL;
    if (!bundle || !history)
        nn_fail(error, "out of memory");
    else if (write_history(history, p->result, error) == 0)
        status = write_bundle(p, bundle, error);
    if (status != 0) {
        if (history)
            unlink(history);
        rmdir(folder);
        free(bundle);
        bundle = NULL;
    }
    free(history);
    free(folder);
    return bundle;
}
