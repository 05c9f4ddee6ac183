/*
 * Digits, drawn: data that needs no download, for the first model that anybody trains.
 *
 * Strokes of 0 to 9 with shaken control points, under a random affine map, drawn with a pen of
 * random width, partly erased, and noisy. The spread is chosen so that a linear model fails on
 * one image in seven or so, and that a small network has something to learn.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/kernels/kernels.h"
#include "trainer/datasets/format.h"

enum { SIDE = 28, PIXELS = SIDE * SIDE, N_DIGITS = 10 };
enum { MAX_POINTS = 12, MAX_STROKES = 3, MAX_WAYS = 3, CURVE_STEPS = 5 };

/* glyphs, in a box from (0, 0) at the top left to (1, 1) */

struct stroke {
    int n;
    bool curved;                /* a spline through the points, otherwise a polygon */
    float points[MAX_POINTS][2];
};

struct glyph {
    int n;
    struct stroke strokes[MAX_STROKES];
};

static const struct {
    int n;
    struct glyph ways[MAX_WAYS];        /* people write it in one of these */
} glyphs[N_DIGITS] = {
    [0] = {2, {
        {1, {{9, true, {{.5f, 0}, {.2f, .14f}, {.1f, .5f}, {.2f, .86f}, {.5f, 1}, {.8f, .86f},
                        {.9f, .5f}, {.8f, .14f}, {.5f, 0}}}}},
        {1, {{8, true, {{.62f, .02f}, {.28f, .2f}, {.2f, .62f}, {.42f, .98f}, {.74f, .82f},
                        {.82f, .4f}, {.68f, .06f}, {.5f, .04f}}}}},
    }},
    [1] = {3, {
        {1, {{2, false, {{.5f, 0}, {.5f, 1}}}}},
        {1, {{3, false, {{.25f, .25f}, {.55f, 0}, {.55f, 1}}}}},
        {2, {{3, false, {{.28f, .22f}, {.52f, 0}, {.52f, 1}}},
             {2, false, {{.25f, 1}, {.8f, 1}}}}},
    }},
    [2] = {2, {
        {2, {{7, true, {{.14f, .26f}, {.3f, .05f}, {.6f, .02f}, {.8f, .22f}, {.7f, .48f},
                        {.4f, .74f}, {.12f, .98f}}},
             {2, false, {{.12f, .98f}, {.9f, .98f}}}}},
        {1, {{10, true, {{.18f, .18f}, {.45f, .02f}, {.74f, .16f}, {.7f, .46f}, {.42f, .78f},
                         {.2f, .96f}, {.16f, .84f}, {.34f, .82f}, {.6f, .96f}, {.9f, .92f}}}}},
    }},
    [3] = {2, {
        {2, {{5, true, {{.14f, .14f}, {.45f, 0}, {.76f, .17f}, {.7f, .38f}, {.4f, .47f}}},
             {5, true, {{.4f, .47f}, {.76f, .57f}, {.82f, .8f}, {.5f, 1}, {.1f, .88f}}}}},
        {2, {{3, false, {{.15f, .02f}, {.8f, .02f}, {.45f, .4f}}},
             {5, true, {{.45f, .4f}, {.8f, .52f}, {.82f, .82f}, {.5f, 1}, {.1f, .9f}}}}},
    }},
    [4] = {2, {
        {2, {{3, false, {{.28f, 0}, {.12f, .6f}, {.92f, .6f}}},
             {2, false, {{.7f, .2f}, {.66f, 1}}}}},
        {1, {{4, false, {{.7f, 1}, {.7f, 0}, {.06f, .68f}, {.95f, .68f}}}}},
    }},
    [5] = {2, {
        {2, {{3, false, {{.82f, .02f}, {.25f, .02f}, {.2f, .44f}}},
             {6, true, {{.2f, .44f}, {.5f, .35f}, {.82f, .52f}, {.8f, .82f}, {.5f, 1},
                        {.1f, .9f}}}}},
        {2, {{7, true, {{.3f, .02f}, {.24f, .4f}, {.52f, .38f}, {.8f, .56f}, {.76f, .86f},
                        {.45f, 1}, {.12f, .9f}}},
             {2, false, {{.3f, .02f}, {.84f, 0}}}}},
    }},
    [6] = {2, {
        {1, {{9, true, {{.72f, .02f}, {.36f, .24f}, {.14f, .64f}, {.3f, .95f}, {.62f, .98f},
                        {.82f, .76f}, {.62f, .52f}, {.32f, .57f}, {.17f, .74f}}}}},
        {1, {{9, true, {{.4f, 0}, {.2f, .36f}, {.16f, .76f}, {.4f, 1}, {.74f, .92f},
                        {.8f, .66f}, {.54f, .52f}, {.26f, .64f}, {.18f, .8f}}}}},
    }},
    [7] = {3, {
        {1, {{3, false, {{.1f, .03f}, {.88f, .03f}, {.4f, 1}}}}},
        {2, {{3, false, {{.1f, .03f}, {.88f, .03f}, {.42f, 1}}},
             {2, false, {{.3f, .5f}, {.85f, .5f}}}}},
        {1, {{6, true, {{.1f, .14f}, {.3f, .02f}, {.86f, .04f}, {.66f, .4f}, {.46f, .7f},
                        {.4f, 1}}}}},
    }},
    [8] = {2, {
        {1, {{9, true, {{.5f, .48f}, {.2f, .24f}, {.5f, 0}, {.8f, .24f}, {.5f, .48f},
                        {.15f, .76f}, {.5f, 1}, {.85f, .76f}, {.5f, .48f}}}}},
        {2, {{7, true, {{.5f, 0}, {.24f, .1f}, {.26f, .38f}, {.5f, .46f}, {.74f, .36f},
                        {.74f, .1f}, {.5f, 0}}},
             {7, true, {{.5f, .46f}, {.16f, .6f}, {.2f, .9f}, {.5f, 1}, {.8f, .9f},
                        {.84f, .6f}, {.5f, .46f}}}}},
    }},
    [9] = {2, {
        {2, {{7, true, {{.8f, .27f}, {.55f, .02f}, {.22f, .14f}, {.18f, .4f}, {.46f, .54f},
                        {.74f, .4f}, {.8f, .27f}}},
             {3, true, {{.82f, .22f}, {.78f, .62f}, {.58f, 1}}}}},
        {2, {{7, true, {{.74f, .24f}, {.5f, .02f}, {.24f, .14f}, {.2f, .38f}, {.44f, .5f},
                        {.68f, .4f}, {.74f, .24f}}},
             {2, false, {{.76f, .06f}, {.76f, 1}}}}},
    }},
};

