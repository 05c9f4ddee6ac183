/*
 * The inside of struct nn_model, for model.c and session.c.
 */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "engine/formats/bundle.h"
#include "engine/graph.h"

struct nn_model {
    struct bundle bundle;
    struct graph *graph;        /* bundle.graph, optimised; never written after opening */
    struct nn_port *inputs, *outputs;
    const char *unbatched;      /* NULL: batched across requests */
    int64_t n_parameters, n_golden;
};

/* Golden samples reproduce when every element is within this of max(1, |expected|); of the
 * small floating-point types within a unit of their last place. */
#define MODEL_GOLDEN_TOLERANCE 1e-4

/* Takes the bundle over (also on failure, when it is released), optimises its graph and
 * replays its golden samples, whose shapes are as bundle_read() checks them. */
struct nn_model *model_from_bundle(struct bundle *bundle, struct nn_error *error);

#endif
