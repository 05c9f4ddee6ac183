#include "server/ensemble.h"

#include "server/json_tensor.h"
#include "server/served.h"
#include <stdio.h>
#include <string.h>

/* members */

/* What is compared of members, one by one: their inputs, or their outputs. */
struct side {
    const char *name;
    int (*n)(const struct nn_model *model);
    const struct nn_port *(*port)(const struct nn_model *model, int i);
};

static const struct side sides[] = {
    {"input", nn_model_n_inputs, nn_model_input},
    {"output", nn_model_n_outputs, nn_model_output},
};

static void print_port(char *out, size_t size, const struct nn_port *p)
{
    struct buffer text = {0};
    json_write_port(&text, p);
    snprintf(out, size, "%.*s", (int)text.size, text.failed ? "" : text.data);
    buffer_release(&text);
}

static bool is_same_port(const struct nn_port *a, const struct nn_port *b)
{
    return strcmp(a->name, b->name) == 0 && a->datatype == b->datatype &&
           a->shape.rank == b->shape.rank &&
           memcmp(a->shape.dims, b->shape.dims,
                  (size_t)a->shape.rank * sizeof a->shape.dims[0]) == 0;
}

static int compare_ports(const struct side *side, const struct served *first,
                         const struct served *other, struct nn_error *error)
{
    int expected = side->n(first->model), n = side->n(other->model);
    if (n != expected)
        return nn_fail(error, "member %s: expected %d %s%s as of %s, got %d", other->name,
                       expected, side->name, expected == 1 ? "" : "s", first->name, n);
    for (int i = 0; i < n; i++) {
        const struct nn_port *a = side->port(first->model, i);
        const struct nn_port *b = side->port(other->model, i);
        char should[160], is[160];
        if (is_same_port(a, b))
            continue;
        print_port(should, sizeof should, a);
        print_port(is, sizeof is, b);
        return nn_fail(error, "member %s: %s %d: expected %s as of %s, got %s", other->name,
                       side->name, i, should, first->name, is);
    }
    return 0;
}

/* Where both name their classes these are the same: the mean is taken over what means the
 * same. */
static int compare_labels(const struct served *first, const struct served *other,
                          struct nn_error *error)
{
    int n = nn_model_n_labels(first->model);
    if (n != nn_model_n_labels(other->model))
        n = 0;
    for (int i = 0; i < n; i++) {
        const char *a = nn_model_label(first->model, i), *b = nn_model_label(other->model, i);
        if (strcmp(a, b) != 0)
            return nn_fail(error, "member %s: label %d: expected \"%s\" as of %s, got \"%s\"",
                           other->name, i, a, first->name, b);
    }
    return 0;
}

static int check_member(const struct served *first, const struct served *member,
                        struct nn_error *error)
{
    const char *unbatched = nn_model_unbatched(member->model);
    if (unbatched)
        return nn_fail(error, "member %s: does not answer row by row: %s", member->name,
                       unbatched);
    for (int i = 0; i < nn_model_n_outputs(member->model); i++) {
        const struct nn_port *p = nn_model_output(member->model, i);
        if (p->datatype != NN_FP32)
            return nn_fail(error, "member %s: output \"%s\": expected FP32, got %s",
                           member->name, p->name, nn_datatype_name(p->datatype));
    }
    for (int i = 0; i < 2; i++)
        if (compare_ports(&sides[i], first, member, error) < 0)
            return -1;
    return compare_labels(first, member, error);
}

const struct served_model *ensemble_member(const struct table *table, const char *name)
{
    const struct served_model *model = table_find(table, name);
    return model && model->config.n_members == 0 ? model : NULL;
}

static struct served *find_member(const struct table *table, const char *name,
                                  struct nn_error *error)
{
    const struct served_model *model = ensemble_member(table, name);
    if (!model)
        nn_fail(error, "member %s: there is no model of this name with versions of its own",
                name);
    else if (!model->standard)
        nn_fail(error, "member %s: has no version that can be served", name);
    for (size_t i = 0; model && i < model->n; i++)
        if (model->versions[i] == model->standard)
            return model->versions[i];
    return NULL;
}

/* the ensemble */

static bool has_members(const struct served_model *old, struct served *const *members, size_t n)
{
    return old && old->n == 1 && old->versions[0]->n_members == n &&
           memcmp(old->versions[0]->members, members, n * sizeof members[0]) == 0;
}

