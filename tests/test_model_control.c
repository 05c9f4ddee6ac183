/*
 * Who decides what is loaded: --model-control none and explicit. Models are added, changed,
 * rolled back and removed while requests are answered.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/model_changes.h"
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { TEXT = 8192 };

static const char *const explicitly[] = {"--model-control", "explicit", NULL};

static void assert_index(const struct fixture *f, const char *body, const char *expected)
{
    char answer[TEXT];
    request(f->port, "POST", "/v2/repository/index", body, answer, sizeof answer);
    assert_string_equal(answer, expected);
}

/* none */

static void without_control_nothing_changes_but_by_a_reload(void **state)
{
    struct fixture f;
    struct clients l;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    clients_begin(&l, &f);
    for (int v = 2; v < 6; v++) {
        publish_linear(f.models, "m", v, v);
        assert_int_equal(version_of(&f, "m"), v - 1);
        admin_post(&f, "/reload", "", 200, "\"outcome\":\"loaded\"");
        assert_int_equal(version_of(&f, "m"), v);
    }
    unpublish(f.models, "m", 5);
    admin_load(&f, "m", 200, "");
    assert_int_equal(version_of(&f, "m"), 4);
    publish_config(f.models, "m", "{\"labels\":{\"stable\":2}}");
    admin_post(&f, "/reload", "", 200, "\"before\":\"4\",\"after\":\"2\"");
    publish_config(f.models, "m", "{\"version_policy\":{\"specific\":[1,3]}}");
    admin_post(&f, "/reload", "", 200, "\"before\":\"2\",\"after\":\"3\"");
    publish_linear(f.models, "n", 1, 1);
    admin_post(&f, "/reload", "{\"model\":\"n\"}", 200, "\"outcome\":\"loaded\"");
    admin_unload(&f, "n", "", 400, "needs --model-control explicit");
    unpublish(f.models, "n", 1);
    admin_post(&f, "/reload", "", 200, "\"n\":{\"outcome\":\"removed\"");
    clients_end(&l, false);
    fixture_end(&f);
}

/* explicit */

static void explicitly_only_what_is_asked_for_is_loaded(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "n", 1, 1);
    fixture_start(&f, explicitly);
    admin_post(&f, "/reload", "", 200, "{\"models\":{}}"); /* the start is over */
    assert_says(&f, "/health", 503, "no models are served");
    assert_says(&f, "/health/live", 200, "live");
    assert_index(&f, "",
                 "[{\"name\":\"m\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"},"
                 "{\"name\":\"n\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");
    assert_index(&f, "{\"ready\":true}", "[]");
    admin_load(&f, "x", 404, "failed to load 'x', there is no such model");
    admin_unload(&f, "x", "", 404, "failed to unload 'x', there is no such model");
    admin_unload(&f, "m", "", 200, "");

    admin_load(&f, "m", 200, "");
    assert_says(&f, "/health", 200, "ready");
    assert_int_equal(version_of(&f, "m"), 1);
    assert_int_equal(version_of(&f, "n"), 0);
    assert_says(&f, "/v2/models/n/ready", 404, "unknown model");
    assert_index(&f, "",
                 "[{\"name\":\"m\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"n\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");

    /* A reload reads again what is loaded, and nothing else. */
    publish_linear(f.models, "m", 2, 2);
    publish_linear(f.models, "n", 2, 2);
    publish_linear(f.models, "o", 1, 1);
    admin_post(&f, "/reload", "", 200, "{\"models\":{\"m\":{\"outcome\":\"loaded\"");
    assert_int_equal(version_of(&f, "m"), 2);
    assert_int_equal(version_of(&f, "n"), 0);
    assert_index(&f, "",
                 "[{\"name\":\"m\",\"version\":\"2\",\"state\":\"READY\"},"
                 "{\"name\":\"n\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"},"
                 "{\"name\":\"o\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");
    admin_post(&f, "/reload", "{\"model\":\"n\"}", 404,
               "there is no model n, or it is not loaded");

    /* Back, by the folder, by a label, by the policy. */
    unpublish(f.models, "m", 2);
    admin_post(&f, "/reload", "", 200, "\"before\":\"2\",\"after\":\"1\"");
    publish_linear(f.models, "m", 2, 2);
    admin_load(&f, "m", 200, "");
    assert_int_equal(version_of(&f, "m"), 2);
    publish_config(f.models, "m", "{\"labels\":{\"stable\":1}}");
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    await_version(&f, "m", 1);
    publish_config(f.models, "m", "{\"version_policy\":{\"specific\":[2]}}");
    admin_post(&f, "/reload", "{\"model\":\"m\"}", 200, "\"before\":\"1\",\"after\":\"2\"");

    admin_unload(&f, "m", "{\"parameters\":{}}", 200, "");
    assert_int_equal(version_of(&f, "m"), 0);
    unpublish(f.models, "o", 1);
    admin_load(&f, "n", 200, "");
    assert_index(&f, "",
                 "[{\"name\":\"n\",\"version\":\"2\",\"state\":\"READY\"},"
                 "{\"name\":\"m\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");
    fixture_end(&f);
}

static void explicitly_a_broken_model_is_refused_or_stays_as_it_was(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_bytes(f.models, "m", 1, "broken", 6);
    fixture_start(&f, explicitly);
    admin_load(&f, "m", 500, "/m/1/model.safetensors: ");
    assert_says(&f, "/models/m", 503, "no models are served");
    assert_index(&f, "",
                 "[{\"name\":\"m\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");
    publish_linear(f.models, "m", 1, 1);
    admin_load(&f, "m", 200, "");
    publish_bytes(f.models, "m", 2, "broken", 6);
    admin_load(&f, "m", 500, "/m/2/model.safetensors: ");
    assert_int_equal(version_of(&f, "m"), 1);
    unpublish(f.models, "m", 1);
    unpublish(f.models, "m", 2);
    admin_post(&f, "/reload", "", 200, "\"m\":{\"outcome\":\"removed\"");
    admin_load(&f, "m", 404, "there is no such model");
    fixture_end(&f);
}

