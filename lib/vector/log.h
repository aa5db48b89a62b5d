/* The write-ahead log: records that are whole or not there. */
#ifndef VECTOR_LOG_H
#define VECTOR_LOG_H

#include "base/alloc.h"

struct vector_log;

struct vector_log_part {
    const void *data;
    size_t size;
};

/* Told every whole record in order; what it returns other than OK ends the replay. */
typedef infer_status (*vector_log_fn)(uint32_t type, const uint8_t *data, size_t size, void *user);

/* Opens or makes the log and tells what is in it. A torn end, as a crash leaves it, is cut off;
 * damage in front of whole records is FORMAT, by file and offset. With read_only nothing is
 * written, and a file that is not there is an empty log. */
infer_status vector_log_open(struct vector_log **out, const struct base_alloc *a, const char *path,
                             int32_t read_only, vector_log_fn fn, void *user);
/* Appends a record; on a failure (a full disk) the log is as before, or refuses all that follows by
 * the same sentence if even that cannot be had. *end is where it ends. One call at a time. */
infer_status vector_log_append(struct vector_log *log, uint32_t type,
                               const struct vector_log_part *parts, int32_t n, uint64_t *end);
/* Returns when everything up to `end` is on the disk; concurrent callers share flushes. */
infer_status vector_log_sync(struct vector_log *log, uint64_t end);
uint64_t vector_log_size(const struct vector_log *log);
void vector_log_close(struct vector_log **log);

#endif
