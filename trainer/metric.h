/*
 * Figures of a classifier or a regression, from predictions.
 */
#ifndef TRAINER_METRIC_H
#define TRAINER_METRIC_H

#include "engine/tensor.h"

/* Rows are counted by true class and predicted class. */
struct confusion {
    int n;
    int64_t *counts;            /* [n, n]: [true][predicted] */
};

int confusion_init(struct confusion *confusion, int n);     /* -1: no memory */
void confusion_release(struct confusion *confusion);
void confusion_add(struct confusion *confusion, int true_class, int predicted);

double confusion_accuracy(const struct confusion *confusion);

/* 0 where a denominator is 0. */
double confusion_precision(const struct confusion *confusion, int class);
double confusion_recall(const struct confusion *confusion, int class);
double confusion_f1(const struct confusion *confusion, int class);

/* The class of a row of n outputs: the first of the largest; with n == 1 whether
 * it is above `threshold`. */
int metric_class(const nn_real *outputs, int64_t n, double threshold);

#endif
