/* Walks all of a KV cache's structures between two steps: every block is free, kept, or held by
 * who is said to hold it. */
#ifndef TESTS_SUPPORT_CACHE_CHECK_H
#define TESTS_SUPPORT_CACHE_CHECK_H

#include "support/test.h"

#include "cache/paged.h"

/* `tables` are all that exist, empty ones too. Fails the test, naming what is wrong. */
void cache_check(const struct cache_blocks *blocks, const struct cache_table *const *tables,
                 size_t n_tables);

/* Budget of a KV cache like this for so many blocks of positions: of windows it has fewer. */
uint64_t cache_check_budget(const struct cache_blocks *blocks, int32_t n_blocks);

/* Whether some layers keep all positions, so that blocks run out while sequences grow. */
int cache_check_grows(const struct cache_blocks *blocks);

#endif
