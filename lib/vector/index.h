/* The index: parts that are searched together, written to through a log. lib/index*.c check what
 * an application hands in and call these. */
#ifndef VECTOR_INDEX_H
#define VECTOR_INDEX_H

#include "vector/folder.h"

#include <infer/index.h>

#define VECTOR_TOP_K_MAX 65536

struct vector_index_config {
    const struct base_alloc *alloc;
    const char *path;            /* NULL: in memory */
    struct vector_traits traits; /* dims 0: those of the index that is there */
    int32_t sync;                /* infer_index_sync */
    int32_t read_only, must_exist;
    int32_t n_threads;           /* 0: one a core */
    int32_t no_background;       /* 1: no thread */
    int32_t no_graph;            /* 1: partitions alone */
    int32_t freeze_rows;         /* a part that grows is written at so many rows; 0: by default */
    int32_t keep_rows;           /* fewer stay in the log at closing; 0: by default */
    struct infer_device *device; /* NULL: none. Parts that are fixed are copied to a GPU ... */
    int32_t device_rows;        /* from so many rows on, whether it pays or not; 0: where it pays */
    infer_progress_fn progress; /* NULL: none */
    void *user;
};

struct vector_query {
    const float *vector; /* or NULL: of the record `id` */
    struct base_view id, space;
    const char *filter; /* NULL: all */
    int32_t k;
    float recall;
    int32_t ef;
    int32_t codes_alone;
    uint32_t with; /* INFER_INDEX_WITH_... */
};

struct vector_counts {
    struct vector_traits traits; /* strings borrowed from the index */
    int32_t n_spaces, n_parts, read_only;
    uint64_t n_records, n_deleted, memory_bytes, mapped_bytes, file_bytes, log_bytes;
    uint64_t n_queries, n_upserts, n_deletes, n_compactions;
    const char *failure;
    uint64_t device_bytes, n_on_device; /* of copies; records in these */
    const char *device_failure;         /* NULL: none */
};

infer_status vector_index_open(struct infer_index **out, const struct vector_index_config *config);
void vector_index_close(struct infer_index **index);

infer_status vector_index_upsert(struct infer_index *index, const infer_record *records, size_t n);
infer_status vector_index_delete(struct infer_index *index, struct base_view space,
                                 const char *const *ids, size_t n, size_t *n_deleted);
infer_status vector_index_delete_where(struct infer_index *index, struct base_view space,
                                       const char *filter, size_t *n_deleted);

infer_status vector_index_search(struct infer_hits **out, struct infer_index *index,
                                 const struct vector_query *queries, size_t n);
infer_status vector_index_get(struct infer_hits **out, struct infer_index *index,
                              struct base_view space, const char *const *ids, size_t n,
                              uint32_t with);
infer_status vector_index_list(struct infer_hits **out, struct infer_index *index,
                               struct base_view space, const char *filter, struct base_view after,
                               size_t limit, uint32_t with);
/* space.data NULL: all of them. */
infer_status vector_index_count(struct infer_index *index, struct base_view space,
                                const char *filter, uint64_t *count);

infer_status vector_index_counts(struct infer_index *index, struct vector_counts *counts);
const struct base_alloc *vector_index_alloc(const struct infer_index *index);
/* INVALID where vectors of another embedding are handed in than the index has. */
infer_status vector_index_check_stamp(const struct infer_index *index,
                                      const struct vector_traits *given);
infer_status vector_index_add_field(struct infer_index *index, const char *path);
infer_status vector_index_compact(struct infer_index *index);
infer_status vector_index_verify(struct infer_index *index);
infer_status vector_index_snapshot(struct infer_index *index, const char *path);

#endif