static const struct {
    const char *body, *says;
} bad_unloads[] = {
    {"[]", "expected {\\\"parameters\\\": "},
    {"{\"parameters\":1}", "parameters: expected an object"},
    {"{\"parameters\":{\"unload_dependents\":1}}",
     "parameters.unload_dependents: expected a boolean"},
    {"{\"parameters\":{\"unload_dependents\":true}", "unexpected end of the body"},
};

static void explicitly_an_ensemble_comes_with_its_members(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "n", 1, 1);
    publish_linear(f.models, "o", 1, 1);
    publish_config(f.models, "d", "{\"ensemble\":[\"m\",\"n\"]}");
    publish_config(f.models, "e", "{\"ensemble\":[\"m\",\"o\"]}");
    fixture_start(&f, explicitly);
    admin_load(&f, "d", 200, "");
    admin_load(&f, "e", 200, "");
    assert_index(&f, "",
                 "[{\"name\":\"d\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"e\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"m\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"n\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"o\",\"version\":\"1\",\"state\":\"READY\"}]");
    for (size_t i = 0; i < sizeof bad_unloads / sizeof bad_unloads[0]; i++)
        admin_unload(&f, "d", bad_unloads[i].body, 400, bad_unloads[i].says);
    admin_unload(&f, "m", "", 400, "it is a member of the ensemble d, which is loaded");
    assert_int_equal(version_of(&f, "m"), 1);
    /* m is needed by the other one. */
    admin_unload(&f, "d", "{\"parameters\":{\"unload_dependents\":true}}", 200, "");
    assert_index(&f, "{\"ready\":true}",
                 "[{\"name\":\"e\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"m\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"o\",\"version\":\"1\",\"state\":\"READY\"}]");
    admin_unload(&f, "e", "{\"parameters\":{\"unload_dependents\":false}}", 200, "");
    admin_unload(&f, "m", "", 200, "");
    assert_index(&f, "{\"ready\":true}",
                 "[{\"name\":\"o\",\"version\":\"1\",\"state\":\"READY\"}]");
    fixture_end(&f);
}

static void what_is_loaded_at_the_start_can_be_named(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "n", 1, 1);
    publish_linear(f.models, "o", 1, 1);
    publish_config(f.models, "e", "{\"ensemble\":[\"n\"]}");
    fixture_serve(&f, (const char *const[]){"--model-control=explicit", "--load-model", "m,e", NULL});
    assert_index(&f, "",
                 "[{\"name\":\"e\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"m\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"n\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"o\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");
    assert_int_equal(fixture_stop(&f), 0);
    fixture_serve(&f, (const char *const[]){"--model-control=explicit", "--load-model=*", NULL});
    assert_int_equal(version_of(&f, "m") + version_of(&f, "n") + version_of(&f, "o"), 3);
    assert_int_equal(fixture_stop(&f), 0);

    /* What is not there keeps the server from being ready, and can be given up. */
    fixture_start(&f, (const char *const[]){"--model-control=explicit", "--load-model=x,m", NULL});
    for (int again = 0; again < 2; again++) {
        admin_post(&f, "/reload", "", 500, "/x: there is no such model");
        assert_says(&f, "/health", 503, "model x has no version that can be served");
        assert_int_equal(version_of(&f, "m"), 1);
    }
    admin_unload(&f, "x", "", 200, "");
    assert_says(&f, "/health", 200, "ready");
    fixture_end(&f);
}

static void models_come_and_go_explicitly_under_requests(void **state)
{
    struct fixture f;
    struct clients l;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "n", 1, 1);
    fixture_serve(&f, (const char *const[]){"--model-control=explicit", "--load-model=m", NULL});
    clients_begin(&l, &f);
    for (int i = 0; i < 20; i++) {
        publish_linear(f.models, "m", i + 2, i + 2);
        admin_unload(&f, "m", "", 200, "");
        assert_int_equal(version_of(&f, "m"), 0);
        admin_load(&f, "n", 200, "");
        admin_load(&f, "m", 200, "");
        assert_int_equal(version_of(&f, "m"), i + 2);
        admin_unload(&f, "n", "", 200, "");
    }
    clients_end(&l, true);
    fixture_end(&f);
}

/* Requests that come at once are served in their order. */
static void *load_and_unload(void *arg)
{
    const struct fixture *f = arg;
    for (int i = 0; i < 15; i++) {
        admin_load(f, "m", 200, "");
        admin_unload(f, "m", "", 200, "");
        admin_load(f, "n", 200, "");
        admin_post(f, "/reload", "", 200, "");
    }
    return NULL;
}

static void simultaneous_loads_and_unloads_all_get_an_answer(void **state)
{
    struct fixture f;
    pthread_t threads[CLIENTS];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "n", 1, 1);
    fixture_start(&f, explicitly);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, load_and_unload, &f), 0);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(version_of(&f, "m"), 0);
    assert_int_equal(version_of(&f, "n"), 1);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_control_nothing_changes_but_by_a_reload),
        cmocka_unit_test(explicitly_only_what_is_asked_for_is_loaded),
        cmocka_unit_test(explicitly_a_broken_model_is_refused_or_stays_as_it_was),
        cmocka_unit_test(explicitly_an_ensemble_comes_with_its_members),
        cmocka_unit_test(what_is_loaded_at_the_start_can_be_named),
        cmocka_unit_test(models_come_and_go_explicitly_under_requests),
        cmocka_unit_test(simultaneous_loads_and_unloads_all_get_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
