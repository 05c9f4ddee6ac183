/*
 * The server's flags and their variables: what is refused, what wins, what --help says.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/server_fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void check_says_which_models_are_broken(void **state)
{
    struct fixture f;
    char text[4096];
    (void)state;
    fixture_open(&f);
    const char *const arguments[] = {"--check", "--models", f.models, NULL};
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "holds no <model>/<version>/model.safetensors"));
    publish_linear(f.models, "a", 1, 1);
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 0);
    publish_bytes(f.models, "b", 1, "broken", 6);
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "/b/1/model.safetensors: "));
    fixture_close(&f);
}

/* Runs with these arguments behind the folder of models. */
static void run(const struct fixture *f, const char *what, const char *flag, int status,
                const char *says)
{
    const char *const arguments[] = {what, "--models", f->models, flag, NULL};
    char text[16384];
    int got = fixture_run(arguments, NULL, text, sizeof text);
    if (!strstr(text, says))
        assert_string_equal(text, says);
    assert_int_equal(got, status);
}

static void check_looks_at_settings_ensembles_and_names(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, "b", 1, 1);
    publish_config(f.models, "a", "{\"version_policy\":{\"latest\":2}}");
    publish_config(f.models, "e", "{\"ensemble\":[\"a\",\"b\"]}");
    run(&f, "--check", "--default-model=e", 0, "\"model is sound\",\"model\":\"e\"");
    run(&f, "--check", "--default-model=c", 1, "--default-model: there is no model c");
    run(&f, "--check", "--load-model=a", 1, "--load-model: needs --model-control explicit");
    publish_config(f.models, "e", "{\"ensemble\":[\"a\",\"c\"]}");
    run(&f, "--check", NULL, 1, "/e/serving.json: member c: there is no model of this name");
    publish_config(f.models, "e", "{\"ensemble\":[\"a\"]}");
    run(&f, "--check", NULL, 0, "\"model is sound\",\"model\":\"e\"");
    publish_config(f.models, "b", "{\"warmup\":-1}");
    run(&f, "--check", NULL, 1, "/b/serving.json: warmup: expected an integer from 0 to 65536");
    publish_config(f.models, "b", "{\"labels\":{\"stable\":2}}");
    run(&f, "--check", NULL, 1, "/b/serving.json: there is no version 2");
    fixture_close(&f);

    char text[4096];
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    const char *const arguments[] = {
        "--check", "--models", f.models, "--model-control=explicit", "--load-model=a,b", NULL};
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "--load-model: there is no model b"));
    fixture_close(&f);
}

static void print_config_says_what_holds_and_who_set_it(void **state)
{
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, "a", 12, 1);
    publish_bytes(f.models, "b", 1, "broken", 6); /* it loads nothing */
    publish_config(
        f.models, "a",
        "{\"labels\":{\"stable\":12},\"deadline_ms\":7,\"threads\":2,\"preferred_batch_size\":4}");
    publish_config(f.models, "e", "{\"ensemble\":[\"a\",\"b\"]}");
    setenv("PREDICTD_DEADLINE", "400", 1);
    run(&f, "--print-config", "--max-batch=9", 0,
        "\"--max-batch\":{\"value\":9,\"source\":\"flag\"}");
    run(&f, "--print-config", NULL, 0, "\"--max-batch\":{\"value\":64,\"source\":\"default\"}");
    run(&f, "--print-config", NULL, 0,
        "\"--deadline\":{\"value\":400,\"source\":\"variable\"}");
    run(&f, "--print-config", "--deadline=500", 0,
        "\"--deadline\":{\"value\":500,\"source\":\"flag\"}");
    run(&f, "--print-config", NULL, 0,
        "\"--model-control\":{\"value\":\"none\",\"source\":\"default\"}");
    run(&f, "--print-config", NULL, 0,
        "\"--default-model\":{\"value\":null,\"source\":\"default\"}");
    run(&f, "--print-config", NULL, 0, "\"a\":{\"versions\":[\"1\",\"12\"],\"file\":\"");
    run(&f, "--print-config", "--max-batch=9", 0,
        "/a/serving.json\",\"serving\":{\"version_policy\":{\"latest\":1},\"labels\":{"
        "\"stable\":12},\"max_batch_size\":9,\"preferred_batch_size\":4,"
        "\"max_queue_delay_us\":0,\"max_queue_size\":1024,\"priority_levels\":3,"
        "\"default_priority_level\":2,\"deadline_ms\":7,\"warmup\":1,\"threads\":2}}");
    run(&f, "--print-config", NULL, 0,
        "\"b\":{\"versions\":[\"1\"],\"file\":null,\"serving\":{");
    run(&f, "--print-config", NULL, 0,
        "\"serving\":{\"ensemble\":[\"a\",\"b\"],\"deadline_ms\":400}}");
    publish_config(f.models, "a", "{\"label\":{}}");
    run(&f, "--print-config", NULL, 1, "\"error\":\"");
    run(&f, "--print-config", NULL, 1,
        "/a/serving.json: label: unknown key, did you mean \"labels\"?");
    unsetenv("PREDICTD_DEADLINE");
    fixture_close(&f);
}

