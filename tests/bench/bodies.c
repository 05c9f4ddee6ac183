#include "tests/bench/bodies.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const protocol_names[PROTOCOLS] = {
    [PREDICT] = "/predict",
    [TENSORFLOW_SERVING] = "TensorFlow Serving :predict",
    [V2_JSON] = "V2 JSON",
    [V2_BINARY] = "V2 binary",
};

static const char *const paths[PROTOCOLS] = {
    [PREDICT] = "/predict",
    [TENSORFLOW_SERVING] = "/v1/models/mnist-mlp:predict",
    [V2_JSON] = "/v2/models/mnist-mlp/infer",
    [V2_BINARY] = "/v2/models/mnist-mlp/infer",
};

/* Strokes: a fifth of the pixels is not black. */
static float pixel(int image, int i)
{
    return i * 7919 % 5 == 0 ? (float)((i + image) * 31 % 256) / 1.0037f : 0;
}

static size_t write_numbers(char *out, int image)
{
    size_t size = 0;
    for (int i = 0; i < IMAGE; i++)
        size += (size_t)sprintf(out + size, i ? ",%.4f" : "%.4f", (double)pixel(image, i));
    return size;
}

static size_t write_rows(char *out, int n)
{
    size_t size = (size_t)sprintf(out, "{\"instances\":[");
    for (int i = 0; i < n; i++) {
        size += (size_t)sprintf(out + size, i ? ",[" : "[");
        size += write_numbers(out + size, i);
        out[size++] = ']';
    }
    return size + (size_t)sprintf(out + size, "]}");
}

/* TensorFlow Serving takes a row in the shape of the input only. */
static size_t write_shaped_rows(char *out, int n)
{
    size_t size = (size_t)sprintf(out, "{\"instances\":[");
    for (int i = 0; i < n; i++) {
        size += (size_t)sprintf(out + size, i ? ",[" : "[");
        for (int y = 0; y < 28; y++) {
            size += (size_t)sprintf(out + size, y ? ",[" : "[[");
            for (int x = 0; x < 28; x++)
                size += (size_t)sprintf(out + size, x ? ",%.4f" : "%.4f",
                                        (double)pixel(i, 28 * y + x));
            out[size++] = ']';
        }
        size += (size_t)sprintf(out + size, "]]");
    }
    return size + (size_t)sprintf(out + size, "]}");
}

/* Flat, as V2's clients write it. */
static size_t write_v2(char *out, int n)
{
    size_t size = (size_t)sprintf(out,
                                  "{\"inputs\":[{\"name\":\"image\",\"shape\":[%d,1,28,28],"
                                  "\"datatype\":\"FP32\",\"data\":[",
                                  n);
    for (int i = 0; i < n; i++) {
        if (i > 0)
            out[size++] = ',';
        size += write_numbers(out + size, i);
    }
    return size + (size_t)sprintf(out + size, "]}]}");
}

static size_t write_binary(char *out, int n, size_t *json_size)
{
    int size = sprintf(out,
                       "{\"inputs\":[{\"name\":\"image\",\"shape\":[%d,1,28,28],"
                       "\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":%d}}],"
                       "\"parameters\":{\"binary_data_output\":true}}",
                       n, n * IMAGE * 4);
    *json_size = (size_t)size;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < IMAGE; k++, size += 4)
            memcpy(out + size, &(float){pixel(i, k)}, 4);
    return (size_t)size;
}

struct request images_request(enum protocol protocol, int n)
{
    char *body = malloc(1024 + (size_t)n * IMAGE * 10), headers[128];
    size_t size, json_size = 0;

    if (!body)
        bench_die("a body");
    size = protocol == PREDICT              ? write_rows(body, n)
           : protocol == TENSORFLOW_SERVING ? write_shaped_rows(body, n)
           : protocol == V2_JSON            ? write_v2(body, n)
                                            : write_binary(body, n, &json_size);
    snprintf(headers, sizeof headers, "Content-Type: application/json\r\n");
    if (protocol == V2_BINARY)
        snprintf(headers, sizeof headers,
                 "Content-Type: application/octet-stream\r\n"
                 "Inference-Header-Content-Length: %zu\r\n",
                 json_size);
    struct request request = request_post(paths[protocol], headers, body, size);
    free(body);
    return request;
}

/* The numbers of the array behind a key, however it is nested. */
static bool read_numbers(const char *body, const char *key, int n, float *out)
{
    const char *p = strstr(body, key);
    int read = 0;
    for (p = p ? p + strlen(key) : ""; *p && read < n;) {
        if (strchr("[], ", *p)) {
            p++;
            continue;
        }
        char *end;
        out[read++] = strtof(p, &end);
        if (end == p)
            return false;
        p = end;
    }
    return read == n;
}

void images_answer(int port, const struct request *request, int n, float *probabilities)
{
    char *body, *answer;
    size_t size, wanted = (size_t)n * CLASSES * sizeof *probabilities;
    answer = load_once(port, request, &body, &size);
    bool binary = strcasestr(answer, "\r\nInference-Header-Content-Length:");
    if (binary && size > wanted)
        memcpy(probabilities, body + size - wanted, wanted);
    else if (!read_numbers(body, "\"predictions\":", n * CLASSES, probabilities) &&
             !read_numbers(body, "\"data\":", n * CLASSES, probabilities)) {
        fprintf(stderr, "bench: expected %d probabilities, got %s\n", n * CLASSES, body);
        exit(1);
    }
    free(answer);
}
