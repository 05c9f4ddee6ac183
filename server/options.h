/*
 * What the operator asks for: flags, or the environment variable that is each one's twin, or
 * the default, in this order.
 */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include "engine/engine.h"
#include "server/buffer.h"
#include <stdio.h>

enum { OPTIONS_MAX = 64 };

struct options {
    const char *models;         /* folder of <model>/<version>/model.safetensors */
    const char *host, *admin_host;
    const char *default_model;  /* NULL: none */
    const char *admin_token_file, *api_key_file, *cors_origins; /* NULL: none */
    const char *tls_cert, *tls_key, *admin_tls_cert, *admin_tls_key; /* NULL: no TLS */
    const char *load_model;     /* names between commas, "*" for all; NULL: none */
    int64_t port, admin_port;   /* 0: a free one */
    int64_t threads;            /* event loops */
    int64_t workers;            /* threads for what would keep event loops busy */
    int64_t max_body;           /* bytes */
    int64_t compress_min;       /* bytes of the smallest answer that is compressed; 0: none */
    int64_t max_instances;      /* of one request */
    int64_t max_batch;          /* rows that run together */
    int64_t max_queue;          /* prediction requests in work at the same time */
    int64_t deadline;           /* milliseconds that a request may take */
    int64_t max_connections;    /* open at the same time, of all loops */
    double header_timeout, body_timeout, idle_timeout;  /* seconds of a slow client */
    double drain_delay, drain_timeout;  /* seconds */
    int64_t model_control;              /* enum model_control */
    double poll_interval;               /* seconds */
    int64_t log_level;          /* enum log_level */
    bool access_log;
    bool check, print_config, healthcheck, version, help;
    unsigned char sources[OPTIONS_MAX]; /* enum option_source, of each flag */
};

/* Texts point into argv and the environment. -1: the error names the flag or variable. */
int options_read(struct options *options, int argc, char **argv, struct nn_error *error);

/* Logs a warning for each variable PREDICTD_... that means nothing: likely a misspelt one. */
void options_warn_of_variables(void);

void options_print_help(FILE *out);

/* Writes {"--flag": {"value": value, "source": "default", "variable" or "flag"}, ...}. */
void options_write(const struct options *options, struct buffer *out);

#endif
