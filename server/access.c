#include "server/access.h"

#include "server/system.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Zeros fill each up: no secret holds any, so equal bytes are equal secrets, and comparing
 * takes the same time for any two. */
struct secrets {
    size_t n;
    unsigned char text[][ACCESS_SECRET];
};

struct access {
    const char *token_file, *key_file; /* NULL: none */
    pthread_rwlock_t lock;             /* guards what follows */
    struct secrets *tokens, *keys;     /* NULL: none */
};

/* reading */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* 0: a secret or nothing was added. */
static int read_line(struct secrets *s, const char *line, size_t size, const char *path,
                     int number, struct nn_error *error)
{
    while (size > 0 && is_blank(line[size - 1]))
        size--;
    while (size > 0 && is_blank(*line)) {
        line++;
        size--;
    }
    if (size == 0 || *line == '#')
        return 0;
    if (size > ACCESS_SECRET)
        return nn_fail(error, "%s: line %d: expected at most %d bytes, got %zu", path, number,
                       ACCESS_SECRET, size);
    for (size_t i = 0; i < size; i++)
        if (line[i] <= ' ' || line[i] > '~')
            return nn_fail(error, "%s: line %d: expected printable ASCII without blanks", path,
                           number);
    if (s->n == ACCESS_SECRETS)
        return nn_fail(error, "%s: line %d: expected at most %d lines that hold something",
                       path, number, ACCESS_SECRETS);
    memset(s->text[s->n], 0, ACCESS_SECRET);
    memcpy(s->text[s->n++], line, size);
    return 0;
}

/* NULL: the error says why. */
static struct secrets *read_secrets(const char *path, struct nn_error *error)
{
    struct buffer text = {0};
    struct secrets *s = malloc(sizeof *s + (size_t)ACCESS_SECRETS * ACCESS_SECRET);
    int number = 0;
    bool sound = s != NULL;

    if (!s)
        nn_fail(error, "%s: out of memory", path);
    else
        s->n = 0;
    sound = sound && system_read_file(&text, path, ACCESS_FILE, error) == 0;
    for (size_t at = 0; sound && at < text.size;) {
        const char *line = text.data + at;
        const char *end = memchr(line, '\n', text.size - at);
        size_t size = end ? (size_t)(end - line) : text.size - at;
        sound = read_line(s, line, size, path, ++number, error) == 0;
        at += size + 1;
    }
    if (sound && s->n == 0) {
        nn_fail(error, "%s: expected a line that holds something", path);
        sound = false;
    }
    buffer_release(&text);
    if (!sound) {
        free(s);
        return NULL;
    }
    struct secrets *smaller = realloc(s, sizeof *s + s->n * ACCESS_SECRET);
    return smaller ? smaller : s;
}

/* Replaces what was known, unless the file is unsound. */
static int replace(struct access *a, struct secrets **known, const char *path,
                   struct nn_error *error)
{
    struct secrets *read = path ? read_secrets(path, error) : NULL;
    if (!read)
        return path ? -1 : 0;
    pthread_rwlock_wrlock(&a->lock);
    struct secrets *old = *known;
    *known = read;
    pthread_rwlock_unlock(&a->lock);
    free(old);
    return 0;
}

int access_reload(struct access *a, struct nn_error *error)
{
    int tokens = replace(a, &a->tokens, a->token_file, error);
    int keys = replace(a, &a->keys, a->key_file, error);
    return tokens < 0 || keys < 0 ? -1 : 0;
}

struct access *access_open(const char *token_file, const char *key_file, struct nn_error *error)
{
    struct access *a = calloc(1, sizeof *a);
    if (!a) {
        nn_fail(error, "out of memory");
        return NULL;
    }
    a->token_file = token_file;
    a->key_file = key_file;
    pthread_rwlock_init(&a->lock, NULL);
    if (access_reload(a, error) < 0) {
        access_free(a);
        return NULL;
    }
    return a;
}

void access_free(struct access *a)
{
    if (!a)
        return;
    pthread_rwlock_destroy(&a->lock);
    free(a->tokens);
    free(a->keys);
    free(a);
}

/* asking */

bool access_has_tokens(const struct access *a)
{
    return a->token_file != NULL;
}

bool access_has_keys(const struct access *a)
{
    return a->key_file != NULL;
}

/* All are compared, and all of their bytes, whichever it is. */
static bool is_among(const struct secrets *s, const unsigned char presented[ACCESS_SECRET])
{
    unsigned found = 0;
    for (size_t i = 0; s && i < s->n; i++) {
        unsigned differs = 0;
        for (int k = 0; k < ACCESS_SECRET; k++)
            differs |= s->text[i][k] ^ presented[k];
        found |= ((differs - 1) >> 8) & 1;
    }
    return found;
}

enum access_role access_role(struct access *a, const char *secret, size_t size)
{
    unsigned char presented[ACCESS_SECRET] = {0};
    if (size == 0 || size > ACCESS_SECRET)
        return ACCESS_NOBODY;
    memcpy(presented, secret, size);
    pthread_rwlock_rdlock(&a->lock);
    bool admin = is_among(a->tokens, presented), client = is_among(a->keys, presented);
    pthread_rwlock_unlock(&a->lock);
    return admin ? ACCESS_ADMIN : client ? ACCESS_CLIENT : ACCESS_NOBODY;
}
