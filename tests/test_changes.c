/*
 * Changes of the folder of models: taken when they stand still, once each.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/changes.h"
#include <stdio.h>
#include <string.h>

/* A folder as `text` says: "a1 c7" holds a and c with these fingerprints. */
static struct found found_in(const char *text, struct found_model models[8])
{
    struct found found = {.models = models};
    for (; *text; text += text[2] ? 3 : 2) {
        struct found_model *m = &models[found.n++];
        *m = (struct found_model){.fingerprint = (uint64_t)text[1]};
        snprintf(m->name, sizeof m->name, "%.1s", text);
    }
    return found;
}

struct step {
    const char *folder;
    const char *again;    /* models that are to be loaded again */
    bool changing, takes; /* what was found is loaded, whatever came of it */
};

static const struct step steps[] = {
    {"a1 c1", "", false, true}, /* as it was loaded */
    {"a1 c1", "", false, true},
    {"a2 c1", "", true, true}, /* seen, and left alone */
    {"a3 c1", "", true, true}, /* still being written */
    {"a3 c1", "a", false, true},
    {"a3 c1", "", false, true}, /* once */
    {"a3 b1 c1", "", true, true},
    {"a3 b1 c2", "b", true, true},
    {"a3 b1 c2", "c", false, true},
    {"b1 c2 d1", "", true, true},
    {"b1 c2 d1", "ad", false, true},
    {"b1 c2 d1", "", false, true},
    {"a3 b1 c2 d1", "", true, true}, /* as it was, and new again */
    {"a3 b1 c2 d1", "a", false, false},
    {"a3 b1 c2 d1", "a", false, true}, /* could not be taken: again */
    {"", "", true, true},
    {"b1", "acd", true, true},
    {"b1", "", false, true},
    {"b1", "", false, true},
};

static void what_stands_still_is_taken_once(void **state)
{
    struct changes changes = {0};
    struct found_model models[8];
    (void)state;
    struct found first = found_in(steps[0].folder, models);
    changes_taken(&changes, &first, &(struct scope){.all = true});
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const struct step *step = &steps[i];
        struct scope scope = {0};
        char again[16] = "";
        struct found found = found_in(step->folder, models);
        bool changing = changes_look(&changes, &found, &scope);
        for (size_t k = 0; k < scope.n; k++)
            strcat(again, scope.names[k]);
        if (strcmp(again, step->again) != 0 || changing != step->changing)
            fail_msg("step %zu: expected \"%s\" and %d, got \"%s\" and %d", i, step->again,
                     step->changing, again, changing);
        if (step->takes && scope.n)
            changes_taken(&changes, &found, &scope);
        scope_release(&scope);
    }
    changes_release(&changes);
}

/* Names are forgotten when they are gone for good: who publishes under ever new ones costs no
 * memory. */
static void what_is_gone_is_forgotten(void **state)
{
    struct changes changes = {0};
    struct found_model model = {.fingerprint = 1};
    (void)state;
    for (int i = 0; i < 100; i++) {
        struct found found = {.n = 1, .models = &model};
        struct scope scope = {0};
        snprintf(model.name, sizeof model.name, "m%d", i);
        for (int look = 0; look < 2; look++)
            changes_look(&changes, &found, &scope);
        changes_taken(&changes, &found, &scope);
        scope_release(&scope);
    }
    assert_in_range(changes.n, 1, 2);
    changes_release(&changes);
}

static void a_list_of_names_is_a_scope(void **state)
{
    struct scope scope = {0};
    (void)state;
    scope_add_list(&scope, "a,bc,a");
    assert_int_equal(scope.n, 2);
    assert_true(scope_has(&scope, "a") && scope_has(&scope, "bc"));
    assert_false(scope_has(&scope, "b") || scope_has(&scope, "") || scope.all);
    scope_add_list(&scope, "*");
    assert_true(scope_has(&scope, "b"));
    scope_release(&scope);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_stands_still_is_taken_once),
        cmocka_unit_test(what_is_gone_is_forgotten),
        cmocka_unit_test(a_list_of_names_is_a_scope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
