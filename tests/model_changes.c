#include "tests/model_changes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 8192, PATIENCE = 20 };

static const char good_body[] = "{\"instances\":[[1,2,3,4]]}";

void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        assert_string_equal(text, part);
}

void admin_post(const struct fixture *f, const char *path, const char *body, int status,
                 const char *contains)
{
    char answer[TEXT];
    int got = request(f->admin_port, "POST", path, body, answer, sizeof answer);
    assert_contains(answer, contains);
    assert_int_equal(got, status);
}

void admin_load(const struct fixture *f, const char *model, int status, const char *contains)
{
    char path[128];
    snprintf(path, sizeof path, "/v2/repository/models/%s/load", model);
    admin_post(f, path, "", status, contains);
}

void admin_unload(const struct fixture *f, const char *model, const char *body, int status,
                   const char *contains)
{
    char path[128];
    snprintf(path, sizeof path, "/v2/repository/models/%s/unload", model);
    admin_post(f, path, body, status, contains);
}

void assert_says(const struct fixture *f, const char *path, int status,
                        const char *contains)
{
    char answer[TEXT];
    int got = request(f->port, "GET", path, NULL, answer, sizeof answer);
    assert_contains(answer, contains);
    assert_int_equal(got, status);
}

int version_of(const struct fixture *f, const char *model)
{
    char path[128];
    snprintf(path, sizeof path, "/models/%s/predict", model);
    return version_at(f, path);
}

int version_at(const struct fixture *f, const char *path)
{
    char body[1024];
    int status = request(f->port, "POST", path, good_body, body, sizeof body);
    const char *version = strstr(body, "\"model_version\":\"");
    if (status != 200)
        return 0;
    assert_non_null(version);
    return atoi(version + strlen("\"model_version\":\""));
}

void await_version(const struct fixture *f, const char *model, int version)
{
    time_t until = time(NULL) + PATIENCE;
    int got;
    while ((got = version_of(f, model)) != version && time(NULL) < until)
        usleep(5000);
    assert_int_equal(got, version);
}

int count_in_log(const struct fixture *f, const char *text)
{
    char *log = fixture_log(f);
    int n = 0;
    for (const char *p = log; (p = strstr(p, text)); p++)
        n++;
    free(log);
    return n;
}

void await_in_log(const struct fixture *f, const char *text, int n)
{
    time_t until = time(NULL) + PATIENCE;
    while (count_in_log(f, text) < n && time(NULL) < until)
        usleep(5000);
    assert_int_equal(count_in_log(f, text), n);
}

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
    struct clients *l = arg;
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

void clients_begin(struct clients *l, const struct fixture *f)
{
    *l = (struct clients){.port = f->port};
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&l->threads[i], NULL, run_client, l), 0);
}

void clients_end(struct clients *l, bool was_absent)
{
    atomic_store(&l->stop, true);
    for (int i = 0; i < CLIENTS; i++)
        pthread_join(l->threads[i], NULL);
    assert_int_equal(l->failed, 0);
    assert_true(l->answered > 0);
    if (!was_absent)
        assert_int_equal(l->absent, 0);
}
