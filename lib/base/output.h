/* A file that is being written: locked against a second writer, cut and read back for resuming,
 * put in its place at once. Errors name the path. */
#ifndef BASE_OUTPUT_H
#define BASE_OUTPUT_H

#include "base/alloc.h"

struct base_output {
    struct base_alloc alloc;
    char *path;
    int fd;
    uint64_t at;   /* where the next byte goes */
    uint64_t size; /* at opening; later the largest `at` */
};

/* Opens or creates; what the file holds stays. BUSY if another process writes it, IO. On failure
 * there is nothing to close. */
infer_status base_output_open(struct base_output *out, const struct base_alloc *a,
                              const char *path);
/* A file without a name in an existing folder, which `path` is then: nobody else can open it, and
 * it goes with the process, however that ends. IO. */
infer_status base_output_open_unnamed(struct base_output *out, const struct base_alloc *a,
                                      const char *folder);
infer_status base_output_write(struct base_output *out, const void *data, size_t size);
/* Pieces one behind the other, in one system call where the system takes them at once. They are
 * used up. */
struct iovec;
infer_status base_output_writev(struct base_output *out, struct iovec *pieces, size_t n);
/* The first `size` bytes of another file, shared by the two where the file system can do that. */
infer_status base_output_copy(struct base_output *out, int fd, const char *from, uint64_t size);
/* Exactly `size` bytes from `offset` on, IO where the file has fewer. */
infer_status base_output_read(struct base_output *out, uint64_t offset, void *data, size_t size);
/* Cuts the file to `size` bytes and goes on writing there. */
infer_status base_output_cut(struct base_output *out, uint64_t size);
/* Returns when the bytes are on the disk. */
infer_status base_output_sync(struct base_output *out);
/* The same without what only tells when the file was written. Thread-safe beside writes. */
infer_status base_output_sync_data(const struct base_output *out);
/* Renames the file to `to`, replacing what is there, and makes the name last. */
infer_status base_output_rename(struct base_output *out, const char *to);
/* The halves of it: after the first others see the new file, after the second it survives a power
 * cut. The second takes any path and flushes the folder that it is in. */
infer_status base_output_move(struct base_output *out, const char *to);
infer_status base_output_sync_folder(const struct base_alloc *a, const char *path);
void base_output_close(struct base_output *out);  /* the file stays; safe on a closed or zero one */
void base_output_remove(struct base_output *out); /* removes the file, then closes */

#endif
