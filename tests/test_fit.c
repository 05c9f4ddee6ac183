#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "tests/recipe_text.h"
#include "trainer/fit.h"
#include "trainer/tape.h"

/* A data set of features [n, width] with classes or targets [n, n_targets]; the caller's. */
static struct dataset make_set(int64_t n, int64_t width, nn_real *x, int32_t *classes,
                               int n_labels, nn_real *targets, int n_targets)
{
    static struct nn_tensor features[8];
    static int next;
    struct nn_tensor *tensor = &features[next++ % 8];
    *tensor = (struct nn_tensor){NN_FP32, {2, {n, width}}, x};
    return (struct dataset){.n = n,
                            .n_features = 1,
                            .features = tensor,
                            .classes = classes,
                            .targets = targets,
                            .n_targets = n_targets,
                            .n_labels = n_labels};
}

static struct fit_result fit_or_fail(struct recipe_text *built, const struct dataset *train,
                                     const struct dataset *validation, int n_threads)
{
    struct fit_result result;
    struct nn_error error = {0};
    const struct fit_options options = {.n_threads = n_threads};
    if (fit(built->network, &built->recipe, train, validation, &options, &result, &error) != 0)
        fail_msg("%s", error.text);
    return result;
}

#define DATA "'name': 'x', 'data': {'format': 'csv', 'train': 'x.csv', 'label': -1}"
#define VALUES                                                                     \
    "'name': 'x', 'data': {'format': 'csv', 'train': 'x.csv', 'target': 'values'," \
    "'label': -1}"

static int64_t offset_of(const struct network *network, const char *name)
{
    for (int i = 0; i < network->n_parameters; i++)
        if (strcmp(network->graph->values[network->parameters[i].value].name, name) == 0)
            return network->parameters[i].offset;
    fail_msg("no parameter is called %s", name);
    return -1;
}

static int shards_of(struct network *network, int64_t rows)
{
    struct tape tape;
    assert_int_equal(tape_init(&tape, network, rows, true, NULL), 0);
    const struct tape_cut *cut = tape_cut(&tape, rows, NULL);
    assert_non_null(cut);
    int n = cut->n_shards;
    int64_t next = 0;
    for (int i = 0; i < n; i++) {
        assert_int_equal(cut->shards[i].begin, next);
        next += cut->shards[i].rows;
    }
    assert_int_equal(next, rows);
    tape_release(&tape);
    return n;
}

/* ---- what goes wrong -------------------------------------------------------------------- */

static void a_huge_learning_rate_stops_and_keeps_finite_weights(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [2]}],"
        "'layers': [{'type': 'dense', 'name': 'first', 'units': 4, 'activation': 'relu'},"
        "           {'type': 'dense', 'name': 'second', 'units': 2}],"
        "'loss': 'softmax_cross_entropy', 'optimizer': {'type': 'sgd', 'learning_rate': 1e30},"
        "'training': {'epochs': 50, 'batch_size': 2}}");
    nn_real x[8] = {1, 2, -1, 3, 0.5f, -2, 2, 2};
    int32_t classes[4] = {0, 1, 0, 1};
    struct dataset set = make_set(4, 2, x, classes, 2, NULL, 0);
    struct fit_result result = fit_or_fail(&built, &set, NULL, 2);
    assert_int_equal(result.end, FIT_NOT_FINITE);
    assert_true(strcmp(result.layer, "first") == 0 || strcmp(result.layer, "second") == 0);
    for (int64_t i = 0; i < built.network->n_weights; i++) {
        assert_true(isfinite(result.weights[i]));
        assert_true(result.weights[i] == built.network->weights[i]);
    }
    fit_result_release(&result);
    recipe_text_release(&built);
}

