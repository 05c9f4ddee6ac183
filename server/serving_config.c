#include "server/serving_config.h"

#include "server/json_scan.h"
#include "server/system.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH = 128, MAX_WEIGHT = 1000000, MAX_KEYS = 32 };

struct reader {
    struct json_scan scan; /* of a text that is JSON */
    struct nn_error *error;
};

/* A key of an object: how its value is read into the structure that the object describes. */
struct key {
    const char *name;
    int (*read)(struct reader *r, const struct key *key, const char *path, void *into);
    size_t offset;
    int64_t min, max; /* of integers */
    bool of_ensemble; /* means something in an ensemble */
};

static int fail(struct reader *r, const char *path, const char *expected)
{
    return nn_fail(r->error, "%s%sexpected %s, got %s", path, *path ? ": " : "", expected,
                   json_scan_kind(json_scan_peek(&r->scan)));
}

/* What comes next as it is written, cut where it is long; the reader moves on. */
static void take_text(struct reader *r, char *out, size_t size)
{
    json_scan_space(&r->scan);
    const char *begin = r->scan.p;
    json_scan_value(&r->scan, NULL);
    size_t n = (size_t)(r->scan.p - begin);
    snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), begin);
}

/* objects */

static void key_path(char out[PATH], const char *path, const struct json_text *key)
{
    size_t n = (size_t)(key->end - key->begin);
    snprintf(out, PATH, "%s%s%.*s", path, *path ? "." : "", n < 64 ? (int)n : 64, key->begin);
}

static int fail_unknown(struct reader *r, const char *path, const struct json_text *key,
                        const struct key *keys, int n_keys)
{
    const char *names[MAX_KEYS + 1] = {NULL};
    char full[PATH], word[PATH];
    for (int i = 0; i < n_keys; i++)
        names[i] = keys[i].name;
    key_path(full, path, key);
    key_path(word, "", key);
    const char *nearest = name_nearest(word, names);
    if (nearest)
        return nn_fail(r->error, "%s: unknown key, did you mean \"%s\"?", full, nearest);
    char list[256] = "";
    for (int i = 0; i < n_keys; i++) {
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", names[i]);
    }
    return nn_fail(r->error, "%s: unknown key, expected one of %s", full, list);
}

static const struct key *find_key(const struct json_text *name, const struct key *keys,
                                  int n_keys)
{
    for (int i = 0; i < n_keys; i++)
        if (json_text_equal(name, keys[i].name))
            return &keys[i];
    return NULL;
}

/* Moves to the next member's value; false: there is none. `first` is true before the first. */
static bool next_member(struct reader *r, bool first, struct json_text *name)
{
    if (json_scan_take(&r->scan, '}') || (!first && !json_scan_take(&r->scan, ',')))
        return false;
    return json_scan_string(&r->scan, name, NULL) == 0 && json_scan_take(&r->scan, ':');
}

/* *seen has a bit for each key that is there. */
static int read_object(struct reader *r, const char *path, const struct key *keys, int n_keys,
                       void *into, unsigned *seen)
{
    struct json_text name;

    *seen = 0;
    if (!json_scan_take(&r->scan, '{'))
        return fail(r, path, "an object");
    for (bool first = true; next_member(r, first, &name); first = false) {
        const struct key *key = find_key(&name, keys, n_keys);
        char full[PATH];
        if (!key)
            return fail_unknown(r, path, &name, keys, n_keys);
        key_path(full, path, &name);
        if (*seen & 1u << (key - keys))
            return nn_fail(r->error, "%s: is there twice", full);
        *seen |= 1u << (key - keys);
        if (key->read(r, key, full, into) < 0)
            return -1;
    }
    return 0;
}

/* values */

static int read_integer(struct reader *r, const struct key *key, const char *path, void *into)
{
    char expected[64], text[32], *end;
    char c = json_scan_peek(&r->scan);

    snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)key->min,
             (long long)key->max);
    if (c != '-' && (c < '0' || c > '9'))
        return fail(r, path, expected);
    take_text(r, text, sizeof text);
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (*end || errno || value < key->min || value > key->max)
        return nn_fail(r->error, "%s: expected %s, got %s", path, expected, text);
    *(int64_t *)((char *)into + key->offset) = value;
    return 0;
}

static int read_version(struct reader *r, const struct key *key, const char *path, void *into)
{
    char text[32];
    char c = json_scan_peek(&r->scan);
    bool quoted = c == '"';

    if (!quoted && c != '-' && (c < '0' || c > '9'))
        return fail(r, path, "a version");
    take_text(r, text, sizeof text);
    size_t n = strlen(text);
    int64_t version = quoted ? name_version(text + 1, n - 2) : name_version(text, n);
    if (version < 0)
        return nn_fail(r->error, "%s: expected a version, got %s", path, text);
    *(int64_t *)((char *)into + key->offset) = version;
    return 0;
}

