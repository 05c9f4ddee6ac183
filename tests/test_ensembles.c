/*
 * Ensembles: of which models one is made, how it follows them, and why one is refused.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TEXT = 8192, CLIENTS = 4 };

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        assert_string_equal(text, part);
}

static void drop_config(const struct fixture *f, const char *model)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s/serving.json", f->models, model);
    assert_int_equal(unlink(path), 0);
}

static void reload(const struct fixture *f, const char *body, int status, const char *contains)
{
    char answer[TEXT];
    int got = request(f->admin_port, "POST", "/reload", body, answer, sizeof answer);
    assert_contains(answer, contains);
    assert_int_equal(got, status);
}

static void assert_says(const struct fixture *f, const char *path, int status,
                        const char *contains)
{
    char answer[TEXT];
    int got = request(f->port, "GET", path, NULL, answer, sizeof answer);
    assert_contains(answer, contains);
    assert_int_equal(got, status);
}

/* Models a and b, and e of both. */
static void serve_pair(struct fixture *f)
{
    fixture_open(f);
    publish_linear(f->models, "a", 1, 1);
    publish_linear(f->models, "b", 7, 2);
    publish_config(f->models, "e", "{\"ensemble\": [\"b\", \"a\"], \"deadline_ms\": 5000}");
    fixture_serve(f, NULL);
}

static void every_protocol_describes_an_ensemble(void **state)
{
    struct fixture f;
    char index[TEXT];
    (void)state;
    serve_pair(&f);
    assert_says(&f, "/health", 200, "ready");
    assert_says(&f, "/models/e", 200,
                "\"members\":[{\"name\":\"b\",\"version\":\"7\"},"
                "{\"name\":\"a\",\"version\":\"1\"}]");
    assert_says(&f, "/models/e", 200, "{\"name\":\"e\",\"version\":\"1\",\"state\":\"ready\"");
    assert_says(&f, "/models/e", 200, "\"parameters\":30,\"batched\":true");
    assert_says(&f, "/models/e", 200, "\"versions\":[{\"version\":\"1\",\"state\":\"ready\"}]");
    assert_says(&f, "/v2/models/e", 200,
                "{\"name\":\"e\",\"versions\":[\"1\"],\"platform\":\"ensemble\",\"inputs\":["
                "{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,4]}]");
    assert_says(&f, "/v2/models/e/ready", 200, "\"ready\":true");
    assert_says(&f, "/v2/models/e/config", 200,
                "\"ensemble_scheduling\":{\"step\":[{\"model_name\":\"b\",\"model_version\":7,"
                "\"input_map\":{\"x\":\"x\"},\"output_map\":{\"y\":\"y\"}},"
                "{\"model_name\":\"a\",\"model_version\":1,");
    assert_says(&f, "/v1/models/e", 200, "{\"version\":\"1\",\"state\":\"AVAILABLE\"");
    assert_says(&f, "/v1/models/e/metadata", 200, "\"dtype\":\"DT_FLOAT\"");
    request(f.port, "POST", "/v2/repository/index", "", index, sizeof index);
    assert_contains(index, "{\"name\":\"e\",\"version\":\"1\",\"state\":\"READY\"}");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"unchanged\"");
    fixture_end(&f);
}

static void assert_expired(const struct fixture *f, double ensemble)
{
    const char *name = "predictd_predictions_expired_total";
    char sample[128];
    snprintf(sample, sizeof sample, "%s{model=\"e\",version=\"1\"}", name);
    assert_true(fixture_metric(f, sample) == ensemble);
    snprintf(sample, sizeof sample, "%s{model=\"a\",version=\"1\"}", name);
    assert_true(fixture_metric(f, sample) == 0);
    snprintf(sample, sizeof sample, "%s{model=\"b\",version=\"7\"}", name);
    assert_true(fixture_metric(f, sample) == 0);
}

