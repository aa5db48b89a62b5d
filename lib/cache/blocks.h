/* Blocks of KV memory in a fixed byte budget: constant-time allocation from a
 * free list, reference counts for sharing. Safe from any thread. */
#ifndef CACHE_BLOCKS_H
#define CACHE_BLOCKS_H

#include "device/device.h"

#include <pthread.h>
#include <stdatomic.h>

#define CACHE_GROUPS_MAX 4

/* Layers that share block tables: same kind, heads and window. */
struct cache_group {
    int32_t kind; /* as the model numbers them */
    int32_t n_layers, n_heads, head_dim, window;
    size_t layer_bytes; /* keys and values of one layer in one block */
};

/* A block id covers block_tokens positions of every layer of every group; a
 * group whose window has passed gives its ids back early. */
struct cache_config {
    uint64_t budget_bytes;
    infer_dtype type;
    int32_t block_tokens;
    int32_t n_groups;
    struct cache_group groups[CACHE_GROUPS_MAX]; /* kind .. window filled in */
};

struct cache_blocks {
    struct base_alloc alloc;
    struct infer_device *device;
    struct cache_config config;
    struct device_buffer memory;
    size_t block_bytes[CACHE_GROUPS_MAX]; /* of one block of a group */
    size_t base[CACHE_GROUPS_MAX];        /* of a group's blocks in the memory */
    int32_t n_blocks;                     /* in each group */
    pthread_mutex_t lock;
    int32_t *free_ids[CACHE_GROUPS_MAX]; /* stacks */
    int32_t n_free[CACHE_GROUPS_MAX];
    int32_t *refs[CACHE_GROUPS_MAX];
    _Atomic int32_t n_used; /* sum over groups, for statistics */
};

infer_status cache_blocks_create(struct cache_blocks **out, const struct base_alloc *a,
                                 struct infer_device *device, const struct cache_config *config);
void cache_blocks_destroy(struct cache_blocks **blocks);

/* Takes n blocks of a group, all or none: INFER_ERR_NO_MEMORY without a
 * sentence, because running out is the scheduler's daily business. */
infer_status cache_blocks_take(struct cache_blocks *blocks, int32_t group, int32_t *ids, int32_t n);
void cache_blocks_share(struct cache_blocks *blocks, int32_t group, const int32_t *ids, int32_t n);
void cache_blocks_give(struct cache_blocks *blocks, int32_t group, const int32_t *ids, int32_t n);

int32_t cache_blocks_free(struct cache_blocks *blocks, int32_t group);

#endif
