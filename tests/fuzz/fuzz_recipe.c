/*
 * Recipes: what is accepted builds a network, initialises it, and reads back from its own
 * text.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/engine.h"
#include "trainer/network.h"
#include <string.h>

enum { MAX_WEIGHTS = 100000 };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    nn_engine_start();
    return 0;
}

static void read_back(const struct recipe *recipe)
{
    struct recipe again;
    char *text = recipe_text(recipe);
    MUST(text);
    MUST(recipe_parse(&again, text, NULL) == 0);
    char *twice = recipe_text(&again);
    MUST(twice && strcmp(text, twice) == 0);
    free(twice);
    free(text);
    recipe_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nn_error error = {""};
    struct recipe recipe;
    char *text = strndup((const char *)data, size);

    MUST(text);
    int status = recipe_parse(&recipe, text, &error);
    free(text);
    if (status < 0) {
        MUST(error.text[0]);
        return 0;
    }
    struct network *network = network_new(&recipe, &error);
    MUST(network || error.text[0]);
    if (network && network->n_weights <= MAX_WEIGHTS) {
        network_initialize(network, recipe.seed);
        struct graph *g = network_publication(network, &recipe, network->weights, &error);
        MUST(g || error.text[0]);
        graph_free(g);
        read_back(&recipe);
    }
    network_free(network);
    recipe_release(&recipe);
    return 0;
}
