/* The sentence of the calling thread: formatted, kept to one printable line. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char error_text[BASE_ERROR_MAX];

/* Control characters come from hostile files (names, keys): the sentence must
 * stay one printable line. A multi-byte character cut by the limit is dropped. */
static void sanitize(char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
    if (n + 1 < BASE_ERROR_MAX)
        return;
    while (n > 0 && ((unsigned char)text[n - 1] & 0xc0) == 0x80)
        n--;
    if (n > 0 && ((unsigned char)text[n - 1] & 0x80))
        n--;
    text[n] = 0;
}

infer_status base_error(infer_status status, const char *fmt, ...)
{
    /* Arguments may point into the old sentence, so format aside first. */
    char text[BASE_ERROR_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    sanitize(text);
    memcpy(error_text, text, strlen(text) + 1);
    return status;
}

infer_status base_error_prefix(infer_status status, const char *fmt, ...)
{
    char text[BASE_ERROR_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    size_t n = strlen(text);
    if (n + 2 < sizeof text) { /* the old sentence keeps what room is left */
        size_t rest = BASE_MIN(strlen(error_text), sizeof text - n - 3);
        memcpy(text + n, ": ", 2);
        memcpy(text + n + 2, error_text, rest);
        text[n + 2 + rest] = 0;
    }
    sanitize(text);
    memcpy(error_text, text, strlen(text) + 1);
    return status;
}

const char *base_error_text(void)
{
    return error_text;
}

void base_error_restore(const char *text)
{
    snprintf(error_text, sizeof error_text, "%s", text);
}
