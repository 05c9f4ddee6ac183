#include "server/healthcheck.h"

#include "server/clock.h"
#include "server/tls.h"
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PATIENCE_MS = 3000, ANSWER_SIZE = 2048 };

static const char request[] = "GET /health HTTP/1.1\r\n"
                              "Host: localhost\r\n"
                              "Connection: close\r\n\r\n";

/* Every call on a socket ends by then, connect() too: its limit is the one of sending. */
static bool limit_by(int fd, int64_t deadline)
{
    int64_t left = (deadline - clock_now()) / 1000; /* microseconds */
    if (left <= 0) {
        errno = EAGAIN;
        return false;
    }
    struct timeval limit = {.tv_sec = left / 1000000, .tv_usec = left % 1000000};
    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0;
}

/* Sends the request and reads the answer to its end, or as far as it fits. `tls` may be NULL.
 */
static bool exchange(int fd, struct tls_client *tls, int64_t deadline, char answer[ANSWER_SIZE])
{
    size_t size = sizeof request - 1, got = 0;
    ssize_t n =
        tls ? tls_client_send(tls, request, size) : send(fd, request, size, MSG_NOSIGNAL);

    if (n != (ssize_t)size)
        return false;
    n = -1;
    while (got < ANSWER_SIZE - 1 && limit_by(fd, deadline)) {
        char *end = answer + got;
        size_t room = ANSWER_SIZE - 1 - got;
        n = tls ? tls_client_receive(tls, end, room) : recv(fd, end, room, 0);
        if (n < 0 && errno == EAGAIN)
            continue; /* until the deadline */
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    answer[got] = 0;
    return got > 0 || n == 0;
}

/* The answer as text. false: *why says why there is none. */
static bool ask(const struct addrinfo *address, bool secure, char answer[ANSWER_SIZE],
                const char **why)
{
    int64_t deadline = clock_now() + PATIENCE_MS * INT64_C(1000000);
    struct tls_client *tls = NULL;
    bool answered = false;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *why = NULL;
    if (fd >= 0 && limit_by(fd, deadline) &&
        connect(fd, address->ai_addr, address->ai_addrlen) == 0) {
        if (secure)
            tls = tls_client_open(fd, PATIENCE_MS, why);
        answered = (!secure || tls) && exchange(fd, tls, deadline, answer);
    }
    if (!answered && !*why)
        *why = strerror(errno == EAGAIN || errno == EINPROGRESS ? ETIMEDOUT : errno);
    tls_client_close(tls);
    if (fd >= 0)
        close(fd);
    return answered;
}

/* 0: not an HTTP answer. *body: what follows the headers. */
static int status_of(const char *answer, const char **body)
{
    int status = 0;
    const char *end = strstr(answer, "\r\n\r\n");
    if (!end || sscanf(answer, "HTTP/1.%*1[01] %3d", &status) != 1)
        return 0;
    *body = end + 4;
    return status;
}

int healthcheck(const struct options *o, struct nn_error *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char port[16], answer[ANSWER_SIZE];
    const char *body, *reason = "";
    int result = -1, status;

    if (o->port == 0)
        return nn_fail(error,
                       "--port: a health check needs the port that the server has, not 0");

    /* Who listens on every address is found on the loopback, which no name is to getaddrinfo().
     */
    bool every = strcmp(o->host, "0.0.0.0") == 0 || strcmp(o->host, "::") == 0;
    snprintf(port, sizeof port, "%lld", (long long)o->port);
    int why = getaddrinfo(every ? NULL : o->host, port, &hints, &list);
    if (why)
        return nn_fail(error, "%s: %s", o->host, gai_strerror(why));

    bool answered = false;
    for (const struct addrinfo *a = list; a && !answered; a = a->ai_next)
        answered = ask(a, o->tls_cert != NULL, answer, &reason);
    if (!answered)
        nn_fail(error, "no answer on port %s of %s: %s", port, o->host, reason);
    else if ((status = status_of(answer, &body)) == 0)
        nn_fail(error, "no HTTP answer on port %s of %s", port, o->host);
    else if (status != 200)
        nn_fail(error, "not ready: %d %.*s", status, (int)strcspn(body, "\r\n"), body);
    else
        result = 0;
    freeaddrinfo(list);
    return result;
}
