/* Public: <infer/kv_cache.h>. */
#include "engine/kv_cache.h"

#include "handle.h"
#include "model/encode.h"
#include "model/lora.h"

#include <infer/session.h>
#include <string.h>

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
    if (model_is_encoder(model))
        return base_error(INFER_ERR_UNSUPPORTED, "%s is an encoder, which needs no KV cache",
                          model->path);
    struct kv_cache_config config = {.alloc = &alloc,
                                     .budget_bytes = o.budget_bytes,
                                     .block_tokens =
                                         o.block_tokens ? o.block_tokens : KV_CACHE_BLOCK_TOKENS,
                                     .disable_prefix = o.disable_prefix_cache,
                                     .tier_dir = o.tier_dir,
                                     .tier_bytes = o.tier_bytes,
                                     .tier_thread = o.tier_thread,
                                     .swap_dir = o.swap_dir,
                                     .swap_bytes = o.swap_bytes,
                                     .swap_always = o.swap_always,
                                     .sequence_tokens = o.sequence_tokens};
    if (config.block_tokens != 16 && config.block_tokens != 32 && config.block_tokens != 64)
        return base_error(INFER_ERR_INVALID, "block_tokens is %d, expected 16, 32 or 64",
                          config.block_tokens);
    if (o.sequence_tokens < 0)
        return base_error(INFER_ERR_INVALID, "sequence_tokens is %d", o.sequence_tokens);
    if (o.reserved || (o.tier_dir && !o.tier_bytes) || (!o.tier_dir && o.tier_thread))
        return base_error(INFER_ERR_INVALID,
                          "tier_dir and tier_bytes belong together, tier_thread needs both, and "
                          "infer_kv_cache_options.reserved is 0");
    if ((!o.swap_bytes && (o.swap_dir || o.swap_always)) || o.swap_always < 0 || o.swap_always > 1)
        return base_error(INFER_ERR_INVALID,
                          "swap_dir and swap_always need swap_bytes, and swap_always is 0 or 1");
    st = handle_kv_type(&config.type, o.type, model_kv_default_type(model));
    return st == INFER_OK ? kv_cache_create(out, model, &config) : st;
}

void infer_kv_cache_destroy(infer_kv_cache **cache)
{
    if (cache)
        kv_cache_release(cache);
}

infer_status infer_kv_cache_resize(infer_kv_cache *cache, uint64_t budget_bytes)
{
    REQUIRE(cache);
    return kv_cache_resize(cache, budget_bytes);
}

infer_status infer_kv_cache_get_stats(const infer_kv_cache *cache, infer_kv_cache_stats *stats)
{
    REQUIRE(cache);
    const struct cache_blocks *b = cache->blocks;
    const struct kv_cache_counts counts = kv_cache_counts(cache);
    infer_kv_cache_stats full = {
        .budget_bytes = counts.bytes,
        .n_blocks = counts.n_blocks,
        .n_blocks_used = (uint64_t)atomic_load(&b->n_used),
        .n_blocks_cached = counts.n_cached,
        .n_prefix_queries = counts.n_looked_up,
        .n_prefix_hits = counts.n_hit,
        .n_evicted = counts.n_evicted,
        .block_tokens = b->config.block_tokens,
        .type = handle_kv_type_of(b->config.type),
    };
    for (int32_t g = 0; g < b->config.n_groups; g++)
        full.block_bytes += b->block_bytes[g];
    const struct cache_tier *t = b->tier;
    if (t) {
        full.n_tier_records = t->n_stored;
        full.n_tier_written = t->n_written;
        full.n_tier_read = t->n_read;
        full.n_tier_lost = t->n_lost;
        full.n_tier_damaged = t->n_damaged;
        full.n_tier_failed = t->n_failed;
    }
    const struct cache_swap *swap = cache->swap;
    if (swap) {
        full.swap_bytes = (uint64_t)swap->n_pages * CACHE_SWAP_PAGE;
        full.swap_used_bytes = full.swap_bytes - (uint64_t)swap->n_free * CACHE_SWAP_PAGE;
        full.n_swapped_out = swap->n_out;
        full.n_swapped_in = swap->n_in;
        full.swapped_out_bytes = swap->out_bytes;
        full.swapped_in_bytes = swap->in_bytes;
        full.n_swap_full = swap->n_full;
        full.n_swap_failed = swap->n_failed;
        full.n_swap_damaged = swap->n_damaged;
        full.n_swap_lost = swap->n_lost;
    }
    return base_info_copy(stats, &full, sizeof full, "infer_kv_cache_stats");
}

