/*
 * Every allocation of the server, its libraries and the C library fails in turn, once or with
 * all that follow: while it starts, while it predicts, while it reloads. Starting ends with a
 * reason or succeeds; a request gets a defined answer or its connection is closed; what was
 * served before is served after.
 *
 * The server is built without sanitizers, whose allocators are their own: for a build in
 * build/address-undefined it is the one in build/.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/preload/failing_malloc.h"
#include "tests/server_fixture.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

enum { MOST = 20000, ANSWER_SIZE = 1024, PATIENCE = 30000 /* milliseconds */ };

static struct failing_malloc *control;
static char control_path[] = "/tmp/predictd-memory-XXXXXX";
static bool missing; /* there is no server to try it with */

static void arm(long n, bool sticky)
{
    atomic_store(&control->failed, 0);
    atomic_store(&control->sticky, sticky);
    atomic_store(&control->left, n);
}

static long disarm(void)
{
    atomic_store(&control->left, -1);
    return atomic_load(&control->failed);
}

static int setup(void **state)
{
    static char build[512], library[600], server[600];
    const char *given = getenv("PREDICTD_BUILD");
    (void)state;
    snprintf(build, sizeof build, "%s", given ? given : "build");
    char *slash = strrchr(build, '/');
    if (slash && (strstr(slash, "address") || strstr(slash, "thread")))
        *slash = 0;
    snprintf(server, sizeof server, "%s/predictd", build);
    snprintf(library, sizeof library, "%s/failing_malloc.so", given ? given : "build");
    missing = access(server, X_OK) != 0 || access(library, R_OK) != 0;
    int fd = mkstemp(control_path);
    if (fd < 0 || ftruncate(fd, sizeof *control) != 0)
        return -1;
    control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (control == MAP_FAILED)
        return -1;
    disarm();
    setenv("PREDICTD_BUILD", build, 1);
    setenv("FAILING_MALLOC", control_path, 1);
    char *absolute = realpath(library, NULL);
    if (absolute)
        setenv("LD_PRELOAD", absolute, 1);
    free(absolute);
    return missing || absolute ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    unsetenv("LD_PRELOAD");
    return unlink(control_path);
}

static void need_server(void)
{
    if (!missing)
        return;
    print_message("skipped: there is no server without sanitizers\n");
    skip();
}

/* predictions */

static const double x[4] = {1, 2, 3, 4};
static const char body[] = "{\"instances\":[[1,2,3,4]]}";
static char large[400001]; /* the same behind as many blanks */
static char packed[64];    /* the same, for Content-Encoding: deflate */
static size_t packed_size;

/* The forms of the same prediction, and what stands before its numbers in the answer. */
static const struct form {
    const char *path, *body, *numbers;
    const char *headers; /* whole lines; then body and answer are packed */
} forms[] = {
    {"/predict", body, "[[", NULL},
    {"/v2/models/m/infer",
     "{\"id\":\"1\",\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,4],"
     "\"data\":[1,2,3,4]}]}",
     "\"data\":[", NULL},
    {"/v1/models/m:predict", body, "[[", NULL},
    {"/v1/models/m/versions/1:predict", "{\"inputs\":{\"x\":[[1,2,3,4]]}}", "[[", NULL},
    {"/models/m/versions/1/predict", large, "[[", NULL},
    {"/models/apart/predict", body, "[[", NULL}, /* by worker threads */
    {"/models/mean/predict", body, "[[", NULL},  /* by its members, here */
    {"/models/apart_mean/predict", body, "[[", NULL},
    {"/predict", packed, "[[", "Content-Encoding: deflate\r\nAccept-Encoding: deflate\r\n"},
};

/* Which of the scales 1 and 2 the answer is from; fails where it is from neither. */
static int scale_of(const struct form *form, const char *answer)
{
    double got[3], y[3];
    const char *at = strstr(answer, form->numbers);
    assert_non_null(at);
    at += strlen(form->numbers);
    assert_int_equal(sscanf(at, "%lf,%lf,%lf]", &got[0], &got[1], &got[2]), 3);
    for (int scale = 1; scale <= 2; scale++) {
        linear_reference(scale, x, y);
        if (fabs(got[0] - y[0]) + fabs(got[1] - y[1]) + fabs(got[2] - y[2]) < 1e-4)
            return scale;
    }
    fail_msg("a wrong answer: %s", answer);
    return 0;
}

static int must_predict(const struct fixture *f)
{
    char answer[ANSWER_SIZE];
    assert_int_equal(request(f->port, "POST", "/predict", body, answer, sizeof answer), 200);
    return scale_of(&forms[0], answer);
}

