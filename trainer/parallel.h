/*
 * The trainer's threads: a loop whose turns any thread may take.
 */
#ifndef TRAINER_PARALLEL_H
#define TRAINER_PARALLEL_H

struct parallel;

/* n_threads counts the caller's own. NULL: no memory or no thread. */
struct parallel *parallel_new(int n_threads);
void parallel_free(struct parallel *parallel);

int parallel_threads(const struct parallel *parallel);

/* Calls turn(context, i) for every i in [0, n), each once, and returns when all are done. What
 * a turn computes must not depend on which thread took it. */
void parallel_run(struct parallel *parallel, int n, void (*turn)(void *context, int i),
                  void *context);

/* In a turn: which of the threads it runs on, from 0, for memory that each has of its own. */
int parallel_self(void);

#endif
