/*
 * The Open Inference Protocol V2 over REST, with Triton's extensions: binary tensor data,
 * classification, statistics, model configuration, model repository.
 */
#ifndef SERVER_API_OPEN_INFERENCE_H
#define SERVER_API_OPEN_INFERENCE_H

#include "server/http.h"
#include "server/table.h"

int v2_live(struct http_request *request);
int v2_ready(struct http_request *request);
int v2_server(struct http_request *request);
int v2_model(struct http_request *request);
int v2_model_ready(struct http_request *request);
int v2_infer(struct http_request *request);
int v2_config(struct http_request *request);
int v2_statistics(struct http_request *request);
int v2_all_statistics(struct http_request *request);
int v2_index(struct http_request *request);
int v2_load(struct http_request *request);
int v2_unload(struct http_request *request);

/* The model and version of the path. NULL: request is answered, *status tells how. */
const struct served *v2_find(struct http_request *request, int *status);

#endif
