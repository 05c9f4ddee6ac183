/*
 * System calls fail while the server serves: strace, attached to all of its threads, has the
 * k-th of a kind that each makes fail, or all of them. What is asked meanwhile gets an answer,
 * an error or no connection; afterwards everything is as before.
 *
 * Skipped where there is no strace, or nobody may be traced. The server is built without
 * sanitizers: that for leaks traces as well.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STRACE "/usr/bin/strace"

enum { PATIENCE = 60000, SHORT = 500 /* milliseconds */ };

static struct fixture shared;
static bool missing;
static int troubled; /* requests that were not answered 200 while calls failed */

static int open_shared(void **state)
{
    const char *plain = fixture_plain_build();
    (void)state;
    missing = !plain || access(STRACE, X_OK) != 0;
    if (missing)
        return 0;
    setenv("PREDICTD_BUILD", plain, 1);
    fixture_open(&shared);
    publish_linear(shared.models, "m", 1, 1);
    fixture_serve(&shared, (const char *const[]){"--threads", "1", NULL});
    return 0;
}

static int close_shared(void **state)
{
    (void)state;
    if (!missing)
        fixture_end(&shared);
    return 0;
}

/* Whether all threads of the server are traced. */
static bool is_traced(void)
{
    char command[256];
    snprintf(command, sizeof command, "! grep -qE '^TracerPid:\t0$' /proc/%d/task/*/status",
             (int)shared.pid);
    return system(command) == 0;
}

/* With strace's words for what happens to the call. 0: it ended, so nobody may be traced. */
static pid_t trace(const char *call, const char *happens)
{
    char inject[128], only[64], id[16];
    snprintf(inject, sizeof inject, "inject=%s:%s", call, happens);
    snprintf(only, sizeof only, "trace=%s", call);
    snprintf(id, sizeof id, "%d", (int)shared.pid);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (!freopen("/dev/null", "w", stderr))
            _exit(126);
        execl(STRACE, STRACE, "-f", "-o", "/dev/null", "-e", only, "-e", inject, "-p", id,
              (char *)NULL);
        _exit(127);
    }
    for (int waited = 0; !is_traced(); waited += 5) {
        if (waitpid(pid, NULL, WNOHANG) == pid)
            return 0;
        if (waited >= PATIENCE)
            fail_msg("strace does not attach");
        usleep(5000);
    }
    return pid;
}

/* A request with little patience: its status or 0. */
static int try(int port, const char *method, const char *path, const char *body)
{
    struct timeval patience = {.tv_usec = SHORT * 1000};
    char text[512];
    int fd = socket_connect(port);
    if (fd < 0)
        return 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    snprintf(text, sizeof text,
             "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
             method, path, strlen(body), body);
    socket_send(fd, text);
    int status = socket_answer(fd, NULL, 0);
    close(fd);
    return status;
}

static const char body[] = "{\"instances\":[[1,2,3,4]]}";

static void assert_as_before(const char *what)
{
    static int version = 1;
    char answer[1024];
    int status = request(shared.port, "POST", "/predict", body, answer, sizeof answer);
    if (status != 200)
        fail_msg("after %s: a prediction is answered %d %s", what, status, answer);
    publish_linear(shared.models, "m", ++version, 1);
    unpublish(shared.models, "m", version - 1);
    status = request(shared.admin_port, "POST", "/reload", "", answer, sizeof answer);
    if (status != 200 || !strstr(answer, "\"loaded\""))
        fail_msg("after %s: a reload is answered %d %s", what, status, answer);
    assert_int_equal(request(shared.port, "GET", "/health", NULL, NULL, 0), 200);
}

static pid_t trace_or_skip(const char *call, const char *happens)
{
    pid_t tracer = trace(call, happens);
    if (tracer == 0) {
        print_message("skipped: strace may trace nobody\n");
        skip();
    }
    return tracer;
}

static void end_trace(pid_t tracer)
{
    assert_int_equal(kill(tracer, SIGTERM), 0);
    assert_int_equal(waitpid(tracer, NULL, 0), tracer);
    assert_int_equal(waitpid(shared.pid, NULL, WNOHANG), 0);
}