static void an_input_that_is_not_finite_names_the_first_layer(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [2]}],"
        "'layers': [{'type': 'dense', 'name': 'first', 'units': 4},"
        "           {'type': 'dense', 'name': 'second', 'units': 2}],"
        "'loss': 'softmax_cross_entropy', 'training': {'epochs': 1, 'batch_size': 2}}");
    nn_real x[4] = {1, 2, INFINITY, 3};
    int32_t classes[2] = {0, 1};
    struct dataset set = make_set(2, 2, x, classes, 2, NULL, 0);
    struct fit_result result = fit_or_fail(&built, &set, NULL, 1);
    assert_int_equal(result.end, FIT_NOT_FINITE);
    assert_string_equal(result.layer, "first");
    assert_int_equal(result.n_epochs, 0);
    fit_result_release(&result);
    recipe_text_release(&built);
}

static void data_that_do_not_fit_the_network_are_refused(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [2]}],"
        "'layers': [{'type': 'dense', 'units': 3}], 'loss': 'softmax_cross_entropy'}");
    nn_real x[4] = {1, 2, 3, 4};
    int32_t classes[2] = {0, 1};
    struct dataset sets[] = {make_set(2, 2, x, classes, 2, NULL, 0),
                             make_set(0, 2, x, classes, 3, NULL, 0)};
    static const char *const texts[] = {"the network has 3 outputs, the data 2 classes",
                                        "the data have no samples"};
    for (int i = 0; i < 2; i++) {
        struct fit_result result;
        struct nn_error error = {0};
        const struct fit_options options = {.n_threads = 1};
        assert_int_equal(
            fit(built.network, &built.recipe, &sets[i], NULL, &options, &result, &error), -1);
        assert_string_equal(error.text, texts[i]);
        assert_null(result.weights);
    }
    recipe_text_release(&built);
}

static void targets_of_a_sigmoid_are_probabilities(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{'name': 't', 'data': {'format': 'csv', 'train': 'x', 'label': [0, 1]},"
        "'inputs': [{'name': 'x', 'shape': [1]}], 'layers': [{'type': 'dense', 'units': 2}],"
        "'loss': 'sigmoid_cross_entropy'}");
    nn_real x[2] = {1, 2}, targets[2][4] = {{0, 1, 0.5f, 255}, {0, 1, 1, -0.1f}};
    static const char *const got[2] = {"255", "-0.1"};
    const struct fit_options options = {.n_threads = 1};
    for (int i = 0; i < 2; i++) {
        struct dataset set = make_set(2, 1, x, NULL, 0, targets[i], 2);
        struct fit_result result;
        struct nn_error error = {0};
        char expected[120];
        snprintf(expected, sizeof expected,
                 "sigmoid_cross_entropy: expected targets from 0 to 1, row 1 of the data has %s",
                 got[i]);
        assert_int_equal(
            fit(built.network, &built.recipe, &set, NULL, &options, &result, &error), -1);
        assert_string_equal(error.text, expected);
    }
    recipe_text_release(&built);
}

static volatile sig_atomic_t stop;

static void stop_in_epoch_2(void *context, const struct fit_progress *progress)
{
    (void)context;
    stop = progress->epoch == 2 && progress->step == 2;
}

static void an_interrupted_training_keeps_what_it_has(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [2]}],"
        "'layers': [{'type': 'dense', 'units': 2}], 'loss': 'softmax_cross_entropy',"
        "'training': {'epochs': 5, 'batch_size': 1}}");
    nn_real x[8] = {1, 2, -1, 3, 0.5f, -2, 2, 2};
    int32_t classes[4] = {0, 1, 0, 1};
    struct dataset set = make_set(4, 2, x, classes, 2, NULL, 0);
    struct fit_result result;
    const struct fit_options options = {1, &stop, stop_in_epoch_2, NULL, NULL};
    assert_int_equal(fit(built.network, &built.recipe, &set, NULL, &options, &result, NULL), 0);
    assert_int_equal(result.end, FIT_INTERRUPTED);
    assert_int_equal(result.n_epochs, 2);
    assert_int_equal(result.best_epoch, 2);
    stop = 0;
    fit_result_release(&result);
    recipe_text_release(&built);
}

/* ---- what is learned -------------------------------------------------------------------- */

