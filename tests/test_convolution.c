/*
 * Convolution against its definition, in shapes large enough that products are cut into tiles,
 * and pooling where ties and words that are not numbers decide.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "tests/op_case.h"
#include "trainer/autodiff.h"

/* By the equation of ONNX, term by term in double. All are 2-D, dims in x, w and y. */
struct geometry {
    int64_t stride[2], dilation[2], pad[2], group;
};

static double definition(const struct op_run *run, const struct geometry *g, int64_t n,
                         int64_t m, int64_t oy, int64_t ox)
{
    const int64_t *xd = run->inputs[0].shape.dims, *wd = run->inputs[1].shape.dims;
    const nn_real *x = run->inputs[0].data, *w = run->inputs[1].data;
    double sum = run->n_inputs > 2 ? (double)((nn_real *)run->inputs[2].data)[m] : 0;
    for (int64_t c = 0; c < wd[1]; c++)
        for (int64_t ky = 0; ky < wd[2]; ky++)
            for (int64_t kx = 0; kx < wd[3]; kx++) {
                int64_t channel = m / (wd[0] / g->group) * wd[1] + c;
                int64_t iy = oy * g->stride[0] + ky * g->dilation[0] - g->pad[0];
                int64_t ix = ox * g->stride[1] + kx * g->dilation[1] - g->pad[1];
                if (iy >= 0 && iy < xd[2] && ix >= 0 && ix < xd[3])
                    sum += (double)x[((n * xd[1] + channel) * xd[2] + iy) * xd[3] + ix] *
                           (double)w[((m * wd[1] + c) * wd[2] + ky) * wd[3] + kx];
            }
    return sum;
}

/* The element of x [channels, height, width] under tap `row` of columns at output `at`, or NULL
 * where it lies in the padding. */
static nn_real *element_of(const struct kernel_window *w, nn_real *x, int64_t row, int64_t at)
{
    int64_t c = row / (w->kernel_h * w->kernel_w);
    int64_t iy = at / w->out_w * w->stride_h + row / w->kernel_w % w->kernel_h * w->dilation_h -
                 w->pad_top;
    int64_t ix = at % w->out_w * w->stride_w + row % w->kernel_w * w->dilation_w - w->pad_left;
    bool inside = iy >= 0 && iy < w->height && ix >= 0 && ix < w->width;
    return inside ? &x[(c * w->height + iy) * w->width + ix] : NULL;
}

static struct kernel_window random_window(uint64_t seed)
{
    int64_t d[13];
    for (int i = 0; i < 13; i++)
        d[i] = (int64_t)(kernel_random(seed, (uint64_t)i) >> 40);
    struct kernel_window w = {
        .channels = 1 + d[0] % 2, .height = 1 + d[1] % 6, .width = 1 + d[2] % 12,
        .kernel_h = 1 + d[3] % 4, .kernel_w = 1 + d[4] % 5,
        .stride_h = 1 + d[5] % 3, .stride_w = 1 + d[6] % 3,
        .dilation_h = 1 + d[7] % 3, .dilation_w = 1 + d[8] % 3,
        .pad_top = d[9] % 12 - 4, .pad_left = d[10] % 16 - 4,
        .out_h = 1 + d[11] % 6, .out_w = 1 + d[12] % 12,
    };
    if (seed % 2)
        w.out_w = w.width;
    w.column_stride = seed % 3 ? w.out_h * w.out_w + 3 : 0;
    return w;
}

/* Wherever the window stands, also wholly outside, and with more outputs than any padding
 * would give. All numbers are small integers: sums are exact. */
