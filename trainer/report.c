#include "trainer/report.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/apply.h"

/* ---- figures ---------------------------------------------------------------------------- */

/* A probability that was rounded to 0 costs as much as the smallest one that is not. */
static double log_loss(double probability)
{
    return -log(probability > FLT_MIN ? probability : FLT_MIN);
}

/* One row: the same losses as trainer/loss.h, but from the probabilities that a published
 * model answers with. */
static double row_loss(enum loss_kind kind, int64_t n, const nn_real *outputs, int class,
                       const nn_real *targets)
{
    double loss = 0;
    switch (kind) {
    case LOSS_SOFTMAX_CROSS_ENTROPY:
        return log_loss(outputs[class]);
    case LOSS_SIGMOID_CROSS_ENTROPY:
        for (int64_t i = 0; i < n; i++) {
            double y = targets ? targets[i] : class;
            loss += y * log_loss(outputs[i]) + (1 - y) * log_loss(1.0 - outputs[i]);
        }
        return loss / (double)n;
    case LOSS_MEAN_SQUARED_ERROR:
        for (int64_t i = 0; i < n; i++)
            loss += ((double)outputs[i] - targets[i]) * ((double)outputs[i] - targets[i]);
        return loss / (double)n;
    }
    return NAN;
}

static int copy_labels(struct report *report, const struct dataset *set, struct nn_error *error)
{
    report->labels = calloc((size_t)set->n_labels + 1, sizeof *report->labels);
    if (!report->labels || confusion_init(&report->confusion, set->n_labels) != 0)
        return nn_fail(error, "out of memory");
    for (int i = 0; i < set->n_labels; i++)
        if (!(report->labels[i] = strdup(set->labels[i])))
            return nn_fail(error, "out of memory");
    return 0;
}

/* Whether the values to predict are all no (0) or yes (1), by what is trained for that. */
static bool are_answers(enum loss_kind kind, const struct dataset *set)
{
    if (kind != LOSS_SIGMOID_CROSS_ENTROPY || !set->targets)
        return false;
    for (int64_t i = 0; i < set->n * set->n_targets; i++)
        if (set->targets[i] != 0 && set->targets[i] != 1)
            return false;
    return true;
}

/* What answer i is called: "labels" of the data, else the column's name, else its number. To be
 * freed. */
static char *answer_name(const json_t *data, int n, int i)
{
    static const char *const keys[] = {"labels", "label"};
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        const json_t *names = json_object_get(data, keys[k]);
        const char *name = json_array_size(names) == (size_t)n
                               ? json_string_value(json_array_get(names, (size_t)i))
                               : NULL;
        if (name)
            return strdup(name);
    }
    char *number;
    return asprintf(&number, "%d", i) < 0 ? NULL : number;
}

static int make_answers(struct report *report, const json_t *data, int n,
                        struct nn_error *error)
{
    report->labels = calloc((size_t)n + 1, sizeof *report->labels);
    report->answers = calloc((size_t)n + 1, sizeof *report->answers);
    if (!report->labels || !report->answers)
        return nn_fail(error, "out of memory");
    for (; report->n_answers < n; report->n_answers++) {
        int i = report->n_answers;
        report->labels[i] = answer_name(data, n, i);
        if (!report->labels[i] || confusion_init(&report->answers[i], 2) != 0) {
            free(report->labels[i]);
            return nn_fail(error, "out of memory");
        }
    }
    return 0;
}

static void count_answers(struct report *report, const nn_real *row, const nn_real *targets)
{
    bool exact = true;
    for (int k = 0; k < report->n_answers; k++) {
        int answer = metric_class(&row[k], 1, 0.5), expected = targets[k] > 0.5;
        confusion_add(&report->answers[k], expected, answer);
        exact &= answer == expected;
    }
    report->n_exact += exact;
}

/* What rows of values should be: the data's targets, or the input itself. To be freed. */
static nn_real *gather_targets(const struct dataset *set, int64_t row, int64_t n)
{
    nn_real *targets = calloc((size_t)n, sizeof *targets);
    if (targets && set->targets)
        memcpy(targets, set->targets + row * n, (size_t)n * sizeof *targets);
    else if (targets)
        dataset_gather(set, 0, &row, 1, NN_FP32, targets);
    return targets;
}

