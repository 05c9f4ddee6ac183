/*
 * Models that answer with what they were given, of every kind of input there is.
 */
#ifndef TESTS_FUZZ_IDENTITIES_H
#define TESTS_FUZZ_IDENTITIES_H

#include "server/registry.h"
#include "server/tensor_rows.h"
#include "tests/fuzz/fuzz.h"

enum { IDENTITIES = 12, IDENTITIES_ROWS = 8 };

void identities_open(void);

/* Rows to read into: `byte` chooses the model and how many rows of memory are lent. */
struct tensor_rows identities_rows(uint8_t byte, const struct served **served);

/* Computes at most IDENTITIES_ROWS rows. False: the model cannot take so many. */
bool identities_run(const struct served *served, const struct tensor_rows *rows,
                    struct nn_tensor outputs[TENSOR_MAX_PORTS]);

bool fuzz_is_json(const char *text, size_t size);

#endif
