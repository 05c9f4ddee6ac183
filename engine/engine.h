/*
 * predictd's engine: models that are opened once, shared, and run in batches.
 *
 *     struct nn_error error = {0};
 *     nn_engine_start();
 *     struct nn_model *model = nn_model_open("models/digits/1/model.safetensors", &error);
 *     struct nn_session *session = nn_session_new(model, 32, &error);
 *     float *image = nn_session_input(session, 0);        (room for 32 rows of [1, 28, 28])
 *     ...fill two rows...
 *     if (nn_session_run(session, 2, &error) == 0)
 *         use(nn_session_output(session, 0));             (a tensor of shape [2, 10])
 *
 * A model never changes after it was opened: any number of threads share it. A session is
 * the memory to run it in and belongs to one thread at a time. The engine prints nothing,
 * never exits and starts no thread.
 *
 * Functions return 0 or a pointer; on failure -1 or NULL, with the reason in the caller's
 * struct nn_error (which may be NULL everywhere).
 */
#ifndef NN_ENGINE_H
#define NN_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* errors */

struct nn_error {
    char text[512];             /* "" while nothing failed; names what failed, and why */
};

/* Describes a failure in `error`, unless an earlier one is there already: the first wins.
 * Returns -1, so that callers can `return nn_fail(...)`. */
int nn_fail(struct nn_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the text: the caller names the file or model that it worked on.
 * Returns -1. */
int nn_fail_in(struct nn_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* tensors */

enum nn_datatype {
    NN_FP32, NN_FP64,
    NN_FP16, NN_BF16,           /* as uint16_t: IEEE 754 binary16, the upper half of an FP32 */
    NN_INT8, NN_INT16, NN_INT32, NN_INT64,
    NN_UINT8, NN_UINT16, NN_UINT32, NN_UINT64,
    NN_BOOL,                    /* a byte, 0 or 1 */
};
enum { NN_DATATYPES = NN_BOOL + 1 };

const char *nn_datatype_name(enum nn_datatype datatype);        /* "FP32", "INT64" ... */
int nn_datatype_find(const char *name);                         /* -1: no such name */
size_t nn_datatype_size(enum nn_datatype datatype);             /* bytes of an element */
bool nn_datatype_is_real(enum nn_datatype datatype);            /* FP32, FP64, FP16, BF16 */

/* Between floating-point numbers and the bits of the small types. To bits is to the nearest,
 * of two equally near ones to the even one; beyond the largest to infinity; NaN stays NaN. */
float nn_fp16_read(uint16_t bits);
float nn_bf16_read(uint16_t bits);
uint16_t nn_fp16_round(double x);
uint16_t nn_bf16_round(double x);

enum { NN_MAX_RANK = 8 };

struct nn_shape {
    int rank;                   /* 0: a scalar */
    int64_t dims[NN_MAX_RANK];
};

/* Dense, row-major; aligned to 64 bytes where the engine allocated it. */
struct nn_tensor {
    enum nn_datatype datatype;
    struct nn_shape shape;
    void *data;
};

/* An element as a number; INT64 and UINT64 beyond 2^53 are rounded. */
double nn_tensor_element(const struct nn_tensor *tensor, int64_t i);

/* models */

struct nn_model;

/* An input or output of a model. A dimension of -1 is the batch, or depends on it. */
struct nn_port {
    const char *name;
    enum nn_datatype datatype;
    struct nn_shape shape;
};

/* Once, before any other thread uses the engine: sets the kernels up and keeps the BLAS
 * from starting threads of its own. */
void nn_engine_start(void);

/* The processors that this process may use at the same time, at least 1: its affinity, and
 * the tightest quota of its control groups, rounded up. So many sessions are worth running. */
int nn_processors(void);

/* Reads, checks and optimises the bundle at `path`, and replays its golden samples. The
 * text of an error begins with the path. NULL: nothing is left behind. */
struct nn_model *nn_model_open(const char *path, struct nn_error *error);
void nn_model_close(struct nn_model *model);                    /* NULL is allowed */

/* What these functions return lives as long as the model. */

int nn_model_n_inputs(const struct nn_model *model);
int nn_model_n_outputs(const struct nn_model *model);
const struct nn_port *nn_model_input(const struct nn_model *model, int i);
const struct nn_port *nn_model_output(const struct nn_model *model, int i);

/* NULL when rows of different requests may share a batch: every input and output has the
 * batch as its first axis, and no operation mixes rows. Otherwise the reason in words. */
const char *nn_model_unbatched(const struct nn_model *model);

int nn_model_n_labels(const struct nn_model *model);            /* 0: it names no classes */
const char *nn_model_label(const struct nn_model *model, int i);

/* The bundle's metadata by key ("training", "recipe"; JSON), or NULL. */
const char *nn_model_metadata(const struct nn_model *model, const char *key);

int64_t nn_model_n_parameters(const struct nn_model *model);
int64_t nn_model_n_golden(const struct nn_model *model);        /* rows replayed at opening */

/* sessions */

struct nn_session;

/* Memory for up to `max_batch` rows. The model must outlive the session. */
struct nn_session *nn_session_new(const struct nn_model *model, int64_t max_batch,
                                  struct nn_error *error);
void nn_session_free(struct nn_session *session);               /* NULL is allowed */

int64_t nn_session_max_batch(const struct nn_session *session);

/* Makes room for `max_batch` rows (never shrinks). Pointers handed out before, and what
 * the inputs held, are void. On failure the session is as it was. */
int nn_session_reserve(struct nn_session *session, int64_t max_batch, struct nn_error *error);

/* The elements of input `i`, room for max_batch rows; to be filled before each run, which
 * may overwrite them. A fixed first dimension has exactly its own rows. */
void *nn_session_input(struct nn_session *session, int i);

/* Runs the first `batch` rows, 0 < batch <= max_batch. Allocates nothing. Fails only where a
 * model that is not batched cannot take this batch size. */
int nn_session_run(struct nn_session *session, int64_t batch, struct nn_error *error);

/* The tensor of output `i` of the last run: valid until the next. Its shape is concrete. */
const struct nn_tensor *nn_session_output(const struct nn_session *session, int i);

#endif