static int read_specific(struct reader *r, const struct key *key, const char *path, void *into)
{
    const struct key element = {.read = read_version};
    struct serving_config *c = into;
    (void)key;

    if (!json_scan_take(&r->scan, '['))
        return fail(r, path, "an array of versions");
    c->policy = SERVING_SPECIFIED;
    if (json_scan_peek(&r->scan) == ']')
        return nn_fail(r->error, "%s: expected at least one version", path);
    do {
        char at[PATH + 16];
        int64_t version;
        snprintf(at, sizeof at, "%s[%d]", path, c->n_specific);
        if (c->n_specific == SERVING_SPECIFIC)
            return nn_fail(r->error, "%s: expected at most %d versions", path,
                           SERVING_SPECIFIC);
        if (read_version(r, &element, at, &version) < 0)
            return -1;
        for (int i = 0; i < c->n_specific; i++)
            if (c->specific[i] == version)
                return nn_fail(r->error, "%s: version %lld is there twice", at,
                               (long long)version);
        c->specific[c->n_specific++] = version;
    } while (json_scan_take(&r->scan, ','));
    json_scan_take(&r->scan, ']');
    return 0;
}

static int read_policy(struct reader *r, const struct key *key, const char *path, void *into)
{
    static const struct key keys[] = {
        {"latest", read_integer, offsetof(struct serving_config, latest), 1, 1000000, false},
        {"specific", read_specific, 0, 0, 0, false},
    };
    struct serving_config *c = into;
    struct json_text text;
    struct json_scan before = r->scan;
    unsigned seen;
    (void)key;

    if (json_scan_peek(&r->scan) == '{') {
        c->latest = 0;
        if (read_object(r, path, keys, 2, c, &seen) < 0)
            return -1;
        if (c->latest == 0 && c->n_specific == 0)
            return nn_fail(r->error, "%s: expected \"latest\" or \"specific\", got neither",
                           path);
        if (c->latest && c->n_specific)
            return nn_fail(r->error, "%s: expected \"latest\" or \"specific\", got both", path);
        return 0;
    }
    if (json_scan_peek(&r->scan) == '"' && json_scan_string(&r->scan, &text, NULL) == 0 &&
        json_text_equal(&text, "all")) {
        c->policy = SERVING_ALL;
        return 0;
    }
    r->scan = before;
    return fail(r, path, "\"all\", {\"latest\": N} or {\"specific\": [version, ...]}");
}

/* labels */

static int read_label(struct reader *r, const char *path, struct serving_label *label)
{
    static const struct key keys[] = {
        {"version", read_version, offsetof(struct serving_label, version), 0, 0, false},
        {"weight", read_integer, offsetof(struct serving_label, weight), 0, MAX_WEIGHT, false},
    };
    unsigned seen;
    label->version = label->weight = -1;
    if (json_scan_peek(&r->scan) != '{')
        return read_version(r, &keys[0], path, label);
    if (read_object(r, path, keys, 2, label, &seen) < 0)
        return -1;
    if (label->version < 0)
        return nn_fail(r->error, "%s: \"version\" is missing", path);
    return 0;
}

static int read_labels(struct reader *r, const struct key *key, const char *path, void *into)
{
    struct serving_config *c = into;
    struct json_text name;
    bool weighted = false;
    (void)key;

    if (!json_scan_take(&r->scan, '{'))
        return fail(r, path, "an object of versions by label");
    for (bool first = true; next_member(r, first, &name); first = false) {
        struct serving_label *label = &c->labels[c->n_labels];
        size_t size = (size_t)(name.end - name.begin);
        char full[PATH];
        key_path(full, path, &name);
        if (c->n_labels == SERVING_LABELS)
            return nn_fail(r->error, "%s: expected at most %d labels", path, SERVING_LABELS);
        if (!name_is_valid(name.begin, size))
            return nn_fail(r->error,
                           "%s: expected a label of 1 to 64 letters, digits, '_', '.' and '-'",
                           full);
        snprintf(label->name, sizeof label->name, "%.*s", (int)size, name.begin);
        for (int i = 0; i < c->n_labels; i++)
            if (strcmp(c->labels[i].name, label->name) == 0)
                return nn_fail(r->error, "%s: is there twice", full);
        if (read_label(r, full, label) < 0)
            return -1;
        weighted |= label->weight >= 0;
        c->weights += label->weight > 0 ? label->weight : 0;
        c->n_labels++;
    }
    if (weighted && c->weights == 0)
        return nn_fail(r->error, "%s: expected a weight above 0", path);
    return 0;
}

