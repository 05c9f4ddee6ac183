/*
 * serving.json: what is accepted is JSON to Jansson, too, keeps to its bounds, and reads back from
 * its own text.
 */
#include "tests/fuzz/fuzz.h"

#include "server/serving_config.h"
#include "tests/fuzz/identities.h"
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return 0;
}

static void check_name(const char *name)
{
    MUST(memchr(name, 0, MODEL_NAME_SIZE) && name_is_valid(name, strlen(name)));
}

static void check_bounds(const struct serving_config *c)
{
    int64_t weights = 0;
    MUST(c->n_labels >= 0 && c->n_labels <= SERVING_LABELS);
    for (int i = 0; i < c->n_labels; i++) {
        check_name(c->labels[i].name);
        MUST(c->labels[i].version > 0 && serving_config_names(c, c->labels[i].version));
        weights += c->labels[i].weight > 0 ? c->labels[i].weight : 0;
    }
    MUST(weights == c->weights);
    MUST(!*c->canary_header || c->weights > 0);
    MUST(c->n_specific >= 0 && c->n_specific <= SERVING_SPECIFIC);
    MUST((c->policy == SERVING_SPECIFIED) == (c->n_specific > 0));
    MUST(c->policy != SERVING_LATEST || c->latest > 0);
    MUST(c->n_members >= 0 && c->n_members <= SERVING_MEMBERS);
    for (int i = 0; i < c->n_members; i++)
        check_name(c->members[i]);
    MUST(c->n_members == 0 || c->n_labels + c->n_specific == 0);
    MUST(c->preferred_batch_size <= c->max_batch_size || c->max_batch_size == -1);
    MUST(c->default_priority_level <= (c->priority_levels < 0 ? 3 : c->priority_levels));
    MUST(c->priority_levels <= 10);
    MUST(c->warmup >= 0 && c->warmup <= 65536 && c->threads <= 64);
}

static void read_back(const struct serving_config *c)
{
    struct buffer text = {0}, twice = {0};
    struct serving_config again;
    serving_config_write(c, &text);
    MUST(!text.failed && fuzz_is_json(text.data, text.size));
    MUST(serving_config_read(&again, text.data, text.size, NULL) == 0);
    check_bounds(&again);
    serving_config_write(&again, &twice);
    MUST(text.size == twice.size && memcmp(text.data, twice.data, text.size) == 0);
    buffer_release(&text);
    buffer_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct serving_config config;
    struct nn_error error = {""};

    if (serving_config_read(&config, (const char *)data, size, &error) < 0) {
        MUST(error.text[0]);
        return 0;
    }
    MUST(fuzz_is_json((const char *)data, size));
    check_bounds(&config);
    read_back(&config);
    return 0;
}
