/* String builder and a few helpers over text. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include "base/alloc.h"

#include <string.h>

/* Always 0-terminated once anything was appended; `limit` (0 = none) bounds the
 * size so that hostile input cannot grow it without end. */
struct base_str {
    const struct base_alloc *alloc;
    char *data;
    size_t size, capacity, limit;
};

void base_str_init(struct base_str *s, const struct base_alloc *a, size_t limit);
infer_status base_str_reserve(struct base_str *s, size_t extra); /* to append without allocating */
infer_status base_str_append(struct base_str *s, const char *text, size_t size);
infer_status base_str_appendf(struct base_str *s, const char *fmt, ...) BASE_PRINTF(2, 3);
infer_status base_str_put(struct base_str *s, char c);
void base_str_clear(struct base_str *s);
void base_str_release(struct base_str *s);
/* Hands the 0-terminated text to the caller ("" is allocated too); NULL when out of memory. */
char *base_str_take(struct base_str *s);

static inline int base_view_equal(struct base_view v, const char *text)
{
    size_t n = strlen(text);
    return v.size == n && memcmp(v.data, text, n) == 0;
}

#endif
