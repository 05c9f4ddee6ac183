/*
 * Two servers behind the real HAProxy and the real nginx, with the configurations in docker/:
 * both are restarted, one after the other, under load, and no client notices.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVERS = 2, CLIENTS = 8, PATIENCE = 60000, TEXT = 16384 };

/* A load balancer: where it is, how it is called, and what in its configuration belongs to
 * this machine. FOLDER, LISTEN, OPERATE, ONE and TWO stand for values of the test. */
struct balancer {
    const char *name, *program, *configuration;
    const char *arguments[12];
    const char *drain_delay;
    struct {
        const char *from, *to;
    } changes[8];
    bool checks; /* has health checks, and says on OPERATE what they found */
};

static const struct balancer haproxy = {
    .name = "haproxy",
    .program = "/usr/sbin/haproxy",
    .configuration = "docker/haproxy.cfg",
    .arguments = {"haproxy", "-db", "-f", "FOLDER/configuration", NULL},
    .drain_delay = "2", /* as the configuration asks for */
    .changes = {{"bind :8080", "bind 127.0.0.1:LISTEN"},
                {"bind :8404", "bind 127.0.0.1:OPERATE"},
                {"predictd-1:8080", "127.0.0.1:ONE"},
                {"predictd-2:8080", "127.0.0.1:TWO"},
                {"log stdout format raw local0 info", ""},
                {"    parse-resolv-conf", ""}},
    .checks = true,
};

static const struct balancer nginx = {
    .name = "nginx",
    .program = "/usr/sbin/nginx",
    .configuration = "docker/nginx.conf",
    .arguments = {"nginx", "-p", "FOLDER", "-c", "FOLDER/configuration", "-e", "stderr", "-g",
                  "daemon off;", NULL},
    .drain_delay = "0.2", /* it has no checks that could notice one */
    .changes = {{"listen 8080", "listen 127.0.0.1:LISTEN"},
                {"predictd-1:8080", "127.0.0.1:ONE"},
                {"predictd-2:8080", "127.0.0.1:TWO"},
                {"/tmp/", "FOLDER/"}},
};

/* the scene */

struct scene {
    struct fixture servers[SERVERS];
    char folder[FIXTURE_PATH]; /* the balancer's */
    pid_t balancer;
    int port, operators;
    pthread_t threads[CLIENTS];
    int clients; /* threads that run */
    atomic_bool over;
    atomic_int answered, failed;
    char failure[512]; /* of the first that failed */
};

/* Ports that are free now, all of them different. */
static void take_ports(int *ports, int n)
{
    int sockets[8];
    for (int i = 0; i < n; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET,
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof address;
        sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(sockets[i], (struct sockaddr *)&address, size), 0);
        assert_int_equal(getsockname(sockets[i], (struct sockaddr *)&address, &size), 0);
        ports[i] = ntohs(address.sin_port);
    }
    for (int i = 0; i < n; i++)
        close(sockets[i]);
}

/* Every `from` becomes `to`; returns how many there were. */
static int replace(char text[TEXT], const char *from, const char *to)
{
    char *at = text;
    int n = 0;
    while ((at = strstr(at, from))) {
        size_t rest = strlen(at + strlen(from)) + 1;
        assert_true((size_t)(at - text) + strlen(to) + rest <= TEXT);
        memmove(at + strlen(to), at + strlen(from), rest);
        memcpy(at, to, strlen(to));
        at += strlen(to);
        n++;
    }
    return n;
}

static void fill_in(char text[TEXT], const struct scene *s)
{
    const struct {
        const char *name;
        int port;
    } ports[] = {{"LISTEN", s->port},
                 {"OPERATE", s->operators},
                 {"ONE", s->servers[0].port},
                 {"TWO", s->servers[1].port}};
    replace(text, "FOLDER", s->folder);
    for (int i = 0; i < 4; i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", ports[i].port);
        replace(text, ports[i].name, number);
    }
}