static void kernels_follow_the_window_anywhere(void **state)
{
    (void)state;
    enum { X = 2 * 6 * 12, ROWS = 2 * 4 * 5, POSITIONS = 6 * 12 + 3 };
    static nn_real x[X], dx[X], dx_expected[X], columns[ROWS * POSITIONS];
    for (uint64_t seed = 0; seed < 3000; seed++) {
        struct kernel_window w = random_window(seed);
        int64_t rows = w.channels * w.kernel_h * w.kernel_w, positions = w.out_h * w.out_w;
        int64_t stride = w.column_stride ? w.column_stride : positions;
        for (int i = 0; i < X; i++) {
            x[i] = (nn_real)(i % 17 + 1);
            dx[i] = dx_expected[i] = 5;
        }
        for (int i = 0; i < ROWS * POSITIONS; i++)
            columns[i] = -1;
        kernel_im2col(&w, x, columns);
        for (int64_t row = 0; row < rows; row++) {
            for (int64_t at = 0; at < positions; at++) {
                const nn_real *from = element_of(&w, x, row, at);
                nn_real *got = &columns[row * stride + at];
                assert_true(*got == (from ? *from : 0));
                *got = (nn_real)((row * 7 + at) % 13);
                if (from)
                    dx_expected[from - x] += *got;
            }
            for (int64_t at = positions; at < stride; at++)
                assert_true(columns[row * stride + at] == -1);
        }
        kernel_col2im(&w, columns, dx);
        assert_memory_equal(dx, dx_expected, sizeof dx);
    }
}

/* What one filter gives at output `at`. */
static nn_real window_sum(const struct kernel_window *w, nn_real *x, const nn_real *filter,
                          int64_t at)
{
    nn_real sum = 0;
    for (int64_t k = 0; k < w->channels * w->kernel_h * w->kernel_w; k++) {
        const nn_real *from = element_of(w, x, k, at);
        sum += from ? filter[k] * *from : 0;
    }
    return sum;
}

/* All numbers are small integers again. */
static void packed_filters_follow_the_window_anywhere(void **state)
{
    (void)state;
    enum { X = 2 * 6 * 12, TAPS = 2 * 4 * 5, FILTERS = 37, POSITIONS = 6 * 12 };
    static nn_real x[X], filters[FILTERS * TAPS], y[FILTERS * POSITIONS];
    for (int i = 0; i < X; i++)
        x[i] = (nn_real)(i % 17 - 8);
    for (int i = 0; i < FILTERS * TAPS; i++)
        filters[i] = (nn_real)(i % 11 - 5);
    for (int set = 0; set < KERNEL_SETS; set++)
        for (uint64_t seed = 0; seed < 500 && kernels_use((enum kernel_set)set); seed++) {
            struct kernel_window w = random_window(seed);
            int64_t m = 1 + (int64_t)(seed * 7 % FILTERS), positions = w.out_h * w.out_w;
            int64_t taps = w.channels * w.kernel_h * w.kernel_w;
            size_t size = (size_t)kernel_packed_size(m, taps) * sizeof(nn_real);
            nn_real *packed = malloc(size);
            void *scratch = malloc((size_t)kernel_convolve_scratch(&w, m));
            assert_true(packed && scratch);
            assert_true(kernel_convolve_scratch(&w, m) <= kernel_convolve_most_scratch(&w, m));
            kernel_pack(true, m, taps, filters, taps, packed);
            kernel_convolve_packed(&w, m, x, packed, y, scratch);
            for (int64_t i = 0; i < m * positions; i++) {
                nn_real sum = window_sum(&w, x, filters + i / positions * taps, i % positions);
                if (!(y[i] == sum))
                    fail_msg("set %d, window %d, element %d: %g, by definition %g", set,
                             (int)seed, (int)i, (double)y[i], (double)sum);
            }
            free(packed);
            free(scratch);
        }
    kernels_start();
}

