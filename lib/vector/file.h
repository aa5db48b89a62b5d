/* Files that are written once and then mapped: named sections, each in checksummed blocks, under a
 * header that is checksummed itself. Everything that an index keeps but its log is such a file.
 *
 * All numbers are little-endian; sections are what memory holds, so that big-endian machines are
 * refused (UNSUPPORTED). A file is
 *
 *     header, 128 bytes
 *        0  8  "INFERVF\n"
 *        8  4  format; a newer one than VECTOR_FILE_FORMAT is refused by name
 *       12  4  INFER_VERSION of who wrote it; for people
 *       16  4  bytes of a block, 65536
 *       20  4  sections
 *       24 32  kind, such as "segment", filled up with 0
 *       56  8  bytes of the file
 *       64  8  where the table begins
 *       72  8  bytes of the table
 *       80 16  unused, 0
 *       96 16  XXH3-128 of the table
 *      112 16  XXH3-128 of the 112 bytes before; where both stand is the same in all formats
 *     sections, each on 64 bytes or more, with zeros between them
 *     table
 *        for each section, in the order of the file, 64 bytes:
 *        0 32  name, filled up with 0
 *       32  8  offset
 *       40  8  bytes
 *       48 16  unused, 0
 *        for each block of each section (its last one is shorter): 8  XXH3-64
 *
 * No byte is outside of a checksum but the zeros between sections, and these are compared too.
 *
 * A mapping lives on when its file is removed. Should another program cut the file short meanwhile,
 * or the disk fail, reading the mapping ends the process (SIGBUS); nothing of ours cuts a file that
 * is finished, and opening and verifying read() instead, so that they say it. */
#ifndef VECTOR_FILE_H
#define VECTOR_FILE_H

#include "base/alloc.h"

#define VECTOR_FILE_FORMAT       1
#define VECTOR_FILE_NAME_MAX     31 /* bytes of a section's name, and of a kind */
#define VECTOR_FILE_SECTIONS_MAX 1024
#define VECTOR_FILE_ALIGN_MAX    4096
#define VECTOR_FILE_BLOCK        65536
#define VECTOR_FILE_HEADER       128
#define VECTOR_FILE_ENTRY        64

struct vector_file_writer;

/* Writes beside `path` ("PATH.part") and moves there when it is finished, so that there is the
 * whole file or none. `kind` is what the file is, such as "segment"; a reader asks for the same.
 * BUSY where another one writes the same file. */
infer_status vector_file_create(struct vector_file_writer **out, const struct base_alloc *a,
                                const char *path, const char *kind);
/* A section begins on 64 bytes (of `align`, a power of two up to 4096). Sections follow each other.
 */
infer_status vector_file_begin(struct vector_file_writer *w, const char *name, size_t align);
/* After a failure everything that follows fails with the same sentence. */
infer_status vector_file_append(struct vector_file_writer *w, const void *data, size_t size);
/* One call for a section that is there in one piece. */
infer_status vector_file_section(struct vector_file_writer *w, const char *name, const void *data,
                                 size_t size);
/* Flushes to the disk, renames, flushes the folder. The writer is gone either way, and after a
 * failure so is the file. */
infer_status vector_file_finish(struct vector_file_writer **w);
/* For a file that takes the place of another, which is to stay if this fails: *placed tells whether
 * the new one is there by now, which it can be even on a failure, when the folder could not be
 * flushed. */
infer_status vector_file_replace(struct vector_file_writer **w, int32_t *placed);
void vector_file_abandon(struct vector_file_writer **w); /* NULL-safe; nothing is left */

struct vector_file;

/* Maps a file and checks header and table, which takes milliseconds; with `verify` every block too.
 * FORMAT names the file, the section and the place. */
infer_status vector_file_open(struct vector_file **out, const struct base_alloc *a,
                              const char *path, const char *kind, int32_t verify);
void vector_file_close(struct vector_file **file); /* NULL-safe */
/* NOT_FOUND where there is none. */
infer_status vector_file_find(const struct vector_file *file, const char *name,
                              const uint8_t **data, size_t *size);
/* As find, but of count * bytes exactly: FORMAT otherwise. */
infer_status vector_file_array(const struct vector_file *file, const char *name, const void **data,
                               size_t count, size_t bytes);
/* Reads all and compares all checksums. Thread-safe. */
infer_status vector_file_verify(const struct vector_file *file);
size_t vector_file_size(const struct vector_file *file);
const char *vector_file_path(const struct vector_file *file);

#endif
