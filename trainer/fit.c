#include "trainer/fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/kernels/kernels.h"
#include "trainer/executor.h"

/* Weights that are updated, and rows that are gathered, in one turn. */
enum { UPDATE_RANGE = 8192, GATHER_ROWS = 32 };

/* Streams of random numbers that a seed stands for. */
enum { STREAM_SHUFFLE = 1, STREAM_DROPOUT = 2 };

struct range { /* of one parameter's weights */
    int64_t begin, end;
    bool decays;
    double square; /* of its gradient's length */
};

struct trainer {
    struct network *network;
    const struct recipe *recipe;
    struct parallel *parallel;
    struct executor *executor;
    int64_t batch_size, n_targets;

    /* the batch */
    const struct dataset *set;
    const int64_t *order; /* its rows in the set */
    int64_t rows;
    int32_t *classes; /* [batch_size] */
    nn_real *targets; /* [batch_size, n_targets] */

    /* for training only */
    struct optimizer *optimizer;
    int n_ranges;
    struct range *ranges; /* all trained weights, in their order */
    nn_real *gradient;    /* of the step that is going on */
    nn_real *keep;        /* gets the weights as they were before it; or NULL */
    double rate, scale;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- batches ---------------------------------------------------------------------------- */

/* A probability is what sigmoid_cross_entropy compares with: beyond it has no minimum. */
static int check_probabilities(const struct dataset *set, struct nn_error *error)
{
    for (int64_t i = 0; set->targets && i < set->n * set->n_targets; i++)
        if (!(set->targets[i] >= 0 && set->targets[i] <= 1))
            return nn_fail(error,
                           "sigmoid_cross_entropy: expected targets from 0 to 1, row %lld of "
                           "the data has %g",
                           (long long)(i / set->n_targets), (double)set->targets[i]);
    return 0;
}

static int check_data(const struct trainer *t, const struct dataset *set,
                      struct nn_error *error)
{
    int64_t n = executor_output_size(t->executor);
    if (set->n_features != t->network->graph->n_inputs)
        return nn_fail(error, "the network has %d inputs, the data %d",
                       t->network->graph->n_inputs, set->n_features);
    if (set->classes && t->recipe->loss == LOSS_SOFTMAX_CROSS_ENTROPY && n != set->n_labels)
        return nn_fail(error, "the network has %lld outputs, the data %d classes", (long long)n,
                       set->n_labels);
    if (set->classes && t->recipe->loss == LOSS_SIGMOID_CROSS_ENTROPY &&
        (n != 1 || set->n_labels > 2))
        return nn_fail(error,
                       "sigmoid_cross_entropy takes two classes and one output, not "
                       "%d and %lld",
                       set->n_labels, (long long)n);
    if (!set->classes && n != t->n_targets)
        return nn_fail(error, "the network has %lld outputs, the data %lld targets",
                       (long long)n, (long long)t->n_targets);
    return t->recipe->loss == LOSS_SIGMOID_CROSS_ENTROPY ? check_probabilities(set, error) : 0;
}

static void gather(void *context, int turn)
{
    struct trainer *t = context;
    int64_t begin = (int64_t)turn * GATHER_ROWS, rows = t->rows - begin;
    if (rows > GATHER_ROWS)
        rows = GATHER_ROWS;
    const int64_t *order = t->order + begin;
    const struct graph *g = t->network->graph;
    for (int i = 0; i < g->n_inputs; i++) {
        const struct op_value *type = &g->values[g->inputs[i]].type;
        int64_t row = shape_product(&type->shape, 1, type->shape.rank) *
                      (int64_t)nn_datatype_size(type->datatype);
        dataset_gather(t->set, i, order, rows, type->datatype,
                       (char *)executor_input(t->executor, i) + begin * row);
    }
    int64_t n = t->n_targets;
    if (t->set->classes) {
        for (int64_t i = 0; i < rows; i++)
            t->classes[begin + i] = t->set->classes[order[i]];
    } else if (t->set->targets) {
        for (int64_t i = 0; i < rows; i++)
            memcpy(t->targets + (begin + i) * n, t->set->targets + order[i] * n,
                   (size_t)n * sizeof(nn_real));
    } else {
        dataset_gather(t->set, 0, order, rows, NN_FP32, t->targets + begin * n);
    }
}

/* Takes rows order[0, rows) of the set through the network. Returns the sum of losses. */
static double run_batch(struct trainer *t, const struct dataset *set, const int64_t *order,
                        int64_t rows, bool training, uint64_t key)
{
    t->set = set;
    t->order = order;
    t->rows = rows;
    parallel_run(t->parallel, (int)((rows + GATHER_ROWS - 1) / GATHER_ROWS), gather, t);
    return executor_forward(t->executor, rows, training, key,
                            &(struct executor_target){t->recipe->loss,
                                                      set->classes ? t->classes : NULL,
                                                      set->classes ? NULL : t->targets});
}

/* What of a row is right or wrong: its class, or each of several yes-or-no answers; 0: it is
 * numbers, which are only near. */
static int64_t answers_of_row(const struct trainer *t)
{
    if (t->set->classes)
        return 1;
    return t->recipe->loss == LOSS_SIGMOID_CROSS_ENTROPY ? t->n_targets : 0;
}

static int64_t count_correct(const struct trainer *t)
{
    int64_t n = executor_output_size(t->executor), correct = 0;
    const nn_real *logits = executor_output(t->executor);
    if (t->set->classes)
        for (int64_t i = 0; i < t->rows; i++)
            correct += metric_class(logits + i * n, n, 0) == t->classes[i];
    else if (answers_of_row(t) > 0)
        for (int64_t i = 0; i < t->rows * n; i++)
            correct += (logits[i] > 0) == (t->targets[i] > 0.5);
    return correct;
}

static double accuracy_of(const struct trainer *t, int64_t correct, int64_t samples)
{
    int64_t answers = samples * answers_of_row(t);
    return answers > 0 ? (double)correct / (double)answers : NAN;
}

static void run_set(struct trainer *t, const struct dataset *set, const int64_t *order,
                    double *loss, double *accuracy)
{
    double sum = 0;
    int64_t correct = 0;
    for (int64_t begin = 0; begin < set->n; begin += t->batch_size) {
        int64_t rows = set->n - begin < t->batch_size ? set->n - begin : t->batch_size;
        sum += run_batch(t, set, order + begin, rows, false, 0);
        correct += count_correct(t);
        if (!isfinite(sum))
            break;
    }
    *loss = sum / (double)set->n;
    *accuracy = accuracy_of(t, correct, set->n);
}

/* ---- a step ----------------------------------------------------------------------------- */

static void regularize(void *context, int i)
{
    struct trainer *t = context;
    struct range *range = &t->ranges[i];
    const nn_real *w = t->network->weights;
    nn_real *g = t->gradient, l2 = (nn_real)t->recipe->l2;
    if (l2 != 0 && range->decays)
        kernel_axpy(range->end - range->begin, l2, w + range->begin, g + range->begin);
    double square = 0;
    for (int64_t k = range->begin; k < range->end; k++)
        square += (double)g[k] * (double)g[k];
    range->square = square;
}

static void update(void *context, int i)
{
    struct trainer *t = context;
    const struct range *range = &t->ranges[i];
    nn_real *w = t->network->weights, scale = (nn_real)t->scale;
    if (t->keep)
        memcpy(t->keep + range->begin, w + range->begin,
               (size_t)(range->end - range->begin) * sizeof *w);
    if (t->scale != 1)
        for (int64_t k = range->begin; k < range->end; k++)
            t->gradient[k] *= scale;
    optimizer_apply(t->optimizer, range->begin, range->end, t->rate, range->decays, t->gradient,
                    w);
}

static bool all_finite(const nn_real *x, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* The layer to name when something was not finite: by its output, or else by its weights'
 * gradients or statistics. */
static const char *find_layer(const struct trainer *t)
{
    const char *name = executor_nonfinite(t->executor);
    const struct network *network = t->network;
    for (int i = 0; !name && i < network->n_layers; i++) {
        const struct network_layer *layer = &network->layers[i];
        for (int k = 0; k < layer->n_parameters; k++) {
            const struct parameter *p = &network->parameters[layer->first_parameter + k];
            const nn_real *x =
                p->kind <= PARAMETER_BIAS && t->gradient ? t->gradient : network->weights;
            if (!all_finite(x, p->offset, p->offset + p->size))
                name = layer->name;
        }
    }
    return name ? name : "the loss";
}

/* From the batch that was just run. -1: something is not finite, and no weight was changed. */
static int step(struct trainer *t)
{
    const struct network *network = t->network;
    if (!all_finite(network->weights, network->n_trained, network->n_weights))
        return -1;
    t->gradient = executor_backward(t->executor);
    parallel_run(t->parallel, t->n_ranges, regularize, t);
    double square = 0;
    for (int i = 0; i < t->n_ranges; i++)
        square += t->ranges[i].square;
    if (!isfinite(square))
        return -1;
    double norm = sqrt(square), clip = t->recipe->clip_norm;
    t->scale = clip > 0 && norm > clip ? clip / norm : 1;
    optimizer_step(t->optimizer);
    parallel_run(t->parallel, t->n_ranges, update, t);
    if (t->keep)
        memcpy(t->keep + network->n_trained, network->weights + network->n_trained,
               (size_t)(network->n_weights - network->n_trained) * sizeof *t->keep);
    return 0;
}

/* ---- a training ------------------------------------------------------------------------- */

static void trainer_release(struct trainer *t)
{
    executor_free(t->executor);
    parallel_free(t->parallel);
    optimizer_free(t->optimizer);
    free(t->classes);
    free(t->targets);
    free(t->ranges);
}

/* What forward passes over the sets (NULL allowed) need. */
static int trainer_init(struct trainer *t, struct network *network, const struct recipe *recipe,
                        const struct dataset *const sets[2], int n_threads, bool training,
                        struct nn_error *error)
{
    *t = (struct trainer){.network = network, .recipe = recipe};
    if (sets[0]->n < 1)
        return nn_fail(error, "the data have no samples");
    t->batch_size = recipe->batch_size < sets[0]->n ? recipe->batch_size : sets[0]->n;
    t->parallel = parallel_new(n_threads > 0 ? n_threads : 1);
    if (!t->parallel)
        return nn_fail(error, "no memory for %d threads", n_threads);
    t->executor = executor_new(network, t->batch_size, training, t->parallel, error);
    if (!t->executor)
        return -1;
    if (recipe->target == TARGET_INPUT && sets[0]->n_features > 0)
        t->n_targets =
            shape_product(&sets[0]->features[0].shape, 1, sets[0]->features[0].shape.rank);
    else
        t->n_targets = sets[0]->n_targets;
    for (int i = 0; i < 2 && sets[i]; i++) {
        int64_t rest = sets[i]->n % t->batch_size;
        if (check_data(t, sets[i], error) != 0 ||
            (rest > 0 && executor_prepare(t->executor, rest, error) != 0))
            return -1;
    }
    t->classes = calloc((size_t)t->batch_size, sizeof *t->classes);
    t->targets = calloc((size_t)(t->batch_size * t->n_targets) + 1, sizeof *t->targets);
    if (!t->classes || !t->targets)
        return nn_fail(error, "no memory for a batch of %lld rows", (long long)t->batch_size);
    return 0;
}

static int init_optimizer(struct trainer *t, struct nn_error *error)
{
    const struct network *network = t->network;
    size_t most = (size_t)(network->n_trained / UPDATE_RANGE + network->n_parameters + 1);
    t->optimizer = optimizer_new(&t->recipe->optimizer, network->n_trained);
    t->ranges = calloc(most, sizeof *t->ranges);
    if (!t->optimizer || !t->ranges)
        return nn_fail(error, "no memory for the optimizer");
    for (int p = 0; p < network->n_parameters; p++) {
        const struct parameter *parameter = &network->parameters[p];
        if (parameter->kind > PARAMETER_BIAS)
            continue;
        int64_t end = parameter->offset + parameter->size;
        for (int64_t i = parameter->offset; i < end; i += UPDATE_RANGE)
            t->ranges[t->n_ranges++] =
                (struct range){.begin = i,
                               .end = i + UPDATE_RANGE < end ? i + UPDATE_RANGE : end,
                               .decays = parameter->kind == PARAMETER_WEIGHT};
    }
    return 0;
}

static bool is_interrupted(const struct fit_options *options)
{
    return options->interrupted && *options->interrupted;
}

/* One epoch over the shuffled rows. Returns how it ended; *done counts its steps. */
static enum fit_end run_epoch(struct trainer *t, const struct dataset *train,
                              const int64_t *order, const struct fit_options *options,
                              struct fit_epoch *epoch, int64_t *done)
{
    const struct recipe *recipe = t->recipe;
    int64_t per_epoch = (train->n + t->batch_size - 1) / t->batch_size;
    int64_t first = (epoch->epoch - 1) * per_epoch, n_steps = recipe->epochs * per_epoch;
    uint64_t keys = kernel_random_key(recipe->seed, STREAM_DROPOUT);
    double begin = now(), loss = 0;
    int64_t samples = 0, correct = 0;
    enum fit_end end = FIT_DONE;
    for (*done = 0; *done < per_epoch && end == FIT_DONE;) {
        if (is_interrupted(options)) {
            end = FIT_INTERRUPTED;
            break;
        }
        int64_t rows = train->n - samples < t->batch_size ? train->n - samples : t->batch_size;
        t->rate = schedule_rate(&recipe->schedule, recipe->optimizer.learning_rate,
                                first + *done, n_steps, per_epoch);
        t->gradient = NULL;
        loss += run_batch(t, train, order + samples, rows, true,
                          kernel_random_key(keys, (uint64_t)(first + *done)));
        correct += count_correct(t);
        samples += rows;
        if (!isfinite(loss) || step(t) != 0) {
            end = FIT_NOT_FINITE;
            break;
        }
        ++*done;
        if (options->on_progress)
            options->on_progress(options->context,
                                 &(struct fit_progress){epoch->epoch, recipe->epochs, *done,
                                                        per_epoch, samples, now() - begin,
                                                        loss / (double)samples,
                                                        accuracy_of(t, correct, samples)});
    }
    epoch->learning_rate = t->rate;
    epoch->seconds = now() - begin;
    epoch->loss = samples > 0 ? loss / (double)samples : NAN;
    epoch->accuracy = accuracy_of(t, correct, samples);
    return end;
}

/* Whether the weights give finite answers, as they are now: on the validation data or, without
 * any, on the last batch of the training. */
static bool validate(struct trainer *t, const struct dataset *train,
                     const struct dataset *validation, const int64_t *order,
                     const int64_t *validation_order, struct fit_epoch *epoch)
{
    double begin = now(), loss;
    t->gradient = NULL;
    if (validation) {
        run_set(t, validation, validation_order, &epoch->validation_loss,
                &epoch->validation_accuracy);
        loss = epoch->validation_loss;
    } else {
        int64_t rest = train->n % t->batch_size, rows = rest > 0 ? rest : t->batch_size;
        loss = run_batch(t, train, order + train->n - rows, rows, false, 0);
    }
    epoch->seconds += now() - begin;
    const struct network *network = t->network;
    return isfinite(loss) && all_finite(network->weights, 0, network->n_weights);
}

static void keep_weights(struct fit_result *result, const struct network *network, int epoch)
{
    memcpy(result->weights, network->weights, (size_t)network->n_weights * sizeof(nn_real));
    result->best_epoch = epoch;
}

/* orders: of the training rows and of the validation rows. */
static void run_training(struct trainer *t, const struct dataset *train,
                         const struct dataset *validation, int64_t *const orders[2],
                         const struct fit_options *options, struct fit_result *result)
{
    const struct recipe *recipe = t->recipe;
    uint64_t keys = kernel_random_key(recipe->seed, STREAM_SHUFFLE);
    double best = INFINITY, reference = INFINITY;
    int waited = 0;
    t->keep = result->weights;
    for (int i = 1; i <= recipe->epochs && result->end == FIT_DONE; i++) {
        struct fit_epoch *epoch = &result->epochs[result->n_epochs];
        *epoch =
            (struct fit_epoch){.epoch = i, .validation_loss = NAN, .validation_accuracy = NAN};
        dataset_shuffle(orders[0], train->n, kernel_random_key(keys, (uint64_t)i));
        int64_t steps;
        result->end = run_epoch(t, train, orders[0], options, epoch, &steps);
        if (result->end == FIT_INTERRUPTED && steps == 0)
            break;
        if (result->end == FIT_NOT_FINITE ||
            !validate(t, train, validation, orders[0], orders[1], epoch)) {
            result->end = FIT_NOT_FINITE;
            result->layer = find_layer(t);
            break;
        }
        /* From here on what an epoch ended with is better than what a step began with. */
        t->keep = NULL;
        result->n_epochs++;
        double loss = validation ? epoch->validation_loss : epoch->loss;
        if (!validation || loss < best) {
            best = loss;
            keep_weights(result, t->network, i);
        }
        waited = loss < reference - recipe->min_delta ? 0 : waited + 1;
        if (waited == 0)
            reference = loss;
        if (options->on_epoch)
            options->on_epoch(options->context, epoch);
        if (result->end == FIT_DONE && recipe->patience > 0 && waited >= recipe->patience)
            result->end = FIT_STOPPED_EARLY;
    }
}

static int64_t *identity_order(int64_t n)
{
    int64_t *order = calloc((size_t)n + 1, sizeof *order);
    for (int64_t i = 0; order && i < n; i++)
        order[i] = i;
    return order;
}

int fit(struct network *network, const struct recipe *recipe, const struct dataset *train,
        const struct dataset *validation, const struct fit_options *options,
        struct fit_result *result, struct nn_error *error)
{
    *result = (struct fit_result){0};
    struct trainer t;
    int status = -1;
    int64_t *orders[2] = {identity_order(train->n),
                          identity_order(validation ? validation->n : 0)};
    size_t bytes = (size_t)network->n_weights * sizeof *result->weights;
    if (trainer_init(&t, network, recipe, (const struct dataset *[]){train, validation},
                     options->n_threads, true, error) != 0 ||
        init_optimizer(&t, error) != 0)
        goto done;
    result->weights = tensor_allocate(bytes);
    result->epochs = calloc((size_t)recipe->epochs + 1, sizeof *result->epochs);
    if (!result->weights || !result->epochs || !orders[0] || !orders[1]) {
        nn_fail(error, "no memory to train in");
        goto done;
    }
    memcpy(result->weights, network->weights, bytes);
    run_training(&t, train, validation, orders, options, result);
    memcpy(network->weights, result->weights, bytes);
    status = 0;

done:
    free(orders[0]);
    free(orders[1]);
    trainer_release(&t);
    if (status != 0)
        fit_result_release(result);
    return status;
}

void fit_result_release(struct fit_result *result)
{
    free(result->epochs);
    free(result->weights);
    *result = (struct fit_result){0};
}

int evaluate(struct network *network, const struct recipe *recipe, const struct dataset *set,
             int n_threads, double *loss, double *accuracy, struct nn_error *error)
{
    struct trainer t;
    int64_t *order = identity_order(set->n);
    int status = trainer_init(&t, network, recipe, (const struct dataset *[]){set, NULL},
                              n_threads, false, error);
    if (status == 0 && !order)
        status = nn_fail(error, "no memory to evaluate in");
    if (status == 0)
        run_set(&t, set, order, loss, accuracy);
    free(order);
    trainer_release(&t);
    return status;
}
