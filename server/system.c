#include "server/system.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* descriptors and memory */

int64_t system_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur;
}

int64_t system_resident(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return -1;
    long long pages;
    int n = fscanf(file, "%*d %18lld", &pages);
    fclose(file);
    return n == 1 ? pages * sysconf(_SC_PAGESIZE) : -1;
}

double system_processor_seconds(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) < 0)
        return -1;
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int64_t system_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int64_t n = -3;             /* ".", "..", and the descriptor that counts */
    if (!folder)
        return -1;
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

/* files */

static int read_all(struct buffer *text, int fd, const char *path, size_t most,
                    struct nn_error *error)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return nn_fail(error, "%s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return nn_fail(error, "%s: expected a file", path);
    for (size_t left = most + 1; left > 0;) {
        char *room = buffer_reserve(text, left < 4096 ? left : 4096);
        if (!room)
            return nn_fail(error, "%s: out of memory", path);
        ssize_t n = read(fd, room, left < 4096 ? left : 4096);
        if (n < 0 && errno != EINTR)
            return nn_fail(error, "%s: %s", path, strerror(errno));
        if (n == 0)
            return 0;
        text->size += n > 0 ? (size_t)n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
    return nn_fail(error, "%s: expected at most %zu bytes", path, most);
}

int system_read_file(struct buffer *text, const char *path, size_t most, struct nn_error *error)
{
    /* Opening a pipe would wait for somebody to write to it. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return nn_fail(error, "%s: %s", path, strerror(errno));
    int result = read_all(text, fd, path, most, error);
    close(fd);
    return result;
}

/* listening */

bool system_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

/* -1 with errno. */
static int listen_on(const struct sockaddr *address, socklen_t size, bool both)
{
    int one = 1, v6_only = !both;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (address->sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only);
    if (bind(fd, address, size) < 0 || listen(fd, SYSTEM_QUEUE) < 0) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

static int64_t port_of(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        return -1;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

static int cannot_listen(const char *host, int64_t port, struct nn_error *error)
{
    if (errno == EADDRINUSE)
        return nn_fail(error, "port %lld of %s is in use", (long long)port, host);
    return nn_fail(error, "cannot listen on port %lld of %s: %s", (long long)port, host,
                   strerror(errno));
}

int system_listen(const char *host, int64_t *port, struct nn_error *error)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[16];
    int fd = -1;

    if (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0) {
        struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)*port)};
        fd = listen_on((struct sockaddr *)&any, sizeof any, true);
        /* A machine may have no IPv6 at all; then 0.0.0.0 is what it means to say. */
        if (fd < 0 && errno == EADDRINUSE)
            return cannot_listen(host, *port, error);
        if (fd < 0)
            host = "0.0.0.0";
    }
    if (fd < 0) {
        snprintf(service, sizeof service, "%lld", (long long)*port);
        int why = getaddrinfo(host, service, &hints, &list);
        if (why)
            return nn_fail(error, "cannot listen on \"%s\": %s", host, gai_strerror(why));
        fd = listen_on(list->ai_addr, list->ai_addrlen, false);
        freeaddrinfo(list);
        if (fd < 0)
            return cannot_listen(host, *port, error);
    }
    *port = port_of(fd);
    return fd;
}
