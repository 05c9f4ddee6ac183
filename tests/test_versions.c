/*
 * Several versions of a model: which are served, by which names, and who gets which.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/model_changes.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char good_body[] = "{\"instances\":[[1,2,3,4]]}";

static void reload(const struct fixture *f, int status, const char *contains)
{
    admin_post(f, "/reload", "", status, contains);
}

/* What the model's description says from "versions" on. */
static void assert_versions(const struct fixture *f, const char *expected)
{
    char body[4096];
    assert_int_equal(request(f->port, "GET", "/models/m", NULL, body, sizeof body), 200);
    const char *versions = strstr(body, ",\"versions\":");
    assert_non_null(versions);
    assert_string_equal(versions, expected);
}

/* Versions 1 to 4; `served` has a bit for each that answers. */
static const struct {
    const char *config;
    int standard, served;
} policies[] = {
    {"{}", 4, 1 << 4},
    {"{\"version_policy\":{\"latest\":1}}", 4, 1 << 4},
    {"{\"version_policy\":{\"latest\":2}}", 4, 1 << 3 | 1 << 4},
    {"{\"version_policy\":{\"latest\":9}}", 4, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4},
    {"{\"version_policy\":\"all\"}", 4, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4},
    {"{\"version_policy\":{\"specific\":[2]}}", 2, 1 << 2},
    {"{\"version_policy\":{\"specific\":[3,1]}}", 3, 1 << 1 | 1 << 3},
    {"{\"labels\":{\"old\":2}}", 4, 1 << 2 | 1 << 4},
    {"{\"labels\":{\"stable\":3}}", 3, 1 << 3 | 1 << 4},
    {"{\"labels\":{\"stable\":4}}", 4, 1 << 4},
    {"{\"version_policy\":{\"specific\":[2]},\"labels\":{\"stable\":1}}", 1, 1 << 1 | 1 << 2},
};

static void the_policy_and_the_labels_say_what_is_served(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    for (int v = 1; v <= 4; v++)
        publish_linear(f.models, "m", v, v);
    fixture_serve(&f, NULL);
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        char path[64];
        publish_config(f.models, "m", policies[i].config);
        reload(&f, 200, "\"outcome\":\"loaded\"");
        reload(&f, 200, "\"outcome\":\"unchanged\"");
        assert_int_equal(version_at(&f, "/predict"), policies[i].standard);
        for (int v = 1; v <= 5; v++) {
            snprintf(path, sizeof path, "/models/m/versions/%d/predict", v);
            assert_int_equal(version_at(&f, path), policies[i].served >> v & 1 ? v : 0);
        }
    }
    fixture_end(&f);
}

static void a_change_of_serving_json_loads_no_version_again(void **state)
{
    struct fixture f;
    char before[4096], after[4096];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "m", 2, 2);
    fixture_serve(&f, NULL);
    request(f.port, "GET", "/models/m", NULL, before, sizeof before);
    publish_config(f.models, "m", "{\"version_policy\":\"all\",\"labels\":{\"stable\":\"2\"}}");
    reload(&f, 200, "\"m\":{\"outcome\":\"loaded\",\"before\":\"2\",\"after\":\"2\"");
    request(f.port, "GET", "/models/m", NULL, after, sizeof after);
    /* "since", the time of loading, is part of it. */
    size_t same = (size_t)(strstr(before, ",\"versions\":") - before);
    assert_memory_equal(before, after, same);
    assert_string_equal(after + same,
                        ",\"versions\":[{\"version\":\"1\",\"state\":\"ready\"},{\"version\":"
                        "\"2\",\"state\":\"ready\"}],\"version_labels\":{\"stable\":{"
                        "\"version\":\"2\"}}}");
    fixture_end(&f);
}