/* drawing */

struct dice {                   /* the random numbers of one image */
    uint64_t key, i;
};

static float uniform(struct dice *dice, float low, float high)
{
    return low + (high - low) * (float)kernel_random_uniform(dice->key, dice->i++);
}

static float normal(struct dice *dice, float deviation)
{
    return deviation * (float)kernel_random_normal(dice->key, dice->i++);
}

/* (x, y) = a (u - 1/2, v - 1/2) + (dx, dy): from the glyph's box to pixels. */
struct affine {
    float a[2][2], dx, dy;
};

static struct affine roll_affine(struct dice *dice)
{
    float angle = uniform(dice, -.33f, .33f), shear = uniform(dice, -.3f, .3f);
    float height = uniform(dice, 13, 21), width = height * uniform(dice, .55f, .95f);
    float c = cosf(angle), s = sinf(angle);
    return (struct affine){
        .a = {{c * width, (c * shear - s) * height}, {s * width, (s * shear + c) * height}},
        .dx = SIDE / 2.f + uniform(dice, -2.2f, 2.2f),
        .dy = SIDE / 2.f + uniform(dice, -2.2f, 2.2f),
    };
}

/* Lowers the squared distances of pixel centres to the line from a to b, where they are within
 * `reach` of it. */
static void draw_line(float *distances, const float *a, const float *b, float reach)
{
    float dx = b[0] - a[0], dy = b[1] - a[1];
    float square = dx * dx + dy * dy, scale = square > 0 ? 1 / square : 0;
    int left = (int)fmaxf(0, floorf(fminf(a[0], b[0]) - reach));
    int right = (int)fminf(SIDE - 1, floorf(fmaxf(a[0], b[0]) + reach));
    int top = (int)fmaxf(0, floorf(fminf(a[1], b[1]) - reach));
    int bottom = (int)fminf(SIDE - 1, floorf(fmaxf(a[1], b[1]) + reach));
    for (int y = top; y <= bottom; y++)
        for (int x = left; x <= right; x++) {
            float px = (float)x + .5f - a[0], py = (float)y + .5f - a[1];
            float t = (px * dx + py * dy) * scale;
            t = t < 0 ? 0 : t > 1 ? 1 : t;
            float ex = px - t * dx, ey = py - t * dy, d = ex * ex + ey * ey;
            float *at = &distances[y * SIDE + x];
            *at = d < *at ? d : *at;
        }
}

