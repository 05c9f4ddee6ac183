#include "tests/bench/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    ANSWER = 4096, /* bytes of an answer that are kept: its head */
    STEPS = 64,    /* of the histogram in an octave: about 1 % each */
    PATIENCE = 30, /* seconds for the last answers */
    OCTAVES = 40,  /* from 1 ns on */
};

struct connection {
    int fd;
    size_t sent, got;
    size_t expected; /* bytes of the answer; 0: its head is not complete */
    double began;
    char head[ANSWER];
};

struct load {
    const struct request *request;
    bool ending; /* nothing more is asked */
    int open;    /* requests without an answer */
    long n;
    long histogram[OCTAVES * STEPS];
};

void bench_die(const char *what)
{
    fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

double load_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* requests */

struct request request_post(const char *path, const char *headers, const void *body,
                            size_t size)
{
    char head[512];
    int n = snprintf(head, sizeof head,
                     "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n",
                     path, headers, size);
    struct request r = {
        .bytes = malloc((size_t)n + size), .size = (size_t)n + size, .body_size = size};
    if (!r.bytes)
        bench_die("a request");
    memcpy(r.bytes, head, (size_t)n);
    memcpy(r.bytes + n, body, size);
    return r;
}

void request_release(struct request *request)
{
    free(request->bytes);
    *request = (struct request){0};
}

/* latencies */

/* Linear in each octave of nanoseconds. */
static void count_latency(struct load *l, double seconds)
{
    uint64_t ns = seconds < 1e-6 ? 1000 : (uint64_t)(seconds * 1e9);
    int octave = 63 - __builtin_clzll(ns);
    int step = (int)(((ns - (1ull << octave)) * STEPS) >> octave);
    if (octave >= OCTAVES)
        octave = OCTAVES - 1;
    l->histogram[octave * STEPS + step]++;
    l->n++;
}

static double quantile(const struct load *l, double q)
{
    long below = 0, wanted = (long)(q * (double)l->n);
    int i = 0;
    while (i < OCTAVES * STEPS - 1 && (below += l->histogram[i]) <= wanted)
        i++;
    return (double)(1ull << (i / STEPS)) * (1 + (i % STEPS + 0.5) / STEPS) / 1e9;
}

/* connections */

int load_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd >= 0 && connect(fd, (void *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void send_more(struct load *l, struct connection *c)
{
    while (c->sent < l->request->size) {
        ssize_t n = write(c->fd, l->request->bytes + c->sent, l->request->size - c->sent);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0)
            bench_die("the server closed a connection");
        c->sent += (size_t)n;
    }
}

static void begin(struct load *l, struct connection *c)
{
    c->sent = c->got = c->expected = 0;
    c->began = load_now();
    l->open++;
    send_more(l, c);
}

/* Looks for the length in what is there of the head. */
static void read_head(struct connection *c)
{
    c->head[c->got < ANSWER ? c->got : ANSWER - 1] = 0;
    const char *end = strstr(c->head, "\r\n\r\n");
    const char *length = strcasestr(c->head, "\r\nContent-Length:");
    if (!end)
        return;
    if (strncmp(c->head, "HTTP/1.1 200", 12) != 0 || !length || length > end) {
        fprintf(stderr, "bench: expected an answer of 200 with a length, got: %s\n", c->head);
        exit(1);
    }
    c->expected = (size_t)(end - c->head) + 4 + strtoull(length + 17, NULL, 10);
}

/* Reads until there is nothing more. Whether the answer is complete. */
static bool receive(struct connection *c)
{
    static char dropped[65536];
    for (;;) {
        bool kept = c->expected == 0;
        size_t room = kept ? ANSWER - 1 - c->got : sizeof dropped;
        ssize_t n = read(c->fd, kept ? c->head + c->got : dropped, room);
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n <= 0)
            bench_die("the server closed a connection");
        c->got += (size_t)n;
        if (kept)
            read_head(c);
        if (c->expected && c->got >= c->expected)
            return true;
        if ((size_t)n < room)
            return false;
    }
}

static void advance(struct load *l, struct connection *c)
{
    send_more(l, c);
    while (receive(c)) {
        l->open--;
        if (l->ending)
            return;
        count_latency(l, load_now() - c->began);
        begin(l, c);
    }
}

/* Registered once for both directions, edge-triggered. */
static void open_connection(int epoll, struct connection *c, int port)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    c->fd = load_connect(port);
    if (c->fd < 0 || fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        bench_die("connect");
}

struct load_result load_run(int port, const struct request *request, int n_connections,
                            double seconds)
{
    static struct connection connections[LOAD_MAX_CONNECTIONS];
    static struct load l;
    struct epoll_event events[64];
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    l = (struct load){.request = request};
    for (int i = 0; i < n_connections; i++)
        open_connection(epoll, &connections[i], port);
    double began = load_now(), end = began;
    for (int i = 0; i < n_connections; i++)
        begin(&l, &connections[i]);
    /* Nobody leaves in the middle of a request: the server would hold it until its timeout. */
    while (l.open > 0) {
        if (!l.ending)
            end = load_now();
        l.ending = end >= began + seconds && l.n > 0;
        if (load_now() > began + seconds + PATIENCE) {
            fprintf(stderr, "bench: the server on port %d has stopped answering\n", port);
            exit(1);
        }
        int n = epoll_wait(epoll, events, 64, 100);
        for (int i = 0; i < n; i++)
            advance(&l, events[i].data.ptr);
    }
    for (int i = 0; i < n_connections; i++)
        close(connections[i].fd);
    close(epoll);
    return (struct load_result){l.n, end - began, quantile(&l, 0.5), quantile(&l, 0.99)};
}

/* one request */

char *load_once(int port, const struct request *request, char **body, size_t *body_size)
{
    struct connection c = {.fd = load_connect(port)};
    struct load l = {.request = request};
    size_t capacity = 1 << 20;
    char *answer = malloc(capacity);

    if (c.fd < 0 || !answer)
        bench_die("connect");
    begin(&l, &c);
    while (!c.expected || c.got < c.expected) {
        ssize_t n = read(c.fd, answer + c.got, capacity - 1 - c.got);
        if (n <= 0)
            bench_die("the server closed a connection");
        c.got += (size_t)n;
        memcpy(c.head, answer, c.got < ANSWER ? c.got : ANSWER);
        if (!c.expected)
            read_head(&c);
    }
    close(c.fd);
    answer[c.got] = 0;
    *body = strstr(answer, "\r\n\r\n") + 4;
    *body_size = c.got - (size_t)(*body - answer);
    return answer;
}
