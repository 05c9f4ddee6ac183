#include "server/options.h"

#include "server/log.h"
#include "server/names.h"
#include "server/registry.h"
#include "server/system.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

enum { MAX_THREADS = 64, MAX_WORKERS = 64 };

enum kind { SWITCH, TEXT, NAMES, INTEGER, SECONDS, LEVEL, CONTROL };

/* Who gave the value. */
enum option_source { FROM_DEFAULT, FROM_VARIABLE, FROM_FLAG };

/* Everything there is to know about a flag. Minimum and maximum hold for numbers. */
static const struct row {
    const char *flag, *twin, *value;    /* twin: NULL where there is none; value: for --help */
    enum kind kind;
    size_t offset;
    const char *standard;       /* NULL: computed, or none */
    double min, max;
    const char *help;
} rows[] = {
#define AT(field) offsetof(struct options, field)
    {"--models", "PREDICTD_MODELS", "DIR", TEXT, AT(models), "models", 0, 0,
     "folder of <model>/<version>/model.safetensors"},
    {"--host", "PREDICTD_HOST", "A", TEXT, AT(host), "0.0.0.0", 0, 0,
     "address to serve on; 0.0.0.0 means IPv6 too"},
    {"--port", "PREDICTD_PORT", "N", INTEGER, AT(port), "8080", 0, 65535,
     "port to serve on; 0 takes a free one"},
    {"--admin-host", "PREDICTD_ADMIN_HOST", "A", TEXT, AT(admin_host), "127.0.0.1", 0, 0,
     "address for /reload; loopback only, unless there is an admin token"},
    {"--admin-port", "PREDICTD_ADMIN_PORT", "N", INTEGER, AT(admin_port), "8081", 0, 65535,
     "port for /reload; 0 takes a free one"},
    {"--threads", "PREDICTD_THREADS", "N", INTEGER, AT(threads), NULL, 1, MAX_THREADS,
     "event loops; default: the processors this process may use"},
    {"--workers", "PREDICTD_WORKERS", "N", INTEGER, AT(workers), NULL, 1, MAX_WORKERS,
     "threads for slow models and large bodies; default: twice the processors"},
    {"--default-model", "PREDICTD_DEFAULT_MODEL", "M", TEXT, AT(default_model), NULL, 0, 0,
     "what /predict means when there are several models"},
    {"--admin-token-file", "PREDICTD_ADMIN_TOKEN_FILE", "FILE", TEXT, AT(admin_token_file),
     NULL, 0, 0, "tokens that admin requests need, which the data port then takes, too"},
    {"--api-key-file", "PREDICTD_API_KEY_FILE", "FILE", TEXT, AT(api_key_file), NULL, 0, 0,
     "keys of which requests to the data port need one"},
    {"--tls-cert", "PREDICTD_TLS_CERT", "FILE", TEXT, AT(tls_cert), NULL, 0, 0,
     "certificate and its chain, PEM: TLS on the data port"},
    {"--tls-key", "PREDICTD_TLS_KEY", "FILE", TEXT, AT(tls_key), NULL, 0, 0,
     "the certificate's private key, PEM"},
    {"--admin-tls-cert", "PREDICTD_ADMIN_TLS_CERT", "FILE", TEXT, AT(admin_tls_cert), NULL, 0,
     0, "the same for the admin port"},
    {"--admin-tls-key", "PREDICTD_ADMIN_TLS_KEY", "FILE", TEXT, AT(admin_tls_key), NULL, 0, 0,
     "its key"},
    {"--cors-origins", "PREDICTD_CORS_ORIGINS", "LIST", TEXT, AT(cors_origins), NULL, 0, 0,
     "origins whose pages may ask, with commas between them, or *"},
    {"--model-control", "PREDICTD_MODEL_CONTROL", "MODE", CONTROL, AT(model_control), "none", 0,
     0,
     "when models are loaded: none, at the start and on reload; poll, also when files change; "
     "explicit, by name"},
    {"--poll-interval", "PREDICTD_POLL_INTERVAL", "S", SECONDS, AT(poll_interval), "5", 0.01,
     86400, "seconds between two looks for changed files; with --model-control poll"},
    {"--load-model", "PREDICTD_LOAD_MODEL", "M,M", NAMES, AT(load_model), NULL, 0, 0,
     "what --model-control explicit loads at the start; * is all"},
    {"--max-body", "PREDICTD_MAX_BODY", "BYTES", INTEGER, AT(max_body), "67108864", 1, 1 << 30,
     "largest body of a request"},
    {"--compress-min", "PREDICTD_COMPRESS_MIN", "BYTES", INTEGER, AT(compress_min), "1024", 0,
     1 << 30, "smallest answer that is compressed for who accepts it; 0: none is"},
    {"--max-instances", "PREDICTD_MAX_INSTANCES", "N", INTEGER, AT(max_instances), "4096", 1,
     1 << 20, "most instances in a request"},
    {"--max-batch", "PREDICTD_MAX_BATCH", "N", INTEGER, AT(max_batch), "64", 1, 1 << 16,
     "most rows that are computed together"},
    {"--max-queue", "PREDICTD_MAX_QUEUE", "N", INTEGER, AT(max_queue), "1024", 1, 1 << 20,
     "most predictions in work; beyond that 503"},
    {"--deadline", "PREDICTD_DEADLINE", "MS", INTEGER, AT(deadline), "30000", 1, 3600000,
     "milliseconds that a prediction may take; beyond that 504"},
    {"--max-connections", "PREDICTD_MAX_CONNECTIONS", "N", INTEGER, AT(max_connections), "4096",
     1, 1 << 20, "most connections, as far as descriptors allow; more are closed at once"},
    {"--header-timeout", "PREDICTD_HEADER_TIMEOUT", "S", SECONDS, AT(header_timeout), "10",
     0.001, 3600, "seconds for the headers of a request to come"},
    {"--body-timeout", "PREDICTD_BODY_TIMEOUT", "S", SECONDS, AT(body_timeout), "30", 0.001,
     3600, "seconds for a body to come, and for an answer to be taken"},
    {"--idle-timeout", "PREDICTD_IDLE_TIMEOUT", "S", SECONDS, AT(idle_timeout), "75", 0.001,
     3600, "seconds between two requests; keep it above the load balancer's"},
    {"--drain-delay", "PREDICTD_DRAIN_DELAY", "S", SECONDS, AT(drain_delay), "0", 0, 3600,
     "seconds to go on accepting after SIGTERM, so that load balancers notice"},
    {"--drain-timeout", "PREDICTD_DRAIN_TIMEOUT", "S", SECONDS, AT(drain_timeout), "30", 0,
     3600, "seconds that requests get to finish after that"},
    {"--access-log", "PREDICTD_ACCESS_LOG", NULL, SWITCH, AT(access_log), NULL, 0, 0,
     "log each request"},
    {"--log-level", "PREDICTD_LOG_LEVEL", "L", LEVEL, AT(log_level), "info", 0, 0,
     "debug, info, warning or error"},
    {"--check", NULL, NULL, SWITCH, AT(check), NULL, 0, 0,
     "load the models, say what is wrong with them, and exit"},
    {"--print-config", NULL, NULL, SWITCH, AT(print_config), NULL, 0, 0,
     "print all that is set, and where, as JSON, and exit"},
    {"--healthcheck", NULL, NULL, SWITCH, AT(healthcheck), NULL, 0, 0,
     "ask the server with these flags whether it is ready, and exit 0 or 1"},
    {"--version", NULL, NULL, SWITCH, AT(version), NULL, 0, 0, "print the version and exit"},
    {"--help", NULL, NULL, SWITCH, AT(help), NULL, 0, 0, "print this and exit"},
#undef AT
};

