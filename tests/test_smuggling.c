/*
 * The forms of request smuggling through the real HAProxy and the real nginx, which share few
 * connections to the server among all clients: no request is executed that its sender is not
 * answered, and nobody gets an answer that is not his.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/framing_cases.h"
#include "tests/server_fixture.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE = 60000, QUIET = 50 }; /* milliseconds */

/* the scene */

struct scene {
    struct fixture server;
    pid_t proxy;
    int port;
};

struct proxy {
    const char *program;
    const char *arguments[8];   /* CONFIGURATION and FOLDER stand for the test's */
    void (*configure)(FILE *out, const struct scene *scene);
};

static void configure_haproxy(FILE *out, const struct scene *s)
{
    fprintf(out,
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n"
            " timeout server 60s\n http-reuse always\n retries 3\n"
            " retry-on conn-failure empty-response\n"
            "frontend f\n bind 127.0.0.1:%d\n default_backend b\n"
            "backend b\n server s 127.0.0.1:%d\n",
            s->port, s->server.port);
}

static void configure_nginx(FILE *out, const struct scene *s)
{
    fprintf(out,
            "daemon off; master_process off; pid %s/pid; error_log stderr crit; events {}\n"
            "http { access_log off; client_body_temp_path body; proxy_temp_path proxy;\n"
            "fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n"
            "client_max_body_size 64m;\n"
            "server { listen 127.0.0.1:%d; location / { proxy_pass http://backend;\n"
            "proxy_http_version 1.1; proxy_set_header Connection \"\"; } }\n"
            "upstream backend { server 127.0.0.1:%d max_fails=0; keepalive 2; } }\n",
            s->server.folder, s->port, s->server.port);
}

static const struct proxy haproxy = {
    .program = "/usr/sbin/haproxy",
    .arguments = {"haproxy", "-db", "-f", "CONFIGURATION", NULL},
    .configure = configure_haproxy,
};

static const struct proxy nginx = {
    .program = "/usr/sbin/nginx",
    .arguments = {"nginx", "-p", "FOLDER", "-c", "CONFIGURATION", "-e", "stderr", NULL},
    .configure = configure_nginx,
};

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void start_proxy(struct scene *s, const struct proxy *p)
{
    char path[FIXTURE_PATH + 16], log[FIXTURE_PATH + 16], *argv[8] = {NULL};

    s->port = free_port();
    snprintf(path, sizeof path, "%s/configuration", s->server.folder);
    snprintf(log, sizeof log, "%s/proxy-log", s->server.folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    p->configure(file, s);
    assert_int_equal(fclose(file), 0);
    for (int i = 0; p->arguments[i]; i++)
        argv[i] = strcmp(p->arguments[i], "CONFIGURATION") == 0 ? path
                  : strcmp(p->arguments[i], "FOLDER") == 0      ? s->server.folder
                                                                : (char *)p->arguments[i];
    s->proxy = fork();
    assert_true(s->proxy >= 0);
    if (s->proxy == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        dup2(fd, 1);
        dup2(fd, 2);
        execv(p->program, argv);
        _exit(127);
    }
    for (int waited = 0; request(s->port, "GET", "/health", NULL, NULL, 0) != 200;
         waited += 20) {
        if (waited >= PATIENCE || waitpid(s->proxy, NULL, WNOHANG) == s->proxy)
            fail_msg("%s does not start", p->program);
        usleep(20000);
    }
}

static void open_scene(struct scene *s, const struct proxy *p)
{
    static const char *const arguments[] = {"--threads", "1", "--max-body", "1000000", NULL};
    if (access(p->program, X_OK) != 0) {
        print_message("skipped: there is no %s\n", p->program);
        skip();
    }
    *s = (struct scene){.port = 0};
    fixture_open(&s->server);
    publish_linear(s->server.models, "m", 1, 1);
    fixture_start(&s->server, arguments);
    fixture_wait_ready(&s->server);
    start_proxy(s, p);
}

static void close_scene(struct scene *s)
{
    kill(s->proxy, SIGTERM);
    waitpid(s->proxy, NULL, 0);
    assert_int_equal(fixture_stop(&s->server), 0);
    fixture_close(&s->server);
}

/* How often the server executed the hidden request, which names a model that is not there. */
static int executed(const struct scene *s)
{
    static const char sample[] =
        "\npredictd_http_requests_total{route=\"/models/{m}\",code=\"404\"} ";
    static char text[65536];
    assert_int_equal(request(s->server.port, "GET", "/metrics", NULL, text, sizeof text), 200);
    const char *found = strstr(text, sample);
    return found ? atoi(found + strlen(sample)) : 0;
}

/* How often its answer stands in what a client got. */
static int answered(const char *text)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, "there is no model " FRAMING_HIDDEN)); p++)
        n++;
    return n;
}