static const struct {
    const char *path;
    int status;
    const char *body; /* NULL: whatever */
} unknown[] = {
    {"/models/m/versions/7/predict", 404, "{\"error\":\"model m has no version 7\"}"},
    {"/models/m/versions/x/predict", 404, "{\"error\":\"model m has no version x\"}"},
    {"/models/m/versions/99999999999999999999/predict", 404, NULL},
    {"/models/m/labels/canari/predict", 404, "{\"error\":\"model m has no label canari\"}"},
    {"/models/n/versions/1/predict", 404, "{\"error\":\"there is no model n\"}"},
    {"/models/n/labels/stable/predict", 404, "{\"error\":\"there is no model n\"}"},
    {"/models/m/versions//predict", 404, "{\"error\":\"there is nothing at this path\"}"},
    {"/models/m/labels/a%20b/predict", 404, "{\"error\":\"there is nothing at this path\"}"},
};

static void labels_name_versions_in_every_protocol(void **state)
{
    struct fixture f;
    char body[1024];
    (void)state;
    fixture_open(&f);
    for (int v = 1; v <= 3; v++)
        publish_linear(f.models, "m", v, v);
    publish_config(f.models, "m", "{\"labels\":{\"stable\":\"2\",\"canary\":\"3\"}}");
    fixture_serve(&f, NULL);
    assert_int_equal(version_at(&f, "/models/m/predict"), 2);
    assert_int_equal(version_at(&f, "/models/m/labels/stable/predict"), 2);
    assert_int_equal(version_at(&f, "/models/m/labels/canary/predict"), 3);
    assert_int_equal(version_at(&f, "/models/m/versions/3/predict"), 3);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        int status = request(f.port, "POST", unknown[i].path, good_body, body, sizeof body);
        if (unknown[i].body)
            assert_string_equal(body, unknown[i].body);
        assert_int_equal(status, unknown[i].status);
    }

    request(f.port, "GET", "/v2/models/m", NULL, body, sizeof body);
    assert_contains(body, "\"versions\":[\"2\",\"3\"]");
    request(f.port, "GET", "/v2/models/m/versions/3/ready", NULL, body, sizeof body);
    assert_string_equal(body, "{\"name\":\"m\",\"ready\":true}");
    assert_int_equal(request(f.port, "GET", "/v2/models/m/versions/1/ready", NULL, NULL, 0),
                     404);
    request(f.port, "POST", "/v2/repository/index", "", body, sizeof body);
    assert_string_equal(body, "[{\"name\":\"m\",\"version\":\"2\",\"state\":\"READY\"},"
                              "{\"name\":\"m\",\"version\":\"3\",\"state\":\"READY\"}]");

    request(f.port, "POST", "/v1/models/m/labels/canary:predict", good_body, body, sizeof body);
    assert_string_equal(body, "{\"predictions\":[[24.5,38.75,17.0]]}");
    static const char available[] =
        ",\"state\":\"AVAILABLE\",\"status\":{\"error_code\":\"OK\","
        "\"error_message\":\"\"}}";
    char expected[512];
    snprintf(expected, sizeof expected,
             "{\"model_version_status\":[{\"version\":\"3\"%s,{\"version\":\"2\"%s]}",
             available, available);
    request(f.port, "GET", "/v1/models/m", NULL, body, sizeof body);
    assert_string_equal(body, expected);
    snprintf(expected, sizeof expected, "{\"model_version_status\":[{\"version\":\"2\"%s]}",
             available);
    request(f.port, "GET", "/v1/models/m/labels/stable", NULL, body, sizeof body);
    assert_string_equal(body, expected);
    request(f.port, "GET", "/v1/models/m/labels/old", NULL, body, sizeof body);
    assert_string_equal(body, "{\"error\":\"Unrecognized servable version label: old\"}");
    fixture_end(&f);
}

