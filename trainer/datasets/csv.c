/*
 * CSV: columns of numbers for the inputs, and of classes or numbers for what to predict.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/datasets/csv_settings.h"
#include "trainer/datasets/records.h"

/* the recipe */

static int check_csv(const json_t *data, struct nn_error *error)
{
    struct csv_settings settings;
    return csv_read_settings(data, &settings, error);
}

static int check_csv_request(const struct dataset_request *request, struct nn_error *error)
{
    struct csv_settings settings;
    return csv_read_request(request, &settings, error);
}

/* a file being read */

struct csv_file {
    const char *path;
    const struct csv_settings *settings;
    const struct dataset_request *request;
    bool unlabelled;            /* for predict: labels may be absent, and are not read */
    struct records records;
    int n_columns;
    char **names;               /* [n_columns] with a header, or NULL */
    int n_labels;
    int *labels;                /* [n_labels] columns */
    int **inputs;               /* for each input the columns of its elements */

    int64_t capacity;           /* rows */
    struct csv_class {          /* [rows] the class of each row as it stands in the file */
        const char *name;
        int64_t line;
    } *classes;
};

static void csv_file_release(struct csv_file *file)
{
    records_close(&file->records);
    for (int i = 0; file->inputs && i < file->request->n_inputs; i++)
        free(file->inputs[i]);
    free(file->inputs);
    free(file->labels);
    free(file->names);
    free(file->classes);
}

static int no_memory(const struct csv_file *file, struct nn_error *error)
{
    return nn_fail(error, "%s: no memory", file->path);
}

/* "column 3 ("petal width")" */
struct column_text {
    char text[120];
};

static const char *print_column(const struct csv_file *file, int column,
                                struct column_text *text)
{
    if (file->names)
        snprintf(text->text, sizeof text->text, "column %d (\"%.80s\")", column,
                 file->names[column]);
    else
        snprintf(text->text, sizeof text->text, "column %d", column);
    return text->text;
}

/* columns */

/* The column that JSON names; -1 when there is none. */
static int find_column(const struct csv_file *file, const json_t *json)
{
    const char *name = json_string_value(json);
    if (name) {
        for (int i = 0; file->names && i < file->n_columns; i++)
            if (strcmp(file->names[i], name) == 0)
                return i;
        return -1;
    }
    json_int_t number = json_integer_value(json);
    if (number < 0)
        number += file->n_columns;
    return number >= 0 && number < file->n_columns ? (int)number : -1;
}

/* What is probably wrong where all of a line is one column. */
static const char *delimiter_hint(const struct csv_file *file)
{
    const char *first = file->records.fields[0];
    if (file->n_columns != 1)
        return "";
    return strchr(first, ';')    ? "; does data.delimiter have to be \";\"?"
           : strchr(first, '\t') ? "; does data.delimiter have to be \"\\t\"?"
           : strchr(first, '|')  ? "; does data.delimiter have to be \"|\"?"
           : strchr(first, ',')  ? "; does data.delimiter have to be \",\"?"
                                 : "";
}

/* `key`: of the recipe, that names it. */
static int no_column(const struct csv_file *file, const char *key, const json_t *json,
                     struct nn_error *error)
{
    const char *name = json_string_value(json);
    if (!name)
        return nn_fail(error, "%s: no column %lld: there are %d (%s)%s", file->path,
                       (long long)json_integer_value(json), file->n_columns, key,
                       delimiter_hint(file));
    const char *nearest = file->names ? nearest_name(name, (const char *const *)file->names)
                                      : NULL;
    return nn_fail(error, "%s: no column \"%s\"%s%s%s (%s)%s", file->path, name,
                   nearest ? ", did you mean \"" : "", nearest ? nearest : "",
                   nearest ? "\"?" : "", key, delimiter_hint(file));
}

/* Which columns are labels. Those that are absent for predict are left out. */
static int find_labels(struct csv_file *file, int64_t n_elements, struct nn_error *error)
{
    const json_t *label = file->settings->label;
    size_t n = json_is_array(label) ? json_array_size(label) : label != NULL;
    if (!(file->labels = calloc(n + 1, sizeof *file->labels)))
        return no_memory(file, error);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(label) ? json_array_get(label, i) : label;
        int column = find_column(file, one);
        if (file->unlabelled && (file->n_columns == n_elements || column < 0))
            continue;
        if (column < 0)
            return no_column(file, "data.label", one, error);
        file->labels[file->n_labels++] = column;
    }
    return 0;
}

static bool is_label(const struct csv_file *file, int column)
{
    for (int i = 0; i < file->n_labels; i++)
        if (file->labels[i] == column)
            return true;
    return false;
}

