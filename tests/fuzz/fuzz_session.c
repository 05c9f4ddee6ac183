/*
 * Whole HTTP sessions: the bytes that a client sends over one connection, to the routes of the
 * admin listener, with models and a registry behind them. The first byte is how: its low seven
 * bits seed the sizes of the pieces (0: all at once), the highest bit has the client leave
 * without reading an answer.
 *
 * What holds: answers are HTTP, one for each request that was begun (and at most one more: a
 * refusal of the rest), bodies are JSON where they say so, every request ends once, and nothing
 * is left behind.
 */
#include "tests/fuzz/fuzz.h"

#include "server/api/api.h"
#include "server/clock.h"
#include "server/log.h"
#include "tests/server_fixture.h"
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { MAX_REQUESTS = 512, ROOM = 1 << 20, MAX_BODY = 1 << 16, TURNS = 100000 };

#define HOUR (3600 * INT64_C(1000000000))

static struct fixture folder;
static struct options options = {.max_body = MAX_BODY,
                                 .max_instances = 64,
                                 .max_batch = 4,
                                 .max_queue = 8,
                                 .deadline = 60000,
                                 .threads = 1};
static struct loop loop;
static struct server server = {.options = &options, .loops = &loop, .n_loops = 1};

/* The requests of the connection, in their order. */
static enum http_method methods[MAX_REQUESTS];
static int n_begun, n_finished;
static int n_suspended; /* requests that wait for the registry's thread */

static int begin(struct http_request *r)
{
    MUST(n_begun < MAX_REQUESTS);
    methods[n_begun++] = r->method;
    return api_begin(r);
}

static int answer(struct http_request *r)
{
    int status = api_answer(r);
    n_suspended += status == HTTP_SUSPENDED;
    return status;
}

static void finished(struct http_request *r, bool sent)
{
    n_finished++;
    api_finished(r, sent);
}

/* The loop's side of its mailbox. */
static void read_mailbox(void)
{
    uint64_t count;
    if (read(loop.wake, &count, sizeof count) < 0)
        return;
    pthread_mutex_lock(&loop.lock);
    atomic_store(&loop.woken, false);
    struct table *table = loop.table_waits;
    struct http_request *next, *r = loop.finished;
    loop.finished = NULL;
    if (table) {
        batcher_use(loop.batcher, table, loop.room);
        loop.room = NULL;
        table_release(loop.table);
        loop.table = table;
        loop.table_waits = NULL;
        pthread_cond_signal(&loop.taken);
    }
    pthread_mutex_unlock(&loop.lock);
    for (; r; r = next) {
        next = r->mail;
        n_suspended--;
        http_finish(r, r->status);
    }
}

static void turn(void)
{
    read_mailbox();
    http_run(loop.http);
    while (batcher_run(loop.batcher))
        http_run(loop.http);
}

static int publish(void *context, struct table *table)
{
    (void)context;
    MUST(loop_prepare(&loop, table) == 0);
    loop_publish(&loop, table);
    return 0;
}

static void publish_models(void)
{
    fixture_open(&folder);
    publish_linear(folder.models, "linear", 2, 1);
    publish_bytes(folder.models, "broken", 1, "broken", 6);
    publish_bundle(folder.models, "fixed", 1,
                   "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2]}],"
                   "\"nodes\":[{\"op\":\"Log\",\"inputs\":[\"x\"],\"outputs\":[\"y\"]}],"
                   "\"outputs\":[\"y\"]}",
                   "\"unused\":{}", "", 0);
}

