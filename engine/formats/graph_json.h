/*
 * A graph as JSON: the value of "graph" in a bundle's metadata (bundle.h has its grammar).
 */
#ifndef FORMATS_GRAPH_JSON_H
#define FORMATS_GRAPH_JSON_H

#include "engine/formats/safetensors.h"
#include "engine/graph.h"

enum { GRAPH_JSON_MAX_PORTS = 64 };

/* Builds the graph that `text` describes. What a node names and no input or earlier node is
 * called is a constant: it is taken from `constants`, whose elements must outlive the graph.
 * Every field is checked, shapes are not inferred. Errors say where: "nodes[3] (Conv): ...". */
struct graph *graph_json_read(const char *text, const struct safetensors *constants,
                              struct nn_error *error);

/* The same text for the same graph: compact, keys sorted, attributes only where they differ
 * from their defaults. To be given back with free(). */
char *graph_json_write(const struct graph *g, struct nn_error *error);

#endif
