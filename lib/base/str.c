/* Text that grows, and a few helpers. */
#include "base/str.h"

#include "base/array.h"
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

void base_str_init(struct base_str *s, const struct base_alloc *a, size_t limit)
{
    *s = (struct base_str){.alloc = a, .limit = limit};
}

static infer_status reserve(struct base_str *s, size_t extra)
{
    if (s->limit && (extra > s->limit || s->size > s->limit - extra))
        return base_error(INFER_ERR_LIMIT, "text of more than %zu bytes", s->limit);
    return base_array_grow(s->alloc, (void **)&s->data, s->size, &s->capacity, 1, extra + 1);
}

infer_status base_str_reserve(struct base_str *s, size_t extra)
{
    infer_status st = reserve(s, extra);
    if (st == INFER_OK)
        s->data[s->size] = 0;
    return st;
}

infer_status base_str_append(struct base_str *s, const char *text, size_t size)
{
    infer_status st = reserve(s, size);
    if (st != INFER_OK)
        return st;
    if (size)
        memcpy(s->data + s->size, text, size);
    s->size += size;
    s->data[s->size] = 0;
    return INFER_OK;
}

infer_status base_str_appendf(struct base_str *s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0)
        return base_error(INFER_ERR_INTERNAL, "bad format string");
    infer_status st = reserve(s, (size_t)n);
    if (st != INFER_OK)
        return st;
    va_start(args, fmt);
    vsnprintf(s->data + s->size, (size_t)n + 1, fmt, args);
    va_end(args);
    s->size += (size_t)n;
    return INFER_OK;
}

infer_status base_str_put(struct base_str *s, char c)
{
    return base_str_append(s, &c, 1);
}

void base_str_clear(struct base_str *s)
{
    s->size = 0;
    if (s->data)
        s->data[0] = 0;
}

void base_str_release(struct base_str *s)
{
    base_free(s->alloc, s->data);
    s->data = NULL;
    s->size = s->capacity = 0;
}

char *base_str_take(struct base_str *s)
{
    if (base_str_append(s, "", 0) != INFER_OK)
        return NULL;
    char *text = s->data;
    s->data = NULL;
    s->size = s->capacity = 0;
    return text;
}
