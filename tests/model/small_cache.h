/* Caches that are too small for what tests ask of them at once. */
#ifndef TESTS_MODEL_SMALL_CACHE_H
#define TESTS_MODEL_SMALL_CACHE_H

#include "support/cache_check.h"
#include "support/engine.h"

#include "engine/kv_cache.h"

/* Bytes of a cache of a model's keys and values for n_blocks blocks of positions. */
static inline uint64_t small_cache(const char *path, infer_kv_type type, int32_t n_blocks)
{
    struct engine e;
    engine_open(&e, path, &(struct engine_setup){.n_threads = 1, .kv_type = type});
    uint64_t bytes = cache_check_budget(e.cache->blocks, n_blocks);
    engine_close(&e);
    return bytes;
}

#endif
