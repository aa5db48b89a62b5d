/* The cache of Hugging Face's client on disk:
 *
 *   <hub>/models--org--repo/refs/<revision>       the commit that a branch or tag is
 *                          /snapshots/<commit>/   a folder of links
 *                          /blobs/<digest>        the files, named by their digest
 *
 * Nothing is ever downloaded, and no environment variable is read. */
#ifndef FORMAT_HF_CACHE_H
#define FORMAT_HF_CACHE_H

#include "base/file.h"
#include "base/str.h"

/* Whether `name` can be a model of the hub: "org/repo", "repo", either with "@revision". */
int hf_cache_is_name(const char *name);

/* The snapshot's folder into `out`. Without a revision it is "main". NOT_FOUND says whether the
 * model, the revision or its snapshot is missing. */
infer_status hf_cache_find(struct base_str *out, const char *hub_dir, const char *name);

/* Compares a file of a snapshot with the name of the blob that it links to: 64 digits are its
 * SHA-256, 40 the SHA-1 of a git blob. UNSUPPORTED where it links to none or this build has no
 * digests (libmd), FORMAT where they differ. */
infer_status hf_cache_verify(const char *path, const struct base_file *file);

#endif
