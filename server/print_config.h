/*
 * `predictd --print-config`: all that is set, and where, without loading a model.
 */
#ifndef SERVER_PRINT_CONFIG_H
#define SERVER_PRINT_CONFIG_H

#include "server/options.h"

/* Writes a JSON object: the flags with their sources; of each model in the folder its versions and
 * its serving.json, completed by what the flags say. -1: one is wrong, which is in the text, too;
 * or there is no memory. */
int print_config(const struct options *options, FILE *out, struct nn_error *error);

#endif