static void exclusive_or_is_learned_completely(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [2]}],"
        "'layers': [{'type': 'dense', 'units': 8, 'activation': 'tanh'},"
        "           {'type': 'dense', 'units': 1}],"
        "'loss': 'sigmoid_cross_entropy', 'optimizer': {'type': 'adam', 'learning_rate': 0.05},"
        "'training': {'epochs': 200, 'batch_size': 4}}");
    nn_real x[8] = {0, 0, 0, 1, 1, 0, 1, 1};
    int32_t classes[4] = {0, 1, 1, 0};
    struct dataset set = make_set(4, 2, x, classes, 2, NULL, 0);
    struct fit_result result = fit_or_fail(&built, &set, NULL, 1);
    double loss, accuracy;
    assert_int_equal(evaluate(built.network, &built.recipe, &set, 1, &loss, &accuracy, NULL),
                     0);
    assert_true(accuracy == 1);
    assert_true(loss < 0.05);
    fit_result_release(&result);
    recipe_text_release(&built);
}

/* Solves A x = b, n by n, in place; A is symmetric and positive. */
static void solve(int n, double *a, double *b)
{
    for (int i = 0; i < n; i++)
        for (int k = i + 1; k < n; k++) {
            double f = a[k * n + i] / a[i * n + i];
            for (int j = i; j < n; j++)
                a[k * n + j] -= f * a[i * n + j];
            b[k] -= f * b[i];
        }
    for (int i = n - 1; i >= 0; i--) {
        for (int j = i + 1; j < n; j++)
            b[i] -= a[i * n + j] * b[j];
        b[i] /= a[i * n + i];
    }
}

static void linear_regression_reaches_the_closed_form(void **state)
{
    (void)state;
    enum { N = 50, WIDTH = 3, COLUMNS = WIDTH + 1 };
    struct recipe_text built = recipe_text_build(
        "{" VALUES ", 'inputs': [{'name': 'x', 'shape': [3]}],"
        "'layers': [{'type': 'dense', 'name': 'line', 'units': 1}],"
        "'loss': 'mean_squared_error', 'optimizer': {'type': 'sgd', 'learning_rate': 0.2},"
        "'training': {'epochs': 300, 'batch_size': 50}}");
    nn_real x[N * WIDTH], y[N];
    double normal[COLUMNS * COLUMNS] = {0}, expected[COLUMNS] = {0};
    for (int i = 0; i < N; i++) {
        double row[COLUMNS] = {[WIDTH] = 1};
        for (int k = 0; k < WIDTH; k++)
            row[k] = x[i * WIDTH + k] = (nn_real)kernel_random_normal(1, (uint64_t)(i * 3 + k));
        y[i] = (nn_real)(2 * row[0] - row[1] + 0.5 * row[2] + 3 +
                         0.1 * kernel_random_normal(2, (uint64_t)i));
        for (int k = 0; k < COLUMNS; k++) {
            for (int j = 0; j < COLUMNS; j++)
                normal[k * COLUMNS + j] += row[k] * row[j];
            expected[k] += row[k] * y[i];
        }
    }
    solve(COLUMNS, normal, expected);
    struct dataset set = make_set(N, WIDTH, x, NULL, 0, y, 1);
    struct fit_result result = fit_or_fail(&built, &set, NULL, 1);
    const nn_real *w = built.network->weights + offset_of(built.network, "line.weight");
    for (int k = 0; k < WIDTH; k++)
        assert_true(fabs((double)w[k] - expected[k]) < 1e-4);
    double bias = built.network->weights[offset_of(built.network, "line.bias")];
    assert_true(fabs(bias - expected[WIDTH]) < 1e-4);
    assert_true(isnan(result.epochs[0].accuracy));
    fit_result_release(&result);
    recipe_text_release(&built);
}

