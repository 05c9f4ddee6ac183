/*
 * Reloads while the files beneath them fail: they cannot be read, the disk is full, they are
 * replaced at that moment. What was served before is served after, the reason is told, and the
 * next reload puts it right.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT = 4096, PATHS = 1024, RELOADS = 300 };

static const double x[4] = {1, 2, 3, 4};
static const char body[] = "{\"instances\":[[1,2,3,4]]}";

/* Which of two scales the answer is of; 0: of neither. */
static double served_scale(const struct fixture *f, double one, double other)
{
    char answer[TEXT];
    double got[3], scales[] = {one, other};
    int status = request(f->port, "POST", "/models/m/predict", body, answer, sizeof answer);
    if (status != 200 ||
        sscanf(answer, "{\"predictions\":[[%lf,%lf,%lf]]", &got[0], &got[1], &got[2]) != 3)
        fail_msg("status %d: %s", status, answer);
    for (int i = 0; i < 2; i++) {
        double y[3];
        linear_reference(scales[i], x, y);
        if (fabs(got[0] - y[0]) + fabs(got[1] - y[1]) + fabs(got[2] - y[2]) < 1e-4)
            return scales[i];
    }
    return 0;
}

static void assert_reload(const struct fixture *f, int status, const char *contains)
{
    char answer[TEXT];
    int got = request(f->admin_port, "POST", "/reload", "", answer, sizeof answer);
    if (got != status || !strstr(answer, contains))
        fail_msg("expected %d and \"%s\", got %d: %s", status, contains, got, answer);
}

/* files that cannot be read */

/* The superuser may read everything: then a script gives the rights up before it starts a copy
 * of the server, which stands where anybody may run it. */
static void start_without_privileges(struct fixture *f)
{
    char command[4 * PATHS], saved[PATHS];
    const char *build = getenv("PREDICTD_BUILD");

    snprintf(saved, sizeof saved, "%s", build ? build : "build");
    snprintf(
        command, sizeof command,
        "cp %s/predictd %s/program && chmod 755 %s %s/program && "
        "printf '#!/bin/sh\\nexec setpriv --reuid=65534 --regid=65534 --clear-groups --pdeathsig=KILL "
        "%s/program \"$@\"\\n' >%s/predictd && chmod 755 %s/predictd",
        saved, f->folder, f->folder, f->folder, f->folder, f->folder, f->folder);
    if (geteuid() == 0) {
        assert_int_equal(system(command), 0);
        setenv("PREDICTD_BUILD", f->folder, 1);
    }
    fixture_start(f, NULL);
    if (build)
        setenv("PREDICTD_BUILD", saved, 1);
    else
        unsetenv("PREDICTD_BUILD");
}

static void serve_without_privileges(struct fixture *f)
{
    start_without_privileges(f);
    fixture_wait_ready(f);
}

static void what_may_not_be_read_is_not_taken_for_gone(void **state)
{
    /* Below the folder of models; without a serving.json version 2 is the one. */
    static const struct {
        const char *path;
        bool is_new; /* was changed since it was served */
    } rows[] = {
        {"m/2/model.safetensors", true}, {"m/2", false}, {"m/2", true},
        {"m/serving.json", true},        {"m", false},   {"", false},
    };
    struct fixture f;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "m", 2, 2);
    serve_without_privileges(&f);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[PATHS], config[PATHS];
        struct stat s;
        snprintf(path, sizeof path, "%s/%s", f.models, rows[i].path);
        snprintf(config, sizeof config, "%s/m/serving.json", f.models);
        if (strstr(path, "serving.json")) {
            FILE *file = fopen(path, "w");
            assert_non_null(file);
            assert_true(fputs("{\"version_policy\":{\"specific\":[2]}}", file) >= 0);
            assert_int_equal(fclose(file), 0);
        } else if (rows[i].is_new) {
            publish_linear(f.models, "m", 2, 2);
        }
        assert_int_equal(stat(path, &s), 0);
        assert_int_equal(chmod(path, 0), 0);
        for (int again = 0; again < 2; again++) {
            assert_reload(&f, 500, "Permission denied");
            assert_true(served_scale(&f, 1, 2) == 2);
            assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
        }
        assert_int_equal(chmod(path, s.st_mode & 07777), 0);
        assert_reload(&f, 200, "\"after\":\"2\"");
        assert_true(served_scale(&f, 1, 2) == 2);
        unlink(config);
        assert_reload(&f, 200, "\"after\":\"2\"");
    }
    fixture_end(&f);
}

