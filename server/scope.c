#include "server/scope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void scope_add(struct scope *s, const char *name)
{
    if (scope_has(s, name))
        return;
    char(*grown)[MODEL_NAME_SIZE] = reallocarray(s->names, s->n + 1, sizeof *grown);
    if (!grown) {
        s->failed = true;
        return;
    }
    s->names = grown;
    snprintf(s->names[s->n++], MODEL_NAME_SIZE, "%s", name);
}

bool scope_has(const struct scope *s, const char *name)
{
    if (s->all)
        return true;
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->names[i], name) == 0)
            return true;
    return false;
}

void scope_release(struct scope *s)
{
    free(s->names);
    *s = (struct scope){0};
}

void scope_add_list(struct scope *s, const char *list)
{
    for (size_t size; *list; list += size + (list[size] == ',')) {
        char name[MODEL_NAME_SIZE];
        size = strcspn(list, ",");
        snprintf(name, sizeof name, "%.*s", (int)size, list);
        if (strcmp(name, "*") == 0)
            s->all = true;
        else if (size)
            scope_add(s, name);
    }
}

static void add_members(struct scope *s, const struct serving_config *c)
{
    for (int i = 0; i < c->n_members; i++)
        scope_add(s, c->members[i]);
}

void scope_add_members(struct scope *s, const char *models, const struct found *found)
{
    for (size_t i = 0, n = s->n; i < n && !s->all; i++) {
        const struct found_model *model = scan_find(found, s->names[i]);
        struct serving_config config;
        char path[PATH_MAX];
        if (!model || model->n)
            continue;
        scan_config_path(path, models, model->name);
        if (serving_config_load(&config, path, NULL) == 0)
            add_members(s, &config);
    }
}

static bool has_member(const struct served_model *m, const char *name)
{
    for (int i = 0; i < m->config.n_members; i++)
        if (strcmp(m->config.members[i], name) == 0)
            return true;
    return false;
}

void scope_add_dependents(struct scope *s, const struct table *table, const char *name)
{
    const struct served_model *model = table_find(table, name);
    for (int i = 0; model && i < model->config.n_members; i++) {
        const char *member = model->config.members[i];
        bool shared = false;
        for (size_t k = 0; k < table->n; k++)
            shared |=
                !scope_has(s, table->models[k]->name) && has_member(table->models[k], member);
        if (!shared)
            scope_add(s, member);
    }
}
