/*
 * Who may ask: admin tokens, API keys, and pages of other origins.
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
#include <unistd.h>

#define BODY "{\"instances\":[[1,2,3,4]]}"
#define V2_BODY \
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,4],\"data\":[1,2,3,4]}]}"
#define KEY "first-key.of_two~+/=="
#define OTHER "another-key"
#define TOKEN "the-admin's-token"

enum { PATIENCE = 60000 }; /* milliseconds */

static void write_file(const char *path, const void *bytes, size_t size)
{
    char temporary[FIXTURE_PATH + 8];
    snprintf(temporary, sizeof temporary, "%s.new", path);
    FILE *file = fopen(temporary, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(temporary, path), 0);
}

static void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

/* A server with both files, and what its arguments are beyond them. */
struct guarded {
    struct fixture f;
    char keys[FIXTURE_PATH + 8], tokens[FIXTURE_PATH + 8];
};

static void guard(struct guarded *g, bool with_tokens, const char *const *more)
{
    const char *arguments[16] = {"--api-key-file", g->keys, "--threads", "2"};
    int n = 4;
    fixture_open(&g->f);
    snprintf(g->keys, sizeof g->keys, "%s/keys", g->f.folder);
    snprintf(g->tokens, sizeof g->tokens, "%s/tokens", g->f.folder);
    write_text(g->keys, "# for the tests\n\n  " KEY " \r\n" OTHER);
    write_text(g->tokens, TOKEN "\n");
    publish_linear(g->f.models, "m", 1, 1);
    if (with_tokens) {
        arguments[n++] = "--admin-token-file";
        arguments[n++] = g->tokens;
    }
    while (more && *more)
        arguments[n++] = *more++;
    fixture_serve(&g->f, arguments);
}

/* The status, after checks that hold for every refusal. */
static int call(int port, const char *method, const char *path, const char *header,
                const char *body)
{
    struct client *client = client_new();
    struct reply *reply = client_call(client, port, method, path, header, body);
    int status = reply->status;
    if (status == 401) {
        assert_non_null(strstr(reply->headers, "WWW-Authenticate: Bearer"));
        assert_non_null(strstr(reply->headers, "Content-Type: application/json"));
        if (strcmp(method, "HEAD") != 0)
            assert_ptr_equal(strstr(reply->body, "{\"error\":\""), reply->body);
    } else {
        assert_null(strstr(reply->headers, "WWW-Authenticate"));
    }
    reply_free(reply);
    client_free(client);
    return status;
}

/* secrets */

static const struct {
    const char *header;
    int status;
} credentials[] = {
    {NULL, 401},
    {"Authorization: Bearer " KEY, 200},
    {"authorization: bearer   " KEY "  ", 200},
    {"X-API-Key: " KEY, 200},
    {"X-API-Key: " OTHER, 200},
    {"Authorization: Bearer " TOKEN, 200},
    {"Authorization: Bearer", 401},
    {"Authorization: Bearer ", 401},
    {"Authorization: Bearer wrong", 401},
    {"Authorization: Bearer " KEY "=", 401},
    {"Authorization: Bearer first-key.of_two~+/=", 401},
    {"Authorization: Bearer " KEY " " OTHER, 401},
    {"Authorization: Basic " KEY, 401},
    {"Authorization: " KEY, 401},
    {"X-API-Key: # for the tests", 401},
    {"X-API-Key;", 401},
    {"Cookie: key=" KEY, 401},
};

static void a_prediction_needs_a_key(void **state)
{
    struct guarded g;
    (void)state;
    guard(&g, true, NULL);
    for (size_t i = 0; i < sizeof credentials / sizeof credentials[0]; i++) {
        int status = call(g.f.port, "POST", "/predict", credentials[i].header, BODY);
        if (status != credentials[i].status)
            fail_msg("%s: %d", credentials[i].header, status);
    }
    char longest[400] = "X-API-Key: ";
    memset(longest + 11, 'x', 300);
    assert_int_equal(call(g.f.port, "POST", "/predict", longest, BODY), 401);
    fixture_end(&g.f);
}

