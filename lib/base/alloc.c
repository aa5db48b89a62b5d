/* The C library's allocator, a copy of the host's, blocks of pages, and an arena that frees at
 * once.
 */
#include "base/alloc.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES_LEAST       ((size_t)64 * 1024) /* less is not worth a mapping */
#define ARENA_CHUNK_BYTES (64 * 1024)
#define ARENA_ALIGN       16

static void *default_alloc(size_t bytes, size_t alignment, void *user_data)
{
    BASE_UNUSED(user_data);
    return aligned_alloc(alignment, BASE_ALIGN_UP(bytes, alignment));
}

static void default_free(void *ptr, void *user_data)
{
    BASE_UNUSED(user_data);
    free(ptr);
}

const struct base_alloc base_alloc_default = {default_alloc, default_free, NULL};

void *base_new_raw(const struct base_alloc *a, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2) {
        base_error(INFER_ERR_NO_MEMORY, "allocation of %zu x %zu bytes overflows", n, size);
        return NULL;
    }
    void *p = a->alloc(bytes ? bytes : 1, BASE_CACHE_LINE, a->user_data);
    if (!p)
        base_error(INFER_ERR_NO_MEMORY, "out of memory: the allocator refused %zu bytes", bytes);
    return p;
}

void *base_new(const struct base_alloc *a, size_t n, size_t size)
{
    void *p = base_new_raw(a, n, size);
    if (p)
        memset(p, 0, n * size);
    return p;
}

char *base_strdup(const struct base_alloc *a, const char *text, size_t size)
{
    char *copy = base_new_raw(a, size + 1, 1);
    if (copy) {
        if (size)
            memcpy(copy, text, size);
        copy[size] = 0;
    }
    return copy;
}

void base_free(const struct base_alloc *a, void *ptr)
{
    if (ptr)
        a->free(ptr, a->user_data);
}

/* A host that has an allocator of its own gets to see them. */
static int in_pages(const struct base_alloc *a, size_t bytes)
{
    return a->alloc == default_alloc && bytes >= PAGES_LEAST;
}

void *base_new_pages(const struct base_alloc *a, size_t bytes)
{
    if (!in_pages(a, bytes))
        return base_new_raw(a, bytes, 1);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        return p;
    base_error(INFER_ERR_NO_MEMORY, "out of memory: the system refused %zu bytes", bytes);
    return NULL;
}

void base_free_pages(const struct base_alloc *a, void *ptr, size_t bytes)
{
    if (!in_pages(a, bytes))
        base_free(a, ptr);
    else if (ptr)
        munmap(ptr, bytes);
}

struct base_arena_chunk {
    struct base_arena_chunk *next;
    size_t used, size; /* of `bytes` */
    _Alignas(ARENA_ALIGN) unsigned char bytes[];
};

void base_arena_init(struct base_arena *arena, const struct base_alloc *a)
{
    *arena = (struct base_arena){.alloc = *a};
}

static struct base_arena_chunk *arena_grow(struct base_arena *arena, size_t need)
{
    size_t size = need > ARENA_CHUNK_BYTES / 4 ? need : ARENA_CHUNK_BYTES;
    struct base_arena_chunk *chunk = base_new(&arena->alloc, 1, sizeof *chunk + size);
    if (!chunk)
        return NULL;
    chunk->size = size;
    arena->used_bytes += sizeof *chunk + size;
    /* A chunk made for one large object is full at once: keep the roomy one in front. */
    struct base_arena_chunk *head = arena->chunks;
    if (head && need > ARENA_CHUNK_BYTES / 4) {
        chunk->next = head->next;
        head->next = chunk;
    } else {
        chunk->next = head;
        arena->chunks = chunk;
    }
    return chunk;
}

void *base_arena_new(struct base_arena *arena, size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2) {
        base_error(INFER_ERR_NO_MEMORY, "allocation of %zu x %zu bytes overflows", n, size);
        return NULL;
    }
    bytes = BASE_ALIGN_UP(bytes ? bytes : 1, (size_t)ARENA_ALIGN);
    struct base_arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->size - chunk->used < bytes)
        chunk = arena_grow(arena, bytes);
    if (!chunk)
        return NULL;
    void *p = chunk->bytes + chunk->used;
    chunk->used += bytes;
    return p;
}

char *base_arena_strdup(struct base_arena *arena, const char *text, size_t size)
{
    char *copy = base_arena_new(arena, size + 1, 1);
    if (copy && size)
        memcpy(copy, text, size);
    return copy;
}

void base_arena_release(struct base_arena *arena)
{
    struct base_arena_chunk *chunk = arena->chunks;
    while (chunk) {
        struct base_arena_chunk *next = chunk->next;
        base_free(&arena->alloc, chunk);
        chunk = next;
    }
    arena->chunks = NULL;
    arena->used_bytes = 0;
}
