/*
 * The registry's thread, asked for more than it can do: nobody waits for ever.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/registry.h"
#include "tests/server_fixture.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { ENOUGH = 20000 /* runs */ };

struct crowd {
    struct registry *registry;
    struct reload_waiter waiter; /* for the model b */
    bool waits;                  /* those who come again and again wait, for the model a */
    atomic_int runs;
    atomic_bool served; /* b was */
};

static void done(struct reload_waiter *waiter, const struct reload_report *report)
{
    struct crowd *c = (struct crowd *)((char *)waiter - offsetof(struct crowd, waiter));
    assert_int_equal(report->n, 1);
    atomic_store(&c->served, true);
}

static void done_again(struct reload_waiter *waiter, const struct reload_report *report)
{
    (void)report;
    free(waiter);
}

static int publish(void *context, struct table *table)
{
    struct crowd *c = context;
    const struct served_model *b = table_find(table, "b");
    if (c->waits && b && b->standard->version == 2)
        atomic_store(&c->served, true);
    return 0;
}

/* In each run somebody asks for the next one. */
static int ask_again(void *context, struct nn_error *error)
{
    struct crowd *c = context;
    struct reload_waiter *again = c->waits ? calloc(1, sizeof *again) : NULL;
    (void)error;
    if (again)
        *again =
            (struct reload_waiter){.action = RELOAD_LOAD, .model = "a", .done = done_again};
    bool goes_on = atomic_fetch_add(&c->runs, 1) < ENOUGH && !atomic_load(&c->served);
    if (!goes_on || !registry_reload(c->registry, again))
        free(again);
    return 0;
}

static void open_registry(struct crowd *c, struct fixture *f, enum model_control control)
{
    const struct registry_settings settings = {.models = f->models,
                                               .n_counters = 1,
                                               .control = control,
                                               .poll_interval = 0.01,
                                               .load = "*",
                                               .publish = publish,
                                               .refresh = ask_again,
                                               .context = c};
    fixture_open(f);
    publish_linear(f->models, "a", 1, 1);
    publish_linear(f->models, "b", 1, 1);
    c->registry = registry_open(&settings, NULL);
    assert_non_null(c->registry);
}

static void await_served(struct crowd *c)
{
    while (!atomic_load(&c->served) && atomic_load(&c->runs) <= ENOUGH)
        usleep(1000);
    if (!atomic_load(&c->served))
        fail_msg("not served in %d runs", ENOUGH);
}

static void close_registry(struct crowd *c, struct fixture *f)
{
    assert_true(registry_stop(c->registry, INT64_MAX));
    registry_free(c->registry);
    fixture_close(f);
}

static void who_waits_for_one_model_has_his_turn_among_reloads_of_all(void **state)
{
    struct crowd c = {.waiter = {.action = RELOAD_LOAD, .model = "b", .done = done}};
    struct fixture f;
    (void)state;

    open_registry(&c, &f, CONTROL_EXPLICIT);
    registry_reload(c.registry, NULL);
    while (atomic_load(&c.runs) < 10)
        usleep(1000);
    registry_reload(c.registry, &c.waiter);
    await_served(&c);
    close_registry(&c, &f);
}

static void polling_has_its_turn_among_loads(void **state)
{
    struct crowd c = {.waits = true};
    struct fixture f;
    (void)state;

    open_registry(&c, &f, CONTROL_POLL);
    registry_reload(c.registry, NULL);
    while (atomic_load(&c.runs) < 10)
        usleep(1000);
    publish_linear(f.models, "b", 2, 2);
    await_served(&c);
    close_registry(&c, &f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_for_one_model_has_his_turn_among_reloads_of_all),
        cmocka_unit_test(polling_has_its_turn_among_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