static int count(struct report *report, const json_t *data, const struct dataset *set,
                 const struct nn_tensor *output, struct nn_error *error)
{
    int64_t n = shape_product(&output->shape, 1, output->shape.rank);
    if (output->datatype != NN_FP32)
        return nn_fail(error, "the output has the datatype %s",
                       nn_datatype_name(output->datatype));
    bool fits = report->kind == LOSS_SIGMOID_CROSS_ENTROPY ? n == 1 && set->n_labels <= 2
                                                           : n == set->n_labels;
    if (set->classes && !fits)
        return nn_fail(error, "the model has %lld outputs, the data %d classes", (long long)n,
                       set->n_labels);
    if (set->classes && copy_labels(report, set, error) != 0)
        return -1;
    int64_t values =
        set->targets ? set->n_targets
                     : shape_product(&set->features[0].shape, 1, set->features[0].shape.rank);
    if (!set->classes && n != values)
        return nn_fail(error, "the model has %lld outputs, the data %lld values", (long long)n,
                       (long long)values);
    if (are_answers(report->kind, set) &&
        make_answers(report, data, set->n_targets, error) != 0)
        return -1;
    report->samples = set->n;
    for (int64_t i = 0; i < set->n; i++) {
        const nn_real *row = (const nn_real *)output->data + i * n;
        if (set->classes) {
            report->loss += row_loss(report->kind, n, row, set->classes[i], NULL);
            confusion_add(&report->confusion, set->classes[i], metric_class(row, n, 0.5));
            continue;
        }
        nn_real *targets = gather_targets(set, i, n);
        if (!targets)
            return nn_fail(error, "out of memory");
        report->loss += row_loss(report->kind, n, row, 0, targets);
        count_answers(report, row, targets);
        for (int64_t k = 0; k < n; k++) {
            double difference = (double)row[k] - targets[k];
            report->absolute_error += fabs(difference) / (double)n;
            report->squared_error += difference * difference / (double)n;
        }
        free(targets);
    }
    report->loss /= (double)set->n;
    report->absolute_error /= (double)set->n;
    report->squared_error /= (double)set->n;
    return 0;
}

/* Everything but the bundle's path before the error. */
static int evaluate_model(struct report *report, const struct published *published,
                          int n_threads, struct nn_error *error)
{
    if (!published->has_recipe)
        return nn_fail(error, "it holds no recipe, so what it was made for is not known");
    if (!json_object_get(published->recipe.data, "test"))
        return nn_fail(error, "its recipe names no test data (data.test)");
    struct dataset set;
    if (dataset_load(&set, &published->request, DATASET_TEST, error) != 0)
        return -1;
    struct application application;
    int status = apply_model(&application, published->model, &set, n_threads, error);
    if (status == 0) {
        report->kind = published->recipe.loss;
        status = count(report, published->recipe.data, &set, &application.outputs[0], error);
        application_release(&application);
    }
    dataset_release(&set);
    return status;
}

int report_make(struct report *report, const char *bundle_path, const char *directory,
                int n_threads, struct nn_error *error)
{
    *report = (struct report){0};
    struct published published;
    if (published_open(&published, bundle_path, directory, error) != 0)
        return -1;
    int status = evaluate_model(report, &published, n_threads, error);
    published_close(&published);
    if (status != 0) {
        report_release(report);
        nn_fail_in(error, "%s", bundle_path);
    }
    return status;
}

void report_release(struct report *report)
{
    for (int i = 0; report->labels && i < report->confusion.n + report->n_answers; i++)
        free(report->labels[i]);
    free(report->labels);
    for (int i = 0; i < report->n_answers; i++)
        confusion_release(&report->answers[i]);
    free(report->answers);
    confusion_release(&report->confusion);
    *report = (struct report){0};
}

/* ---- printing --------------------------------------------------------------------------- */

static int64_t support(const struct confusion *confusion, int class)
{
    int64_t n = 0;
    for (int i = 0; i < confusion->n; i++)
        n += confusion->counts[class * confusion->n + i];
    return n;
}

/* Where the counts of label i are, and as which class: a class of all, or the yes of an
 * answer. */
static const struct confusion *counts_of(const struct report *report, int i, int *class)
{
    *class = report->n_answers ? 1 : i;
    return report->n_answers ? &report->answers[i] : &report->confusion;
}

/* Of all answers of all samples. */
static double answers_accuracy(const struct report *report)
{
    double sum = 0;
    for (int i = 0; i < report->n_answers; i++)
        sum += confusion_accuracy(&report->answers[i]);
    return sum / report->n_answers;
}

static double exact_match(const struct report *report)
{
    return (double)report->n_exact / (double)report->samples;
}

