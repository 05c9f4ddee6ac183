/*
 * What takes minutes to show, and prints figures: drains and reloads by the thousand, reloads
 * beside a load at a constant rate, overload.
 *
 *     soak drains|reloads|rate|overload N
 *
 * N is how many drains or reloads, or how many seconds of overload. The server is
 * $PREDICTD_BUILD/predictd. Ends with 1 where a promise was not kept.
 */
#include "tests/drained_load.h"
#include "tests/median.h"
#include "tests/server_fixture.h"
#include "tests/soak/load.h"
#include "tests/version_answers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const double x[4] = {1, 2, 3, 4};

#define BODY "{\"instances\":[[1,2,3,4]]}" /* 25 bytes */
#define HEAD "POST /predict HTTP/1.1\r\nHost: x\r\n"
static const char request_text[] = HEAD "Content-Length: 25\r\n\r\n" BODY;

/* Prints a line of the report; returns whether the promise was kept. */
static bool promise(bool kept, const char *what)
{
    printf("    %-8s %s\n", kept ? "kept" : "MISSED", what);
    fflush(stdout);
    return kept;
}

static void progress(const char *what, long i, long n)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s %ld of %ld%s", what, i, n, i == n ? "\n" : "");
}

/* drains */

/* What is not kept fails in drain_under_load() and ends the program. */
static bool soak_drains(long n)
{
    long refused = 0, answered = 0;
    for (long i = 0; i < n; i++) {
        bool checks = i % 2;
        int reset = drain_under_load(checks ? "0.2" : "0.05", checks, &answered);
        if (checks && reset)
            return promise(false, "a client behind a health check was refused");
        refused += reset;
        progress("drain", i + 1, n);
    }
    printf("%ld drains under load: %ld requests answered, %ld new connections refused at the "
           "end\n",
           n, answered, refused);
    return promise(true, "nothing whose headers were read was lost, every exit was 0");
}

/* reloads */

static bool is_right(const char *body)
{
    return version_answers(body, x);
}

struct background {
    pthread_t thread;
    struct load load;
    struct load_result result;
};

static void *run_load(void *arg)
{
    struct background *b = arg;
    load_run(&b->load, &b->result);
    return NULL;
}

/* Publishes and reloads the next version. Returns whether it is served. */
static bool reload_next(struct fixture *f, int version)
{
    char answer[1024], expected[64];
    publish_linear(f->models, "m", version, version_scale(version));
    int status = request(f->admin_port, "POST", "/reload", "", answer, sizeof answer);
    snprintf(expected, sizeof expected, "\"after\":\"%d\"", version);
    if (status != 200 || !strstr(answer, expected)) {
        printf("reload to %d: %d %s\n", version, status, answer);
        return false;
    }
    unpublish(f->models, "m", version - 1);
    return true;
}

static void serve(struct fixture *f, const char *const *arguments)
{
    fixture_open(f);
    publish_linear(f->models, "m", 1, version_scale(1));
    fixture_serve(f, arguments);
}

/* As many reloads as come, one behind the other, under all the load that 16 connections make;
 * in pieces, each of a generator of its own, until all are done. */
static bool soak_reloads(long n)
{
    enum { SETTLED = 50, PIECE = 25 };
    struct fixture f;
    struct background b = {.load = {.connections = 16,
                                    .seconds = 1,
                                    .request = request_text,
                                    .size = sizeof request_text - 1,
                                    .is_right = is_right}};
    int64_t settled = 0, most = 0;
    bool reloaded = true;

    serve(&f, NULL);
    b.load.port = f.port;
    for (long i = 0; i < n && reloaded; i++) {
        if (i % PIECE == 0 && pthread_create(&b.thread, NULL, run_load, &b) != 0)
            return promise(false, "a thread");
        reloaded = reload_next(&f, 2 + (int)i);
        usleep(10000);
        if (i % PIECE == PIECE - 1 || i == n - 1 || !reloaded)
            pthread_join(b.thread, NULL);
        int64_t resident = fixture_resident(&f);
        if (i == SETTLED || i == 0)
            settled = most = resident;
        if (resident > most)
            most = resident;
        progress("reload", i + 1, n);
    }
    printf("%ld reloads under load: %ld answered, %ld refused, %ld failed, %ld wrong; resident "
           "%.1f MB, at most %.1f\n",
           n, b.result.served, b.result.refused, b.result.failed, b.result.wrong,
           (double)settled / 1e6, (double)most / 1e6);
    bool kept = promise(reloaded, "every version was loaded");
    kept &= promise(!b.result.failed && !b.result.refused, "nothing failed");
    kept &= promise(!b.result.wrong, "every answer is that of the version it names");
    kept &= promise((double)most <= 1.05 * (double)settled,
                    "resident memory within 5 % of what it was after 50 reloads");
    fixture_end(&f);
    load_release(&b.result);
    return kept;
}

