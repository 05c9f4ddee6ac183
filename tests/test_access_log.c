/* What --access-log says of each request. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/api/api.h"
#include "tests/server_fixture.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static const char good_body[] = "{\"instances\":[[1,2,3,4],[4,3,2,1]]}";

static void a_traceparent_is_read_as_the_recommendation_says(void **state)
{
    static const char *const good[] = {
        "00-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-00",
        "00-" TRACE "-" PARENT "-ff", "01-" TRACE "-" PARENT "-01",
        "fe-" TRACE "-" PARENT "-01-what-comes-later"};
    static const char *const bad[] = {"",
                                      "00",
                                      "00-" TRACE "-" PARENT "-0",
                                      "00-" TRACE "-" PARENT "-01-",
                                      "00-" TRACE "-" PARENT "-01-more",
                                      "00-" TRACE "-" PARENT "-011",
                                      "01-" TRACE "-" PARENT "-01.more",
                                      "ff-" TRACE "-" PARENT "-01",
                                      "0x-" TRACE "-" PARENT "-01",
                                      "00_" TRACE "-" PARENT "-01",
                                      "00-" TRACE "_" PARENT "-01",
                                      "00-" TRACE "-" PARENT "_01",
                                      "00-" TRACE "-" PARENT "-0G",
                                      " 00-" TRACE "-" PARENT "-01",
                                      "00-00000000000000000000000000000000-" PARENT "-01",
                                      "00-" TRACE "-0000000000000000-01",
                                      "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
                                      "00-4bf92f3577b34da6a3ce929d0e0e473\"-" PARENT "-01",
                                      "00-4bf92f3577b34da6a3ce929d0e0e47-" PARENT "-0100"};
    char trace[33], parent[17];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!api_read_traceparent(good[i], trace, parent))
            fail_msg("refused: %s", good[i]);
        assert_string_equal(trace, TRACE);
        assert_string_equal(parent, PARENT);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (api_read_traceparent(bad[i], trace, parent))
            fail_msg("accepted: %s", bad[i]);
    assert_false(api_read_traceparent(NULL, trace, parent));
}

/* The line of the request with that id: exactly one. */
static json_t *line_of(const struct fixture *f, const char *id)
{
    char *log = fixture_log(f), *next = NULL;
    json_t *found = NULL;
    for (char *line = strtok_r(log, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        if (!object)
            fail_msg("no JSON: %s", line);
        const char *its = json_string_value(json_object_get(object, "request_id"));
        if (its && strcmp(its, id) == 0) {
            assert_null(found);
            found = object;
        } else {
            json_decref(object);
        }
    }
    free(log);
    if (!found)
        fail_msg("nothing is logged of %s", id);
    return found;
}

static const char *text(json_t *line, const char *name)
{
    return json_string_value(json_object_get(line, name));
}

static json_int_t integer(json_t *line, const char *name)
{
    return json_integer_value(json_object_get(line, name));
}

static void call(int port, const char *method, const char *path, const char *more,
                 const char *body, int status)
{
    char request[2048], answer[4096];
    int fd = socket_connect(port);
    snprintf(request, sizeof request,
             "%s %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu\r\n\r\n%s", method, path, more,
             strlen(body), body);
    socket_send(fd, request);
    assert_int_equal(socket_answer(fd, answer, sizeof answer), status);
    close(fd);
}

static void a_prediction_tells_its_trace_its_version_and_its_stages(void **state)
{
    static const char *const stages[] = {"decode_us", "queue_us", "compute_us", "encode_us"};
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 7, 1);
    fixture_serve(&f, (const char *const[]){"--access-log", NULL});
    call(f.port, "POST", "/predict",
         "X-Request-ID: one\r\ntraceparent: 00-" TRACE "-" PARENT "-01\r\n", good_body, 200);
    call(f.port, "POST", "/v2/models/m/infer", "X-Request-ID: two\r\ntraceparent: 00-x\r\n",
         "{}", 400);
    call(f.port, "GET", "/a\"b%22\\\xff?q=\"", "X-Request-ID: three\r\n", "", 404);
    char path[1200] = "/";
    memset(path + 1, '"', sizeof path - 2);
    call(f.port, "GET", path, "X-Request-ID: four\r\n", "", 404);
    assert_int_equal(fixture_stop(&f), 0);

    json_t *line = line_of(&f, "one");
    assert_string_equal(text(line, "trace_id"), TRACE);
    assert_string_equal(text(line, "parent_id"), PARENT);
    assert_string_equal(text(line, "client"), "127.0.0.1");
    assert_string_equal(text(line, "method"), "POST");
    assert_string_equal(text(line, "route"), "/predict");
    assert_string_equal(text(line, "model"), "m");
    assert_int_equal(integer(line, "version"), 7);
    assert_int_equal(integer(line, "status"), 200);
    assert_int_equal(integer(line, "received"), strlen(good_body));
    assert_true(integer(line, "sent") > 0);
    assert_int_equal(integer(line, "batch"), 2);
    double sum = 0;
    for (size_t i = 0; i < 4; i++) {
        double us = json_number_value(json_object_get(line, stages[i]));
        assert_true(us > 0);
        sum += us;
    }
    assert_true(sum <= 1.001e3 * json_number_value(json_object_get(line, "milliseconds")));
    json_decref(line);

    line = line_of(&f, "two");
    assert_null(json_object_get(line, "trace_id"));
    assert_string_equal(text(line, "route"), "/v2/models/{m}[/versions/{v}]/infer");
    assert_string_equal(text(line, "model"), "m");
    assert_int_equal(integer(line, "version"), 7);
    assert_null(json_object_get(line, "batch"));
    assert_null(json_object_get(line, "compute_us"));
    json_decref(line);

    line = line_of(&f, "three");
    assert_string_equal(text(line, "path"), "/a\"b%22\\\xef\xbf\xbd");
    assert_int_equal(integer(line, "status"), 404);
    assert_null(json_object_get(line, "route"));
    json_decref(line);

    line = line_of(&f, "four");
    assert_int_equal(strlen(text(line, "path")), 511);
    json_decref(line);
    fixture_close(&f);
}

static void who_is_turned_away_is_counted_by_the_reason(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(
        &f, (const char *const[]){"--access-log", "--max-queue", "1", "--threads", "1", NULL});
    int fd = socket_connect(f.port);
    socket_send(fd, "POST /predict HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{");
    /* that one and the one that asks */
    fixture_await_metric(&f, "predictd_http_requests_in_flight", 2);
    call(f.port, "POST", "/predict", "X-Request-ID: one\r\n", good_body, 503);
    assert_true(fixture_metric(&f, "predictd_requests_shed_total{reason=\"full\"}") == 1);
    assert_true(fixture_metric(&f, "predictd_requests_shed_total{reason=\"bytes\"}") == 0);
    close(fd);
    assert_int_equal(fixture_stop(&f), 0);
    json_t *line = line_of(&f, "one");
    assert_string_equal(text(line, "shed"), "full");
    json_decref(line);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_traceparent_is_read_as_the_recommendation_says),
        cmocka_unit_test(a_prediction_tells_its_trace_its_version_and_its_stages),
        cmocka_unit_test(who_is_turned_away_is_counted_by_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