static const struct {
    const char *method, *path, *body;
    int without, with;
} paths[] = {
    {"GET", "/health", NULL, 200, 200},
    {"HEAD", "/health", NULL, 200, 200},
    {"GET", "/health/live", NULL, 200, 200},
    {"GET", "/health/ready", NULL, 200, 200},
    {"GET", "/v2/health/live", NULL, 200, 200},
    {"GET", "/v2/health/ready", NULL, 200, 200},
    {"POST", "/health", "{}", 405, 405},
    {"GET", "/metrics", NULL, 401, 200},
    {"GET", "/models", NULL, 401, 200},
    {"POST", "/v2/models/m/infer", V2_BODY, 401, 200},
    {"GET", "/v2/models/m", NULL, 401, 200},
    {"POST", "/v1/models/m:predict", BODY, 401, 200},
    {"GET", "/v1/nonsense", NULL, 401, 400},
    {"GET", "/predict", NULL, 401, 405},
    {"GET", "/nothing", NULL, 401, 404},
    {"GET", "/%68ealth", NULL, 401, 404},
    {"GET", "/health/../metrics", NULL, 401, 404},
    {"OPTIONS", "/predict", NULL, 401, 405},
    {"POST", "/reload", "", 401, 404},
    {"POST", "/v2/repository/models/m/load", "", 401, 404},
};

static void everything_but_health_needs_one(void **state)
{
    struct guarded g;
    (void)state;
    guard(&g, false, NULL);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        int without = call(g.f.port, paths[i].method, paths[i].path, NULL, paths[i].body);
        int with =
            call(g.f.port, paths[i].method, paths[i].path, "X-API-Key: " KEY, paths[i].body);
        if (without != paths[i].without || with != paths[i].with)
            fail_msg("%s: %d, with a key %d", paths[i].path, without, with);
    }
    /* The admin listener is the machine's own as long as there is no token. */
    assert_int_equal(call(g.f.admin_port, "GET", "/metrics", NULL, NULL), 200);
    assert_int_equal(call(g.f.admin_port, "POST", "/reload", NULL, ""), 200);
    fixture_end(&g.f);
}

static void a_refusal_reads_the_body_and_keeps_the_connection(void **state)
{
    struct guarded g;
    size_t size = 4 << 20;
    char *body = calloc(1, size);
    struct client *client = client_new();
    (void)state;
    assert_non_null(body);
    guard(&g, false, NULL);
    for (int i = 0; i < 3; i++) {
        struct reply *reply =
            client_send(client, g.f.port, "POST", "/predict", "Expect:", body, size);
        assert_int_equal(reply->status, 401);
        assert_int_equal(reply->reused, i > 0);
        reply_free(reply);
    }
    client_free(client);
    free(body);
    fixture_end(&g.f);
}

static void admin_verbs_need_the_token_on_either_port(void **state)
{
    static const char *const anywhere[] = {"--admin-host", "0.0.0.0", NULL};
    static const char *const verbs[] = {"/reload", "/v2/repository/models/m/load"};
    struct guarded g;
    (void)state;
    guard(&g, true, anywhere);
    for (int i = 0; i < 4; i++) {
        int port = i < 2 ? g.f.port : g.f.admin_port;
        const char *verb = verbs[i % 2];
        assert_int_equal(call(port, "POST", verb, NULL, ""), 401);
        assert_int_equal(call(port, "POST", verb, "Authorization: Bearer x", ""), 401);
        assert_int_equal(call(port, "POST", verb, "X-API-Key: " KEY, ""), 403);
        assert_int_equal(call(port, "POST", verb, "Authorization: Bearer " TOKEN, ""), 200);
        assert_int_equal(call(port, "POST", verb, "X-API-Key: " TOKEN, ""), 200);
    }
    assert_int_equal(call(g.f.admin_port, "GET", "/health", NULL, NULL), 200);
    assert_int_equal(call(g.f.admin_port, "GET", "/metrics", NULL, NULL), 401);
    assert_int_equal(call(g.f.admin_port, "GET", "/metrics", "X-API-Key: " KEY, NULL), 403);
    assert_int_equal(call(g.f.admin_port, "POST", "/predict", "X-API-Key: " KEY, BODY), 403);
    char *log = fixture_log(&g.f);
    assert_non_null(strstr(log, "admin port without TLS"));
    free(log);
    fixture_end(&g.f);
}

