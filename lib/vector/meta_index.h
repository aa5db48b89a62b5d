/* The indexed fields of a meta, as readers hold them: a list that never changes and is replaced as
 * a whole. Only the files of lib/vector that keep metadata and answer filters include this. */
#ifndef VECTOR_META_INDEX_H
#define VECTOR_META_INDEX_H

#include "vector/column.h"
#include "vector/meta.h"

/* Rows that came since the last column was built are read as text: so many at most are left, or
 * more where memory was short. */
#define VECTOR_META_TAIL 128

struct vector_meta_field {
    struct base_view path;
    struct vector_column_stack stack; /* one behind the other, from row 0 on */
};

struct vector_meta_index {
    struct base_alloc alloc;
    _Atomic int32_t n_holders;
    int32_t end; /* rows below are in the columns of every field */
    int32_t n;
    struct vector_meta_field fields[];
};

/* The newest; the caller drops it. */
struct vector_meta_index *vector_meta_index_hold(const struct vector_meta *meta);
void vector_meta_index_drop(struct vector_meta_index **index); /* NULL-safe */
/* NULL: not indexed. */
const struct vector_meta_field *vector_meta_index_field(const struct vector_meta_index *index,
                                                        struct base_view path);
/* Of its own columns. */
uint64_t vector_meta_index_bytes(const struct vector_meta_index *index);

/* With the fields of `index` (NULL: none), whose columns it holds too, and room for one more. */
struct vector_meta_index *vector_meta_index_copy(const struct vector_meta_index *index,
                                                 const struct base_alloc *a, int32_t extra);
/* Columns over the rows of `meta` below `end` that fields lack. What was done of it stays where it
 * fails. */
infer_status vector_meta_index_extend(struct vector_meta_index *index,
                                      const struct vector_meta *meta, int32_t end);

/* The text of a row; FORMAT where the file is damaged. */
infer_status vector_meta_text(const struct vector_meta *meta, int32_t row, const char **json,
                              size_t *size);

/* Builds the columns of several fields in one pass over texts. */
struct vector_meta_builder {
    struct base_alloc alloc;
    struct vector_paths *paths;
    int32_t n;
    struct vector_column_builder *fields;
};

infer_status vector_meta_builder_init(struct vector_meta_builder *b, const struct base_alloc *a,
                                      const struct base_view *paths, int32_t n);
void vector_meta_builder_release(struct vector_meta_builder *b);
/* A row of which a field knows already (its `begin` is beyond) is passed over by that one. */
infer_status vector_meta_builder_add(struct vector_meta_builder *b, int32_t row, const char *json,
                                     size_t size);

/* A path that can be indexed: INVALID otherwise. */
infer_status vector_meta_check_path(const char *path);

#endif
