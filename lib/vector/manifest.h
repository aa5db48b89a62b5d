/* The manifest of an index as a file, and a copy of it in memory. The file is one of sections
 * (file.h) of the kind "manifest":
 *
 *     numbers   six of 4 bytes: dims, metric, type, degree, effort, normalized; then of 8:
 * generation, next_file, first_log, segments, fields segments  8 bytes each texts     model,
 * pooling and the fields, each with a 0 behind it */
#ifndef VECTOR_MANIFEST_H
#define VECTOR_MANIFEST_H

#include "vector/folder.h"

struct vector_manifest_held {
    struct vector_manifest is;
    struct base_arena arena; /* what it points to */
};

/* Checks and copies. */
infer_status vector_manifest_copy(struct vector_manifest_held *out, const struct base_alloc *a,
                                  const struct vector_manifest *m);
/* NOT_FOUND where there is none. */
infer_status vector_manifest_read(struct vector_manifest_held *out, const struct base_alloc *a,
                                  const char *path);
/* Replaces the one that is there; *placed as in vector_file_replace(). */
infer_status vector_manifest_write(const struct base_alloc *a, const char *path,
                                   const struct vector_manifest *m, int32_t *placed);
void vector_manifest_release(struct vector_manifest_held *held); /* safe on a zero one */

#endif
