/* The write-ahead log: records that are whole or not there.
 *
 * All numbers are little-endian. A log is
 *
 *     header, 64 bytes
 *        0  8  "INFERVL\n"
 *        8  4  format; a newer one than VECTOR_LOG_FORMAT is refused by name
 *       12  4  INFER_VERSION of who made it; for people
 *       16  8  random number of this log, the seed of all its checksums
 *       24 32  unused, 0
 *       56  8  XXH3-64 of the 56 bytes before, with the seed 0
 *     records, each on 8 bytes with zeros up to there
 *        0  4  "rec\n"
 *        4  4  type; VECTOR_LOG_CLOSED is the log's own
 *        8  8  where this record begins
 *       16  8  bytes of what follows the head
 *       24  8  up to where the log was known to be on the disk when this was written
 *       32  8  XXH3-64 of what follows the head
 *       40  8  checksum of the head of the record before (0: it is the first)
 *       48  8  XXH3-64 of the 48 bytes before
 *
 * A record is bound to its place and to the one before it, so that nothing old that a disk brings
 * back is taken for new.
 *
 * What a crash leaves and what damage is: a crash can lose anything behind the last flush, also
 * the middle of it, which file systems then show as sectors of zeros. So where a record is not
 * whole, the log looks for heads behind it that are. There is none: that is the end, and is cut
 * off. There is one: if it knows that the broken place had been on the disk, or if the broken place
 * holds no sector of zeros, then it is damage, which is FORMAT; else it is what a power cut left.
 * Damage to the last record cannot be told from a crash, but a log that was closed ends in a record
 * that says so, and that one holds nothing. */
#ifndef VECTOR_LOG_H
#define VECTOR_LOG_H

#include "base/alloc.h"

#define VECTOR_LOG_FORMAT 1
#define VECTOR_LOG_HEADER 64
#define VECTOR_LOG_HEAD   56
#define VECTOR_LOG_CLOSED 0xffffffffu /* no type for records of others */

struct vector_log;

struct vector_log_part {
    const void *data;
    size_t size;
};

/* Told every whole record in order; what it returns other than OK ends the replay. */
typedef infer_status (*vector_log_fn)(uint32_t type, const uint8_t *data, size_t size, void *user);

/* Opens or makes the log and tells what is in it. A torn end, as a crash leaves it, is cut off;
 * damage in front of whole records is FORMAT, by file and offset. With read_only nothing is
 * written, and a file that is not there is an empty log. BUSY where another one has it open for
 * writing. */
infer_status vector_log_open(struct vector_log **out, const struct base_alloc *a, const char *path,
                             int32_t read_only, vector_log_fn fn, void *user);
/* Appends a record; on a failure (a full disk) the log is as before, or refuses all that follows by
 * the same sentence if even that cannot be had. *end is where it ends. One call at a time, also
 * beside vector_log_sync(). */
infer_status vector_log_append(struct vector_log *log, uint32_t type,
                               const struct vector_log_part *parts, int32_t n, uint64_t *end);
/* Returns when everything up to `end` is on the disk; concurrent callers share flushes. When a
 * flush has failed once nobody knows what is on the disk: all that follows fails, appending too. */
infer_status vector_log_sync(struct vector_log *log, uint64_t end);
/* Reads all up to the last record whole and compares checksums, beside appends. */
infer_status vector_log_verify(const struct vector_log *log);
uint64_t vector_log_size(const struct vector_log *log); /* where the next record goes */
void vector_log_close(struct vector_log **log);         /* NULL-safe; flushes nothing */

#endif
