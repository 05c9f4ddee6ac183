/*
 * Models that are added, changed, rolled back and removed while requests are answered. Every
 * failure in here fails the test that is running.
 */
#ifndef TESTS_MODEL_CHANGES_H
#define TESTS_MODEL_CHANGES_H

#include "tests/server_fixture.h"
#include <pthread.h>
#include <stdatomic.h>

void assert_contains(const char *text, const char *part);

/* On the admin port: what the answer has to be, and to contain. */
void admin_post(const struct fixture *f, const char *path, const char *body, int status,
                const char *contains);
void admin_load(const struct fixture *f, const char *model, int status, const char *contains);
void admin_unload(const struct fixture *f, const char *model, const char *body, int status,
                  const char *contains);

/* The same of GET on the data port. */
void assert_says(const struct fixture *f, const char *path, int status, const char *contains);

/* The version that answers for a model of publish_linear(), 0 where none does. */
int version_of(const struct fixture *f, const char *model);
int version_at(const struct fixture *f, const char *path); /* the same, of any path */
void await_version(const struct fixture *f, const char *model, int version);

/* How often the log has a text; and until it has it n times. */
int count_in_log(const struct fixture *f, const char *text);
void await_in_log(const struct fixture *f, const char *text, int n);

enum { CLIENTS = 4 };

/* Requests to the model "m" while it changes, of which version v has the scale v: an answer is
 * right for the version that it names, or the model is not there at that moment. */
struct clients {
    int port;
    atomic_bool stop;
    atomic_int answered, absent, failed;
    pthread_t threads[CLIENTS];
};

void clients_begin(struct clients *clients, const struct fixture *f);
void clients_end(struct clients *clients, bool was_absent);

#endif
