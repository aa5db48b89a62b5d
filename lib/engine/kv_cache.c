/* A block pool shaped for one model. */
#include "engine/session.h"

#include "base/error.h"
#include "model/digest.h"
#include "model/encode.h"

_Static_assert(CACHE_GROUPS_MAX == MODEL_KV_GROUPS_MAX, "a model's groups fit into a cache");

#define BUDGET_MIN ((uint64_t)16 << 20)
#define BUDGET_MAX ((uint64_t)4 << 30)

static struct cache_config config_of(const struct infer_model *model, infer_dtype type,
                                     int32_t block_tokens)
{
    struct cache_config c = {
        .type = type,
        .block_tokens = block_tokens,
        .sequence_tokens = BASE_MIN(model->hp.n_context, KV_CACHE_SEQUENCE_TOKENS),
        .prefix = 1,
        .n_groups = model_is_encoder(model) ? 0 : model->n_kv_groups,
    };
    for (int32_t g = 0; g < c.n_groups; g++) {
        const struct model_kv_group *from = &model->kv_groups[g];
        c.groups[g] = (struct cache_group){.kind = from->kind,
                                           .n_layers = from->n_layers,
                                           .n_heads = from->n_heads,
                                           .window = from->window,
                                           .k_slot = kern_kv_bytes(type, from->head_dim),
                                           .v_slot = kern_kv_bytes(type, from->head_dim_v),
                                           .state_bytes = from->state_bytes};
    }
    return c;
}

static int kv_type_is_quantised(infer_dtype type)
{
    return type == INFER_DTYPE_Q8_0 || type == INFER_DTYPE_Q4_1;
}

uint64_t kv_cache_default_budget(const struct infer_model *model, infer_dtype type)
{
    struct cache_config c = config_of(model, type, KV_CACHE_BLOCK_TOKENS);
    uint64_t tokens = (uint64_t)model->hp.n_context;
    uint64_t states = 2 * BASE_DIV_UP(tokens, (uint64_t)c.sequence_tokens);
    uint64_t bytes = cache_config_bytes(&c, tokens, states);
    return BASE_MIN(BASE_MAX(bytes, BUDGET_MIN), BUDGET_MAX);
}

uint64_t kv_cache_budget_for(const struct infer_model *model, infer_dtype type, int32_t n_sequences,
                             int32_t n_tokens)
{
    struct cache_config c = config_of(model, type, KV_CACHE_BLOCK_TOKENS);
    const uint64_t n = (uint64_t)n_sequences;
    c.sequence_tokens = BASE_ALIGN_UP(n_tokens, KV_CACHE_BLOCK_TOKENS);
    return cache_config_bytes(&c, n * (uint64_t)c.sequence_tokens, 2 * n);
}

static void make_views(struct infer_kv_cache *cache)
{
    struct cache_blocks *b = cache->blocks;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        const struct cache_group *group = &b->config.groups[g];
        cache->views[g] = (struct model_kv_view){
            .base = (uint8_t *)b->memory.data + b->base[g],
            .block_stride = b->block_bytes[g],
            .layer_stride = group->layer_bytes,
            .v_offset = group->v_slot ? group->k_bytes : 0,
            .k_slot = group->k_slot,
            .v_slot = group->v_slot,
            .block_tokens = b->config.block_tokens,
            .type = b->config.type,
            .rotated = kv_type_is_quantised(b->config.type) && group->kind != MODEL_KV_LATENT,
        };
    }
}

static infer_status open_tier(struct infer_kv_cache *cache, const struct kv_cache_config *config)
{
    struct cache_blocks *b = cache->blocks;
    const struct cache_tier_config tier = {.folder = config->tier_dir,
                                           .bytes = config->tier_bytes,
                                           .model = model_digest(cache->model),
                                           .thread = config->tier_thread};
    if (config->disable_prefix)
        return base_error(INFER_ERR_INVALID,
                          "tier_dir and disable_prefix_cache exclude each other");
    if (cache_has_state(b))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "%s has recurrent layers: each block in the file would have room for a "
                          "state, so tier_dir is not for it",
                          cache->model->path);
    return cache_tier_open(b, &tier);
}

static void free_cache(struct infer_kv_cache *cache)
{
    struct base_alloc alloc = cache->alloc;
    pthread_rwlock_destroy(&cache->moving);
    pthread_mutex_destroy(&cache->lock);
    base_free(&alloc, cache);
}

