#include "server/lane_run.h"

#include "server/clock.h"

void lane_run_compute(struct lane_run *run, const struct served *served,
                      struct model_counters *c)
{
    struct lane_seat *seat = run->seat;
    bool shares = !nn_model_unbatched(served->model);
    int64_t room = shares && run->rows < run->max_batch ? run->max_batch : run->rows;

    run->status = 500;
    if (!seat->session)
        seat->session = nn_session_new(served->model, room, &run->error);
    if (!seat->session || nn_session_reserve(seat->session, room, &run->error) < 0)
        return;
    run->began = clock_now();
    for (int64_t i = 0; i < seat->n; i++) {
        const struct lane_entry *e = &seat->entries[i];
        tensor_rows_copy(&e->part->prediction->rows, e->first, e->n, seat->session, e->at);
    }
    int result = nn_session_run(seat->session, run->rows, &run->error);
    int64_t ended = clock_now();
    run->took = ended - run->began;
    if (result < 0)
        run->status = shares ? 500 : 400; /* such a model takes no such number of rows */
    else
        run->status = 0;
    if (result == 0)
        metrics_count_batch(c, run->rows, run->began, ended);
}

void lane_run_deliver(struct lane_run *run)
{
    struct lane_seat *seat = run->seat;
    for (int64_t i = 0; i < seat->n; i++) {
        struct lane_entry *e = &seat->entries[i];
        struct prediction *p = e->part->prediction;
        if (p->whole)
            p->status = prediction_write_timed(p, seat->session, e->at);
        else
            prediction_collect(e->part, seat->session, e->at, e->first, e->n);
    }
}