/* The columns of input i: those of its list, or all that are no labels. */
static int find_input(struct csv_file *file, int i, struct nn_error *error)
{
    const struct dataset_input *input = &file->request->inputs[i];
    struct shape_text shape;
    size_t n = json_array_size(input->columns);
    int64_t elements = format_row_elements(file->request, i), found = 0;
    size_t most = input->columns ? n : (size_t)file->n_columns;
    int *columns = file->inputs[i] = malloc((most + 1) * sizeof *columns);
    if (!columns)
        return no_memory(file, error);
    for (size_t j = 0; j < n; j++) {
        char key[64];
        if ((columns[found++] = find_column(file, json_array_get(input->columns, j))) >= 0)
            continue;
        snprintf(key, sizeof key, "inputs[%d].columns[%zu]", i, j);
        return no_column(file, key, json_array_get(input->columns, j), error);
    }
    for (int j = 0; !input->columns && j < file->n_columns; j++)
        if (!is_label(file, j))
            columns[found++] = j;
    if (found != elements)
        return nn_fail(error,
                       "%s: %lld columns of features (of %d columns) do not fit input "
                       "\"%s\" %s%s",
                       file->path, (long long)found, file->n_columns, input->name,
                       shape_print(&input->shape, &shape), delimiter_hint(file));
    return 0;
}

/* The names of the only input's columns, for who reads other files by them; NULL where they do
 * not tell one from another, are too long for the head of a bundle, or there is no memory. */
static json_t *name_columns(const struct csv_file *file)
{
    enum { MOST_BYTES = 128 * 1024, QUOTES = 6 }; /* JSON in JSON: \"name\", */
    if (!file->names || file->request->n_inputs != 1)
        return NULL;
    json_t *columns = json_array(), *seen = json_object();
    int64_t n = format_row_elements(file->request, 0);
    bool named = columns && seen;
    size_t bytes = 0;
    for (int64_t i = 0; i < n && named; i++) {
        const char *name = file->names[file->inputs[0][i]];
        bytes += strlen(name) + QUOTES;
        named = *name && bytes <= MOST_BYTES && !json_object_get(seen, name) &&
                json_object_set_new(seen, name, json_true()) == 0 &&
                json_array_append_new(columns, json_string(name)) == 0;
    }
    json_decref(seen);
    if (named)
        return columns;
    json_decref(columns);
    return NULL;
}

/* After the first record: how many columns there are, and what each is for. */
static int find_columns(struct csv_file *file, struct nn_error *error)
{
    const struct records *records = &file->records;
    file->n_columns = records->n_fields;
    if (file->settings->header) {
        if (!(file->names = calloc((size_t)file->n_columns + 1, sizeof *file->names)))
            return no_memory(file, error);
        memcpy(file->names, records->fields, (size_t)file->n_columns * sizeof *file->names);
    }

    int64_t elements = file->request->n_inputs == 1 && !file->request->inputs[0].columns
                     ? format_row_elements(file->request, 0) : -1;
    if (find_labels(file, elements, error) != 0)
        return -1;
    if (!(file->inputs = calloc((size_t)file->request->n_inputs + 1, sizeof *file->inputs)))
        return no_memory(file, error);
    for (int i = 0; i < file->request->n_inputs; i++)
        if (find_input(file, i, error) != 0)
            return -1;
    return 0;
}

/* rows */

static int read_number(const struct csv_file *file, int64_t row, int column, nn_real *out,
                       struct nn_error *error)
{
    const char *text = file->records.fields[column];
    struct column_text name;
    char *end;

    /* strtod also takes hexadecimal numbers, "inf" and "nan". */
    bool plain = *text && text[strspn(text, "+-.0123456789eE")] == '\0';
    double value = plain ? strtod(text, &end) : 0;
    if (plain && *end == '\0' && isfinite((nn_real)value)) {
        *out = (nn_real)value;
        return 0;
    }
    const char *hint = "";
    if (*text && row == 0)
        hint = file->names ? " (\"columns\" of an input chooses those that are numbers)"
                           : " (a first line of names needs \"header\": true)";
    return nn_fail(error, "%s:%lld: %s: expected a number%s, got %s%.40s%s%s", file->path,
                   (long long)file->records.line, print_column(file, column, &name),
                   plain && *end == '\0' ? " that is a finite float" : "",
                   *text ? "\"" : "nothing", text, *text ? "\"" : "", hint);
}

static int check_width(const struct csv_file *file, struct nn_error *error)
{
    const struct records *records = &file->records;
    struct column_text name;
    if (records->n_fields < file->n_columns)
        return nn_fail(error, "%s:%lld: %s is missing: %d columns, expected %d", file->path,
                       (long long)records->line,
                       print_column(file, records->n_fields, &name), records->n_fields,
                       file->n_columns);
    if (records->n_fields > file->n_columns)
        return nn_fail(error, "%s:%lld: %d columns, expected %d", file->path,
                       (long long)records->line, records->n_fields, file->n_columns);
    return 0;
}

