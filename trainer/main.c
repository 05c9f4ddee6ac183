/*
 * predictd-train: the trainer's command line.
 *
 * Status: 0 done, 1 failed, 2 it was called wrongly.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/formats/bundle.h"
#include "trainer/fields.h"
#include "trainer/parallel.h"
#include "trainer/predict.h"
#include "trainer/progress.h"
#include "trainer/publish.h"
#include "trainer/report.h"
#include "trainer/summary.h"

enum { FAILED = 1, USAGE = 2, MAX_THREADS = 1024 };

struct options {
    const char *data, *out, *from;
    long long epochs, seed, threads; /* -1: as the recipe says */
    bool json;
    const char *arguments[2];
};

/* ---- commands --------------------------------------------------------------------------- */

static int fail(const struct nn_error *error)
{
    fprintf(stderr, "predictd-train: %s\n", error->text);
    return FAILED;
}

static int threads_of(const struct options *options)
{
    return options->threads > 0 ? (int)options->threads : nn_processors();
}

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* The folder of a file: "." when it has none in its name. To be freed. */
static char *folder_of(const char *path)
{
    char *folder = strdup(path), *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash == folder && slash)
        slash[1] = '\0';
    else if (slash)
        *slash = '\0';
    else if (folder)
        strcpy(folder, *folder ? "." : "");
    return folder;
}

/* Where data files are: what was asked for, else data/ here, else that of the checkout in which
 * the recipe (models/<name>/recipe.json) or the bundle (models/<name>/<version>/...) lies. To
 * be freed. */
static char *find_data(const struct options *options, const char *path)
{
    const char *given = options->data ? options->data : getenv("PREDICTD_DATA");
    if (given && *given)
        return strdup(given);
    static const char *const above[] = {"../../data", "../../../data"};
    char *folder = folder_of(path), *found = NULL;
    for (int i = 0; folder && !found && !is_folder("data") && i < 2; i++) {
        if (asprintf(&found, "%s/%s", folder, above[i]) < 0)
            found = NULL;
        if (found && !is_folder(found)) {
            free(found);
            found = NULL;
        }
    }
    free(folder);
    return found ? found : strdup("data");
}

static volatile sig_atomic_t interrupted;

/* The first time the training ends with the best so far; the second time at once. */
static void on_interrupt(int signal)
{
    if (interrupted)
        _exit(128 + signal);
    interrupted = 1;
}

static int override(json_t *recipe, const char *key, long long value)
{
    json_t *training = json_object_get(recipe, "training");
    if (!training && json_object_set_new(recipe, "training", training = json_object()) != 0)
        return -1;
    return json_object_set_new(training, key, json_integer(value));
}

/* What the command line says instead of the recipe goes into it: the bundle holds what was
 * really done. */
static int read_recipe(struct recipe *recipe, const struct options *options,
                       struct nn_error *error)
{
    if (recipe_read(recipe, options->arguments[0], error) != 0)
        return -1;
    if (options->epochs >= 0)
        recipe->epochs = (int)options->epochs;
    if (options->seed >= 0)
        recipe->seed = (uint64_t)options->seed;
    if ((options->epochs >= 0 && override(recipe->json, "epochs", options->epochs) != 0) ||
        (options->seed >= 0 && override(recipe->json, "seed", options->seed) != 0)) {
        recipe_release(recipe);
        return nn_fail(error, "out of memory");
    }
    return 0;
}

struct training {
    struct recipe recipe;
    struct network *network;
    struct bundle from; /* empty without --from */
    struct dataset train, validation;
    bool validates;
    uint64_t data_digest;
    struct fit_result result;
};

static int load_data(struct training *t, const char *directory, const char *recipe_path,
                     struct nn_error *error)
{
    const struct recipe *recipe = &t->recipe;
    const struct nn_shape *shape = &t->network->graph->values[t->network->output].type.shape;
    struct dataset_request request = {.data = recipe->data,
                                      .directory = directory,
                                      .n_inputs = recipe->n_inputs,
                                      .inputs = recipe->inputs,
                                      .target = recipe->target,
                                      .n_targets = (int)shape_product(shape, 1, shape->rank),
                                      .labels = t->from.labels,
                                      .n_labels = t->from.n_labels};
    if (dataset_load(&t->train, &request, DATASET_TRAIN, error) != 0)
        return -1;
    t->data_digest = t->train.digest;
    t->validates = recipe->validation_fraction > 0;
    if (t->validates && dataset_split(&t->train, recipe->validation_fraction, recipe->seed,
                                      &t->validation, error) != 0)
        return nn_fail_in(error, "%s: training.validation_fraction", recipe_path);
    return 0;
}

