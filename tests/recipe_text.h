/*
 * Recipes in C source: JSON with apostrophes for quotes.
 */
#ifndef TESTS_RECIPE_TEXT_H
#define TESTS_RECIPE_TEXT_H

#include <stdio.h>
#include <stdlib.h>

#include "trainer/network.h"

struct recipe_text {
    struct recipe recipe;
    struct network *network;    /* initialised by the recipe's seed */
};

static inline struct recipe_text recipe_text_build(const char *text)
{
    struct recipe_text built;
    struct nn_error error = {0};
    char *copy = strdup(text);
    for (char *c = copy; *c; c++)
        if (*c == '\'')
            *c = '"';
    if (recipe_parse(&built.recipe, copy, &error) != 0 ||
        !(built.network = network_new(&built.recipe, &error))) {
        fprintf(stderr, "%s\n%s\n", copy, error.text);
        exit(1);
    }
    network_initialize(built.network, built.recipe.seed);
    free(copy);
    return built;
}

static inline void recipe_text_release(struct recipe_text *built)
{
    network_free(built->network);
    recipe_release(&built->recipe);
}

#endif