static void remove_models(void)
{
    fixture_close(&folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    struct nn_error error = {""};
    struct http_application application = {.owner = &loop,
                                           .begin = begin,
                                           .answer = answer,
                                           .suspended = api_suspended,
                                           .finished = finished,
                                           .max_body = MAX_BODY,
                                           .max_bytes = 2 * MAX_BODY,
                                           .pack_from = 256,
                                           .max_connections = 4,
                                           .poll = -1,
                                           .header_timeout = HOUR,
                                           .body_timeout = HOUR,
                                           .idle_timeout = HOUR,
                                           .draining = &server.draining};
    struct batcher_settings settings = {.max_batch = options.max_batch,
                                        .max_instances = options.max_instances,
                                        .deadline = options.deadline * 1000000};

    nn_engine_start();
    log_set_level(LOG_ERROR + 1);
    options.default_model = "linear";
    server.guards.cors = cors_open("https://b.example", &error);
    MUST(server.guards.cors);
    publish_models();
    atexit(remove_models);
    loop = (struct loop){.server = &server, .admin = true, .max_in_work = 8};
    loop.counters = aligned_alloc(64, sizeof *loop.counters);
    MUST(loop.counters);
    memset(loop.counters, 0, sizeof *loop.counters);
    application.counters = &loop.counters->connection;
    loop.http = http_open(&application, &error);
    loop.batcher = batcher_new(&settings);
    loop.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    MUST(loop.http && loop.batcher && loop.wake >= 0);
    pthread_mutex_init(&loop.lock, NULL);
    pthread_cond_init(&loop.taken, NULL);

    struct registry_settings registry = {
        .models = folder.models, .n_counters = 1, .publish = publish, .context = NULL};
    server.registry = registry_open(&registry, &error);
    MUST(server.registry);
    while (!loop.table) {
        struct pollfd wake = {.fd = loop.wake, .events = POLLIN};
        poll(&wake, 1, 1000);
        turn();
    }
    return 0;
}

/* checking what was answered */

static const char *find(const char *p, const char *end, const char *text)
{
    return memmem(p, (size_t)(end - p), text, strlen(text));
}

static void check_body(const char *head, const char *head_end, const char *body, size_t size)
{
    if (size == 0 || !find(head, head_end, "Content-Type: application/json\r\n"))
        return;
    struct buffer text = {0};
    bool gzip = find(head, head_end, "\r\nContent-Encoding: gzip\r\n");
    if (gzip || find(head, head_end, "\r\nContent-Encoding: deflate\r\n")) {
        struct unpacker *u = unpacker_new(gzip ? CODING_GZIP : CODING_DEFLATE, body, size);
        size_t work = ROOM;
        MUST(u && unpacker_run(u, &text, ROOM, &work) == UNPACKED_ALL);
        unpacker_free(u);
        body = text.data;
        size = text.size;
    }
    json_t *value = json_loadb(body, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    MUST(value);
    json_decref(value);
    buffer_release(&text);
}

/* Returns the end of the answer. */
static const char *check_answer(const char *p, const char *end, int number, bool *final)
{
    MUST(end - p > 17 && strncmp(p, "HTTP/1.1 ", 9) == 0);
    int status = atoi(p + 9);
    const char *head_end = find(p, end, "\r\n\r\n");
    MUST(status >= 100 && status <= 599 && head_end);
    head_end += 2;
    const char *body = head_end + 2;
    *final = status >= 200;
    if (!*final)
        return body;

    /* What libmicrohttpd refuses by itself is the last that it says. (For a malformed
     * Content-Length, 0.9.75 writes the head of that answer twice.) */
    if (!find(p, head_end, "\r\nX-Request-ID: ")) {
        MUST(status >= 400 && find(p, head_end, "\r\nConnection: close\r\n"));
        return end;
    }

    if (status == 204)
        return body;
    const char *length = find(p, head_end, "\r\nContent-Length: ");
    MUST(length);
    size_t size = strtoul(length + 18, NULL, 10);
    if (number < n_begun ? methods[number] == HTTP_HEAD : body == end)
        return body;
    MUST(size <= (size_t)(end - body));
    check_body(p, head_end, body, size);
    return body + size;
}

static void check_answers(const char *p, size_t size)
{
    const char *end = p + size;
    int n = 0;
    while (p < end) {
        bool final;
        p = check_answer(p, end, n, &final);
        n += final;
    }
    MUST(n <= n_begun + 1);
}

/* the client */

struct client_side {
    int fd;
    bool over; /* the server has closed the connection */
    size_t size;
    char *answers;
};

static void receive(struct client_side *c)
{
    ssize_t n;
    while (!c->over &&
           (n = recv(c->fd, c->answers + c->size, ROOM - c->size, MSG_DONTWAIT)) >= 0) {
        c->over = n == 0;
        c->size += (size_t)n;
        MUST(c->size < ROOM);
    }
}

/* Lets the server work until it has nothing to do any more. */
static void settle(struct client_side *c)
{
    for (int i = 0; i < TURNS; i++) {
        struct pollfd events[] = {{.fd = http_descriptor(loop.http), .events = POLLIN},
                                  {.fd = loop.wake, .events = POLLIN}};
        turn();
        receive(c);
        bool busy = http_timeout(loop.http) == 0;
        if (poll(events, 2, busy ? 0 : n_suspended ? 1000 : 0) == 0 && !busy)
            return;
    }
    MUST(!"the server comes to rest");
}

static void send_pieces(struct client_side *c, const uint8_t *data, size_t size, unsigned seed)
{
    unsigned state = seed;
    while (size > 0 && !c->over) {
        size_t piece = size;
        if (seed) {
            state = state * 1103515245 + 12345;
            piece = 1 + (state >> 16) % seed;
        }
        ssize_t n = send(c->fd, data, piece < size ? piece : size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && c->over)
            return;
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
        settle(c);
        if (n < 0)
            return; /* the server does not read on: the connection is closing */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char answers[ROOM];
    int pair[2];
    if (size < 2)
        return 0;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    n_begun = n_finished = 0;
    struct sockaddr address = {.sa_family = AF_UNIX};
    http_add(loop.http, pair[0], &address, sizeof address.sa_family);
    struct client_side client = {.fd = pair[1], .answers = answers};
    bool leaves = data[0] & 0x80;
    send_pieces(&client, data + 1, size - 1, data[0] & 0x7f);
    if (!leaves) {
        shutdown(client.fd, SHUT_WR);
        settle(&client);
    }
    close(client.fd);
    client.over = true;
    int64_t patience = clock_now() + 20 * INT64_C(1000000000);
    while (http_n_connections(loop.http) > 0 || http_n_requests(loop.http) > 0) {
        settle(&client);
        MUST(clock_now() < patience);
    }
    MUST(n_finished == n_begun || n_finished == n_begun + 1);
    MUST(loop.in_work == 0);
    check_answers(answers, client.size);
    return 0;
}