static void check_names_what_is_left_out_for_its_name(void **state)
{
    static const char *const names[] = {"my model", "v1.", "a\377"};
    struct fixture f;
    char text[8192], path[FIXTURE_PATH + 16];
    (void)state;
    fixture_open(&f);
    const char *const arguments[] = {"--check", "--models", f.models, NULL};
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, ".hidden", 1, 1);
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 0);
    assert_null(strstr(text, "left out"));

    for (int i = 0; i < 3; i++)
        publish_linear(f.models, names[i], 1, 1);
    publish_config(f.models, "all of them", "{\"ensemble\":[\"a\"]}");
    snprintf(path, sizeof path, "%s/lost+found", f.models);
    assert_int_equal(mkdir(path, 0), 0);
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 0);
    assert_non_null(strstr(text, "\"warning\",\"event\":\"left out\",\"path\":\"my model\","
                                 "\"reason\":\"expected a name of 1 to 64 letters"));
    assert_non_null(strstr(text, "\"path\":\"all of them\","));
    assert_non_null(strstr(text, "\"left out\",\"path\":\"a"));
    assert_null(strstr(text, "\"path\":\"v1."));
    assert_null(strstr(text, "lost+found"));

    /* A folder of versions is none of models. */
    snprintf(path, sizeof path, "%s/a", f.models);
    const char *const within[] = {"--check", "--models", path, NULL};
    assert_int_equal(fixture_run(within, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, "\"path\":\"1/model.safetensors\",\"reason\":\"expected the "
                                 "folder of a version around it\""));
    fixture_close(&f);
}

static void misspelt_variables_are_named(void **state)
{
    static const char *const modes[] = {"--check", "--print-config"};
    struct fixture f;
    char text[8192];
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    for (int i = 0; i < 2; i++) {
        const char *const arguments[] = {modes[i], "--models", f.models, NULL};
        assert_int_equal(fixture_run(arguments, "PREDICTD_MAX_BACH=3", text, sizeof text), 0);
        assert_non_null(strstr(text, "ignored\",\"name\":\"PREDICTD_MAX_BACH\""));
        assert_int_equal(fixture_run(arguments, "PREDICTD_DATA=data", text, sizeof text), 0);
        assert_null(strstr(text, "ignored"));
    }
    fixture_close(&f);
}

static const struct {
    const char *arguments[3], *variable, *says;
} bad_options[] = {
    {{"--prot", "80"}, NULL, "there is no flag --prot; did you mean --port?"},
    {{"--xyzzy-plugh"}, NULL, "there is no flag --xyzzy-plugh; --help lists all"},
    {{"models"}, NULL, "expected a flag, got \"models\""},
    {{"--port"}, NULL, "--port: expected a value"},
    {{"--port", "65536"}, NULL, "--port: expected an integer from 0 to 65535, got \"65536\""},
    {{"--port", "80x"}, NULL, "--port: expected an integer from 0 to 65535, got \"80x\""},
    {{"--threads=0"}, NULL, "--threads: expected an integer from 1 to 64, got \"0\""},
    {{"--drain-delay", "nan"},
     NULL,
     "--drain-delay: expected seconds from 0 to 3600, got \"nan\""},
    {{"--body-timeout", "0"},
     NULL,
     "--body-timeout: expected seconds from 0.001 to 3600, got \"0\""},
    {{"--log-level", "loud"},
     NULL,
     "--log-level: expected debug, info, warning or error, got \"loud\""},
    {{"--admin-host", "0.0.0.0"}, NULL, "--admin-host: expected a loopback address"},
    {{"--cors-origins", "https://a.example/"}, NULL,
     "--cors-origins: expected * or origins like https://example.org, with commas between them, "
     "got \"https://a.example/\""},
    {{"--cors-origins", "https://a.example,,*"}, NULL, "--cors-origins: expected * or origins"},
    {{"--cors-origins", "null"}, NULL, "--cors-origins: expected * or origins"},
    {{"--models", ""}, NULL, "--models: expected a value, got an empty one"},
    {{NULL},
     "PREDICTD_MAX_BATCH=0",
     "PREDICTD_MAX_BATCH: expected an integer from 1 to 65536, got \"0\""},
    {{NULL},
     "PREDICTD_ACCESS_LOG=perhaps",
     "PREDICTD_ACCESS_LOG: expected 0 or 1, got \"perhaps\""},
};

static void an_option_that_is_wrong_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_options / sizeof bad_options[0]; i++) {
        char text[4096];
        assert_int_equal(
            fixture_run(bad_options[i].arguments, bad_options[i].variable, text, sizeof text), 1);
        if (!strstr(text, bad_options[i].says))
            assert_string_equal(text, bad_options[i].says);
    }
}

