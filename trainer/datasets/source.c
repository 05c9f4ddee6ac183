#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "trainer/datasets/format.h"

/* No byte of a deflate stream stands for more than this many (zlib's documentation, "Maximum
 * Expansion Factor"). */
enum { MAX_EXPANSION = 1032, READ_AT_ONCE = 1 << 24, FIRST_SLURP = 1 << 16 };

int source_open(struct source *source, const char *path, struct nn_error *error)
{
    struct stat status;
    *source = (struct source){.path = path};

    /* A named pipe must not wait for its other end before it is refused. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &status) != 0) {
        nn_fail(error, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(status.st_mode)) {
        nn_fail(error, "%s: not a regular file", path);
        goto fail;
    }
    if (!(source->file = gzdopen(fd, "rb"))) {
        nn_fail(error, "%s: no memory", path);
        goto fail;
    }
    gzbuffer(source->file, 1 << 17);

    source->most = status.st_size;
    if (!gzdirect(source->file) &&
        __builtin_mul_overflow(source->most, MAX_EXPANSION, &source->most))
        source->most = INT64_MAX;
    return 0;

fail:
    if (fd >= 0)
        close(fd);
    return -1;
}

void source_close(struct source *source)
{
    if (source->file)
        gzclose(source->file);
    source->file = NULL;
}

int64_t source_read(struct source *source, void *to, int64_t n, struct nn_error *error)
{
    int64_t have = 0;
    while (have < n) {
        int64_t want = n - have < READ_AT_ONCE ? n - have : READ_AT_ONCE;
        int got = gzread(source->file, (char *)to + have, (unsigned)want);
        if (got > 0)
            have += got;
        if (got < want)
            break;
    }
    /* A short read is the end of the file only when zlib has nothing to say: a stream that is
     * cut gives what there is. */
    int status = Z_OK;
    const char *reason = have < n ? gzerror(source->file, &status) : "";
    const char *behind_name = strstr(reason, ">: ");    /* "<fd:3>: incorrect data check" */
    if (status == Z_BUF_ERROR)
        return nn_fail(error, "%s: the gzip data is cut short", source->path);
    if (status == Z_ERRNO)
        return nn_fail(error, "%s: %s", source->path, strerror(errno));
    if (status != Z_OK)
        return nn_fail(error, "%s: the gzip data is damaged (%s)", source->path,
                       behind_name ? behind_name + 3 : reason);
    return have;
}

char *source_slurp(const char *path, size_t *n, struct nn_error *error)
{
    struct source source;
    char *bytes = NULL;
    size_t capacity = FIRST_SLURP, used = 0;

    if (source_open(&source, path, error) != 0)
        return NULL;
    for (;;) {
        char *grown = realloc(bytes, capacity);
        if (!grown) {
            nn_fail(error, "%s: no memory for %zu bytes", path, capacity);
            goto fail;
        }
        bytes = grown;
        int64_t got = source_read(&source, bytes + used, (int64_t)(capacity - 1 - used), error);
        if (got < 0)
            goto fail;
        used += (size_t)got;
        if (used < capacity - 1)
            break;
        if (__builtin_mul_overflow(capacity, (size_t)2, &capacity) || capacity > INT64_MAX) {
            nn_fail(error, "%s: too large", path);
            goto fail;
        }
    }
    source_close(&source);
    bytes[used] = '\0';
    *n = used;
    return bytes;

fail:
    source_close(&source);
    free(bytes);
    return NULL;
}
