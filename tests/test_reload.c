/*
 * Models that come, go, and break while the server runs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char good_body[] = "{\"instances\":[[1,2,3,4]]}";

static void reload(const struct fixture *f, const char *body, int status, const char *contains)
{
    char answer[4096];
    int got = request(f->admin_port, "POST", "/reload", body, answer, sizeof answer);
    if (!strstr(answer, contains))
        assert_string_equal(answer, contains);
    assert_int_equal(got, status);
}

static void assert_version(const struct fixture *f, const char *model, const char *version)
{
    char path[128], body[1024], expected[64];
    snprintf(path, sizeof path, "/models/%s/predict", model);
    snprintf(expected, sizeof expected, "\"model_version\":\"%s\"}", version);
    assert_int_equal(request(f->port, "POST", path, good_body, body, sizeof body), 200);
    assert_non_null(strstr(body, expected));
}

static void without_models_the_server_is_alive_and_not_ready(void **state)
{
    struct fixture f;
    char body[256];
    (void)state;
    fixture_open(&f);
    fixture_start(&f, NULL);
    assert_int_equal(request(f.port, "GET", "/health/live", NULL, NULL, 0), 200);
    assert_int_equal(request(f.port, "GET", "/health", NULL, body, sizeof body), 503);
    assert_int_equal(request(f.port, "POST", "/predict", good_body, body, sizeof body), 503);
    publish_linear(f.models, "m", 1, 1);
    reload(&f, "", 200, "{\"models\":{\"m\":{\"outcome\":\"loaded\",\"before\":null,"
                        "\"after\":\"1\",\"milliseconds\":");
    assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    assert_version(&f, "m", "1");
    fixture_end(&f);
}

static void a_reload_finds_new_versions_and_models_and_drops_what_is_gone(void **state)
{
    struct fixture f;
    char body[1024];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    fixture_serve(&f, NULL);
    reload(&f, "", 200, "\"a\":{\"outcome\":\"unchanged\",\"before\":\"1\",\"after\":\"1\"");

    publish_linear(f.models, "a", 2, 2);
    publish_linear(f.models, "a", 10, 10);
    publish_linear(f.models, "b", 5, 1);
    reload(&f, "{\"model\":\"a\"}", 200,
           "{\"models\":{\"a\":{\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"10\"");
    assert_version(&f, "a", "10");
    assert_int_equal(request(f.port, "GET", "/models/b", NULL, NULL, 0), 404);
    reload(&f, "", 200, "\"b\":{\"outcome\":\"loaded\",\"before\":null,\"after\":\"5\"");
    assert_version(&f, "b", "5");
    assert_int_equal(request(f.port, "POST", "/predict", good_body, body, sizeof body), 404);

    unpublish(f.models, "a", 10);       /* rolls back */
    reload(&f, "", 200, "\"a\":{\"outcome\":\"loaded\",\"before\":\"10\",\"after\":\"2\"");
    assert_version(&f, "a", "2");
    unpublish(f.models, "b", 5);
    reload(&f, "", 200, "\"b\":{\"outcome\":\"removed\",\"before\":\"5\",\"after\":null");
    assert_int_equal(request(f.port, "GET", "/models/b", NULL, NULL, 0), 404);

    publish_linear(f.models, "a", 2, 3);        /* another file, the same version */
    reload(&f, "", 200, "\"a\":{\"outcome\":\"loaded\",\"before\":\"2\",\"after\":\"2\"");
    assert_int_equal(request(f.port, "POST", "/predict", good_body, body, sizeof body), 200);
    assert_non_null(strstr(body, "[[24.5,38.75,17.0]]"));
    fixture_end(&f);
}

static void a_broken_bundle_at_a_reload_keeps_the_old_version(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    fixture_serve(&f, NULL);
    publish_bytes(f.models, "a", 2, "broken", 6);
    publish_bytes(f.models, "c", 1, "broken", 6);
    for (int again = 0; again < 3; again++) {
        reload(&f, "{\"model\":\"a\"}", 500,
               "{\"models\":{\"a\":{\"outcome\":\"failed\",\"before\":\"1\",\"after\":\"1\"");
        reload(&f, "", 500, "/a/2/model.safetensors: ");
        assert_version(&f, "a", "1");
        assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    }
    unpublish(f.models, "c", 1);
    publish_linear(f.models, "a", 2, 2);
    reload(&f, "", 200, "\"a\":{\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"2\"");
    assert_version(&f, "a", "2");
    fixture_end(&f);
}

static void a_broken_highest_version_at_start_falls_back(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, "a", 2, 2);
    publish_bytes(f.models, "a", 3, "broken", 6);
    publish_bytes(f.models, "a", 4, "", 0);
    fixture_serve(&f, NULL);
    assert_version(&f, "a", "2");
    assert_true(fixture_metric(&f, "predictd_model_versions_skipped_total") == 2);
    char *log = fixture_log(&f);
    assert_non_null(strstr(log, "\"version skipped\",\"model\":\"a\",\"version\":4"));
    free(log);
    fixture_end(&f);
}

