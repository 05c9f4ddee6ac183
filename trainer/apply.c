#include "trainer/apply.h"

#include <stdlib.h>
#include <string.h>

#include "trainer/parallel.h"

/* ---- what data a model takes ------------------------------------------------------------ */

static void make_request(struct published *a, const char *directory)
{
    const struct recipe *recipe = a->has_recipe ? &a->recipe : NULL;
    int n = nn_model_n_inputs(a->model), n_labels = nn_model_n_labels(a->model);
    for (int i = 0; i < n; i++) {
        const struct nn_port *port = nn_model_input(a->model, i);
        a->inputs[i] = (struct dataset_input){port->name, port->datatype, port->shape, NULL};
        for (int k = 0; recipe && k < recipe->n_inputs; k++)
            if (strcmp(recipe->inputs[k].name, port->name) == 0)
                a->inputs[i].columns = recipe->inputs[k].columns;
    }
    for (int i = 0; i < n_labels; i++)
        a->labels[i] = (char *)(uintptr_t)nn_model_label(a->model, i);
    a->request = (struct dataset_request){.directory = directory,
                                          .n_inputs = n,
                                          .inputs = a->inputs,
                                          .target = n_labels ? TARGET_CLASSES : TARGET_VALUES,
                                          .labels = a->labels,
                                          .n_labels = n_labels};
    if (recipe) {
        a->request.data = recipe->data;
        a->request.target = recipe->target;
    }
    if (a->request.target == TARGET_VALUES) {
        const struct nn_shape *shape = &nn_model_output(a->model, 0)->shape;
        a->request.n_targets = (int)shape_product(shape, 1, shape->rank);
    }
}

int published_open(struct published *a, const char *bundle_path, const char *directory,
                   struct nn_error *error)
{
    *a = (struct published){.model = nn_model_open(bundle_path, error)};
    if (!a->model)
        return -1;
    const char *text = nn_model_metadata(a->model, "recipe");
    a->has_recipe = text && recipe_parse(&a->recipe, text, error) == 0;
    if (text && !a->has_recipe) {
        nn_fail_in(error, "%s: its recipe", bundle_path);
        goto fail;
    }
    a->inputs = calloc((size_t)nn_model_n_inputs(a->model) + 1, sizeof *a->inputs);
    a->labels = calloc((size_t)nn_model_n_labels(a->model) + 1, sizeof *a->labels);
    if (!a->inputs || !a->labels) {
        nn_fail(error, "out of memory");
        goto fail;
    }
    make_request(a, directory);
    return 0;

fail:
    published_close(a);
    return -1;
}

void published_close(struct published *a)
{
    free(a->inputs);
    free(a->labels);
    if (a->has_recipe)
        recipe_release(&a->recipe);
    nn_model_close(a->model);
    *a = (struct published){0};
}

/* ---- applying it ------------------------------------------------------------------------ */

enum { BATCH = 64 };

struct run {
    const struct nn_model *model;
    const struct dataset *set;
    int64_t batch;
    struct application *application;
    struct nn_session **sessions; /* [threads] */
    struct nn_error *errors;      /* [threads] */
};

/* Bytes of one row. */
static size_t row_bytes(const struct nn_tensor *tensor)
{
    return (size_t)shape_product(&tensor->shape, 1, tensor->shape.rank) *
           nn_datatype_size(tensor->datatype);
}

static void run_batch(void *context, int turn)
{
    struct run *run = context;
    struct nn_session *session = run->sessions[parallel_self()];
    struct nn_error *error = &run->errors[parallel_self()];
    int64_t begin = turn * run->batch, left = run->set->n - begin, order[BATCH];
    int64_t rows = left < run->batch ? left : run->batch;
    for (int64_t i = 0; i < rows; i++)
        order[i] = begin + i;
    for (int i = 0; i < nn_model_n_inputs(run->model); i++)
        dataset_gather(run->set, i, order, rows, nn_model_input(run->model, i)->datatype,
                       nn_session_input(session, i));
    if (nn_session_run(session, rows, error) != 0)
        return;
    for (int i = 0; i < run->application->n_outputs; i++) {
        struct nn_tensor *all = &run->application->outputs[i];
        const struct nn_tensor *output = nn_session_output(session, i);
        if (output->shape.rank < 1 || output->shape.dims[0] != rows) {
            nn_fail(error, "output \"%s\" has not one row for each sample",
                    nn_model_output(run->model, i)->name);
            return;
        }
        memcpy((char *)all->data + (size_t)begin * row_bytes(all), output->data,
               (size_t)rows * row_bytes(all));
    }
}

