#include "server/api/path.h"

#include "server/names.h"
#include <string.h>

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Copies a name of `size` bytes. What is too long is cut, and marked by a character that no
 * model's name has, so that it is not found but can be told. A zero byte is none, either. */
static void decode(const char *name, size_t size, char out[MODEL_NAME_SIZE])
{
    static const char mark[] = "\xe2\x80\xa6"; /* U+2026, three dots */
    const char *end = name + size;
    size_t n = 0;
    while (name < end && n < MODEL_NAME_SIZE - 1) {
        int high = end - name > 2 && *name == '%' ? hex(name[1]) : -1;
        int low = high >= 0 ? hex(name[2]) : -1;
        bool escaped = low >= 0 && (high || low);
        out[n++] = escaped ? (char)(16 * high + low) : *name;
        name += escaped ? 3 : 1;
    }
    if (name < end) {
        n = MODEL_NAME_SIZE - sizeof mark;
        memcpy(out + n, mark, sizeof mark - 1);
        n += sizeof mark - 1;
    }
    out[n] = 0;
}

/* Takes the name at *path for {key}. */
static bool take_name(const char **path, char key, struct http_request *r, bool decodes)
{
    char *out = key == 'm' ? r->model : key == 'v' ? r->version : r->label;
    size_t size = strcspn(*path, "/:");
    if (size == 0 || (!decodes && !name_is_valid(*path, size)))
        return false;
    decode(*path, size, out);
    *path += size;
    return true;
}

bool path_matches(const char *pattern, struct http_request *r, bool decodes)
{
    const char *path = r->path;
    *r->model = *r->version = *r->label = 0;
    while (*pattern) {
        if (*pattern == '{') {
            if (!take_name(&path, pattern[1], r, decodes))
                return false;
            pattern += strlen("{m}");
        } else if (*pattern == '[') {
            size_t size = strcspn(++pattern, "{");
            if (strncmp(path, pattern, size) != 0)
                pattern = strchr(pattern, ']') + 1;
        } else if (*pattern == ']') {
            pattern++;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return !*path;
}
