/* Public: <infer/kv_cache.h>. */
#include "engine/kv_cache.h"

#include "handle.h"

#include <infer/kv_cache.h>

infer_status infer_kv_cache_create(infer_kv_cache **out, infer_model *model,
                                   const infer_kv_cache_options *options)
{
    REQUIRE(out);
    REQUIRE(model);
    infer_kv_cache_options o;
    struct base_alloc alloc;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_kv_cache_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &model->alloc);
    if (st != INFER_OK)
        return st;
    if (!model->arch)
        return base_error(INFER_ERR_INVALID, "%s was loaded with vocabulary_only", model->path);
    struct kv_cache_config config = {.alloc = &alloc,
                                     .budget_bytes = o.budget_bytes,
                                     .block_tokens =
                                         o.block_tokens ? o.block_tokens : KV_CACHE_BLOCK_TOKENS};
    if (config.block_tokens != 16 && config.block_tokens != 32 && config.block_tokens != 64)
        return base_error(INFER_ERR_INVALID, "block_tokens is %d, expected 16, 32 or 64",
                          config.block_tokens);
    st = handle_kv_type(&config.type, o.type, model_kv_default_type(model));
    return st == INFER_OK ? kv_cache_create(out, model, &config) : st;
}

void infer_kv_cache_destroy(infer_kv_cache **cache)
{
    if (cache)
        kv_cache_release(cache);
}

infer_status infer_kv_cache_get_stats(const infer_kv_cache *cache, infer_kv_cache_stats *stats)
{
    REQUIRE(cache);
    const struct cache_blocks *b = cache->blocks;
    infer_kv_cache_stats full = {
        .budget_bytes = b->memory.bytes,
        .n_blocks = (uint64_t)cache_blocks_count(b),
        .n_blocks_used = (uint64_t)atomic_load(&b->n_used),
        .block_tokens = b->config.block_tokens,
        .type = handle_kv_type_of(b->config.type),
    };
    for (int32_t g = 0; g < b->config.n_groups; g++)
        full.block_bytes += b->block_bytes[g];
    return base_info_copy(stats, &full, sizeof full, "infer_kv_cache_stats");
}
