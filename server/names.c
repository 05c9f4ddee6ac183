#include "server/names.h"

#include <string.h>

enum { MAX_WORD = 64, MAX_DISTANCE = 3, MAX_DIGITS = 18 };

bool name_is_valid(const char *name, size_t size)
{
    if (size == 0 || size >= MODEL_NAME_SIZE || name[0] == '.')
        return false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '.' || c == '-'))
            return false;
    }
    return true;
}

int64_t name_version(const char *text, size_t size)
{
    int64_t version = 0;
    if (size == 0 || size > MAX_DIGITS || text[0] == '0')
        return -1;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        version = version * 10 + (text[i] - '0');
    }
    return version;
}

static int min(int a, int b)
{
    return a < b ? a : b;
}

/* Levenshtein 1966, one row of the table at a time. */
static int distance(const char *a, const char *b, int n)
{
    int row[MAX_WORD + 1];
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; *a; a++, i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j];
            row[j] = min(min(above, row[j - 1]) + 1, diagonal + (*a != b[j - 1]));
            diagonal = above;
        }
    }
    return row[n];
}

const char *name_nearest(const char *word, const char *const *names)
{
    const char *nearest = NULL;
    int least = MAX_DISTANCE + 1;
    for (; *names; names++) {
        size_t n = strlen(*names);
        int d = n <= MAX_WORD ? distance(word, *names, (int)n) : least;
        if (d < least && d < (int)strlen(word)) {
            least = d;
            nearest = *names;
        }
    }
    return nearest;
}
