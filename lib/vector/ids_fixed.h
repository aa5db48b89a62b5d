/* How ids lie in memory: what ids.c and ids_fixed.c share. */
#ifndef VECTOR_IDS_FIXED_H
#define VECTOR_IDS_FIXED_H

#include "vector/chunks.h"
#include "vector/ids.h"

/* A namespace of fixed ids, as it is in the file. They are sorted by name. */
struct ids_space {
    uint64_t name_at;
    uint32_t name_size;
    int32_t first, count; /* of its rows, in `order` */
    int32_t bits;         /* which bitmap is its own; -1: none */
};

/* A namespace of ids that grow. */
struct ids_growing_space {
    _Atomic int32_t last; /* row; from there `previous` leads; -1: none */
    _Atomic int32_t count, alive;
};

struct vector_ids {
    struct base_alloc alloc;
    const char *path; /* of the file that it lies in; "" */
    int32_t fixed;

    struct vector_names *names, *space_names; /* ids by namespace; namespaces */
    struct vector_chunks previous;            /* of a row: the one before in its namespace */
    struct vector_chunks spaces;              /* ids_growing_space */
    _Atomic int32_t n_growing_spaces;
    int32_t n_growing; /* the writer's */

    int32_t n_rows, n_spaces, n_bitmaps;
    const uint8_t *text, *space_text;
    size_t text_size, space_text_size;
    const uint32_t *at;   /* where an id begins, from the base of its 65,536 rows on */
    const uint64_t *base; /* BASE_DIV_UP(n_rows, IDS_BASE_ROWS) */
    const int32_t *order; /* rows by namespace, id, row */
    const struct ids_space *table;
    const uint32_t *row_space; /* NULL: all are in the only namespace */
    const uint64_t *bitmaps;
    _Atomic int32_t *alive; /* by namespace */
    void *owned[8];         /* arrays that do not lie in a file */
    uint64_t owned_bytes;
};

#define IDS_BASE_ROWS 65536

struct base_view ids_fixed_space_name(const struct vector_ids *ids, int32_t space);
int32_t ids_fixed_space(const struct vector_ids *ids, struct base_view name);
/* Position in `order` of the first id of the namespace behind `id`. */
int32_t ids_fixed_behind(const struct vector_ids *ids, int32_t space, struct base_view id);

/* What sorting looks at first. */
struct ids_key {
    uint64_t prefix; /* the first bytes, big end first */
    uint32_t space;
    int32_t row;
};
struct ids_key ids_key_of(struct base_view id, uint32_t space, int32_t row);
/* By namespace, id and row; heap sort: no memory, and no order is a bad one. */
void ids_sort(const struct vector_ids *ids, struct ids_key *keys, int32_t n);

#endif
