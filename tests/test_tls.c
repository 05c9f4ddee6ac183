/*
 * TLS: with libcurl (OpenSSL) as the client of GnuTLS as the server, and certificates that
 * openssl makes here.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BODY "{\"instances\":[[1,2,3,4]]}"
#define LIVE "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"

enum { PATIENCE = 60000, PATH = FIXTURE_PATH + 16 }; /* milliseconds */

static char folder[] = "/tmp/predictd-tls-XXXXXX";

/* first and second are pairs, third is another key */
static int make_certificates(void **state)
{
    static const char *const kinds[] = {"ec -pkeyopt ec_paramgen_curve:prime256v1", "rsa:2048",
                                        "ec -pkeyopt ec_paramgen_curve:prime256v1"};
    static const char *const names[] = {"first", "second", "third"};
    char command[1024];
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    for (int i = 0; i < 3; i++) {
        snprintf(command, sizeof command,
                 "openssl req -x509 -newkey %s -nodes -keyout %s/%s.key -out %s/%s.crt -days 2 "
                 "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null",
                 kinds[i], folder, names[i], folder, names[i]);
        if (system(command) != 0)
            return -1;
    }
    return 0;
}

static int remove_certificates(void **state)
{
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command) == 0 ? 0 : -1;
}

static const char *made(const char *name)
{
    static char paths[4][64];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void copy(const char *from, const char *to)
{
    char bytes[16384];
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    assert_non_null(in);
    assert_non_null(out);
    size_t n = fread(bytes, 1, sizeof bytes, in);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    fclose(in);
    fclose(out);
}

struct secured {
    struct fixture f;
    char certificate[PATH], key[PATH];
};

/* The first pair, in files of the fixture's own, on the data port; ready. */
static void serve(struct secured *s, const char *const *more)
{
    const char *arguments[16] = {"--tls-cert", s->certificate, "--tls-key", s->key};
    int n = 4;
    fixture_open(&s->f);
    snprintf(s->certificate, PATH, "%s/crt", s->f.folder);
    snprintf(s->key, PATH, "%s/key", s->f.folder);
    copy(made("first.crt"), s->certificate);
    copy(made("first.key"), s->key);
    publish_linear(s->f.models, "m", 1, 1);
    while (more && *more)
        arguments[n++] = *more++;
    fixture_start(&s->f, arguments);
    struct client *c = client_new_secure(made("first.crt"));
    int status = 0;
    for (int waited = 0; waited < PATIENCE && status != 200; waited += 10) {
        struct reply *reply = client_call(c, s->f.port, "GET", "/health", NULL, NULL);
        status = reply->status;
        reply_free(reply);
        usleep(10000);
    }
    assert_int_equal(status, 200);
    client_free(c);
}

/* The status over a connection of its own; 0: the server is not who `certificate` says. */
static int call(int port, const char *certificate, const char *method, const char *path,
                const char *body)
{
    struct client *c = client_new_secure(certificate);
    struct reply *reply = client_call(c, port, method, path, NULL, body);
    int status = reply->status;
    reply_free(reply);
    client_free(c);
    return status;
}

static void requests_and_answers_of_any_size_pass(void **state)
{
    static const char *const more[] = {"--max-instances", "1000000", NULL};
    struct secured s;
    struct client *c = client_new_secure(made("first.crt"));
    char *large = linear_body(300000);
    (void)state;
    serve(&s, more);
    for (int i = 0; i < 4; i++) {
        struct reply *reply =
            client_call(c, s.f.port, "POST", "/predict", NULL, i % 2 ? large : BODY);
        assert_int_equal(reply->status, 200);
        assert_int_equal(reply->reused, i > 0);
        if (i % 2)
            assert_true(reply->size > 1000000);
        assert_non_null(strstr(reply->body + reply->size - 64, "\"model_version\":\"1\"}"));
        reply_free(reply);
    }
    client_free(c);
    free(large);
    fixture_end(&s.f);
}

static void each_listener_has_a_pair_of_its_own(void **state)
{
    char text[4096], port[16];
    struct secured s;
    (void)state;
    serve(&s, NULL);
    assert_int_equal(request(s.f.admin_port, "GET", "/health", NULL, NULL, 0), 200);
    assert_int_equal(request(s.f.port, "GET", "/health", NULL, NULL, 0), 0);
    assert_int_equal(call(s.f.port, made("second.crt"), "GET", "/health", NULL), 0);
    snprintf(port, sizeof port, "%d", s.f.port);
    const char *const check[] = {"--healthcheck", "--host",   "127.0.0.1", "--port", port,
                                 "--tls-cert",    "whatever", "--tls-key", "it is",  NULL};
    assert_int_equal(fixture_run(check, NULL, text, sizeof text), 0);
    assert_string_equal(text, "ready\n");
    const char *const plain[] = {"--healthcheck", "--host", "127.0.0.1", "--port", port, NULL};
    assert_int_equal(fixture_run(plain, NULL, text, sizeof text), 1);
    fixture_end(&s.f);

    const char *const more[] = {"--admin-tls-cert", made("second.crt"), "--admin-tls-key",
                                made("second.key"), NULL};
    serve(&s, more);
    assert_int_equal(call(s.f.admin_port, made("second.crt"), "POST", "/reload", ""), 200);
    assert_int_equal(call(s.f.admin_port, made("first.crt"), "POST", "/reload", ""), 0);
    assert_int_equal(call(s.f.port, made("first.crt"), "POST", "/predict", BODY), 200);
    fixture_end(&s.f);
}

static void a_health_check_of_a_plain_server_by_tls_says_what_is_wrong(void **state)
{
    struct fixture f;
    char text[4096], port[16];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    snprintf(port, sizeof port, "%d", f.port);
    const char *const check[] = {"--healthcheck", "--host",   "127.0.0.1", "--port", port,
                                 "--tls-cert",    "whatever", "--tls-key", "it is",  NULL};
    assert_int_equal(fixture_run(check, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "no answer on port"));
    assert_non_null(strstr(text, "TLS"));
    fixture_end(&f);
}

/* renewal */

static void a_reload_renews_the_certificate_of_new_connections(void **state)
{
    struct secured s;
    char body[4096];
    struct client *old = client_new_secure(made("first.crt"));
    (void)state;
    serve(&s, NULL);
    struct reply *reply = client_call(old, s.f.port, "POST", "/predict", NULL, BODY);
    assert_int_equal(reply->status, 200);
    reply_free(reply);

    copy(made("second.crt"), s.certificate);
    copy(made("second.key"), s.key);
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", NULL, 0), 200);
    assert_int_equal(call(s.f.port, made("second.crt"), "POST", "/predict", BODY), 200);
    assert_int_equal(call(s.f.port, made("first.crt"), "POST", "/predict", BODY), 0);
    reply = client_call(old, s.f.port, "POST", "/predict", NULL, BODY);
    assert_int_equal(reply->status, 200);
    assert_true(reply->reused);
    reply_free(reply);
    client_free(old);

    /* One file is not enough, and a broken one is nothing at all. */
    copy(made("first.crt"), s.certificate);
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", body, sizeof body), 500);
    assert_non_null(strstr(body, "/key: is not the key of "));
    assert_int_equal(call(s.f.port, made("second.crt"), "POST", "/predict", BODY), 200);
    unlink(s.key);
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", body, sizeof body), 500);
    assert_non_null(strstr(body, "/key: No such file or directory"));
    assert_int_equal(call(s.f.port, made("second.crt"), "POST", "/predict", BODY), 200);
    char *log = fixture_log(&s.f);
    assert_non_null(strstr(log, "certificate kept"));
    free(log);

    copy(made("first.key"), s.key);
    assert_int_equal(kill(s.f.pid, SIGHUP), 0);
    int status = 0;
    for (int waited = 0; waited < PATIENCE && status != 200; waited += 20) {
        status = call(s.f.port, made("first.crt"), "POST", "/predict", BODY);
        usleep(20000);
    }
    assert_int_equal(status, 200);
    fixture_end(&s.f);
}

/* By the admin port, which is plain here. */
static double metric(struct secured *s, const char *name)
{
    struct fixture f = s->f;
    f.port = f.admin_port;
    return fixture_metric(&f, name);
}

static void metrics_say_when_it_expires_and_that_a_renewal_failed(void **state)
{
    struct secured s;
    double day = 24 * 3600;
    (void)state;
    serve(&s, NULL);
    double expires =
        metric(&s, "predictd_certificate_expiry_timestamp_seconds{listener=\"data\"}");
    assert_true(expires > (double)time(NULL) + day && expires < (double)time(NULL) + 3 * day);
    assert_true(
        metric(&s, "predictd_certificate_expiry_timestamp_seconds{listener=\"admin\"}") == -1);
    assert_true(metric(&s, "predictd_last_reload_successful") == 1);
    unlink(s.key);
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", NULL, 0), 500);
    assert_true(metric(&s, "predictd_last_reload_successful") == 0);
    fixture_end(&s.f);
}

static void an_expired_certificate_is_warned_of_and_presented(void **state)
{
    struct secured s;
    char command[2048], text[8192];
    (void)state;
    serve(&s, NULL);
    snprintf(command, sizeof command,
             "openssl x509 -in %s -signkey %s -days 0 -out %s.new 2>/dev/null && mv %s.new %s",
             s.certificate, s.key, s.certificate, s.certificate, s.certificate);
    assert_int_equal(system(command), 0);
    const char *const arguments[] = {"--check",     "--models",  s.f.models, "--tls-cert",
                                     s.certificate, "--tls-key", s.key,      NULL};
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 0);
    assert_non_null(strstr(text, "\"warning\",\"event\":\"certificate expired\",\"file\":\""));
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", NULL, 0), 200);
    char *log = fixture_log(&s.f);
    assert_non_null(strstr(log, "\"certificate expired\",\"file\":\""));
    free(log);
    double expires =
        metric(&s, "predictd_certificate_expiry_timestamp_seconds{listener=\"data\"}");
    assert_true(expires > 0 && expires <= (double)time(NULL));
    fixture_end(&s.f);
}

