/* Memory of the host. Every object that allocates keeps a copy of the
 * allocator it was made with; nothing in the library calls malloc directly. */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include "base/types.h"

struct base_alloc {
    void *(*alloc)(size_t bytes, size_t alignment, void *user_data);
    void (*free)(void *ptr, void *user_data);
    void *user_data;
};

/* The C library's aligned_alloc and free. */
extern const struct base_alloc base_alloc_default;

/* All three set the thread's error and return NULL on failure or overflow.
 * Memory is aligned to BASE_CACHE_LINE. A size of zero gives a valid pointer. */
void *base_new(const struct base_alloc *a, size_t n, size_t size);            /* zeroed n * size */
void *base_new_raw(const struct base_alloc *a, size_t n, size_t size);        /* not zeroed */
char *base_strdup(const struct base_alloc *a, const char *text, size_t size); /* adds a 0 */

/* Frees and is NULL-safe. */
void base_free(const struct base_alloc *a, void *ptr);

/* A block that goes back to the system as a whole when it is freed, with the C library's allocator:
 * of its heap large parts stay with the process where anything small lies behind them. Not zeroed;
 * freeing it takes the same size. */
void *base_new_pages(const struct base_alloc *a, size_t bytes);
void base_free_pages(const struct base_alloc *a, void *ptr, size_t bytes);

/* Arena: many small things that die together (metadata, names). */
struct base_arena_chunk;
struct base_arena {
    struct base_alloc alloc;
    struct base_arena_chunk *chunks;
    size_t used_bytes; /* sum of all chunks, for memory reports */
};

void base_arena_init(struct base_arena *arena, const struct base_alloc *a);
void *base_arena_new(struct base_arena *arena, size_t n, size_t size); /* zeroed, 16-byte aligned */
char *base_arena_strdup(struct base_arena *arena, const char *text, size_t size);
void base_arena_release(struct base_arena *arena);

#endif
