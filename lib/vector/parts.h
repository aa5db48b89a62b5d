/* What the files of a space share. */
#ifndef VECTOR_PARTS_H
#define VECTOR_PARTS_H

#include "vector/build.h"
#include "vector/card.h"
#include "vector/partitions.h"

#define VECTOR_GRAPH_FROM  1024 /* rows from which on there is a graph */
#define VECTOR_THREADS_MAX 256

struct vector_space {
    struct base_alloc alloc;
    struct vector_space_config config;
    int32_t is_fixed;
    struct vector_vectors *vectors;
    _Atomic(struct vector_graph *) graph; /* NULL: few rows; of degree 0: their codes alone */
    _Atomic(struct vector_partitions *) partitions; /* NULL: few rows, or they still grow */
    struct vector_builder *builders[VECTOR_THREADS_MAX];
    int32_t n_builders;
    struct vector_copy *copy; /* a place for one on a card; NULL: there is no card */
    /* ef that reached a recall, as measured; 0: not measured, INT32_MAX: none did. */
    _Atomic int32_t pace[VECTOR_PACE_KS][VECTOR_PACE_LEVELS];
};

extern const int32_t vector_pace_ks[VECTOR_PACE_KS];
extern const float vector_pace_levels[VECTOR_PACE_LEVELS];

/* How far to read partitions for a recall of k hits, and how many rows that takes. */
struct vector_way {
    float reach, n_rows;
};
struct vector_way vector_pace_reach(const struct vector_partitions *partitions, float k,
                                    float recall);
/* Candidates that a walk has to keep for a recall. */
int32_t vector_pace_ef(const struct vector_space *space, int32_t k, float recall);

infer_status vector_check_shape(const struct vector_shape *shape);

/* How a search is done. */
struct vector_plan {
    int32_t path; /* infer_search_path */
    int32_t exact;
    int32_t ef, room, effort; /* of a walk */
    int32_t n_keep;           /* rows of a scan that are compared as they are kept */
    int32_t n_near;           /* hits of which the worst says how far to read partitions */
    float reach;              /* and so far; see partitions.h */
    const struct vector_partitions *partitions; /* NULL: another way */
};

/* `graph` may be NULL; n_rows and n_allowed are at least 1. Without `may_probe` not through
 * partitions. */
struct vector_plan vector_plan_make(const struct vector_space *space,
                                    const struct vector_graph *graph,
                                    const struct vector_search *search, int32_t n_rows,
                                    int32_t n_allowed, int32_t may_probe);

/* A search whose query was checked; `without` is a row that is not there, -1: none. */
infer_status vector_search_run(const struct vector_space *space, struct vector_scratch *scratch,
                               const struct vector_search *search, int32_t without,
                               struct vector_found *found, int32_t *n_found,
                               struct vector_how *how);

/* ---- building, in build_many.c */

/* Builders for so many threads, ready for rows below n_rows. */
infer_status vector_build_reserve(struct vector_space *space, const struct vector_coder *coder,
                                  int32_t n_threads, int32_t n_rows);
/* A coder for vectors like these, `view` and n more as they were handed in; NULL for BINARY. */
infer_status vector_build_coder(struct vector_space *space, const struct vector_view *view,
                                const float *more, int32_t n, struct vector_coder **out);
/* Codes of the rows of the view from `from` on. */
void vector_build_codes(struct vector_space *space, struct vector_graph *graph,
                        const struct vector_view *view, int32_t from, struct base_pool *pool);
/* Links the rows from `from` up to `to`. */
void vector_build_links(struct vector_space *space, struct vector_graph *graph,
                        const struct vector_view *view, int32_t from, int32_t to,
                        struct base_pool *pool);

#endif
