/*
 * Paths and what they name.
 */
#ifndef SERVER_API_PATH_H
#define SERVER_API_PATH_H

#include "server/http.h"

/* Whether the request's path is `pattern`, in which {m} stands for the name of a model, {v}
 * for a version, {l} for a label, and [...] may be absent. What it names goes into the
 * request. With `decodes` names may be percent-encoded and are anything; otherwise they are
 * taken as they were sent and have to be names of models. The rest of a path has one spelling
 * only. */
bool path_matches(const char *pattern, struct http_request *request, bool decodes);

#endif
