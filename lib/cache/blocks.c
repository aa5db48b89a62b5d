/* The block allocator. */
#include "cache/blocks.h"

#include "base/error.h"
#include "cache/tier.h"

/* Bytes of one block of every group that holds positions, and of every group that holds state. */
struct sums {
    uint64_t positions, states;
};

static size_t layer_bytes(const struct cache_config *c, const struct cache_group *g,
                          size_t *k_bytes)
{
    size_t slots = (size_t)g->n_heads * (size_t)c->block_tokens;
    *k_bytes = slots * g->k_slot;
    if (cache_group_is_state(g))
        return BASE_ALIGN_UP(g->state_bytes, (size_t)BASE_CACHE_LINE);
    return *k_bytes + slots * g->v_slot;
}

static size_t block_bytes(const struct cache_config *c, const struct cache_group *g)
{
    size_t k_bytes;
    return BASE_ALIGN_UP((size_t)g->n_layers * layer_bytes(c, g, &k_bytes),
                         (size_t)BASE_CACHE_LINE);
}

static struct sums sum_up(const struct cache_config *c)
{
    struct sums sums = {0, 0};
    for (int32_t g = 0; g < c->n_groups; g++)
        *(cache_group_is_state(&c->groups[g]) ? &sums.states : &sums.positions) +=
            block_bytes(c, &c->groups[g]);
    return sums;
}

static uint64_t saturating_product(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX / 4
                                                  : BASE_MIN(product, UINT64_MAX / 4);
}

uint64_t cache_config_bytes(const struct cache_config *c, uint64_t n_tokens, uint64_t n_states)
{
    const struct sums sums = sum_up(c);
    return saturating_product(BASE_DIV_UP(n_tokens, (uint64_t)c->block_tokens), sums.positions) +
           saturating_product(n_states, sums.states);
}

/* Parts the budget among positions and states. */
static infer_status part_budget(struct cache_blocks *b)
{
    const struct cache_config *c = &b->config;
    const struct sums sums = sum_up(c);
    const uint64_t most = INT32_MAX / 2, budget = c->budget_bytes;
    uint64_t n_states = 0, n_blocks = 0;
    if (!sums.positions && !sums.states)
        return base_error(INFER_ERR_LIMIT, "the KV cache has nothing to hold");
    if (budget < sums.positions + sums.states)
        return base_error(
            INFER_ERR_LIMIT, "the KV cache's budget of %llu bytes is below one block of %llu bytes",
            (unsigned long long)budget, (unsigned long long)(sums.positions + sums.states));
    if (sums.states) {
        n_states = budget / cache_config_bytes(c, (uint64_t)BASE_MAX(c->sequence_tokens, 1), 1);
        n_states = BASE_MIN(BASE_MAX(n_states, 1), most);
    }
    if (sums.positions)
        n_blocks = BASE_MIN((budget - n_states * sums.states) / sums.positions, most);
    for (int32_t g = 0; g < c->n_groups; g++)
        b->n_blocks[g] = (int32_t)(cache_group_is_state(&c->groups[g]) ? n_states : n_blocks);
    return INFER_OK;
}

static infer_status make_group(struct cache_blocks *b, int32_t g)
{
    int32_t n = b->n_blocks[g];
    b->free_ids[g] = base_new(&b->alloc, (size_t)n, sizeof **b->free_ids);
    b->refs[g] = base_new(&b->alloc, (size_t)n, sizeof **b->refs);
    if (!b->free_ids[g] || !b->refs[g])
        return INFER_ERR_NO_MEMORY;
    b->n_free[g] = n;
    for (int32_t i = 0; i < n; i++) /* block 0 is handed out first */
        b->free_ids[g][i] = n - 1 - i;
    return INFER_OK;
}

static infer_status make_all(struct cache_blocks *b)
{
    struct cache_config *c = &b->config;
    infer_status st = part_budget(b);
    size_t offset = 0;
    for (int32_t g = 0; g < c->n_groups && st == INFER_OK; g++) {
        c->groups[g].layer_bytes = layer_bytes(c, &c->groups[g], &c->groups[g].k_bytes);
        b->block_bytes[g] = block_bytes(c, &c->groups[g]);
        b->base[g] = offset;
        offset += b->block_bytes[g] * (size_t)b->n_blocks[g];
        st = make_group(b, g);
    }
    if (st == INFER_OK && c->prefix)
        st = cache_prefix_create(b);
    return st == INFER_OK ? device_buffer_alloc(b->device, offset, &b->memory) : st;
}