/* RFC 9110, 5.6.2: a token. */
static bool is_header_name(const char *name, size_t size)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr(marks, c))))
            return false;
    }
    return size > 0 && size < SERVING_HEADER;
}

static int read_header(struct reader *r, const struct key *key, const char *path, void *into)
{
    struct serving_config *c = into;
    struct json_text text;
    (void)key;
    if (json_scan_peek(&r->scan) != '"')
        return fail(r, path, "a header's name");
    json_scan_string(&r->scan, &text, NULL);
    size_t size = (size_t)(text.end - text.begin);
    if (!is_header_name(text.begin, size))
        return nn_fail(r->error, "%s: expected a header's name, got \"%.*s\"", path,
                       size < 64 ? (int)size : 64, text.begin);
    snprintf(c->canary_header, sizeof c->canary_header, "%.*s", (int)size, text.begin);
    return 0;
}

/* ensembles */

static int read_member(struct reader *r, const char *path, struct serving_config *c)
{
    struct json_text name;
    if (json_scan_peek(&r->scan) != '"')
        return fail(r, path, "the name of a model");
    json_scan_string(&r->scan, &name, NULL);
    size_t size = (size_t)(name.end - name.begin);
    if (!name_is_valid(name.begin, size))
        return nn_fail(r->error, "%s: expected the name of a model, got \"%.*s\"", path,
                       size < 64 ? (int)size : 64, name.begin);
    for (int i = 0; i < c->n_members; i++)
        if (json_text_equal(&name, c->members[i]))
            return nn_fail(r->error, "%s: %s is there twice", path, c->members[i]);
    snprintf(c->members[c->n_members++], MODEL_NAME_SIZE, "%.*s", (int)size, name.begin);
    return 0;
}

static int read_members(struct reader *r, const struct key *key, const char *path, void *into)
{
    struct serving_config *c = into;
    (void)key;

    if (!json_scan_take(&r->scan, '['))
        return fail(r, path, "an array of models' names");
    if (json_scan_peek(&r->scan) == ']')
        return nn_fail(r->error, "%s: expected at least one model", path);
    do {
        char at[PATH + 16];
        snprintf(at, sizeof at, "%s[%d]", path, c->n_members);
        if (c->n_members == SERVING_MEMBERS)
            return nn_fail(r->error, "%s: expected at most %d models", path, SERVING_MEMBERS);
        if (read_member(r, at, c) < 0)
            return -1;
    } while (json_scan_take(&r->scan, ','));
    json_scan_take(&r->scan, ']');
    return 0;
}

/* the file */

static const struct key keys_of_file[] = {
#define AT(field) offsetof(struct serving_config, field)
    {"version_policy", read_policy, 0, 0, 0, false},
    {"labels", read_labels, 0, 0, 0, false},
    {"canary_header", read_header, 0, 0, 0, false},
    {"ensemble", read_members, 0, 0, 0, true},
    {"max_batch_size", read_integer, AT(max_batch_size), 1, 1 << 16, false},
    {"preferred_batch_size", read_integer, AT(preferred_batch_size), 1, 1 << 16, false},
    {"max_queue_delay_us", read_integer, AT(max_queue_delay_us), 0, 10000000, false},
    {"max_queue_size", read_integer, AT(max_queue_size), 1, 1 << 20, false},
    {"priority_levels", read_integer, AT(priority_levels), 1, SERVING_PRIORITIES, false},
    {"default_priority_level", read_integer, AT(default_priority_level), 1, SERVING_PRIORITIES,
     false},
    {"deadline_ms", read_integer, AT(deadline_ms), 1, 3600000, true},
    {"warmup", read_integer, AT(warmup), 0, 1 << 16, false},
    {"threads", read_integer, AT(threads), 0, 64, false},
#undef AT
};

enum { N_KEYS = sizeof keys_of_file / sizeof keys_of_file[0] };

_Static_assert((int)N_KEYS <= (int)MAX_KEYS, "a bit of *seen for each");

/* What one key says of another. */
static int check(const struct serving_config *c, unsigned seen, struct nn_error *error)
{
    for (int i = 0; c->n_members && i < N_KEYS; i++)
        if (seen & 1u << i && !keys_of_file[i].of_ensemble)
            return nn_fail(error, "%s: means nothing in an ensemble", keys_of_file[i].name);
    if (*c->canary_header && c->weights == 0)
        return nn_fail(error, "canary_header: no label has a weight");
    if (c->max_batch_size > 0 && c->preferred_batch_size > c->max_batch_size)
        return nn_fail(error,
                       "preferred_batch_size: expected at most max_batch_size, %lld, got %lld",
                       (long long)c->max_batch_size, (long long)c->preferred_batch_size);
    if (c->threads == 0 && c->max_queue_delay_us > 0)
        return nn_fail(error,
                       "max_queue_delay_us: expected 0, as threads is 0 and event loops do not "
                       "wait, got %lld",
                       (long long)c->max_queue_delay_us);
    int64_t levels = c->priority_levels > 0 ? c->priority_levels : SERVING_STANDARD_PRIORITIES;
    if (c->default_priority_level > levels)
        return nn_fail(error,
                       "default_priority_level: expected at most priority_levels, %lld, got "
                       "%lld",
                       (long long)levels, (long long)c->default_priority_level);
    return 0;
}

