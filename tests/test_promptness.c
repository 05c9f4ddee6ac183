/*
 * Health is answered promptly, and predictions go on, while clients try to keep the server
 * busy: the attacks of slowhttptest, a body of a million chunks, more requests than there is
 * time for. The server has one thread.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLOWHTTPTEST "/usr/bin/slowhttptest"
#define BODY "{\"instances\":[[1,2,3,4]]}" /* 25 bytes */
#define HEAD "POST /predict HTTP/1.1\r\nHost: x\r\n"

/* Another program may have the processors for a while: most answers have to be in time, in one
 * of some attempts. */
enum { PROMPT = 100 /* milliseconds */, MOST = 90 /* percent */, ATTEMPTS = 3 };

static struct fixture shared;

static int open_shared(void **state)
{
    (void)state;
    fixture_open(&shared);
    publish_linear(shared.models, "m", 1, 1);
    fixture_serve(&shared, (const char *const[]){"--threads", "1", "--max-queue", "4",
                                                 "--header-timeout", "60", "--body-timeout",
                                                 "60", "--max-instances", "1000000", NULL});
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    fixture_end(&shared);
    return 0;
}

/* the probe */

struct probe {
    pthread_t thread;
    atomic_bool stop;
    int asked, prompt, failed, connections; /* connections: the most that were open */
};

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* On a new connection each time, as a load balancer's check. */
static void *ask(void *arg)
{
    struct probe *p = arg;
    while (!atomic_load(&p->stop)) {
        double begun = milliseconds();
        int fd = socket_connect(shared.port);
        socket_send(fd, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        p->failed += socket_answer(fd, NULL, 0) != 200;
        close(fd);
        p->prompt += milliseconds() - begun < PROMPT;
        p->asked++;
        int open = (int)fixture_metric(&shared, "predictd_connections");
        if (open > p->connections)
            p->connections = open;
        usleep(5000);
    }
    return NULL;
}

static void probe_start(struct probe *p)
{
    *p = (struct probe){.asked = 0};
    assert_int_equal(pthread_create(&p->thread, NULL, ask, p), 0);
}

/* Whether it was prompt. */
static bool probe_end(struct probe *p)
{
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
    if (p->failed)
        fail_msg("health was not answered %d times of %d", p->failed, p->asked);
    assert_true(p->asked > 0);
    return p->prompt * 100 >= p->asked * MOST;
}

static void report(const struct probe *p)
{
    fail_msg("only %d of %d were answered within %d ms", p->prompt, p->asked, PROMPT);
}

/* slowhttptest */

static void run_slowhttptest(const char *path, const char *const *options)
{
    char url[64];
    const char *argv[32] = {SLOWHTTPTEST, "-u", url,  "-c", "200", "-r", "200",
                            "-i",         "1",  "-l", "2",  "-v",  "0"};
    int n = 13, status;

    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", shared.port, path);
    while (*options)
        argv[n++] = *options++;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
            _exit(126);
        execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 126);
}

/* `held`: the attack keeps its connections. */
static void attack(const char *path, bool held, const char *const *options)
{
    struct probe p;
    if (access(SLOWHTTPTEST, X_OK) != 0) {
        print_message("skipped: there is no slowhttptest\n");
        skip();
    }
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        probe_start(&p);
        run_slowhttptest(path, options);
        bool prompt = probe_end(&p);
        assert_true(!held || p.connections > 100); /* it did attack */
        assert_int_equal(request(shared.port, "POST", "/predict", BODY, NULL, 0), 200);
        if (prompt)
            return;
    }
    report(&p);
}

static void health_is_prompt_while_headers_come_slowly(void **state)
{
    (void)state;
    attack("/predict", true, (const char *const[]){"-H", "-x", "24", NULL});
}

static void health_is_prompt_while_bodies_come_slowly(void **state)
{
    (void)state;
    attack("/predict", true,
           (const char *const[]){"-B", "-s", "8192", "-x", "10", "-t", "POST", NULL});
}

static void health_is_prompt_while_answers_are_read_slowly(void **state)
{
    (void)state;
    attack("/models/m", true,
           (const char *const[]){"-X", "-w", "1", "-y", "16", "-n", "1", "-z", "4", "-k", "10",
                                 NULL});
}

static void health_is_prompt_while_thousands_of_ranges_are_asked_for(void **state)
{
    (void)state;
    attack("/metrics", false, (const char *const[]){"-R", "-a", "5", "-b", "3000", NULL});
}

/* chunks */