/* The old version where members are the same ones. -1: the error says why not, or is empty
 * without memory. */
static int gather(struct served_model *m, const struct updater *u,
                  const struct served_model *old, const struct table *table,
                  struct nn_error *error)
{
    struct served *members[SERVING_MEMBERS];
    size_t n = (size_t)m->config.n_members;

    for (size_t i = 0; i < n; i++) {
        members[i] = find_member(table, m->config.members[i], error);
        if (!members[i] || check_member(members[0], members[i], error) < 0)
            return -1;
    }
    m->versions[0] = has_members(old, members, n)
                         ? served_share(old->versions[0])
                         : served_open_ensemble(m->name, members, n, u->n_counters);
    if (!m->versions[0])
        return -1;
    m->n = 1;
    m->standard = m->versions[0];
    return 0;
}

static bool is_served(const struct served_model *old)
{
    return old && old->n;
}

/* Of a folder that is not read, or has not changed, what is known of it. -1: what is there
 * cannot be read, and what was known holds. */
static int read_config(struct served_model *m, const struct updater *u,
                       const struct found_model *found, const struct served_model *old,
                       struct nn_error *error)
{
    char path[PATH_MAX];

    if (found && !(is_served(old) && scan_is_same(&old->config_file, &found->config_file))) {
        scan_config_path(path, u->models, m->name);
        if (serving_config_load(&m->config, path, error) == 0) {
            m->config_file = found->config_file;
            return 0;
        }
        serving_config_default(&m->config);
        if (!is_served(old))
            return -1;
    }
    m->config = old->config;
    m->config_file = old->config_file;
    return *error->text ? -1 : 0;
}

static void fail(struct reload_entry *entry, const struct nn_error *error)
{
    if (entry->outcome == RELOAD_FAILED)
        return;
    entry->outcome = RELOAD_FAILED;
    snprintf(entry->problem, sizeof entry->problem, "%s", error->text);
}

/* 1: it is no ensemble. */
static int put_together(const struct updater *u, const struct found_model *found,
                        struct served_model *old, const struct table *table,
                        struct served_model *m, struct reload_entry *entry)
{
    struct nn_error error = {0};
    char path[PATH_MAX];

    if (read_config(m, u, found, old, &error) < 0)
        fail(entry, &error);
    if (m->config.n_members == 0)
        return entry->outcome == RELOAD_FAILED && !is_served(old) ? 0 : 1;
    error.text[0] = 0;
    if (gather(m, u, old, table, &error) == 0)
        return 0;
    if (!*error.text)
        return -1;
    scan_config_path(path, u->models, m->name);
    nn_fail_in(&error, "%s", path);
    fail(entry, &error);
    return 0;
}

static bool is_same_model(const struct served_model *a, const struct served_model *b)
{
    return b && a->n && b->n && a->versions[0] == b->versions[0] &&
           scan_is_same(&a->config_file, &b->config_file);
}

/* What is served of it now. -1: no memory. */
static int choose(const struct updater *u, struct served_model *old, struct served_model *m,
                  struct served_model **after, struct reload_entry *entry)
{
    if (m->n ? is_same_model(m, old) : is_served(old)) {
        *after = served_model_share(old);
        return 0;
    }
    if (m->n == 0 && !old && !u->first)
        return 0; /* new and broken: it is left out */
    snprintf(m->problem, sizeof m->problem, "%s", entry->problem);
    if (served_model_describe(m) < 0)
        return -1;
    if (entry->outcome == RELOAD_UNCHANGED)
        entry->outcome = RELOAD_LOADED;
    *after = served_model_share(m);
    return 0;
}

int ensemble_update(const struct updater *u, const struct found_model *found,
                    struct served_model *old, const struct table *table,
                    struct served_model **after, struct reload_entry *entry)
{
    const char *name = found ? found->name : old->name;
    struct served_model *m = served_model_new(name, 1);
    int result = -1;

    *after = NULL;
    update_begin(entry, name, old);
    if (m)
        result = put_together(u, found, old, table, m, entry);
    if (result == 1 && old) {
        entry->outcome = RELOAD_REMOVED;
        *entry->problem = 0;
        result = 0;
    } else if (result == 0) {
        result = choose(u, old, m, after, entry);
    }
    if (result == 0)
        update_end(u, *after, entry);
    served_model_release(m);
    return result;
}
