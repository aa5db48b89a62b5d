/* How option and info structs grow: the library copies the smaller size. */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include "base/types.h"

/* Copies a caller's options (NULL = all defaults) into `out` of `size` bytes,
 * zero-extended. A caller newer than the library may have a longer struct: its
 * tail must be zero, else INFER_ERR_UNSUPPORTED. `name` is for the sentence. */
infer_status base_options_copy(void *out, size_t size, const void *in, const char *name);

/* Whether a caller's info struct can be filled: not NULL, a sane struct_size. */
infer_status base_info_check(const void *out, const char *name);

/* Copies `size` bytes of `full` into a caller's info struct of its own
 * struct_size, zero-extended; keeps the caller's struct_size. */
infer_status base_info_copy(void *out, const void *full, size_t size, const char *name);

#endif
