#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

void fuzz_file_open(struct fuzz_file *file)
{
    file->fd = memfd_create("fuzz", MFD_CLOEXEC);
    MUST(file->fd >= 0);
    snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->fd);
}

void fuzz_file_write(const struct fuzz_file *file, const void *data, size_t size)
{
    MUST(ftruncate(file->fd, 0) == 0);
    MUST(pwrite(file->fd, data, size, 0) == (ssize_t)size);
}