/* All numbers are small integers again. Memory has no more than it must have. */
static void planes_follow_the_window_anywhere(void **state)
{
    (void)state;
    enum { PLANES = 3, FILTERS = 2, X = 6 * 12, TAPS = 4 * 5 };
    static nn_real filters[PLANES * FILTERS * TAPS];
    for (int i = 0; i < PLANES * FILTERS * TAPS; i++)
        filters[i] = (nn_real)(i % 11 - 5);
    for (int set = 0; set < KERNEL_SETS; set++)
        for (uint64_t seed = 0; seed < 1000 && kernels_use((enum kernel_set)set); seed++) {
            struct kernel_window w = random_window(seed);
            w.channels = 1;
            int64_t size = w.height * w.width, positions = w.out_h * w.out_w;
            int64_t n_filters = 1 + (int64_t)(seed % FILTERS), taps = w.kernel_h * w.kernel_w;
            nn_real *x = malloc((size_t)(PLANES * size) * sizeof *x);
            nn_real *y = malloc((size_t)(PLANES * n_filters * positions) * sizeof *y);
            void *scratch = malloc((size_t)kernel_convolve_planes_scratch(&w));
            assert_true(x && y && scratch);
            assert_true(kernel_convolve_planes_scratch(&w) <=
                        kernel_convolve_planes_most_scratch(&w));
            for (int64_t i = 0; i < PLANES * size; i++)
                x[i] = (nn_real)(i % 17 - 8);
            kernel_convolve_planes(&w, PLANES, n_filters, x, filters, y, scratch);
            for (int64_t i = 0; i < PLANES * n_filters * positions; i++) {
                int64_t filter = i / positions, plane = filter / n_filters;
                nn_real sum =
                    window_sum(&w, x + plane * size, filters + filter * taps, i % positions);
                if (!(y[i] == sum))
                    fail_msg("set %d, window %d, element %d: %g, by definition %g", set,
                             (int)seed, (int)i, (double)y[i], (double)sum);
            }
            free(x);
            free(y);
            free(scratch);
        }
    kernels_start();
}

static const struct {
    struct geometry geometry;
    const char *inputs[CASE_INPUTS], *attributes;
} convolutions[] = {
    /* all columns of an image do not fit into a tile */
    {{{1, 1}, {1, 1}, {1, 1}, 1},
     {"[-1, 64, 28, 28]", "[12, 64, 3, 3]", "[12]"},
     "pads 1 1 1 1"},
    {{{1, 1}, {1, 1}, {0, 0}, 1}, {"[-1, 40, 27, 29]", "[5, 40, 5, 5]"}, NULL},
    {{{2, 3}, {2, 1}, {3, 1}, 2},
     {"[-1, 128, 41, 43]", "[6, 64, 3, 4]", "[6]"},
     "strides 2 3; dilations 2 1; pads 3 1 2 0; group 2"},
    /* images side by side, the last product with fewer of them */
    {{{1, 1}, {1, 1}, {1, 1}, 1}, {"[-1, 16, 7, 7]", "[12, 16, 3, 3]", "[12]"}, "pads 1 1 1 1"},
    {{{2, 2}, {1, 1}, {1, 1}, 4},
     {"[-1, 8, 9, 9]", "[8, 2, 3, 3]"},
     "pads 1 1 1 1; strides 2 2; group 4"},
    /* no columns at all */
    {{{1, 1}, {1, 1}, {0, 0}, 2}, {"[-1, 8, 14, 14]", "[6, 4, 1, 1]", "[6]"}, "group 2"},
    {{{1, 1}, {1, 1}, {2, 2}, 6},
     {"[-1, 6, 13, 11]", "[12, 1, 5, 5]", "[12]"},
     "group 6; pads 2 2 2 2"},
    {{{1, 1}, {1, 1}, {0, 0}, 1}, {"[-1, 24, 3, 3]", "[20, 24, 1, 1]"}, NULL},
    /* the window is the image */
    {{{1, 1}, {1, 1}, {0, 0}, 1}, {"[-1, 100, 1, 1]", "[10, 100, 1, 1]", "[10]"}, NULL},
    {{{1, 1}, {1, 1}, {0, 0}, 1}, {"[-1, 16, 5, 5]", "[120, 16, 5, 5]", "[120]"}, NULL},
    {{{1, 1}, {1, 1}, {0, 0}, 2}, {"[-1, 12, 5, 4]", "[82, 6, 5, 4]", "[82]"}, "group 2"},
    {{{3, 2}, {1, 1}, {0, 0}, 1},
     {"[-1, 7, 4, 3]", "[40, 7, 4, 3]"},
     "strides 3 2; pads 0 0 1 1"},
    /* planes by themselves, cut into rows and not, down by more than a row */
    {{{1, 1}, {1, 1}, {1, 1}, 5},
     {"[-1, 5, 230, 240]", "[5, 1, 3, 3]", "[5]"},
     "group 5; pads 1 1 1 1"},
    {{{2, 2}, {1, 1}, {1, 1}, 9},
     {"[-1, 9, 15, 14]", "[18, 1, 3, 3]"},
     "group 9; pads 1 1 1 1; strides 2 2"},
    {{{1, 1}, {2, 2}, {4, 4}, 8},
     {"[-1, 8, 7, 7]", "[8, 1, 5, 5]"},
     "group 8; pads 4 4 4 4; dilations 2 2"},
    /* several panels of filters, also the last one not full */
    {{{2, 2}, {1, 1}, {3, 3}, 1},
     {"[-1, 3, 40, 37]", "[28, 3, 7, 7]", "[28]"},
     "pads 3 3 3 3; strides 2 2"},
    {{{1, 1}, {1, 1}, {0, 0}, 1}, {"[-1, 24, 10, 9]", "[70, 24, 1, 1]", "[70]"}, NULL},
    {{{2, 2}, {1, 1}, {0, 0}, 1}, {"[-1, 24, 9, 10]", "[33, 24, 1, 1]"}, "strides 2 2"},
    {{{1, 2}, {1, 3}, {1, 2}, 2},
     {"[-1, 6, 12, 17]", "[82, 3, 3, 3]", "[82]"},
     "strides 1 2; dilations 1 3; pads 1 2 0 1; group 2"},
};