/* Columns are named where the recipe names none but the bundle does, which has them from the
 * header of its data: a table may have them in another order by now. */
static int take_columns(struct training *t, struct nn_error *error)
{
    struct recipe *recipe = &t->recipe;
    const char *text = bundle_metadata(&t->from, "recipe");
    if (!text || recipe->n_inputs != 1 || recipe->inputs[0].columns ||
        !json_is_true(json_object_get(recipe->data, "header")))
        return 0;
    json_t *from = json_loads(text, 0, NULL);
    json_t *columns =
        json_object_get(json_array_get(json_object_get(from, "inputs"), 0), "columns");
    int status = 0;
    if (json_is_string(json_array_get(columns, 0))) {
        json_t *input = json_array_get(json_object_get(recipe->json, "inputs"), 0);
        status = json_object_set(input, "columns", columns) == 0
                     ? 0
                     : nn_fail(error, "out of memory");
        recipe->inputs[0].columns = json_object_get(input, "columns");
    }
    json_decref(from);
    return status;
}

/* A training goes on with the classes and the columns of the bundle that it goes on from. */
static int prepare(struct training *t, const struct options *options, struct nn_error *error)
{
    if (read_recipe(&t->recipe, options, error) != 0)
        return -1;
    t->network = network_new(&t->recipe, error);
    if (!t->network)
        return -1;
    network_initialize(t->network, t->recipe.seed);
    if (options->from &&
        (network_load(t->network, options->from, error) != 0 ||
         bundle_read(&t->from, options->from, error) != 0 || take_columns(t, error) != 0))
        return -1;
    char *directory = find_data(options, options->arguments[0]);
    int status = directory ? load_data(t, directory, options->arguments[0], error)
                           : nn_fail(error, "out of memory");
    free(directory);
    if (status != 0 || options->from)
        return status;
    return network_fit_data(t->network, &t->recipe, &t->train, error);
}

static void release(struct training *t)
{
    fit_result_release(&t->result);
    network_free(t->network);
    bundle_release(&t->from);
    dataset_release(&t->train);
    dataset_release(&t->validation);
    recipe_release(&t->recipe);
}

/* Where a training is published; to be freed. */
static char *folder_to_publish_in(const struct options *options)
{
    return options->out ? strdup(options->out) : folder_of(options->arguments[0]);
}

/* Better now than when hours of training are to be saved. */
static int check_folder(const struct options *options, struct nn_error *error)
{
    char *folder = folder_to_publish_in(options);
    int status = folder ? publish_check(folder, error) : nn_fail(error, "out of memory");
    free(folder);
    return status;
}

static int publish_result(const struct training *t, const struct options *options)
{
    struct nn_error error = {0};
    if (t->result.n_epochs == 0) {
        nn_fail(&error, "%s: nothing was learned, nothing is published", options->arguments[0]);
        return fail(&error);
    }
    char *folder = folder_to_publish_in(options);
    const struct publication publication = {.network = t->network,
                                            .recipe = &t->recipe,
                                            .train = &t->train,
                                            .validation = t->validates ? &t->validation : NULL,
                                            .data_digest = t->data_digest,
                                            .result = &t->result};
    char *path = folder ? publish(&publication, folder, &error) : NULL;
    if (path)
        printf("published %s\n", path);
    else
        nn_fail(&error, "out of memory");
    free(folder);
    free(path);
    return error.text[0] ? fail(&error) : 0;
}

static int run_fit(const struct options *options)
{
    struct nn_error error = {0};
    struct training t = {0};
    int status = FAILED;
    if (check_folder(options, &error) != 0 || prepare(&t, options, &error) != 0) {
        fail(&error);
        goto done;
    }
    const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct progress progress;
    progress_init(&progress, stdout, t.recipe.epochs);
    const struct fit_options fit_options = {threads_of(options), &interrupted, progress_step,
                                            progress_epoch, &progress};
    int fitted = fit(t.network, &t.recipe, &t.train, t.validates ? &t.validation : NULL,
                     &fit_options, &t.result, &error);
    progress_end(&progress);
    if (fitted != 0) {
        fail(&error);
        goto done;
    }
    if (t.result.end == FIT_STOPPED_EARLY)
        printf("stopped early: epoch %d was the best\n", t.result.best_epoch);
    if (t.result.end == FIT_INTERRUPTED && t.result.n_epochs > 0)
        printf("interrupted: epoch %d was the best\n", t.result.best_epoch);
    if (t.result.end == FIT_NOT_FINITE) {
        nn_fail(&error,
                "%s: training stopped in epoch %d: %s gave values that are not finite; "
                "try a lower learning rate or clip_norm",
                options->arguments[0], t.result.n_epochs + 1, t.result.layer);
        fail(&error);
    }
    status = publish_result(&t, options);
    if (t.result.end == FIT_NOT_FINITE)
        status = FAILED;

done:
    release(&t);
    return status;
}

