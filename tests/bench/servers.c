#include "tests/bench/servers.h"

#include "tests/bench/load.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Without its end. */
static void read_line(int fd, char *line, size_t size)
{
    size_t n = 0;
    while (n < size - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
        n++;
    line[n] = 0;
}

struct server server_by_input(const char *const *arguments)
{
    struct server s = {.ends_with_input = true};
    char line[64] = "";
    int in[2], out[2];

    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || (s.pid = fork()) < 0)
        bench_die("fork");
    if (s.pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execvp(arguments[0], (char *const *)arguments);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    read_line(out[0], line, sizeof line);
    if (!*line)
        bench_die(arguments[0]);
    close(out[0]);
    s.pipe = in[1];
    s.port = atoi(line);
    return s;
}

struct server server_bare(const char *build)
{
    char path[512];
    snprintf(path, sizeof path, "%s/bench/bare_server", build);
    return server_by_input((const char *const[]){path, NULL});
}

/* The first line of the log tells the port. */
struct server server_predictd(const char *build, const char *models)
{
    struct server s = {0};
    char path[512], line[4096];
    int err[2];

    snprintf(path, sizeof path, "%s/predictd", build);
    if (pipe2(err, O_CLOEXEC) != 0 || (s.pid = fork()) < 0)
        bench_die("fork");
    if (s.pid == 0) {
        dup2(err[1], 2);
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* it does not outlive a measurement that failed */
        execl(path, path, "--models", models, "--port", "0", "--admin-port", "0", "--threads",
              "2", (char *)NULL);
        _exit(127);
    }
    close(err[1]);
    read_line(err[0], line, sizeof line);
    const char *port = strstr(line, "\"port\":");
    if (!port) {
        fprintf(stderr, "bench: %s\n", line);
        exit(1);
    }
    s.port = atoi(port + strlen("\"port\":"));
    s.pipe = err[0]; /* stays open: the log goes on */
    return s;
}

void server_stop(struct server *s)
{
    if (s->ends_with_input)
        close(s->pipe);
    else
        kill(s->pid, SIGTERM);
    waitpid(s->pid, NULL, 0);
    if (!s->ends_with_input)
        close(s->pipe);
}

bool server_is_ready(const struct server *s)
{
    static const char text[] = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char answer[512];
    int fd = load_connect(s->port);
    bool ready = fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)sizeof text - 1 &&
                 read(fd, answer, sizeof answer) > 12 && strncmp(answer + 9, "200", 3) == 0;
    close(fd);
    return ready;
}

static double cpu_of(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0)
        bench_die("a server's clock");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double server_cpu(const struct server *s)
{
    double sum = cpu_of(s->pid);
    char path[64];
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)s->pid, (int)s->pid);
    FILE *f = fopen(path, "r");
    while (f && fscanf(f, "%d", &child) == 1)
        sum += cpu_of(child);
    if (f)
        fclose(f);
    return sum;
}

double server_resident_mb(const struct server *s)
{
    char path[64], line[256];
    double kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)s->pid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "VmRSS:", 6) == 0)
            kb = atof(line + 6);
    if (f)
        fclose(f);
    return kb / 1024;
}
