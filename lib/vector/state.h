/* What an index consists of: for the files that implement it. */
#ifndef VECTOR_STATE_H
#define VECTOR_STATE_H

#include "vector/hits.h"
#include "vector/index.h"
#include "vector/part.h"

#include <pthread.h>

#define INDEX_FREEZE_ROWS   32768
#define INDEX_FREEZE_BYTES  (INT64_C(128) << 20) /* of its log */
#define INDEX_BULK_ROWS     4096 /* calls so large fill larger parts: together built, not merged */
#define INDEX_BULK_FACTOR   4    /* so many times more */
#define INDEX_FROZEN_MAX    4    /* parts that wait to be written; then one grows on */
#define INDEX_DEAD_SHARE    5    /* a fifth of a part is deleted: it is written anew */
#define INDEX_KEEP_ROWS     512  /* fewer stay in the log at closing: reading them again is quick */
#define INDEX_VERIFY_BYTES  (UINT64_C(8) << 20) /* files up to here are read wholly when opened */
#define INDEX_PATH_MAX      4096
#define INDEX_SEED          0x696e646578 /* of the graph's levels; the same each time */
#define INDEX_SCRATCHES     64
#define INDEX_MERGE_MAX     64
#define INDEX_FAILURE_BYTES (1 << 20) /* of sentences that are kept */
#define INDEX_VIEW_PARTS    16

/* Parts as they are searched: fixed ones first, the one that grows last. */
struct index_parts {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    int32_t n;
    struct vector_part *part[];
};

/* Locks are taken in this order: work, commit, writer, publish. */
struct infer_index {
    struct base_alloc alloc;
    struct vector_space_config space; /* of new ones */
    struct infer_kernels kernels;
    struct vector_card *card; /* NULL: none */
    struct vector_traits traits;
    struct base_arena texts; /* of traits; under publish also of failures */
    int32_t bulk;            /* the last call was large; under writer */
    int32_t sync, read_only, freeze_rows, keep_rows, n_threads, background;
    infer_progress_fn progress;
    void *user;

    struct vector_folder *folder; /* NULL: in memory */
    uint64_t deleted_file;        /* under commit */
    _Atomic uint64_t next_file;

    pthread_mutex_t work;    /* one merge or segment at a time */
    pthread_mutex_t commit;  /* what the manifest says */
    pthread_mutex_t writer;  /* the part that grows, the log, what is deleted */
    pthread_mutex_t publish; /* what readers see; held for moments */

    /* under publish; the writer reads `parts` without */
    struct index_parts *parts;
    uint64_t version; /* one more where rows were deleted or replaced */
    const char *failure;
    struct vector_scratch *scratches[INDEX_SCRATCHES];
    int32_t n_scratches;

    const char *fields[VECTOR_FIELDS_MAX]; /* under commit and writer; in `texts` */
    int32_t n_fields;

    pthread_mutex_t pools; /* their making */
    struct base_pool *query_pool, *write_pool, *work_pool;

    pthread_t thread;
    int32_t has_thread;
    pthread_mutex_t wake;
    pthread_cond_t wake_cond;
    int32_t poked; /* under wake */
    _Atomic int32_t stopping;

    _Atomic uint64_t seen_version; /* by the last query */
    _Atomic uint64_t n_queries, n_upserts, n_deletes, n_compactions;
};

/* ---- parts.c */
infer_status index_parts_make(struct index_parts **out, const struct base_alloc *a,
                              struct vector_part *const *parts, int32_t n);
void index_parts_release(struct index_parts **parts);
struct vector_part *index_growing(const struct infer_index *index); /* the writer's */
/* Puts the list in place of the one that is there; takes it. */
void index_parts_swap(struct infer_index *index, struct index_parts *parts);
infer_status index_growing_create(struct vector_part **out, struct infer_index *index);
/* With `writer`: another part grows from now on, with a log of its own. */
infer_status index_rotate(struct infer_index *index);
/* A pool for queries, writes or work, made at its first use; NULL: none could be. */
struct base_pool *index_pool(struct infer_index *index, struct base_pool **pool);
infer_status index_path(const struct infer_index *index, const char *kind, uint64_t number,
                        char *out);

/* ---- view.c: what a reader sees, from one moment. */
struct index_seen {
    struct vector_part *part;
    int32_t n_rows, n_dead;
    const _Atomic uint64_t *dead; /* NULL: none */
    _Atomic uint64_t *copy;
};

struct index_view {
    struct infer_index *index;
    struct index_parts *parts;
    uint64_t version;
    struct index_seen *seen; /* in the order of parts */
    struct index_seen some[INDEX_VIEW_PARTS];
    int32_t n;
};

/* With `copy` nothing that is written later shows; without, index_view_changed() tells whether it
 * may have. */
infer_status index_view_begin(struct index_view *view, struct infer_index *index, int32_t copy);
int32_t index_view_changed(const struct index_view *view);
void index_view_end(struct index_view *view);

static inline int32_t index_seen_alive(const struct index_seen *seen, int32_t row)
{
    return row >= 0 && row < seen->n_rows &&
           !(seen->dead &&
             atomic_load_explicit(&seen->dead[row / 64], memory_order_relaxed) >> row % 64 & 1);
}
/* Row of a record and which of the parts it is in; -1: there is none. */
int32_t index_view_find(const struct index_view *view, struct base_view space, struct base_view id,
                        int32_t *part);

/* ---- allowed.c: rows of a part that namespace and filter leave; deleted ones may be among them.
 */
