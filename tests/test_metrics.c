/* What is counted, and how it is said. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "server/metrics.h"
#include <string.h>

static void labels_are_escaped_and_never_cut_in_half(void **state)
{
    char labels[64] = "", small[16] = "", tiny[8] = "";
    (void)state;
    metrics_label(labels, sizeof labels, "a", "x\\y\"z\n");
    assert_string_equal(labels, "a=\"x\\\\y\\\"z\\n\"");
    metrics_label(labels, sizeof labels, "b", "");
    assert_string_equal(labels, "a=\"x\\\\y\\\"z\\n\",b=\"\"");
    for (size_t n = 0; n < 12; n++) { /* the quote at every place before the end */
        char value[32];
        memset(value, 'v', sizeof value);
        value[n] = '"';
        value[sizeof value - 1] = 0;
        *small = 0;
        metrics_label(small, sizeof small, "n", value);
        size_t size = strlen(small);
        assert_in_range(size, 13, 15);
        assert_int_equal(small[size - 1], '"');
        size_t slashes = 0;
        while (small[size - 2 - slashes] == '\\')
            slashes++;
        assert_int_equal(slashes % 2, 0);
    }
    metrics_label(tiny, sizeof tiny, "long_name", "v");
    assert_string_equal(tiny, "");
}

/* A bound belongs to its bucket, as Prometheus' "le" says. */
static void durations_fall_into_their_buckets(void **state)
{
    static const int64_t durations[] = {0,          10000,       10001,
                                        1000000000, 10000000000, INT64_C(1) << 60};
    static const char *const expected[] = {
        "{x=\"1\",le=\"1e-05\"} 2\n", "{x=\"1\",le=\"2.5e-05\"} 3\n",
        "{x=\"1\",le=\"0.5\"} 3\n",   "{x=\"1\",le=\"1\"} 4\n",
        "{x=\"1\",le=\"10\"} 5\n",    "{x=\"1\",le=\"+Inf\"} 6\n",
        "h_count{x=\"1\"} 6\n"};
    struct histogram part = {0};
    struct histogram_sum sum = {0};
    struct buffer out = {0};
    (void)state;
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++)
        histogram_add(&part, durations[i]);
    histogram_collect(&sum, &part);
    assert_int_equal(histogram_count(&sum), 6);
    metrics_histogram(&out, "h", "x=\"1\"", &sum);
    buffer_add(&out, "", 1);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (!strstr(out.data, expected[i]))
            assert_string_equal(out.data, expected[i]);
    buffer_release(&out);
}

static void an_answer_counts_as_what_it_is(void **state)
{
    static const struct {
        int status;
        enum failure failure;
    } failures[] = {{400, FAILURE_OTHER},    {413, FAILURE_OTHER},    {500, FAILURE_BACKEND},
                    {503, FAILURE_REJECTED}, {504, FAILURE_REJECTED}, {501, FAILURE_BACKEND}};
    struct model_stats *stats = model_stats_new(3);
    const struct stages late = {.nanoseconds = {[STAGE_DECODE] = 5, [STAGE_QUEUE] = 7}};
    const struct stages whole = {.nanoseconds = {1, 2, 3, 4}, .batch = 2};
    (void)state;
    assert_non_null(stats);
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++)
        metrics_count_answer(&stats->loops[i % 3], &late, failures[i].status, 10);
    metrics_count_batch(&stats->loops[2], 2, 100, 103);
    metrics_count_answer(&stats->loops[2], &whole, 200, 10);
    assert_int_equal(MODEL_SUM(stats, requests), 7);
    assert_int_equal(MODEL_SUM(stats, failures[FAILURE_OTHER]), 2);
    assert_int_equal(MODEL_SUM(stats, failures[FAILURE_BACKEND]), 2);
    assert_int_equal(MODEL_SUM(stats, failures[FAILURE_REJECTED]), 2);
    assert_int_equal(MODEL_SUM(stats, failed), 60);
    assert_int_equal(MODEL_SUM(stats, durations.nanoseconds), 10);
    assert_int_equal(MODEL_SUM(stats, stages[STAGE_DECODE].nanoseconds), 31);
    assert_int_equal(MODEL_SUM(stats, stages[STAGE_QUEUE].nanoseconds), 44);
    assert_int_equal(MODEL_SUM(stats, stages[STAGE_COMPUTE].nanoseconds), 3);
    assert_int_equal(MODEL_SUM(stats, exact[1].batches), 1);
    assert_int_equal(MODEL_SUM(stats, exact[1].nanoseconds), 3);
    assert_int_equal(MODEL_SUM(stats, exact[1].decode), 1);
    assert_int_equal(MODEL_SUM(stats, exact[1].encode), 4);
    assert_int_equal(MODEL_SUM(stats, rows), 2);
    /* What nobody got to is in no histogram. */
    struct histogram_sum encode =
        model_stats_histogram(stats, offsetof(struct model_counters, stages[STAGE_ENCODE]));
    assert_int_equal(histogram_count(&encode), 1);
    model_stats_free(stats);
}

/* Batches that are larger than those counted one by one, too. */
static void batches_are_counted_by_size(void **state)
{
    static const int64_t sizes[] = {1, 2, 3, METRICS_EXACT, METRICS_EXACT + 1, 1 << 20};
    struct model_stats *stats = model_stats_new(1);
    struct stages stages = {.nanoseconds = {1, 1, 1, 1}};
    struct buffer out = {0};
    (void)state;
    assert_non_null(stats);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        metrics_count_batch(stats->loops, sizes[i], 0, 1);
        stages.batch = sizes[i];
        metrics_count_answer(stats->loops, &stages, 200, 4);
    }
    metrics_sizes(&out, "s", "", stats);
    buffer_add(&out, "", 1);
    assert_non_null(strstr(out.data, "s_bucket{le=\"1\"} 1\n"));
    assert_non_null(strstr(out.data, "s_bucket{le=\"2\"} 2\n"));
    assert_non_null(strstr(out.data, "s_bucket{le=\"4\"} 3\n"));
    assert_non_null(strstr(out.data, "s_bucket{le=\"128\"} 4\n"));
    assert_non_null(strstr(out.data, "s_bucket{le=\"256\"} 5\n"));
    assert_non_null(strstr(out.data, "s_bucket{le=\"+Inf\"} 6\n"));
    assert_non_null(strstr(out.data, "s_count 6\n"));
    buffer_release(&out);
    model_stats_free(stats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_escaped_and_never_cut_in_half),
        cmocka_unit_test(durations_fall_into_their_buckets),
        cmocka_unit_test(an_answer_counts_as_what_it_is),
        cmocka_unit_test(batches_are_counted_by_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