enum { N_CONVOLUTIONS = sizeof convolutions / sizeof convolutions[0], IMAGES = 7 };

static void open_convolution(struct op_run *run, struct op_case *row, int i)
{
    struct nn_error error = {0};
    *row = (struct op_case){.op = "Conv", .attributes = convolutions[i].attributes};
    memcpy(row->inputs, convolutions[i].inputs, sizeof row->inputs);
    if (op_run_open(run, row, IMAGES, &error) != 0)
        fail_msg("%s", error.text);
}

static void compare_with_definition(const struct op_run *run, int i)
{
    const nn_real *y = run->outputs[0].data;
    const int64_t *d = run->outputs[0].shape.dims;
    for (int64_t at = 0; at < tensor_length(&run->outputs[0]); at++) {
        double expected = definition(run, &convolutions[i].geometry, at / (d[1] * d[2] * d[3]),
                                     at / (d[2] * d[3]) % d[1], at / d[3] % d[2], at % d[3]);
        if (!(fabs((double)y[at] - expected) <= 1e-4))
            fail_msg("convolution %d, element %d: %g, by definition %g", i, (int)at,
                     (double)y[at], expected);
    }
}

static void convolution_is_that_of_its_definition(void **state)
{
    (void)state;
    for (int i = 0; i < N_CONVOLUTIONS; i++) {
        struct op_run run;
        struct op_case row;
        open_convolution(&run, &row, i);
        op_run_forward(&run);
        compare_with_definition(&run, i);
        op_run_close(&run);
    }
}

/* The filters' packed form, which the run uses from now on; NULL: they stay as they are. */
static void *pack_filters(struct op_run *run)
{
    struct nn_error error = {0};
    const struct op *op = run->node->op;
    const struct op_value filters = {
        .datatype = NN_FP32, .shape = run->inputs[1].shape, .constant = run->inputs[1].data};
    size_t size = op->pack(run->node->attributes, &filters, NULL);
    void *packed = size ? malloc(size) : NULL;
    if (!packed)
        return NULL;
    assert_int_equal(op->pack(run->node->attributes, &filters, packed), size);
    run->g->nodes[0].packed = packed;
    assert_int_equal(graph_infer(run->g, IMAGES, &error), 0);
    free(run->scratch);
    run->scratch = malloc(run->node->scratch);
    assert_non_null(run->scratch);
    return packed;
}

