/* Files: read-only mapping. The host names every path; nothing else is opened. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/types.h"

struct base_file {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
    uint64_t device, inode; /* to recognise the same file under two names */
};

/* Maps a regular file. Errors name the path: NOT_FOUND, IO, INVALID for a folder. */
infer_status base_file_map(struct base_file *out, const char *path);
void base_file_unmap(struct base_file *file);
/* The two halves of base_file_map: a file that stays open can be read from as well, which says what
 * a mapping cannot (a bad disk, a file cut by others). The caller closes *fd. */
infer_status base_file_open(int *fd, const char *path);
infer_status base_file_map_open(struct base_file *out, int fd, const char *path);
/* Exactly `size` bytes from `offset` on, IO where the file has fewer. */
infer_status base_file_read(int fd, const char *path, uint64_t offset, void *data, size_t size);
/* Unmaps the pages behind the first `size` bytes. */
void base_file_cut(struct base_file *file, size_t size);
/* The text of a small file, such as those of /proc and /sys, 0-terminated and cut to `size`;
 * whether there is any. */
int base_file_read_text(char *out, size_t size, const char *path);
/* The pages that lie within these bytes leave memory until they are read again. */
void base_file_forget(const struct base_file *file, const uint8_t *data, size_t bytes);

#endif