/* The validation rows contradict the training rows: the better the one, the worse the other. */
static void early_stopping_brings_the_best_weights_back(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [2]}],"
        "'layers': [{'type': 'dense', 'units': 2}], 'loss': 'softmax_cross_entropy',"
        "'optimizer': {'type': 'sgd', 'learning_rate': 0.5},"
        "'training': {'epochs': 50, 'batch_size': 4, 'validation_fraction': 0.5,"
        "             'early_stopping': {'patience': 3}}}");
    nn_real x[8] = {1, 0, 2, 0, -1, 0, -2, 0};
    int32_t classes[4] = {0, 0, 1, 1}, opposite[4] = {1, 1, 0, 0};
    struct dataset train = make_set(4, 2, x, classes, 2, NULL, 0);
    struct dataset validation = make_set(4, 2, x, opposite, 2, NULL, 0);
    struct fit_result result = fit_or_fail(&built, &train, &validation, 1);
    assert_int_equal(result.end, FIT_STOPPED_EARLY);
    assert_int_equal(result.best_epoch, 1);
    assert_int_equal(result.n_epochs, 4);
    double loss, accuracy;
    assert_int_equal(
        evaluate(built.network, &built.recipe, &validation, 1, &loss, &accuracy, NULL), 0);
    assert_true(loss == result.epochs[0].validation_loss);
    assert_true(loss < result.epochs[3].validation_loss);
    fit_result_release(&result);
    recipe_text_release(&built);
}

/* ---- one step, by hand ------------------------------------------------------------------ */

/* y = w x + b on one sample: the loss (w x + b - t)^2 has the gradients 2 r x and 2 r, with
 * r = w x + b - t. */
static void check_step(const char *training, double l2, double clip)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{" VALUES ", 'inputs': [{'name': 'x', 'shape': [1]}],"
             "'layers': [{'type': 'dense', 'name': 'line', 'units': 1}],"
             "'loss': 'mean_squared_error', 'optimizer': {'type': 'sgd', 'learning_rate': 0.1},"
             "'training': {'epochs': 1, 'batch_size': 1, %s}}",
             training);
    struct recipe_text built = recipe_text_build(text);
    int64_t w = offset_of(built.network, "line.weight");
    int64_t b = offset_of(built.network, "line.bias");
    built.network->weights[w] = 0.7f;
    built.network->weights[b] = -0.2f;
    nn_real x = 3, t = 5;
    struct dataset set = make_set(1, 1, &x, NULL, 0, &t, 1);
    struct fit_result result = fit_or_fail(&built, &set, NULL, 1);

    double r = 0.7 * 3 - 0.2 - 5, dw = 2 * r * 3 + l2 * 0.7, db = 2 * r;
    double norm = sqrt(dw * dw + db * db);
    double scale = clip > 0 && norm > clip ? clip / norm : 1;
    assert_true(fabs((double)built.network->weights[w] - (0.7 - 0.1 * scale * dw)) < 1e-5);
    assert_true(fabs((double)built.network->weights[b] - (-0.2 - 0.1 * scale * db)) < 1e-5);
    fit_result_release(&result);
    recipe_text_release(&built);
}

static void decay_and_clipping_do_what_they_say(void **state)
{
    (void)state;
    check_step("'seed': 1", 0, 0);
    check_step("'l2': 0.5", 0.5, 0);
    check_step("'clip_norm': 2", 0, 2);
    check_step("'clip_norm': 1000", 0, 1000);
    check_step("'l2': 4, 'clip_norm': 1.5", 4, 1.5);
}

static void the_learning_rate_follows_its_schedule_by_steps(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [1]}],"
        "'layers': [{'type': 'dense', 'units': 2}], 'loss': 'softmax_cross_entropy',"
        "'optimizer': {'type': 'sgd', 'learning_rate': 0.3},"
        "'schedule': {'type': 'cosine', 'warmup_steps': 3},"
        "'training': {'epochs': 2, 'batch_size': 2}}");
    nn_real x[7] = {1, 2, 3, 4, 5, 6, 7};
    int32_t classes[7] = {0, 1, 0, 1, 0, 1, 0};
    struct dataset set = make_set(7, 1, x, classes, 2, NULL, 0);
    struct fit_result result = fit_or_fail(&built, &set, NULL, 1);
    for (int i = 0; i < 2; i++)     /* four steps each, the last of them 3 and 7 */
        assert_true(result.epochs[i].learning_rate
                    == schedule_rate(&built.recipe.schedule, 0.3, 4 * i + 3, 8, 4));
    fit_result_release(&result);
    recipe_text_release(&built);
}

