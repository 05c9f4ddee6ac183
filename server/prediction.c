#include "server/prediction.h"

#include "server/clock.h"
#include <stdlib.h>
#include <string.h>

/* what was collected */

static int n_outputs(const struct prediction *p)
{
    return nn_model_n_outputs(p->served->model);
}

static struct nn_tensor *outputs_of(const struct prediction *p, int part)
{
    return p->outputs + part * n_outputs(p);
}

static void release_outputs(struct prediction *p)
{
    for (int i = 0; p->outputs && i < p->n_parts * n_outputs(p); i++)
        free(p->outputs[i].data);
    free(p->outputs);
}

/* Room for the outputs of every row, by part. -1: no memory. */
static int make_outputs(struct prediction *p)
{
    p->outputs = calloc((size_t)(p->n_parts * n_outputs(p)), sizeof *p->outputs);
    if (!p->outputs)
        return -1;
    for (int k = 0; k < p->n_parts; k++) {
        for (int i = 0; i < n_outputs(p); i++) {
            const struct nn_port *port = nn_model_output(p->parts[k].served->model, i);
            struct nn_tensor *output = &outputs_of(p, k)[i];
            *output = (struct nn_tensor){.datatype = port->datatype, .shape = port->shape};
            output->shape.dims[0] = p->rows.n;
            output->data = reallocarray(NULL, (size_t)p->rows.n, tensor_row_bytes(port));
            if (!output->data)
                return -1;
        }
    }
    return 0;
}

struct prediction *prediction_new(struct http_request *request, const struct codec *codec,
                                  const struct served *served, struct tensor_rows *rows,
                                  int64_t max_piece, int64_t limit)
{
    int n_parts = served->n_members ? (int)served->n_members : 1;
    struct prediction *p = calloc(1, sizeof *p + (size_t)n_parts * sizeof p->parts[0]);
    if (!p)
        return NULL;
    p->request = request;
    p->codec = codec;
    p->rows = *rows;
    p->began = clock_now();
    p->limit = limit;
    p->deadline = request->began + limit;
    if (request->timeout > 0 && p->began + request->timeout < p->deadline) {
        p->limit = request->timeout;
        p->deadline = p->began + request->timeout;
    }
    p->left = rows->n * n_parts;
    p->n_parts = n_parts;
    p->whole = n_parts == 1 && (rows->n <= max_piece || nn_model_unbatched(served->model));
    for (int i = 0; i < n_parts; i++)
        p->parts[i] =
            (struct prediction_part){.prediction = p,
                                     .index = i,
                                     .served = served->n_members ? served->members[i] : served};
    p->served = served_share(served);
    if (!p->whole && make_outputs(p) < 0) {
        p->rows = (struct tensor_rows){0};
        prediction_free(p);
        return NULL;
    }
    *rows = (struct tensor_rows){0};
    return p;
}

void prediction_free(struct prediction *p)
{
    release_outputs(p);
    tensor_rows_release(&p->rows);
    served_release(p->served);
    free(p);
}

void prediction_collect(struct prediction_part *part, const struct nn_session *session,
                        int64_t from, int64_t first, int64_t n)
{
    struct prediction *p = part->prediction;
    for (int i = 0; i < n_outputs(p); i++) {
        size_t bytes = tensor_row_bytes(nn_model_output(part->served->model, i));
        memcpy((char *)outputs_of(p, part->index)[i].data + (size_t)first * bytes,
               (const char *)nn_session_output(session, i)->data + (size_t)from * bytes,
               (size_t)n * bytes);
    }
}

/* Into the first part's outputs. That all are FP32 was checked when the ensemble was made. */
static void average(struct prediction *p)
{
    for (int i = 0; i < n_outputs(p); i++) {
        size_t n = (size_t)p->rows.n *
                   (size_t)tensor_row_elements(nn_model_output(p->served->model, i));
        float *mean = outputs_of(p, 0)[i].data;
        for (size_t e = 0; e < n; e++) {
            double sum = 0;
            for (int k = 0; k < p->n_parts; k++)
                sum += (double)((const float *)outputs_of(p, k)[i].data)[e];
            mean[e] = (float)(sum / p->n_parts);
        }
    }
}

int prediction_answer(struct http_request *r, const struct codec *codec,
                      const struct served *served, const struct nn_tensor *outputs,
                      int64_t first, int64_t n)
{
    struct nn_error error = {0};
    if (codec->write(r, served, outputs, first, n, &error) == 0)
        return 200;
    return http_error(r, 500, "%s", error.text);
}

/* From the outputs' rows that begin at `first`. */
static int write(struct prediction *p, const struct nn_tensor *outputs, int64_t first)
{
    return prediction_answer(p->request, p->codec, p->served, outputs, first, p->rows.n);
}

static int write_run(struct prediction *p, const struct nn_session *session, int64_t from)
{
    struct nn_tensor outputs[TENSOR_MAX_PORTS];
    for (int i = 0; i < n_outputs(p) && i < TENSOR_MAX_PORTS; i++)
        outputs[i] = *nn_session_output(session, i);
    return write(p, outputs, from);
}

int prediction_write_collected(struct prediction *p)
{
    if (p->n_parts > 1)
        average(p);
    return write(p, p->outputs, 0);
}

int prediction_write_timed(struct prediction *p, const struct nn_session *session, int64_t from)
{
    int64_t began = clock_now();
    int status = session ? write_run(p, session, from) : prediction_write_collected(p);
    p->request->stages.nanoseconds[STAGE_ENCODE] = clock_now() - began;
    return status;
}

/* time */

int prediction_answer_late(struct http_request *r, int64_t limit,
                           struct model_counters *counters)
{
    counter_add(&counters->expired, 1);
    return http_shed(
        r, SHED_DEADLINE,
        http_error(r, 504, "the deadline of %.6g ms is over", (double)limit / 1e6));
}

void prediction_count_ensemble(const struct prediction *p, struct model_counters *counters)
{
    if (p->n_parts > 1 && !p->status)
        metrics_count_batch(counters, p->rows.n, p->began, clock_now());
}