/* reloads beside a constant rate */

static double capacity(int port)
{
    struct load_result r = {0};
    const struct load all = {.port = port,
                             .connections = 16,
                             .seconds = 2,
                             .request = request_text,
                             .size = sizeof request_text - 1};
    load_run(&all, &r);
    double rate = (double)r.served / r.seconds;
    load_release(&r);
    return rate;
}

/* Steady and reloading in turn, so that what else the machine does hits both. */
static bool soak_rate(long n)
{
    enum { TURN = 50, EVERY = 50000 /* microseconds */ };
    struct fixture f;
    struct background b = {.load = {.connections = 32,
                                    .seconds = TURN * EVERY / 1e6,
                                    .request = request_text,
                                    .size = sizeof request_text - 1,
                                    .is_right = is_right}};
    struct load_result steady = {0};
    bool reloaded = true;
    int version = 1;

    serve(&f, (const char *const[]){"--threads", "1", NULL});
    double most = capacity(f.port);
    b.load.port = f.port;
    b.load.rate = most / 2;
    for (long done = 0; done < n && reloaded; done += TURN) {
        load_run(&b.load, &steady);
        if (pthread_create(&b.thread, NULL, run_load, &b) != 0)
            return promise(false, "a thread");
        for (int i = 0; i < TURN && reloaded; i++) {
            reloaded = reload_next(&f, ++version);
            usleep(EVERY);
        }
        pthread_join(b.thread, NULL);
        progress("reload", done + TURN, n);
    }
    double before = load_quantile(&steady, 0.99), during = load_quantile(&b.result, 0.99);
    printf("%d reloads beside %.0f requests/s, half of what one thread can:\n"
           "    steady     p50 %.3f ms, p99 %.3f ms of %ld\n"
           "    reloading  p50 %.3f ms, p99 %.3f ms of %ld: %.2f times the steady p99\n",
           version - 1, b.load.rate, load_quantile(&steady, 0.5), before, steady.served,
           load_quantile(&b.result, 0.5), during, b.result.served, during / before);
    bool kept = promise(reloaded && !b.result.failed && !b.result.refused && !b.result.wrong &&
                            !steady.failed && !steady.wrong,
                        "nothing failed, no answer is wrong");
    kept &= promise(during <= 1.5 * before, "p99 at most 1.5 times the steady one");
    fixture_end(&f);
    load_release(&steady);
    load_release(&b.result);
    return kept;
}

/* overload */

/* An image of strokes: a fifth of the pixels is not black. */
static char *image_request(void)
{
    enum { PIXELS = 784 };
    char *text = malloc(PIXELS * 4 + 256), *body = malloc(PIXELS * 4);
    int n = 0;
    if (!text || !body)
        exit(1);
    for (int i = 0; i < PIXELS; i++)
        n += sprintf(body + n, "%s%d", i ? "," : "{\"instances\":[[",
                     i / 5 * 7919 % 5 ? 0 : i * 31 % 256);
    n += sprintf(body + n, "]]}");
    sprintf(text, HEAD "Content-Length: %d\r\n\r\n%s", n, body);
    free(body);
    return text;
}

static void publish_digits(const char *models)
{
    static char bytes[1 << 20];
    FILE *file = fopen("models/digits/1/model.safetensors", "rb");
    size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (size == 0 || fclose(file) != 0) {
        perror("models/digits/1/model.safetensors");
        exit(1);
    }
    publish_bytes(models, "digits", 1, bytes, size);
}