static int grow(struct csv_file *file, struct dataset *set, struct nn_error *error)
{
    int64_t capacity = file->capacity ? 2 * file->capacity : 64;
    struct csv_class *classes = realloc(file->classes, (size_t)capacity * sizeof *classes);
    if (!classes)
        return no_memory(file, error);
    file->classes = classes;
    file->capacity = capacity;
    return format_reserve(set, file->request, NN_FP32, capacity, error);
}

static int read_row(struct csv_file *file, struct dataset *set, struct nn_error *error)
{
    const struct dataset_request *request = file->request;
    int64_t row = set->n;
    if (check_width(file, error) != 0 ||
        (row == file->capacity && grow(file, set, error) != 0))
        return -1;

    for (int i = 0; i < request->n_inputs; i++) {
        int64_t n = format_row_elements(request, i);
        nn_real *values = (nn_real *)set->features[i].data + row * n;
        for (int64_t j = 0; j < n; j++)
            if (read_number(file, row, file->inputs[i][j], &values[j], error) != 0)
                return -1;
    }
    for (int i = 0; i < set->n_targets; i++)
        if (read_number(file, row, file->labels[i], &set->targets[row * set->n_targets + i],
                        error) != 0)
            return -1;
    if (request->target == TARGET_CLASSES && !file->unlabelled) {
        struct column_text name;
        file->classes[row].name = file->records.fields[file->labels[0]];
        file->classes[row].line = file->records.line;
        if (!*file->classes[row].name)
            return nn_fail(error, "%s:%lld: %s: expected a class, got nothing", file->path,
                           (long long)file->records.line,
                           print_column(file, file->labels[0], &name));
    }
    set->n++;
    return 0;
}

/* classes */

/* Whether a name is a number, as spreadsheets write them. */
static bool is_number(const char *name, double *value)
{
    char *end;
    *value = strtod(name, &end);
    return name[strspn(name, "+-.0123456789eE")] == '\0' && end != name && *end == '\0';
}

/* Numbers first, by their values ("2" before "10"); the others by their bytes. */
static int compare_names(const void *a, const void *b)
{
    const char *one = *(const char *const *)a, *other = *(const char *const *)b;
    double x, y;
    bool first = is_number(one, &x), second = is_number(other, &y);
    if (first != second)
        return first ? -1 : 1;
    if (first && x != y)
        return x < y ? -1 : 1;
    return strcmp(one, other);
}

/* Names have to be UTF-8: they stand in the bundle's JSON. */
static int check_text(const struct csv_file *file, const char *class, struct nn_error *error)
{
    struct column_text name;
    json_t *text = json_string(class);
    json_decref(text);
    if (text)
        return 0;
    int64_t row = 0;
    while (file->classes[row].name != class)
        row++;
    return nn_fail(error, "%s:%lld: %s: the name of a class is not UTF-8", file->path,
                   (long long)file->classes[row].line,
                   print_column(file, file->labels[0], &name));
}

/* Names the classes by the values found, sorted. */
static int find_classes(const struct csv_file *file, struct dataset *set,
                        struct nn_error *error)
{
    const char **names = malloc((size_t)set->n * sizeof *names);
    if (!names)
        return no_memory(file, error);
    for (int64_t i = 0; i < set->n; i++)
        names[i] = file->classes[i].name;
    qsort(names, (size_t)set->n, sizeof *names, compare_names);

    int64_t n = 0;
    for (int64_t i = 0; i < set->n; i++)
        if (i == 0 || strcmp(names[i], names[n - 1]) != 0)
            names[n++] = names[i];

    int result = -1, wanted = format_n_classes(file->request);
    if (n > INT32_MAX || (wanted && n != wanted)) {
        nn_fail(error, "%s: column %d has %lld classes, the network tells %d apart",
                file->path, file->labels[0], (long long)n, wanted);
        goto done;
    }
    if (!(set->labels = calloc((size_t)n, sizeof *set->labels))) {
        no_memory(file, error);
        goto done;
    }
    set->n_labels = (int)n;
    for (int64_t i = 0; i < n; i++) {
        if (check_text(file, names[i], error) != 0)
            goto done;
        if (!(set->labels[i] = strdup(names[i]))) {
            no_memory(file, error);
            goto done;
        }
    }
    result = 0;

done:
    free(names);
    return result;
}

struct class_entry {
    const char *name;
    int class;
};

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct class_entry *)a)->name, ((const struct class_entry *)b)->name);
}

/* The number that stands for a class that the recipe names otherwise; -1: neither. */
static int class_number(const char *text, int n)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && number >= 0 && number < n ? (int)number
                                                                                  : -1;
}

static int take_classes(const struct csv_file *file, struct dataset *set,
                        struct nn_error *error)
{
    struct class_entry *entries = NULL;
    int result = -1;

