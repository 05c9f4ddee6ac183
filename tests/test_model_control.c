/*
 * Who decides what is loaded: --model-control none, poll and explicit. Models are added, changed,
 * rolled back and removed while requests are answered.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 8192, PATIENCE = 20, CLIENTS = 4 };

static const char good_body[] = "{\"instances\":[[1,2,3,4]]}";
static const char *const polling[] = {"--model-control", "poll", "--poll-interval", "0.02", NULL};
static const char *const explicitly[] = {"--model-control", "explicit", NULL};

static void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        assert_string_equal(text, part);
}

/* On the admin port. */
static void post(const struct fixture *f, const char *path, const char *body, int status,
                 const char *contains)
{
    char answer[TEXT];
    int got = request(f->admin_port, "POST", path, body, answer, sizeof answer);
    assert_contains(answer, contains);
    assert_int_equal(got, status);
}

static void load(const struct fixture *f, const char *model, int status, const char *contains)
{
    char path[128];
    snprintf(path, sizeof path, "/v2/repository/models/%s/load", model);
    post(f, path, "", status, contains);
}

static void unload(const struct fixture *f, const char *model, const char *body, int status,
                   const char *contains)
{
    char path[128];
    snprintf(path, sizeof path, "/v2/repository/models/%s/unload", model);
    post(f, path, body, status, contains);
}

static void assert_says(const struct fixture *f, const char *path, int status,
                        const char *contains)
{
    char answer[TEXT];
    int got = request(f->port, "GET", path, NULL, answer, sizeof answer);
    assert_contains(answer, contains);
    assert_int_equal(got, status);
}

static void assert_index(const struct fixture *f, const char *body, const char *expected)
{
    char answer[TEXT];
    request(f->port, "POST", "/v2/repository/index", body, answer, sizeof answer);
    assert_string_equal(answer, expected);
}

/* The version that answers for a model, 0 where none does. */
static int version_of(const struct fixture *f, const char *model)
{
    char path[128], body[1024];
    snprintf(path, sizeof path, "/models/%s/predict", model);
    int status = request(f->port, "POST", path, good_body, body, sizeof body);
    const char *version = strstr(body, "\"model_version\":\"");
    if (status != 200)
        return 0;
    assert_non_null(version);
    return atoi(version + strlen("\"model_version\":\""));
}

static void await_version(const struct fixture *f, const char *model, int version)
{
    time_t until = time(NULL) + PATIENCE;
    int got;
    while ((got = version_of(f, model)) != version && time(NULL) < until)
        usleep(5000);
    assert_int_equal(got, version);
}

static int count_in_log(const struct fixture *f, const char *text)
{
    char *log = fixture_log(f);
    int n = 0;
    for (const char *p = log; (p = strstr(p, text)); p++)
        n++;
    free(log);
    return n;
}

static void await_in_log(const struct fixture *f, const char *text, int n)
{
    time_t until = time(NULL) + PATIENCE;
    while (count_in_log(f, text) < n && time(NULL) < until)
        usleep(5000);
    assert_int_equal(count_in_log(f, text), n);
}

/* Requests to one model while it changes: an answer is right for the version that it names, or
 * the model is not there at that moment. */
struct load {
    int port;
    atomic_bool stop;
    atomic_int answered, absent, failed;
    pthread_t threads[CLIENTS];
};

/* Version v has the scale v. */
static bool is_right(const char *body)
{
    static const double x[4] = {1, 2, 3, 4};
    double y[3], got[3];
    const char *version = strstr(body, "\"model_version\":\"");
    if (!version ||
        sscanf(body, "{\"predictions\":[[%lf,%lf,%lf]]", &got[0], &got[1], &got[2]) != 3)
        return false;
    linear_reference(atof(version + strlen("\"model_version\":\"")), x, y);
    for (int i = 0; i < 3; i++)
        if (!(fabs(got[i] - y[i]) <= 1e-5 * fmax(1, fabs(y[i]))))
            return false;
    return true;
}

static void *run_client(void *arg)
{
    struct load *l = arg;
    int fd = socket_connect(l->port);
    while (!atomic_load(&l->stop)) {
        char send[512], body[1024];
        snprintf(send, sizeof send,
                 "POST /models/m/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(good_body), good_body);
        socket_send(fd, send);
        int status = socket_answer(fd, body, sizeof body);
        if (status == 200 && is_right(body)) {
            l->answered++;
        } else if (status == 404 || (status == 503 && strstr(body, "no models are served"))) {
            l->absent++;
        } else {
            print_error("got %d %s\n", status, body);
            l->failed++;
            break;
        }
    }
    close(fd);
    return NULL;
}

static void load_begin(struct load *l, const struct fixture *f)
{
    *l = (struct load){.port = f->port};
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&l->threads[i], NULL, run_client, l), 0);
}

