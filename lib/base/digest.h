/* Digests by which others name files. Optional: they are libmd's. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/types.h"

#define BASE_DIGEST_TEXT_MAX 65 /* hexadecimal digits and a 0 */

/* Both give lower-case digits, or UNSUPPORTED in a build without libmd. */
infer_status base_digest_sha256(char out[BASE_DIGEST_TEXT_MAX], const void *data, size_t size);
/* The SHA-1 by which git names these bytes as a file ("blob SIZE\0" before them). */
infer_status base_digest_git_blob(char out[BASE_DIGEST_TEXT_MAX], const void *data, size_t size);

#endif