infer_status cache_blocks_create(struct cache_blocks **out, const struct base_alloc *a,
                                 struct infer_device *device, const struct cache_config *config)
{
    struct cache_blocks *b = base_new(a, 1, sizeof *b);
    if (!b)
        return INFER_ERR_NO_MEMORY;
    b->alloc = *a;
    b->device = device_retain(device);
    b->config = *config;
    pthread_mutex_init(&b->lock, NULL);
    infer_status st = make_all(b);
    if (st != INFER_OK)
        cache_blocks_destroy(&b);
    else
        *out = b;
    return st;
}

void cache_blocks_destroy(struct cache_blocks **blocks)
{
    struct cache_blocks *b = *blocks;
    *blocks = NULL;
    if (!b)
        return;
    struct base_alloc alloc = b->alloc;
    cache_tier_close(b);
    device_buffer_free(&b->memory);
    cache_prefix_destroy(b);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        base_free(&alloc, b->free_ids[g]);
        base_free(&alloc, b->refs[g]);
    }
    pthread_mutex_destroy(&b->lock);
    device_release(&b->device);
    base_free(&alloc, b);
}

/* Kept blocks go where free ones do not do. */
static int make_room(struct cache_blocks *b, int32_t group, int32_t n)
{
    if (n <= b->n_free[group])
        return 1;
    return b->prefix && !cache_group_is_state(&b->config.groups[group]) &&
           cache_prefix_evict(b, n - b->n_free[group]);
}

infer_status cache_blocks_take(struct cache_blocks *b, int32_t group, int32_t *ids, int32_t n)
{
    infer_status st = INFER_ERR_NO_MEMORY;
    pthread_mutex_lock(&b->lock);
    if (make_room(b, group, n)) {
        for (int32_t i = 0; i < n; i++) {
            ids[i] = b->free_ids[group][--b->n_free[group]];
            b->refs[group][ids[i]] = 1;
        }
        atomic_fetch_add(&b->n_used, n);
        st = INFER_OK;
    }
    pthread_mutex_unlock(&b->lock);
    return st;
}

void cache_blocks_share(struct cache_blocks *b, int32_t group, const int32_t *ids, int32_t n)
{
    pthread_mutex_lock(&b->lock);
    for (int32_t i = 0; i < n; i++)
        b->refs[group][ids[i]]++;
    pthread_mutex_unlock(&b->lock);
}

void cache_block_drop(struct cache_blocks *b, int32_t group, int32_t id)
{
    if (--b->refs[group][id])
        return;
    b->free_ids[group][b->n_free[group]++] = id;
    atomic_fetch_sub(&b->n_used, 1);
}

void cache_blocks_give(struct cache_blocks *b, int32_t group, const int32_t *ids, int32_t n)
{
    pthread_mutex_lock(&b->lock);
    for (int32_t i = n; i-- > 0;)
        cache_block_drop(b, group, ids[i]);
    pthread_mutex_unlock(&b->lock);
}

int32_t cache_blocks_free(struct cache_blocks *b, int32_t group)
{
    pthread_mutex_lock(&b->lock);
    int32_t n = b->n_free[group];
    if (b->prefix && !cache_group_is_state(&b->config.groups[group]))
        n += b->prefix->n_idle;
    pthread_mutex_unlock(&b->lock);
    return n;
}

int64_t cache_blocks_count(const struct cache_blocks *b)
{
    int64_t n = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        n += b->n_blocks[g];
    return n;
}

int32_t cache_blocks_tokens(const struct cache_blocks *b)
{
    int64_t tokens = INT32_MAX;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (!cache_group_is_state(&b->config.groups[g]))
            tokens = BASE_MIN(tokens, (int64_t)b->n_blocks[g] * b->config.block_tokens);
    return (int32_t)tokens;
}