static void a_folder_that_may_not_be_read_keeps_no_other_from_being_served(void **state)
{
    struct fixture f;
    char path[PATHS], answer[TEXT];
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    publish_linear(f.models, "secret", 1, 1);
    snprintf(path, sizeof path, "%s/secret", f.models);
    assert_int_equal(chmod(path, 0), 0);
    start_without_privileges(&f);
    /* Until it is read nobody knows what is missing: alive, and not ready. */
    *answer = 0;
    for (int i = 0; i < 1000 && !strstr(answer, "secret"); i++) {
        assert_int_equal(request(f.port, "GET", "/health", NULL, answer, sizeof answer), 503);
        usleep(10000);
    }
    assert_non_null(strstr(answer, "secret"));
    assert_true(served_scale(&f, 1, 2) == 1);
    publish_linear(f.models, "m", 2, 2);
    assert_reload(&f, 500, "/secret: Permission denied");
    assert_true(served_scale(&f, 1, 2) == 2);
    assert_int_equal(chmod(path, 0755), 0);
    assert_reload(&f, 200, "\"after\":\"1\"");
    assert_int_equal(request(f.port, "GET", "/health", NULL, NULL, 0), 200);
    fixture_end(&f);
}

/* a full disk */

/* What a writer leaves that was stopped by it: the beginning of a bundle. */
static void what_a_full_disk_left_of_a_bundle_is_refused(void **state)
{
    struct fixture f;
    char path[PATHS];
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, NULL);
    publish_linear(f.models, "m", 2, 2);
    snprintf(path, sizeof path, "%s/m/2/model.safetensors", f.models);
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    for (off_t size = s.st_size - 1; size >= 0; size -= size > 8 ? 61 : 1) {
        assert_int_equal(truncate(path, size), 0);
        assert_reload(&f, 500, "/m/2/model.safetensors: ");
        assert_true(served_scale(&f, 1, 2) == 1);
    }
    publish_linear(f.models, "m", 2, 2);
    assert_reload(&f, 200, "\"after\":\"2\"");
    assert_true(served_scale(&f, 1, 2) == 2);
    fixture_end(&f);
}

/* Its log is all that the server writes. */
static void a_log_that_cannot_grow_stops_nothing(void **state)
{
    struct fixture f;
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, (const char *const[]){"--access-log", NULL});
    assert_int_equal(prlimit(f.pid, RLIMIT_FSIZE, &limit, NULL), 0);
    for (int version = 2; version < 12; version++) {
        publish_linear(f.models, "m", version, version);
        assert_reload(&f, 200, "\"outcome\":\"loaded\"");
        assert_true(served_scale(&f, version, 1) == version);
    }
    fixture_end(&f);
}

/* files that change */

struct writer {
    char path[PATHS], other[PATHS]; /* written in place; replaced by renaming */
    char *contents[2];
    size_t size;
    bool in_place;
    atomic_bool stop;
    atomic_int turns;
};

static void *read_all(const char *path, size_t *size)
{
    struct stat s;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &s), 0);
    void *bytes = malloc((size_t)s.st_size);
    assert_non_null(bytes);
    *size = fread(bytes, 1, (size_t)s.st_size, file);
    fclose(file);
    return bytes;
}

