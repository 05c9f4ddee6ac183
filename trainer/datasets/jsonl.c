/*
 * JSON lines: features for `predict`, a row on each line. A row is an array, nested as the
 * input's shape or flat in row-major order; for several inputs an object of them by name.
 * Blank lines are none.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/formats/json_read.h"
#include "trainer/datasets/format.h"

struct place {                  /* for errors */
    const char *path;
    int64_t line;
    const struct dataset_input *input;
    int depth;
    size_t index[NN_MAX_RANK];  /* [depth] within the input */
};

/* "FILE:2: input "x"[1][0]: expected ..., got ...": numbers of the dimensions from `axis` on, or
 * one. got: NULL where there is nothing. */
static int wrong(const struct place *place, int axis, const json_t *got, struct nn_error *error)
{
    const struct nn_shape *shape = &place->input->shape;
    struct nn_shape rest = {.rank = shape->rank - axis};
    struct shape_text text;
    char at[512], what[sizeof text + 32] = "a number that is a finite float";
    int used = snprintf(at, sizeof at, "%.200s:%lld: input \"%.64s\"", place->path,
                        (long long)place->line, place->input->name);
    for (int i = 0; i < place->depth; i++)
        used += snprintf(at + used, sizeof at - (size_t)used, "[%zu]", place->index[i]);
    if (rest.rank > 0) {
        memcpy(rest.dims, shape->dims + axis, (size_t)rest.rank * sizeof *rest.dims);
        snprintf(what, sizeof what, "numbers of shape %s", shape_print(&rest, &text));
    }
    if (json_is_array(got))
        return nn_fail(error, "%s: expected %s, got an array of %zu", at, what,
                       json_array_size(got));
    return fields_fail(error, at, what, got);
}

static int take_number(const struct place *place, const json_t *json, nn_real *to,
                       struct nn_error *error)
{
    *to = (nn_real)json_number_value(json);
    return json_is_number(json) && isfinite(*to)
               ? 0 : wrong(place, place->input->shape.rank, json, error);
}

static int take_flat(struct place *place, const json_t *json, nn_real *to,
                     struct nn_error *error)
{
    place->depth = 1;
    for (size_t i = 0; i < json_array_size(json); i++) {
        place->index[0] = i;
        if (take_number(place, json_array_get(json, i), &to[i], error) != 0)
            return -1;
    }
    return 0;
}

/* Takes the dimensions from `axis` on, which have `elements` elements. */
static int take_nested(struct place *place, const json_t *json, int axis, int64_t elements,
                       nn_real *to, struct nn_error *error)
{
    const struct nn_shape *shape = &place->input->shape;
    place->depth = axis - 1;
    if (axis == shape->rank)
        return take_number(place, json, to, error);
    if (!json_is_array(json) || json_array_size(json) != (size_t)shape->dims[axis])
        return wrong(place, axis, json, error);
    int64_t step = shape->dims[axis] ? elements / shape->dims[axis] : 0;
    for (size_t i = 0; i < json_array_size(json); i++) {
        place->index[axis - 1] = i;
        if (take_nested(place, json_array_get(json, i), axis + 1, step, to + (int64_t)i * step,
                        error) != 0)
            return -1;
    }
    return 0;
}

static int take_input(struct place *place, const json_t *json, int64_t elements, nn_real *to,
                      struct nn_error *error)
{
    place->depth = 0;
    if (elements == 1 && json_is_number(json))
        return take_number(place, json, to, error);
    if (json_array_size(json) == (size_t)elements && !json_is_array(json_array_get(json, 0)))
        return take_flat(place, json, to, error);
    return take_nested(place, json, 1, elements, to, error);
}

static int take_row(struct dataset *set, const struct dataset_request *request,
                    struct place *place, const json_t *json, struct nn_error *error)
{
    const char *name;
    json_t *member;
    if (request->n_inputs > 1 && !json_is_object(json))
        return nn_fail(error, "%s:%lld: expected an object of the %d inputs by name",
                       place->path, (long long)place->line, request->n_inputs);
    json_object_foreach((json_t *)json, name, member) {
        int i = 0;
        while (i < request->n_inputs && strcmp(request->inputs[i].name, name) != 0)
            i++;
        if (i == request->n_inputs)
            return nn_fail(error, "%s:%lld: there is no input \"%.64s\"", place->path,
                           (long long)place->line, name);
    }
    for (int i = 0; i < request->n_inputs; i++) {
        int64_t elements = format_row_elements(request, i);
        place->input = &request->inputs[i];
        member = json_is_object(json) ? json_object_get(json, place->input->name)
                                      : (json_t *)json;
        place->depth = 0;
        if (!member)
            return wrong(place, 1, NULL, error);
        if (take_input(place, member, elements,
                       (nn_real *)set->features[i].data + set->n * elements, error) != 0)
            return -1;
    }
    set->n++;
    return 0;
}

static int load_jsonl_features(struct dataset *set, const char *path,
                               const struct dataset_request *request, struct nn_error *error)
{
    struct place place = {.path = path};
    int64_t capacity = 0;
    size_t n;
    int result = -1;
    char *bytes = source_slurp(path, &n, error);
    if (!bytes)
        return -1;
    while (n > 0 && strchr(" \t\r\n", bytes[n - 1]))
        n--;

    for (const char *at = bytes, *end = bytes + n; at < end;) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((line_end ? line_end : end) - at);
        json_error_t reason;
        place.line++;
        if (strspn(at, " \t\r") >= length) {
            at += length + 1;
            continue;
        }
        if (set->n == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            if (format_reserve(set, request, NN_FP32, capacity, error) != 0)
                goto done;
        }
        json_t *json = json_read_load(at, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
                                      &reason);
        if (!json) {
            nn_fail(error, "%s:%lld: column %d: %s", path, (long long)place.line,
                    reason.column, reason.text);
            goto done;
        }
        int taken = take_row(set, request, &place, json, error);
        json_decref(json);
        if (taken != 0)
            goto done;
        at += length + 1;
    }
    if (set->n == 0) {
        nn_fail(error, "%s: no rows", path);
        goto done;
    }
    result = 0;

done:
    free(bytes);
    return result;
}

const struct dataset_format jsonl_format = {
    .name = "jsonl",
    .load_features = load_jsonl_features,
};