/* Column 0 has the mean 2.5 and the variance 1.25, column 1 the mean 10 and the variance 50. */
static void running_statistics_follow_the_batches(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [2]}],"
        "'layers': [{'type': 'batch_norm', 'name': 'norm', 'momentum': 0.75},"
        "           {'type': 'dense', 'units': 2}], 'loss': 'softmax_cross_entropy',"
        "'training': {'epochs': 2, 'batch_size': 4}}");
    nn_real x[8] = {1, 0, 2, 10, 3, 10, 4, 20};
    int32_t classes[4] = {0, 1, 0, 1};
    struct dataset set = make_set(4, 2, x, classes, 2, NULL, 0);
    struct fit_result result = fit_or_fail(&built, &set, NULL, 2);
    static const double expected[2][2] = {
        {(1 - 0.5625) * 2.5, (1 - 0.5625) * 10},
        {0.5625 + (1 - 0.5625) * 1.25, 0.5625 + (1 - 0.5625) * 50},
    };
    const nn_real *mean =
        built.network->weights + offset_of(built.network, "norm.running_mean");
    const nn_real *variance =
        built.network->weights + offset_of(built.network, "norm.running_var");
    for (int k = 0; k < 2; k++) {
        assert_true(fabs((double)mean[k] - expected[0][k]) < 1e-5);
        assert_true(fabs((double)variance[k] - expected[1][k]) < 1e-4);
    }
    fit_result_release(&result);
    recipe_text_release(&built);
}

/* ---- many steps, by a naive twin -------------------------------------------------------- */

enum { TWIN_ROWS = 96, TWIN_IN = 200, TWIN_HIDDEN = 128, TWIN_OUT = 10, TWIN_STEPS = 20 };

/* Two layers in float64: where their weights lie in one array. */
enum {
    W1 = 0,
    B1 = W1 + TWIN_HIDDEN * TWIN_IN,
    W2 = B1 + TWIN_HIDDEN,
    B2 = W2 + TWIN_OUT * TWIN_HIDDEN,
    TWIN_SIZE = B2 + TWIN_OUT
};

/* Adds the gradient of one sample to d. */
static void add_sample(const double *w, double *d, const nn_real *x, int class)
{
    double h[TWIN_HIDDEN], z[TWIN_OUT], dh[TWIN_HIDDEN] = {0}, sum = 0;
    for (int j = 0; j < TWIN_HIDDEN; j++) {
        h[j] = w[B1 + j];
        for (int k = 0; k < TWIN_IN; k++)
            h[j] += w[W1 + j * TWIN_IN + k] * (double)x[k];
        h[j] = h[j] > 0 ? h[j] : 0;
    }
    for (int o = 0; o < TWIN_OUT; o++) {
        z[o] = w[B2 + o];
        for (int j = 0; j < TWIN_HIDDEN; j++)
            z[o] += w[W2 + o * TWIN_HIDDEN + j] * h[j];
        sum += exp(z[o]);
    }
    for (int o = 0; o < TWIN_OUT; o++) {
        double dz = (exp(z[o]) / sum - (o == class)) / TWIN_ROWS;
        d[B2 + o] += dz;
        for (int j = 0; j < TWIN_HIDDEN; j++) {
            d[W2 + o * TWIN_HIDDEN + j] += dz * h[j];
            dh[j] += dz * w[W2 + o * TWIN_HIDDEN + j];
        }
    }
    for (int j = 0; j < TWIN_HIDDEN; j++) {
        if (h[j] <= 0)
            continue;
        d[B1 + j] += dh[j];
        for (int k = 0; k < TWIN_IN; k++)
            d[W1 + j * TWIN_IN + k] += dh[j] * (double)x[k];
    }
}

