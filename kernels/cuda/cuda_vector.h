/* Launchers of the kernels that search vectors, as those of cuda_kernels.h: nothing waits, pointers
 * are device memory.
 *
 * Rows lie on the card in a form of their own: floats of any type as halves with a scale a row,
 * bytes as they are, signs as bits. What a form loses is known for each row, and what a query loses
 * when it becomes halves or bytes for each query, so that a product is never off by more than
 *
 *     |x| e + f |y|       (x, y: as kept in the form; e, f: what that lost; Cauchy-Schwarz)
 *
 * and what is found is everything whose score may be among the best by this bound. */
#ifndef KERNELS_CUDA_CUDA_VECTOR_H
#define KERNELS_CUDA_CUDA_VECTOR_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KERN_CUDA_VECTOR_HALF, KERN_CUDA_VECTOR_BYTES, KERN_CUDA_VECTOR_BITS };

#define KERN_CUDA_VECTOR_KEEP_MAX 2048 /* best ones of a query */

/* Of a row: factor of its products, its length at most, what it lost, and what is added to a
 * product. Of a query: its scale, what it lost and what the sums may round, its length. */
struct kern_cuda_vector_note {
    float scale, length, error, plus;
};

/* Rows as they lie on the card. A tile is 16 rows (BITS: 32); a place is a row's in the tiles,
 * which may be in any order. */
struct kern_cuda_vectors {
    int32_t form, dims, n_tiles; /* n_tiles is even */
    uint8_t *tiles;              /* kern_cuda_vector_tile_bytes() each, on 16; zeroed at first */
    struct kern_cuda_vector_note *notes; /* a place; zeroed at first; not of BITS */
    int32_t *ids;                        /* the row of a place; -1: none */
};

/* 32 bytes of a row are what tensor cores take at once; a row is a multiple of four times that, a
 * line of the card's cache. */
static inline int32_t kern_cuda_vector_steps(int32_t form, int32_t dims)
{
    const int32_t bytes = form == KERN_CUDA_VECTOR_HALF ? 2 * dims : dims;
    return BASE_DIV_UP(bytes, 128) * 4;
}

static inline int32_t kern_cuda_vector_words(int32_t dims) /* of BITS, 32 bits each */
{
    return BASE_DIV_UP(dims, 64) * 2;
}

static inline int32_t kern_cuda_vector_tile_rows(int32_t form)
{
    return form == KERN_CUDA_VECTOR_BITS ? 32 : 16;
}

static inline size_t kern_cuda_vector_tile_bytes(int32_t form, int32_t dims)
{
    return form == KERN_CUDA_VECTOR_BITS ? (size_t)kern_cuda_vector_words(dims) * 128
                                         : (size_t)kern_cuda_vector_steps(form, dims) * 512;
}

static inline size_t kern_cuda_vector_query_bytes(int32_t form, int32_t dims)
{
    if (form == KERN_CUDA_VECTOR_BITS)
        return (size_t)kern_cuda_vector_words(dims) * 4;
    return (size_t)kern_cuda_vector_steps(form, dims) * (form == KERN_CUDA_VECTOR_BYTES ? 64 : 32);
}

/* n rows as the index keeps them, `stride` bytes apart, become those of `to` at the places given.
 * `given`: factor and length of each (not of BITS). */
struct kern_cuda_vector_pack_args {
    struct kern_cuda_vectors to;
    const void *from;
    size_t stride;
    infer_dtype type; /* F32, F16, BF16, I8; not of BITS */
    const float *given;
    const int32_t *places; /* of each; NULL: first_place + i */
    int32_t first_place;
    int32_t first_id; /* row i is first_id + i */
    int32_t n;
    int32_t squares; /* half of the length's square is taken from products: L2 */
};
typedef int32_t kern_cuda_vector_pack_fn(const struct kern_cuda_vector_pack_args *args,
                                         void *stream);

/* n queries of floats, dims apart, as `form` wants them (not BITS: these are their bits).
 * rounding: what sums may be off by, over the product of both lengths. */
