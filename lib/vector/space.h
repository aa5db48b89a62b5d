/* Vectors of one kind that are searched together: their stored form, codes to compare them by
 * quickly, and a graph over them. A space grows in memory, or is fixed and lies in a mapped file.
 * It knows rows, no ids: ids, deletion and filters are bits that the caller hands in. */
#ifndef VECTOR_SPACE_H
#define VECTOR_SPACE_H

#include "base/thread.h"
#include "device/device.h"
#include "vector/file.h"

#define VECTOR_DIMS_MAX 8192

struct vector_shape {
    int32_t dims;
    int32_t metric; /* infer_metric */
    int32_t type;   /* infer_index_type */
};

struct vector_space_config {
    const struct base_alloc *alloc;
    const struct infer_kernels *kernels;
    struct vector_shape shape;
    int32_t degree, effort; /* of the graph */
    int32_t no_graph;       /* 1: codes and partitions alone, but for BINARY */
    int32_t max_rows;       /* 0: as many as 31 bits hold */
    uint64_t seed;
    struct vector_card *card; /* that copies are on; NULL: none */
};

struct vector_space;
struct vector_scratch; /* of one search at a time */

/* Rows by bits; 64 a word, little end first. */
struct vector_rows {
    const uint64_t *bits; /* NULL: all */
    int32_t n;            /* rows that the bits cover; those beyond are not set */
    int32_t n_set;
};

struct vector_search {
    const float *query; /* dims floats */
    int32_t k;
    int32_t ef;                   /* 0: by recall */
    float recall;                 /* 1: exact */
    const float *reach;           /* so far partitions are read; NULL: by ef or recall */
    int32_t codes_alone;          /* no rescoring */
    struct vector_rows allowed;   /* what filters leave */
    const _Atomic uint64_t *dead; /* deleted rows, may change meanwhile; NULL: none */
    int32_t n_rows;               /* rows from here on do not exist for it */
    int32_t on_card;              /* the space no longer changes: a copy of it may be searched */
};

struct vector_found {
    int32_t row;
    float score, distance; /* as infer_metric defines them */
};

struct vector_how {
    int32_t path; /* infer_search_path */
    int32_t exact, ef, on_card;
    int64_t n_compared;
};

infer_status vector_space_create(struct vector_space **out,
                                 const struct vector_space_config *config);
/* In a file that vector_space_write() wrote. The file outlives the space. Every number that leads
 * somewhere is checked where it is used, so that a damaged file gives FORMAT or wrong answers, and
 * no harm. */
infer_status vector_space_open(struct vector_space **out, const struct vector_space_config *config,
                               const struct vector_file *file);
void vector_space_destroy(struct vector_space **space);

/* Appends n vectors as rows from *first on; they are found by searches that begin after it
 * returned. One call at a time (the caller locks); searches go on meanwhile and see rows below
 * their n_rows. With a pool the graph is built on all its threads. On a failure nothing is
 * appended. */
infer_status vector_space_add(struct vector_space *space, const float *vectors, int32_t n,
                              int32_t *first, struct base_pool *pool);
int32_t vector_space_size(const struct vector_space *space);
void vector_space_get(const struct vector_space *space, int32_t row, float *out); /* as stored */
uint64_t vector_space_bytes(const struct vector_space *space);                    /* allocated */

infer_status vector_scratch_create(struct vector_scratch **out, const struct base_alloc *a);
void vector_scratch_destroy(struct vector_scratch **scratch);

/* The best k rows at most, best first; equals by row. */
infer_status vector_space_search(const struct vector_space *space, struct vector_scratch *scratch,
                                 const struct vector_search *search, struct vector_found *found,
                                 int32_t *n_found, struct vector_how *how);

/* n searches at once on the pool's threads (NULL: this one): found has room for k of each, one
 * behind the other. Groups what is faster together, such as exact searches over the same rows. */
infer_status vector_space_search_many(const struct vector_space *space, struct base_pool *pool,
                                      const struct vector_search *searches, int32_t n,
                                      struct vector_found *const *found, int32_t *n_found,
                                      struct vector_how *how);

/* Of a space that no longer grows: makes partitions of many rows, and measures on the space's own
 * vectors how much work which recall takes (what `recall` goes by). A fixed space has both in its
 * file. */
infer_status vector_space_tune(struct vector_space *space, struct base_pool *pool);

/* A space of the rows of several that are not dead, in their order: what merging is. Whether a
 * graph that is there is kept and mended or all is built anew is its choice. `progress` may be
 * NULL. */
struct vector_source {
    const struct vector_space *space;
    const uint64_t *dead; /* NULL: none */
    int32_t n_rows;
};
infer_status vector_space_merge(struct vector_space **out, const struct vector_space_config *config,
                                const struct vector_source *sources, int32_t n,
                                struct base_pool *pool, infer_progress_fn progress, void *user);

/* Whether a merge of this space alone would give it a graph. */
int32_t vector_space_lacks_graph(const struct vector_space *space);

/* Sections of a file: shape, vectors, codes, graph, partitions, what tuning found. */
infer_status vector_space_write(const struct vector_space *space,
                                struct vector_file_writer *writer);

#endif
