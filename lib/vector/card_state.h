/* What the files of the card share. */
#ifndef VECTOR_CARD_STATE_H
#define VECTOR_CARD_STATE_H

#include "base/error.h"
#include "device/cuda_device.h"
#include "kernels/cuda/cuda_vector.h"
#include "vector/best.h"
#include "vector/card.h"
#include "vector/parts.h"

#include <infer/index.h>
#include <pthread.h>
#include <string.h>

#define CARD_K_MAX      1024 /* larger ones are searched without a card */
#define CARD_FIRST_ROWS 4096 /* of the first pass, all of which are kept */
#define CARD_GROWTH     16   /* of passes: cuda_vector.h */
#define CARD_CENTRES    512  /* nearest partitions of a query, of which some are read */

/* Memory of the card, and pinned memory of the host. */
struct card_area {
    struct device_buffer card;
    uint8_t *pinned;
    size_t pinned_bytes;
};

struct vector_card {
    struct base_alloc alloc;
    struct infer_device *device;
    const struct kern_cuda_vector *kernels;
    int32_t least_rows;
    int32_t is_eager;             /* for tests: uses what there is, whether it pays or not */
    pthread_mutex_t lock;         /* one search at a time: the stream is one */
    pthread_mutex_t copying;      /* searches go on meanwhile */
    struct card_area area, lists; /* of searches */
    _Atomic uint64_t n_freed;     /* copies: there may be room now */
    _Atomic int32_t failed;       /* the sentence is there */
    _Atomic int32_t failing;      /* somebody writes it */
    char failure[BASE_ERROR_MAX];
};

struct vector_copy {
    struct base_alloc alloc;
    struct vector_card *card;
    _Atomic uint64_t bytes;
    uint64_t tried; /* n_freed when there was no room, + 1 */
    _Atomic int32_t made;
    /* once it is made: */
    int32_t n_rows, n_partitions;
    int32_t *first_tile; /* of each partition, n_partitions + 1 */
    struct device_buffer tiles, notes, ids, centre_tiles, centre_notes, centre_ids;
    struct kern_cuda_vectors rows, centres;
};

/* ---- card.c */
/* Whether there is a copy of the space, which is made if there is room, and nobody makes one. */
int32_t card_copy_ready(struct vector_card *card, const struct vector_space *space);
/* Says that something failed: what is DEVICE ends the use of the card. */
void card_failed(struct vector_card *card, infer_status status);

/* ---- card_copy.c */
infer_status card_copy_fill(struct vector_copy *copy, const struct vector_space *space);
void card_copy_clear(struct vector_copy *copy);

/* ---- one call: searches over the same rows */
struct card_asked {
    const struct vector_search *search;
    struct vector_query query;
    struct vector_found *found;
    int32_t *n_found;
    int32_t number, k;
    int32_t open;   /* more must be kept, or looked at */
    int64_t n_read; /* rows of partitions */
    int32_t n_near; /* hits of which the worst says how far to read partitions, */
    float reach;    /* and so far */
    uint64_t *keys; /* what the card found: `keep`, 0 behind the last */
};

struct card_call {
    const struct vector_space *space;
    struct vector_card *card;
    struct vector_copy *copy;
    struct vector_view view;
    struct card_asked *asked;
    int32_t n, n_rows;
    int32_t keep, room; /* keys of a query that are kept, and that there is room for */
    int32_t n_allowed;
    int32_t probes;  /* partitions are read */
    uint8_t *values; /* of the queries */
    uint64_t *keys;
    uint32_t *lost; /* of each query: there was no room */
};

/* Where things lie in the card's area, and, as far as `lost`, in pinned memory alike. */
struct card_layout {
    size_t values, mask, best, lost;
    size_t queries, notes, keys, least, counts;
    size_t pinned_bytes, bytes;
};

/* ---- card_call.c, all with `lock` */
/* Brings the queries to the card. *masked: not all rows may be found. */
infer_status card_begin(struct card_call *c, struct card_layout *l, int32_t *masked);
/* Compares all rows of a copy, or all centres, and keeps the best. */
infer_status card_passes(const struct card_call *c, const struct card_layout *l,
                         const struct kern_cuda_vectors *rows, int32_t n_rows, int32_t masked);
/* Compares items; `asked` lies behind them in the card's lists. */
infer_status card_items(const struct card_call *c, const struct card_layout *l, int32_t n_items,
                        size_t asked_at, int32_t n_most, int32_t masked);
/* Waits for what was kept and brings it to the call's keys. */
infer_status card_fetch(struct card_call *c, const struct card_layout *l);
infer_status card_forget(const struct card_call *c, const struct card_layout *l);
infer_status card_area_grow(struct vector_card *card, struct card_area *area, size_t bytes,
                            size_t pinned_bytes);

/* ---- card_probe.c, with `lock`: reads partitions; open are those of which that will not do. */
infer_status card_probe(struct card_call *c);

/* ---- card_score.c */
/* Scores what the card found of each query, and gives the best. */
void card_score(struct card_call *c, struct base_pool *pool);
void card_sort_keys(uint64_t *keys, int32_t n); /* largest first */

static inline float card_score_at_most(uint64_t key)
{
    const uint32_t bits = kern_cuda_vector_unorder((uint32_t)(key >> 32));
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* What scores may be off by in the sums of the processor and of the card, over the product of both
 * lengths. The card adds 16 products to a sum without rounding the terms to nearest (Fasi, Higham,
 * Mikaitis and Pranesh, Numerical behavior of NVIDIA tensor cores, 2021). */
static inline float card_rounding(const struct vector_view *view)
{
    const float dims = (float)view->shape.dims;
    return (dims / 8.0f + 64.0f) * 0x1p-24f + (dims * 1.25f + 64.0f) * 0x1p-23f;
}

static inline void *card_at(const struct device_buffer *buffer, size_t offset)
{
    return (uint8_t *)buffer->data + offset;
}

static inline int32_t card_form(const struct vector_shape *shape)
{
    return shape->type == INFER_INDEX_BINARY ? KERN_CUDA_VECTOR_BITS
           : shape->type == INFER_INDEX_I8   ? KERN_CUDA_VECTOR_BYTES
                                             : KERN_CUDA_VECTOR_HALF;
}

#endif
