/*
 * Models for the tests of JSON bodies and answers: each gives back its inputs.
 */
#ifndef TESTS_JSON_MODELS_H
#define TESTS_JSON_MODELS_H

#include "engine/engine.h"

enum { IMAGE, PAIR, NUMBER, VECTOR, FIXED, BYTE, LONG, INT, FLAG, N_JSON_MODELS };

extern struct nn_model *json_models[N_JSON_MODELS];

/* For cmocka_run_group_tests(). */
int json_models_open(void **state);
int json_models_close(void **state);

#endif