struct kern_cuda_vector_queries_args {
    uint8_t *to; /* kern_cuda_vector_query_bytes() apart */
    struct kern_cuda_vector_note *notes;
    const float *from;
    float rounding;
    int32_t form, dims, n;
};
typedef int32_t kern_cuda_vector_queries_fn(const struct kern_cuda_vector_queries_args *args,
                                            void *stream);

/* Some tiles for some queries: numbers asked[first] .. asked[first + n - 1]. Not the last tile of
 * all, for the one behind these is read ahead. */
struct kern_cuda_vector_item {
    int32_t tile, n_tiles, first, n;
};

/* Compares queries with rows and puts those that may be among the best behind what is there of each
 * query. A key is the score at most in its upper half, in the order of floats, and ~row below, so
 * that larger is better and no two are equal. What is not better than `least` is dropped.
 *
 * All tiles are compared in passes, as the caller counts them: runs of `run` tiles whose number is
 * a multiple of `stride`, but for those of 16 * stride where `later` is set. Or `items`, whose
 * queries are at most kern_cuda_vector_group() each. */
struct kern_cuda_vector_scan_args {
    struct kern_cuda_vectors rows;
    const uint8_t *queries;
    const struct kern_cuda_vector_note *query_notes;
    const uint32_t *mask; /* bits of rows that count; NULL: all */
    uint64_t *keys;       /* room of each query */
    uint64_t *least;      /* of each */
    uint32_t *counts;     /* that were found, also beyond the room */
    const struct kern_cuda_vector_item *items;
    const int32_t *asked;
    int32_t n_items;
    int32_t n_queries, room, n_rows; /* rows from n_rows on do not count */
    int32_t run, stride, later;
};
typedef int32_t kern_cuda_vector_scan_fn(const struct kern_cuda_vector_scan_args *args,
                                         void *stream);

/* Queries that are compared while a row is read once. */
int32_t kern_cuda_vector_group(int32_t form, int32_t dims);

/* Leaves the best `keep` of each query's keys in front, in no order, the smallest of them (or less)
 * in `least` and their number in `counts`; lost[q] becomes 1 where there was no room for some. */
struct kern_cuda_vector_select_args {
    uint64_t *keys, *least;
    uint32_t *counts, *lost;
    uint64_t *best; /* keep of each query: a copy for the host, 0 behind the last; or NULL */
    int32_t n_queries, room, keep;
};
typedef int32_t kern_cuda_vector_select_fn(const struct kern_cuda_vector_select_args *args,
                                           void *stream);

/* Sums of the rows of n stretches of tiles, dims floats each, by their scales: stretch i is tiles
 * first[i] .. first[i + 1] - 1. Not of BITS. */
struct kern_cuda_vector_sums_args {
    struct kern_cuda_vectors rows;
    const int32_t *first;
    float *sums;
    int32_t n;
};
typedef int32_t kern_cuda_vector_sums_fn(const struct kern_cuda_vector_sums_args *args,
                                         void *stream);

/* The score that a key stands for, and its row. */
static inline uint32_t kern_cuda_vector_order(uint32_t bits)
{
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

static inline uint32_t kern_cuda_vector_unorder(uint32_t order)
{
    return order >> 31 ? order & 0x7fffffffu : ~order;
}

struct kern_cuda_vector {
    int32_t (*group)(int32_t form, int32_t dims);
    kern_cuda_vector_pack_fn *pack;
    kern_cuda_vector_queries_fn *queries;
    kern_cuda_vector_scan_fn *scan;
    kern_cuda_vector_select_fn *select;
    kern_cuda_vector_sums_fn *sums;
};

kern_cuda_vector_pack_fn kern_cuda_vector_pack;
kern_cuda_vector_queries_fn kern_cuda_vector_queries;
kern_cuda_vector_scan_fn kern_cuda_vector_scan;
kern_cuda_vector_select_fn kern_cuda_vector_select;
kern_cuda_vector_sums_fn kern_cuda_vector_sums;

#ifdef __cplusplus
}
#endif

#endif
