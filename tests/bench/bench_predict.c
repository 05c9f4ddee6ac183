/*
 * POST /predict of mnist-mlp, one image as JSON, beside a bare libmicrohttpd server that reads
 * the same body and returns a constant: requests per second and server CPU per request, in
 * interleaved rounds of one run; then start to ready and resident memory with models/mnist.
 *
 *     bench_predict BUILD [ROUNDS [CONNECTIONS]]
 *
 * The models are built from their recipes with untrained weights: what a weight is does not
 * change what it costs.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/formats/bundle.h"
#include "trainer/network.h"

enum { MAX_CONNECTIONS = 1024, MAX_ROUNDS = 101, ROUND_MS = 1000, ANSWER = 65536 };

struct server {
    const char *name;
    pid_t pid;
    int port, input;            /* input: the bare server ends with it; or -1 */
    double rate[MAX_ROUNDS], cpu[MAX_ROUNDS];   /* requests/s, us/request */
};

struct connection {
    int fd;
    size_t sent, got, expected; /* expected: 0 until the head was read */
    char answer[ANSWER];
};

static void die(const char *what)
{
    fprintf(stderr, "bench_predict: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Seconds of processor time that a process has had. */
static double cpu_time(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        die("the server's clock");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- models --------------------------------------------------------------------------------- */

static void make_model(const char *recipe_path, const char *bundle_path)
{
    struct nn_error error = {""};
    struct recipe recipe;
    struct network *network = NULL;
    struct graph *graph = NULL;
    if (recipe_read(&recipe, recipe_path, &error) != 0)
        goto fail;
    network = network_new(&recipe, &error);
    if (!network)
        goto fail;
    network_initialize(network, 1);
    graph = network_publication(network, &recipe, network->weights, &error);
    char digits[10][2], *labels[10];
    for (int i = 0; i < 10; i++) {
        snprintf(digits[i], sizeof digits[i], "%c", '0' + i);
        labels[i] = digits[i];
    }
    struct bundle_content content = {.graph = graph, .n_labels = 10, .labels = labels};
    if (!graph || bundle_write(&content, bundle_path, &error) != 0)
        goto fail;
    graph_free(graph);
    network_free(network);
    recipe_release(&recipe);
    return;

fail:
    fprintf(stderr, "bench_predict: %s\n", error.text);
    exit(1);
}

/* ---- servers -------------------------------------------------------------------------------- */

static void start_bare(struct server *s, const char *build)
{
    char path[512], line[64] = "";
    int in[2], out[2];
    snprintf(path, sizeof path, "%s/bench/bare_server", build);
    if (pipe(in) != 0 || pipe(out) != 0 || (s->pid = fork()) < 0)
        die("fork");
    if (s->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    if (read(out[0], line, sizeof line - 1) <= 0)
        die(path);
    close(out[0]);
    s->input = in[1];
    s->port = atoi(line);
}

/* The first line of the log tells the port. */
static void start_predictd(struct server *s, const char *build, const char *models)
{
    char path[512], line[4096];
    size_t size = 0;
    int err[2];
    snprintf(path, sizeof path, "%s/predictd", build);
    if (pipe(err) != 0 || (s->pid = fork()) < 0)
        die("fork");
    if (s->pid == 0) {
        dup2(err[1], 2);
        execl(path, path, "--models", models, "--port", "0", "--admin-port", "0", "--threads",
              "2", (char *)NULL);
        _exit(127);
    }
    close(err[1]);
    while (size < sizeof line - 1 && read(err[0], line + size, 1) == 1 && line[size] != '\n')
        size++;
    line[size] = 0;
    const char *port = strstr(line, "\"port\":");
    if (!port) {
        fprintf(stderr, "bench_predict: %s\n", line);
        exit(1);
    }
    s->port = atoi(port + strlen("\"port\":"));
    s->input = err[0];          /* stays open: the log goes on */
}

static void stop(struct server *s, bool by_input)
{
    if (by_input)
        close(s->input);
    else
        kill(s->pid, SIGTERM);
    waitpid(s->pid, NULL, 0);
    if (!by_input)
        close(s->input);
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0 || connect(fd, (void *)&address, sizeof address) != 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/* ---- load ----------------------------------------------------------------------------------- */

static char request[32768];
static size_t request_size;

static void make_request(void)
{
    static char body[16384];
    size_t size = (size_t)sprintf(body, "{\"instances\":[[");
    for (int i = 0; i < 784; i++)       /* strokes: a fifth of the pixels is not black */
        size += (size_t)sprintf(body + size, "%s%.4f", i ? "," : "",
                                i * 7919 % 5 == 0 ? i * 31 % 256 / 1.0037 : 0.0);
    size += (size_t)sprintf(body + size, "]]}");
    request_size = (size_t)snprintf(request, sizeof request,
                                    "POST /predict HTTP/1.1\r\nHost: localhost\r\n"
                                    "Content-Type: application/json\r\n"
                                    "Content-Length: %zu\r\n\r\n%s", size, body);
}

static void send_request(struct connection *c)
{
    c->sent = c->got = c->expected = 0;
    while (c->sent < request_size) {
        ssize_t n = write(c->fd, request + c->sent, request_size - c->sent);
        if (n <= 0)
            die("write");
        c->sent += (size_t)n;
    }
}

/* Whether the answer is complete. */
static bool receive(struct connection *c)
{
    ssize_t n = read(c->fd, c->answer + c->got, ANSWER - 1 - c->got);
    if (n <= 0)
        die("the server closed a connection");
    c->got += (size_t)n;
    c->answer[c->got] = 0;
    if (c->expected == 0) {
        const char *end = strstr(c->answer, "\r\n\r\n");
        const char *length = strcasestr(c->answer, "\r\nContent-Length:");
        if (!end || !length)
            return false;
        if (strncmp(c->answer, "HTTP/1.1 200", 12) != 0) {
            fprintf(stderr, "bench_predict: %s\n", c->answer);
            exit(1);
        }
        c->expected = (size_t)(end - c->answer) + 4 + (size_t)atoi(length + 17);
    }
    return c->got >= c->expected;
}

/* One round of closed-loop load; returns the requests that were answered. */
static long load(int port, int n_connections, double seconds)
{
    static struct connection connections[MAX_CONNECTIONS];
    struct epoll_event events[64];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < n_connections; i++) {
        connections[i].fd = connect_to(port);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, connections[i].fd, &event);
        send_request(&connections[i]);
    }
    long answered = 0;
    for (double end = now() + seconds; now() < end;) {
        int n = epoll_wait(epoll, events, 64, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (receive(c)) {
                answered++;
                send_request(c);
            }
        }
    }
    for (int i = 0; i < n_connections; i++)
        close(connections[i].fd);
    close(epoll);
    return answered;
}

static void measure(struct server *s, int round, int n_connections)
{
    load(s->port, n_connections, 0.1);          /* connections, caches */
    double begin = now(), cpu = cpu_time(s->pid);
    long n = load(s->port, n_connections, ROUND_MS / 1000.0);
    s->rate[round] = (double)n / (now() - begin);
    s->cpu[round] = (cpu_time(s->pid) - cpu) / (double)n * 1e6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, int n)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, (size_t)n * sizeof *values);
    qsort(sorted, (size_t)n, sizeof *sorted, compare);
    return sorted[n / 2];
}

static void bench_rate(const char *build, const char *models, int rounds, int connections)
{
    struct server bare = {.name = "bare libmicrohttpd"}, ours = {.name = "predictd /predict"};
    double rate[MAX_ROUNDS], cpu[MAX_ROUNDS];
    start_bare(&bare, build);
    start_predictd(&ours, build, models);
    for (int i = 0; i < rounds; i++) {
        measure(i % 2 ? &ours : &bare, i, connections);
        measure(i % 2 ? &bare : &ours, i, connections);
        rate[i] = ours.rate[i] / bare.rate[i];
        cpu[i] = ours.cpu[i] / bare.cpu[i];
    }
    stop(&ours, false);
    stop(&bare, true);
    printf("mnist-mlp, one image as JSON (%zu bytes), %d connections, medians of %d rounds:\n\n",
           request_size, connections, rounds);
    printf("                         requests/s    server CPU us/request\n");
    for (int i = 0; i < 2; i++) {
        const struct server *s = i ? &ours : &bare;
        printf("    %-20s %10.0f    %10.1f\n", s->name, median(s->rate, rounds),
               median(s->cpu, rounds));
    }
    printf("    %-20s %10.2f    %10.2f\n\n", "ratio", median(rate, rounds),
           median(cpu, rounds));
}

/* ---- starting ------------------------------------------------------------------------------- */

static double resident_mb(pid_t pid)
{
    char path[64], line[256];
    double kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = atof(line + 6);
    if (f)
        fclose(f);
    return kb / 1024;
}

static bool is_ready(int port)
{
    static const char text[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char answer[512];
    int fd = connect_to(port);
    bool ready = write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1 &&
                 read(fd, answer, sizeof answer) > 12 && strncmp(answer + 9, "200", 3) == 0;
    close(fd);
    return ready;
}

static void bench_start(const char *build, const char *models, int rounds)
{
    double ms[MAX_ROUNDS], idle[MAX_ROUNDS];
    for (int i = 0; i < rounds; i++) {
        struct server s = {0};
        double begin = now();
        start_predictd(&s, build, models);
        while (!is_ready(s.port))
            usleep(200);
        ms[i] = (now() - begin) * 1e3;
        idle[i] = resident_mb(s.pid);
        stop(&s, false);
    }
    printf("models/mnist: start to ready %.1f ms, resident %.1f MB (medians of %d starts)\n",
           median(ms, rounds), median(idle, rounds), rounds);
}

int main(int argc, char **argv)
{
    const char *build = argc > 1 ? argv[1] : "build";
    int rounds = argc > 2 ? atoi(argv[2]) : 7, connections = argc > 3 ? atoi(argv[3]) : 16;
    char mlp[600], conv[600], path[700];
    if (rounds < 1 || rounds > MAX_ROUNDS || connections < 1 || connections > MAX_CONNECTIONS) {
        fprintf(stderr, "usage: bench_predict BUILD [ROUNDS [CONNECTIONS]]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    nn_engine_start();
    snprintf(mlp, sizeof mlp, "%s/bench/models-mlp", build);
    snprintf(conv, sizeof conv, "%s/bench/models-mnist", build);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "mnist" : "mnist-mlp", *folder = i ? conv : mlp;
        char recipe[64];
        mkdir(folder, 0755);
        snprintf(path, sizeof path, "%s/%s", folder, name);
        mkdir(path, 0755);
        snprintf(path, sizeof path, "%s/%s/1/model.safetensors", folder, name);
        snprintf(recipe, sizeof recipe, "models/%s/recipe.json", name);
        make_model(recipe, path);
    }
    make_request();
    bench_rate(build, mlp, rounds, connections);
    bench_start(build, conv, rounds);
    return 0;
}