/* files */

static const struct {
    const char *text, *says;
} bad_files[] = {
    {"", ": expected a line that holds something"},
    {"\n# none\n \t\r\n", ": expected a line that holds something"},
    {"good\nsec ret\n", ": line 2: expected printable ASCII without blanks"},
    {"secr\xc3\xa4t", ": line 1: expected printable ASCII without blanks"},
    {"\n\nsecr\1t", ": line 3: expected printable ASCII without blanks"},
};

static void expect_refusal(const char *flag, const char *path, const char *says)
{
    const char *const arguments[] = {flag, path, "--port", "0", "--admin-port", "0", NULL};
    char text[4096];
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    if (!strstr(text, says) || !strstr(text, path))
        fail_msg("expected \"%s\", got \"%s\"", says, text);
    assert_null(strstr(text, "secr"));
}

static void a_bad_file_is_named_at_start_and_no_secret_is_told(void **state)
{
    struct fixture f;
    char path[FIXTURE_PATH + 8], text[2000];
    (void)state;
    fixture_open(&f);
    snprintf(path, sizeof path, "%s/file", f.folder);
    for (size_t i = 0; i < sizeof bad_files / sizeof bad_files[0]; i++) {
        write_text(path, bad_files[i].text);
        expect_refusal(i % 2 ? "--api-key-file" : "--admin-token-file", path,
                       bad_files[i].says);
    }
    write_file(path, "a\0b", 3);
    expect_refusal("--api-key-file", path, ": line 1: expected printable ASCII without blanks");
    memset(text, 'x', sizeof text);
    write_file(path, text, 257);
    expect_refusal("--api-key-file", path, ": line 1: expected at most 256 bytes, got 257");
    write_file(path, text, 256);
    unlink(path);
    expect_refusal("--api-key-file", path, ": No such file or directory");
    expect_refusal("--api-key-file", f.folder, ": expected a file");

    FILE *file = fopen(path, "w");
    for (int i = 0; i < 1025; i++)
        fprintf(file, "key%d\n", i);
    fclose(file);
    expect_refusal("--api-key-file", path,
                   ": line 1025: expected at most 1024 lines that hold something");
    file = fopen(path, "w");
    for (int i = 0; i < (1 << 20) / 1000 + 1; i++)
        fprintf(file, "#%0999d\n", i);
    fclose(file);
    expect_refusal("--api-key-file", path, ": expected at most 1048576 bytes");
    fixture_close(&f);
}

static void a_check_reads_the_files_too(void **state)
{
    struct fixture f;
    char path[FIXTURE_PATH + 8], text[4096];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    snprintf(path, sizeof path, "%s/file", f.folder);
    const char *const arguments[] = {"--check",        "--models", f.models,
                                     "--api-key-file", path,       NULL};
    write_text(path, KEY "\n");
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 0);
    write_text(path, "\n");
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "/file: expected a line that holds something"));
    fixture_close(&f);
}

/* Until the key is answered with the status, which a signal brings about at some time. */
static void wait_for(struct guarded *g, const char *header, int status)
{
    for (int waited = 0; waited < PATIENCE; waited += 20) {
        if (call(g->f.port, "GET", "/models", header, NULL) == status)
            return;
        usleep(20000);
    }
    fail_msg("%s is not answered %d", header, status);
}