/* By an event loop and by worker threads: an ensemble's request has the ensemble's time,
 * whatever its members' is, and is late once. */
static void an_ensemble_has_a_deadline_of_its_own(void **state)
{
    const char *const waits =
        "{\"max_queue_delay_us\":10000000,\"preferred_batch_size\":1000,\"max_batch_size\":1000,"
        "\"deadline_ms\":60000}";
    const char *const row =
        "{\"inputs\":[{\"name\":\"x\",\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4]}],"
        "\"parameters\":{\"timeout\":1}}";
    struct fixture f;
    char body[TEXT];
    (void)state;

    serve_pair(&f);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(request(f.port, "POST", "/v2/models/e/infer", row, body, sizeof body),
                         504);
        assert_string_equal(body, "{\"error\":\"the deadline of 0.001 ms is over\"}");
        assert_expired(&f, i);
    }
    publish_config(f.models, "a", waits);
    publish_config(f.models, "b", waits);
    publish_config(f.models, "e", "{\"ensemble\": [\"b\", \"a\"], \"deadline_ms\": 50}");
    reload(&f, "", 200, "");
    assert_int_equal(request(f.port, "POST", "/models/e/predict", "{\"instances\":[[1,2,3,4]]}",
                             body, sizeof body),
                     504);
    assert_string_equal(body, "{\"error\":\"the deadline of 50 ms is over\"}");
    assert_expired(&f, 4);
    fixture_end(&f);
}

static void an_ensemble_follows_its_members(void **state)
{
    struct fixture f;
    (void)state;
    serve_pair(&f);
    publish_linear(f.models, "b", 8, 3);
    reload(&f, "", 200, "\"e\":{\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"1\"");
    assert_says(&f, "/models/e", 200, "{\"name\":\"b\",\"version\":\"8\"}");
    publish_linear(f.models, "a", 2, 3);
    reload(&f, "{\"model\":\"a\"}", 200, "\"a\":{\"outcome\":\"loaded\"");
    assert_says(&f, "/models/e", 200, "{\"name\":\"a\",\"version\":\"2\"}");
    unpublish(f.models, "b", 8);
    reload(&f, "{\"model\":\"b\"}", 200, "\"after\":\"7\"");
    assert_says(&f, "/models/e", 200, "{\"name\":\"b\",\"version\":\"7\"}");
    /* The standard version, which is not the highest here. */
    publish_config(f.models, "a", "{\"labels\":{\"stable\":1}}");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"loaded\"");
    assert_says(&f, "/models/e", 200, "{\"name\":\"a\",\"version\":\"1\"}");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"unchanged\"");
    fixture_end(&f);
}

static const char wide[] =
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,5]}],"
    "\"nodes\":[{\"op\":\"Relu\",\"inputs\":[\"x\"],\"outputs\":[\"y\"]}],\"outputs\":[\"y\"]}";

static void an_ensemble_keeps_a_member_that_it_cannot_replace(void **state)
{
    struct fixture f;
    (void)state;
    serve_pair(&f);
    publish_graph(f.models, "a", 2, wide, NULL);
    for (int again = 0; again < 2; again++) {
        reload(&f, "", 500,
               "/e/serving.json: member a: input 0: expected {\\\"name\\\":\\\"x\\\","
               "\\\"datatype\\\":\\\"FP32\\\",\\\"shape\\\":[-1,4]} as of b, got {");
        assert_says(&f, "/models/a", 200, "\"version\":\"2\"");
        assert_says(&f, "/models/e", 200, "{\"name\":\"a\",\"version\":\"1\"}");
        assert_says(&f, "/health", 200, "ready");
    }
    unpublish(f.models, "a", 1);
    unpublish(f.models, "a", 2);
    reload(&f, "", 500,
           "/e/serving.json: member a: there is no model of this name with versions of its own");
    assert_says(&f, "/models/a", 404, "there is no model a");
    assert_says(&f, "/models/e", 200, "{\"name\":\"a\",\"version\":\"1\"}");

    publish_linear(f.models, "a", 3, 1);
    reload(&f, "{\"model\":\"a\"}", 200, "\"a\":{\"outcome\":\"loaded\"");
    assert_says(&f, "/models/e", 200, "{\"name\":\"a\",\"version\":\"3\"}");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"unchanged\"");
    fixture_end(&f);
}