void serving_config_default(struct serving_config *c)
{
    *c = (struct serving_config){.policy = SERVING_LATEST,
                                 .latest = 1,
                                 .max_batch_size = -1,
                                 .preferred_batch_size = -1,
                                 .max_queue_delay_us = -1,
                                 .max_queue_size = -1,
                                 .deadline_ms = -1,
                                 .threads = -1,
                                 .priority_levels = -1,
                                 .default_priority_level = -1,
                                 .warmup = 1};
}

int serving_config_read(struct serving_config *c, const char *text, size_t size,
                        struct nn_error *error)
{
    struct reader r = {.scan = {text, text, text + size}, .error = error};
    unsigned seen;

    serving_config_default(c);
    json_scan_space(&r.scan);
    if (r.scan.p == r.scan.end)
        return nn_fail(error, "expected an object, got nothing");
    if (json_scan_document(text, size, error) < 0 ||
        read_object(&r, "", keys_of_file, N_KEYS, c, &seen) < 0)
        return -1;
    return check(c, seen, error);
}

int serving_config_load(struct serving_config *c, const char *path, struct nn_error *error)
{
    struct stat s;
    if (lstat(path, &s) < 0 && errno == ENOENT) {
        serving_config_default(c);
        return 0;
    }
    struct buffer text = {0};
    int result = system_read_file(&text, path, SERVING_FILE, error);
    if (result == 0) {
        result = serving_config_read(c, text.data ? text.data : "", text.size, error);
        if (result < 0)
            nn_fail_in(error, "%s", path);
    }
    buffer_release(&text);
    return result;
}

bool serving_config_names(const struct serving_config *c, int64_t version)
{
    for (int i = 0; i < c->n_specific; i++)
        if (c->specific[i] == version)
            return true;
    for (int i = 0; i < c->n_labels; i++)
        if (c->labels[i].version == version)
            return true;
    return false;
}

static void write_policy(struct buffer *out, const struct serving_config *c)
{
    buffer_add_text(out, "{\"version_policy\":");
    if (c->policy == SERVING_ALL) {
        buffer_add_text(out, "\"all\"");
    } else if (c->policy == SERVING_LATEST) {
        buffer_printf(out, "{\"latest\":%lld}", (long long)c->latest);
    } else {
        buffer_add_text(out, "{\"specific\":[");
        for (int i = 0; i < c->n_specific; i++)
            buffer_printf(out, "%s%lld", i ? "," : "", (long long)c->specific[i]);
        buffer_add_text(out, "]}");
    }
}

/* Their characters need no escapes. */
static void write_labels(struct buffer *out, const struct serving_config *c)
{
    for (int i = 0; i < c->n_labels; i++) {
        const struct serving_label *label = &c->labels[i];
        buffer_printf(out, "%s\"%s\":", i ? "," : ",\"labels\":{", label->name);
        if (label->weight < 0)
            buffer_printf(out, "%lld", (long long)label->version);
        else
            buffer_printf(out, "{\"version\":%lld,\"weight\":%lld}", (long long)label->version,
                          (long long)label->weight);
    }
    buffer_add_text(out, c->n_labels ? "}" : "");
    if (*c->canary_header)
        buffer_printf(out, ",\"canary_header\":\"%s\"", c->canary_header);
}

void serving_config_write(const struct serving_config *c, struct buffer *out)
{
    if (c->n_members) {
        for (int i = 0; i < c->n_members; i++)
            buffer_printf(out, "%s\"%s\"", i ? "," : "{\"ensemble\":[", c->members[i]);
        buffer_add_text(out, "]");
    } else {
        write_policy(out, c);
        write_labels(out, c);
    }
    for (int i = 0; i < N_KEYS; i++) {
        const struct key *key = &keys_of_file[i];
        int64_t value = *(const int64_t *)((const char *)c + key->offset);
        if (key->read != read_integer || value < 0 || (c->n_members && !key->of_ensemble))
            continue;
        buffer_printf(out, ",\"%s\":%lld", key->name, (long long)value);
    }
    buffer_add_text(out, "}");
}
