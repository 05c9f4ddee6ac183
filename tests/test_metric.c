#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "trainer/metric.h"

static void an_empty_matrix_gives_zeros_rather_than_nan(void **state)
{
    (void)state;
    struct confusion confusion;
    assert_int_equal(confusion_init(&confusion, 3), 0);
    assert_true(confusion_accuracy(&confusion) == 0);
    for (int c = 0; c < 3; c++) {
        assert_true(confusion_precision(&confusion, c) == 0);
        assert_true(confusion_recall(&confusion, c) == 0);
        assert_true(confusion_f1(&confusion, c) == 0);
    }
    confusion_release(&confusion);
}

static void a_matrix_without_classes_is_refused(void **state)
{
    (void)state;
    struct confusion confusion;
    assert_int_equal(confusion_init(&confusion, 0), -1);
    assert_int_equal(confusion_init(&confusion, -1), -1);
    confusion_release(&confusion);
}

/* scikit-learn's user guide, "Classification report": y_true = 0 1 2 2 0, y_pred = 0 0 2 1 0,
 * which it prints as precision 0.67 0.00 1.00, recall 1.00 0.00 0.50, f1 0.80 0.00 0.67,
 * accuracy 0.60. */
static void figures_are_those_of_a_published_report(void **state)
{
    (void)state;
    static const int y_true[] = {0, 1, 2, 2, 0}, y_pred[] = {0, 0, 2, 1, 0};
    static const double precision[] = {2 / 3.0, 0, 1}, recall[] = {1, 0, 0.5};
    static const double f1[] = {0.8, 0, 2 / 3.0};
    struct confusion confusion;
    assert_int_equal(confusion_init(&confusion, 3), 0);
    for (int i = 0; i < 5; i++)
        confusion_add(&confusion, y_true[i], y_pred[i]);

    assert_true(fabs(confusion_accuracy(&confusion) - 0.6) < 1e-15);
    for (int c = 0; c < 3; c++) {
        assert_true(fabs(confusion_precision(&confusion, c) - precision[c]) < 1e-15);
        assert_true(fabs(confusion_recall(&confusion, c) - recall[c]) < 1e-15);
        assert_true(fabs(confusion_f1(&confusion, c) - f1[c]) < 1e-15);
    }
    assert_int_equal(confusion.counts[2 * 3 + 1], 1);
    assert_int_equal(confusion.counts[1 * 3 + 2], 0);
    confusion_release(&confusion);
}

static void the_class_of_a_row_is_its_largest_output(void **state)
{
    (void)state;
    static const struct {
        nn_real outputs[3];
        int64_t n;
        double threshold;
        int class;
    } rows[] = {
        {{1, 3, 2}, 3, 0, 1},
        {{-5, -4, -3}, 3, 0, 2},
        {{7, 7, 7}, 3, 0, 0},           /* the first of equals */
        {{1, 2, 2}, 3, 0, 1},
        {{0.6f}, 1, 0.5, 1},
        {{0.5f}, 1, 0.5, 0},            /* not above */
        {{-0.1f}, 1, 0, 0},             /* logits are compared with 0 */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(metric_class(rows[i].outputs, rows[i].n, rows[i].threshold),
                         rows[i].class);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_matrix_gives_zeros_rather_than_nan),
        cmocka_unit_test(a_matrix_without_classes_is_refused),
        cmocka_unit_test(figures_are_those_of_a_published_report),
        cmocka_unit_test(the_class_of_a_row_is_its_largest_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