static void a_broken_serving_json_keeps_what_is_served(void **state)
{
    struct fixture f;
    char body[2048];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "m", 2, 2);
    publish_config(f.models, "m", "{\"labels\":{\"stable\":1}}");
    fixture_serve(&f, NULL);
    publish_config(f.models, "m", "{\"labels\":{\"stable\":1,\"canary\":3}}");
    reload(&f, 500, "/m/serving.json: there is no version 3\"");
    publish_config(f.models, "m", "{\"lables\":{}}");
    for (int again = 0; again < 2; again++) {
        reload(&f, 500, "/m/serving.json: lables: unknown key, did you mean \\\"labels\\\"?\"");
        assert_int_equal(version_at(&f, "/predict"), 1);
        assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    }
    assert_int_equal(fixture_stop(&f), 0);

    /* Nothing is known of how to serve it: a start does not guess. */
    publish_linear(f.models, "n", 1, 1);
    fixture_start(&f, NULL);
    reload(&f, 500, "\"m\":{\"outcome\":\"failed\",\"before\":null,\"after\":null");
    assert_int_equal(request(f.port, "GET", "/health", NULL, body, sizeof body), 503);
    assert_string_equal(body, "{\"error\":\"model m has no version that can be served\"}");
    assert_int_equal(version_at(&f, "/models/n/predict"), 1);
    request(f.port, "POST", "/models/m/predict", good_body, body, sizeof body);
    assert_string_equal(body, "{\"error\":\"model m has no version that can be served\"}");
    publish_config(f.models, "m", "{\"labels\":{}}");
    reload(&f, 200, "\"m\":{\"outcome\":\"loaded\",\"before\":null,\"after\":\"2\"");
    assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    fixture_end(&f);
}

static void one_broken_version_of_several_keeps_all_at_a_reload(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    for (int v = 1; v <= 2; v++)
        publish_linear(f.models, "m", v, v);
    publish_config(f.models, "m", "{\"version_policy\":{\"latest\":2}}");
    fixture_serve(&f, NULL);
    publish_linear(f.models, "m", 3, 3);
    publish_bytes(f.models, "m", 4, "broken", 6);
    reload(&f, 500, "\"m\":{\"outcome\":\"failed\",\"before\":\"2\",\"after\":\"2\"");
    assert_versions(&f, ",\"versions\":[{\"version\":\"1\",\"state\":\"ready\"},{\"version\":"
                        "\"2\",\"state\":\"ready\"}],\"version_labels\":{}}");
    publish_linear(f.models, "m", 4, 4);
    reload(&f, 200, "\"m\":{\"outcome\":\"loaded\",\"before\":\"2\",\"after\":\"4\"");
    assert_versions(&f, ",\"versions\":[{\"version\":\"3\",\"state\":\"ready\"},{\"version\":"
                        "\"4\",\"state\":\"ready\"}],\"version_labels\":{}}");
    fixture_end(&f);
}

/* Bits of versions of the labels stable (2) and canary (3) that users 0 to n - 1 get. */
static void ask_users(const struct fixture *f, const char *header, int n, char *versions)
{
    struct client *client = client_new();
    for (int user = 0; user < n; user++) {
        char line[64];
        snprintf(line, sizeof line, "%s: user-%d", header, user);
        struct reply *r = client_call(client, f->port, "POST", "/predict", line, good_body);
        assert_int_equal(r->status, 200);
        versions[user] = strstr(r->body, "\"model_version\":\"3\"") ? 3 : 2;
        reply_free(r);
    }
    client_free(client);
}

static int count(const char *versions, int n, int version)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += versions[i] == version;
    return sum;
}

enum { USERS = 1000 };