enum { N_ROWS = sizeof rows / sizeof rows[0] };

_Static_assert(sizeof rows / sizeof rows[0] <= OPTIONS_MAX, "a source of each");

static int read_word(int64_t *place, const char *const *words, const char *text)
{
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0) {
            *place = i;
            return 0;
        }
    }
    return -1;
}

/* Names of models between commas, or "*". */
static int check_names(const char *from, const char *text, struct nn_error *error)
{
    if (strcmp(text, "*") == 0)
        return 0;
    for (;; text++) {
        size_t size = strcspn(text, ",");
        if (!name_is_valid(text, size))
            return nn_fail(error,
                           "%s: expected names of models between commas, or *, got \"%.*s\"",
                           from, size < 64 ? (int)size : 64, text);
        text += size;
        if (!*text)
            return 0;
    }
}

static int read_switch(bool *on, const char *text)
{
    static const char *const words[] = {"0", "1", "false", "true", "no", "yes", "off", "on"};
    for (int i = 0; i < 8; i++) {
        if (strcmp(text, words[i]) == 0) {
            *on = i % 2;
            return 0;
        }
    }
    return -1;
}

/* `from` is the flag or the variable: whoever gave the value is told by its name. */
static int read_value(struct options *o, const struct row *row, const char *from,
                      const char *text, struct nn_error *error)
{
    void *field = (char *)o + row->offset;
    char *end = NULL;

    errno = 0;
    switch (row->kind) {
    case TEXT:
        if (!*text)
            return nn_fail(error, "%s: expected a value, got an empty one", from);
        *(const char **)field = text;
        return 0;
    case NAMES:
        *(const char **)field = text;
        return check_names(from, text, error);
    case SWITCH:
        if (read_switch(field, text) < 0)
            return nn_fail(error, "%s: expected 0 or 1, got \"%s\"", from, text);
        return 0;
    case LEVEL:
        if (read_word(field, log_level_names, text) < 0)
            return nn_fail(error, "%s: expected debug, info, warning or error, got \"%s\"", from,
                           text);
        return 0;
    case CONTROL:
        if (read_word(field, model_control_names, text) < 0)
            return nn_fail(error, "%s: expected none, poll or explicit, got \"%s\"", from,
                           text);
        return 0;
    case INTEGER: {
        long long value = strtoll(text, &end, 10);
        if (end == text || *end || errno || (double)value < row->min ||
            (double)value > row->max)
            return nn_fail(error, "%s: expected an integer from %.0f to %.0f, got \"%s\"", from,
                           row->min, row->max, text);
        *(int64_t *)field = value;
        return 0;
    }
    case SECONDS: {
        double value = strtod(text, &end);
        if (end == text || *end || !isfinite(value) || value < row->min || value > row->max)
            return nn_fail(error, "%s: expected seconds from %g to %g, got \"%s\"", from,
                           row->min, row->max, text);
        *(double *)field = value;
        return 0;
    }
    }
    return -1;
}

