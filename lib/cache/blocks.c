/* The block allocator. */
#include "cache/blocks.h"

#include "base/error.h"

static size_t element_bytes(infer_dtype type)
{
    return type == INFER_DTYPE_F32 ? 4 : 2;
}

/* Fills sizes; returns the bytes of one block of every group together. */
static uint64_t plan(struct cache_blocks *b)
{
    uint64_t sum = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        struct cache_group *group = &b->config.groups[g];
        group->layer_bytes = 2 * (size_t)group->n_heads * (size_t)b->config.block_tokens *
                             (size_t)group->head_dim * element_bytes(b->config.type);
        b->block_bytes[g] =
            BASE_ALIGN_UP((size_t)group->n_layers * group->layer_bytes, (size_t)BASE_CACHE_LINE);
        sum += b->block_bytes[g];
    }
    return sum;
}

static infer_status make_group(struct cache_blocks *b, int32_t g)
{
    b->free_ids[g] = base_new(&b->alloc, (size_t)b->n_blocks, sizeof **b->free_ids);
    b->refs[g] = base_new(&b->alloc, (size_t)b->n_blocks, sizeof **b->refs);
    if (!b->free_ids[g] || !b->refs[g])
        return INFER_ERR_NO_MEMORY;
    b->n_free[g] = b->n_blocks;
    for (int32_t i = 0; i < b->n_blocks; i++) /* block 0 is handed out first */
        b->free_ids[g][i] = b->n_blocks - 1 - i;
    return INFER_OK;
}

static infer_status make_all(struct cache_blocks *b)
{
    uint64_t block = plan(b);
    uint64_t n = block ? b->config.budget_bytes / block : 0;
    if (n < 1)
        return base_error(INFER_ERR_LIMIT,
                          "the KV cache's budget of %llu bytes is below one block of %llu bytes",
                          (unsigned long long)b->config.budget_bytes, (unsigned long long)block);
    b->n_blocks = (int32_t)BASE_MIN(n, (uint64_t)INT32_MAX / 2);
    size_t offset = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        b->base[g] = offset;
        offset += b->block_bytes[g] * (size_t)b->n_blocks;
        infer_status st = make_group(b, g);
        if (st != INFER_OK)
            return st;
    }
    return device_buffer_alloc(b->device, offset, &b->memory);
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
    device_buffer_free(&b->memory);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        base_free(&alloc, b->free_ids[g]);
        base_free(&alloc, b->refs[g]);
    }
    pthread_mutex_destroy(&b->lock);
    device_release(&b->device);
    base_free(&alloc, b);
}

infer_status cache_blocks_take(struct cache_blocks *b, int32_t group, int32_t *ids, int32_t n)
{
    infer_status st = INFER_ERR_NO_MEMORY;
    pthread_mutex_lock(&b->lock);
    if (n <= b->n_free[group]) {
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

void cache_blocks_give(struct cache_blocks *b, int32_t group, const int32_t *ids, int32_t n)
{
    pthread_mutex_lock(&b->lock);
    for (int32_t i = n; i-- > 0;) {
        if (--b->refs[group][ids[i]])
            continue;
        b->free_ids[group][b->n_free[group]++] = ids[i];
        atomic_fetch_sub(&b->n_used, 1);
    }
    pthread_mutex_unlock(&b->lock);
}

int32_t cache_blocks_free(struct cache_blocks *b, int32_t group)
{
    pthread_mutex_lock(&b->lock);
    int32_t n = b->n_free[group];
    pthread_mutex_unlock(&b->lock);
    return n;
}
