/*
 * Two different models published and reloaded in turn under load: no request fails, every
 * answer is that of the version it names, memory stays flat.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include "tests/version_answers.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CLIENTS = 16, RELOADS = 200, SETTLED = 20 };

/* Sanitizers keep freed memory back: then its size says nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEASURES_MEMORY 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MEASURES_MEMORY 0
#endif
#endif
#ifndef MEASURES_MEMORY
#define MEASURES_MEMORY 1
#endif

struct load {
    int port;
    atomic_bool stop;
    atomic_int answered, failed, wrong;
};

static void *run_client(void *arg)
{
    struct load *load = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed >> 4;
    int fd = socket_connect(load->port);

    while (!atomic_load(&load->stop)) {
        char send[512], body[512];
        double x[4];
        for (int i = 0; i < 4; i++)         /* quarters: sums are exact, nothing cancels */
            x[i] = rand_r(&seed) % 81 / 4.0 - 10;
        char json[128];
        snprintf(json, sizeof json, "{\"instances\":[[%.2f,%.2f,%.2f,%.2f]]}", x[0], x[1], x[2],
                 x[3]);
        snprintf(send, sizeof send,
                 "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(json), json);
        socket_send(fd, send);
        int status = socket_answer(fd, body, sizeof body);
        if (status != 200) {
            print_error("%s got %d %s\n", json, status, body);
            load->failed++;
            break;
        }
        if (!version_answers(body, x)) {
            print_error("%s got %s\n", json, body);
            load->wrong++;
        }
        load->answered++;
    }
    close(fd);
    return NULL;
}

static void reloads_under_load_lose_nothing_and_leak_nothing(void **state)
{
    struct fixture f;
    pthread_t threads[CLIENTS];
    int64_t settled = 0;
    (void)state;

    fixture_open(&f);
    publish_linear(f.models, "m", 1, version_scale(1));
    fixture_serve(&f, NULL);
    struct load load = {.port = f.port};
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_client, &load), 0);
    for (int version = 2; version < 2 + RELOADS; version++) {
        char body[1024], expected[64];
        int before = atomic_load(&load.answered);
        publish_linear(f.models, "m", version, version_scale(version));
        assert_int_equal(request(f.admin_port, "POST", "/reload", "", body, sizeof body), 200);
        snprintf(expected, sizeof expected, "\"after\":\"%d\"", version);
        assert_non_null(strstr(body, expected));
        /* Whoever asks after the report gets the new version. */
        assert_int_equal(request(f.port, "POST", "/predict", "{\"instances\":[[1,2,3,4]]}", body,
                                 sizeof body),
                         200);
        snprintf(expected, sizeof expected, "\"model_version\":\"%d\"", version);
        assert_non_null(strstr(body, expected));
        unpublish(f.models, "m", version - 1);
        while (atomic_load(&load.answered) < before + CLIENTS && !atomic_load(&load.failed))
            usleep(200);
        if (version == 1 + SETTLED)
            settled = fixture_resident(&f);
    }
    int64_t resident = fixture_resident(&f);
    atomic_store(&load.stop, true);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(load.failed, 0);
    assert_int_equal(load.wrong, 0);
    if (MEASURES_MEMORY && resident > settled + settled / 20 + (1 << 20))
        assert_int_equal(resident, settled);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reloads_under_load_lose_nothing_and_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