static void packed_convolution_is_that_of_its_definition(void **state)
{
    (void)state;
    static nn_real zeros[120 * 16 * 5 * 5];
    for (int set = 0; set < KERNEL_SETS; set++) {
        int n_packed = 0;
        for (int i = 0; i < N_CONVOLUTIONS && kernels_use((enum kernel_set)set); i++) {
            struct op_run run;
            struct op_case row;
            open_convolution(&run, &row, i);
            void *packed = pack_filters(&run), *filters = run.inputs[1].data;
            if (packed) {
                n_packed++;
                run.inputs[1].data = zeros; /* nobody reads the filters any more */
                op_run_forward(&run);
                run.inputs[1].data = filters;
                compare_with_definition(&run, i);
            }
            op_run_close(&run);
            free(packed);
        }
        assert_true(n_packed >= 3 || !kernels_use((enum kernel_set)set));
    }
    kernels_start();
}

/* A packed product leaves out what a 0 is multiplied with, and 0 times infinity is no number.
 */
static void filters_that_are_not_finite_are_not_packed(void **state)
{
    (void)state;
    const struct nn_shape shape = {4, {64, 4, 3, 3}};
    static nn_real filters[64 * 4 * 3 * 3];
    const struct op_value w = {.datatype = NN_FP32, .shape = shape, .constant = filters};
    struct op_run run;
    struct op_case row;
    open_convolution(&run, &row, 0);
    assert_true(run.node->op->pack(run.node->attributes, &w, NULL) > 0);
    filters[1000] = (nn_real)INFINITY;
    assert_int_equal(run.node->op->pack(run.node->attributes, &w, NULL), 0);
    filters[1000] = (nn_real)NAN;
    assert_int_equal(run.node->op->pack(run.node->attributes, &w, NULL), 0);
    op_run_close(&run);
}

static double dot(const struct nn_tensor *a, const struct nn_tensor *b)
{
    double sum = 0;
    for (int64_t i = 0; i < tensor_length(a); i++)
        sum += (double)((nn_real *)a->data)[i] * (double)((nn_real *)b->data)[i];
    return sum;
}

/* Convolution is linear in X, in W and in B; so <dY, Y> is <dX, X> + <dB, B>, and
 * <dW, W> + <dB, B>, whatever dY is. */
static void gradients_of_large_convolutions_are_adjoint(void **state)
{
    (void)state;
    for (int i = 0; i < N_CONVOLUTIONS; i++) {
        struct op_run run;
        struct op_case row;
        open_convolution(&run, &row, i);
        op_run_forward(&run);
        nn_real *dy = run.d_output.data;
        for (int64_t at = 0; at < tensor_length(&run.d_output); at++)
            dy[at] = (nn_real)kernel_random_normal(3, (uint64_t)at);
        op_run_gradient(&run, autodiff_find(op_find("Conv")), 7);
        double y = dot(&run.d_output, &run.outputs[0]);
        double b = run.n_inputs > 2 ? dot(&run.d_inputs[2], &run.inputs[2]) : 0;
        double scale = sqrt(dot(&run.outputs[0], &run.outputs[0]));
        assert_true(fabs(dot(&run.d_inputs[0], &run.inputs[0]) + b - y) <= 1e-5 * scale);
        assert_true(fabs(dot(&run.d_inputs[1], &run.inputs[1]) + b - y) <= 1e-5 * scale);
        op_run_close(&run);
    }
}

static void an_epilogue_is_the_activation_after_the_bias(void **state)
{
    (void)state;
    for (int i = 0; i < N_CONVOLUTIONS; i++) {
        struct op_run run;
        struct op_case row;
        open_convolution(&run, &row, i);
        op_run_forward(&run);
        int64_t n = tensor_length(&run.outputs[0]);
        nn_real *y = run.outputs[0].data;
        memcpy(run.d_output.data, y, (size_t)n * sizeof *y);
        run.g->nodes[0].epilogue = (struct op_epilogue){.activation = ACTIVATION_RELU};
        op_run_forward(&run);
        for (int64_t at = 0; at < n; at++) {
            nn_real before = ((nn_real *)run.d_output.data)[at];
            assert_true(y[at] == (before > 0 ? before : 0));
        }
        op_run_close(&run);
    }
}

