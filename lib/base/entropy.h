/* Random bytes from the operating system, for secrets; never for results. */
#ifndef BASE_ENTROPY_H
#define BASE_ENTROPY_H

#include "base/types.h"

infer_status base_entropy(void *out, size_t size);

#endif
