/*
 * Bodies of predict requests: the first byte chooses the model and the rows of memory that
 * are lent. What is accepted is JSON to Jansson, too, and so is the answer to it.
 */
#include "tests/fuzz/identities.h"

#include "server/json_tensor.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    identities_open();
    return 0;
}

static void answer(const struct served *served, const struct tensor_rows *rows)
{
    struct nn_tensor outputs[TENSOR_MAX_PORTS];
    struct nn_error error = {""};
    struct buffer out = {0};

    if (!identities_run(served, rows, outputs))
        return;
    MUST(json_write_predictions(&out, served->model, outputs, 0, rows->n, &error) == 0);
    MUST(!out.failed && fuzz_is_json(out.data, out.size));
    buffer_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct served *served;
    if (size < 1)
        return 0;
    struct tensor_rows rows = identities_rows(data[0], &served);
    struct nn_error error = {""};
    const char *body = (const char *)data + 1;
    int status = json_rows_read(&rows, body, size - 1, IDENTITIES_ROWS, &error);
    if (status == 0) {
        MUST(fuzz_is_json(body, size - 1));
        answer(served, &rows);
        tensor_rows_release(&rows);
    } else {
        MUST((status == 400 || status == 500) && error.text[0] && !rows.owned);
    }
    return 0;
}
