#include "engine/formats/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_fully(int fd, const void *data, size_t size)
{
    for (const char *p = data; size > 0;) {
        ssize_t n = write(fd, p, size < (1 << 30) ? size : (1 << 30));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        size -= (size_t)n;
    }
    return 0;
}

/* The length of the folder's name in a path; 0: the current folder. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return 0;
    return slash == path ? 1 : (size_t)(slash - path);
}

/* A renamed file is found again after a crash only when its folder was flushed too. Some file
 * systems cannot do that for folders (EINVAL); there nothing better is to be had. */
static int flush_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int result = fsync(fd) == 0 || errno == EINVAL ? 0 : -1;
    int reason = errno;
    close(fd);
    errno = reason;
    return result;
}

static int make_folder(const char *folder, struct nn_error *error)
{
    if (mkdir(folder, 0777) != 0)
        return errno == EEXIST ? 0
                               : nn_fail(error, "cannot make %s: %s", folder, strerror(errno));

    size_t length = folder_length(folder);
    char *parent = length > 0 ? strndup(folder, length) : strdup(".");
    int result = parent ? flush_folder(parent) : -1;
    if (result != 0)
        nn_fail(error, "cannot flush the folder of %s: %s", folder, strerror(errno));
    free(parent);
    return result;
}

static int write_file(const char *path, const struct iovec *parts, int n,
                      struct nn_error *error)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return nn_fail(error, "cannot make %s: %s", path, strerror(errno));
    int result = 0;
    for (int i = 0; result == 0 && i < n; i++)
        result = write_fully(fd, parts[i].iov_base, parts[i].iov_len);
    if (result == 0)
        result = fsync(fd);
    if (result != 0)
        nn_fail(error, "cannot be written: %s", strerror(errno));
    if (close(fd) != 0 && result == 0)
        result = nn_fail(error, "cannot be written: %s", strerror(errno));
    return result;
}

int atomic_file_write(const char *path, const struct iovec *parts, int n,
                      struct nn_error *error)
{
    int result = -1;
    size_t length = folder_length(path);
    char *folder = length > 0 ? strndup(path, length) : strdup(".");
    char *temporary = NULL;
    if (!folder || asprintf(&temporary, "%s.%ld.tmp", path, (long)getpid()) < 0) {
        temporary = NULL;
        nn_fail(error, "out of memory");
        goto done;
    }
    if (make_folder(folder, error) != 0)
        goto done;
    unlink(temporary);          /* of a crashed process that had our number */
    if (write_file(temporary, parts, n, error) != 0)
        goto remove;
    if (rename(temporary, path) != 0) {
        nn_fail(error, "cannot be replaced: %s", strerror(errno));
        goto remove;
    }
    if (flush_folder(folder) != 0) {
        nn_fail(error, "cannot flush %s: %s", folder, strerror(errno));
        goto done;
    }
    result = 0;
    goto done;

remove:
    unlink(temporary);
done:
    free(temporary);
    free(folder);
    return result;
}
