/*
 * A bundle: a graph, its weights, labels, golden samples and provenance in one safetensors
 * file, models/<name>/<version>/model.safetensors.
 *
 *     __metadata__    format    "predictd/1"
 *                     graph     JSON: {"inputs": [{"name", "datatype", "shape"}],
 *                                      "nodes": [{"op", "inputs", "outputs", "attributes"}],
 *                                      "outputs": [name]}
 *                               An omitted optional input is "". attributes and their order
 *                               are those of ONNX; the nodes are in an order in which they
 *                               can run.
 *                     labels    JSON: ["setosa", ...], the classes of output 0 (optional)
 *                     recipe    JSON: what it was trained by (optional)
 *                     training  JSON: what came of it (optional)
 *     tensors         <name>                   a constant that nodes name as an input
 *                     golden.input.<name>      [rows, ...] for every input, and
 *                     golden.output.<name>     [rows, ...] for every output, or none at all
 *
 * Datatypes are those of nn_datatype_name() in the graph, "FP32", and of safetensors in the
 * file, "F32". There are no strings: an input that is BYTES is refused.
 *
 * Unknown keys, tensors that no node uses, missing tensors and weights that are not finite are
 * errors. Limits: 64 inputs, 64 outputs, 65536 nodes and labels.
 */
#ifndef FORMATS_BUNDLE_H
#define FORMATS_BUNDLE_H

#include "engine/formats/safetensors.h"
#include "engine/graph.h"

#define BUNDLE_FORMAT "predictd/1"

struct bundle {
    struct graph *graph;        /* constants lie in file.data when it was read */
    int n_labels;
    char **labels;
    struct nn_tensor *golden_inputs;    /* one per input of the graph, or NULL: none */
    struct nn_tensor *golden_outputs;   /* one per output */
    struct safetensors file;    /* what was read: holds names, elements and metadata */
};

/* Reads and checks everything but the golden samples' values. Errors begin with the path.
 * On failure *bundle is empty. */
int bundle_read(struct bundle *bundle, const char *path, struct nn_error *error);
void bundle_release(struct bundle *bundle);

const char *bundle_metadata(const struct bundle *bundle, const char *key);

/* What is written; everything stays the caller's. */
struct bundle_content {
    const struct graph *graph;
    int n_labels;
    char *const *labels;
    const struct nn_tensor *golden_inputs, *golden_outputs;     /* NULL: none */
    const char *recipe, *training;                              /* JSON, or NULL */
};

/* Atomically replaces `path`, creating its folder. */
int bundle_write(const struct bundle_content *content, const char *path,
                 struct nn_error *error);

#endif
