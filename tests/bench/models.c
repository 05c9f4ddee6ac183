#include "tests/bench/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "engine/formats/bundle.h"
#include "trainer/network.h"

enum { CLASSES = 10 };

static void publish(const char *recipe_path, const char *bundle_path)
{
    struct nn_error error = {""};
    struct recipe recipe;
    struct network *network = NULL;
    struct graph *graph = NULL;
    if (recipe_read(&recipe, recipe_path, &error) != 0)
        goto fail;
    network = network_new(&recipe, &error);
    if (!network)
        goto fail;
    network_initialize(network, 1);
    graph = network_publication(network, &recipe, network->weights, &error);
    char digits[CLASSES][2], *labels[CLASSES];
    for (int i = 0; i < CLASSES; i++) {
        snprintf(digits[i], sizeof digits[i], "%c", '0' + i);
        labels[i] = digits[i];
    }
    struct bundle_content content = {.graph = graph, .n_labels = CLASSES, .labels = labels};
    if (!graph || bundle_write(&content, bundle_path, &error) != 0)
        goto fail;
    graph_free(graph);
    network_free(network);
    recipe_release(&recipe);
    return;

fail:
    fprintf(stderr, "bench: %s\n", error.text);
    exit(1);
}

void make_model(const char *folder, const char *name, char bundle[MODEL_PATH])
{
    char recipe[64], path[MODEL_PATH];
    mkdir(folder, 0755);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    mkdir(path, 0755);
    snprintf(bundle, MODEL_PATH, "%s/%s/1/model.safetensors", folder, name);
    snprintf(recipe, sizeof recipe, "models/%s/recipe.json", name);
    publish(recipe, bundle);
}