/* Catmull and Rom 1974: the cubic from p[1] to p[2] whose slopes are those of the chords. */
static float spline(float p0, float p1, float p2, float p3, float t)
{
    return p1 + .5f * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3
                                          + t * (3 * (p1 - p2) + p3 - p0)));
}

static void draw_stroke(float *distances, const struct stroke *stroke, struct dice *dice,
                        const struct affine *affine, float reach)
{
    float points[MAX_POINTS][2];
    for (int i = 0; i < stroke->n; i++) {
        float u = stroke->points[i][0] - .5f + normal(dice, .035f);
        float v = stroke->points[i][1] - .5f + normal(dice, .03f);
        points[i][0] = affine->a[0][0] * u + affine->a[0][1] * v + affine->dx;
        points[i][1] = affine->a[1][0] * u + affine->a[1][1] * v + affine->dy;
    }
    int steps = stroke->curved ? CURVE_STEPS : 1;
    for (int i = 0; i + 1 < stroke->n; i++) {
        const float *p0 = points[i > 0 ? i - 1 : 0], *p1 = points[i], *p2 = points[i + 1];
        const float *p3 = points[i + 2 < stroke->n ? i + 2 : i + 1];
        float from[2] = {p1[0], p1[1]};
        for (int s = 1; s <= steps; s++) {
            float t = (float)s / (float)steps, to[2] = {p2[0], p2[1]};
            if (stroke->curved && s < steps)
                for (int c = 0; c < 2; c++)
                    to[c] = spline(p0[c], p1[c], p2[c], p3[c], t);
            draw_line(distances, from, to, reach);
            memcpy(from, to, sizeof from);
        }
    }
}

/* Rubs out a small square. */
static void erase(float *ink, struct dice *dice)
{
    int size = (int)uniform(dice, 2, 5);
    int left = (int)uniform(dice, 4, (float)(SIDE - 4 - size));
    int top = (int)uniform(dice, 4, (float)(SIDE - 4 - size));
    for (int y = top; y < top + size; y++)
        for (int x = left; x < left + size; x++)
            ink[y * SIDE + x] = 0;
}

