/*
 * For LD_PRELOAD: the C library's allocator, which fails when a test says so: for the program,
 * for every library that it links, and for the C library itself.
 */
#include "tests/preload/failing_malloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static struct failing_malloc *control;

/* Runs after the libraries' own constructors have taken what they want. */
__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAILING_MALLOC");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared != MAP_FAILED)
        control = shared;
}

static int runs_out(void)
{
    if (!control || atomic_load(&control->left) < 0)
        return 0;
    long left = atomic_fetch_sub(&control->left, 1);
    if (left > 0)
        return 0;
    if (left == 0 && atomic_load(&control->sticky))
        atomic_store(&control->left, 0);
    atomic_fetch_add(&control->failed, left == 0);
    errno = ENOMEM;
    return left == 0;
}

void *malloc(size_t size)
{
    return runs_out() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return runs_out() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return runs_out() ? NULL : __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
    return runs_out() ? NULL : __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    void *p = memalign(alignment, size);
    if (!p)
        return ENOMEM;
    *memory = p;
    return 0;
}
