/* Walks all of a KV cache's structures between two steps: every block is free, kept, or held by
 * who is said to hold it. */
#ifndef TESTS_SUPPORT_CACHE_CHECK_H
#define TESTS_SUPPORT_CACHE_CHECK_H

#include "support/test.h"

#include "cache/paged.h"

/* `tables` are all that exist, empty ones too. Fails the test, naming what is wrong. */
void cache_check(const struct cache_blocks *blocks, const struct cache_table *const *tables,
                 size_t n_tables);

#endif