static void draw_digit(uint8_t *image, int digit, uint64_t key)
{
    struct dice dice = {.key = key};
    const struct glyph *glyph =
        &glyphs[digit].ways[(int)uniform(&dice, 0, (float)glyphs[digit].n)];
    struct affine affine = roll_affine(&dice);
    float radius = uniform(&dice, .6f, 1.7f), blur = uniform(&dice, .7f, 1.6f);
    float ink[PIXELS];

    for (int i = 0; i < PIXELS; i++)
        ink[i] = SIDE * SIDE;
    for (int i = 0; i < glyph->n; i++)
        draw_stroke(ink, &glyph->strokes[i], &dice, &affine, radius + blur);

    for (int i = 0; i < PIXELS; i++) {
        float edge = (radius - sqrtf(ink[i])) / blur + .5f;
        ink[i] = edge < 0 ? 0 : edge > 1 ? 1 : edge;
    }
    if (uniform(&dice, 0, 1) < .4f)
        erase(ink, &dice);

    float white = uniform(&dice, 140, 255), noise = uniform(&dice, 0, 90) / 256;
    uint64_t noise_key = kernel_random_key(key, 1), bits = 0;
    for (int i = 0; i < PIXELS; i++, bits >>= 8) {
        if (i % 8 == 0)
            bits = kernel_random(noise_key, (uint64_t)i / 8);
        float value = white * ink[i] + noise * ((float)(bits & 255) - 128);
        image[i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }
}

/* the recipe */

struct digits_settings {
    struct format_common common;
    int64_t train, test, seed;
};

static const struct field digits_fields[] = {
    FORMAT_COMMON_FIELDS,
    {"train", FIELD_INT, offsetof(struct digits_settings, train), .initial = 20000, .min = 1,
     .max = 10000000},
    {"test", FIELD_INT, offsetof(struct digits_settings, test), .initial = 4000, .min = 1,
     .max = 10000000},
    {"seed", FIELD_INT, offsetof(struct digits_settings, seed), .initial = 1, .min = 0,
     .max = 0x1p53},
    {0},
};

static int check_digits(const json_t *data, struct nn_error *error)
{
    struct digits_settings settings;
    if (fields_read(data, "data", digits_fields, &settings, error) != 0 ||
        format_check_labels(&settings.common, error) != 0)
        return -1;
    if (settings.common.labels && json_array_size(settings.common.labels) != N_DIGITS)
        return fields_fail(error, "data.labels", "ten names", settings.common.labels);
    return 0;
}

static int check_digits_request(const struct dataset_request *request, struct nn_error *error)
{
    struct shape_text text;
    if (request->n_inputs != 1 || format_row_elements(request, 0) != PIXELS)
        return nn_fail(error,
                       "data.format: digits are images of 28x28: they do not fit "
                       "input \"%s\" %s%s",
                       request->inputs[0].name, shape_print(&request->inputs[0].shape, &text),
                       request->n_inputs > 1 ? " and more inputs" : "");
    if (request->target == TARGET_VALUES)
        return nn_fail(error, "data.format: digits have classes, no values to predict");
    int wanted = format_n_classes(request);
    if (request->target == TARGET_CLASSES && wanted > 0 && wanted != N_DIGITS)
        return nn_fail(error, "data.format: digits are of ten classes, the network tells %d "
                              "apart", wanted);
    return 0;
}

static int load_digits(struct dataset *set, const struct dataset_request *request,
                       enum dataset_part part, struct nn_error *error)
{
    struct digits_settings settings;
    if (fields_read(request->data, "data", digits_fields, &settings, error) != 0 ||
        check_digits_request(request, error) != 0)
        return -1;

    int64_t n = part == DATASET_TRAIN ? settings.train : settings.test;
    if (format_reserve(set, request, NN_UINT8, n, error) != 0)
        return -1;
    set->n = n;
    if (request->target == TARGET_CLASSES) {
        if (!(set->classes = malloc((size_t)n * sizeof *set->classes)))
            return nn_fail(error, "no memory for %lld classes", (long long)n);
        if (format_name_classes(set, request, settings.common.labels, error) != 0 ||
            (set->n_labels == 0 && format_number_classes(set, N_DIGITS, error) != 0))
            return -1;
        if (set->n_labels != N_DIGITS)
            return nn_fail(error, "digits are of ten classes, %d are named", set->n_labels);
    }

    uint64_t key = kernel_random_key((uint64_t)settings.seed, (uint64_t)part);
    for (int64_t i = 0; i < n; i++) {
        int digit = (int)(i % N_DIGITS);
        if (set->classes)
            set->classes[i] = digit;
        draw_digit((uint8_t *)set->features[0].data + i * PIXELS, digit,
                   kernel_random_key(key, (uint64_t)i));
    }
    return 0;
}

const struct dataset_format digits_format = {
    .name = "digits",
    .check = check_digits,
    .load = load_digits,
};
