/*
 * What a network is made of, as a table for people.
 */
#ifndef TRAINER_SUMMARY_H
#define TRAINER_SUMMARY_H

#include <stdio.h>

#include "engine/engine.h"

/* Of a recipe, or of a bundle (by layers where it holds its recipe, else by nodes): output
 * shapes, parameters, and floating point operations for one sample. */
int summary(FILE *out, const char *path, struct nn_error *error);

#endif