static void write_configuration(const struct scene *s, const struct balancer *b)
{
    char text[TEXT], change[TEXT], path[FIXTURE_PATH + 16];
    FILE *file = fopen(b->configuration, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    for (int i = 0; i < 8 && b->changes[i].from; i++) {
        snprintf(change, sizeof change, "%s", b->changes[i].to);
        fill_in(change, s);
        if (replace(text, b->changes[i].from, change) == 0)
            fail_msg("%s does not say \"%s\"", b->configuration, b->changes[i].from);
    }
    snprintf(path, sizeof path, "%s/configuration", s->folder);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void start_balancer(struct scene *s, const struct balancer *b)
{
    static char texts[12][TEXT];
    char *argv[12] = {NULL};
    for (int i = 0; b->arguments[i]; i++) {
        snprintf(texts[i], TEXT, "%s", b->arguments[i]);
        fill_in(texts[i], s);
        argv[i] = texts[i];
    }
    write_configuration(s, b);
    s->balancer = fork();
    assert_true(s->balancer >= 0);
    if (s->balancer == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* so that nginx ends its workers */
        char log[FIXTURE_PATH + 8];
        snprintf(log, sizeof log, "%s/log", s->folder);
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
        dup2(fd, 1);
        dup2(fd, 2);
        execv(b->program, argv);
        _exit(127);
    }
}

/* Both servers are up in the eyes of the balancer: in HAProxy's table by its checks; nginx
 * learns by trying. */
static bool sees_both(const struct scene *s, const struct balancer *b)
{
    static char table[65536];
    if (!b->checks)
        return request(s->port, "GET", "/health", NULL, NULL, 0) == 200;
    if (request(s->operators, "GET", "/;csv", NULL, table, sizeof table) != 200)
        return false;
    for (int i = 0; i < SERVERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "predictd,predictd-%d,", i + 1);
        const char *row = strstr(table, name);
        size_t size = row ? strcspn(row, "\n") : 0;
        if (!row || !memmem(row, size, ",UP,", 4))
            return false;
    }
    return true;
}

static void wait_until_seen(const struct scene *s, const struct balancer *b)
{
    for (int waited = 0; waited < PATIENCE; waited += 20) {
        if (sees_both(s, b))
            return;
        assert_int_equal(waitpid(s->balancer, NULL, WNOHANG), 0);
        usleep(20000);
    }
    fail_msg("%s does not see both servers", b->name);
}

/* load */

/* Half of the clients keep their connection, as long as they are let. */
static void *run_client(void *arg)
{
    static atomic_int numbers;
    struct scene *s = arg;
    bool keeps = atomic_fetch_add(&numbers, 1) % 2;
    const char *connection = keeps ? "keep-alive" : "close";
    char text[256];
    int fd = -1;

    snprintf(text, sizeof text,
             "POST /predict HTTP/1.1\r\nHost: x\r\nConnection: %s\r\nContent-Length: 25\r\n\r\n"
             "{\"instances\":[[1,2,3,4]]}",
             connection);
    while (!atomic_load(&s->over)) {
        char body[512] = "";
        bool closes = true;
        int status = 0;
        if (fd < 0)
            fd = socket_connect(s->port);
        if (fd >= 0) {
            socket_send(fd, text);
            status = socket_answer_close(fd, body, sizeof body, &closes);
        }
        if (status == 200 && strstr(body, "{\"predictions\":[[8.5,")) {
            atomic_fetch_add(&s->answered, 1);
        } else if (atomic_fetch_add(&s->failed, 1) == 0) {
            snprintf(s->failure, sizeof s->failure, "%s connection: status %d, %.300s",
                     connection, status, body);
        }
        if (fd >= 0 && (closes || !keeps)) {
            close(fd);
            fd = -1;
        }
        usleep(2000); /* what is tested is restarting, not speed */
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void wait_for_answers(const struct scene *s, int more)
{
    int until = atomic_load(&s->answered) + more;
    while (atomic_load(&s->answered) < until && atomic_load(&s->failed) == 0)
        usleep(1000);
}

/* How many predictions the server has answered since it was started. */
static int predictions_of(const struct fixture *f)
{
    static char text[65536];
    assert_int_equal(request(f->port, "GET", "/metrics", NULL, text, sizeof text), 200);
    const char *row = strstr(text, "predictd_http_requests_total{route=\"/predict\"");
    return row ? atoi(strchr(row, ' ')) : 0;
}

/* the test */

static void start_server(struct fixture *f, const char *drain_delay, int port)
{
    char number[16];
    const char *const arguments[] = {"--drain-delay", drain_delay, "--threads", "1",
                                     "--port",        number,      NULL};
    snprintf(number, sizeof number, "%d", port);
    fixture_start(f, arguments);
}

static struct scene scene;

static void open_scene(struct scene *s, const struct balancer *b)
{
    int ports[2];
    *s = (struct scene){.folder = "/tmp/predictd-test-XXXXXX"};
    assert_non_null(mkdtemp(s->folder));
    assert_int_equal(chmod(s->folder, 0755), 0); /* nginx's workers are nobody */
    for (int i = 0; i < SERVERS; i++) {
        fixture_open(&s->servers[i]);
        publish_linear(s->servers[i].models, "m", 1, 1);
        start_server(&s->servers[i], b->drain_delay, 0);
        fixture_wait_ready(&s->servers[i]);
    }
    take_ports(ports, 2);
    s->port = ports[0];
    s->operators = ports[1];
    start_balancer(s, b);
    wait_until_seen(s, b);
}

static void stop_load(struct scene *s)
{
    atomic_store(&s->over, true);
    for (; s->clients > 0; s->clients--)
        pthread_join(s->threads[s->clients - 1], NULL);
}

/* Also after a test that failed: cmocka's teardown. */
static int close_scene(void **state)
{
    struct scene *s = &scene;
    (void)state;
    stop_load(s);
    if (s->balancer > 0) {
        kill(s->balancer, SIGTERM);
        waitpid(s->balancer, NULL, 0);
        s->balancer = 0;
    }
    for (int i = 0; i < SERVERS; i++)
        if (s->servers[i].folder[0])
            fixture_close(&s->servers[i]);
    struct fixture rest = {0}; /* removes the balancer's folder */
    memcpy(rest.folder, s->folder, sizeof rest.folder);
    if (rest.folder[0])
        fixture_close(&rest);
    memset(s, 0, sizeof *s);
    return 0;
}

static void restart_both_under_load(const struct balancer *b)
{
    struct scene *s = &scene;

    if (access(b->program, X_OK) != 0) {
        print_message("skipped: %s is not installed\n", b->program);
        skip();
    }
    open_scene(s, b);
    for (; s->clients < CLIENTS; s->clients++)
        assert_int_equal(pthread_create(&s->threads[s->clients], NULL, run_client, s), 0);
    for (int i = 0; i < SERVERS; i++) {
        struct fixture *f = &s->servers[i];
        wait_for_answers(s, 100);
        assert_true(predictions_of(f) > 0);
        assert_int_equal(fixture_stop(f), 0);
        wait_for_answers(s, 100); /* by the other one alone */
        start_server(f, b->drain_delay, f->port);
        fixture_wait_ready(f);
        wait_until_seen(s, b);
    }
    wait_for_answers(s, 100);
    stop_load(s);
    if (atomic_load(&s->failed))
        fail_msg("%d of %d failed; the first: %s", s->failed, s->failed + s->answered,
                 s->failure);
    for (int i = 0; i < SERVERS; i++) {
        assert_true(predictions_of(&s->servers[i]) > 0);
        assert_int_equal(fixture_stop(&s->servers[i]), 0);
    }
}

static void both_servers_behind_haproxy_restart_unnoticed(void **state)
{
    (void)state;
    restart_both_under_load(&haproxy);
}

static void both_servers_behind_nginx_restart_unnoticed(void **state)
{
    (void)state;
    restart_both_under_load(&nginx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(both_servers_behind_haproxy_restart_unnoticed, close_scene),
        cmocka_unit_test_teardown(both_servers_behind_nginx_restart_unnoticed, close_scene),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
