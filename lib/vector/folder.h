/* The folder of an index: which files belong to it now, and who may write. Its list of files (the
 * manifest) is replaced as a whole, so that a crash leaves the one before or the one after. */
#ifndef VECTOR_FOLDER_H
#define VECTOR_FOLDER_H

#include "vector/file.h"

/* What of an index is fixed when it is made. */
struct vector_traits {
    int32_t dims, metric, type, degree, effort;
    int32_t normalized;
    const char *model, *pooling; /* the stamp; "" is unknown */
};

struct vector_manifest {
    struct vector_traits traits;
    uint64_t generation;      /* one more with each commit */
    uint64_t next_file;       /* number that no file has had */
    uint64_t first_log;       /* logs of smaller numbers are in the segments */
    const uint64_t *segments; /* numbers, oldest first */
    int32_t n_segments;
    const char *const *fields; /* of metadata, indexed */
    int32_t n_fields;
};

struct vector_folder;

/* Opens or makes the folder. `made` is what a new one begins with; *out owns what *manifest points
 * to, until the next commit. INFER_ERR_BUSY where another has it open for writing. Files that no
 * manifest names are removed, unless read_only. */
infer_status vector_folder_open(struct vector_folder **out, const struct base_alloc *a,
                                const char *path, int32_t read_only, int32_t must_exist,
                                const struct vector_manifest *made,
                                const struct vector_manifest **manifest);
void vector_folder_close(struct vector_folder **folder);
/* "PATH/segment-00000007" and "PATH/log-00000007", in the arena or buffer of the caller. */
infer_status vector_folder_name(const struct vector_folder *folder, const char *kind,
                                uint64_t number, char *out, size_t size);
/* The new manifest is on the disk when it returns. */
infer_status vector_folder_commit(struct vector_folder *folder,
                                  const struct vector_manifest *manifest);
/* Removes a file that the manifest no longer names; failures do not matter: opening removes it too.
 */
void vector_folder_drop(struct vector_folder *folder, const char *kind, uint64_t number);
/* Logs that are there, in order of their numbers, from the manifest's first_log on. */
infer_status vector_folder_logs(const struct vector_folder *folder, uint64_t *numbers, int32_t *n,
                                int32_t room);
/* A folder of its own with the same segments (linked or copied) and, as its log, the first
 * log_bytes bytes of each log named. */
infer_status vector_folder_copy(const struct vector_folder *folder, const char *to,
                                const struct vector_manifest *manifest, const uint64_t *logs,
                                const uint64_t *log_bytes, int32_t n_logs);

#endif
