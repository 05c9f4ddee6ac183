/*
 * A model that takes its time.
 */
#ifndef TESTS_SLOW_MODEL_H
#define TESTS_SLOW_MODEL_H

/* y = x, [-1, 4], after some hundred thousand exponentials and logarithms for each row. */
void publish_slow(const char *models, const char *name, int version);

#endif
