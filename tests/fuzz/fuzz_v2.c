/*
 * Bodies of the Open Inference Protocol V2: the first byte chooses the model and the rows of
 * memory that are lent, two more are the length of the JSON in front of binary data (65535:
 * all is JSON). What is accepted is JSON to Jansson, too, and so is that part of the answer.
 */
#include "tests/fuzz/identities.h"

#include "server/v2.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    identities_open();
    return 0;
}

/* Bytes that JSON cannot say are floats that are not finite. */
static void answer(const struct served *served, struct v2_request *request,
                   const struct tensor_rows *rows)
{
    struct nn_tensor outputs[TENSOR_MAX_PORTS];
    struct nn_error error = {""};
    struct buffer out = {0};
    size_t json_length, binary = 0;

    if (!identities_run(served, rows, outputs))
        return;
    if (v2_write(&out, &json_length, request, served, outputs, 0, rows->n, &error) == 0) {
        for (int i = 0; i < request->n_outputs; i++)
            binary += request->outputs[i].binary ? request->outputs[i].bytes : 0;
        MUST(!out.failed && (json_length ? json_length : out.size) + binary == out.size);
        MUST(fuzz_is_json(out.data, out.size - binary));
    } else {
        MUST(error.text[0]);
    }
    buffer_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct served *served;
    struct v2_request *request = NULL;
    struct nn_error error = {""};
    if (size < 3)
        return 0;
    struct tensor_rows rows = identities_rows(data[0], &served);
    int64_t json_length = data[1] | data[2] << 8;
    const char *body = (const char *)data + 3;
    json_length = json_length == 65535 ? -1 : json_length == 65534 ? -2 : json_length;
    int status =
        v2_read(&request, served, &rows, body, size - 3, json_length, IDENTITIES_ROWS, &error);
    if (status == 0) {
        MUST(json_length == 0 ||
             fuzz_is_json(body, json_length < 0 ? size - 3 : (size_t)json_length));
        answer(served, request, &rows);
        tensor_rows_release(&rows);
    } else {
        MUST((status == 400 || status == 500) && error.text[0] && !rows.owned);
    }
    free(request);
    return 0;
}