static void unpack(char *answer, size_t size)
{
    char text[ANSWER_SIZE];
    uLongf length = sizeof text - 1;
    assert_true(size <= sizeof text);
    assert_int_equal(uncompress((Bytef *)text, &length, (const Bytef *)answer, size), Z_OK);
    text[length] = 0;
    memcpy(answer, text, length + 1);
}

/* Whether the answer that comes says so. */
static bool is_packed(int fd)
{
    char head[1024];
    ssize_t n = recv(fd, head, sizeof head - 1, MSG_PEEK);
    head[n > 0 ? n : 0] = 0;
    return strstr(head, "\r\nContent-Encoding: deflate\r\n");
}

/* A request while memory runs out: a status of the server's, or none. */
static int try_form(int port, const struct form *form, char *answer, size_t size)
{
    char head[256];
    size_t length = form->headers ? packed_size : strlen(form->body);
    answer[0] = 0;
    snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: a\r\n%sContent-Length: %zu\r\n\r\n",
             form->path, form->headers ? form->headers : "", length);
    int fd = socket_connect(port);
    assert_true(fd >= 0);
    socket_send(fd, head);
    send(fd, form->body, length, MSG_NOSIGNAL);
    bool packed_answer = form->headers && is_packed(fd);
    int status = socket_answer(fd, answer, size);
    close(fd);
    if (packed_answer && *answer)
        unpack(answer, size);
    return status;
}

static int try(int port, const char *path, const char *text, char *answer, size_t size)
{
    return try_form(port, &(struct form){.path = path, .body = text}, answer, size);
}

static void assert_defined(int status, const char *answer)
{
    if (status != 0 && status != 500 && status != 503)
        fail_msg("status %d: %s", status, answer);
    if (status && answer[0])
        assert_memory_equal(answer, "{\"error\":", 9);
}

static void publish_others(const struct fixture *f)
{
    publish_linear(f->models, "apart", 1, 1);
    publish_config(f->models, "apart", "{\"threads\":1}");
    publish_linear(f->models, "one", 1, 0.5);
    publish_linear(f->models, "two", 1, 1.5);
    publish_config(f->models, "mean", "{\"ensemble\":[\"one\",\"two\"]}");
    publish_config(f->models, "apart_mean", "{\"ensemble\":[\"m\",\"apart\"]}");
}

/* An ensemble of m, which follows each reload of it. */
static void add_ensemble(const struct fixture *f)
{
    publish_config(f->models, "e", "{\"ensemble\":[\"m\"]}");
}

static void start(struct fixture *f, void (*publish)(const struct fixture *f))
{
    fixture_open(f);
    publish_linear(f->models, "m", 1, 1);
    if (publish)
        publish(f);
    fixture_start(f, (const char *[]){"--threads", "1", "--default-model", "m",
                                      "--compress-min", "1", NULL});
    fixture_wait_ready(f);
}

static void torture_predictions(const struct fixture *f, const struct form *form, bool sticky)
{
    char answer[ANSWER_SIZE];
    long failed = 1;
    for (long n = 0; failed; n++) {
        assert_in_range(n, 0, MOST);
        arm(n, sticky);
        int status = try_form(f->port, form, answer, sizeof answer);
        failed = disarm();
        if (status == 200)
            assert_int_equal(scale_of(form, answer), 1);
        else
            assert_defined(status, answer);
        assert_true(failed || status == 200);
        assert_int_equal(must_predict(f), 1);
    }
}

static void a_prediction_without_memory_harms_no_other(void **state)
{
    (void)state;
    struct fixture f;
    need_server();
    memset(large, ' ', sizeof large - sizeof body);
    memcpy(large + sizeof large - sizeof body, body, sizeof body);
    packed_size = sizeof packed;
    assert_int_equal(compress((Bytef *)packed, &packed_size, (const Bytef *)body, strlen(body)),
                     Z_OK);
    start(&f, publish_others);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        torture_predictions(&f, &forms[i], false);
        torture_predictions(&f, &forms[i], true);
    }
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