#define GRAPH(input, node, output)                                              \
    "{\"inputs\":[" input "],\"nodes\":[" node "],\"outputs\":[\"" output "\"]}"
#define X "{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,4]}"

/* What b is, beside a: x [-1, 4] to y [-1, 4]. */
static const struct {
    const char *graph, *labels, *says;
} misfits[] = {
    {GRAPH("{\"name\":\"z\",\"datatype\":\"FP32\",\"shape\":[-1,4]}",
           "{\"op\":\"Relu\",\"inputs\":[\"z\"],\"outputs\":[\"y\"]}", "y"),
     NULL, "member b: input 0: expected {\\\"name\\\":\\\"x\\\""},
    {GRAPH("{\"name\":\"x\",\"datatype\":\"INT64\",\"shape\":[-1,4]}",
           "{\"op\":\"Cast\",\"inputs\":[\"x\"],\"outputs\":[\"y\"],\"attributes\":{\"to\":1}}",
           "y"),
     NULL, "got {\\\"name\\\":\\\"x\\\",\\\"datatype\\\":\\\"INT64\\\""},
    {GRAPH(X, "{\"op\":\"Relu\",\"inputs\":[\"x\"],\"outputs\":[\"r\"]}", "r"), NULL,
     "member b: output 0: expected {\\\"name\\\":\\\"y\\\""},
    {GRAPH(X, "{\"op\":\"Relu\",\"inputs\":[\"x\"],\"outputs\":[\"y\"]}", "y\",\"x"), NULL,
     "member b: expected 1 output as of a, got 2"},
    {GRAPH(X,
           "{\"op\":\"Cast\",\"inputs\":[\"x\"],\"outputs\":[\"y\"],\"attributes\":{\"to\":7}}",
           "y"),
     NULL, "member b: output \\\"y\\\": expected FP32, got INT64"},
    {GRAPH(X,
           "{\"op\":\"Softmax\",\"inputs\":[\"x\"],\"outputs\":[\"y\"],\"attributes\":"
           "{\"axis\":0}}",
           "y"),
     NULL, "member b: does not answer row by row: "},
    {GRAPH(X, "{\"op\":\"Relu\",\"inputs\":[\"x\"],\"outputs\":[\"y\"]}", "y"),
     "[\"u\",\"v\",\"W\",\"x\"]", "member b: label 2: expected \\\"w\\\" as of a, got \\\"W\\\""},
};

static void what_does_not_fit_together_is_named(void **state)
{
    static const char relu[] =
        GRAPH(X, "{\"op\":\"Relu\",\"inputs\":[\"x\"],\"outputs\":[\"y\"]}", "y");
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_graph(f.models, "a", 1, relu, "[\"u\",\"v\",\"w\",\"x\"]");
    publish_graph(f.models, "b", 1, relu, NULL);
    fixture_serve(&f, NULL);
    publish_config(f.models, "e", "{\"ensemble\": [\"a\", \"b\"]}");
    for (size_t i = 0; i < sizeof misfits / sizeof misfits[0]; i++) {
        publish_graph(f.models, "b", 1, misfits[i].graph, misfits[i].labels);
        reload(&f, "", 500, misfits[i].says);
        assert_says(&f, "/models/e", 404, "there is no model e");
    }
    publish_graph(f.models, "b", 1, relu, NULL);
    reload(&f, "{\"model\":\"b\"}", 200, "loaded");
    assert_says(&f, "/models/e", 200, "\"labels\":[\"u\",\"v\",\"w\",\"x\"]");
    fixture_end(&f);
}

