/* What a meta is made of. Only meta.c, meta_file.c and filter_cache.c include this. */
#ifndef VECTOR_META_INTERNAL_H
#define VECTOR_META_INTERNAL_H

#include "vector/filter_cache.h"
#include "vector/meta_index.h"

#include <pthread.h>

#define META_BLOCK 1024 /* rows of a file: of 1 MiB each they stay below 4 GiB */

struct vector_meta_row {
    const char *json;
    uint32_t size;
};

struct vector_meta {
    struct base_alloc alloc;
    pthread_mutex_t lock; /* of the pointer `index`; held for as long as it is read */
    struct vector_meta_index *index;
    struct vector_filter_cache filters; /* under lock */
    struct base_arena texts;            /* of rows and fields: one writer */
    size_t table_bytes;
    _Atomic uint64_t text_bytes; /* that and the arena, for readers */
    _Atomic int32_t n;
    struct vector_meta_row *_Atomic chunks[22];
    /* of a mapped file, else NULL */
    const struct vector_file *file;
    const uint64_t *bases; /* where each META_BLOCK rows begin, and the end of all */
    const uint32_t *ends;  /* of each row, from its block's base on */
    const uint8_t *bytes;
    uint64_t n_bytes;
};

/* Without rows and fields. */
infer_status vector_meta_new(struct vector_meta **out, const struct base_alloc *a);

#endif
