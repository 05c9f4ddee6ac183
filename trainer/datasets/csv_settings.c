/*
 * What a recipe says of its CSV files, and whether that is enough for the request.
 */
#include "trainer/datasets/csv_settings.h"

#include <string.h>

static const struct field csv_fields[] = {
    FORMAT_COMMON_FIELDS,
    {"train", FIELD_STRING, offsetof(struct csv_settings, train), .required = true},
    {"test", FIELD_JSON, offsetof(struct csv_settings, test), .required = false},
    {"header", FIELD_BOOL, offsetof(struct csv_settings, header), .initial = false},
    {"delimiter", FIELD_STRING, offsetof(struct csv_settings, delimiter), .required = false},
    {"label", FIELD_JSON, offsetof(struct csv_settings, label), .required = false},
    {"seed", FIELD_INT, offsetof(struct csv_settings, seed), .min = 0, .max = 0x1p53},
    {0},
};

static const struct field test_fields[] = {
    {"fraction", FIELD_REAL, offsetof(struct csv_settings, fraction), .min = 0, .max = 1,
     .min_open = true, .max_open = true, .required = true},
    {0},
};

static int check_column(const json_t *column, const char *path, bool header,
                        struct nn_error *error)
{
    if (!json_is_string(column) && !json_is_integer(column))
        return fields_fail(error, path, "a column's name or number", column);
    if (json_is_string(column) && !header)
        return nn_fail(error, "%s: a column has a name only with \"header\": true", path);
    return 0;
}

int csv_read_settings(const json_t *data, struct csv_settings *settings, struct nn_error *error)
{
    if (fields_read(data, "data", csv_fields, settings, error) != 0 ||
        format_check_labels(&settings->common, error) != 0)
        return -1;

    if (!settings->delimiter)
        settings->delimiter = ",";
    if (strlen(settings->delimiter) != 1 || strchr("\"\r\n", *settings->delimiter))
        return nn_fail(error, "data.delimiter: expected one character that is no quote and no "
                              "line end, got \"%.20s\"", settings->delimiter);

    settings->fraction = 0;
    if (json_is_object(settings->test)) {
        if (fields_read(settings->test, "data.test", test_fields, settings, error) != 0)
            return -1;
    } else if (settings->test && !json_is_string(settings->test)) {
        return fields_fail(error, "data.test", "a file or {\"fraction\": ...}", settings->test);
    }

    const json_t *label = settings->label;
    if (!json_is_array(label))
        return label ? check_column(label, "data.label", settings->header, error) : 0;
    for (size_t i = 0; i < json_array_size(label); i++) {
        struct field_path path;
        field_path_index(&path, "data.label", i);
        if (check_column(json_array_get(label, i), path.text, settings->header, error) != 0)
            return -1;
    }
    return 0;
}

int csv_check_inputs(const struct csv_settings *settings,
                     const struct dataset_request *request, struct nn_error *error)
{
    for (int i = 0; i < request->n_inputs; i++) {
        struct field_path path, at;
        field_path_key(&path, field_path_index(&at, "inputs", (size_t)i), "columns");
        const json_t *columns = request->inputs[i].columns;
        if (!columns && request->n_inputs > 1)
            return nn_fail(error, "%s: missing: there are several inputs", path.text);
        for (size_t j = 0; j < json_array_size(columns); j++)
            if (check_column(json_array_get(columns, j), field_path_index(&at, path.text, j),
                             settings->header, error) != 0)
                return -1;
    }
    return 0;
}

int csv_read_request(const struct dataset_request *request, struct csv_settings *settings,
                     struct nn_error *error)
{
    if (csv_read_settings(request->data, settings, error) != 0 ||
        csv_check_inputs(settings, request, error) != 0)
        return -1;
    const json_t *label = settings->label;
    size_t n = json_is_array(label) ? json_array_size(label) : label != NULL;
    if (request->target == TARGET_INPUT)
        return 0;
    if (n == 0)
        return nn_fail(error, "data.label: missing: which column is to be predicted?");
    if (request->target == TARGET_CLASSES && n > 1)
        return nn_fail(error, "data.label: %zu columns, expected the one of the class", n);
    if (request->target == TARGET_VALUES && request->n_targets > 0 &&
        n != (size_t)request->n_targets)
        return nn_fail(error, "data.label: %zu columns, the network has %d outputs", n,
                       request->n_targets);
    return 0;
}
