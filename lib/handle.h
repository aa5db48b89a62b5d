/* Shared by the public functions in lib/X.c: argument checks and allocators. */
#ifndef LIB_HANDLE_H
#define LIB_HANDLE_H

#include "base/alloc.h"
#include "base/error.h"
#include "base/options.h"

#include <infer/kv_cache.h>

/* Returns INFER_ERR_INVALID naming the argument if it is NULL. */
#define REQUIRE(arg)                                                                               \
    do {                                                                                           \
        if (!(arg))                                                                                \
            return base_error(INFER_ERR_INVALID, "%s is NULL", #arg);                              \
    } while (0)

/* The host's allocator, or `fallback` where it gave none. */
static inline infer_status handle_alloc(struct base_alloc *out, const infer_allocator *given,
                                        const struct base_alloc *fallback)
{
    *out = *fallback;
    if (!given)
        return INFER_OK;
    infer_allocator a;
    infer_status st = base_options_copy(&a, sizeof a, given, "infer_allocator");
    if (st != INFER_OK)
        return st;
    if (!a.alloc || !a.free)
        return base_error(INFER_ERR_INVALID, "infer_allocator needs both alloc and free");
    *out = (struct base_alloc){a.alloc, a.free, a.user_data};
    return INFER_OK;
}

/* The element type of a KV type, `fallback` for INFER_KV_DEFAULT. */
infer_status handle_kv_type(infer_dtype *out, infer_kv_type type, infer_dtype fallback);
infer_kv_type handle_kv_type_of(infer_dtype type);

/* Fills the caller's buffer of *n elements, as <infer/tokenizer.h> describes:
 * NULL asks; too small gives INFER_ERR_LIMIT; *n is always what is needed. */
infer_status handle_fill(void *buffer, size_t *n, const void *data, size_t count,
                         size_t element_bytes);

/* The same for text, with a terminating 0 if there is room. */
infer_status handle_fill_text(char *buffer, size_t *n, const char *text, size_t size);

#endif