static void load_end(struct load *l, bool was_absent)
{
    atomic_store(&l->stop, true);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(l->threads[i], NULL);
    assert_int_equal(l->failed, 0);
    assert_true(l->answered > 0);
    if (!was_absent)
        assert_int_equal(l->absent, 0);
}

/* none */

static void without_control_nothing_changes_but_by_a_reload(void **state)
{
    struct fixture f;
    struct load l;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    load_begin(&l, &f);
    for (int v = 2; v < 6; v++) {
        publish_linear(f.models, "m", v, v);
        assert_int_equal(version_of(&f, "m"), v - 1);
        post(&f, "/reload", "", 200, "\"outcome\":\"loaded\"");
        assert_int_equal(version_of(&f, "m"), v);
    }
    unpublish(f.models, "m", 5);
    load(&f, "m", 200, "");
    assert_int_equal(version_of(&f, "m"), 4);
    publish_config(f.models, "m", "{\"labels\":{\"stable\":2}}");
    post(&f, "/reload", "", 200, "\"before\":\"4\",\"after\":\"2\"");
    publish_config(f.models, "m", "{\"version_policy\":{\"specific\":[1,3]}}");
    post(&f, "/reload", "", 200, "\"before\":\"2\",\"after\":\"3\"");
    publish_linear(f.models, "n", 1, 1);
    post(&f, "/reload", "{\"model\":\"n\"}", 200, "\"outcome\":\"loaded\"");
    unload(&f, "n", "", 400, "needs --model-control explicit");
    unpublish(f.models, "n", 1);
    post(&f, "/reload", "", 200, "\"n\":{\"outcome\":\"removed\"");
    load_end(&l, false);
    fixture_end(&f);
}

/* poll */

static void polling_follows_the_folder_under_requests(void **state)
{
    struct fixture f;
    struct load l;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, polling);
    load_begin(&l, &f);
    for (int v = 2; v < 5; v++) {
        publish_linear(f.models, "m", v, v);
        await_version(&f, "m", v);
    }
    unpublish(f.models, "m", 4);
    await_version(&f, "m", 3);
    publish_config(f.models, "m", "{\"labels\":{\"stable\":1}}");
    await_version(&f, "m", 1);
    publish_config(f.models, "m", "{\"version_policy\":{\"specific\":[2]}}");
    await_version(&f, "m", 2);
    publish_linear(f.models, "n", 9, 9);
    await_version(&f, "n", 9);
    unpublish(f.models, "n", 9);
    await_version(&f, "n", 0);
    load_end(&l, false);
    fixture_end(&f);
}

static void polling_follows_an_ensemble_and_its_members(void **state)
{
    static const char members[] = "{\"name\":\"m\",\"version\":\"2\"}";
    struct fixture f;
    char answer[TEXT] = "";
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, polling);
    publish_config(f.models, "e", "{\"ensemble\":[\"m\",\"n\"]}");
    await_in_log(&f, "member n: there is no model of this name", 1);
    /* Nothing in its folder changes when what it lacked comes. */
    publish_linear(f.models, "n", 1, 1);
    publish_linear(f.models, "m", 2, 2);
    time_t until = time(NULL) + PATIENCE;
    while (!strstr(answer, members) && time(NULL) < until) {
        request(f.port, "GET", "/models/e", NULL, answer, sizeof answer);
        usleep(5000);
    }
    assert_contains(answer, members);
    fixture_end(&f);
}

static void polling_reports_what_is_broken_once_for_each_change(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "n", 1, 1);
    fixture_serve(&f, polling);
    publish_bytes(f.models, "m", 2, "broken", 6);
    await_in_log(&f, "\"event\":\"model failed\"", 1);
    /* Many looks, and changes of another model. */
    for (int v = 2; v < 6; v++) {
        publish_linear(f.models, "n", v, v);
        await_version(&f, "n", v);
    }
    assert_int_equal(count_in_log(&f, "\"event\":\"model failed\""), 1);
    assert_int_equal(version_of(&f, "m"), 1);
    publish_bytes(f.models, "m", 2, "broken again", 12);
    await_in_log(&f, "\"event\":\"model failed\"", 2);
    assert_true(fixture_metric(&f, "predictd_model_reloads_total{result=\"failed\"}") == 2);
    publish_linear(f.models, "m", 2, 2);
    await_version(&f, "m", 2);

    /* The folder itself. */
    char away[512];
    snprintf(away, sizeof away, "%s/away", f.folder);
    assert_int_equal(rename(f.models, away), 0);
    await_in_log(&f, "cannot look for changes", 1);
    assert_int_equal(version_of(&f, "m"), 2);
    usleep(200000);
    assert_int_equal(count_in_log(&f, "cannot look for changes"), 1);
    publish_linear(away, "m", 3, 3);
    assert_int_equal(rename(away, f.models), 0);
    await_version(&f, "m", 3);
    fixture_end(&f);
}

