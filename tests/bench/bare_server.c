/*
 * The least that a prediction over HTTP can cost: a bare libmicrohttpd server that reads the
 * body and returns a constant of the size of an answer. What bench_predict measures beside.
 *
 * Prints its port. Ends with its standard input.
 */
#include <microhttpd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char answer[] =
    "{\"predictions\":[[0.0000012,0.0000034,0.0000056,0.0000078,0.0000091,0.0000012,0.0000034,"
    "0.9999123,0.0000056,0.0000078]],\"labels\":[\"7\"],\"model_name\":\"mnist-mlp\","
    "\"model_version\":\"1\"}";

struct body {
    size_t size, capacity;
    char data[];
};

static size_t length_of(struct MHD_Connection *connection)
{
    const char *text =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    return text ? strtoull(text, NULL, 10) : 0;
}

static enum MHD_Result handle(void *cls, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *size, void **state)
{
    struct body *body = *state;
    (void)cls, (void)url, (void)method, (void)version;

    if (!body) {
        size_t length = length_of(connection);
        *state = body = malloc(sizeof *body + length);
        if (!body)
            return MHD_NO;
        *body = (struct body){.capacity = length};
        return MHD_YES;
    }
    if (*size) {
        if (*size <= body->capacity - body->size)
            memcpy(body->data + body->size, data, *size);
        body->size += *size;
        *size = 0;
        return MHD_YES;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(
        sizeof answer - 1, (void *)(uintptr_t)answer, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(response, "Content-Type", "application/json");
    enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

static void completed(void *cls, struct MHD_Connection *connection, void **state,
                      enum MHD_RequestTerminationCode code)
{
    (void)cls, (void)connection, (void)code;
    free(*state);
    *state = NULL;
}

int main(void)
{
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, handle, NULL,
        MHD_OPTION_THREAD_POOL_SIZE, 2u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)65536,
        MHD_OPTION_NOTIFY_COMPLETED, completed, NULL, MHD_OPTION_END);
    if (!daemon)
        return 1;
    printf("%u\n", (unsigned)MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    char c;
    while (read(STDIN_FILENO, &c, 1) > 0)
        ;
    MHD_stop_daemon(daemon);
    return 0;
}