static void a_flag_wins_over_its_variable(void **state)
{
    static const char *const arguments[] = {"--max-batch", "8", "--version", NULL};
    char text[1024];
    (void)state;
    assert_int_equal(fixture_run(arguments, "PREDICTD_LOG_LEVEL=error", text, sizeof text), 0);
    assert_non_null(strstr(text, "predictd 0."));
    setenv("PREDICTD_DEFAULT_MODEL", "a", 1);
    struct fixture f;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    publish_linear(f.models, "b", 1, 1);
    for (int flag = 0; flag < 2; flag++) {
        const char *const b[] = {"--default-model", "b", NULL};
        fixture_serve(&f, flag ? b : NULL);
        assert_int_equal(request(f.port, "POST", "/predict", "{\"instances\":[[1,2,3,4]]}",
                                 text, sizeof text),
                         200);
        assert_non_null(strstr(text, flag ? "\"model_name\":\"b\"" : "\"model_name\":\"a\""));
        assert_int_equal(fixture_stop(&f), 0);
    }
    unsetenv("PREDICTD_DEFAULT_MODEL");
    fixture_close(&f);
}

static void a_default_model_that_is_not_there_is_warned_of(void **state)
{
    static const char told[] = "\"event\":\"no default model\",\"model\":\"b\"";
    static const char *const arguments[] = {"--default-model", "b", NULL};
    struct fixture f;
    (void)state;
    fixture_open(&f);
    publish_linear(f.models, "a", 1, 1);
    fixture_serve(&f, arguments);
    assert_int_equal(request(f.port, "POST", "/predict", "{}", NULL, 0), 404);
    publish_linear(f.models, "b", 1, 1);
    assert_int_equal(request(f.admin_port, "POST", "/reload", "", NULL, 0), 200);
    assert_int_equal(fixture_stop(&f), 0);
    char *log = fixture_log(&f), *first = strstr(log, told);
    assert_non_null(first);
    assert_null(strstr(first + 1, told));
    free(log);
    fixture_close(&f);
}

/* "--flag V  help [default]" and the variable in the line below it, as README.md's table has
 * them: | `--flag V` | `VARIABLE` | default | help |. A default that is computed stands in its
 * column, too. What has no variable is explained in the text: the flag alone. */
static bool print_row(const char *entry, char *row, size_t size)
{
    char first[512], variable[64] = "", standard[64] = "";
    assert_true(sscanf(entry, " %511[^\n] %63s", first, variable) >= 1);
    char *help = strstr(first, "  ");
    assert_non_null(help);
    int width = (int)(help - first);
    help += strspn(help, " ");
    char *bracket = strrchr(help, '['), *computed = strstr(help, "; default: ");
    if (bracket) {
        snprintf(standard, sizeof standard, "%.*s", (int)strlen(bracket) - 2, bracket + 1);
        bracket[-1] = 0;
    } else if (computed) {
        snprintf(standard, sizeof standard, "%s", computed + strlen("; default: "));
        *computed = 0;
    }
    if (*variable)
        snprintf(row, size, "\n| `%.*s` | `%s` | %s | %s |\n", width, first, variable, standard,
                 help);
    else
        snprintf(row, size, "%.*s", width, first);
    return *variable != 0;
}

static void the_readme_lists_the_flags_of_help(void **state)
{
    static const char *const arguments[] = {"--help", NULL};
    static char text[16384], readme[65536];
    (void)state;
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 0);
    FILE *file = fopen("README.md", "r");
    assert_non_null(file);
    readme[fread(readme, 1, sizeof readme - 1, file)] = 0;
    fclose(file);

    int n_rows = 0;
    for (char *entry = strstr(text, "\n  --"), *next; entry; entry = next) {
        char row[1024];
        next = strstr(entry + 1, "\n  --");
        if (next)
            *next++ = 0;        /* ends this one */
        n_rows += print_row(entry, row, sizeof row);
        if (!strstr(readme, row) && strcmp(row, "--help") != 0 && strcmp(row, "--version") != 0)
            fail_msg("README.md has no %s", row);
    }
    assert_true(n_rows > 15);
    for (const char *p = readme; (p = strstr(p, "` | `PREDICTD_")); p++)
        n_rows--;
    assert_int_equal(n_rows, 0);        /* and no other */
}

static void a_port_in_use_is_named(void **state)
{
    struct fixture f;
    char port[16], text[1024], expected[64];
    (void)state;
    fixture_open(&f);
    fixture_start(&f, NULL);
    snprintf(port, sizeof port, "%d", f.port);
    snprintf(expected, sizeof expected, "port %d of 127.0.0.1 is in use", f.port);
    const char *const arguments[] = {"--host", "127.0.0.1", "--port", port, NULL};
    assert_int_equal(fixture_run(arguments, NULL, text, sizeof text), 1);
    assert_non_null(strstr(text, expected));
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_says_which_models_are_broken),
        cmocka_unit_test(check_looks_at_settings_ensembles_and_names),
        cmocka_unit_test(print_config_says_what_holds_and_who_set_it),
        cmocka_unit_test(check_names_what_is_left_out_for_its_name),
        cmocka_unit_test(misspelt_variables_are_named),
        cmocka_unit_test(an_option_that_is_wrong_is_named),
        cmocka_unit_test(a_flag_wins_over_its_variable),
        cmocka_unit_test(a_default_model_that_is_not_there_is_warned_of),
        cmocka_unit_test(the_readme_lists_the_flags_of_help),
        cmocka_unit_test(a_port_in_use_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
