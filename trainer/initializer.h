/*
 * Initial values of parameters.
 *
 * He et al. 2015, "Delving Deep into Rectifiers"; Glorot and Bengio 2010, "Understanding the
 * difficulty of training deep feedforward neural networks".
 */
#ifndef TRAINER_INITIALIZER_H
#define TRAINER_INITIALIZER_H

#include "engine/tensor.h"

enum initializer_kind { INITIALIZER_CONSTANT, INITIALIZER_HE_NORMAL, INITIALIZER_HE_UNIFORM,
                        INITIALIZER_GLOROT_NORMAL, INITIALIZER_GLOROT_UNIFORM };

extern const char *const initializer_names[];   /* "constant" ..., ended by NULL */

struct initializer {
    enum initializer_kind kind;
    double value;               /* INITIALIZER_CONSTANT */
    int64_t fan_in, fan_out;    /* the others */
};

/* Element i depends only on key and i. */
void initializer_fill(const struct initializer *initializer, uint64_t key, int64_t n,
                      nn_real *weights);

#endif
