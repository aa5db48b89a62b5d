/* What the files of the card share. */
#ifndef VECTOR_CARD_STATE_H
#define VECTOR_CARD_STATE_H

#include "device/cuda_device.h"
#include "kernels/cuda/cuda_vector.h"
#include "vector/card.h"
#include "vector/parts.h"

#include <pthread.h>

#define CARD_LEAST_ROWS 4096 /* fewer are searched before a kernel has started */

/* One stretch of the card's memory, and pinned memory of the host, in pieces. */
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
    pthread_mutex_t lock;     /* one search at a time: the stream is one */
    pthread_mutex_t copying;  /* searches go on meanwhile */
    struct card_area area;    /* of searches */
    _Atomic uint64_t n_freed; /* copies: there may be room now */
    _Atomic int32_t failed;   /* the sentence is there */
    char failure[BASE_ERROR_MAX];
};

struct vector_copy {
    struct base_alloc alloc;
    struct vector_card *card;
    _Atomic uint64_t bytes;
    uint64_t tried; /* n_freed when there was no room, + 1 */
    /* once it is there: */
    _Atomic int32_t made;
    int32_t n_rows;
    struct device_buffer tiles, notes, ids;
    struct kern_cuda_vectors rows;
};

/* Whether there is a copy of the space, which is made if there is room, and nobody makes one. */
int32_t card_copy_ready(struct vector_card *card, const struct vector_space *space);
/* Says that something failed: what is DEVICE ends the use of the card. */
void card_failed(struct vector_card *card, infer_status status);

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
