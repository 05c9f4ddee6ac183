/*
 * Bodies of TensorFlow Serving: the first byte chooses the model and the rows of memory that
 * are lent, the next the verb. What is accepted is JSON to Jansson, too, and so is the answer.
 */
#include "tests/fuzz/identities.h"

#include "server/tfs.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    identities_open();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct codec *const codecs[] = {&tfs_predict_codec, &tfs_classify_codec,
                                                 &tfs_regress_codec};
    const struct served *served;
    struct nn_error error = {""};
    struct nn_tensor outputs[TENSOR_MAX_PORTS];
    if (size < 2)
        return 0;
    struct tensor_rows rows = identities_rows(data[0], &served);
    const struct codec *codec = codecs[data[1] % 3];
    struct http_request request = {.body = {.data = (char *)data + 2, .size = size - 2}};
    int status = codec->read(&request, served, &rows, IDENTITIES_ROWS, &error);
    if (status == 0) {
        MUST(fuzz_is_json(request.body.data, request.body.size));
        if (identities_run(served, &rows, outputs)) {
            MUST(codec->write(&request, served, outputs, 0, rows.n, &error) == 0);
            MUST(!request.answer.failed &&
                 fuzz_is_json(request.answer.data, request.answer.size));
        }
        tensor_rows_release(&rows);
    } else {
        MUST((status == 400 || status == 500) && error.text[0] && !rows.owned);
    }
    buffer_release(&request.answer);
    free(request.state);
    return 0;
}