/* pooling */

static void run_pool(struct op_run *run, const struct op_case *row)
{
    struct nn_error error = {0};
    if (op_run_open(run, row, 1, &error) != 0)
        fail_msg("%s", error.text);
    op_run_forward(run);
}

static void the_first_of_equal_elements_gets_the_gradient(void **state)
{
    (void)state;
    static const char *const windows[] = {"kernel_shape 2 2; strides 2 2",
                                          "kernel_shape 2 2; strides 2 2; dilations 1 2"};
    static const nn_real expected[2][12] = {{1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
                                            {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}};
    for (int i = 0; i < 2; i++) {
        const struct op_case row = {"MaxPool", {"[1, 1, 3, 4] = 1 1 1 1 1 1 1 1 1 1 1 1"},
                                    .attributes = windows[i]};
        struct op_run run;
        run_pool(&run, &row);
        for (int64_t j = 0; j < tensor_length(&run.d_output); j++)
            ((nn_real *)run.d_output.data)[j] = 1;
        op_run_gradient(&run, autodiff_find(op_find("MaxPool")), 1);
        assert_memory_equal(run.d_inputs[0].data, expected[i], sizeof expected[i]);
        op_run_close(&run);
    }
}

static void what_is_not_a_number_is_the_largest(void **state)
{
    (void)state;
    static const char *const windows[] = {"kernel_shape 2 2; strides 2 2", "kernel_shape 2 2"};
    static const char *const images[] = {"[1, 1, 2, 2] = nan 1 2 3", "[1, 1, 2, 2] = 1 nan 2 3",
                                         "[1, 1, 2, 2] = 1 2 nan 3", "[1, 1, 2, 2] = 1 2 3 nan"};
    for (int i = 0; i < 8; i++) {
        const struct op_case row = {"MaxPool", {images[i / 2]}, .attributes = windows[i % 2]};
        struct op_run run;
        run_pool(&run, &row);
        assert_true(isnan(*(nn_real *)run.outputs[0].data));
        op_run_close(&run);
    }
}

static void bytes_are_pooled_and_indices_count_the_whole_input(void **state)
{
    (void)state;
    const struct op_case row = {"MaxPool",
                                {"UINT8 [2, 1, 2, 3] = 1 255 3 4 5 6  7 8 9 10 128 12"},
                                .attributes = "kernel_shape 2 2; storage_order 1",
                                .n_outputs = 2};
    struct op_run run;
    run_pool(&run, &row);
    assert_memory_equal(run.outputs[0].data, ((uint8_t[]){255, 255, 128, 128}), 4);
    /* down the columns of [2, 3]: (0, 1) is 2, (1, 1) is 3; the second image begins at 6 */
    assert_memory_equal(run.outputs[1].data, ((int64_t[]){2, 2, 9, 9}), 32);
    op_run_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_follow_the_window_anywhere),
        cmocka_unit_test(packed_filters_follow_the_window_anywhere),
        cmocka_unit_test(planes_follow_the_window_anywhere),
        cmocka_unit_test(convolution_is_that_of_its_definition),
        cmocka_unit_test(packed_convolution_is_that_of_its_definition),
        cmocka_unit_test(filters_that_are_not_finite_are_not_packed),
        cmocka_unit_test(gradients_of_large_convolutions_are_adjoint),
        cmocka_unit_test(an_epilogue_is_the_activation_after_the_bias),
        cmocka_unit_test(the_first_of_equal_elements_gets_the_gradient),
        cmocka_unit_test(what_is_not_a_number_is_the_largest),
        cmocka_unit_test(bytes_are_pooled_and_indices_count_the_whole_input),
    };
    kernels_start();
    return cmocka_run_group_tests_name("convolution", tests, NULL, NULL);
}
