/* xxHash behind one name, so that the choice stands in one place. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/types.h"

uint64_t base_hash64(const void *data, size_t size, uint64_t seed);

#endif