/* A bundle that grows for many looks is taken when it is whole, and no part of it is reported as
 * broken. */
static void polling_waits_for_what_is_being_written(void **state)
{
    struct fixture f;
    char path[512], bytes[TEXT];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "n", 1, 2);
    snprintf(path, sizeof path, "%s/n/1/model.safetensors", f.models);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    fixture_serve(&f, (const char *const[]){"--model-control", "poll", "--poll-interval", "0.5",
                                            NULL});
    snprintf(path, sizeof path, "%s/m/2", f.models);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/m/2/model.safetensors", f.models);
    file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < size; i++) {
        fputc(bytes[i], file);
        fflush(file);
        if (i % (size / 60) == 0)
            usleep(20000);
    }
    fclose(file);
    await_version(&f, "m", 2);
    assert_int_equal(count_in_log(&f, "\"event\":\"model failed\""), 0);
    fixture_end(&f);
}

/* As the kubelet publishes a volume: `..data` is renamed to point to another folder. */
static void swap(const struct fixture *f, int generation)
{
    char store[512], link[512], next[512], target[64];
    snprintf(store, sizeof store, "%s/..%d", f->models, generation);
    snprintf(target, sizeof target, "..%d", generation);
    snprintf(link, sizeof link, "%s/..data", f->models);
    snprintf(next, sizeof next, "%s/..data_tmp", f->models);
    assert_int_equal(mkdir(store, 0777), 0);
    publish_linear(store, "m", generation, generation);
    assert_int_equal(symlink(target, next), 0);
    assert_int_equal(rename(next, link), 0);
    if (generation == 1)
        return;
    snprintf(store, sizeof store, "%s/..%d", f->models, generation - 1);
    unpublish(store, "m", generation - 1);
    rmdir(store);
}