static void copy_weights(const struct network *network, const char *name, double *to, int n)
{
    const nn_real *from = network->weights + offset_of(network, name);
    for (int i = 0; i < n; i++)
        to[i] = (double)from[i];
}

static void copy_network(const struct network *network, double *w)
{
    copy_weights(network, "one.weight", w + W1, TWIN_HIDDEN * TWIN_IN);
    copy_weights(network, "one.bias", w + B1, TWIN_HIDDEN);
    copy_weights(network, "two.weight", w + W2, TWIN_OUT * TWIN_HIDDEN);
    copy_weights(network, "two.bias", w + B2, TWIN_OUT);
}

static void weights_after_many_steps_are_those_of_a_naive_twin(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(
        "{" DATA ", 'inputs': [{'name': 'x', 'shape': [200]}],"
        "'layers': [{'type': 'dense', 'name': 'one', 'units': 128, 'activation': 'relu'},"
        "           {'type': 'dense', 'name': 'two', 'units': 10}],"
        "'loss': 'softmax_cross_entropy',"
        "'optimizer': {'type': 'sgd', 'learning_rate': 0.1, 'momentum': 0.9},"
        "'training': {'epochs': 20, 'batch_size': 96}}");
    assert_true(shards_of(built.network, TWIN_ROWS) > 1);
    static nn_real x[TWIN_ROWS * TWIN_IN];
    int32_t classes[TWIN_ROWS];
    for (int i = 0; i < TWIN_ROWS * TWIN_IN; i++)
        x[i] = (nn_real)kernel_random_normal(7, (uint64_t)i);
    for (int i = 0; i < TWIN_ROWS; i++)
        classes[i] = (int32_t)(kernel_random(8, (uint64_t)i) % TWIN_OUT);

    static double w[TWIN_SIZE], d[TWIN_SIZE], v[TWIN_SIZE], got[TWIN_SIZE];
    copy_network(built.network, w);
    for (int step = 0; step < TWIN_STEPS; step++) {
        memset(d, 0, sizeof d);
        for (int i = 0; i < TWIN_ROWS; i++)
            add_sample(w, d, x + i * TWIN_IN, classes[i]);
        for (int i = 0; i < TWIN_SIZE; i++) {
            v[i] = 0.9 * v[i] + d[i];
            w[i] -= 0.1 * v[i];
        }
    }

    struct dataset set = make_set(TWIN_ROWS, TWIN_IN, x, classes, TWIN_OUT, NULL, 0);
    struct fit_result result = fit_or_fail(&built, &set, NULL, 2);
    assert_int_equal(result.n_epochs, TWIN_STEPS);
    copy_network(built.network, got);
    for (int i = 0; i < TWIN_SIZE; i++)
        if (!(fabs(got[i] - w[i]) <= 2e-5))
            fail_msg("weight %d: %g, expected %g", i, got[i], w[i]);
    fit_result_release(&result);
    recipe_text_release(&built);
}

/* ---- threads ---------------------------------------------------------------------------- */

static const char digits_recipe[] =
    "{'name': 'x', 'data': {'format': 'digits', 'train': 350, 'test': 10, 'seed': 3},"
    "'inputs': [{'name': 'image', 'shape': [1, 28, 28]}],"
    "'layers': [{'type': 'scale', 'factor': 0.004},"
    "           {'type': 'conv2d', 'filters': 16, 'kernel': 3},"
    "           {'type': 'batch_norm', 'activation': 'relu'},"
    "           {'type': 'max_pool', 'kernel': 2},"
    "           {'type': 'dropout', 'rate': 0.25},"
    "           {'type': 'flatten'},"
    "           {'type': 'dense', 'units': 10}],"
    "'loss': 'softmax_cross_entropy', 'optimizer': {'type': 'adam', 'learning_rate': 0.002},"
    "'training': {'epochs': 2, 'batch_size': 96, 'seed': 11, 'clip_norm': 1,"
    "             'validation_fraction': 0.2}}";

