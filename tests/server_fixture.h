/*
 * The real server as a child process, with a folder of models of its own, driven over HTTP.
 *
 * The program is $PREDICTD_BUILD/predictd, by default build/predictd. Every failure in here
 * fails the test that is running.
 */
#ifndef TESTS_SERVER_FIXTURE_H
#define TESTS_SERVER_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { FIXTURE_PATH = 256 };

struct fixture {
    char folder[FIXTURE_PATH];  /* removed by fixture_close(); holds models/ and log */
    char models[FIXTURE_PATH];
    pid_t pid;                  /* 0: not running */
    int port, admin_port;
};

/* An empty folder of models, no server yet. */
void fixture_open(struct fixture *f);
void fixture_close(struct fixture *f);          /* kills a server that still runs */

/* Starts the server with these arguments (NULL at the end, or NULL) besides the folder and
 * free ports, and waits for nothing. */
void fixture_spawn(struct fixture *f, const char *const *arguments);

/* The same, and waits until it listens. */
void fixture_start(struct fixture *f, const char *const *arguments);
void fixture_wait_ready(struct fixture *f);

/* Both: starts the server and waits until its models are served. */
void fixture_serve(struct fixture *f, const char *const *arguments);

/* SIGTERM; returns the exit status, or 128 + the signal that ended it. */
int fixture_stop(struct fixture *f);
int fixture_wait(struct fixture *f);

/* Stops the server, which has to exit with 0, and closes. */
void fixture_end(struct fixture *f);

/* The folder of the build without sanitizers that belongs to $PREDICTD_BUILD, or NULL where no
 * server has been built there. For tests that their runtime keeps from running. */
const char *fixture_plain_build(void);

/* Runs the program to its end with exactly these arguments and variables (NAME=value);
 * returns its exit status. `text` receives what it wrote to both outputs. */
int fixture_run(const char *const *arguments, const char *variable, char *text, size_t size);

/* The log as text; the caller frees it. */
char *fixture_log(const struct fixture *f);

/* The value of a sample of /metrics, `name{labels}`; -1: there is none. Asks again where the
 * server refuses the connection. */
double fixture_metric(const struct fixture *f, const char *sample);

/* Waits until a sample is no less than the value. */
void fixture_await_metric(const struct fixture *f, const char *sample, double value);

/* Resident memory of the server in bytes. */
int64_t fixture_resident(const struct fixture *f);

/* models to publish */

/* y = scale W x + b, x [-1, 4], y [-1, 3]; written in place by rename. */
void publish_linear(const char *models, const char *name, int version, double scale);

/* The reference for it. */
void linear_reference(double scale, const double x[4], double y[3]);

/* The body of a prediction with n rows for it, each 1 2 3 4; the caller frees it. */
char *linear_body(int n);

/* Any bundle: `graph` is the graph's JSON, `tensors` JSON members of the header. */
void publish_bundle(const char *models, const char *name, int version, const char *graph,
                    const char *tensors, const void *elements, size_t size);

/* A bundle without weights; `labels` is JSON or NULL. */
void publish_graph(const char *models, const char *name, int version, const char *graph,
                   const char *labels);

/* A file of these bytes as the version's bundle. */
void publish_bytes(const char *models, const char *name, int version, const void *bytes,
                   size_t size);

/* Writes a model's serving.json, by rename, and its folder where there is none. */
void publish_config(const char *models, const char *name, const char *text);
void unpublish(const char *models, const char *name, int version);

/* requests */

struct reply {
    int status;
    char *headers, *body;       /* text; the body may be any bytes, and a zero behind them */
    size_t size;                /* bytes of body */
    bool reused;                /* came over a connection that an earlier request opened */
};

/* A connection that is kept between requests; NULL body: none. `header` may be NULL, or one
 * more header line. */
struct client *client_new(void);
void client_free(struct client *client);

/* The same by TLS, with who shows a certificate that this file vouches for. A handshake that
 * fails is status 0. */
struct client *client_new_secure(const char *certificate);
struct reply *client_call(struct client *client, int port, const char *method, const char *path,
                          const char *header, const char *body);
struct reply *client_send(struct client *client, int port, const char *method, const char *path,
                          const char *header, const void *body, size_t size);
void reply_free(struct reply *reply);

/* One request over a connection of its own: status, and the body when `body` is not NULL. */
int request(int port, const char *method, const char *path, const char *send, char *body,
            size_t size);

/* A plain socket. */
int socket_connect(int port);
void socket_send(int fd, const char *text);

/* Reads one answer: its status, or 0 when the connection ended first. The body goes to `body`
 * (cut to size). */
int socket_answer(int fd, char *body, size_t size);

/* The same, and whether the server will close the connection. */
int socket_answer_close(int fd, char *body, size_t size, bool *closes);

#endif
