#include "server/changes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The place of a name in the list, or the place for it. */
static size_t place(const struct changes *c, const char *name)
{
    size_t low = 0, high = c->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(c->models[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Has a place for every model that was found. Without memory one is missing, and found again at
 * the next look. */
static void add_found(struct changes *c, const struct found *found)
{
    for (size_t i = 0; i < found->n; i++) {
        const char *name = found->models[i].name;
        size_t at = place(c, name);
        if (at < c->n && strcmp(c->models[at].name, name) == 0)
            continue;
        struct change *grown = reallocarray(c->models, c->n + 1, sizeof *grown);
        if (!grown)
            return;
        c->models = grown;
        memmove(grown + at + 1, grown + at, (c->n++ - at) * sizeof *grown);
        grown[at] = (struct change){0};
        snprintf(grown[at].name, MODEL_NAME_SIZE, "%s", name);
    }
}

static uint64_t fingerprint(const struct found *found, const char *name)
{
    const struct found_model *model = scan_find(found, name);
    return model ? model->fingerprint : 0;
}

bool changes_look(struct changes *c, const struct found *found, struct scope *scope)
{
    bool changing = false;

    add_found(c, found);
    for (size_t i = 0; i < c->n; i++) {
        struct change *m = &c->models[i];
        uint64_t now = fingerprint(found, m->name);
        if (now != m->taken && now == m->looked)
            scope_add(scope, m->name);
        changing |= now != m->looked;
        m->looked = now;
    }
    return changing;
}

void changes_taken(struct changes *c, const struct found *found, const struct scope *scope)
{
    size_t n = 0;

    add_found(c, found);
    for (size_t i = 0; i < c->n; i++) {
        struct change m = c->models[i];
        if (scope_has(scope, m.name))
            m.taken = m.looked = fingerprint(found, m.name);
        if (m.taken || m.looked)
            c->models[n++] = m;
    }
    c->n = n;
}

void changes_release(struct changes *c)
{
    free(c->models);
    *c = (struct changes){0};
}