/* Seconds of a processor that the server has had. */
static double cpu_seconds(const struct fixture *f)
{
    clockid_t clock;
    struct timespec t = {0};
    if (clock_getcpuclockid(f->pid, &clock) == 0)
        clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

enum { STEPS = 6, ROUNDS = 9 };
static const int step_connections[STEPS] = {1, 4, 16, 64, 256, 1024};

struct step {
    double served[ROUNDS], refused[ROUNDS], p99[ROUNDS], cpu[ROUNDS];
};

/* Returns whether every request was served or refused. */
static bool run_step(struct fixture *f, const char *text, double seconds, int step, int round,
                     struct step *s)
{
    struct load_result r = {0};
    const struct load load = {.port = f->port,
                              .connections = step_connections[step],
                              .seconds = seconds,
                              .request = text,
                              .size = strlen(text)};
    double busy = cpu_seconds(f);
    load_run(&load, &r);
    busy = cpu_seconds(f) - busy;
    s->served[round] = (double)r.served / r.seconds;
    s->refused[round] = (double)r.refused / r.seconds;
    s->p99[round] = load_quantile(&r, 0.99);
    s->cpu[round] = busy * 1e6 / (double)r.served;
    bool sound = !r.failed;
    load_release(&r);
    return sound;
}

/* The median of what each round says: what else the machine does changes from one to another.
 */
static double ratio(const struct step *of, const struct step *to)
{
    double ratios[ROUNDS];
    for (int round = 0; round < ROUNDS; round++)
        ratios[round] = of->served[round] / to->served[round];
    return median(ratios, ROUNDS);
}

/* Prints the medians of the steps; returns the goodput of the last as a part of its peak. */
static double report_steps(const struct step steps[STEPS])
{
    int peak = 0;
    for (int i = 0; i < STEPS; i++) {
        double served = median(steps[i].served, ROUNDS);
        if (served > median(steps[peak].served, ROUNDS))
            peak = i;
        printf(
            "    %4d connections: %7.0f served/s, %7.0f refused/s, p99 %.1f ms, %.0f us of a "
            "processor for each served\n",
            step_connections[i], served, median(steps[i].refused, ROUNDS),
            median(steps[i].p99, ROUNDS), median(steps[i].cpu, ROUNDS));
    }
    return ratio(&steps[STEPS - 1], &steps[peak]);
}

/* Goodput with ever more connections, none of which heeds Retry-After, and of whose requests
 * few may wait. */
static bool overload(const char *what, const char *config, long seconds)
{
    static struct step steps[STEPS];
    struct fixture f;
    char *text = image_request();
    bool sound = true;

    fixture_open(&f);
    publish_digits(f.models);
    publish_config(f.models, "digits", config);
    fixture_serve(&f, (const char *const[]){"--max-queue", "16", NULL});
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < STEPS; i++) {
            sound &= run_step(&f, text, (double)seconds / ROUNDS / STEPS, i, round, &steps[i]);
            progress("step", round * STEPS + i + 1, (long)ROUNDS * STEPS);
        }
    fixture_end(&f);
    free(text);
    printf("overload of a model %s, medians of %d rounds:\n", what, ROUNDS);
    double goodput = report_steps(steps);
    printf("    goodput %.2f of its peak at the end\n", goodput);
    bool kept = promise(sound, "every request was served or refused");
    kept &= promise(goodput >= 0.9, "goodput at least 0.9 of its peak");
    return kept;
}

static bool soak_overload(long seconds)
{
    bool kept = overload("on the event loops", "{\"threads\":0}", seconds);
    kept &= overload("on worker threads", "{\"threads\":2}", seconds);
    return kept;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool (*run)(long n);
    } parts[] = {{"drains", soak_drains},
                 {"reloads", soak_reloads},
                 {"rate", soak_rate},
                 {"overload", soak_overload}};
    long n = argc == 3 ? atol(argv[2]) : 0;
    for (size_t i = 0; n > 0 && i < sizeof parts / sizeof parts[0]; i++)
        if (strcmp(argv[1], parts[i].name) == 0)
            return parts[i].run(n) ? 0 : 1;
    fprintf(stderr, "soak drains|reloads|rate|overload N\n");
    return 2;
}
