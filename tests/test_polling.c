/*
 * --model-control poll: what is loaded follows the folder by itself.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/model_changes.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 8192, PATIENCE = 20 };

static const char *const polling[] = {"--model-control", "poll", "--poll-interval", "0.02", NULL};

static void polling_follows_the_folder_under_requests(void **state)
{
    struct fixture f;
    struct clients l;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, polling);
    clients_begin(&l, &f);
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
    clients_end(&l, false);
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

static void what_is_left_out_for_its_name_is_told_once_and_at_each_reload(void **state)
{
    static const char told[] = "\"event\":\"left out\"";
    struct fixture f;
    char path[FIXTURE_PATH + 32], other[FIXTURE_PATH + 32];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "my model", 1, 1);
    fixture_serve(&f, polling);
    /* Many looks, and changes of another model. */
    for (int v = 2; v < 5; v++) {
        publish_linear(f.models, "m", v, v);
        await_version(&f, "m", v);
    }
    assert_int_equal(count_in_log(&f, told), 1);
    snprintf(path, sizeof path, "%s/m/5", f.models);
    snprintf(other, sizeof other, "%s/m/05", f.models);
    publish_linear(f.models, "m", 5, 5);
    assert_int_equal(rename(path, other), 0);
    await_in_log(&f, "\"path\":\"m/05\",\"reason\":\"expected a version", 1);
    assert_int_equal(request(f.admin_port, "POST", "/reload", "", NULL, 0), 200);
    await_in_log(&f, "\"path\":\"m/05\"", 2);
    assert_int_equal(version_of(&f, "m"), 4);
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

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Writes the version's bundle little by little. Returns the longest time in which it did not
 * grow, which is ours to answer for. */
static double write_slowly(const struct fixture *f, int version, const char *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/m/%d", f->models, version);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/m/%d/model.safetensors", f->models, version);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    double longest = 0, last = seconds();
    for (size_t i = 0; i < size; i++) {
        fputc(bytes[i], file);
        fflush(file);
        double now = seconds();
        longest = now - last > longest ? now - last : longest;
        last = now;
        if (i % (size / 60) == 0)
            usleep(20000);
    }
    fclose(file);
    return longest;
}

/* A bundle that grows for many looks is taken when it is whole, and no part of it is reported
 * as broken. Where something kept us from writing for as long as between two looks, it may be.
 */
static void polling_waits_for_what_is_being_written(void **state)
{
    enum { ATTEMPTS = 20 };
    const double interval = 0.5;
    struct fixture f;
    char path[512], bytes[TEXT];
    bool steady = false;
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
    for (int version = 2; !steady && version < 2 + ATTEMPTS; version++) {
        int failed = count_in_log(&f, "\"event\":\"model failed\"");
        steady = write_slowly(&f, version, bytes, size) < interval / 2;
        await_version(&f, "m", version);
        if (steady)
            assert_int_equal(count_in_log(&f, "\"event\":\"model failed\""), failed);
    }
    assert_true(steady);
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
    struct clients l;
    char link[512];
    (void)state;
    fixture_open(&f);
    swap(&f, 1);
    snprintf(link, sizeof link, "%s/m", f.models);
    assert_int_equal(symlink("..data/m", link), 0);
    fixture_serve(&f, polling);
    clients_begin(&l, &f);
    for (int generation = 2; generation < 8; generation++) {
        swap(&f, generation);
        await_version(&f, "m", generation);
    }
    clients_end(&l, false);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(polling_follows_the_folder_under_requests),
        cmocka_unit_test(polling_follows_an_ensemble_and_its_members),
        cmocka_unit_test(what_is_left_out_for_its_name_is_told_once_and_at_each_reload),
        cmocka_unit_test(polling_reports_what_is_broken_once_for_each_change),
        cmocka_unit_test(polling_waits_for_what_is_being_written),
        cmocka_unit_test(polling_follows_a_volume_of_kubernetes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
