/* Codes of 2 to 8 bits an element, by which a query is compared with many vectors while few bytes
 * are read.
 *
 * RaBitQ (Gao and Long, arXiv:2405.12497) in its extended form (Gao et al., arXiv:2409.09913): what
 * a vector o has beyond a centre c is rotated at random and each element rounded to one of a few
 * levels w. Then <o - c, q> is |o - c|^2 / <o - c, w> * <w, q> on average, whatever the vectors,
 * with an error of about |o - c| |q - c| sqrt((1 / cos^2 - 1) / dims), cos being that between o - c
 * and w: .94 with 2 bits. The rotation is signs and Hadamard transforms. A query is rotated
 * likewise and rounded to bytes, which loses next to nothing beside that. */
#ifndef VECTOR_CODES_H
#define VECTOR_CODES_H

#include "vector/space.h"

/* Fixed once it is made. */
struct vector_coder {
    struct base_alloc alloc;
    const struct infer_kernels *kernels;
    kern_vector_estimate_fn *estimate;
    int32_t dims, metric, bits;
    int32_t padded;   /* dims that are rotated */
    int32_t body;     /* bytes of a code before its factors */
    int32_t slot;     /* bytes from a code to the next, a multiple of 64 */
    int32_t n_blocks; /* of 64 bytes that the kernels read */
    int32_t note_at;  /* where a slot ends with room for 16 bytes of its row's; 0: it has none */
    uint64_t seed;    /* of the signs */
    float noise;      /* an estimate's standard error over |q - c|, of the vectors that it was made
                         with */
    float *signs;
    float *centre; /* dims floats */
};

/* What is known beside <o - c, q - c>: of a neighbour of queries, and of vectors that are built
 * into a graph, where DOT goes by Euclidean distance. */
enum vector_order { VECTOR_ORDER_SCORE = 0, VECTOR_ORDER_BUILD = 1 };

/* With centre NULL (dims zeros) it is filled in by the caller before the first code. */
infer_status vector_coder_create(struct vector_coder **out, const struct base_alloc *a,
                                 const struct infer_kernels *kernels,
                                 const struct vector_shape *shape, uint64_t seed,
                                 const float *centre);
void vector_coder_destroy(struct vector_coder **coder);
uint64_t vector_coder_bytes(const struct vector_coder *coder);

/* Floats of room that coding takes. */
static inline size_t vector_coder_room(const struct vector_coder *coder)
{
    return (size_t)coder->padded * 2;
}

/* Codes a vector as it is compared (COSINE: of length 1) into a slot; returns what its estimates
 * are off by, over |q - c|. */
float vector_coder_encode(const struct vector_coder *coder, uint8_t *slot, const float *vector,
                          float *room);

struct vector_code_query {
    struct kern_vector_estimate args;
    float error;        /* standard error of an estimate */
    float factor, base; /* score = factor * estimate + base, in the order of scores */
};

size_t vector_code_query_bytes(const struct vector_coder *coder);
/* `room` is on 64 bytes, and lives as long as the query. */
void vector_code_query_set(struct vector_code_query *query, void *room,
                           const struct vector_coder *coder, const float *vector,
                           enum vector_order order);

#endif
