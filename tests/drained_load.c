#include "tests/drained_load.h"

#include "tests/server_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char predict[] = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 25\r\n\r\n"
                              "{\"instances\":[[1,2,3,4]]}";

struct load {
    int port;
    bool checks;                /* asks /health now and then, and stops at the first 503 */
    atomic_int answered, lost, wrong;
    atomic_int refused;         /* lost, on a new connection */
};

/* Whether headers were read only the server knows: it logs at its end how many requests it
 * began and did not answer. A client sees besides: a request on a connection that had been
 * answered before and was not announced to close is never lost; one on a new connection may
 * be, when the kernel made it behind the server's last look at the queue. */
static void *run_client(void *arg)
{
    struct load *load = arg;
    int fd = -1;
    bool is_new = false;
    for (int n = 0;; n++) {
        char body[512];
        bool close_after = false;
        if (load->checks && n % 10 == 0) {
            int health = socket_connect(load->port);
            if (health < 0)
                break;
            socket_send(health, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            int status = socket_answer(health, body, sizeof body);
            close(health);
            if (status != 200)
                break;
        }
        is_new = fd < 0;
        if (is_new)
            fd = socket_connect(load->port);
        if (fd < 0)
            break;
        socket_send(fd, predict);
        int status = socket_answer_close(fd, body, sizeof body, &close_after);
        if (status == 200)
            load->answered++;
        else if (status == 0)
            atomic_fetch_add(is_new ? &load->refused : &load->lost, 1);
        else
            load->wrong++;
        if (status == 0 || close_after) {
            close(fd);
            fd = -1;
        }
        if (status == 0)
            break;
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

int drain_under_load(const char *delay, bool checks, long *answered)
{
    const char *const arguments[] = {"--drain-delay", delay, "--threads", "2", NULL};
    struct fixture f;
    pthread_t threads[DRAIN_CLIENTS];

    fixture_open(&f);
    publish_linear(f.models, "m", 1, 1);
    fixture_serve(&f, arguments);
    struct load load = {.port = f.port, .checks = checks};
    for (int i = 0; i < DRAIN_CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_client, &load), 0);
    while (atomic_load(&load.answered) < 10 * DRAIN_CLIENTS &&
           !atomic_load(&load.lost) && !atomic_load(&load.refused))
        usleep(1000);
    int status = fixture_stop(&f);
    for (int i = 0; i < DRAIN_CLIENTS; i++)
        pthread_join(threads[i], NULL);
    char *log = fixture_log(&f);
    assert_non_null(strstr(log, "\"stopped\""));
    assert_non_null(strstr(log, "\"lost\":0}"));
    free(log);
    fixture_close(&f);
    assert_int_equal(status, 0);
    assert_int_equal(load.wrong, 0);
    assert_int_equal(load.lost, 0);
    if (answered)
        *answered += load.answered;
    return load.refused;
}
