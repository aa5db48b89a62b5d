/* What opening a folder and copying one share: names, the lock. */
#ifndef VECTOR_FOLDER_PARTS_H
#define VECTOR_FOLDER_PARTS_H

#include "base/output.h"
#include "vector/manifest.h"

#define VECTOR_FOLDER_FILE "%s-%08llu"

struct vector_folder_file {
    const char *kind; /* "segment", "log", "manifest" */
    uint64_t number;
    int is_part;
};

/* Whether a name is one that we give, "manifest" and "lock" excepted. */
int vector_folder_parse(const char *name, struct vector_folder_file *out);
/* Told each file of such a name. */
typedef infer_status (*vector_folder_file_fn)(const struct vector_folder_file *file,
                                              const char *name, void *user);
infer_status vector_folder_each(const char *path, vector_folder_file_fn fn, void *user);
const struct base_alloc *vector_folder_alloc(const struct vector_folder *folder);
infer_status vector_folder_lock(struct base_output *lock, const struct base_alloc *a,
                                const char *path);

#endif