static void *write_again_and_again(void *arg)
{
    struct writer *w = arg;
    for (int turn = 0; !atomic_load(&w->stop); turn++) {
        int fd = open(w->in_place ? w->path : w->other, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        const char *content = w->contents[turn % 2];
        size_t half = w->size / 2;
        if (fd < 0 || write(fd, content, half) < 0 ||
            write(fd, content + half, w->size - half) < 0)
            break;
        close(fd);
        if (!w->in_place && rename(w->other, w->path) < 0)
            break;
        atomic_fetch_add(&w->turns, 1);
        usleep((useconds_t)(turn * 37 % 300));
    }
    return NULL;
}

/* Every answer is one bundle's or the other's, never of half of each. Replaced by renaming, it
 * may change again in every attempt to read it; written in place it may be found half written:
 * both are reported, and nothing else is. */
static void reload_what_changes(bool in_place)
{
    struct fixture f;
    struct writer w = {.in_place = in_place};
    pthread_t thread;
    int loaded = 0;

    fixture_open(&f);
    snprintf(w.path, sizeof w.path, "%s/m/1/model.safetensors", f.models);
    snprintf(w.other, sizeof w.other, "%s/m/1/.next", f.models);
    for (int i = 0; i < 2; i++) {
        publish_linear(f.models, "m", 1, i ? -3 : 1);
        w.contents[i] = read_all(w.path, &w.size);
    }
    fixture_serve(&f, NULL);
    assert_int_equal(pthread_create(&thread, NULL, write_again_and_again, &w), 0);
    for (int i = 0; i < RELOADS; i++) {
        char answer[TEXT];
        int status = request(f.admin_port, "POST", "/reload", "", answer, sizeof answer);
        if (status == 500)
            assert_non_null(strstr(answer, "/m/1/model.safetensors: "));
        else
            assert_int_equal(status, 200);
        loaded += strstr(answer, "\"loaded\"") != NULL;
        if (served_scale(&f, 1, -3) == 0)
            fail_msg("an answer of neither bundle behind %s", answer);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_true(w.turns > 0);
    assert_true(loaded > 0);
    publish_linear(f.models, "m", 1, 1);
    assert_reload(&f, 200, "\"after\":\"1\"");
    assert_true(served_scale(&f, 1, -3) == 1);
    fixture_end(&f);
    free(w.contents[0]);
    free(w.contents[1]);
}

static void a_bundle_that_is_replaced_while_it_is_read_is_read_again(void **state)
{
    (void)state;
    reload_what_changes(false);
}

static void a_bundle_that_is_overwritten_while_it_is_read_is_never_mixed(void **state)
{
    (void)state;
    reload_what_changes(true);
}

/* As the kubelet publishes a volume: a folder of a new name, `..data` renamed to point to it,
 * the old folder removed; what is seen are links through `..data`. */
struct volume {
    char folder[PATHS / 2];
    atomic_bool stop;
    atomic_int swaps;
};

static void swap(const struct volume *v, int generation)
{
    char store[PATHS], link[PATHS], next[PATHS], target[64];
    snprintf(store, sizeof store, "%s/..%d", v->folder, generation);
    snprintf(target, sizeof target, "..%d", generation);
    snprintf(link, sizeof link, "%s/..data", v->folder);
    snprintf(next, sizeof next, "%s/..data_tmp", v->folder);
    if (mkdir(store, 0777) < 0)
        return;
    publish_linear(store, "m", 1, generation % 2 ? 1 : -3);
    if (symlink(target, next) < 0 || rename(next, link) < 0 || generation < 2)
        return;
    snprintf(store, sizeof store, "%s/..%d", v->folder, generation - 1);
    unpublish(store, "m", 1);
    rmdir(store);
}

static void *swap_again_and_again(void *arg)
{
    struct volume *v = arg;
    for (int generation = 2; !atomic_load(&v->stop); generation++) {
        swap(v, generation);
        atomic_store(&v->swaps, generation);
        usleep((useconds_t)(generation * 37 % 300));
    }
    return NULL;
}

static void a_volume_of_kubernetes_is_followed_through_every_swap(void **state)
{
    struct fixture f;
    struct volume v = {.stop = false};
    pthread_t thread;
    char link[PATHS], answer[TEXT];
    (void)state;

    fixture_open(&f);
    snprintf(v.folder, sizeof v.folder, "%s", f.models);
    swap(&v, 1);
    snprintf(link, sizeof link, "%s/m", f.models);
    assert_int_equal(symlink("..data/m", link), 0);
    fixture_serve(&f, NULL);
    assert_int_equal(pthread_create(&thread, NULL, swap_again_and_again, &v), 0);
    for (int i = 0; i < RELOADS; i++) {
        int status = request(f.admin_port, "POST", "/reload", "", answer, sizeof answer);
        assert_true(status == 200 || status == 500);
        if (served_scale(&f, 1, -3) == 0)
            fail_msg("an answer of neither bundle behind %s", answer);
    }
    atomic_store(&v.stop, true);
    pthread_join(thread, NULL);
    assert_true(v.swaps > 2);
    assert_reload(&f, 200, "\"m\":{\"outcome\":");
    assert_true(served_scale(&f, 1, -3) == (v.swaps % 2 ? 1 : -3));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_may_not_be_read_is_not_taken_for_gone),
        cmocka_unit_test(a_folder_that_may_not_be_read_keeps_no_other_from_being_served),
        cmocka_unit_test(what_a_full_disk_left_of_a_bundle_is_refused),
        cmocka_unit_test(a_log_that_cannot_grow_stops_nothing),
        cmocka_unit_test(a_bundle_that_is_replaced_while_it_is_read_is_read_again),
        cmocka_unit_test(a_bundle_that_is_overwritten_while_it_is_read_is_never_mixed),
        cmocka_unit_test(a_volume_of_kubernetes_is_followed_through_every_swap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
