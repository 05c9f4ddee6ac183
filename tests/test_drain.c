/*
 * The end of a server under load: no request whose headers it read goes without an answer.
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
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 8, DRAINS = 50 };

static const char predict[] = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n"
                              "{\"instances\":[[1,2,3,4]]}";

struct load {
    int port;
    bool checks;                /* asks /health now and then, and stops at the first 503 */
    atomic_int answered, lost, wrong;
    atomic_int refused;         /* lost, on a new connection */
};

/* Whether headers were read only the server knows: it logs at its end how many requests it
 * began and did not answer. A client sees besides: a request on a connection that had been
 * answered before and was not announced to close is never lost; one on a new connection may
 * be, when the kernel made it behind the server's last look at the queue. */
static void *run_client(void *arg)
{
    struct load *load = arg;
    int fd = -1;
    bool is_new = false;
    for (int n = 0;; n++) {
        char body[512];
        bool close_after = false;
        if (load->checks && n % 10 == 0) {
            int health = socket_connect(load->port);
            if (health < 0)
                break;
            socket_send(health, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            int status = socket_answer(health, body, sizeof body);
            close(health);
            if (status != 200)
                break;
        }
        is_new = fd < 0;
        if (is_new)
            fd = socket_connect(load->port);
        if (fd < 0)
            break;
        socket_send(fd, predict);
        int status = socket_answer_close(fd, body, sizeof body, &close_after);
        if (status == 200)
            load->answered++;
        else if (status == 0)
            atomic_fetch_add(is_new ? &load->refused : &load->lost, 1);
        else
            load->wrong++;
        if (status == 0 || close_after) {
            close(fd);
            fd = -1;
        }
        if (status == 0)
            break;
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

/* Returns how many requests on new connections were reset. */
static int drain_under_load(const char *delay, bool checks)
{
    const char *const arguments[] = {"--drain-delay", delay, "--threads", "2", NULL};
    struct fixture f;
    pthread_t threads[CLIENTS];

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    struct load load = {.port = f.port, .checks = checks};
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_client, &load), 0);
    while (atomic_load(&load.answered) < 10 * CLIENTS &&
           !atomic_load(&load.lost) && !atomic_load(&load.refused))
        usleep(1000);
    int status = fixture_stop(&f);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    char *log = fixture_log(&f);
    assert_non_null(strstr(log, "\"stopped\""));
    assert_non_null(strstr(log, "\"lost\":0}"));
    free(log);
    fixture_close(&f);
    assert_int_equal(status, 0);
    assert_int_equal(load.wrong, 0);
    assert_int_equal(load.lost, 0);
    return load.refused;
}

static void clients_behind_a_health_check_lose_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < DRAINS / 2; i++)
        assert_int_equal(drain_under_load("0.2", true), 0);
}

static void clients_that_reconnect_lose_nothing_that_was_read(void **state)
{
    (void)state;
    for (int i = 0; i < DRAINS / 2; i++)
        assert_true(drain_under_load("0.05", false) <= CLIENTS);
}

static void a_drain_turns_unready_and_goes_on_serving_for_the_delay(void **state)
{
    static const char *const arguments[] = {"--drain-delay", "30", NULL};
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    while (request(f.port, "GET", "/health", NULL, body, sizeof body) == 200)
        usleep(1000);
    assert_string_equal(body, "{\"error\":\"the server is draining\"}");
    assert_int_equal(request(f.port, "GET", "/health/live", NULL, NULL, 0), 200);
    struct client *client = client_new();
    struct reply *r =
        client_call(client, f.port, "POST", "/predict", NULL, "{\"instances\":[[1,2,3,4]]}");
    assert_int_equal(r->status, 200);
    assert_non_null(strstr(r->headers, "Connection: close\r"));
    reply_free(r);
    client_free(client);
    assert_int_equal(kill(f.pid, SIGTERM), 0);  /* the second ends at once */
    assert_int_equal(fixture_wait(&f), 128 + SIGTERM);
    fixture_close(&f);
}

static void a_request_that_is_being_sent_is_waited_for(void **state)
{
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    int fd = socket_connect(f.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n"
                    "Expect: 100-continue\r\n\r\n");
    assert_int_equal(socket_answer(fd, NULL, 0), 100);      /* so its headers were read */
    assert_int_equal(kill(f.pid, SIGTERM), 0);
    int closed = 0;             /* the listening socket */
    while (!closed) {
        int other = socket_connect(f.port);
        closed = other < 0;
        if (other >= 0)
            close(other);
        usleep(1000);
    }
    socket_send(fd, "{\"instances\":[[1,2,3,4]]}");
    assert_int_equal(socket_answer(fd, body, sizeof body), 200);
    close(fd);
    assert_int_equal(fixture_wait(&f), 0);
    fixture_close(&f);
}

static void a_drain_ends_with_its_timeout(void **state)
{
    static const char *const arguments[] = {"--drain-timeout", "0.2", NULL};
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    int fd = socket_connect(f.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n"
                    "Expect: 100-continue\r\n\r\n");
    assert_int_equal(socket_answer(fd, NULL, 0), 100);
    assert_int_equal(fixture_stop(&f), 0);      /* although the body never comes */
    close(fd);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients_behind_a_health_check_lose_nothing),
        cmocka_unit_test(clients_that_reconnect_lose_nothing_that_was_read),
        cmocka_unit_test(a_drain_turns_unready_and_goes_on_serving_for_the_delay),
        cmocka_unit_test(a_request_that_is_being_sent_is_waited_for),
        cmocka_unit_test(a_drain_ends_with_its_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
