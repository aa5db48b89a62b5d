/* Exact search of many queries by the bytes of rows; inside lib/vector/flat*.c. */
#ifndef VECTOR_FLAT_BYTES_H
#define VECTOR_FLAT_BYTES_H

#include "vector/best.h"
#include "vector/flat.h"

/* What turns the best score so far into a limit for the sum of a tile. */
struct flat_bound {
    double scale; /* of the query's bytes; more than 0 */
    float length, error, square;
};

/* Queries that are searched together. */
struct flat_group {
    const struct vector_query *queries;
    int32_t n;
    int8_t *panels;
    struct flat_bound *bounds; /* one a query */
};

/* A thread's share. */
struct flat_bytes {
    const struct vector_view *view;
    const struct flat_group *group;
    struct vector_best *best;
    struct kern_vector_limits *limits; /* one a panel */
    struct kern_vector_hit *hits;
    int8_t *bytes; /* VECTOR_BLOCK rows */
    int32_t block; /* rows that are best compared at a time */
};

static inline size_t flat_panels(int32_t n)
{
    return ((size_t)n + KERN_VECTOR_PANEL - 1) / KERN_VECTOR_PANEL;
}

int32_t flat_bytes_pays(const struct vector_view *view, int32_t n);
int32_t flat_bytes_most(const struct vector_view *view); /* queries of a group */
size_t flat_bytes_room(const struct vector_view *view, int32_t n);
/* Bytes and bounds of the group's queries; `room` is that of one thread. */
void flat_group_pack(const struct vector_view *view, struct flat_group *group, void *room);
void flat_bytes_begin(struct flat_bytes *bytes, const struct vector_view *view,
                      const struct flat_group *group, struct vector_best *best, void *room);
/* Compares n rows, VECTOR_BLOCK at most, with all queries; n_ahead rows behind them come next. */
void flat_bytes_compare(struct flat_bytes *bytes, const int32_t *rows, int32_t n, int32_t n_ahead);

#endif
