/* Arrays that grow and never move: beside one writer, readers use what is below the count that they
 * came with. Each chunk is twice as large as the one before. */
#ifndef VECTOR_CHUNKS_H
#define VECTOR_CHUNKS_H

#include "base/alloc.h"

#define VECTOR_CHUNK_FIRST 64 /* elements of the first chunk, a power of two */
#define VECTOR_CHUNKS      26 /* as many as 31 bits count */

struct vector_chunks {
    size_t bytes; /* of an element */
    void *chunk[VECTOR_CHUNKS];
    int64_t room;
};

static inline void *vector_chunks_at(const struct vector_chunks *c, int32_t i)
{
    const uint32_t group = (uint32_t)i / VECTOR_CHUNK_FIRST + 1;
    const int k = 31 - __builtin_clz(group);
    const size_t first = ((size_t)1 << k) * VECTOR_CHUNK_FIRST - VECTOR_CHUNK_FIRST;
    return (char *)c->chunk[k] + ((size_t)i - first) * c->bytes;
}

/* Makes room for the elements below n, zeroed. */
infer_status vector_chunks_reserve(struct vector_chunks *c, const struct base_alloc *a, int64_t n);
void vector_chunks_release(struct vector_chunks *c, const struct base_alloc *a);
uint64_t vector_chunks_bytes(const struct vector_chunks *c);

#endif
