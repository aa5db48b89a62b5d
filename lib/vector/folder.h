/* The folder of an index: which files belong to it now, and who may write. Its list of files (the
 * manifest) is replaced as a whole, so that a crash leaves the one before or the one after.
 *
 *     manifest           what belongs to the index; a file of sections (file.h)
 *     segment-00000007   never changed once it is there
 *     log-00000008       records that are in no segment yet
 *     lock               locked (flock) by who has the index open for writing; empty
 *     *.part             of a write that has not ended, or never will
 *
 * Of a folder that is opened for writing, files with names such as these are removed that the
 * manifest does not name; files of other names are left alone. Readers lock nothing: a reader opens
 * what the manifest names, and looks at the manifest again when it has done so
 * (vector_folder_load). A process that forks shares its lock with the child. */
#ifndef VECTOR_FOLDER_H
#define VECTOR_FOLDER_H

#include "vector/file.h"

#define VECTOR_SEGMENTS_MAX 4096
#define VECTOR_FIELDS_MAX   64
#define VECTOR_NUMBER_MAX   ((uint64_t)1 << 62) /* of a file, a generation */

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

/* Opens or makes the folder. `made` is what a new one begins with; *out owns *manifest and what it
 * points to, which changes with the next commit or load. In it next_file is larger than the number
 * of any file that is there. INFER_ERR_BUSY where another has it open for writing, NOT_FOUND where
 * there is no index and none may be made. Files that no manifest names are removed, unless
 * read_only. */
infer_status vector_folder_open(struct vector_folder **out, const struct base_alloc *a,
                                const char *path, int32_t read_only, int32_t must_exist,
                                const struct vector_manifest *made,
                                const struct vector_manifest **manifest);
void vector_folder_close(struct vector_folder **folder); /* NULL-safe */

/* Opens the files that a manifest names, segments before logs. It is called again, with a newer
 * manifest, when a writer of another process has replaced it meanwhile, and then replaces what it
 * had opened. */
typedef infer_status (*vector_folder_fn)(const struct vector_manifest *manifest, void *user);
/* Calls `fn` until what it opened is of one moment: once, but for a reader beside a writer. A file
 * that is missing (NOT_FOUND) though the manifest stays the same is FORMAT; BUSY after many
 * attempts. */
infer_status vector_folder_load(struct vector_folder *folder, vector_folder_fn fn, void *user);

/* "PATH/segment-00000007" and "PATH/log-00000007", in the buffer of the caller. */
infer_status vector_folder_name(const struct vector_folder *folder, const char *kind,
                                uint64_t number, char *out, size_t size);
/* The new manifest is on the disk when it returns; its generation is one more than the last one's,
 * whatever the argument says. If it fails the index is as before. Should the new one be in its
 * place but not surely on the disk, then nobody knows which a crash would leave: all further
 * commits fail and nothing is removed any more, so that both remain whole. */
infer_status vector_folder_commit(struct vector_folder *folder,
                                  const struct vector_manifest *manifest);
/* Removes a file that the manifest no longer names; failures do not matter: opening removes it too.
 * Thread-safe. */
void vector_folder_drop(struct vector_folder *folder, const char *kind, uint64_t number);
/* Logs that are there, in order of their numbers, from the manifest's first_log on. */
infer_status vector_folder_logs(const struct vector_folder *folder, uint64_t *numbers, int32_t *n,
                                int32_t room);
/* Reads the manifest again and compares its checksums. */
infer_status vector_folder_verify(const struct vector_folder *folder);
/* A folder of its own with the same segments (linked or copied) and, as its log, the first
 * log_bytes bytes of each log named. `to` must not be there, or be an empty folder; after a failure
 * it is as it was. The files named must not be dropped meanwhile. */
infer_status vector_folder_copy(const struct vector_folder *folder, const char *to,
                                const struct vector_manifest *manifest, const uint64_t *logs,
                                const uint64_t *log_bytes, int32_t n_logs);

#endif
