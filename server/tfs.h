/*
 * Bodies of TensorFlow Serving's REST interface. A model has the one signature
 * "serving_default".
 */
#ifndef SERVER_TFS_H
#define SERVER_TFS_H

#include "server/codec.h"

/* {"instances": [...]} or {"inputs": ...}, answered with "predictions" or "outputs". */
extern const struct codec tfs_predict_codec;

/* {"examples": [{name: value}, ...]}, answered with "results": for each example the first
 * output's classes as [label, score], or its one value. */
extern const struct codec tfs_classify_codec, tfs_regress_codec;

#define TFS_SIGNATURE "serving_default"

#endif
