#include "trainer/fields.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* names */

enum { MAX_WORD = 64, MAX_DISTANCE = 3 };

/* Levenshtein 1966, one row of the table at a time. */
static int edit_distance(const char *a, int n, const char *b, int m)
{
    int row[MAX_WORD + 1];
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int replace = diagonal + (a[i - 1] != b[j - 1]);
            int other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replace < other ? replace : other;
        }
    }
    return row[m];
}

/* Whether `name` is nearer to the word than *distance, which is then updated. */
static bool is_nearer(const char *word, const char *name, int *distance)
{
    size_t n = strlen(word), m = strlen(name);
    if (n > MAX_WORD || m > MAX_WORD)
        return false;
    int d = edit_distance(word, (int)n, name, (int)m);
    if (d >= *distance || d >= (int)n)
        return false;
    *distance = d;
    return true;
}

const char *nearest_name(const char *word, const char *const *names)
{
    const char *nearest = NULL;
    int distance = MAX_DISTANCE + 1;
    for (; *names; names++)
        if (is_nearer(word, *names, &distance))
            nearest = *names;
    return nearest;
}

/* paths and messages */

const char *field_path_key(struct field_path *out, const char *path, const char *key)
{
    snprintf(out->text, sizeof out->text, "%s%s%s", path, *path ? "." : "", key);
    return out->text;
}

const char *field_path_index(struct field_path *out, const char *path, size_t index)
{
    snprintf(out->text, sizeof out->text, "%s[%zu]", path, index);
    return out->text;
}

struct excerpt {
    char text[64];
    size_t used;
};

static int excerpt_add(const char *bytes, size_t n, void *context)
{
    struct excerpt *excerpt = context;
    size_t room = sizeof excerpt->text - 1 - excerpt->used;
    size_t taken = n < room ? n : room;
    memcpy(excerpt->text + excerpt->used, bytes, taken);
    excerpt->used += taken;
    return taken < n ? -1 : 0;
}

int fields_fail(struct nn_error *error, const char *path, const char *what,
                const json_t *got)
{
    if (!got)
        return nn_fail(error, "%s: expected %s, got nothing", path, what);

    struct excerpt excerpt = {.used = 0};
    size_t flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9);
    bool whole = json_dump_callback(got, excerpt_add, &excerpt, flags) == 0;
    excerpt.text[excerpt.used] = '\0';
    return nn_fail(error, "%s: expected %s, got %s%s", path, what, excerpt.text,
                   whole ? "" : "...");
}

struct list_text {
    char text[256];
};

/* "a, b, c" from names that lie `stride` bytes apart. */
static const char *print_list(struct list_text *list, const char *const *names, size_t stride)
{
    size_t used = 0;
    list->text[0] = '\0';
    while (*names && used < sizeof list->text) {
        used += (size_t)snprintf(list->text + used, sizeof list->text - used, "%s%s",
                                 used ? ", " : "", *names);
        names = (const char *const *)((const char *)names + stride);
    }
    return list->text;
}

/* "a number above 0 and below 1", "an integer from 1 to 4096" */
static const char *print_range(struct list_text *text, const struct field *field)
{
    const char *noun = field->kind == FIELD_REAL ? "a number" : "an integer";
    int used = snprintf(text->text, sizeof text->text, "%s%s", noun,
                        field->kind == FIELD_INT_OR_PAIR ? " or a pair of them" : "");
    if (field->min == 0 && field->max == 0)
        return text->text;

    bool has_min = isfinite(field->min), has_max = isfinite(field->max);
    if (has_min)
        used += snprintf(text->text + used, sizeof text->text - (size_t)used, "%s %.10g",
                         field->min_open ? " above" : " from", field->min);
    if (has_max)
        snprintf(text->text + used, sizeof text->text - (size_t)used, "%s%s %.10g",
                 has_min && field->max_open ? " and" : "", field->max_open ? " below" : " to",
                 field->max);
    return text->text;
}

int field_check_name(const char *name, const char *path, struct nn_error *error)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789_-./";
    size_t n = strspn(name, allowed);
    if (n < 1 || n > 64 || name[n] != '\0')
        return nn_fail(error, "%s: expected 1 to 64 letters, digits or _-./, got \"%.80s\"",
                       path, name);
    /* "golden" would have parameters in "golden.". */
    if (strcmp(name, "golden") == 0 || strncmp(name, "golden.", 7) == 0 ||
        strcmp(name, "probabilities") == 0 || strcmp(name, "predictions") == 0)
        return nn_fail(error, "%s: \"%s\" is a name that bundles use themselves", path, name);
    return 0;
}

/* values */

static bool in_range(const struct field *field, double x)
{
    if (field->min == 0 && field->max == 0)
        return true;
    return (field->min_open ? x > field->min : x >= field->min) &&
           (field->max_open ? x < field->max : x <= field->max);
}

static bool is_integer_in_range(const struct field *field, const json_t *value)
{
    return json_is_integer(value) && in_range(field, (double)json_integer_value(value));
}