static int check_inputs(const struct nn_model *model, const struct dataset *set,
                        struct nn_error *error)
{
    struct shape_text expected, got;
    if (set->n_features != nn_model_n_inputs(model))
        return nn_fail(error, "the model has %d inputs, the data %d", nn_model_n_inputs(model),
                       set->n_features);
    for (int i = 0; i < set->n_features; i++) {
        const struct nn_port *input = nn_model_input(model, i);
        const struct nn_shape *shape = &set->features[i].shape;
        if (shape_product(shape, 1, shape->rank) !=
            shape_product(&input->shape, 1, input->shape.rank))
            return nn_fail(error, "input \"%s\" has the shape %s, the data %s", input->name,
                           shape_print(&input->shape, &expected), shape_print(shape, &got));
    }
    return 0;
}

static int reserve_outputs(struct application *a, const struct nn_model *model, int64_t n,
                           struct nn_error *error)
{
    int n_outputs = nn_model_n_outputs(model);
    a->outputs = calloc((size_t)n_outputs, sizeof *a->outputs);
    if (!a->outputs)
        return nn_fail(error, "out of memory");
    for (a->n_outputs = 0; a->n_outputs < n_outputs; a->n_outputs++) {
        const struct nn_port *port = nn_model_output(model, a->n_outputs);
        struct nn_tensor *output = &a->outputs[a->n_outputs];
        *output = (struct nn_tensor){port->datatype, port->shape, NULL};
        if (output->shape.rank < 1)
            return nn_fail(error, "output \"%s\" has not one row for each sample", port->name);
        output->shape.dims[0] = n;
        int64_t bytes = tensor_bytes(output->datatype, &output->shape);
        output->data = bytes < 0 ? NULL : tensor_allocate((size_t)bytes + 1);
        if (!output->data)
            return nn_fail(error, "no memory for the outputs of %lld samples", (long long)n);
    }
    return 0;
}

int apply_model(struct application *application, const struct nn_model *model,
                const struct dataset *set, int n_threads, struct nn_error *error)
{
    *application = (struct application){0};
    struct run run = {.model = model,
                      .set = set,
                      .application = application,
                      .batch = nn_model_unbatched(model) ? 1 : BATCH,
                      .sessions = calloc((size_t)n_threads, sizeof *run.sessions),
                      .errors = calloc((size_t)n_threads, sizeof *run.errors)};
    struct parallel *parallel = parallel_new(n_threads);
    int status = -1;
    if (!parallel || !run.sessions || !run.errors) {
        nn_fail(error, "no memory for %d threads", n_threads);
        goto done;
    }
    if (check_inputs(model, set, error) != 0 ||
        reserve_outputs(application, model, set->n, error) != 0)
        goto done;
    for (int i = 0; i < n_threads; i++) {
        run.sessions[i] = nn_session_new(model, run.batch, error);
        if (!run.sessions[i])
            goto done;
    }
    parallel_run(parallel, (int)((set->n + run.batch - 1) / run.batch), run_batch, &run);
    status = 0;
    for (int i = 0; i < n_threads && status == 0; i++)
        if (run.errors[i].text[0] != '\0')
            status = nn_fail(error, "%s", run.errors[i].text);

done:
    for (int i = 0; run.sessions && i < n_threads; i++)
        nn_session_free(run.sessions[i]);
    free(run.sessions);
    free(run.errors);
    parallel_free(parallel);
    if (status != 0)
        application_release(application);
    return status;
}

void application_release(struct application *application)
{
    for (int i = 0; i < application->n_outputs; i++)
        free(application->outputs[i].data);
    free(application->outputs);
    *application = (struct application){0};
}
