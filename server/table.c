#include "server/table.h"

#include "server/clock.h"
#include "server/lane.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* versions */

struct served *served_share(const struct served *served)
{
    struct served *s = (struct served *)served;
    atomic_fetch_add(&s->references, 1);
    return s;
}

void served_release(struct served *s)
{
    if (!s || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    lane_free(s->lane);
    if (s->n_members == 0)
        nn_model_close(s->model);
    for (size_t i = 0; i < s->n_members; i++)
        served_release(s->members[i]);
    free(s->members);
    model_stats_free(s->stats);
    buffer_release(&s->description);
    free(s);
}

/* models */

struct served_model *served_model_new(const char *name, size_t room)
{
    struct served_model *m = calloc(1, sizeof *m + room * sizeof m->versions[0]);
    struct unserved *unserved = calloc(room ? room : 1, sizeof *unserved);
    if (!m || !unserved) {
        free(m);
        free(unserved);
        return NULL;
    }
    atomic_init(&m->references, 1);
    snprintf(m->name, sizeof m->name, "%s", name);
    m->unserved = unserved;
    return m;
}

struct served_model *served_model_share(struct served_model *m)
{
    atomic_fetch_add(&m->references, 1);
    return m;
}

void served_model_release(struct served_model *m)
{
    if (!m || atomic_fetch_sub(&m->references, 1) != 1)
        return;
    for (size_t i = 0; i < m->n; i++)
        served_release(m->versions[i]);
    free(m->unserved);
    buffer_release(&m->description);
    free(m);
}

/* tables */

struct table *table_new(size_t room)
{
    struct table *t = calloc(1, sizeof *t + room * sizeof t->models[0]);
    if (t)
        atomic_init(&t->references, 1);
    return t;
}

void table_add(struct table *t, struct served_model *m)
{
    size_t i = t->n++;
    for (; i > 0 && strcmp(t->models[i - 1]->name, m->name) > 0; i--)
        t->models[i] = t->models[i - 1];
    t->models[i] = m;
    t->n_versions += m->n;
}

struct table *table_share(struct table *t)
{
    atomic_fetch_add(&t->references, 1);
    return t;
}

void table_release(struct table *t)
{
    if (!t || atomic_fetch_sub(&t->references, 1) != 1)
        return;
    for (size_t i = 0; i < t->n; i++)
        served_model_release(t->models[i]);
    free(t->unloaded);
    free(t);
}

const struct served_model *table_find(const struct table *t, const char *name)
{
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, t->models[middle]->name);
        if (order == 0)
            return t->models[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const char *table_problem(const struct table *t, char text[256])
{
    if (t->n == 0)
        return "no models are served";
    for (size_t i = 0; i < t->n; i++) {
        if (t->models[i]->n == 0) {
            snprintf(text, 256, "model %s has no version that can be served",
                     t->models[i]->name);
            return text;
        }
    }
    return NULL;
}

/* choices */

static const struct served *find_version(const struct served_model *m, int64_t version,
                                         enum choice *why)
{
    *why = CHOICE_MADE;
    for (size_t i = 0; i < m->n; i++)
        if (m->versions[i]->version == version)
            return m->versions[i];
    *why = CHOICE_NO_VERSION;
    for (size_t i = 0; i < m->n_unserved; i++)
        if (m->unserved[i].version == version)
            *why = CHOICE_BROKEN;
    return NULL;
}

static const struct served *find_label(const struct served_model *m, const char *name,
                                       enum choice *why)
{
    for (int i = 0; i < m->config.n_labels; i++)
        if (strcmp(m->config.labels[i].name, name) == 0)
            return find_version(m, m->config.labels[i].version, why);
    *why = CHOICE_NO_LABEL;
    return NULL;
}

/* Zeros in front change nothing. -1: it is no version. */
static int64_t read_version(const char *text)
{
    int64_t value = 0;
    for (; *text; text++)
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *text - '0', &value))
            return -1;
    return value;
}

const struct served *served_model_choose(const struct served_model *m, const char *version,
                                         const char *label, enum choice *why)
{
    *why = CHOICE_NO_MODEL;
    if (!m)
        return NULL;
    if (version && *version)
        return find_version(m, read_version(version), why);
    if (label && *label)
        return find_label(m, label, why);
    *why = m->standard ? CHOICE_MADE : CHOICE_BROKEN;
    return m->standard;
}

/* The last step of splitmix64 (Steele, Lea and Flood 2014): every bit depends on every bit. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* FNV-1a. */
static uint64_t hash(uint64_t h, const char *text)
{
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3;
    return h;
}

static uint64_t chance(void)
{
    static _Thread_local uint64_t state;
    if (state == 0)
        state = mix((uint64_t)clock_now() ^ (uint64_t)(uintptr_t)&state) | 1;
    return mix(state += 0x9e3779b97f4a7c15);
}

const struct served *served_model_split(const struct served_model *m, const char *key,
                                        enum choice *why)
{
    if (!m || m->config.weights == 0)
        return served_model_choose(m, NULL, NULL, why);

    /* The model's name is part of the key: who is in one model's canary is in no way more
     * likely to be in another's. */
    uint64_t h =
        key && *key ? mix(hash(hash(0xcbf29ce484222325, m->name) ^ 0xff, key)) : chance();
    /* weights are far below 2^32: the upper half, scaled, is fair enough. */
    int64_t point = (int64_t)((h >> 32) * (uint64_t)m->config.weights >> 32);
    for (int i = 0; i < m->config.n_labels; i++) {
        const struct serving_label *label = &m->config.labels[i];
        int64_t weight = label->weight > 0 ? label->weight : 0;
        const struct served *served =
            point < weight ? find_version(m, label->version, why) : NULL;
        if (served)
            return served;
        if (point < weight)
            break; /* the share of a version that is broken goes to the standard */
        point -= weight;
    }
    return served_model_choose(m, NULL, NULL, why);
}