    if (format_name_classes(set, file->request, file->settings->common.labels, error) != 0 ||
        (set->n_labels == 0 && find_classes(file, set, error) != 0))
        return -1;

    entries = malloc((size_t)set->n_labels * sizeof *entries);
    set->classes = malloc((size_t)set->n * sizeof *set->classes);
    if (!entries || !set->classes) {
        no_memory(file, error);
        goto done;
    }
    for (int i = 0; i < set->n_labels; i++)
        entries[i] = (struct class_entry){.name = set->labels[i], .class = i};
    qsort(entries, (size_t)set->n_labels, sizeof *entries, compare_entries);

    for (int64_t i = 0; i < set->n; i++) {
        struct class_entry key = {.name = file->classes[i].name};
        const struct class_entry *found = bsearch(&key, entries, (size_t)set->n_labels,
                                                  sizeof *entries, compare_entries);
        set->classes[i] = found                             ? found->class
                        : file->settings->common.labels ? class_number(key.name, set->n_labels)
                                                        : -1;
        if (set->classes[i] < 0) {
            struct column_text name;
            nn_fail(error, "%s:%lld: %s: class \"%.40s\" is none of the %d classes (\"%.40s\"%s",
                    file->path, (long long)file->classes[i].line,
                    print_column(file, file->labels[0], &name), key.name, set->n_labels,
                    set->labels[0], set->n_labels > 1 ? " ...)" : ")");
            goto done;
        }
    }
    result = 0;

done:
    free(entries);
    return result;
}

/* loading */

/* A line with nothing on it is no row of a table of several columns; in one of a single column
 * it is a value that is missing. */
static bool is_blank_line(const struct csv_file *file)
{
    const struct records *records = &file->records;
    return records->n_fields == 1 && !*records->fields[0] && file->n_columns != 1;
}

static int load_file(struct dataset *set, const char *path, const struct csv_settings *settings,
                     const struct dataset_request *request, bool unlabelled,
                     struct nn_error *error)
{
    struct csv_file file = {
        .path = path, .settings = settings, .request = request, .unlabelled = unlabelled,
    };
    bool first = true;
    int more, result = -1;

    if (records_open(&file.records, path, *settings->delimiter, error) != 0)
        return -1;
    if (request->target == TARGET_VALUES && !unlabelled)
        set->n_targets = json_is_array(settings->label)
                       ? (int)json_array_size(settings->label) : 1;
    while ((more = records_next(&file.records, error)) > 0) {
        if (is_blank_line(&file))
            continue;
        if (first && find_columns(&file, error) != 0)
            goto done;
        if (!(first && settings->header) && read_row(&file, set, error) != 0)
            goto done;
        if (first && !unlabelled)
            set->columns = name_columns(&file);
        first = false;
    }
    if (more < 0)
        goto done;
    if (set->n == 0) {
        nn_fail(error, "%s: no rows", path);
        goto done;
    }
    if (request->target == TARGET_CLASSES && !unlabelled &&
        take_classes(&file, set, error) != 0)
        goto done;
    result = 0;

done:
    csv_file_release(&file);
    return result;
}

static int load_csv(struct dataset *set, const struct dataset_request *request,
                    enum dataset_part part, struct nn_error *error)
{
    struct csv_settings settings;
    if (csv_read_request(request, &settings, error) != 0)
        return -1;
    if (part == DATASET_TEST && !settings.test)
        return nn_fail(error, "data.test: missing");

    bool cut = settings.fraction > 0;
    const char *name = part == DATASET_TEST && !cut ? json_string_value(settings.test)
                                                    : settings.train;
    struct dataset rest = {0};
    char *path = format_path(request, name, error);
    int result = path ? load_file(set, path, &settings, request, false, error) : -1;
    if (result == 0 && cut && dataset_split(set, settings.fraction, (uint64_t)settings.seed,
                                            &rest, error) != 0)
        result = nn_fail_in(error, "%s: data.test.fraction", path);
    if (result == 0 && cut && part == DATASET_TEST) {
        struct dataset train = *set;
        *set = rest;
        rest = train;
    }
    dataset_release(&rest);
    free(path);
    return result;
}

static int load_csv_features(struct dataset *set, const char *path,
                             const struct dataset_request *request, struct nn_error *error)
{
    struct csv_settings settings = {.delimiter = ","};
    const char *format = json_string_value(json_object_get(request->data, "format"));
    if (format && strcmp(format, csv_format.name) == 0 &&
        csv_read_settings(request->data, &settings, error) != 0)
        return -1;
    if (csv_check_inputs(&settings, request, error) != 0)
        return -1;
    return load_file(set, path, &settings, request, true, error);
}

const struct dataset_format csv_format = {
    .name = "csv",
    .check = check_csv,
    .check_request = check_csv_request,
    .load = load_csv,
    .load_features = load_csv_features,
};