/* Reads until the end or a pause. */
static void read_more(int fd, char *text, size_t size)
{
    struct pollfd event = {.fd = fd, .events = POLLIN};
    size_t got = strlen(text);
    while (got + 1 < size && poll(&event, 1, QUIET) == 1) {
        ssize_t n = recv(fd, text + got, size - 1 - got, 0);
        if (n <= 0)
            break;
        text[got += (size_t)n] = 0;
    }
}

/* Others, on connections of their own. */
static void assert_innocents_are_served(const struct scene *s, const char *name)
{
    for (int i = 0; i < 3; i++) {
        char body[512];
        int status = request(s->port, "GET", "/health/live", NULL, body, sizeof body);
        if (status != 200 || strcmp(body, "{\"status\":\"live\"}") != 0)
            fail_msg("%s: another client got %d %s", name, status, body);
    }
}

static void smuggle_through(const struct proxy *p)
{
    struct scene s;
    int seen = 0;

    open_scene(&s, p);
    for (size_t i = 0; i < n_framing_cases; i++) {
        const struct framing_case *c = &framing_cases[i];
        char text[16384] = "";
        int fd = socket_connect(s.port), waited = 0;

        assert_true(fd >= 0);
        send(fd, c->bytes, c->size, MSG_NOSIGNAL);
        do {
            read_more(fd, text, sizeof text);
            waited += QUIET;
            assert_innocents_are_served(&s, c->name);
        } while (executed(&s) != seen + answered(text) && waited < PATIENCE / 10);
        seen += answered(text);
        close(fd);
        if (executed(&s) != seen)
            fail_msg("%s: executed %d times, answered %d times", c->name, executed(&s), seen);
    }
    close_scene(&s);
}

static void nothing_is_smuggled_through_haproxy(void **state)
{
    (void)state;
    smuggle_through(&haproxy);
}

static void nothing_is_smuggled_through_nginx(void **state)
{
    (void)state;
    smuggle_through(&nginx);
}

/* A server that answered and closed before it had read everything would become a 502. */
static void refuse_large_bodies_through(const struct proxy *p)
{
    enum { SIZE = 4 << 20 };
    struct scene s;
    char *body = malloc(SIZE + 1), answer[256];

    assert_non_null(body);
    open_scene(&s, p);
    memset(body, ' ', SIZE);
    body[SIZE] = 0;
    for (int i = 0; i < 10; i++)
        assert_int_equal(request(s.port, "POST", "/predict", body, answer, sizeof answer), 413);
    close_scene(&s);
    free(body);
}

static void a_large_body_is_refused_through_haproxy(void **state)
{
    (void)state;
    refuse_large_bodies_through(&haproxy);
}

static void a_large_body_is_refused_through_nginx(void **state)
{
    (void)state;
    refuse_large_bodies_through(&nginx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_smuggled_through_haproxy),
        cmocka_unit_test(nothing_is_smuggled_through_nginx),
        cmocka_unit_test(a_large_body_is_refused_through_haproxy),
        cmocka_unit_test(a_large_body_is_refused_through_nginx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
