/*
 * The description of a failure, in the caller's structure.
 */
#include "engine/engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int nn_fail(struct nn_error *error, const char *format, ...)
{
    if (error && !error->text[0]) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(error->text, sizeof error->text, format, arguments);
        va_end(arguments);
    }
    return -1;
}

int nn_fail_in(struct nn_error *error, const char *format, ...)
{
    if (!error)
        return -1;

    char prefix[sizeof error->text];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);

    /* What does not fit is cut off at the end of the reason, never between name and reason. */
    char reason[sizeof error->text];
    memcpy(reason, error->text, sizeof reason);
    if (length < 0)
        return -1;
    if (snprintf(error->text, sizeof error->text, "%s: %s", prefix, reason) < 0)
        error->text[0] = '\0';
    return -1;
}
