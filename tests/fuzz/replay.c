/*
 * Gives a fuzz target what was kept for it: every file in tests/fuzz/corpus/<target>/, and
 * some of its beginnings. The target's name is this program's behind "test_fuzz_".
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

enum { CUTS = 24 }; /* beginnings of a file that are tried */

/* In memory that ends with the bytes, so that a sanitizer sees one too many. */
static void run(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    MUST(copy);
    memcpy(copy, bytes, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct stat status;
    MUST(file && fstat(fileno(file), &status) == 0);
    size_t size = (size_t)status.st_size;
    uint8_t *bytes = malloc(size + 1);
    MUST(bytes && fread(bytes, 1, size, file) == size);
    fclose(file);
    size_t step = size / CUTS + 1;
    for (size_t n = 0; n < size; n += step)
        run(bytes, n);
    run(bytes, size);
    free(bytes);
}

int main(int argc, char **argv)
{
    const char *target = strstr(argv[0], "test_fuzz_");
    char path[1024];
    int n = 0;

    MUST(target);
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", target + strlen("test_fuzz_"));
    DIR *folder = opendir(path);
    MUST(folder);
    LLVMFuzzerInitialize(&argc, &argv);
    size_t end = strlen(path);
    for (struct dirent *entry; (entry = readdir(folder)); n++) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path + end, sizeof path - end, "/%s", entry->d_name);
        fprintf(stderr, "%s\n", path);
        replay(path);
    }
    closedir(folder);
    MUST(n > 2);
    return 0;
}