static int unknown_flag(const char *flag, struct nn_error *error)
{
    const char *flags[N_ROWS + 1] = {NULL};
    for (int i = 0; i < N_ROWS; i++)
        flags[i] = rows[i].flag;
    const char *nearest = name_nearest(flag, flags);
    if (nearest)
        return nn_fail(error, "there is no flag %s; did you mean %s?", flag, nearest);
    return nn_fail(error, "there is no flag %s; --help lists all", flag);
}

static int read_argument(struct options *o, int *i, int argc, char **argv,
                         struct nn_error *error)
{
    const char *argument = argv[*i], *equals = strchr(argument, '=');
    size_t size = equals ? (size_t)(equals - argument) : strlen(argument);

    if (argument[0] != '-')
        return nn_fail(error, "expected a flag, got \"%s\"", argument);
    for (int r = 0; r < N_ROWS; r++) {
        const struct row *row = &rows[r];
        if (strlen(row->flag) != size || strncmp(row->flag, argument, size) != 0)
            continue;
        o->sources[r] = FROM_FLAG;
        if (row->kind == SWITCH)
            return read_value(o, row, row->flag, equals ? equals + 1 : "1", error);
        if (equals)
            return read_value(o, row, row->flag, equals + 1, error);
        if (*i + 1 >= argc)
            return nn_fail(error, "%s: expected a value", row->flag);
        return read_value(o, row, row->flag, argv[++*i], error);
    }
    return unknown_flag(argument, error);
}

/* Kubernetes puts PREDICTD_PORT=tcp://10.0.0.1:80 and the like into the environment of every
 * pod beside a service that is called predictd. */
static bool is_service_link(const char *value)
{
    return strncmp(value, "tcp://", 6) == 0 || strncmp(value, "udp://", 6) == 0;
}