static const struct {
    const char *config, *says;
} wrong[] = {
    {"{\"ensemble\":[\"a\",\"c\"]}",
     "/e/serving.json: member c: there is no model of this name with versions of its own"},
    {"{\"ensemble\":[\"a\",\"e\"]}", "member e: there is no model of this name with versions"},
    {"{\"ensemble\":[\"a\",\"d\"]}", "member d: there is no model of this name with versions"},
    {"{\"ensemble\":[\"a\",\"f\"]}", "member f: there is no model of this name with versions"},
    {"{\"ensemble\":[\"a\"],\"labels\":{\"x\":1}}",
     "/e/serving.json: labels: means nothing in an ensemble"},
    {"{\"ensemble\":[]}", "/e/serving.json: ensemble: expected at least one model"},
    {"{\"ensembel\":[\"a\"]}",
     "/e/serving.json: ensembel: unknown key, did you mean \\\"ensemble\\\"?"},
};

static void a_wrong_serving_json_keeps_the_ensemble_that_is_served(void **state)
{
    struct fixture f;
    (void)state;
    serve_pair(&f);
    publish_config(f.models, "d", "{\"ensemble\":[\"b\"]}");
    publish_config(f.models, "f", "{\"ensemble\":[\"b\"]}");
    reload(&f, "", 200, "\"f\":{\"outcome\":\"loaded\"");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        publish_config(f.models, "e", wrong[i].config);
        reload(&f, "", 500, wrong[i].says);
        assert_says(&f, "/models/e", 200, "\"members\":[{\"name\":\"b\",\"version\":\"7\"},");
    }
    /* Even then it follows its members. */
    publish_linear(f.models, "b", 8, 3);
    reload(&f, "", 500, "ensembel");
    assert_says(&f, "/models/e", 200, "\"members\":[{\"name\":\"b\",\"version\":\"8\"},");
    publish_config(f.models, "e", "{\"ensemble\":[\"a\"]}");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"loaded\"");
    assert_says(&f, "/models/e", 200, "\"members\":[{\"name\":\"a\",\"version\":\"1\"}]");
    fixture_end(&f);
}

static void a_model_becomes_an_ensemble_and_back(void **state)
{
    struct fixture f;
    (void)state;
    serve_pair(&f);
    publish_linear(f.models, "e", 4, 1);
    reload(&f, "", 500,
           "/e/serving.json: ensemble: expected no versions, but the folder has version 4");
    assert_says(&f, "/models/e", 200, "\"members\":[{\"name\":\"b\"");
    drop_config(&f, "e");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"4\"");
    assert_says(&f, "/models/e", 200, "\"version\":\"4\"");
    unpublish(f.models, "e", 4);
    publish_config(f.models, "e", "{\"ensemble\":[\"a\"]}");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"loaded\",\"before\":\"4\",\"after\":\"1\"");
    /* Settings of nothing are no model. */
    publish_config(f.models, "e", "{\"warmup\":1}");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"removed\",\"before\":\"1\",\"after\":null");
    reload(&f, "", 200, "{\"models\":{\"a\":");
    assert_says(&f, "/models/e", 404, "there is no model e");
    fixture_end(&f);
}

static void at_a_start_a_broken_ensemble_is_not_ready(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "b", 1, 1);
    publish_config(f.models, "e", "{\"ensemble\":[\"a\",\"b\"]}");
    fixture_start(&f, NULL);
    reload(&f, "", 500, "\"e\":{\"outcome\":\"failed\",\"before\":null,\"after\":null");
    assert_says(&f, "/health", 503, "model e has no version that can be served");
    assert_says(&f, "/models/e", 200, "\"state\":\"failed\",\"reason\":\"");
    assert_says(&f, "/v1/models/e", 200, "member a: there is no model of this name");
    publish_linear(f.models, "a", 1, 1);
    reload(&f, "{\"model\":\"a\"}", 200, "\"a\":{\"outcome\":\"loaded\"");
    assert_says(&f, "/health", 200, "ready");
    drop_config(&f, "e");
    reload(&f, "", 200, "\"e\":{\"outcome\":\"removed\"");
    fixture_end(&f);
}