infer_status kv_cache_create(struct infer_kv_cache **out, struct infer_model *model,
                             const struct kv_cache_config *config)
{
    if (!model->device->kernels.attn.paged[config->type] ||
        !model->device->kernels.quant.narrow[config->type])
        return base_error(INFER_ERR_UNSUPPORTED,
                          "this device has no attention over a KV cache of type %d", config->type);
    struct cache_config c = config_of(model, config->type, config->block_tokens);
    const int keeps = c.n_groups > 0; /* an encoder keeps nothing of a sequence */
    c.budget_bytes =
        config->budget_bytes ? config->budget_bytes : kv_cache_default_budget(model, config->type);
    c.prefix = keeps && !config->disable_prefix;
    if (config->sequence_tokens)
        c.sequence_tokens = config->sequence_tokens;
    struct infer_kv_cache *cache = base_new(config->alloc, 1, sizeof *cache);
    if (!cache)
        return INFER_ERR_NO_MEMORY;
    cache->refs = 1;
    cache->alloc = *config->alloc;
    pthread_rwlock_init(&cache->moving, NULL);
    pthread_mutex_init(&cache->lock, NULL);
    infer_status st = cache_blocks_create(&cache->blocks, config->alloc, model->device, &c);
    if (st != INFER_OK) {
        free_cache(cache);
        return st;
    }
    cache->model = model_retain(model);
    cache->swap_always = config->swap_always;
    kv_cache_fit(cache);
    if (config->tier_dir)
        st = open_tier(cache, config);
    if (st == INFER_OK && config->swap_bytes)
        st = cache_swap_open(
            &cache->swap, cache->blocks,
            &(struct cache_swap_config){.folder = config->swap_dir, .bytes = config->swap_bytes});
    if (st != INFER_OK)
        kv_cache_release(&cache);
    else
        *out = cache;
    return st;
}

struct infer_kv_cache *kv_cache_retain(struct infer_kv_cache *cache)
{
    atomic_fetch_add(&cache->refs, 1);
    return cache;
}

void kv_cache_release(struct infer_kv_cache **cache_ptr)
{
    struct infer_kv_cache *cache = *cache_ptr;
    *cache_ptr = NULL;
    if (!cache || atomic_fetch_sub(&cache->refs, 1) != 1)
        return;
    cache_swap_close(&cache->swap);
    cache_blocks_destroy(&cache->blocks);
    model_release(&cache->model);
    free_cache(cache);
}

int32_t kv_cache_capacity(const struct infer_kv_cache *cache)
{
    return cache->capacity;
}

void kv_cache_fit(struct infer_kv_cache *cache)
{
    make_views(cache);
    if (!cache->blocks->memory.bytes && cache->blocks->config.n_groups)
        return;
    cache->capacity = cache_blocks_tokens(cache->blocks);
    cache->n_spans = cache->blocks->n_spans;
}

/* ------------------------------------------------------------------- resizing */

void kv_cache_join(struct infer_kv_cache *cache, struct infer_session *session)
{
    pthread_mutex_lock(&cache->lock);
    session->next_in_cache = cache->sessions;
    cache->sessions = session;
    pthread_mutex_unlock(&cache->lock);
}

void kv_cache_leave(struct infer_kv_cache *cache, struct infer_session *session)
{
    pthread_mutex_lock(&cache->lock);
    struct infer_session **at = &cache->sessions;
    while (*at && *at != session)
        at = &(*at)->next_in_cache;
    if (*at)
        *at = session->next_in_cache;
    pthread_mutex_unlock(&cache->lock);
}

void kv_cache_enter(struct infer_kv_cache *cache)
{
    pthread_rwlock_rdlock(&cache->moving);
}

void kv_cache_exit(struct infer_kv_cache *cache)
{
    pthread_rwlock_unlock(&cache->moving);
}

struct kv_cache_counts kv_cache_counts(const struct infer_kv_cache *cache)
{
    struct cache_blocks *b = cache->blocks;
    pthread_mutex_lock(&b->lock); /* under which a resize exchanges them */
    const struct cache_prefix *p = b->prefix;
    struct kv_cache_counts counts = {.bytes = b->memory.bytes,
                                     .n_blocks = (uint64_t)cache_blocks_count(b)};
    if (p) {
        counts.n_cached = p->n_cached * (uint64_t)p->n_groups + p->n_parts;
        counts.n_looked_up = p->n_looked_up;
        counts.n_hit = p->n_hit;
        counts.n_evicted = p->n_evicted;
    }
    pthread_mutex_unlock(&b->lock);
    return counts;
}
