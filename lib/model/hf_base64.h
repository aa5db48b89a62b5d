/* Base64 (RFC 4648) of vocabularies. */
#ifndef MODEL_HF_BASE64_H
#define MODEL_HF_BASE64_H

#include "base/types.h"

/* Writes at most 3 bytes for each 4 characters begun. 0 for what is no base64. */
int hf_base64_decode(struct base_view text, char *out, size_t *n);

#endif