static void a_canary_gets_its_share_of_users_and_keeps_them(void **state)
{
    static char tenth[USERS], again[USERS], half[USERS], all[USERS];
    struct fixture f;
    (void)state;
    fixture_open(&f);
    for (int v = 2; v <= 3; v++)
        publish_linear(f.models, "m", v, v);
    publish_config(f.models, "m",
              "{\"labels\":{\"canary\":{\"version\":3,\"weight\":10},\"stable\":"
              "{\"version\":2,\"weight\":90}},\"canary_header\":\"X-User-ID\"}");
    fixture_serve(&f, NULL);
    ask_users(&f, "x-user-id", USERS, tenth);
    ask_users(&f, "X-USER-ID", USERS, again);
    assert_memory_equal(tenth, again, USERS);
    /* The names of the users are the same each time, so nothing is left to chance: 10 % of
     * 1000 within five standard deviations, sqrt(1000 * 0.1 * 0.9) each. */
    assert_in_range(count(tenth, USERS, 3), 100 - 48, 100 + 48);

    publish_config(f.models, "m",
              "{\"labels\":{\"canary\":{\"version\":3,\"weight\":1},\"stable\":"
              "{\"version\":2,\"weight\":1}},\"canary_header\":\"x-user-id\"}");
    reload(&f, 200, "\"loaded\"");
    ask_users(&f, "x-user-id", USERS, half);
    assert_in_range(count(half, USERS, 3), 500 - 80, 500 + 80);
    for (int i = 0; i < USERS; i++)
        assert_true(tenth[i] == 2 || half[i] == 3); /* who had it has it still */

    publish_config(f.models, "m",
              "{\"labels\":{\"canary\":{\"version\":3,\"weight\":1},\"stable\":"
              "{\"version\":2,\"weight\":0}},\"canary_header\":\"x-user-id\"}");
    reload(&f, 200, "\"loaded\"");
    ask_users(&f, "x-user-id", USERS, all);
    assert_int_equal(count(all, USERS, 3), USERS);

    /* A version or a label is what was asked for, whoever asks; metadata is the stable one's.
     */
    assert_int_equal(version_at(&f, "/models/m/labels/stable/predict"), 2);
    assert_int_equal(version_at(&f, "/models/m/versions/2/predict"), 2);
    char body[2048];
    request(f.port, "GET", "/models/m", NULL, body, sizeof body);
    assert_contains(body, "{\"name\":\"m\",\"version\":\"2\",");
    assert_contains(body, "\"version_labels\":{\"canary\":{\"version\":\"3\",\"weight\":1},"
                          "\"stable\":{\"version\":\"2\",\"weight\":0}}}");
    fixture_end(&f);
}

static void without_the_header_chance_decides(void **state)
{
    static char versions[USERS];
    struct fixture f;
    (void)state;
    fixture_open(&f);
    for (int v = 2; v <= 3; v++)
        publish_linear(f.models, "m", v, v);
    publish_config(f.models, "m",
              "{\"labels\":{\"stable\":{\"version\":2,\"weight\":1},\"canary\":"
              "{\"version\":3,\"weight\":1}},\"canary_header\":\"x-user-id\"}");
    fixture_serve(&f, NULL);
    ask_users(&f, "x-other", USERS, versions);
    /* Half, within eleven standard deviations: wrong once in 10^27 runs. */
    assert_in_range(count(versions, USERS, 3), 500 - 174, 500 + 174);
    fixture_end(&f);
}

/* The header is looked up when the body has been read, which may take many pieces. */
static void a_long_body_does_not_hide_the_header(void **state)
{
    struct fixture f;
    enum { ROWS = 4000 };
    char *body = linear_body(ROWS);
    struct client *client = client_new();
    (void)state;
    fixture_open(&f);
    for (int v = 2; v <= 3; v++)
        publish_linear(f.models, "m", v, v);
    publish_config(f.models, "m",
              "{\"labels\":{\"stable\":{\"version\":2,\"weight\":1},\"canary\":"
              "{\"version\":3,\"weight\":1}},\"canary_header\":\"x-user-id\"}");
    fixture_serve(&f, NULL);
    for (int user = 0; user < 16; user++) {
        static const char *const bodies[] = {good_body, NULL};
        char line[64];
        const char *seen[2];
        snprintf(line, sizeof line, "x-user-id: user-%d", user);
        for (int i = 0; i < 2; i++) {
            struct reply *r = client_call(client, f.port, "POST", "/predict", line,
                                          bodies[i] ? bodies[i] : body);
            assert_int_equal(r->status, 200);
            seen[i] = strstr(r->body, "\"model_version\":\"3\"") ? "3" : "2";
            reply_free(r);
        }
        assert_string_equal(seen[0], seen[1]);
    }
    client_free(client);
    free(body);
    fixture_end(&f);
}

