#include "tests/server_fixture.h"

#include "engine/formats/safetensors.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 40, PATIENCE = 60000 };  /* milliseconds, under sanitizers and load */

static void program(char path[FIXTURE_PATH])
{
    const char *build = getenv("PREDICTD_BUILD");
    snprintf(path, FIXTURE_PATH, "%s/predictd", build ? build : "build");
}

static void pause_ms(int ms)
{
    usleep((useconds_t)ms * 1000);
}

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t size = 0, n;
    char *text = calloc(1, 1);
    char piece[4096];
    while (file && (n = fread(piece, 1, sizeof piece, file)) > 0) {
        text = realloc(text, size + n + 1);
        assert_non_null(text);
        memcpy(text + size, piece, n);
        text[size += n] = 0;
    }
    if (file)
        fclose(file);
    return text;
}

/* the server */

void fixture_open(struct fixture *f)
{
    *f = (struct fixture){.folder = "/tmp/predictd-test-XXXXXX"};
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->models, sizeof f->models, "%.200s/models", f->folder);
    assert_int_equal(mkdir(f->models, 0777), 0);
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *walk)
{
    (void)s, (void)type, (void)walk;
    return remove(path);
}

void fixture_close(struct fixture *f)
{
    if (f->pid) {
        kill(f->pid, SIGKILL);
        waitpid(f->pid, NULL, 0);
        f->pid = 0;
    }
    nftw(f->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

char *fixture_log(const struct fixture *f)
{
    char path[FIXTURE_PATH + 8];
    snprintf(path, sizeof path, "%s/log", f->folder);
    return read_text(path);
}

static int number_after(const char *text, const char *key)
{
    const char *found = strstr(text, key);
    return found ? atoi(found + strlen(key)) : -1;
}

void fixture_spawn(struct fixture *f, const char *const *arguments)
{
    char path[FIXTURE_PATH], log[FIXTURE_PATH + 8];
    const char *argv[MAX_ARGUMENTS] = {path,     "--models",     f->models, "--port", "0",
                                       "--host", "127.0.0.1",    "--admin-port", "0"};
    int n = 9;

    while (arguments && *arguments && n < MAX_ARGUMENTS - 1)
        argv[n++] = *arguments++;
    program(path);
    snprintf(log, sizeof log, "%s/log", f->folder);
    unlink(log);                /* of the server before */
    f->pid = fork();
    assert_true(f->pid >= 0);
    if (f->pid == 0) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
        prctl(PR_SET_PDEATHSIG, SIGKILL);       /* a test that fails leaves nobody behind */
        dup2(fd, 1);
        dup2(fd, 2);
        execv(path, (char *const *)argv);
        _exit(127);
    }
}

void fixture_start(struct fixture *f, const char *const *arguments)
{
    fixture_spawn(f, arguments);
    for (int waited = 0; waited < PATIENCE; waited += 5) {
        char *text = fixture_log(f);
        bool listens = strstr(text, "\"listening\"") && strchr(text, '\n');
        f->port = number_after(text, "\"port\":");
        f->admin_port = number_after(text, "\"admin_port\":");
        free(text);
        if (listens)
            return;
        if (waitpid(f->pid, NULL, WNOHANG) == f->pid) {
            f->pid = 0;
            text = fixture_log(f);
            print_error("%s", text);
            free(text);
            fail_msg("the server did not start");
        }
        pause_ms(5);
    }
    fail_msg("the server does not listen");
}

void fixture_wait_ready(struct fixture *f)
{
    for (int waited = 0; waited < PATIENCE; waited += 5) {
        if (request(f->port, "GET", "/health", NULL, NULL, 0) == 200)
            return;
        pause_ms(5);
    }
    fail_msg("the server does not become ready");
}

void fixture_serve(struct fixture *f, const char *const *arguments)
{
    fixture_start(f, arguments);
    fixture_wait_ready(f);
}

int fixture_wait(struct fixture *f)
{
    int status;
    for (int waited = 0; waited < PATIENCE; waited += 5) {
        if (waitpid(f->pid, &status, WNOHANG) == f->pid) {
            f->pid = 0;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        pause_ms(5);
    }
    fail_msg("the server does not end");
    return -1;
}

int fixture_stop(struct fixture *f)
{
    assert_int_equal(kill(f->pid, SIGTERM), 0);
    return fixture_wait(f);
}

void fixture_end(struct fixture *f)
{
    assert_int_equal(fixture_stop(f), 0);
    fixture_close(f);
}

const char *fixture_plain_build(void)
{
    static char plain[FIXTURE_PATH];
    const char *build = getenv("PREDICTD_BUILD");
    char path[FIXTURE_PATH + 16];
    snprintf(plain, sizeof plain, "%s", build ? build : "build");
    char *slash = strrchr(plain, '/');
    if (slash && (strstr(slash, "address") || strstr(slash, "thread")))
        *slash = 0;
    snprintf(path, sizeof path, "%s/predictd", plain);
    return access(path, X_OK) == 0 ? plain : NULL;
}

int fixture_run(const char *const *arguments, const char *variable, char *text, size_t size)
{
    char path[FIXTURE_PATH];
    const char *argv[MAX_ARGUMENTS] = {path};
    int out[2], status, n = 1;

    while (*arguments && n < MAX_ARGUMENTS - 1)
        argv[n++] = *arguments++;
    program(path);
    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(out[1], 1);
        dup2(out[1], 2);
        close(out[0]);
        if (variable)
            putenv((char *)(uintptr_t)variable);
        execv(path, (char *const *)argv);
        _exit(127);
    }
    close(out[1]);
    size_t got = 0;
    char piece[1024];
    for (ssize_t r; (r = read(out[0], piece, sizeof piece)) > 0;)
        for (ssize_t i = 0; i < r && got + 1 < size; i++)
            text[got++] = piece[i];
    text[got] = 0;
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

double fixture_metric(const struct fixture *f, const char *sample)
{
    static char text[1 << 18];
    char line[256];
    int waited = 0;
    while (request(f->port, "GET", "/metrics", NULL, text, sizeof text) != 200) {
        if (waited >= PATIENCE)
            fail_msg("/metrics does not answer");
        pause_ms(50);
        waited += 50;
    }
    snprintf(line, sizeof line, "\n%s ", sample);
    const char *found = strstr(text, line);
    return found ? atof(found + strlen(line)) : -1;
}

void fixture_await_metric(const struct fixture *f, const char *sample, double value)
{
    double found = -1;
    for (int waited = 0; waited < PATIENCE; waited += 5) {
        found = fixture_metric(f, sample);
        if (found >= value)
            return;
        pause_ms(5);
    }
    fail_msg("%s is %g, not %g", sample, found, value);
}

int64_t fixture_resident(const struct fixture *f)
{
    char path[64];
    long long pages = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", (int)f->pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*s %lld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

/* models */

static const double weight[3][4] = {{1, -2, 3, 0.5}, {0.25, 4, -1, 2}, {-3, 1, 0, 1.5}};
static const double bias[3] = {0.5, -1, 2};

void linear_reference(double scale, const double x[4], double y[3])
{
    for (int i = 0; i < 3; i++) {
        y[i] = bias[i];
        for (int k = 0; k < 4; k++)
            y[i] += scale * weight[i][k] * x[k];
    }
}

char *linear_body(int n)
{
    char *body = malloc((size_t)n * strlen(",[1,2,3,4]") + 32), *end = body;
    assert_non_null(body);
    end += sprintf(end, "{\"instances\":[[1,2,3,4]");
    for (int i = 1; i < n; i++)
        end += sprintf(end, ",[1,2,3,4]");
    sprintf(end, "]}");
    return body;
}

static void version_path(char path[1024], const char *models, const char *name, int version,
                         const char *file)
{
    snprintf(path, 1024, "%s/%s/%d%s", models, name, version, file);
}

void publish_bytes(const char *models, const char *name, int version, const void *bytes,
                   size_t size)
{
    char path[1024], temporary[1024];
    snprintf(path, sizeof path, "%s/%s", models, name);
    mkdir(path, 0777);
    version_path(path, models, name, version, "");
    mkdir(path, 0777);
    version_path(path, models, name, version, "/model.safetensors");
    version_path(temporary, models, name, version, "/.temporary");
    FILE *file = fopen(temporary, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(temporary, path), 0);
}

void publish_graph(const char *models, const char *name, int version, const char *graph,
                   const char *labels)
{
    struct safetensors_metadata metadata[] = {
        {"format", "predictd/1"}, {"graph", graph}, {"labels", labels}};
    struct safetensors file = {.n_metadata = labels ? 3 : 2, .metadata = metadata};
    struct nn_error error = {0};
    char path[FIXTURE_PATH + 128];
    publish_bytes(models, name, version, "", 0);
    snprintf(path, sizeof path, "%s/%s/%d/model.safetensors", models, name, version);
    if (safetensors_write(&file, path, &error) != 0)
        fail_msg("%s", error.text);
}

void unpublish(const char *models, const char *name, int version)
{
    char path[1024];
    version_path(path, models, name, version, "");
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    snprintf(path, sizeof path, "%s/%s", models, name);
    rmdir(path);                /* when it was the last version */
}

/* A JSON text as a JSON string. */
static void quote(char *out, const char *json)
{
    *out++ = '"';
    for (; *json; json++) {
        if (*json == '"' || *json == '\\')
            *out++ = '\\';
        *out++ = *json;
    }
    *out++ = '"';
    *out = 0;
}

void publish_bundle(const char *models, const char *name, int version, const char *graph,
                    const char *tensors, const void *elements, size_t size)
{
    static char quoted[8192], bytes[65536];
    quote(quoted, graph);
    int n = snprintf(bytes + 8, sizeof bytes - 8,
                     "{\"__metadata__\":{\"format\":\"predictd/1\",\"graph\":%s},%s}", quoted,
                     tensors);
    uint64_t header = (uint64_t)n;
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(header >> 8 * i);
    assert_true(8 + header + size <= sizeof bytes);
    memcpy(bytes + 8 + header, elements, size);
    publish_bytes(models, name, version, bytes, 8 + header + size);
}

void publish_linear(const char *models, const char *name, int version, double scale)
{
    float elements[15];
    for (int i = 0; i < 3; i++)
        elements[i] = (float)bias[i];
    for (int i = 0; i < 12; i++)
        elements[3 + i] = (float)(scale * weight[i / 4][i % 4]);
    publish_bundle(models, name, version,
                   "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,4]}],"
                   "\"nodes\":[{\"op\":\"Gemm\",\"inputs\":[\"x\",\"w\",\"b\"],"
                   "\"outputs\":[\"y\"],\"attributes\":{\"transB\":1}}],\"outputs\":[\"y\"]}",
                   "\"b\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]},"
                   "\"w\":{\"dtype\":\"F32\",\"shape\":[3,4],\"data_offsets\":[12,60]}",
                   elements, sizeof elements);
}

void publish_config(const char *models, const char *name, const char *text)
{
    char path[512], temporary[512];
    snprintf(path, sizeof path, "%s/%s", models, name);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/%s/serving.json", models, name);
    snprintf(temporary, sizeof temporary, "%s/%s/.serving", models, name);
    FILE *file = fopen(temporary, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(rename(temporary, path), 0);
}

/* requests by libcurl */

struct client {
    CURL *curl;
    char certificate[FIXTURE_PATH]; /* "": no TLS */
    struct reply reply;         /* of the request that is going on */
};

struct client *client_new(void)
{
    struct client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->curl = curl_easy_init();
    assert_non_null(c->curl);
    return c;
}

struct client *client_new_secure(const char *certificate)
{
    struct client *c = client_new();
    snprintf(c->certificate, sizeof c->certificate, "%s", certificate);
    return c;
}

void client_free(struct client *c)
{
    curl_easy_cleanup(c->curl);
    free(c);
}

static size_t collect_headers(char *data, size_t size, size_t n, void *cls)
{
    struct reply *reply = cls;
    size_t before = reply->headers ? strlen(reply->headers) : 0;
    char *grown = realloc(reply->headers, before + size * n + 1);
    if (!grown)
        return 0;
    reply->headers = grown;
    memcpy(grown + before, data, size * n);
    grown[before + size * n] = 0;
    return size * n;
}

static size_t collect_body(char *data, size_t size, size_t n, void *cls)
{
    struct reply *reply = cls;
    char *grown = realloc(reply->body, reply->size + size * n + 1);
    if (!grown)
        return 0;
    reply->body = grown;
    memcpy(grown + reply->size, data, size * n);
    reply->size += size * n;
    grown[reply->size] = 0;
    return size * n;
}

struct reply *client_call(struct client *c, int port, const char *method, const char *path,
                          const char *header, const char *body)
{
    return client_send(c, port, method, path, header, body, body ? strlen(body) : 0);
}

struct reply *client_send(struct client *c, int port, const char *method, const char *path,
                          const char *header, const void *body, size_t size)
{
    struct reply *reply = calloc(1, sizeof *reply);
    struct curl_slist *headers = NULL;
    char url[512];
    long status = 0, connects = 0;

    assert_non_null(reply);
    snprintf(url, sizeof url, "%s://127.0.0.1:%d%s", *c->certificate ? "https" : "http", port,
             path);
    headers = curl_slist_append(headers, header ? header : "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_reset(c->curl);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, (long)PATIENCE);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, collect_body);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, collect_headers);
    curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, reply);
    if (*c->certificate)
        curl_easy_setopt(c->curl, CURLOPT_CAINFO, c->certificate);
    if (body) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE, (long)size);
    }
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(c->curl, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode result = curl_easy_perform(c->curl);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c->curl, CURLINFO_NUM_CONNECTS, &connects);
    curl_slist_free_all(headers);
    reply->status = result == CURLE_OK ? (int)status : 0;
    reply->reused = connects == 0;
    if (!reply->body)
        reply->body = calloc(1, 1);
    if (!reply->headers)
        reply->headers = calloc(1, 1);
    return reply;
}

void reply_free(struct reply *reply)
{
    free(reply->headers);
    free(reply->body);
    free(reply);
}

int request(int port, const char *method, const char *path, const char *send_body, char *body,
            size_t size)
{
    struct client *client = client_new();
    struct reply *reply = client_call(client, port, method, path, NULL, send_body);
    int status = reply->status;
    if (body)
        snprintf(body, size, "%s", reply->body);
    reply_free(reply);
    client_free(client);
    return status;
}

/* requests by plain sockets */

int socket_connect(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = PATIENCE / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

void socket_send(int fd, const char *text)
{
    size_t size = strlen(text), sent = 0;
    while (sent < size) {
        ssize_t n = send(fd, text + sent, size - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return;             /* the answer, or its absence, will tell */
        sent += (size_t)n;
    }
}

int socket_answer(int fd, char *body, size_t size)
{
    bool closes;
    return socket_answer_close(fd, body, size, &closes);
}

int socket_answer_close(int fd, char *body, size_t size, bool *closes)
{
    char head[4096];
    size_t got = 0;

    *closes = true;
    if (body)
        body[0] = 0;
    while (got < 4 || memcmp(head + got - 4, "\r\n\r\n", 4) != 0) {
        if (got == sizeof head - 1 || recv(fd, head + got, 1, 0) != 1)
            return 0;
        got++;
    }
    head[got] = 0;
    *closes = strcasestr(head, "\r\nconnection: close\r") != NULL;
    const char *length = strcasestr(head, "content-length:");
    size_t left = length ? strtoul(length + 15, NULL, 10) : 0;
    for (size_t at = 0; left > 0; left--, at++) {
        char c;
        if (recv(fd, &c, 1, 0) != 1)
            return 0;
        if (body && at + 1 < size) {
            body[at] = c;
            body[at + 1] = 0;
        }
    }
    return atoi(head + strlen("HTTP/1.1 "));
}