static int run_evaluate(const struct options *options)
{
    struct nn_error error = {0};
    struct report report;
    char *directory = find_data(options, options->arguments[0]);
    int status = directory ? report_make(&report, options->arguments[0], directory,
                                         threads_of(options), &error)
                           : nn_fail(&error, "out of memory");
    free(directory);
    if (status != 0)
        return fail(&error);
    if (options->json)
        status = report_print_json(&report, stdout);
    else
        report_print(&report, stdout);
    report_release(&report);
    return status == 0 ? 0 : FAILED;
}

static int run_predict(const struct options *options)
{
    struct nn_error error = {0};
    return predict(stdout, options->arguments[0], options->arguments[1], threads_of(options),
                   &error) == 0
               ? 0
               : fail(&error);
}

static int run_summary(const struct options *options)
{
    struct nn_error error = {0};
    return summary(stdout, options->arguments[0], &error) == 0 ? 0 : fail(&error);
}

/* ---- the command line ------------------------------------------------------------------- */

enum command_bit { FIT = 1, EVALUATE = 2, PREDICT = 4, SUMMARY = 8 };

static const struct command {
    const char *name, *arguments, *help;
    int bit, n_arguments;
    int (*run)(const struct options *options);
} commands[] = {
    {"fit", "RECIPE", "train, and publish the result as the next version", FIT, 1, run_fit},
    {"evaluate", "BUNDLE", "loss, accuracy and confusion on the test data of its recipe",
     EVALUATE, 1, run_evaluate},
    {"predict", "BUNDLE FILE", "IDX, CSV or JSON lines in, JSON lines out", PREDICT, 2,
     run_predict},
    {"summary", "BUNDLE|RECIPE", "layers, shapes, parameters, operations", SUMMARY, 1,
     run_summary},
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static const struct flag {
    const char *name, *value, *help;
    int commands; /* bits */
    size_t offset;
    long long min, max; /* of a number; both 0: text, or a switch without `value` */
} flags[] = {
    {"--data", "DIR", "where data files are (PREDICTD_DATA; default: data)", FIT | EVALUATE,
     offsetof(struct options, data), 0, 0},
    {"--out", "DIR", "publish there (default: the recipe's folder)", FIT,
     offsetof(struct options, out), 0, 0},
    {"--from", "BUNDLE", "go on from published weights", FIT, offsetof(struct options, from), 0,
     0},
    {"--epochs", "N", "instead of the recipe's", FIT, offsetof(struct options, epochs), 1,
     1000000},
    {"--seed", "N", "instead of the recipe's", FIT, offsetof(struct options, seed), 0,
     LLONG_MAX},
    {"--threads", "N", "default: the CPUs that may be used", FIT,
     offsetof(struct options, threads), 1, MAX_THREADS},
    {"--json", NULL, "as one JSON object", EVALUATE, offsetof(struct options, json), 0, 0},
};

enum { N_FLAGS = sizeof flags / sizeof flags[0] };

static void print_command(FILE *out, const struct command *command, bool with_flags)
{
    fprintf(out, "  predictd-train %s %s", command->name, command->arguments);
    for (int i = 0; i < N_FLAGS; i++)
        if (flags[i].commands & command->bit)
            fprintf(out, " [%s%s%s]", flags[i].name, flags[i].value ? " " : "",
                    flags[i].value ? flags[i].value : "");
    fprintf(out, "\n      %s\n", command->help);
    for (int i = 0; with_flags && i < N_FLAGS; i++)
        if (flags[i].commands & command->bit)
            fprintf(out, "      %-9s %-7s %s\n", flags[i].name,
                    flags[i].value ? flags[i].value : "", flags[i].help);
}

static void print_help(FILE *out, const struct command *command)
{
    fputs("usage:\n", out);
    for (int i = 0; i < N_COMMANDS; i++)
        if (!command || command == &commands[i])
            print_command(out, &commands[i], command != NULL);
    if (!command)
        fputs("  predictd-train COMMAND --help\n  predictd-train --version\n", out);
}

/* The nearest option of the command, or command (NULL), to a word that is none. */
static const char *nearest_word(const struct command *command, const char *word)
{
    const char *names[N_FLAGS + N_COMMANDS + 1];
    int n = 0;
    for (int i = 0; i < N_FLAGS; i++)
        if (command && flags[i].commands & command->bit)
            names[n++] = flags[i].name;
    for (int i = 0; i < N_COMMANDS; i++)
        if (!command)
            names[n++] = commands[i].name;
    names[n] = NULL;
    const char *nearest = nearest_name(word, names);
    return nearest && strcmp(nearest, word) != 0 ? nearest : NULL;
}

static int usage_error(const struct command *command, const char *what, const char *word)
{
    const char *nearest = nearest_word(command, word);
    fprintf(stderr, "predictd-train%s%s: %s \"%s\"", command ? " " : "",
            command ? command->name : "", what, word);
    if (nearest)
        fprintf(stderr, ", did you mean \"%s\"?", nearest);
    fprintf(stderr, "\n`predictd-train %s%s--help` shows what there is\n",
            command ? command->name : "", command ? " " : "");
    return USAGE;
}

static const struct flag *find_flag(const struct command *command, const char *name)
{
    for (int i = 0; i < N_FLAGS; i++)
        if (flags[i].commands & command->bit && strcmp(flags[i].name, name) == 0)
            return &flags[i];
    return NULL;
}

/* Whether the value was one that the flag takes. */
static bool set_flag(const struct flag *flag, const char *value, struct options *options)
{
    char *field = (char *)options + flag->offset;
    if (!flag->value) {
        *(bool *)field = true;
        return true;
    }
    if (flag->max == 0) {
        *(const char **)field = value;
        return *value != '\0';
    }
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    *(long long *)field = number;
    return *value >= '0' && *value <= '9' && *end == '\0' && errno == 0 &&
           number >= flag->min && number <= flag->max;
}

/* Reads the words after the command. 0, or the status to leave with; *help: it was asked for.
 */
static int read_options(const struct command *command, int n, char **words,
                        struct options *options, bool *help)
{
    int n_arguments = 0;
    for (int i = 0; i < n; i++) {
        char *word = words[i];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *help = true;
            return 0;
        }
        if (word[0] != '-' || word[1] == '\0') {
            if (n_arguments == command->n_arguments)
                return usage_error(command, "one argument too many:", word);
            if (*word == '\0')
                return usage_error(command, "an argument is empty; it takes",
                                   command->arguments);
            options->arguments[n_arguments++] = word;
            continue;
        }
        char *value = strchr(word, '=');
        if (value)
            *value++ = '\0';
        const struct flag *flag = find_flag(command, word);
        if (!flag)
            return usage_error(command, "unknown option", word);
        if (!flag->value && value)
            return usage_error(command, "an option without a value:", word);
        if (flag->value && !value && ++i == n)
            return usage_error(command, "a value is missing after", word);
        if (flag->value && !value)
            value = words[i];
        if (!set_flag(flag, value, options)) {
            fprintf(stderr, "predictd-train %s: %s \"%s\": expected %s", command->name,
                    flag->name, value, flag->value);
            if (flag->max == LLONG_MAX)
                fprintf(stderr, " from %lld", flag->min);
            else if (flag->max > 0)
                fprintf(stderr, " from %lld to %lld", flag->min, flag->max);
            fputc('\n', stderr);
            return USAGE;
        }
    }
    if (n_arguments < command->n_arguments)
        return usage_error(command, "arguments are missing; it takes", command->arguments);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr, NULL);
        return USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout, NULL);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("predictd-train " PREDICTD_VERSION);
        return 0;
    }
    for (int i = 0; i < N_COMMANDS; i++) {
        const struct command *command = &commands[i];
        if (strcmp(argv[1], command->name) != 0)
            continue;
        struct options options = {.epochs = -1, .seed = -1, .threads = -1};
        bool help = false;
        int status = read_options(command, argc - 2, argv + 2, &options, &help);
        if (help)
            print_help(stdout, command);
        if (status != 0 || help)
            return status;
        nn_engine_start();
        status = command->run(&options);
        struct nn_error error = {0};
        /* What fit is for is the bundle, and that is there. */
        if (status == 0 && command->bit != FIT && (fflush(stdout) != 0 || ferror(stdout))) {
            nn_fail(&error, "the output cannot be written");
            status = fail(&error);
        }
        return status;
    }
    return usage_error(NULL, argv[1][0] == '-' ? "unknown option" : "unknown command", argv[1]);
}
