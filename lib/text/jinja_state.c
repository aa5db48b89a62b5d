/* The state of one render: failures that stick, bounds, text under construction. */
#include "text/jinja_internal.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#define CHARGE_UNIT 32 /* bytes or items that count as one step */

struct jinja_value jinja_no_value(void)
{
    return (struct jinja_value){.kind = JINJA_MISSING};
}

struct jinja_value jinja_fail(struct jinja_render *r, infer_status status, const char *fmt, ...)
{
    if (jinja_failed(r))
        return jinja_no_value();
    char what[768];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    r->heap.status = base_error(status, "line %u, column %u: %s", r->at ? r->at->line : 1,
                                r->at ? r->at->column : 1, what);
    return jinja_no_value();
}

void *jinja_heap_new(struct jinja_heap *h, size_t n, size_t size)
{
    size_t bytes;
    if (h->status != INFER_OK)
        return NULL;
    if (__builtin_mul_overflow(n, size, &bytes) ||
        (h->limit_bytes &&
         (bytes > h->limit_bytes || h->arena.used_bytes > h->limit_bytes - bytes))) {
        h->status = base_error(INFER_ERR_LIMIT, "the template's values need more than %zu bytes",
                               h->limit_bytes);
        return NULL;
    }
    void *memory = base_arena_new(&h->arena, n, size);
    if (!memory)
        h->status = INFER_ERR_NO_MEMORY;
    return memory;
}

void *jinja_new(struct jinja_render *r, size_t n, size_t size)
{
    return jinja_heap_new(&r->heap, n, size);
}

void jinja_charge(struct jinja_render *r, size_t n)
{
    r->steps += n / CHARGE_UNIT + 1;
    if (r->steps > r->limits.steps)
        jinja_fail(r, INFER_ERR_LIMIT, "the template takes more than %llu steps",
                   (unsigned long long)r->limits.steps);
}

int jinja_enter(struct jinja_render *r)
{
    jinja_charge(r, 0);
    if (r->depth >= r->limits.depth)
        jinja_fail(r, INFER_ERR_LIMIT, "evaluation is nested more than %u levels deep",
                   r->limits.depth);
    if (jinja_failed(r))
        return 0;
    r->depth++;
    return 1;
}

void jinja_leave(struct jinja_render *r)
{
    r->depth--;
}

static int has_room(struct jinja_render *r, size_t size)
{
    if (size > r->limits.output_bytes || r->out->size - r->out_base > r->limits.output_bytes - size)
        jinja_fail(r, INFER_ERR_LIMIT, "the rendered text is longer than %zu bytes",
                   r->limits.output_bytes);
    return !jinja_failed(r);
}

void jinja_write(struct jinja_render *r, const char *text, size_t size)
{
    if (!has_room(r, size))
        return;
    jinja_charge(r, size);
    infer_status st = base_str_append(r->out, text, size);
    if (st != INFER_OK && !jinja_failed(r))
        r->heap.status = st;
}

void jinja_write_text(struct jinja_render *r, const char *text)
{
    jinja_write(r, text, strlen(text));
}

void jinja_write_char(struct jinja_render *r, char c)
{
    jinja_write(r, &c, 1);
}

void jinja_write_fill(struct jinja_render *r, const char *fill, size_t size, int64_t count)
{
    char block[256];
    size_t total, in_block = 0;
    if (count <= 0 || size == 0)
        return;
    if (__builtin_mul_overflow(size, (uint64_t)count, &total))
        total = SIZE_MAX;
    if (!has_room(r, total))
        return;
    while (size <= sizeof block && in_block + size <= sizeof block && in_block < total) {
        memcpy(block + in_block, fill, size);
        in_block += size;
    }
    const char *from = in_block ? block : fill;
    size_t step = in_block ? in_block : size;
    for (; total > 0 && !jinja_failed(r); total -= BASE_MIN(step, total))
        jinja_write(r, from, BASE_MIN(step, total));
}

size_t jinja_capture_begin(const struct jinja_render *r)
{
    return r->out->size;
}

struct jinja_value jinja_capture_end(struct jinja_render *r, size_t begin)
{
    if (jinja_failed(r))
        return jinja_no_value();
    size_t size = r->out->size - begin;
    struct jinja_value v = jinja_copy(r, size ? r->out->data + begin : "", size);
    r->out->size = begin;
    if (r->out->data)
        r->out->data[begin] = 0;
    return v;
}