/* Whether openssl resumes its session of before. */
static bool resumes(const struct secured *s, bool first)
{
    char command[512], line[64] = "";
    snprintf(command, sizeof command,
             "{ printf 'GET /health HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n'; "
             "sleep 1; } | openssl s_client -connect 127.0.0.1:%d -ign_eof -sess_%s %s/session "
             "2>/dev/null | grep -o -E '^(New|Reused), TLS'",
             s->f.port, first ? "out" : "in", s->f.folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof line, pipe));
    pclose(pipe);
    return strncmp(line, "Reused", 6) == 0;
}

static void a_session_is_resumed_until_the_certificate_changes(void **state)
{
    struct secured s;
    (void)state;
    serve(&s, NULL);
    assert_false(resumes(&s, true));
    assert_true(resumes(&s, false));
    copy(made("second.crt"), s.certificate);
    copy(made("second.key"), s.key);
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", NULL, 0), 200);
    assert_false(resumes(&s, false));
    fixture_end(&s.f);
}

static void renewals_leave_nothing_behind(void **state)
{
    static const char *const names[] = {"first", "second"};
    struct secured s;
    char name[16];
    (void)state;
    serve(&s, NULL);
    for (int i = 1; i <= 40; i++) {
        struct client *c;
        snprintf(name, sizeof name, "%s.crt", names[i % 2]);
        copy(made(name), s.certificate);
        c = client_new_secure(made(name));
        snprintf(name, sizeof name, "%s.key", names[i % 2]);
        copy(made(name), s.key);
        assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", NULL, 0), 200);
        struct reply *reply = client_call(c, s.f.port, "GET", "/health", NULL, NULL);
        assert_int_equal(reply->status, 200);
        reply_free(reply);
        client_free(c);
    }
    fixture_end(&s.f); /* the leak sanitizer would make this fail */
}