static void a_reload_takes_new_keys_and_keeps_the_old_for_a_broken_file(void **state)
{
    struct guarded g;
    char body[4096];
    (void)state;
    guard(&g, false, NULL);
    write_text(g.keys, OTHER "\nnew-key\n");
    assert_int_equal(request(g.f.admin_port, "POST", "/reload", "", body, sizeof body), 200);
    assert_int_equal(call(g.f.port, "GET", "/models", "X-API-Key: " KEY, NULL), 401);
    assert_int_equal(call(g.f.port, "GET", "/models", "X-API-Key: " OTHER, NULL), 200);
    assert_int_equal(call(g.f.port, "GET", "/models", "X-API-Key: new-key", NULL), 200);

    publish_linear(g.f.models, "m", 2, 2); /* is taken nevertheless */
    write_text(g.keys, "# none left\n");
    assert_int_equal(request(g.f.admin_port, "POST", "/reload", "", body, sizeof body), 500);
    assert_non_null(strstr(body, "\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"2\""));
    assert_non_null(strstr(body, "/keys: expected a line that holds something"));
    assert_int_equal(call(g.f.port, "GET", "/models", "X-API-Key: new-key", NULL), 200);
    unlink(g.keys);
    assert_int_equal(request(g.f.admin_port, "POST", "/reload", "", NULL, 0), 500);
    assert_int_equal(call(g.f.port, "GET", "/models", "X-API-Key: new-key", NULL), 200);
    char *log = fixture_log(&g.f);
    assert_non_null(strstr(log, "secrets kept"));
    free(log);

    write_text(g.keys, KEY "\n");
    assert_int_equal(kill(g.f.pid, SIGHUP), 0);
    wait_for(&g, "X-API-Key: " KEY, 200);
    assert_int_equal(call(g.f.port, "GET", "/models", "X-API-Key: new-key", NULL), 401);
    fixture_end(&g.f);
}

/* origins */

#define PAGE "https://page.example"
#define PREFLIGHT "\r\nAccess-Control-Request-Method: POST"

static const struct {
    const char *method, *path, *header, *body;
    int status;
    const char *allows; /* Access-Control-Allow-Origin; NULL: has none */
} pages[] = {
    {"POST", "/predict", "Origin: " PAGE, BODY, 200, PAGE},
    {"POST", "/predict", "Origin: http://localhost:3000", BODY, 200, "http://localhost:3000"},
    {"POST", "/predict", "Origin: https://page.example:8443", BODY, 200, NULL},
    {"POST", "/predict", "Origin: http://page.example", BODY, 200, NULL},
    {"POST", "/predict", "Origin: null", BODY, 200, NULL},
    {"POST", "/predict", NULL, BODY, 200, NULL},
    {"POST", "/predict", "Origin: " PAGE, "{}", 400, PAGE},
    {"GET", "/nothing", "Origin: " PAGE, NULL, 404, PAGE},
    {"POST", "/v2/models/m/infer", "Origin: " PAGE, "[]", 400, PAGE},
    {"POST", "/v1/models/m:predict", "Origin: " PAGE, "[]", 400, PAGE},
    {"OPTIONS", "/predict", "Origin: " PAGE PREFLIGHT, NULL, 204, PAGE},
    {"OPTIONS", "/v1/models/m:predict", "Origin: " PAGE PREFLIGHT, NULL, 204, PAGE},
    {"OPTIONS", "/predict", "Origin: https://evil.example" PREFLIGHT, NULL, 403, NULL},
    {"OPTIONS", "/predict", "Origin: " PAGE, NULL, 405, PAGE},
    {"OPTIONS", "/nothing", "Origin: " PAGE PREFLIGHT, NULL, 404, PAGE},
    {"OPTIONS", "/predict", NULL, NULL, 405, NULL},
};

static bool has_line(const char *headers, const char *name, const char *value)
{
    char line[256];
    snprintf(line, sizeof line, "\r\n%s: %s\r\n", name, value);
    return strstr(headers, line) != NULL;
}

static void a_page_of_a_listed_origin_may_read_every_answer(void **state)
{
    static const char *const arguments[] = {"--cors-origins", PAGE ", http://localhost:3000",
                                            NULL};
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
        struct client *client = client_new();
        struct reply *reply = client_call(client, f.port, pages[i].method, pages[i].path,
                                          pages[i].header, pages[i].body);
        if (reply->status != pages[i].status)
            fail_msg("%s %s, %s: %d", pages[i].method, pages[i].path,
                     pages[i].header ? pages[i].header : "no origin", reply->status);
        assert_true(has_line(reply->headers, "Vary", "Origin"));
        if (pages[i].allows)
            assert_true(
                has_line(reply->headers, "Access-Control-Allow-Origin", pages[i].allows));
        else
            assert_null(strstr(reply->headers, "Access-Control-Allow-Origin"));
        if (reply->status == 204) {
            assert_true(has_line(reply->headers, "Access-Control-Allow-Methods", "POST"));
            assert_int_equal(reply->size, 0);
        }
        reply_free(reply);
        client_free(client);
    }
    fixture_end(&f);
}

