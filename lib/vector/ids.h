/* The ids of a part's rows and the namespaces they are in: found by name, walked in the order of
 * their bytes, gathered by namespace. They grow in memory beside readers, who see the rows below a
 * count that they came with; or they are fixed, in memory or in a mapped file. */
#ifndef VECTOR_IDS_H
#define VECTOR_IDS_H

#include "vector/file.h"
#include "vector/names.h"

#include <stdatomic.h>

struct vector_ids;

infer_status vector_ids_create(struct vector_ids **out, const struct base_alloc *a);
void vector_ids_destroy(struct vector_ids **ids);
int32_t vector_ids_size(const struct vector_ids *ids);   /* rows; where it grows, the writer's */
uint64_t vector_ids_bytes(const struct vector_ids *ids); /* allocated */

/* Room for n rows more, their ids and namespaces so many bytes long, so that add cannot fail. */
infer_status vector_ids_reserve(struct vector_ids *ids, int32_t n, size_t id_bytes,
                                size_t space_bytes);
/* Returns the row. */
int32_t vector_ids_add(struct vector_ids *ids, struct base_view space, struct base_view id);

/* Namespaces have numbers from 0 on; -1: there is none of that name. */
int32_t vector_ids_space(const struct vector_ids *ids, struct base_view name);
int32_t vector_ids_spaces(const struct vector_ids *ids); /* how many */
struct base_view vector_ids_space_name(const struct vector_ids *ids, int32_t space);
int32_t vector_ids_space_of(const struct vector_ids *ids, int32_t row);
int32_t vector_ids_count(const struct vector_ids *ids, int32_t space); /* rows, deleted ones too */
/* Rows of it that are not deleted; the caller keeps it. */
_Atomic int32_t *vector_ids_alive(const struct vector_ids *ids, int32_t space);

/* The newest row of that id below n_rows, or -1. */
int32_t vector_ids_find(const struct vector_ids *ids, int32_t space, struct base_view id,
                        int32_t n_rows);
/* FORMAT where the file is damaged there. */
infer_status vector_ids_get(const struct vector_ids *ids, int32_t row, struct base_view *id);
/* Brings what that will read of a row in a file to the cache: where its text is, and some time
 * later, with `text`, the text. */
void vector_ids_expect(const struct vector_ids *ids, int32_t row, int32_t text);

/* Bits of a namespace's rows, where they lie ready; else NULL. */
const uint64_t *vector_ids_bits(const struct vector_ids *ids, int32_t space);
/* Sets them, for rows below n_rows, and tells how many. */
int32_t vector_ids_mark(const struct vector_ids *ids, int32_t space, int32_t n_rows,
                        uint64_t *bits);

/* Rows of a namespace in the order of their ids, of one id in the order of rows. */
struct vector_ids_walk {
    const struct vector_ids *ids;
    int32_t *own; /* rows that had to be sorted */
    const int32_t *rows;
    int32_t n, at, n_rows;
};

/* From the first id behind `after` on (size 0: from the first). */
infer_status vector_ids_walk_begin(struct vector_ids_walk *walk, const struct base_alloc *a,
                                   const struct vector_ids *ids, int32_t space,
                                   struct base_view after, int32_t n_rows);
/* DONE at the end. */
infer_status vector_ids_walk_next(struct vector_ids_walk *walk, int32_t *row, struct base_view *id);
void vector_ids_walk_end(struct vector_ids_walk *walk, const struct base_alloc *a);

/* Fixed ids of the rows of several that are not dead, in their order. */
struct vector_ids_source {
    const struct vector_ids *ids;
    const uint64_t *dead; /* NULL: none */
    int32_t n_rows;
};
infer_status vector_ids_merge(struct vector_ids **out, const struct base_alloc *a,
                              const struct vector_ids_source *sources, int32_t n);
infer_status vector_ids_write(const struct vector_ids *ids, struct vector_file_writer *writer);
infer_status vector_ids_open(struct vector_ids **out, const struct base_alloc *a,
                             const struct vector_file *file);
/* Walks all rows: every one is in its place. */
infer_status vector_ids_verify(const struct vector_ids *ids);

#endif
