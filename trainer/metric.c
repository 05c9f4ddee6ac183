#include "trainer/metric.h"

#include <stdlib.h>

int confusion_init(struct confusion *confusion, int n)
{
    size_t cells;
    *confusion = (struct confusion){0};
    if (n < 1 || __builtin_mul_overflow((size_t)n, (size_t)n, &cells))
        return -1;
    confusion->counts = calloc(cells, sizeof(*confusion->counts));
    if (!confusion->counts)
        return -1;
    confusion->n = n;
    return 0;
}

void confusion_release(struct confusion *confusion)
{
    free(confusion->counts);
    *confusion = (struct confusion){0};
}

static int64_t *cell(const struct confusion *confusion, int true_class, int predicted)
{
    return &confusion->counts[(size_t)true_class * confusion->n + predicted];
}

void confusion_add(struct confusion *confusion, int true_class, int predicted)
{
    ++*cell(confusion, true_class, predicted);
}

static double ratio(int64_t part, int64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

double confusion_accuracy(const struct confusion *confusion)
{
    int64_t right = 0, all = 0;
    for (int i = 0; i < confusion->n; i++) {
        right += *cell(confusion, i, i);
        for (int j = 0; j < confusion->n; j++)
            all += *cell(confusion, i, j);
    }
    return ratio(right, all);
}

double confusion_precision(const struct confusion *confusion, int class)
{
    int64_t predicted = 0;
    for (int i = 0; i < confusion->n; i++)
        predicted += *cell(confusion, i, class);
    return ratio(*cell(confusion, class, class), predicted);
}

double confusion_recall(const struct confusion *confusion, int class)
{
    int64_t actual = 0;
    for (int j = 0; j < confusion->n; j++)
        actual += *cell(confusion, class, j);
    return ratio(*cell(confusion, class, class), actual);
}

double confusion_f1(const struct confusion *confusion, int class)
{
    double precision = confusion_precision(confusion, class);
    double recall = confusion_recall(confusion, class);
    double sum = precision + recall;
    return sum > 0 ? 2 * precision * recall / sum : 0;
}

int metric_class(const nn_real *outputs, int64_t n, double threshold)
{
    if (n == 1)
        return outputs[0] > threshold;
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (outputs[i] > outputs[best])
            best = i;
    return (int)best;
}
