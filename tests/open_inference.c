#include "tests/open_inference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Triton's example "simple", with its inputs' sum and difference. */
static const char simple_graph[] =
    "{\"inputs\":[" PORT("INPUT0", "INT32", "[-1,4]") "," PORT("INPUT1", "INT32", "[-1,4]") "],"
    "\"nodes\":[{\"op\":\"Add\",\"inputs\":[\"INPUT0\",\"INPUT1\"],\"outputs\":[\"OUTPUT0\"]},"
    "{\"op\":\"Sub\",\"inputs\":[\"INPUT0\",\"INPUT1\"],\"outputs\":[\"OUTPUT1\"]}],"
    "\"outputs\":[\"OUTPUT0\",\"OUTPUT1\"]}";

/* An identity of each datatype. */
static const char types_graph[] =
    "{\"inputs\":[" PORT("f", "FP32", "[-1,2]") "," PORT("l", "INT64", "[-1]") ","
    PORT("i", "INT32", "[-1,1,2]") "," PORT("u", "UINT8", "[-1,3]") "," PORT("b", "BOOL", "[-1,1]")
    "],\"nodes\":[" IDENTITY("f", "F") "," IDENTITY("l", "L") "," IDENTITY("i", "I") ","
    IDENTITY("u", "U") "," IDENTITY("b", "B") "],\"outputs\":[\"F\",\"L\",\"I\",\"U\",\"B\"]}";

static const char image_graph[] =
    "{\"inputs\":[" PORT("x", "FP32", "[-1,1,2,2]") "],\"nodes\":[" IDENTITY("x", "y") "],"
    "\"outputs\":[\"y\"]}";
static const char classes_graph[] =
    "{\"inputs\":[" PORT("x", "FP32", "[-1,3]") "],\"nodes\":[" IDENTITY("x", "y") "],"
    "\"outputs\":[\"y\"]}";
static const char fixed_graph[] =
    "{\"inputs\":[" PORT("x", "FP32", "[2,2]") "],\"nodes\":[" IDENTITY("x", "y") "],"
    "\"outputs\":[\"y\"]}";

static void publish_all(const char *models)
{
    publish_linear(models, "m", 3, 1);
    publish_graph(models, "simple", 1, simple_graph, NULL);
    publish_graph(models, "types", 1, types_graph, NULL);
    publish_graph(models, "image", 1, image_graph, NULL);
    publish_graph(models, "classes", 1, classes_graph, "[\"red\",\"a \\\"b\\\"\",\"blue\"]");
    publish_graph(models, "fixed", 1, fixed_graph, NULL);
}

void v2_open(struct v2_client *c)
{
    static const char *const arguments[] = {"--max-instances", "16", "--max-batch", "4",
                                            "--threads", "1", NULL};
    fixture_open(&c->server);
    publish_all(c->server.models);
    fixture_serve(&c->server, arguments);
    c->client = client_new();
}

void v2_close(struct v2_client *c)
{
    client_free(c->client);
    fixture_end(&c->server);
}

void v2_expect(struct v2_client *c, const char *method, const char *path, const char *header,
               const char *send, size_t size, int status, const char *body)
{
    struct reply *r = client_send(c->client, c->server.port, method, path, header, send, size);
    bool equal = strchr("{[", *body) ? strcmp(r->body, body) == 0 : strstr(r->body, body) != NULL;
    if (r->status != status || !equal)
        print_message("%s %s %s: %d %s\n", method, path, send ? send : "", r->status, r->body);
    assert_int_equal(r->status, status);
    if (!equal)
        assert_string_equal(r->body, body);
    reply_free(r);
}

void v2_expect_begin(struct v2_client *c, const char *path, const char *send, int status,
                     const char *begin)
{
    struct reply *r = client_call(c->client, c->server.port, "POST", path, NULL, send);
    if (r->status != status || strncmp(r->body, begin, strlen(begin)) != 0)
        fail_msg("%s %s: %d %s, not %s", path, send, r->status, r->body, begin);
    reply_free(r);
}

struct reply *v2_send_binary(struct v2_client *c, const char *model, const char *json,
                             const void *data, size_t size)
{
    char path[128], header[128], body[4096];
    size_t json_size = strlen(json);
    assert_true(json_size + size <= sizeof body);
    memcpy(body, json, json_size);
    if (size)
        memcpy(body + json_size, data, size);
    snprintf(path, sizeof path, "/v2/models/%s/infer", model);
    snprintf(header, sizeof header, "Inference-Header-Content-Length: %zu", json_size);
    return client_send(c->client, c->server.port, "POST", path, header, body, json_size + size);
}

size_t v2_json_length(const struct reply *r)
{
    const char *name = "Inference-Header-Content-Length: ";
    const char *line = strcasestr(r->headers, name);
    assert_non_null(line);
    return (size_t)strtoull(line + strlen(name), NULL, 10);
}
