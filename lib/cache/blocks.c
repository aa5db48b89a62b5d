/* The block allocator. */
#include "cache/blocks.h"

#include "cache/tier.h"

#include <string.h>

static infer_status make_parts(struct cache_blocks *b, int32_t g)
{
    struct cache_parts *p = &b->parts[g];
    const size_t n = (size_t)b->n_blocks[g];
    p->oldest = p->newest = -1;
    p->owner = base_new(&b->alloc, n, sizeof *p->owner);
    p->older = base_new(&b->alloc, n, sizeof *p->older);
    p->newer = base_new(&b->alloc, n, sizeof *p->newer);
    if (!p->owner || !p->older || !p->newer)
        return INFER_ERR_NO_MEMORY;
    memset(p->owner, 0xFF, n * sizeof *p->owner);
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
    return b->config.prefix && cache_group_is_partial(&b->config.groups[g]) ? make_parts(b, g)
                                                                            : INFER_OK;
}

static infer_status make_all(struct cache_blocks *b)
{
    struct cache_config *c = &b->config;
    infer_status st = cache_config_part(c, b->n_blocks, &b->n_spans);
    size_t offset = 0;
    for (int32_t g = 0; g < c->n_groups && st == INFER_OK; g++) {
        b->block_bytes[g] = cache_group_bytes(c, &c->groups[g]);
        b->base[g] = offset;
        offset += b->block_bytes[g] * (size_t)b->n_blocks[g];
        st = make_group(b, g);
    }
    if (st == INFER_OK && c->prefix)
        st = cache_prefix_create(b);
    return st == INFER_OK ? device_buffer_alloc(b->device, DEVICE_KV, offset, &b->memory) : st;
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
    pthread_cond_init(&b->left, NULL);
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
        base_free(&alloc, b->parts[g].owner);
        base_free(&alloc, b->parts[g].older);
        base_free(&alloc, b->parts[g].newer);
    }
    pthread_cond_destroy(&b->left);
    pthread_mutex_destroy(&b->lock);
    device_release(&b->device);
    base_free(&alloc, b);
}

/* Kept blocks go where free ones do not do. */
static int make_room(struct cache_blocks *b, int32_t group, int32_t n)
{
    n -= b->n_free[group];
    if (n <= 0)
        return 1;
    return b->parts[group].owner ? cache_parts_evict(b, group, n)
                                 : b->prefix && cache_prefix_evict(b, n);
}

int32_t cache_block_take(struct cache_blocks *b, int32_t group)
{
    if (!make_room(b, group, 1))
        return -1;
    int32_t id = b->free_ids[group][--b->n_free[group]];
    b->refs[group][id] = 1;
    atomic_fetch_add(&b->n_used, 1);
    return id;
}

infer_status cache_blocks_take(struct cache_blocks *b, int32_t group, int32_t *ids, int32_t n)
{
    infer_status st = INFER_ERR_NO_MEMORY;
    int made;
    pthread_mutex_lock(&b->lock);
    while (!(made = make_room(b, group, n)) && b->n_leaving[group])
        pthread_cond_wait(&b->left, &b->lock);
    if (made) {
        for (int32_t i = 0; i < n; i++)
            ids[i] = cache_block_take(b, group);
        st = INFER_OK;
    }
    pthread_mutex_unlock(&b->lock);
    return st;
}

void cache_block_hold(struct cache_blocks *b, int32_t group, int32_t id)
{
    if (b->refs[group][id]++)
        return;
    cache_part_wake(b, group, id);
    atomic_fetch_add(&b->n_used, 1);
}

void cache_blocks_share(struct cache_blocks *b, int32_t group, const int32_t *ids, int32_t n)
{
    pthread_mutex_lock(&b->lock);
    for (int32_t i = 0; i < n; i++)
        cache_block_hold(b, group, ids[i]);
    pthread_mutex_unlock(&b->lock);
}

void cache_block_drop(struct cache_blocks *b, int32_t group, int32_t id)
{
    if (--b->refs[group][id])
        return;
    atomic_fetch_sub(&b->n_used, 1);
    if (b->parts[group].owner && b->parts[group].owner[id] >= 0)
        cache_part_rest(b, group, id);
    else
        b->free_ids[group][b->n_free[group]++] = id;
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
    int32_t n = b->n_free[group] + b->n_leaving[group];
    if (b->parts[group].owner)
        n += b->parts[group].n_idle;
    else if (b->prefix)
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
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        const struct cache_group *group = &b->config.groups[g];
        int slides =
            group->window && b->n_blocks[g] >= cache_window_blocks(&b->config, group->window);
        if (!cache_group_is_state(group) && !slides)
            tokens = BASE_MIN(tokens, (int64_t)b->n_blocks[g] * b->config.block_tokens);
    }
    return (int32_t)tokens;
}