static void polling_follows_a_volume_of_kubernetes(void **state)
{
    struct fixture f;
    struct load l;
    char link[512];
    (void)state;
    fixture_open(&f);
    swap(&f, 1);
    snprintf(link, sizeof link, "%s/m", f.models);
    assert_int_equal(symlink("..data/m", link), 0);
    fixture_serve(&f, polling);
    load_begin(&l, &f);
    for (int generation = 2; generation < 8; generation++) {
        swap(&f, generation);
        await_version(&f, "m", generation);
    }
    load_end(&l, false);
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
    post(&f, "/reload", "", 200, "{\"models\":{}}"); /* the start is over */
    assert_says(&f, "/health", 503, "no models are served");
    assert_says(&f, "/health/live", 200, "live");
    assert_index(&f, "",
                 "[{\"name\":\"m\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"},"
                 "{\"name\":\"n\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");
    assert_index(&f, "{\"ready\":true}", "[]");
    load(&f, "x", 404, "failed to load 'x', there is no such model");
    unload(&f, "x", "", 404, "failed to unload 'x', there is no such model");
    unload(&f, "m", "", 200, "");

    load(&f, "m", 200, "");
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
    post(&f, "/reload", "", 200, "{\"models\":{\"m\":{\"outcome\":\"loaded\"");
    assert_int_equal(version_of(&f, "m"), 2);
    assert_int_equal(version_of(&f, "n"), 0);
    assert_index(&f, "",
                 "[{\"name\":\"m\",\"version\":\"2\",\"state\":\"READY\"},"
                 "{\"name\":\"n\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"},"
                 "{\"name\":\"o\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");
    post(&f, "/reload", "{\"model\":\"n\"}", 404, "there is no model n, or it is not loaded");

    /* Back, by the folder, by a label, by the policy. */
    unpublish(f.models, "m", 2);
    post(&f, "/reload", "", 200, "\"before\":\"2\",\"after\":\"1\"");
    publish_linear(f.models, "m", 2, 2);
    load(&f, "m", 200, "");
    assert_int_equal(version_of(&f, "m"), 2);
    publish_config(f.models, "m", "{\"labels\":{\"stable\":1}}");
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    await_version(&f, "m", 1);
    publish_config(f.models, "m", "{\"version_policy\":{\"specific\":[2]}}");
    post(&f, "/reload", "{\"model\":\"m\"}", 200, "\"before\":\"1\",\"after\":\"2\"");

    unload(&f, "m", "{\"parameters\":{}}", 200, "");
    assert_int_equal(version_of(&f, "m"), 0);
    unpublish(f.models, "o", 1);
    load(&f, "n", 200, "");
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
    load(&f, "m", 500, "/m/1/model.safetensors: ");
    assert_says(&f, "/models/m", 503, "no models are served");
    assert_index(&f, "",
                 "[{\"name\":\"m\",\"state\":\"UNAVAILABLE\",\"reason\":\"unloaded\"}]");
    publish_linear(f.models, "m", 1, 1);
    load(&f, "m", 200, "");
    publish_bytes(f.models, "m", 2, "broken", 6);
    load(&f, "m", 500, "/m/2/model.safetensors: ");
    assert_int_equal(version_of(&f, "m"), 1);
    unpublish(f.models, "m", 1);
    unpublish(f.models, "m", 2);
    post(&f, "/reload", "", 200, "\"m\":{\"outcome\":\"removed\"");
    load(&f, "m", 404, "there is no such model");
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
    load(&f, "d", 200, "");
    load(&f, "e", 200, "");
    assert_index(&f, "",
                 "[{\"name\":\"d\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"e\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"m\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"n\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"o\",\"version\":\"1\",\"state\":\"READY\"}]");
    for (size_t i = 0; i < sizeof bad_unloads / sizeof bad_unloads[0]; i++)
        unload(&f, "d", bad_unloads[i].body, 400, bad_unloads[i].says);
    unload(&f, "m", "", 400, "it is a member of the ensemble d, which is loaded");
    assert_int_equal(version_of(&f, "m"), 1);
    /* m is needed by the other one. */
    unload(&f, "d", "{\"parameters\":{\"unload_dependents\":true}}", 200, "");
    assert_index(&f, "{\"ready\":true}",
                 "[{\"name\":\"e\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"m\",\"version\":\"1\",\"state\":\"READY\"},"
                 "{\"name\":\"o\",\"version\":\"1\",\"state\":\"READY\"}]");
    unload(&f, "e", "{\"parameters\":{\"unload_dependents\":false}}", 200, "");
    unload(&f, "m", "", 200, "");
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
        post(&f, "/reload", "", 500, "/x: there is no such model");
        assert_says(&f, "/health", 503, "model x has no version that can be served");
        assert_int_equal(version_of(&f, "m"), 1);
    }
    unload(&f, "x", "", 200, "");
    assert_says(&f, "/health", 200, "ready");
    fixture_end(&f);
}

static void models_come_and_go_explicitly_under_requests(void **state)
{
    struct fixture f;
    struct load l;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "n", 1, 1);
    fixture_serve(&f, (const char *const[]){"--model-control=explicit", "--load-model=m", NULL});
    load_begin(&l, &f);
    for (int i = 0; i < 20; i++) {
        publish_linear(f.models, "m", i + 2, i + 2);
        unload(&f, "m", "", 200, "");
        assert_int_equal(version_of(&f, "m"), 0);
        load(&f, "n", 200, "");
        load(&f, "m", 200, "");
        assert_int_equal(version_of(&f, "m"), i + 2);
        unload(&f, "n", "", 200, "");
    }
    load_end(&l, true);
    fixture_end(&f);
}

/* Requests that come at once are served in their order. */
static void *load_and_unload(void *arg)
{
    const struct fixture *f = arg;
    for (int i = 0; i < 15; i++) {
        load(f, "m", 200, "");
        unload(f, "m", "", 200, "");
        load(f, "n", 200, "");
        post(f, "/reload", "", 200, "");
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
        cmocka_unit_test(polling_follows_the_folder_under_requests),
        cmocka_unit_test(polling_follows_an_ensemble_and_its_members),
        cmocka_unit_test(polling_reports_what_is_broken_once_for_each_change),
        cmocka_unit_test(polling_waits_for_what_is_being_written),
        cmocka_unit_test(polling_follows_a_volume_of_kubernetes),
        cmocka_unit_test(explicitly_only_what_is_asked_for_is_loaded),
        cmocka_unit_test(explicitly_a_broken_model_is_refused_or_stays_as_it_was),
        cmocka_unit_test(explicitly_an_ensemble_comes_with_its_members),
        cmocka_unit_test(what_is_loaded_at_the_start_can_be_named),
        cmocka_unit_test(models_come_and_go_explicitly_under_requests),
        cmocka_unit_test(simultaneous_loads_and_unloads_all_get_an_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