static void set_initial(const struct field *field, void *at)
{
    switch (field->kind) {
    case FIELD_INT:
        *(int64_t *)at = (int64_t)field->initial;
        break;
    case FIELD_REAL:
        *(double *)at = field->initial;
        break;
    case FIELD_BOOL:
        *(bool *)at = field->initial != 0;
        break;
    case FIELD_STRING:
        *(const char **)at = NULL;
        break;
    case FIELD_CHOICE:
        *(int *)at = (int)field->initial;
        break;
    case FIELD_JSON:
        *(const json_t **)at = NULL;
        break;
    case FIELD_INT_OR_PAIR:
        ((int64_t *)at)[0] = ((int64_t *)at)[1] = (int64_t)field->initial;
        break;
    }
}

static int set_choice(const struct field *field, const char *path, const json_t *value,
                      int *at, struct nn_error *error)
{
    struct list_text list;
    const char *given = json_string_value(value);
    if (!given) {
        print_list(&list, field->choices, sizeof *field->choices);
        char what[300];
        snprintf(what, sizeof what, "one of %s", list.text);
        return fields_fail(error, path, what, value);
    }
    for (int i = 0; field->choices[i]; i++)
        if (strcmp(field->choices[i], given) == 0) {
            *at = i;
            return 0;
        }
    const char *nearest = nearest_name(given, field->choices);
    if (nearest)
        return nn_fail(error, "%s: unknown value \"%.64s\", did you mean \"%s\"?", path, given,
                       nearest);
    return nn_fail(error, "%s: unknown value \"%.64s\", expected one of %s", path, given,
                   print_list(&list, field->choices, sizeof *field->choices));
}

static int set_value(const struct field *field, const char *path, const json_t *value,
                     void *at, struct nn_error *error)
{
    struct list_text range;
    switch (field->kind) {
    case FIELD_INT:
        if (!is_integer_in_range(field, value))
            return fields_fail(error, path, print_range(&range, field), value);
        *(int64_t *)at = json_integer_value(value);
        break;
    case FIELD_REAL:
        if (!json_is_number(value) || !in_range(field, json_number_value(value)))
            return fields_fail(error, path, print_range(&range, field), value);
        *(double *)at = json_number_value(value);
        break;
    case FIELD_BOOL:
        if (!json_is_boolean(value))
            return fields_fail(error, path, "true or false", value);
        *(bool *)at = json_is_true(value);
        break;
    case FIELD_STRING:
        if (!json_is_string(value))
            return fields_fail(error, path, "a string", value);
        *(const char **)at = json_string_value(value);
        break;
    case FIELD_CHOICE:
        return set_choice(field, path, value, at, error);
    case FIELD_JSON:
        *(const json_t **)at = value;
        break;
    case FIELD_INT_OR_PAIR: {
        const json_t *first = value, *second = value;
        if (json_is_array(value) && json_array_size(value) == 2) {
            first = json_array_get(value, 0);
            second = json_array_get(value, 1);
        }
        if (!is_integer_in_range(field, first) || !is_integer_in_range(field, second))
            return fields_fail(error, path, print_range(&range, field), value);
        ((int64_t *)at)[0] = json_integer_value(first);
        ((int64_t *)at)[1] = json_integer_value(second);
        break;
    }
    }
    return 0;
}

static int unknown_key(const char *path, const char *key, const struct field *fields,
                       struct nn_error *error)
{
    struct field_path full;
    field_path_key(&full, path, key);
    const char *nearest = NULL;
    int distance = MAX_DISTANCE + 1;
    for (const struct field *field = fields; field->key; field++)
        if (is_nearer(key, field->key, &distance))
            nearest = field->key;
    if (nearest)
        return nn_fail(error, "%s: unknown key, did you mean \"%s\"?", full.text, nearest);
    struct list_text list;
    return nn_fail(error, "%s: unknown key, expected one of %s", full.text,
                   print_list(&list, &fields->key, sizeof *fields));
}

int field_read(const json_t *object, const char *path, const struct field *field, void *out,
               struct nn_error *error)
{
    if (!json_is_object(object))
        return fields_fail(error, *path ? path : "the file", "an object", object);

    struct field_path full;
    field_path_key(&full, path, field->key);
    void *at = (char *)out + field->offset;
    set_initial(field, at);
    const json_t *value = json_object_get(object, field->key);
    if (value)
        return set_value(field, full.text, value, at, error);
    return field->required ? nn_fail(error, "%s: missing", full.text) : 0;
}

int fields_read(const json_t *object, const char *path, const struct field *fields, void *out,
                struct nn_error *error)
{
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)object, key, member) {
        const struct field *field = fields;
        while (field->key && strcmp(field->key, key) != 0)
            field++;
        if (!field->key)
            return unknown_key(path, key, fields, error);
    }
    for (const struct field *field = fields; field->key; field++)
        if (field_read(object, path, field, out, error) != 0)
            return -1;
    return 0;
}
