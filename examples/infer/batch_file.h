/* The results of a batch: a file of JSON lines that a killed run leaves and the next goes on with.
 */
#ifndef INFER_BATCH_FILE_H
#define INFER_BATCH_FILE_H

#include "buffer.h"

#include <stdint.h>

struct batch_done { /* 128 bits of hash stand for an id; equal ids are counted */
    uint64_t a, b, n;
};

struct batch_file {
    const char *path; /* for messages */
    int fd;
    int is_regular;
    struct batch_done *done; /* sorted */
    size_t n_done, capacity;
    uint64_t n_lines, n_failed; /* what the file already had, and how many of them are errors */
};

/* Opens the file, "-" for stdout. One that has lines already is refused unless `resume` or `force`
 * says what to do with them; with `resume` a torn last line is cut off. No two programs write one
 * file at a time. Returns an exit status, having said what failed. */
int batch_file_open(struct batch_file *file, const char *path, int resume, int force);

/* Whether a result of this id (empty: of the line of this number) was there when the file was
 * opened. Each is found as often as it was there. */
int batch_file_has(struct batch_file *file, const struct buffer *id, uint64_t number);

/* Writes a line at once, so that a kill tears the last one at most. Returns an exit status. */
int batch_file_write(struct batch_file *file, const char *text, size_t size);

/* Returns an exit status: some disks say only here that they are full. */
int batch_file_close(struct batch_file *file);

#endif