/* strange clients */

static const struct {
    const char *name, *text;
    size_t size;
} openings[] = {
    {"nothing", "", 0},
    {"a part of a hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11},
    {"a hello that promises much", "\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03", 11},
};

static void who_does_not_finish_the_handshake_is_cut_off(void **state)
{
    static const char *const more[] = {"--header-timeout", "1", "--threads", "1", NULL};
    struct secured s;
    struct timeval patience = {.tv_sec = PATIENCE / 1000};
    char body[64];
    (void)state;
    serve(&s, more);
    for (size_t i = 0; i < sizeof openings / sizeof openings[0]; i++) {
        int fd = socket_connect(s.f.port);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        assert_int_equal(send(fd, openings[i].text, openings[i].size, MSG_NOSIGNAL),
                         openings[i].size);
        assert_int_equal(call(s.f.port, made("first.crt"), "GET", "/health", NULL), 200);
        ssize_t n;
        do
            n = recv(fd, body, sizeof body, 0); /* an alert, perhaps */
        while (n > 0);
        if (n < 0)
            fail_msg("%s: the connection stays", openings[i].name);
        close(fd);
    }
    fixture_end(&s.f);
}

static void who_speaks_no_tls_gets_no_answer(void **state)
{
    struct secured s;
    char noise[4096];
    (void)state;
    serve(&s, NULL);
    for (int i = 0; i < 3; i++) {
        int fd = socket_connect(s.f.port);
        for (size_t k = 0; k < sizeof noise; k++)
            noise[k] = (char)(k * k >> 3 ^ k);
        if (i == 0)
            socket_send(fd, LIVE);
        else
            send(fd, noise, sizeof noise, MSG_NOSIGNAL);
        assert_int_equal(socket_answer(fd, NULL, 0), 0);
        close(fd);
    }
    assert_int_equal(call(s.f.port, made("first.crt"), "GET", "/health", NULL), 200);
    fixture_end(&s.f);
}

/* start */

static void expect_refusal(const char *certificate, const char *key, const char *says)
{
    const char *const arguments[] = {"--tls-cert", certificate,    "--tls-key", key, "--port",
                                     "0",          "--admin-port", "0",         NULL};
    char text[4096];
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    if (!strstr(text, says))
        fail_msg("expected \"%s\", got \"%s\"", says, text);
}

static void bad_files_are_named_at_start(void **state)
{
    static const char *const lonely[] = {"--tls-cert", "a", NULL};
    static const char *const admin[] = {"--admin-tls-key", "a", NULL};
    char text[4096];
    (void)state;
    assert_int_equal(fixture_run(lonely, NULL, text, sizeof text), 1);
    assert_non_null(
        strstr(text, "--tls-cert and --tls-key: one is of no use without the other"));
    assert_int_equal(fixture_run(admin, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "--admin-tls-cert and --admin-tls-key: one is of no use"));
    expect_refusal("/nowhere/crt", made("first.key"), "/nowhere/crt: No such file");
    expect_refusal(folder, made("first.key"), ": expected a file");
    expect_refusal(made("first.key"), made("first.key"),
                   "first.key: expected certificates in PEM: ");
    expect_refusal(made("first.crt"), made("first.crt"),
                   "first.crt: expected a private key in PEM, without a password: ");
    expect_refusal(made("first.crt"), made("third.key"), "third.key: is not the key of ");
    expect_refusal("/dev/null", made("first.key"), "/dev/null: expected a file");
}

/* Without memory for a signature the libraries below GnuTLS end the process. */
static void a_handshake_is_begun_only_with_room_for_it(void **state)
{
    const char *plain = fixture_plain_build(); /* a sanitizer has no bounds */
    char used[64], path[64];
    struct rlimit limit;
    struct secured s;
    long pages;
    (void)state;

    if (!plain) {
        print_message("skipped: there is no server without sanitizers\n");
        skip();
    }
    setenv("PREDICTD_BUILD", plain, 1);
    serve(&s, NULL);
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", NULL, 0), 200);
    snprintf(path, sizeof path, "/proc/%d/statm", (int)s.f.pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(used, sizeof used, file));
    fclose(file);
    pages = strtol(used, NULL, 10);
    assert_int_equal(prlimit(s.f.pid, RLIMIT_AS, NULL, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)(pages * sysconf(_SC_PAGESIZE)) + (1 << 20);
    assert_int_equal(prlimit(s.f.pid, RLIMIT_AS, &limit, NULL), 0);
    assert_int_equal(call(s.f.port, made("first.crt"), "GET", "/health", NULL), 0);
    assert_int_equal(request(s.f.admin_port, "GET", "/health", NULL, NULL, 0), 200);
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", NULL, 0), 500);
    limit.rlim_cur = before;
    assert_int_equal(prlimit(s.f.pid, RLIMIT_AS, &limit, NULL), 0);
    assert_int_equal(call(s.f.port, made("first.crt"), "GET", "/health", NULL), 200);
    assert_int_equal(request(s.f.admin_port, "POST", "/reload", "", NULL, 0), 200);
    fixture_end(&s.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_and_answers_of_any_size_pass),
        cmocka_unit_test(each_listener_has_a_pair_of_its_own),
        cmocka_unit_test(a_health_check_of_a_plain_server_by_tls_says_what_is_wrong),
        cmocka_unit_test(a_reload_renews_the_certificate_of_new_connections),
        cmocka_unit_test(an_expired_certificate_is_warned_of_and_presented),
        cmocka_unit_test(metrics_say_when_it_expires_and_that_a_renewal_failed),
        cmocka_unit_test(a_session_is_resumed_until_the_certificate_changes),
        cmocka_unit_test(renewals_leave_nothing_behind),
        cmocka_unit_test(who_does_not_finish_the_handshake_is_cut_off),
        cmocka_unit_test(who_speaks_no_tls_gets_no_answer),
        cmocka_unit_test(bad_files_are_named_at_start),
        cmocka_unit_test(
            a_handshake_is_begun_only_with_room_for_it), /* last: of another build */
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