static void health_is_prompt_while_a_million_chunks_come(void **state)
{
    enum { CHUNKS = 1000000, SIZE = 6 * CHUNKS };
    struct probe p;
    char *text = malloc(SIZE + 1), answer[512];
    (void)state;

    assert_non_null(text);
    for (size_t i = 0; i < CHUNKS; i++)
        memcpy(text + 6 * i, "1\r\n \r\n", 6);
    for (size_t i = 0; i < strlen(BODY); i++)
        text[SIZE - 6 * (strlen(BODY) - i) + 3] = BODY[i];
    text[SIZE] = 0;
    bool prompt = false;
    for (int attempt = 0; attempt < ATTEMPTS && !prompt; attempt++) {
        probe_start(&p);
        int fd = socket_connect(shared.port);
        socket_send(fd, HEAD "Transfer-Encoding: chunked\r\n\r\n");
        socket_send(fd, text);
        socket_send(fd, "0\r\n\r\n");
        assert_int_equal(socket_answer(fd, answer, sizeof answer), 200);
        close(fd);
        prompt = probe_end(&p);
    }
    free(text);
    if (!prompt)
        report(&p);
}

/* large answers */

static int infer(const char *model)
{
    char path[64];
    snprintf(path, sizeof path, "/v2/models/%s/infer", model);
    return request(shared.port, "POST", path,
                   "{\"parameters\":{\"timeout\":1},\"inputs\":[{\"name\":\"x\",\"datatype\":"
                   "\"FP32\",\"shape\":[1,1],\"data\":[1]}]}",
                   NULL, 0);
}

/* Written by an event loop they would keep all its others waiting. Only who waits for a worker
 * can have waited longer than a microsecond. */
static void large_answers_are_written_by_workers(void **state)
{
    enum { MOST_WIDTH = 10000 };
    static float ones[MOST_WIDTH];
    static const int widths[] = {1000, MOST_WIDTH};
    static const char *const names[] = {"narrow", "wide"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        char tensors[96];
        snprintf(tensors, sizeof tensors,
                 "\"ones\":{\"dtype\":\"F32\",\"shape\":[1,%d],\"data_offsets\":[0,%d]}",
                 widths[i], 4 * widths[i]);
        publish_bundle(shared.models, names[i], 1,
                       "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,1]}],"
                       "\"nodes\":[{\"op\":\"Add\",\"inputs\":[\"x\",\"ones\"],\"outputs\":"
                       "[\"y\"]}],\"outputs\":[\"y\"]}",
                       tensors, ones, (size_t)(4 * widths[i]));
    }
    assert_int_equal(request(shared.admin_port, "POST", "/reload", "", NULL, 0), 200);
    assert_int_equal(infer("narrow"), 200);
    assert_int_equal(infer("wide"), 504);
    unpublish(shared.models, "narrow", 1);
    unpublish(shared.models, "wide", 1);
    assert_int_equal(request(shared.admin_port, "POST", "/reload", "", NULL, 0), 200);
}

/* overload */

struct load {
    atomic_bool stop;
    atomic_int served, refused, wrong;
    char first[512]; /* of the wrong */
};

static void *overload(void *arg)
{
    struct load *load = arg;
    struct client *client = client_new();
    while (!atomic_load(&load->stop)) {
        struct reply *r = client_call(client, shared.port, "POST", "/predict", NULL, BODY);
        if (r->status == 200 && strstr(r->body, "{\"predictions\":[[8.5,12.25,7.0]]"))
            load->served++;
        else if (r->status == 503 && strstr(r->headers, "Retry-After: ") &&
                 !strstr(r->headers, "Connection: close"))
            load->refused++;
        else if (atomic_fetch_add(&load->wrong, 1) == 0)
            snprintf(load->first, sizeof load->first, "%d %.200s %.200s", r->status, r->headers,
                     r->body);
        reply_free(r);
    }
    client_free(client);
    return NULL;
}

/* Whatever is too much is refused in a way that clients and load balancers understand, and what
 * is not refused is served. */
static void overload_is_refused_and_the_rest_is_served(void **state)
{
    enum { CLIENTS = 24, ENOUGH = 500, PATIENCE = 60000 };
    static struct load load;
    pthread_t threads[CLIENTS];
    struct probe p;
    int waited = 0;
    (void)state;

    probe_start(&p);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, overload, &load), 0);
    for (; (load.served < ENOUGH || load.refused < ENOUGH) && waited < PATIENCE; waited += 10)
        usleep(10000);
    atomic_store(&load.stop, true);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    probe_end(&p); /* answered; how promptly says little beside so many clients */
    if (load.wrong)
        fail_msg("%d answers are wrong; the first: %s", load.wrong, load.first);
    if (waited >= PATIENCE)
        fail_msg("%d were served and %d refused", load.served, load.refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_is_prompt_while_headers_come_slowly),
        cmocka_unit_test(health_is_prompt_while_bodies_come_slowly),
        cmocka_unit_test(health_is_prompt_while_answers_are_read_slowly),
        cmocka_unit_test(health_is_prompt_while_thousands_of_ranges_are_asked_for),
        cmocka_unit_test(health_is_prompt_while_a_million_chunks_come),
        cmocka_unit_test(large_answers_are_written_by_workers),
        cmocka_unit_test(overload_is_refused_and_the_rest_is_served),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