static void fail_calls(const char *call, const char *error, const char *when)
{
    char what[96], happens[64];
    snprintf(what, sizeof what, "%s fails with %s, %s", call, error, when);
    snprintf(happens, sizeof happens, "error=%s:when=%s", error, when);
    pid_t tracer = trace_or_skip(call, happens);
    for (int i = 0; i < 2; i++) {
        int predicted = try(shared.port, "POST", "/predict", body);
        int reloaded = try(shared.admin_port, "POST", "/reload", "");
        if ((predicted && predicted != 200 && predicted < 500) ||
            (reloaded && reloaded != 200 && reloaded < 500))
            fail_msg("%s: %d, %d", what, predicted, reloaded);
        troubled += (predicted != 200) + (reloaded != 200);
    }
    end_trace(tracer);
    assert_as_before(what);
}

/* What reads and writes over connections, and what reads models. */
static const struct {
    const char *call, *error;
} faults[] = {
    {"accept4", "EMFILE"},     {"accept4", "ENFILE"},   {"accept4", "ENOMEM"},
    {"accept4", "ECONNABORTED"}, {"accept4", "EINTR"},  {"epoll_ctl", "ENOMEM"},
    {"epoll_wait", "EINTR"},   {"poll", "EINTR"},       {"recvfrom", "ECONNRESET"},
    {"recvfrom", "EINTR"},     {"sendto", "EPIPE"},     {"sendmsg", "ECONNRESET"},
    {"openat", "EMFILE"},      {"openat", "EIO"},       {"read", "EIO"},
    {"getdents64", "EIO"},     {"newfstatat", "EIO"},   {"write", "EAGAIN"},
};

static void a_call_that_fails_once_harms_nothing_behind_it(void **state)
{
    (void)state;
    alarm(300); /* a tracer that does not let go */
    if (missing) {
        print_message("skipped: there is no strace, or no server without sanitizers\n");
        skip();
    }
    /* The second epoll_ctl() of a thread takes a socket out of its set, which never fails: the
     * library ends the process where it does. */
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        fail_calls(faults[i].call, faults[i].error, "1");
        if (strcmp(faults[i].call, "epoll_ctl") != 0)
            fail_calls(faults[i].call, faults[i].error, "2");
    }
    assert_true(troubled > 0); /* calls did fail */
}

/* Seconds, without asking the server: a new connection would be mail. */
static double server_cpu(void)
{
    clockid_t clock;
    struct timespec t;
    assert_int_equal(clock_getcpuclockid(shared.pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &t), 0);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A loop reads its mail before the thread that brought it has written to wake it. What comes
 * then must not keep it awake. */
static void a_loop_that_was_woken_late_sleeps_again(void **state)
{
    (void)state;
    if (missing)
        skip();
    publish_linear(shared.models, "w", 1, 1);
    publish_config(shared.models, "w", "{\"threads\":1}");
    assert_int_equal(request(shared.admin_port, "POST", "/reload", "", NULL, 0), 200);
    pid_t tracer = trace_or_skip("write", "delay_enter=100000");
    int slow = socket_connect(shared.port), quick = socket_connect(shared.port);
    for (int round = 0; round < 3; round++) {
        socket_send(slow, "POST /models/w/predict HTTP/1.1\r\nHost: x\r\n"
                          "Content-Length: 25\r\n\r\n{\"instances\":[[1,2,3,4]]}");
        usleep(30000); /* computed, but the loop is not woken yet */
        socket_send(quick, "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_int_equal(socket_answer(quick, NULL, 0), 200);
        assert_int_equal(socket_answer(slow, NULL, 0), 200);
    }
    usleep(200000);
    end_trace(tracer);
    double busy = server_cpu();
    usleep(1000000);
    double used = server_cpu() - busy;
    close(slow);
    close(quick);
    if (used > 0.5)
        fail_msg("a second without requests cost %g s of a processor", used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_fails_once_harms_nothing_behind_it),
        cmocka_unit_test(a_loop_that_was_woken_late_sleeps_again),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
