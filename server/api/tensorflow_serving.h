/*
 * TensorFlow Serving's REST interface, version 1.
 */
#ifndef SERVER_API_TENSORFLOW_SERVING_H
#define SERVER_API_TENSORFLOW_SERVING_H

#include "server/http.h"

int tfs_predict(struct http_request *request);
int tfs_classify(struct http_request *request);
int tfs_regress(struct http_request *request);
int tfs_status(struct http_request *request);
int tfs_metadata(struct http_request *request);
int tfs_no_model(struct http_request *request);

/* Everything below /v1/ that is no request of this interface is malformed: 400. */
bool tfs_is_path(const char *path);
int tfs_malformed(struct http_request *request);

#endif
