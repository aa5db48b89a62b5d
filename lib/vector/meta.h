/* The JSON metadata of rows, and indexes over some of its fields. Grows in memory, or is fixed in a
 * mapped file. One writer (the caller locks) beside any number of readers, who see rows below the
 * count that they came with. */
#ifndef VECTOR_META_H
#define VECTOR_META_H

#include "base/thread.h"
#include "vector/file.h"

#define VECTOR_META_MAX   (1 << 20) /* bytes of a row's metadata */
#define VECTOR_FIELDS_MAX 64

struct vector_meta;

infer_status vector_meta_create(struct vector_meta **out, const struct base_alloc *a,
                                const char *const *fields, int32_t n_fields);
infer_status vector_meta_open(struct vector_meta **out, const struct base_alloc *a,
                              const struct vector_file *file);
void vector_meta_destroy(struct vector_meta **meta);

/* A JSON object within the limits; FORMAT names the place. */
infer_status vector_meta_check(const struct base_alloc *a, const char *json, size_t size);
/* Of the next row; NULL: none. Checked before. */
infer_status vector_meta_add(struct vector_meta *meta, const char *json, size_t size);
int32_t vector_meta_size(const struct vector_meta *meta);
/* The text as it was written; size 0: none. Borrowed from the meta. */
void vector_meta_get(const struct vector_meta *meta, int32_t row, const char **json, size_t *size);
uint64_t vector_meta_bytes(const struct vector_meta *meta);

/* Indexes a field from now on, what is there included; of a fixed one too, whose index then is in
 * memory until it is written. Readers go on meanwhile. */
infer_status vector_meta_add_field(struct vector_meta *meta, const char *path);

/* Sections of a file, for the rows of `keep` (NULL: all) in their order, of several metas one
 * behind the other; fields are indexed in it. */
struct vector_meta_source {
    const struct vector_meta *meta;
    const uint64_t *dead; /* rows to leave out; NULL: none */
    int32_t n_rows;
};
infer_status vector_meta_write(const struct vector_meta_source *sources, int32_t n,
                               const struct base_alloc *a, const char *const *fields,
                               int32_t n_fields, struct vector_file_writer *writer);

#endif
