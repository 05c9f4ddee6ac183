#include "tests/bench/rounds.h"

#include "tests/median.h"
#include <stdio.h>

static void measure(struct contestant *c, int round, double seconds)
{
    load_run(c->server->port, c->request, c->connections, seconds / 10); /* warms up */
    double cpu = server_cpu(c->server);
    struct load_result result = load_run(c->server->port, c->request, c->connections, seconds);
    cpu = server_cpu(c->server) - cpu;
    c->figures[RATE][round] = (double)result.n / result.seconds;
    c->figures[CPU][round] = cpu / (double)result.n * 1e6;
    c->figures[P50][round] = result.p50 * 1e6;
    c->figures[P99][round] = result.p99 * 1e6;
}

static double ratio(const struct contestant *c, const struct contestant *reference,
                    enum figure figure, int rounds)
{
    double ratios[MAX_ROUNDS];
    for (int i = 0; i < rounds; i++)
        ratios[i] = c->figures[figure][i] / reference->figures[figure][i];
    return median(ratios, rounds);
}

static void print(const struct rounds *r, int n_rounds)
{
    printf("    %-30s %5s %9s %8s %8s %9s %9s %6s %6s\n", "", "conn.", "1/s", "MB/s", "CPU us",
           "p50 us", "p99 us", "rate", "CPU");
    for (int i = 0; i < r->n; i++) {
        const struct contestant *c = &r->contestants[i];
        double figures[FIGURES];
        for (int f = 0; f < FIGURES; f++)
            figures[f] = median(c->figures[f], n_rounds);
        printf("    %-30s %5d %9.0f %8.1f %8.1f %9.0f %9.0f", c->name, c->connections,
               figures[RATE], figures[RATE] * (double)c->request->body_size / 1e6, figures[CPU],
               figures[P50], figures[P99]);
        if (c->reference >= 0) {
            const struct contestant *reference = &r->contestants[c->reference];
            printf(" %6.2f %6.2f", ratio(c, reference, RATE, n_rounds),
                   ratio(c, reference, CPU, n_rounds));
        }
        printf("\n");
    }
    printf("\n");
}

int rounds_add(struct rounds *r, const char *name, const struct server *server,
               const struct request *request, int connections, int reference)
{
    if (r->n == MAX_CONTESTANTS)
        bench_die("too many contestants");
    struct contestant *c = &r->contestants[r->n];
    c->name = name;
    c->server = server;
    c->request = request;
    c->connections = connections;
    c->reference = reference;
    return r->n++;
}

void rounds_run(struct rounds *r, const char *title, int n_rounds, double seconds)
{
    printf("%s\n\n", title);
    fflush(stdout);
    for (int round = 0; round < n_rounds; round++)
        for (int i = 0; i < r->n; i++) /* there and back */
            measure(&r->contestants[round % 2 ? r->n - 1 - i : i], round, seconds);
    print(r, n_rounds);
    fflush(stdout);
}