static void load_digits(const struct recipe *recipe, struct dataset *train,
                        struct dataset *validation)
{
    struct nn_error error = {0};
    struct dataset_request request = {.data = recipe->data,
                                      .directory = ".",
                                      .n_inputs = recipe->n_inputs,
                                      .inputs = recipe->inputs};
    if (dataset_load(train, &request, DATASET_TRAIN, &error) != 0 ||
        dataset_split(train, recipe->validation_fraction, recipe->seed, validation, &error) !=
            0)
        fail_msg("%s", error.text);
}

static void the_same_seed_gives_the_same_bytes_for_any_number_of_threads(void **state)
{
    (void)state;
    nn_real *first = NULL;
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        struct recipe_text built = recipe_text_build(digits_recipe);
        struct dataset train, validation;
        load_digits(&built.recipe, &train, &validation);
        struct fit_result result = fit_or_fail(&built, &train, &validation, n_threads);
        size_t bytes = (size_t)built.network->n_weights * sizeof *first;
        if (!first) {
            first = malloc(bytes);
            assert_non_null(first);
            memcpy(first, result.weights, bytes);
        }
        assert_memory_equal(first, result.weights, bytes);
        fit_result_release(&result);
        dataset_release(&train);
        dataset_release(&validation);
        recipe_text_release(&built);
    }
    free(first);
}

static void another_seed_gives_other_weights(void **state)
{
    (void)state;
    struct fit_result results[2];
    int64_t n = 0;
    for (int i = 0; i < 2; i++) {
        struct recipe_text built = recipe_text_build(digits_recipe);
        struct dataset train, validation;
        load_digits(&built.recipe, &train, &validation);
        built.recipe.seed += (uint64_t)i;
        results[i] = fit_or_fail(&built, &train, &validation, 2);
        n = built.network->n_trained;
        dataset_release(&train);
        dataset_release(&validation);
        recipe_text_release(&built);
    }
    assert_memory_not_equal(results[0].weights, results[1].weights,
                            (size_t)n * sizeof(nn_real));
    fit_result_release(&results[0]);
    fit_result_release(&results[1]);
}

/* Else the two tests above would prove little. */
static void a_batch_of_digits_is_cut_into_several_shards(void **state)
{
    (void)state;
    struct recipe_text built = recipe_text_build(digits_recipe);
    assert_true(shards_of(built.network, 96) >= 4);
    assert_true(shards_of(built.network, 97) >= 4);
    assert_int_equal(shards_of(built.network, 1), 1);
    recipe_text_release(&built);
}

int main(void)
{
    nn_engine_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_huge_learning_rate_stops_and_keeps_finite_weights),
        cmocka_unit_test(an_input_that_is_not_finite_names_the_first_layer),
        cmocka_unit_test(data_that_do_not_fit_the_network_are_refused),
        cmocka_unit_test(targets_of_a_sigmoid_are_probabilities),
        cmocka_unit_test(an_interrupted_training_keeps_what_it_has),
        cmocka_unit_test(exclusive_or_is_learned_completely),
        cmocka_unit_test(linear_regression_reaches_the_closed_form),
        cmocka_unit_test(early_stopping_brings_the_best_weights_back),
        cmocka_unit_test(decay_and_clipping_do_what_they_say),
        cmocka_unit_test(the_learning_rate_follows_its_schedule_by_steps),
        cmocka_unit_test(running_statistics_follow_the_batches),
        cmocka_unit_test(weights_after_many_steps_are_those_of_a_naive_twin),
        cmocka_unit_test(a_batch_of_digits_is_cut_into_several_shards),
        cmocka_unit_test(the_same_seed_gives_the_same_bytes_for_any_number_of_threads),
        cmocka_unit_test(another_seed_gives_other_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