struct vector_filter;
struct vector_kept;
struct index_allowed {
    struct vector_rows rows;
    /* Those of them whose metadata is yet to be asked, and how many; NULL: none. */
    const uint64_t *open;
    int32_t n_open;
    int64_t spent, spent_before; /* on asking single ones, by this query and others, in rows */
    const struct vector_meta *meta;
    const struct vector_filter *filter;
    int32_t group;
    uint64_t *own; /* bits of rows, then of open ones */
    struct vector_kept *kept;
};
/* may_wait: rows may stay open where there are many of them. */
infer_status index_allowed_find(struct index_allowed *allowed, const struct index_seen *seen,
                                const struct base_alloc *a, const struct base_view *space,
                                const struct vector_filter *filter, int32_t may_wait);
/* Asks what is open. */
infer_status index_allowed_read(struct index_allowed *allowed);
/* Whether a row of `rows` passes. */
infer_status index_allowed_ask(const struct index_allowed *allowed, int32_t row, int32_t *passes);
void index_allowed_release(struct index_allowed *allowed, const struct base_alloc *a);

/* ---- late.c: searches whose filter is asked of what they find. */
struct index_late {
    struct vector_search search; /* its rows are those of `allowed` */
    struct index_allowed *allowed;
    struct vector_found *found; /* room for search.k */
    int32_t n_found;
    struct vector_how how; /* of all that was done */
    int64_t n_left;        /* rows that the filter leaves, about */
    int32_t k;             /* that are searched for next */
};
infer_status index_search_late(struct infer_index *index, const struct index_seen *seen,
                               struct index_late *late, int32_t n);

/* ---- query.c */
infer_status index_search_space(struct infer_index *index, const struct vector_space *space,
                                const struct vector_search *searches, int32_t n,
                                struct vector_found *const *found, int32_t *n_found,
                                struct vector_how *how);

/* ---- records.c: what the log says. */
enum { INDEX_RECORD_UPSERT = 1, INDEX_RECORD_DELETE = 2, INDEX_RECORD_VOID = 3 };

/* One record of a write or of the log. */
struct index_input {
    struct base_view space, id, metadata;
    const uint8_t *vector; /* dims floats, of any alignment */
};

infer_status index_log_upsert(struct vector_log *log, const struct base_alloc *a,
                              const struct index_input *inputs, int32_t n, int32_t dims,
                              uint64_t *end);
infer_status index_log_delete(struct vector_log *log, const struct base_alloc *a,
                              struct base_view space, const struct base_view *ids, int32_t n,
                              uint64_t *end);
/* Reads what index_log_upsert() wrote. The views lead into `data`. */
infer_status index_read_upsert(const struct base_alloc *a, const uint8_t *data, size_t size,
                               int32_t dims, struct index_input **inputs, int32_t *n);
infer_status index_read_delete(const struct base_alloc *a, const uint8_t *data, size_t size,
                               struct base_view *space, struct base_view **ids, int32_t *n);

/* ---- write.c */
struct index_kill {
    struct vector_part *part;
    int32_t row;
};
/* With `writer`: the row that is alive now, and its part. */
int32_t index_find_alive(const struct infer_index *index, struct base_view space,
                         struct base_view id, struct vector_part **part);
/* With `writer`: shows rows of `part` (NULL: none) up to n_rows and deletes others in one moment;
 * returns how many were alive. */
size_t index_publish(struct infer_index *index, struct vector_part *part, int32_t n_rows,
                     struct part_dead *grown, const struct index_kill *kills, size_t n);
/* With `writer`: the part that grows should become a segment, and there is a thread for it. */
int32_t index_is_full(const struct infer_index *index);
/* With `writer`: appends vectors to a part's space, a few at a time. */
infer_status index_add_vectors(struct infer_index *index, struct vector_part *part,
                               const struct index_input *inputs, int32_t n);
/* With `writer`: the next rows of a part that has room for them. Rows that they replace are put
 * into `kills`, which has room for n more. */
void index_add_ids(struct infer_index *index, struct vector_part *part,
                   const struct index_input *inputs, int32_t n, struct index_kill *kills,
                   size_t *n_kills);

/* ---- recover.c */
/* Opens what a manifest names, in place of what there is. */
infer_status index_load(const struct vector_manifest *manifest, void *index);

/* ---- commit.c */
/* With `work`: `made` (NULL: nothing) takes the place of n parts; `gone` tells, for each, which
 * of its rows `made` does not have (NULL: it has all). On the disk before readers see it. Takes
 * made. */
infer_status index_replace(struct infer_index *index, struct vector_part *const *old, int32_t n,
                           uint64_t *const *gone, struct vector_part *made);
infer_status index_read_deleted(struct infer_index *index, uint64_t number);
struct index_manifest {
    struct vector_manifest is;
    uint64_t *segments; /* the caller frees it */
};
/* With `commit`. */
infer_status index_manifest_make(struct index_manifest *manifest, const struct infer_index *index,
                                 const struct index_parts *parts, uint64_t deleted_file);
infer_status index_commit_manifest(struct infer_index *index, const struct index_parts *parts,
                                   uint64_t deleted_file);

/* ---- compact.c */
/* With `work`: writes what waits to be written; all that is there is, with `all`. */
infer_status index_flush(struct infer_index *index, int32_t all);
infer_status index_merge(struct infer_index *index, struct vector_part *const *parts, int32_t n,
                         infer_progress_fn progress, void *user);

/* All of a view becomes one part of an empty index. */
infer_status index_copy_into(struct infer_index *index, const struct index_view *from,
                             infer_progress_fn progress, void *user);

/* ---- worker.c */
infer_status index_worker_start(struct infer_index *index);
void index_worker_stop(struct infer_index *index);
void index_poke(struct infer_index *index);
void index_fail(struct infer_index *index, infer_status st); /* with this thread's sentence */
void index_fine(struct infer_index *index);

#endif