/* The mean of scales a and b is their mean's scale: the one that an answer is of. */
static double scale_of(const char *body)
{
    static const double x[4] = {1, 2, 3, 4};
    double zero[3], one[3], got[3], scale = NAN;
    linear_reference(0, x, zero);
    linear_reference(1, x, one);
    if (sscanf(body, "{\"predictions\":[[%lf,%lf,%lf]]", &got[0], &got[1], &got[2]) != 3)
        return NAN;
    scale = (got[0] - zero[0]) / (one[0] - zero[0]);
    for (int i = 1; i < 3; i++)
        if (!(fabs(zero[i] + scale * (one[i] - zero[i]) - got[i]) <= 1e-3))
            return NAN;
    return scale;
}

struct load {
    int port;
    atomic_bool stop;
    atomic_int answered, failed;
};

/* Members have the scales 1 and up, so that every mean is a multiple of a half. */
static void *run_client(void *arg)
{
    struct load *l = arg;
    int fd = socket_connect(l->port);
    while (!atomic_load(&l->stop)) {
        static const char text[] = "POST /models/e/predict HTTP/1.1\r\nHost: x\r\n"
                                   "Content-Length: 25\r\n\r\n{\"instances\":[[1,2,3,4]]}";
        char body[1024];
        socket_send(fd, text);
        int status = socket_answer(fd, body, sizeof body);
        double twice = 2 * scale_of(body);
        if (status != 200 || !(fabs(twice - round(twice)) < 1e-3) || twice < 2) {
            print_error("got %d %s\n", status, body);
            l->failed++;
            break;
        }
        l->answered++;
    }
    close(fd);
    return NULL;
}

static void members_are_replaced_under_requests(void **state)
{
    struct fixture f;
    pthread_t threads[CLIENTS];
    char body[TEXT];
    (void)state;
    serve_pair(&f);
    struct load l = {.port = f.port};
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_client, &l), 0);
    for (int version = 8; version < 40 && !l.failed; version++) {
        int scale = 1 + version % 5, other = 1 + version % 3;
        publish_linear(f.models, "b", version, scale);
        publish_linear(f.models, "a", version, other);
        reload(&f, "", 200, "\"e\":{\"outcome\":\"loaded\"");
        unpublish(f.models, "b", version - 1);
        assert_int_equal(request(f.port, "POST", "/models/e/predict",
                                 "{\"instances\":[[1,2,3,4]]}", body, sizeof body),
                         200);
        assert_true(fabs(scale_of(body) - (scale + other) / 2.0) < 1e-3);
    }
    /* Without its members it goes on, too. */
    unpublish(f.models, "b", 39);
    reload(&f, "", 500, "member b: there is no model of this name");
    assert_int_equal(request(f.port, "POST", "/models/e/predict", "{\"instances\":[[1,2,3,4]]}",
                             body, sizeof body),
                     200);
    atomic_store(&l.stop, true);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(l.failed, 0);
    assert_true(l.answered > 0);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_protocol_describes_an_ensemble),
        cmocka_unit_test(an_ensemble_has_a_deadline_of_its_own),
        cmocka_unit_test(an_ensemble_follows_its_members),
        cmocka_unit_test(an_ensemble_keeps_a_member_that_it_cannot_replace),
        cmocka_unit_test(what_does_not_fit_together_is_named),
        cmocka_unit_test(a_wrong_serving_json_keeps_the_ensemble_that_is_served),
        cmocka_unit_test(a_model_becomes_an_ensemble_and_back),
        cmocka_unit_test(members_are_replaced_under_requests),
        cmocka_unit_test(at_a_start_a_broken_ensemble_is_not_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
