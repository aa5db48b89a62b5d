/* One walk along the graph: the best rows for a query by codes, nearest first. */
#ifndef VECTOR_WALK_H
#define VECTOR_WALK_H

#include "vector/graph.h"

/* Flags in the upper bits of a candidate's row, so that spaces end at 2^30 rows. */
#define VECTOR_WALKED   UINT32_C(0x80000000) /* its neighbours were looked at */
#define VECTOR_BARRED   UINT32_C(0x40000000) /* deleted or not allowed: a way, no hit */
#define VECTOR_ROW_BITS UINT32_C(0x3fffffff)
#define VECTOR_ROWS_MAX (1 << 30)

struct vector_candidate {
    float score; /* by codes */
    uint32_t row;
};

/* Memory of a walk, which grows as needed. */
struct vector_walk_room {
    struct base_alloc alloc;
    uint64_t *visited;
    size_t n_words;
    struct vector_candidate *list;
    int32_t n_list;
};

struct vector_walk {
    const struct vector_graph_view *graph;
    const struct vector_code_query *code; /* NULL: rows are compared as they are kept */
    const struct vector_view *vectors;
    const struct vector_query *query;
    const struct vector_rows *allowed; /* NULL: all rows */
    const _Atomic uint64_t *dead;      /* NULL: none */
    int32_t n_rows;
    int32_t ef;      /* as many that are not barred */
    int32_t room;    /* as many with those that are, ef at least */
    int32_t effort;  /* lists that are read at most */
    int32_t without; /* a row that is not there; -1: none */
    /* what was found: */
    struct vector_candidate *list; /* in the room, best first */
    int32_t n, n_live, n_lists;
    int64_t n_compared;
};

void vector_walk_room_init(struct vector_walk_room *room, const struct base_alloc *a);
void vector_walk_room_release(struct vector_walk_room *room);
infer_status vector_walk_room_reserve(struct vector_walk_room *room, int32_t n_rows,
                                      int32_t n_list);

/* The room was reserved for n_rows and walk->room + 1. */
void vector_walk_run(struct vector_walk *walk, struct vector_walk_room *room);

static inline int vector_rows_has(const struct vector_rows *rows, int32_t row)
{
    return row < rows->n && rows->bits[row / 64] >> row % 64 & 1;
}

static inline int vector_is_dead(const _Atomic uint64_t *dead, int32_t row)
{
    return atomic_load_explicit(dead + row / 64, memory_order_relaxed) >> row % 64 & 1;
}

#endif