static void a_model_without_a_sound_version_keeps_the_server_unready(void **state)
{
    struct fixture f;
    char body[1024];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_bytes(f.models, "b", 1, "broken", 6);
    fixture_start(&f, NULL);
    reload(&f, "", 500, "/b/1/model.safetensors: ");
    assert_int_equal(request(f.port, "GET", "/health", NULL, body, sizeof body), 503);
    assert_string_equal(body, "{\"error\":\"model b has no version that can be served\"}");
    assert_version(&f, "a", "1");
    assert_int_equal(request(f.port, "POST", "/models/b/predict", good_body, NULL, 0), 503);
    publish_linear(f.models, "b", 1, 1);
    reload(&f, "", 200, "\"b\":{\"outcome\":\"loaded\",\"before\":null,\"after\":\"1\"");
    assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    fixture_end(&f);
}

static void what_is_no_model_is_left_alone(void **state)
{
    struct fixture f;
    char body[1024], path[512];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, ".hidden", 1, 1);
    snprintf(path, sizeof path, "%s/empty", f.models);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/a/7", f.models);    /* holds no bundle */
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/a/08", f.models);
    mkdir(path, 0777);
    fixture_serve(&f, NULL);
    assert_int_equal(request(f.port, "GET", "/models", NULL, body, sizeof body), 200);
    assert_non_null(strstr(body, "{\"models\":[{\"name\":\"a\",\"version\":\"1\""));
    assert_null(strstr(body, ",{\"name\":"));
    assert_null(strstr(body, "hidden"));
    fixture_end(&f);
}

/* As Kubernetes publishes: every entry a link through ..data, which is replaced. */
static void folders_behind_links_are_followed(void **state)
{
    struct fixture f;
    char store[512], link[1024], target[1024], model[1024];
    (void)state;
    fixture_open(&f);
    for (int v = 1; v <= 2; v++) {
        snprintf(store, sizeof store, "%s/..%d", f.folder, v);
        assert_int_equal(mkdir(store, 0777), 0);
        publish_linear(store, "m", 1, v);
    }
    snprintf(link, sizeof link, "%s/..data", f.folder);
    assert_int_equal(symlink("..1", link), 0);
    snprintf(target, sizeof target, "%s/..data/m", f.folder);
    snprintf(model, sizeof model, "%s/m", f.models);
    assert_int_equal(symlink(target, model), 0);
    fixture_serve(&f, NULL);
    reload(&f, "", 200, "\"m\":{\"outcome\":\"unchanged\"");
    snprintf(target, sizeof target, "%s/..next", f.folder);
    assert_int_equal(symlink("..2", target), 0);
    assert_int_equal(rename(target, link), 0);
    reload(&f, "", 200, "\"m\":{\"outcome\":\"loaded\",\"before\":\"1\",\"after\":\"1\"");
    fixture_end(&f);
}

static void a_hangup_signal_reloads(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    fixture_serve(&f, NULL);
    publish_linear(f.models, "a", 2, 2);
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    char body[1024] = "";
    for (int i = 0; i < 6000 && !strstr(body, "\"version\":\"2\""); i++) {
        usleep(5000);
        assert_int_equal(request(f.port, "GET", "/models/a", NULL, body, sizeof body), 200);
    }
    assert_non_null(strstr(body, "\"version\":\"2\""));
    fixture_end(&f);
}

static void a_bundle_that_a_script_wrote_is_served(void **state)
{
    struct fixture f;
    char command[1024], body[512];
    (void)state;
    if (access("tests/http/write_bundle.py", R_OK) != 0)
        skip();
    fixture_open(&f);
    publish_bytes(f.models, "measures", 1, "", 0);
    snprintf(command, sizeof command,
             "python3 tests/http/write_bundle.py %s/measures/1/model.safetensors", f.models);
    assert_int_equal(system(command), 0);
    fixture_serve(&f, NULL);
    assert_int_equal(request(f.port, "POST", "/predict", "{\"instances\":[[1,0,0,0]]}", body,
                             sizeof body),
                     200);
    /* The softmax of the script's 2.1, 0, -2.1. */
    double p[3], sum = exp(2.1) + 1 + exp(-2.1);
    assert_int_equal(sscanf(body, "{\"predictions\":[[%lf,%lf,%lf]]", &p[0], &p[1], &p[2]), 3);
    assert_true(fabs(p[0] - exp(2.1) / sum) < 1e-5);
    assert_true(fabs(p[1] - 1 / sum) < 1e-5);
    assert_non_null(strstr(body, ",\"labels\":[\"setosa\"],\"model_name\":\"measures\","));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_models_the_server_is_alive_and_not_ready),
        cmocka_unit_test(a_reload_finds_new_versions_and_models_and_drops_what_is_gone),
        cmocka_unit_test(a_broken_bundle_at_a_reload_keeps_the_old_version),
        cmocka_unit_test(a_broken_highest_version_at_start_falls_back),
        cmocka_unit_test(a_model_without_a_sound_version_keeps_the_server_unready),
        cmocka_unit_test(what_is_no_model_is_left_alone),
        cmocka_unit_test(folders_behind_links_are_followed),
        cmocka_unit_test(a_hangup_signal_reloads),
        cmocka_unit_test(a_bundle_that_a_script_wrote_is_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