static void a_reload_without_memory_leaves_what_is_served(void **state)
{
    (void)state;
    struct fixture f;
    char answer[4096];
    need_server();
    start(&f, add_ensemble);
    int64_t before = 0;
    for (int sticky = 0; sticky < 2; sticky++) {
        long failed = 1;
        for (long n = 0; failed; n++) {
            int scale = 1 + (int)(n + 1) % 2;
            assert_in_range(n, 0, MOST);
            int old = must_predict(&f);
            publish_linear(f.models, "m", 1, scale);
            arm(n, sticky);
            int status =
                try(f.admin_port, "/reload", "{\"model\":\"m\"}", answer, sizeof answer);
            failed = disarm();
            int now = must_predict(&f);
            if (status == 200)
                assert_int_equal(now, scale);
            else
                assert_true(now == scale || now == old);
            assert_true(status == 0 || status == 200 || status == 500 || status == 503);
            assert_int_equal(
                request(f.admin_port, "POST", "/reload", "", answer, sizeof answer), 200);
            assert_int_equal(must_predict(&f), scale);
            if (n == 20 && !sticky)
                before = fixture_resident(&f);
        }
    }
    assert_true(fixture_resident(&f) < before + (8 << 20));
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

/* What could not be unloaded, or loaded, can be when there is memory again. */
static void a_load_without_memory_can_be_repeated(void **state)
{
    static const char *const actions[] = {"unload", "load"};
    static const char *const bodies[] = {"{\"parameters\":{\"unload_dependents\":true}}", "{}"};
    (void)state;
    struct fixture f;
    char answer[4096], path[64];
    need_server();
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    add_ensemble(&f);
    fixture_start(&f, (const char *[]){"--threads", "1", "--model-control", "explicit",
                                       "--load-model", "e", "--default-model", "m", NULL});
    fixture_wait_ready(&f);
    for (int sticky = 0; sticky < 2; sticky++) {
        long failed = 2;
        for (long n = 0; failed; n++) {
            assert_in_range(n, 0, MOST);
            failed = 0;
            for (int loads = 0; loads < 2; loads++) {
                snprintf(path, sizeof path, "/v2/repository/models/e/%s", actions[loads]);
                arm(n, sticky);
                int status = try(f.admin_port, path, bodies[loads], answer, sizeof answer);
                failed += disarm();
                if (status != 200)
                    assert_defined(status, answer);
                assert_int_equal(
                    request(f.admin_port, "POST", path, bodies[loads], answer, sizeof answer),
                    200);
                assert_int_equal(request(f.port, "GET", "/models/e", NULL, NULL, 0),
                                 loads ? 200 : 503);
            }
            assert_int_equal(must_predict(&f), 1);
        }
    }
    assert_int_equal(fixture_stop(&f), 0);
    fixture_close(&f);
}

/* starting */

/* Waits until the server says whether it is ready, or that it could not load, or ends. Returns
 * its status when it ended, else -1. */
static int await(struct fixture *f, char **log)
{
    int status;
    for (int waited = 0; waited < PATIENCE; waited++) {
        bool ended = waitpid(f->pid, &status, WNOHANG) == f->pid;
        *log = fixture_log(f);
        if (ended) {
            f->pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        if (strstr(*log, "ready\"") || strstr(*log, "\"reload failed\""))
            return -1;
        if (waited + 1 < PATIENCE)
            free(*log);
        usleep(1000);
    }
    kill(f->pid, SIGABRT);
    fixture_wait(f);
    fail_msg("the server neither starts nor ends: %s", *log);
    return 0;
}

/* A server that could not load at first loads when it is asked to. */
static void assert_reloads(const char *log)
{
    char answer[1024];
    const char *port = strstr(log, "\"admin_port\":");
    if (port) /* without memory the log does not say */
        assert_int_equal(request(atoi(port + 13), "POST", "/reload", "", answer, sizeof answer),
                         200);
}

static void start_with(struct fixture *f, long n, bool sticky, long *failed)
{
    char *log;
    arm(n, sticky);
    fixture_spawn(f, (const char *const[]){"--threads", "1", NULL});
    int ended = await(f, &log);
    *failed = disarm();
    if (ended >= 0) {
        if (ended != 1 || !strstr(log, "predictd: "))
            fail_msg("allocation %ld%s: status %d: %s", n, sticky ? " and on" : "", ended, log);
    } else {
        assert_reloads(log);
        int status = fixture_stop(f);
        if (status != 0)
            fail_msg("allocation %ld%s: stopped with %d: %s", n, sticky ? " and on" : "",
                     status, log);
    }
    free(log);
}

static void a_start_without_memory_ends_with_a_reason(void **state)
{
    (void)state;
    struct fixture f;
    need_server();
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    add_ensemble(&f);
    for (int sticky = 0; sticky < 2; sticky++) {
        long failed = 1;
        for (long n = 0; failed; n++) {
            assert_in_range(n, 0, MOST);
            start_with(&f, n, sticky, &failed);
        }
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prediction_without_memory_harms_no_other),
        cmocka_unit_test(a_reload_without_memory_leaves_what_is_served),
        cmocka_unit_test(a_load_without_memory_can_be_repeated),
        cmocka_unit_test(a_start_without_memory_ends_with_a_reason),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