static infer_status copy_prefix(const infer_kv_cache *cache, const infer_kv_prefix *given,
                                infer_kv_prefix *out)
{
    infer_status st = base_options_copy(out, sizeof *out, given, "infer_kv_prefix");
    if (st != INFER_OK)
        return st;
    if (!out->tokens || !out->n_tokens || out->n_tokens > (size_t)cache->model->hp.n_context)
        return base_error(INFER_ERR_INVALID,
                          "the prefix has %zu tokens, expected 1 to the model's context of %d",
                          out->tokens ? out->n_tokens : 0, cache->model->hp.n_context);
    return INFER_OK;
}

typedef int32_t change_fn(struct cache_blocks *blocks, const struct cache_key *key,
                          const infer_token *tokens, size_t n);

/* Sessions of all numerics have their own blocks of the same tokens: the deeper ones count. */
static int32_t change_pins(const infer_kv_cache *cache, const infer_kv_prefix *p, change_fn *change)
{
    float scale = p->adapter_scale != 0 ? p->adapter_scale : 1;
    int32_t deepest = 0;
    for (int32_t numerics = 0; numerics <= INFER_NUMERICS_INVARIANT; numerics++) {
        const struct cache_key key = {.name = p->cache_namespace,
                                      .n = p->cache_namespace ? strlen(p->cache_namespace) : 0,
                                      .adapter = p->adapter ? model_lora_key(p->adapter, scale) : 0,
                                      .numerics = numerics};
        int32_t n = change(cache->blocks, &key, p->tokens, p->n_tokens);
        deepest = BASE_MAX(deepest, n);
    }
    return deepest;
}

infer_status infer_kv_cache_pin(infer_kv_cache *cache, const infer_kv_prefix *prefix,
                                size_t *n_pinned)
{
    REQUIRE(cache);
    REQUIRE(prefix);
    infer_kv_prefix p;
    infer_status st = copy_prefix(cache, prefix, &p);
    if (st != INFER_OK)
        return st;
    int32_t n = change_pins(cache, &p, cache_prefix_pin);
    if (n_pinned)
        *n_pinned = (size_t)n;
    return INFER_OK;
}

infer_status infer_kv_cache_unpin(infer_kv_cache *cache, const infer_kv_prefix *prefix)
{
    REQUIRE(cache);
    REQUIRE(prefix);
    infer_kv_prefix p;
    infer_status st = copy_prefix(cache, prefix, &p);
    if (st == INFER_OK && !change_pins(cache, &p, cache_prefix_unpin))
        st = base_error(INFER_ERR_NOT_FOUND, "nothing of this prefix is pinned");
    return st;
}

infer_status infer_kv_cache_clear(infer_kv_cache *cache)
{
    REQUIRE(cache);
    if (cache->blocks->tier)
        return cache_tier_clear(cache->blocks->tier);
    cache_prefix_clear(cache->blocks);
    return INFER_OK;
}

infer_status infer_kv_cache_flush(infer_kv_cache *cache, uint64_t *n_written)
{
    REQUIRE(cache);
    struct cache_tier *t = cache->blocks->tier;
    if (!t)
        return base_error(INFER_ERR_INVALID, "this KV cache has no tier_dir");
    uint64_t failed = t->n_failed, n = (uint64_t)cache_tier_flush(t);
    if (n_written)
        *n_written = n;
    /* The sentence is the writer's, unless its thread was faster. */
    return t->n_failed == failed
               ? INFER_OK
               : base_error(INFER_ERR_IO, "%s: %llu records could not be written", t->file.path,
                            (unsigned long long)(t->n_failed - failed));
}
