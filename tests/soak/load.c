#include "tests/soak/load.h"

#include "server/clock.h"
#include "tests/server_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER = 1 << 16, EVENTS = 64 };

struct connection {
    int fd; /* -1: has to be opened */
    bool busy;
    int64_t due;
    size_t sent, got;
    struct connection *next; /* that is idle, too */
    char answer[ANSWER];
};

struct generator {
    const struct load *load;
    struct load_result *result;
    struct connection *connections, *idle;
    int poll, busy;
    size_t room;
};

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void open_connection(struct generator *g, struct connection *c)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    c->fd = socket_connect(g->load->port);
    if (c->fd < 0 || fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ||
        epoll_ctl(g->poll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        die("connect");
}

/* The request is over, well or not. */
static void finish(struct generator *g, struct connection *c, bool keep)
{
    c->busy = false;
    c->next = g->idle;
    g->idle = c;
    g->busy--;
    if (!keep) {
        close(c->fd);
        c->fd = -1;
    }
}

static void record(struct generator *g, int64_t due)
{
    struct load_result *r = g->result;
    if (r->n == g->room) {
        g->room = g->room ? 2 * g->room : 4096;
        r->milliseconds = realloc(r->milliseconds, g->room * sizeof *r->milliseconds);
        if (!r->milliseconds)
            die("memory");
    }
    r->milliseconds[r->n++] = (double)(clock_now() - due) / 1e6;
}

/* Whether the answer is whole. */
static bool judge(struct generator *g, struct connection *c)
{
    char *end = strstr(c->answer, "\r\n\r\n");
    const char *length = end ? strcasestr(c->answer, "\r\ncontent-length:") : NULL;
    if (!end || !length || length > end)
        return false;
    size_t size = (size_t)(end + 4 - c->answer) + strtoul(length + 17, NULL, 10);
    if (c->got < size)
        return false;
    int status = atoi(c->answer + strlen("HTTP/1.1 "));
    const char *closes = strcasestr(c->answer, "\r\nconnection: close\r");
    if (status == 200) {
        g->result->served++;
        g->result->wrong += g->load->is_right && !g->load->is_right(end + 4);
        record(g, c->due);
    } else if (status == 503) {
        g->result->refused++;
    } else {
        g->result->failed++;
    }
    finish(g, c, !closes || closes > end);
    return true;
}

static void send_more(struct generator *g, struct connection *c)
{
    while (c->sent < g->load->size) {
        ssize_t n = send(c->fd, g->load->request + c->sent, g->load->size - c->sent, MSG_NOSIGNAL);
        if (n < 0)
            return; /* later, or the answer will tell */
        c->sent += (size_t)n;
    }
}

static void receive(struct generator *g, struct connection *c)
{
    while (c->busy) {
        ssize_t n = recv(c->fd, c->answer + c->got, ANSWER - 1 - c->got, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            g->result->failed++;
            finish(g, c, false);
            return;
        }
        c->got += (size_t)n;
        c->answer[c->got] = 0;
        judge(g, c);
    }
}

static void begin(struct generator *g, struct connection *c, int64_t due)
{
    c->busy = true;
    c->due = due;
    c->sent = c->got = 0;
    c->answer[0] = 0;
    g->busy++;
    if (c->fd < 0)
        open_connection(g, c);
    send_more(g, c);
}

/* Sends what is due and has a connection. Returns how many were sent by now. */
static long send_due(struct generator *g, int64_t began, int64_t end, long sent)
{
    double rate = g->load->rate;
    while (g->idle) {
        struct connection *c = g->idle;
        int64_t now = clock_now();
        int64_t due = rate > 0 ? began + (int64_t)((double)sent * 1e9 / rate) : now;
        if (due > now || due >= end)
            break;
        g->idle = c->next;
        begin(g, c, due);
        sent++;
    }
    return sent;
}

void load_run(const struct load *load, struct load_result *result)
{
    struct generator g = {.load = load, .result = result, .room = result->n};
    struct epoll_event events[EVENTS];
    long sent = 0;

    g.connections = calloc((size_t)load->connections, sizeof *g.connections);
    g.poll = epoll_create1(EPOLL_CLOEXEC);
    if (!g.connections || g.poll < 0)
        die("memory");
    for (int i = 0; i < load->connections; i++) {
        open_connection(&g, &g.connections[i]);
        g.connections[i].next = g.idle;
        g.idle = &g.connections[i];
    }
    int64_t began = clock_now(), end = began + (int64_t)(load->seconds * 1e9);
    while (clock_now() < end || g.busy > 0) {
        if (clock_now() < end)
            sent = send_due(&g, began, end, sent);
        int n = epoll_wait(g.poll, events, EVENTS, load->rate > 0 ? 0 : 1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->busy)
                send_more(&g, c);
            if (c->busy)
                receive(&g, c);
        }
        if (n == 0 && load->rate > 0)
            usleep(50);
    }
    result->seconds += load->seconds;
    for (int i = 0; i < load->connections; i++)
        if (g.connections[i].fd >= 0)
            close(g.connections[i].fd);
    close(g.poll);
    free(g.connections);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double load_quantile(struct load_result *r, double q)
{
    if (r->n == 0)
        return 0;
    qsort(r->milliseconds, r->n, sizeof *r->milliseconds, by_size);
    return r->milliseconds[(size_t)(q * (double)(r->n - 1))];
}

void load_release(struct load_result *r)
{
    free(r->milliseconds);
    *r = (struct load_result){0};
}
