/* Blocks of KV memory in a fixed byte budget: constant-time allocation from a
 * free list, reference counts for sharing. Safe from any thread. */
#ifndef CACHE_BLOCKS_H
#define CACHE_BLOCKS_H

#include "device/device.h"

#include <pthread.h>
#include <stdatomic.h>

#define CACHE_GROUPS_MAX 8

/* Layers that share block tables: same kind, sizes and window. A group with state_bytes holds
 * state: one block a sequence, however long it grows. That of recurrent layers changes with each
 * token; that of cross-attention, the keys and values of a source, is written before the first
 * token and never again (is_source), so that all who go on from there share it. Any other group
 * holds keys and values (v_slot 0: keys alone), block_tokens positions in a block. */
struct cache_group {
    int32_t kind; /* as the model numbers them */
    int32_t n_layers, n_heads, window;
    size_t k_slot, v_slot; /* bytes of the keys and values of one head at one position */
    size_t state_bytes;    /* of one layer */
    int32_t is_source;     /* of a state: it does not change */
    size_t k_bytes;        /* keys of one layer in one block; filled in, as what follows */
    size_t layer_bytes;    /* from a layer to the next in a block */
};

/* An id covers block_tokens positions of all layers of its group. The budget is parted for
 * sequences of sequence_tokens (0: groups get the same number of blocks): so many blocks of groups
 * that keep all positions, those that a window spans, and a state each, so that all run out
 * together where sequences are that long. With a prefix cache there are two states for each, one
 * to go on from. */
struct cache_config {
    uint64_t budget_bytes;
    infer_dtype type; /* of keys and values, for those who ask */
    int32_t block_tokens;
    int32_t sequence_tokens;
    int32_t prefix; /* full blocks are kept and found again */
    int32_t n_groups;
    struct cache_group groups[CACHE_GROUPS_MAX]; /* kind .. state_bytes filled in */
};

struct cache_prefix;
struct cache_tier;

/* Of a group whose blocks nodes of the prefix cache may lack: which node a block is part of, and
 * the parts that nobody holds, oldest first. */
struct cache_parts {
    int32_t *owner; /* -1: none */
    int32_t *older, *newer;
    int32_t oldest, newest, n_idle; /* -1: none */
};

struct cache_blocks {
    struct base_alloc alloc;
    struct infer_device *device;
    struct cache_config config;
    struct device_buffer memory;
    size_t block_bytes[CACHE_GROUPS_MAX]; /* of one block of a group */
    size_t base[CACHE_GROUPS_MAX];        /* of a group's blocks in the memory */
    int32_t n_blocks[CACHE_GROUPS_MAX];
    int32_t n_spans; /* as cache_config_part() reckons */
    pthread_mutex_t lock;
    int32_t *free_ids[CACHE_GROUPS_MAX]; /* stacks */
    int32_t n_free[CACHE_GROUPS_MAX];
    int32_t *refs[CACHE_GROUPS_MAX];
    /* Blocks that somebody only reads to the end, and will give back without being asked. */
    int32_t n_leaving[CACHE_GROUPS_MAX];
    pthread_cond_t left;
    struct cache_parts parts[CACHE_GROUPS_MAX]; /* filled in for such groups beside `prefix` */
    _Atomic int32_t n_used;      /* held by somebody: sum over groups, for statistics */
    struct cache_prefix *prefix; /* NULL: off */
    struct cache_tier *tier;     /* NULL: what is evicted is gone */
};

/* Whether a group holds state: one block a sequence. */
static inline int cache_group_is_state(const struct cache_group *group)
{
    return group->state_bytes > 0;
}

/* Whether nodes of the prefix cache may lack its block: what is behind a window is needed no more,
 * and a state is kept of few positions. */
static inline int cache_group_is_partial(const struct cache_group *group)
{
    return group->state_bytes > 0 || group->window > 0;
}

/* Blocks that a window needs at most while its sequence grows by one position at a time. */
static inline int32_t cache_window_blocks(const struct cache_config *config, int32_t window)
{
    return window / config->block_tokens + 2;
}

static inline int cache_has_parts(const struct cache_blocks *blocks)
{
    int found = 0;
    for (int32_t g = 0; g < blocks->config.n_groups; g++)
        found |= cache_group_is_partial(&blocks->config.groups[g]);
    return found;
}

static inline int cache_has_state(const struct cache_blocks *blocks)
{
    int found = 0;
    for (int32_t g = 0; g < blocks->config.n_groups; g++)
        found |= cache_group_is_state(&blocks->config.groups[g]);
    return found;
}

/* Budget that holds n_tokens positions, in whole blocks, beside n_states states. */
uint64_t cache_config_bytes(const struct cache_config *config, uint64_t n_tokens,
                            uint64_t n_states);
/* Parts the budget: blocks of each group, and how many spans of block_tokens positions all
 * sequences together are reckoned to have; a budget of 0 has none. INFER_ERR_LIMIT: it is too
 * small. */
infer_status cache_config_part(const struct cache_config *config,
                               int32_t n_blocks[CACHE_GROUPS_MAX], int32_t *n_spans);
/* Bytes of a block; fills in the sizes of its layers. */
size_t cache_group_bytes(const struct cache_config *config, struct cache_group *group);

infer_status cache_blocks_create(struct cache_blocks **out, const struct base_alloc *a,
                                 struct infer_device *device, const struct cache_config *config);
void cache_blocks_destroy(struct cache_blocks **blocks);
/* Another budget; 0: no memory, until the next one. Kept prefixes stay as far as there is room,
 * which needs memory for both at once. No table may hold a block, and nobody may read any but
 * under the lock. INFER_ERR_BUSY (what is pinned does not fit), LIMIT, NO_MEMORY: nothing changes,
 * but what did not fit may be gone. */
infer_status cache_blocks_resize(struct cache_blocks *blocks, uint64_t budget_bytes);

/* Takes n blocks of a group, all or none, also those that are about to be left: INFER_ERR_NO_MEMORY
 * without a sentence, because running out is the scheduler's daily business. */
infer_status cache_blocks_take(struct cache_blocks *blocks, int32_t group, int32_t *ids, int32_t n);
void cache_blocks_share(struct cache_blocks *blocks, int32_t group, const int32_t *ids, int32_t n);
void cache_blocks_give(struct cache_blocks *blocks, int32_t group, const int32_t *ids, int32_t n);

/* Under the lock: takes one block, also in place of what nobody holds. -1: there is none. */
int32_t cache_block_take(struct cache_blocks *blocks, int32_t group);
/* Under the lock: one more holder. */
void cache_block_hold(struct cache_blocks *blocks, int32_t group, int32_t id);
/* Under the lock: gives one holder's part of a block back. */
void cache_block_drop(struct cache_blocks *blocks, int32_t group, int32_t id);

/* Blocks that can be taken, those that are kept for their tokens or about to be left included. */
int32_t cache_blocks_free(struct cache_blocks *blocks, int32_t group);

/* Blocks of all groups together. */
int64_t cache_blocks_count(const struct cache_blocks *blocks);
/* Positions of one sequence that there is room for; INT32_MAX where it can grow without end. */
int32_t cache_blocks_tokens(const struct cache_blocks *blocks);

#endif
