/*
 * predictd --healthcheck: what a container engine runs to learn whether the server is well.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Returns its exit status; `text` is the line that it said. */
static int check(int port, const char *host, char *text, size_t size)
{
    char number[16];
    const char *const arguments[] = {"--healthcheck", "--port", number, "--host", host, NULL};
    snprintf(number, sizeof number, "%d", port);
    return fixture_run(arguments, NULL, text, size);
}

/* A listening socket on the loopback. */
static int listen_anywhere(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static void a_port_where_nobody_listens_is_not_healthy(void **state)
{
    char text[512], expected[128];
    int port, fd = listen_anywhere(&port);
    (void)state;
    close(fd);
    assert_int_equal(check(port, "127.0.0.1", text, sizeof text), 1);
    snprintf(expected, sizeof expected,
             "predictd: no answer on port %d of 127.0.0.1: Connection refused\n", port);
    assert_string_equal(text, expected);
}

static void a_free_port_cannot_be_asked(void **state)
{
    static const char *const arguments[] = {"--healthcheck", NULL};
    char text[512];
    (void)state;
    assert_int_equal(fixture_run(arguments, "PREDICTD_PORT=0", text, sizeof text), 1);
    assert_non_null(strstr(text, "predictd: --port: "));
}

struct impostor {
    int listener;
    const char *answer; /* NULL: none, ever */
};

static void *answer_once(void *arg)
{
    struct impostor *i = arg;
    int fd = accept(i->listener, NULL, NULL);
    char request[1024];
    if (i->answer && recv(fd, request, sizeof request, 0) > 0)
        socket_send(fd, i->answer);
    if (!i->answer) /* until the client has had enough */
        while (recv(fd, request, sizeof request, 0) > 0)
            ;
    close(fd);
    return NULL;
}

static void what_is_no_healthy_answer_is_said(void **state)
{
    static const struct {
        const char *answer, *said;
    } cases[] = {
        {"", "no HTTP answer"},
        {"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "no HTTP answer"},
        {"HTTP/1.1 200", "no HTTP answer"},
        {"HTTP/1.1 x\r\n\r\n", "no HTTP answer"},
        {"HTTP/1.0 404 Not Found\r\n\r\nwho are\nyou", "not ready: 404 who are\n"},
        {"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "not ready: 301 \n"},
        {NULL, "Connection timed out"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        int port;
        pthread_t thread;
        struct impostor impostor = {.answer = cases[i].answer};
        impostor.listener = listen_anywhere(&port);
        assert_int_equal(pthread_create(&thread, NULL, answer_once, &impostor), 0);
        assert_int_equal(check(port, "127.0.0.1", text, sizeof text), 1);
        pthread_join(thread, NULL);
        close(impostor.listener);
        if (!strstr(text, cases[i].said))
            fail_msg("case %zu: %s", i, text);
    }
}

static void a_server_is_healthy_while_it_is_ready(void **state)
{
    static const char *const arguments[] = {"--drain-delay", "30", NULL};
    struct fixture f;
    char text[512];
    (void)state;
    fixture_open(&f);
    fixture_start(&f, arguments);
    while (check(f.port, "127.0.0.1", text, sizeof text) == 1 && strstr(text, "being loaded"))
        ;
    assert_non_null(
        strstr(text, "predictd: not ready: 503 {\"error\":\"no models are served\"}\n"));

    publish_linear(f.models, "m", 1, 1);
    assert_int_equal(request(f.admin_port, "POST", "/reload", NULL, NULL, 0), 200);
    assert_int_equal(check(f.port, "127.0.0.1", text, sizeof text), 0);
    assert_string_equal(text, "ready\n");
    assert_int_equal(check(f.port, "0.0.0.0", text, sizeof text), 0); /* whichever has it */
    struct addrinfo *found = NULL;      /* not everywhere is there an /etc/hosts */
    if (getaddrinfo("localhost", NULL, NULL, &found) == 0) {
        freeaddrinfo(found);
        assert_int_equal(check(f.port, "localhost", text, sizeof text), 0);
    }

    assert_int_equal(kill(f.pid, SIGTERM), 0);
    while (check(f.port, "127.0.0.1", text, sizeof text) == 0)
        ;
    assert_non_null(strstr(text, "the server is draining"));
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_port_where_nobody_listens_is_not_healthy),
        cmocka_unit_test(a_free_port_cannot_be_asked),
        cmocka_unit_test(what_is_no_healthy_answer_is_said),
        cmocka_unit_test(a_server_is_healthy_while_it_is_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