void options_warn_of_variables(void)
{
    static const char *const others[] = {"PREDICTD_DATA", "PREDICTD_BUILD"};
    for (char **e = environ; *e; e++) {
        size_t size = strcspn(*e, "=");
        bool known = strncmp(*e, "PREDICTD_", 9) != 0;
        for (int i = 0; i < 2; i++)
            known |= strlen(others[i]) == size && strncmp(*e, others[i], size) == 0;
        for (int i = 0; i < N_ROWS; i++)
            known |= rows[i].twin && strlen(rows[i].twin) == size &&
                     strncmp(*e, rows[i].twin, size) == 0;
        if (!known) {
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)size, *e);
            log_event(LOG_WARNING, "unknown variable ignored", LOG_TEXT("name", name));
        }
    }
}

static int64_t at_most(int64_t n, int64_t most)
{
    return n < most ? n : most;
}

int options_read(struct options *o, int argc, char **argv, struct nn_error *error)
{
    int processors = nn_processors();
    *o = (struct options){.threads = at_most(processors, MAX_THREADS),
                          .workers = at_most(2 * processors, MAX_WORKERS)};
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].standard && read_value(o, &rows[i], rows[i].flag, rows[i].standard, error))
            return -1;
    for (int i = 0; i < N_ROWS; i++) {
        const char *value = rows[i].twin ? getenv(rows[i].twin) : NULL;
        if (!value || is_service_link(value))
            continue;
        o->sources[i] = FROM_VARIABLE;
        if (read_value(o, &rows[i], rows[i].twin, value, error))
            return -1;
    }
    for (int i = 1; i < argc; i++)
        if (read_argument(o, &i, argc, argv, error) < 0)
            return -1;
    if (!o->tls_cert != !o->tls_key)
        return nn_fail(error, "--tls-cert and --tls-key: one is of no use without the other");
    if (!o->admin_tls_cert != !o->admin_tls_key)
        return nn_fail(error, "--admin-tls-cert and --admin-tls-key: one is of no use without "
                              "the other");
    if (!o->admin_token_file && !system_is_loopback(o->admin_host))
        return nn_fail(error,
                       "--admin-host: expected a loopback address, got \"%s\": whoever reaches "
                       "it can reload models, unless --admin-token-file names a file",
                       o->admin_host);
    if (o->load_model && o->model_control != CONTROL_EXPLICIT)
        return nn_fail(error, "--load-model: needs --model-control explicit");
    return 0;
}

void options_print_help(FILE *out)
{
    fputs("usage: predictd [flags]\n\n"
          "Serves the models of a folder over HTTP. Each flag has a twin in the environment, "
          "which it overrides.\n\n",
          out);
    for (int i = 0; i < N_ROWS; i++) {
        const struct row *row = &rows[i];
        char left[40];
        snprintf(left, sizeof left, "%s%s%s", row->flag, row->value ? " " : "",
                 row->value ? row->value : "");
        fprintf(out, "  %-26s %s%s%s%s\n", left, row->help, row->standard ? " [" : "",
                row->standard ? row->standard : "", row->standard ? "]" : "");
        if (row->twin)
            fprintf(out, "  %-26s %s\n", "", row->twin);
    }
}

static void write_value(struct buffer *out, const struct row *row, const void *field)
{
    switch (row->kind) {
    case TEXT:
    case NAMES: {
        const char *text = *(const char *const *)field;
        if (text)
            buffer_add_json_string(out, text);
        else
            buffer_add_text(out, "null");
        break;
    }
    case SWITCH:
        buffer_add_text(out, *(const bool *)field ? "true" : "false");
        break;
    case LEVEL:
        buffer_add_json_string(out, log_level_names[*(const int64_t *)field]);
        break;
    case CONTROL:
        buffer_add_json_string(out, model_control_names[*(const int64_t *)field]);
        break;
    case INTEGER:
        buffer_printf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case SECONDS:
        buffer_printf(out, "%.15g", *(const double *)field);
        break;
    }
}

void options_write(const struct options *o, struct buffer *out)
{
    static const char *const sources[] = {"default", "variable", "flag"};
    const char *comma = "{";
    for (int i = 0; i < N_ROWS; i++) {
        const struct row *row = &rows[i];
        if (!row->twin) /* what is to be done, not how */
            continue;
        buffer_printf(out, "%s\"%s\":{\"value\":", comma, row->flag);
        write_value(out, row, (const char *)o + row->offset);
        buffer_printf(out, ",\"source\":\"%s\"}", sources[o->sources[i]]);
        comma = ",";
    }
    buffer_add_text(out, "}");
}