static void at_a_start_the_share_of_a_broken_canary_goes_to_the_stable_version(void **state)
{
    static char versions[USERS];
    struct fixture f;
    char body[1024];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 2, 2);
    publish_bytes(f.models, "m", 3, "broken", 6);
    publish_config(f.models, "m",
              "{\"labels\":{\"stable\":{\"version\":2,\"weight\":1},\"canary\":"
              "{\"version\":3,\"weight\":1}},\"canary_header\":\"x-user-id\"}");
    fixture_serve(&f, NULL);
    ask_users(&f, "x-user-id", 50, versions);
    assert_int_equal(count(versions, 50, 2), 50);
    assert_int_equal(request(f.port, "POST", "/models/m/labels/canary/predict", good_body, body,
                             sizeof body),
                     503);
    assert_string_equal(body, "{\"error\":\"label canary of model m cannot be served\"}");
    assert_int_equal(request(f.port, "GET", "/models/m", NULL, body, sizeof body), 200);
    assert_contains(body, "{\"version\":\"3\",\"state\":\"failed\",\"reason\":\"");
    publish_linear(f.models, "m", 3, 3);
    reload(&f, 200, "\"m\":{\"outcome\":\"loaded\",\"before\":\"2\",\"after\":\"2\"");
    assert_int_equal(version_at(&f, "/models/m/labels/canary/predict"), 3);
    fixture_end(&f);
}

static void a_model_may_have_a_deadline_and_a_batch_size_of_its_own(void **state)
{
    struct fixture f;
    char body[4096];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_config(f.models, "m", "{\"max_batch_size\":2,\"deadline_ms\":60000}");
    fixture_serve(&f, NULL);
    request(f.port, "POST", "/predict",
            "{\"instances\":[[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4]]}", body,
            sizeof body);
    assert_true(fixture_metric(&f, "predictd_batches_total{model=\"m\",version=\"1\"}") == 3);
    request(f.port, "GET", "/v2/models/m/config", NULL, body, sizeof body);
    assert_contains(body, "\"preferred_batch_size\":[2]");
    publish_config(f.models, "m", "{\"max_batch_size\":4,\"warmup\":32,\"version_policy\":\"all\"}");
    reload(&f, 200, "\"loaded\"");
    request(f.port, "POST", "/predict",
            "{\"instances\":[[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4],[1,2,3,4]]}", body,
            sizeof body);
    assert_true(fixture_metric(&f, "predictd_batches_total{model=\"m\",version=\"1\"}") == 5);
    request(f.port, "GET", "/v2/models/m/config", NULL, body, sizeof body);
    assert_contains(body, "\"version_policy\":{\"all\":{}}");
    fixture_end(&f);
}

static double predictions_of(const struct fixture *f, int version)
{
    char sample[128];
    snprintf(sample, sizeof sample, "predictd_predictions_total{model=\"m\",version=\"%d\"}",
             version);
    return fixture_metric(f, sample);
}

/* A version's counters end with it, and outlive everything that does not change its file. */
static void each_version_counts_by_itself(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "m", 2, 2);
    publish_config(f.models, "m", "{\"version_policy\":\"all\"}");
    fixture_serve(&f, NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(version_at(&f, "/models/m/versions/1/predict"), 1);
    assert_int_equal(version_at(&f, "/models/m/predict"), 2);
    assert_true(predictions_of(&f, 1) == 3);
    assert_true(predictions_of(&f, 2) == 1);
    publish_linear(f.models, "m", 2, 3);
    publish_linear(f.models, "m", 3, 3);
    reload(&f, 200, "\"loaded\"");
    assert_true(predictions_of(&f, 1) == 3);
    assert_true(predictions_of(&f, 2) == 0);
    assert_true(predictions_of(&f, 3) == 0);
    unpublish(f.models, "m", 3);
    reload(&f, 200, "\"loaded\"");
    assert_true(predictions_of(&f, 3) == -1);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_policy_and_the_labels_say_what_is_served),
        cmocka_unit_test(a_change_of_serving_json_loads_no_version_again),
        cmocka_unit_test(labels_name_versions_in_every_protocol),
        cmocka_unit_test(a_broken_serving_json_keeps_what_is_served),
        cmocka_unit_test(one_broken_version_of_several_keeps_all_at_a_reload),
        cmocka_unit_test(a_canary_gets_its_share_of_users_and_keeps_them),
        cmocka_unit_test(without_the_header_chance_decides),
        cmocka_unit_test(a_long_body_does_not_hide_the_header),
        cmocka_unit_test(at_a_start_the_share_of_a_broken_canary_goes_to_the_stable_version),
        cmocka_unit_test(each_version_counts_by_itself),
        cmocka_unit_test(a_model_may_have_a_deadline_and_a_batch_size_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