static void print_classes(const struct report *report, int width, FILE *out)
{
    fprintf(out, "\n%-*s  precision  recall      F1  samples\n", width, "class");
    for (int i = 0; i < report->confusion.n + report->n_answers; i++) {
        int class;
        const struct confusion *c = counts_of(report, i, &class);
        fprintf(out, "%-*s  %8.2f%%  %5.2f%%  %5.2f%%  %7lld\n", width, report->labels[i],
                100 * confusion_precision(c, class), 100 * confusion_recall(c, class),
                100 * confusion_f1(c, class), (long long)support(c, class));
    }
}

static void print_confusion(const struct report *report, int width, FILE *out)
{
    const struct confusion *c = &report->confusion;
    fprintf(out, "\n%-*s  (rows: true class, columns: predicted)\n%-*s ", width, "confusion",
            width, "");
    for (int i = 0; i < c->n; i++)
        fprintf(out, " %6.6s", report->labels[i]);
    fputc('\n', out);
    for (int i = 0; i < c->n; i++) {
        fprintf(out, "%-*s ", width, report->labels[i]);
        for (int k = 0; k < c->n; k++)
            fprintf(out, " %6lld", (long long)c->counts[i * c->n + k]);
        fputc('\n', out);
    }
}

void report_print(const struct report *report, FILE *out)
{
    fprintf(out, "samples   %lld\nloss      %.6f\n", (long long)report->samples, report->loss);
    int n_labels = report->confusion.n + report->n_answers;
    if (n_labels == 0) {
        fprintf(out, "mean absolute error      %.6f\nroot mean squared error  %.6f\n",
                report->absolute_error, sqrt(report->squared_error));
        return;
    }
    int width = (int)strlen("confusion");
    for (int i = 0; i < n_labels; i++)
        if ((int)strlen(report->labels[i]) > width)
            width = (int)strlen(report->labels[i]);
    if (report->n_answers) {
        fprintf(out, "accuracy  %.2f%%, all answers right %.2f%%\n",
                100 * answers_accuracy(report), 100 * exact_match(report));
        print_classes(report, width, out);
        return;
    }
    fprintf(out, "accuracy  %.2f%%\n", 100 * confusion_accuracy(&report->confusion));
    print_classes(report, width, out);
    print_confusion(report, width, out);
}

/* By label; and where two classes have the same one, the later. */
static json_t *classes_json(const struct report *report)
{
    json_t *classes = json_object();
    for (int i = 0; i < report->confusion.n + report->n_answers; i++) {
        int class;
        const struct confusion *c = counts_of(report, i, &class);
        json_object_set_new(classes, report->labels[i],
                            json_pack("{s:f, s:f, s:f, s:I}", "precision",
                                      confusion_precision(c, class), "recall",
                                      confusion_recall(c, class), "f1", confusion_f1(c, class),
                                      "samples", (json_int_t)support(c, class)));
    }
    return classes;
}

static json_t *confusion_json(const struct confusion *c)
{
    json_t *rows = json_array();
    for (int i = 0; i < c->n; i++) {
        json_t *row = json_array();
        for (int k = 0; k < c->n; k++)
            json_array_append_new(row, json_integer(c->counts[i * c->n + k]));
        json_array_append_new(rows, row);
    }
    return rows;
}

int report_print_json(const struct report *report, FILE *out)
{
    json_t *json =
        json_pack("{s:f, s:I}", "loss", report->loss, "samples", (json_int_t)report->samples);
    if (report->confusion.n > 0) {
        json_object_set_new(json, "accuracy",
                            json_real(confusion_accuracy(&report->confusion)));
        json_object_set_new(json, "classes", classes_json(report));
        json_object_set_new(json, "confusion", confusion_json(&report->confusion));
    } else if (report->n_answers > 0) {
        json_object_set_new(json, "accuracy", json_real(answers_accuracy(report)));
        json_object_set_new(json, "exact_match", json_real(exact_match(report)));
        json_object_set_new(json, "classes", classes_json(report));
    } else {
        json_object_set_new(json, "mean_absolute_error", json_real(report->absolute_error));
        json_object_set_new(json, "root_mean_squared_error",
                            json_real(sqrt(report->squared_error)));
    }
    int status = json ? json_dumpf(json, out, JSON_SORT_KEYS | JSON_REAL_PRECISION(9)) : -1;
    json_decref(json);
    fputc('\n', out);
    return status;
}