static void a_preflight_needs_no_key_and_allows_the_headers_that_are_asked_for(void **state)
{
    static const char *const arguments[] = {"--cors-origins", "*", NULL};
    struct guarded g;
    struct client *client = client_new();
    (void)state;
    guard(&g, false, arguments);
    struct reply *reply = client_call(client, g.f.port, "OPTIONS", "/predict",
                                      "Origin: null" PREFLIGHT "\r\n"
                                      "Access-Control-Request-Headers: x-api-key, x-user-id",
                                      BODY);
    assert_int_equal(reply->status, 204);
    assert_true(has_line(reply->headers, "Access-Control-Allow-Origin", "*"));
    assert_true(
        has_line(reply->headers, "Access-Control-Allow-Headers", "x-api-key, x-user-id"));
    assert_null(strstr(reply->headers, "Vary"));
    reply_free(reply);
    for (int i = 0; i < 2; i++) { /* what cannot be repeated is left out */
        static const char *const odd[] = {
            "Access-Control-Request-Headers: \r\nOrigin: null" PREFLIGHT,
            "Access-Control-Request-Headers: a,\tb\r\nOrigin: null" PREFLIGHT};
        reply = client_call(client, g.f.port, "OPTIONS", "/predict", odd[i], BODY);
        assert_int_equal(reply->status, 204);
        assert_null(strstr(reply->headers, "Access-Control-Allow-Headers"));
        reply_free(reply);
    }
    reply = client_call(client, g.f.port, "POST", "/predict", "Origin: " PAGE, BODY);
    assert_int_equal(reply->status, 401);
    assert_true(reply->reused);
    assert_true(has_line(reply->headers, "Access-Control-Allow-Origin", "*"));
    reply_free(reply);

    /* No page may reload, whatever the list says. */
    reply = client_call(client, g.f.admin_port, "OPTIONS", "/reload", "Origin: " PAGE PREFLIGHT,
                        NULL);
    assert_int_equal(reply->status, 403);
    assert_null(strstr(reply->headers, "Access-Control"));
    reply_free(reply);
    reply = client_call(client, g.f.admin_port, "POST", "/reload", "Origin: " PAGE, "");
    assert_int_equal(reply->status, 403);
    reply_free(reply);
    client_free(client);
    fixture_end(&g.f);
}

static void without_the_flag_no_answer_speaks_of_origins(void **state)
{
    struct fixture f;
    struct client *client = client_new();
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    struct reply *reply =
        client_call(client, f.port, "OPTIONS", "/predict", "Origin: " PAGE PREFLIGHT, NULL);
    assert_int_equal(reply->status, 405);
    assert_true(has_line(reply->headers, "Allow", "POST"));
    assert_null(strstr(reply->headers, "Access-Control"));
    assert_null(strstr(reply->headers, "Vary"));
    reply_free(reply);
    client_free(client);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prediction_needs_a_key),
        cmocka_unit_test(everything_but_health_needs_one),
        cmocka_unit_test(a_refusal_reads_the_body_and_keeps_the_connection),
        cmocka_unit_test(admin_verbs_need_the_token_on_either_port),
        cmocka_unit_test(a_bad_file_is_named_at_start_and_no_secret_is_told),
        cmocka_unit_test(a_check_reads_the_files_too),
        cmocka_unit_test(a_reload_takes_new_keys_and_keeps_the_old_for_a_broken_file),
        cmocka_unit_test(a_page_of_a_listed_origin_may_read_every_answer),
        cmocka_unit_test(a_preflight_needs_no_key_and_allows_the_headers_that_are_asked_for),
        cmocka_unit_test(without_the_flag_no_answer_speaks_of_origins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
