/* Files that are written once and then mapped: named sections, each in checksummed blocks, under a
 * header that is checksummed itself. Everything that an index keeps but its log is such a file. */
#ifndef VECTOR_FILE_H
#define VECTOR_FILE_H

#include "base/alloc.h"

#define VECTOR_FILE_NAME_MAX 31 /* bytes of a section's name */

struct vector_file_writer;

/* Writes beside `path` and moves there when it is finished, so that there is the whole file or
 * none. `kind` is what the file is, such as "segment"; a reader asks for the same. */
infer_status vector_file_create(struct vector_file_writer **out, const struct base_alloc *a,
                                const char *path, const char *kind);
/* A section begins on 64 bytes (of `align`, a power of two up to 4096). Sections follow each other.
 */
infer_status vector_file_begin(struct vector_file_writer *w, const char *name, size_t align);
infer_status vector_file_append(struct vector_file_writer *w, const void *data, size_t size);
/* One call for a section that is there in one piece. */
infer_status vector_file_section(struct vector_file_writer *w, const char *name, const void *data,
                                 size_t size);
/* Flushes to the disk, renames, flushes the folder. The writer is gone either way. */
infer_status vector_file_finish(struct vector_file_writer **w);
void vector_file_abandon(struct vector_file_writer **w); /* NULL-safe; nothing is left */

struct vector_file;

/* Maps a file and checks header and table, which takes milliseconds; with `verify` every block too.
 * FORMAT names the file, the section and the place. */
infer_status vector_file_open(struct vector_file **out, const struct base_alloc *a,
                              const char *path, const char *kind, int32_t verify);
void vector_file_close(struct vector_file **file);
/* NOT_FOUND where there is none. */
infer_status vector_file_find(const struct vector_file *file, const char *name,
                              const uint8_t **data, size_t *size);
/* As find, but of count * bytes exactly: FORMAT otherwise. */
infer_status vector_file_array(const struct vector_file *file, const char *name, const void **data,
                               size_t count, size_t bytes);
/* Compares all checksums that were not compared before. */
infer_status vector_file_verify(struct vector_file *file);
size_t vector_file_size(const struct vector_file *file);
const char *vector_file_path(const struct vector_file *file);

#endif
