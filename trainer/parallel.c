#include "trainer/parallel.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct parallel {
    int n_threads;
    pthread_mutex_t mutex;   /* guards everything below it */
    pthread_cond_t begun;    /* there are turns to take, or `stop` */
    pthread_cond_t finished; /* the last turn is done */
    void (*turn)(void *context, int i);
    void *context;
    int n, next, done; /* turns: all, the next to take, finished */
    bool stop;
    struct worker {
        struct parallel *parallel;
        pthread_t thread;
        int self;
    } *workers; /* [n_threads - 1] */
};

static _Thread_local int self;

int parallel_self(void)
{
    return self;
}

int parallel_threads(const struct parallel *parallel)
{
    return parallel->n_threads;
}

/* Takes turns until none is left. The mutex is held on entry and on return. A thread that
 * wakes too late finds none left, whichever run it was called for. */
static void take_turns(struct parallel *p)
{
    while (p->next < p->n) {
        int i = p->next++;
        void (*turn)(void *, int) = p->turn;
        void *context = p->context;
        pthread_mutex_unlock(&p->mutex);
        turn(context, i);
        pthread_mutex_lock(&p->mutex);
        if (++p->done == p->n)
            pthread_cond_signal(&p->finished);
    }
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct parallel *p = worker->parallel;
    self = worker->self;
    pthread_mutex_lock(&p->mutex);
    while (!p->stop) {
        take_turns(p);
        if (!p->stop)
            pthread_cond_wait(&p->begun, &p->mutex);
    }
    pthread_mutex_unlock(&p->mutex);
    return NULL;
}

static void stop_workers(struct parallel *p, int n)
{
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    pthread_cond_broadcast(&p->begun);
    pthread_mutex_unlock(&p->mutex);
    for (int i = 0; i < n; i++)
        pthread_join(p->workers[i].thread, NULL);
}

struct parallel *parallel_new(int n_threads)
{
    struct parallel *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->n_threads = n_threads;
    p->workers = calloc((size_t)n_threads, sizeof *p->workers);
    if (!p->workers) {
        free(p);
        return NULL;
    }
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->begun, NULL);
    pthread_cond_init(&p->finished, NULL);
    for (int i = 0; i < n_threads - 1; i++) {
        p->workers[i] = (struct worker){.parallel = p, .self = i + 1};
        if (pthread_create(&p->workers[i].thread, NULL, work, &p->workers[i]) != 0) {
            p->n_threads = i + 1;
            parallel_free(p);
            return NULL;
        }
    }
    return p;
}

void parallel_free(struct parallel *p)
{
    if (!p)
        return;
    stop_workers(p, p->n_threads - 1);
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->begun);
    pthread_mutex_destroy(&p->mutex);
    free(p->workers);
    free(p);
}

void parallel_run(struct parallel *p, int n, void (*turn)(void *context, int i), void *context)
{
    if (n <= 1 || p->n_threads == 1) {
        for (int i = 0; i < n; i++)
            turn(context, i);
        return;
    }
    pthread_mutex_lock(&p->mutex);
    p->turn = turn;
    p->context = context;
    p->n = n;
    p->next = p->done = 0;
    pthread_cond_broadcast(&p->begun);
    take_turns(p);
    while (p->done < p->n)
        pthread_cond_wait(&p->finished, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
}
