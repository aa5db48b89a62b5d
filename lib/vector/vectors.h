/* The vectors of one space, as they are kept: rows of one type, each with a note of its length and
 * of what it loses as bytes. They grow in chunks that never move, one writer beside any number of
 * readers, or are fixed and lie in a mapped file. */
#ifndef VECTOR_VECTORS_H
#define VECTOR_VECTORS_H

#include "vector/space.h"

#include <stdatomic.h>

struct vector_vectors;

/* What is known of a row but its elements; not of BINARY. Rows of COSINE are kept at length 1. */
struct vector_note {
    float factor; /* of the elements: the scale of I8; of COSINE, what makes the kept row's length 1
                     again after it was rounded to its type; else 1 */
    float length; /* COSINE: of the vector as it was handed in; else of the kept row */
    float scale;  /* of the kept row's bytes as kern_vector.code makes them with 1 / scale; 0: all
                     bytes 0. I8: 1, the row is its bytes */
    float error;  /* length of the kept row less its bytes times scale, at least; before factor */
};

struct vector_chunk {
    const uint8_t *rows;
    const struct vector_note *notes; /* of the first row; NULL: BINARY */
};

/* The rows that were there when it was taken; valid as long as the vectors. */
struct vector_view {
    const struct infer_kernels *kernels;
    const struct vector_chunk *chunks;
    size_t row_bytes, note_bytes; /* from one to the next */
    int32_t shift;                /* row r is in chunk r >> shift */
    int32_t n;
    infer_dtype dtype; /* of the rows, for the tables of kernels; BINARY: -1 */
    struct vector_shape shape;
};

/* Of the configuration, alloc, kernels, shape and max_rows count. */
infer_status vector_vectors_create(struct vector_vectors **out,
                                   const struct vector_space_config *config);
/* n rows in sections of a file, which outlives them. Their notes lie `note_bytes` apart where the
 * caller says, or with NULL in a section of their own. */
infer_status vector_vectors_open(struct vector_vectors **out,
                                 const struct vector_space_config *config,
                                 const struct vector_file *file, int32_t n,
                                 const struct vector_note *notes, size_t note_bytes);
void vector_vectors_destroy(struct vector_vectors **vectors);
/* Without `notes` these are elsewhere in the file. */
infer_status vector_vectors_write(const struct vector_vectors *vectors, int32_t notes,
                                  struct vector_file_writer *writer);

/* INVALID, by row and element: what is not finite, beyond the type or longer than 10^18, and for
 * COSINE zeros. For queries too. */
infer_status vector_vectors_check(const struct vector_shape *shape, const float *vectors,
                                  int32_t n);
/* Appends n checked vectors as rows from *first on, on the threads of a pool (NULL: this one). One
 * call at a time. On a failure nothing is appended. */
infer_status vector_vectors_add(struct vector_vectors *vectors, const float *from, int32_t n,
                                int32_t *first, struct base_pool *pool);
/* The same with rows of others of the same shape, as they are kept: nothing is rounded again. */
infer_status vector_vectors_add_rows(struct vector_vectors *vectors, const struct vector_view *from,
                                     const int32_t *rows, int32_t n, int32_t *first);
int32_t vector_vectors_size(const struct vector_vectors *vectors);
uint64_t vector_vectors_bytes(const struct vector_vectors *vectors); /* allocated */
void vector_vectors_view(const struct vector_vectors *vectors, struct vector_view *view);

static inline const void *vector_view_row(const struct vector_view *view, int32_t row)
{
    const int32_t inside = row & (int32_t)((1u << view->shift) - 1);

    return view->chunks[row >> view->shift].rows + (size_t)inside * view->row_bytes;
}

/* Not of BINARY. */
static inline const struct vector_note *vector_view_note(const struct vector_view *view,
                                                         int32_t row)
{
    const int32_t inside = row & (int32_t)((1u << view->shift) - 1);

    return (const struct vector_note
                *)(const void *)((const uint8_t *)view->chunks[row >> view->shift].notes +
                                 (size_t)inside * view->note_bytes);
}

/* dims floats: as they are compared (COSINE: of length 1; BINARY: 1 and -1), and as they were
 * handed in but for what the type loses. A row that is not there gives zeros. */
void vector_view_load(const struct vector_view *view, int32_t row, float *out);
void vector_view_get(const struct vector_view *view, int32_t row, float *out);

/* A query made ready for scores. */
struct vector_query {
    const float *values;  /* as compared; COSINE: of length 1 */
    const uint64_t *bits; /* BINARY, else NULL */
    double length;        /* of the values */
};

/* Bytes of memory, on 64, that such a query takes. */
size_t vector_query_bytes(const struct vector_shape *shape);
/* `from` is checked; `room` lives as long as the query. */
void vector_query_set(struct vector_query *query, void *room, const struct vector_view *view,
                      const float *from);

/* Scores of rows as infer_metric defines them, larger is closer, in the precision of what is kept.
 * A score depends on query and row alone. Rows that are not there get -infinity. */
void vector_view_score(const struct vector_view *view, const struct vector_query *query,
                       const int32_t *rows, int32_t n, float *scores);

#define VECTOR_BLOCK 64

/* Up to VECTOR_BLOCK rows that several queries are compared with: found once. */
struct vector_block {
    const void *rows[VECTOR_BLOCK];
    const struct vector_note *notes[VECTOR_BLOCK];
    uint64_t missing; /* bits of rows that are not there */
    int32_t n;
};

void vector_block_set(struct vector_block *block, const struct vector_view *view,
                      const int32_t *rows, int32_t n);
void vector_block_score(const struct vector_block *block, const struct vector_view *view,
                        const struct vector_query *query, float *scores);

float vector_distance(int32_t metric, float score);

#endif
