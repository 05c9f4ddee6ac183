/*
 * What a prediction costs: mnist-mlp by every protocol, beside a bare libmicrohttpd server that
 * reads the same body and returns a constant, and beside other servers of the same model where
 * they are installed; then start to ready and resident memory with models/mnist.
 *
 *     bench_predict BUILD [ROUNDS [SECONDS]]
 *
 * Rounds alternate in one run, medians are printed. The models are made from their recipes with
 * untrained weights: what a weight is does not change what it costs.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/bench/bodies.h"
#include "tests/bench/models.h"
#include "tests/bench/peers.h"
#include "tests/bench/rounds.h"
#include "tests/median.h"

enum {
    CONNECTIONS = 16,
    BATCH = 32,   /* images in a request */
    LARGE = 2552, /* images: two million floats */
};

struct bench {
    const char *build;
    int rounds;
    double seconds;          /* of a round */
    char models[512];        /* folder that holds mnist-mlp */
    char bundle[MODEL_PATH]; /* of mnist-mlp */
    struct server bare, predictd;
};

/* Who answers otherwise than `expected` is not measured. */
static void check_answer(const char *name, const struct server *server,
                         const struct request *request, int n, const float *expected)
{
    float *got = malloc((size_t)n * CLASSES * sizeof *got);
    if (!got)
        bench_die("an answer");
    images_answer(server->port, request, n, got);
    for (int i = 0; i < n * CLASSES; i++)
        if (!(fabsf(got[i] - expected[i]) <= 1e-5f)) {
            fprintf(stderr, "bench: %s: probability %d is %g, of /predict it is %g\n", name, i,
                    (double)got[i], (double)expected[i]);
            exit(1);
        }
    free(got);
}

/* What predictd answers on /predict; the caller's. */
static float *expect(const struct bench *b, int n)
{
    struct request request = images_request(PREDICT, n);
    float *expected = malloc((size_t)n * CLASSES * sizeof *expected);
    if (!expected)
        bench_die("an answer");
    images_answer(b->predictd.port, &request, n, expected);
    request_release(&request);
    return expected;
}

/* the tables */

/* Each protocol, and the bare server with the same body. */
static void bench_protocols(const struct bench *b, const char *title, int images,
                            int connections)
{
    static struct rounds rounds;
    struct request requests[PROTOCOLS];
    float *expected = expect(b, images);

    rounds.n = 0;
    for (int p = 0; p < PROTOCOLS; p++) {
        requests[p] = images_request((enum protocol)p, images);
        check_answer(protocol_names[p], &b->predictd, &requests[p], images, expected);
        int bare = rounds.n + 1;
        rounds_add(&rounds, protocol_names[p], &b->predictd, &requests[p], connections, bare);
        rounds_add(&rounds, "  bare", &b->bare, &requests[p], connections, -1);
    }
    rounds_run(&rounds, title, b->rounds, b->seconds);
    for (int p = 0; p < PROTOCOLS; p++)
        request_release(&requests[p]);
    free(expected);
}

/* Without the bare server: of hundreds of connections that come at once, the library's own
 * threads may leave all unread for ever. */
static void bench_connections(const struct bench *b)
{
    static const int connections[] = {1, 16, 256};
    static const enum protocol protocols[] = {PREDICT, V2_BINARY};
    static struct rounds rounds;
    struct request requests[2];

    for (int p = 0; p < 2; p++) {
        requests[p] = images_request(protocols[p], 1);
        for (int i = 0; i < 3; i++)
            rounds_add(&rounds, protocol_names[protocols[p]], &b->predictd, &requests[p],
                       connections[i], -1);
    }
    rounds_run(&rounds, "One image, few and many connections", b->rounds, b->seconds);
    for (int p = 0; p < 2; p++)
        request_release(&requests[p]);
}

/* The same bodies to other servers of the same model, which `make bench-peers` installs. */
static void bench_peers(const struct bench *b)
{
    static const int images[] = {1, BATCH};
    static struct rounds rounds[2];
    struct request requests[2];
    struct peers peers;

    if (!peers_start(&peers, b->build, b->bundle)) {
        printf("Other servers are not installed: `make bench-peers` does it.\n\n");
        return;
    }
    for (int k = 0; k < 2; k++) {
        float *expected = expect(b, images[k]);
        requests[k] = images_request(PREDICT, images[k]);
        rounds_add(&rounds[k], "predictd", &b->predictd, &requests[k], CONNECTIONS, -1);
        for (int i = 0; i < peers.n; i++) {
            check_answer(peers.names[i], &peers.servers[i], &requests[k], images[k], expected);
            rounds_add(&rounds[k], peers.names[i], &peers.servers[i], &requests[k], CONNECTIONS,
                       0);
        }
        free(expected);
    }
    rounds_run(&rounds[0], "One image, beside other servers (ratios to predictd)", b->rounds,
               b->seconds);
    rounds_run(&rounds[1], "A batch of 32 images, beside other servers (ratios to predictd)",
               b->rounds, b->seconds);
    peers_stop(&peers);
    for (int k = 0; k < 2; k++)
        request_release(&requests[k]);
}

static void bench_start(const struct bench *b)
{
    double ms[MAX_ROUNDS], resident[MAX_ROUNDS];
    char models[512], bundle[MODEL_PATH];
    snprintf(models, sizeof models, "%s/bench/models-mnist", b->build);
    make_model(models, "mnist", bundle);
    for (int i = 0; i < b->rounds; i++) {
        double begin = load_now();
        struct server s = server_predictd(b->build, models);
        while (!server_is_ready(&s))
            usleep(200);
        ms[i] = (load_now() - begin) * 1e3;
        resident[i] = server_resident_mb(&s);
        server_stop(&s);
    }
    printf("models/mnist: start to ready %.1f ms, resident %.1f MB (medians of %d starts)\n\n",
           median(ms, b->rounds), median(resident, b->rounds), b->rounds);
}

int main(int argc, char **argv)
{
    struct bench b = {.build = argc > 1 ? argv[1] : "build",
                      .rounds = argc > 2 ? atoi(argv[2]) : 7,
                      .seconds = argc > 3 ? atof(argv[3]) : 0.5};
    if (b.rounds < 1 || b.rounds > MAX_ROUNDS || !(b.seconds > 0)) {
        fprintf(stderr, "usage: bench_predict BUILD [ROUNDS [SECONDS]]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    nn_engine_start();
    snprintf(b.models, sizeof b.models, "%s/bench/models-mlp", b.build);
    make_model(b.models, "mnist-mlp", b.bundle);
    b.bare = server_bare(b.build);
    b.predictd = server_predictd(b.build, b.models);
    while (!server_is_ready(&b.predictd))
        usleep(200);

    printf(
        "mnist-mlp on two threads, medians of %d rounds of %.1f s that alternate. At the right\n"
        "the rate and the CPU of a request over those of the line below it: a bare libmicrohttpd\n"
        "server that reads the same body and answers a constant. The load has one thread and\n"
        "shares the processors.\n\n",
        b.rounds, b.seconds);
    bench_protocols(&b, "One image", 1, CONNECTIONS);
    bench_connections(&b);
    bench_protocols(&b, "A batch of 32 images", BATCH, CONNECTIONS);
    bench_protocols(&b, "2552 images: two million floats", LARGE, 1);
    bench_peers(&b);
    server_stop(&b.predictd);
    server_stop(&b.bare);
    bench_start(&b);
    return 0;
}
