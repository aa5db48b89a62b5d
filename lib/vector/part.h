/* A part of an index: the rows that came in one stretch of time, with their vectors, metadata and
 * ids. One part grows; the others are fixed, most of them in mapped files. Of a fixed part only
 * what is deleted changes. */
#ifndef VECTOR_PART_H
#define VECTOR_PART_H

#include "vector/ids.h"
#include "vector/log.h"
#include "vector/meta.h"
#include "vector/space.h"

/* Bits of deleted rows. They are replaced where they must grow; readers may be in the ones
 * before. */
struct part_dead {
    struct part_dead *before;
    int32_t n_words;
    _Atomic uint64_t words[];
};

struct part_log {
    uint64_t number, bytes;
};

struct vector_part {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    uint64_t file;                /* number of its segment; 0: it is in memory */
    uint64_t first_log, last_log; /* of a part in memory: where its rows are too */
    struct vector_log *log;       /* last_log, while it is open */
    struct part_log *old_logs;    /* that were read before it, when the index was opened */
    int32_t n_old_logs;
    struct vector_file *mapped;
    struct vector_space *space;
    struct vector_meta *meta;
    struct vector_ids *ids;
    _Atomic int32_t fixed; /* it has its final form */
    int32_t sealed;        /* nothing more goes in: a write failed on the way */
    _Atomic int32_t stale; /* an index over a field is not in its file */
    /* Under the index's `publish`; its writer reads them without. */
    int32_t n_rows, n_dead;
    struct part_dead *dead;
};

/* Takes space, meta and ids (and mapped), also on failure. */
infer_status vector_part_make(struct vector_part **out, const struct base_alloc *a,
                              struct vector_space *space, struct vector_meta *meta,
                              struct vector_ids *ids, struct vector_file *mapped);
/* A segment's file; one of at most so many bytes is read wholly, to notice damage at once. */
infer_status vector_part_open(struct vector_part **out, const struct vector_space_config *config,
                              const char *path, uint64_t number, uint64_t verify_bytes);
struct vector_part *vector_part_retain(struct vector_part *part);
void vector_part_release(struct vector_part **part); /* NULL-safe */

/* Room for the bits of n rows, before they are published; the writer's. */
infer_status vector_part_reserve(struct vector_part *part, int32_t n_rows,
                                 struct part_dead **grown);
/* Under `publish`. Whether it was alive. */
int32_t vector_part_kill(struct vector_part *part, int32_t row);
/* Under `publish`: rows up to n_rows are there. */
void vector_part_show(struct vector_part *part, int32_t n_rows);

static inline int32_t vector_part_is_dead(const struct part_dead *dead, int32_t row)
{
    return (int32_t)(atomic_load_explicit(&dead->words[row / 64], memory_order_relaxed) >>
                         row % 64 &
                     1);
}

/* Writes rows below n_rows as a segment. */
infer_status vector_part_write(const struct vector_part *part, int32_t n_rows, const char *path,
                               const char *const *fields, int32_t n_fields);

#endif
