/*
 * The built-in digits: hard enough that a linear model does not read them, easy enough that
 * the committed recipe does.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/kernels/kernels.h"
#include "trainer/fit.h"

/* Test accuracy of a recipe's network after its training. */
static double train(struct recipe *recipe)
{
    struct nn_error error = {0};
    struct dataset data, validation, test;
    struct fit_result result;
    double loss, accuracy = 0;
    const struct dataset_request request = {.data = recipe->data,
                                            .directory = ".",
                                            .n_inputs = recipe->n_inputs,
                                            .inputs = recipe->inputs,
                                            .target = recipe->target,
                                            .n_targets = 10};
    const struct fit_options options = {.n_threads = 2};
    struct network *network = network_new(recipe, &error);
    if (!network || dataset_load(&data, &request, DATASET_TRAIN, &error) != 0 ||
        dataset_load(&test, &request, DATASET_TEST, &error) != 0 ||
        dataset_split(&data, recipe->validation_fraction, recipe->seed, &validation, &error) !=
            0 ||
        network_fit_data(network, recipe, &data, &error) != 0)
        fail_msg("%s", error.text);
    network_initialize(network, recipe->seed);
    if (fit(network, recipe, &data, &validation, &options, &result, &error) != 0 ||
        evaluate(network, recipe, &test, 2, &loss, &accuracy, &error) != 0)
        fail_msg("%s", error.text);
    fit_result_release(&result);
    dataset_release(&data);
    dataset_release(&validation);
    dataset_release(&test);
    network_free(network);
    recipe_release(recipe);
    return accuracy;
}

static void a_linear_model_does_not_read_them(void **state)
{
    (void)state;
    struct nn_error error = {0};
    struct recipe recipe;
    if (recipe_parse(&recipe,
                     "{\"name\": \"linear\","
                     "\"data\": {\"format\": \"digits\", \"train\": 20000, \"test\": 4000, \"seed\": 1},"
                     "\"inputs\": [{\"name\": \"image\", \"shape\": [1, 28, 28]}],"
                     "\"layers\": [{\"type\": \"scale\", \"factor\": 0.00392156862745098},"
                     "{\"type\": \"flatten\"}, {\"type\": \"dense\", \"units\": 10}],"
                     "\"loss\": \"softmax_cross_entropy\","
                     "\"optimizer\": {\"type\": \"adam\", \"learning_rate\": 0.002},"
                     "\"training\": {\"epochs\": 4, \"batch_size\": 64, \"seed\": 1,"
                     "\"validation_fraction\": 0.1}}", &error) != 0)
        fail_msg("%s", error.text);
    double accuracy = train(&recipe);
    assert_true(accuracy > 0.7);        /* it did learn */
    assert_true(accuracy < 0.92);
}

static void the_committed_recipe_reads_them(void **state)
{
    (void)state;
    struct nn_error error = {0};
    struct recipe recipe;
    if (recipe_read(&recipe, "models/digits/recipe.json", &error) != 0)
        fail_msg("%s", error.text);
    assert_true(train(&recipe) > 0.975);
}

int main(void)
{
    kernels_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_linear_model_does_not_read_them),
        cmocka_unit_test(the_committed_recipe_reads_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
