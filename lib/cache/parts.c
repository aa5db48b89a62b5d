/* Blocks that nodes of the prefix cache may lack: of groups with windows, and states. */
#include "cache/tier.h"

static void list_remove(struct cache_parts *p, int32_t id)
{
    *(p->older[id] >= 0 ? &p->newer[p->older[id]] : &p->oldest) = p->newer[id];
    *(p->newer[id] >= 0 ? &p->older[p->newer[id]] : &p->newest) = p->older[id];
    p->n_idle--;
}

void cache_part_wake(struct cache_blocks *b, int32_t g, int32_t id)
{
    list_remove(&b->parts[g], id);
}

void cache_part_rest(struct cache_blocks *b, int32_t g, int32_t id)
{
    struct cache_parts *p = &b->parts[g];
    p->older[id] = p->newest;
    p->newer[id] = -1;
    *(p->newest >= 0 ? &p->newer[p->newest] : &p->oldest) = id;
    p->newest = id;
    p->n_idle++;
}

void cache_part_give(struct cache_blocks *b, int32_t g, int32_t node, int32_t id)
{
    b->prefix->nodes[node].ids[g] = id;
    b->parts[g].owner[id] = node;
    b->prefix->n_parts++;
}

void cache_part_take(struct cache_blocks *b, int32_t g, int32_t node)
{
    int32_t *id = &b->prefix->nodes[node].ids[g];
    if (*id < 0)
        return;
    b->parts[g].owner[*id] = -1;
    b->prefix->n_parts--;
    if (b->prefix->nodes[node].in_tier == CACHE_TIER_COPYING) /* what is copied may be another's */
        b->prefix->nodes[node].in_tier = CACHE_TIER_HASHED;
    if (!b->refs[g][*id]) {
        list_remove(&b->parts[g], *id);
        b->free_ids[g][b->n_free[g]++] = *id;
    }
    *id = -1;
}

int cache_parts_evict(struct cache_blocks *b, int32_t g, int32_t n)
{
    struct cache_parts *p = &b->parts[g];
    const int32_t n_evicted = n;
    if (n > p->n_idle)
        return 0;
    for (; n > 0; n--)
        cache_part_take(b, g, p->owner[p->oldest]);
    b->prefix->n_evicted += (uint64_t)n_evicted;
    return 1;
}

int32_t cache_part_first(const struct cache_blocks *b, int32_t g, int32_t position)
{
    const struct cache_group *group = &b->config.groups[g];
    const int32_t step = b->config.block_tokens, window = group->window;
    if (cache_group_is_state(group))
        return BASE_MAX(position / step - 1, 0);
    return window && position >= window ? (position - window + 1) / step : 0;
}

int32_t cache_parts_usable(const struct cache_blocks *b, const int32_t *nodes, int32_t n)
{
    int32_t run[CACHE_GROUPS_MAX] = {0}, usable = 0; /* run: parts there without a gap */
    for (int32_t k = 0; k < n; k++) {
        int whole = 1;
        for (int32_t g = 0; g < b->config.n_groups; g++) {
            if (!b->parts[g].owner)
                continue;
            run[g] = b->prefix->nodes[nodes[k]].ids[g] < 0 ? 0 : run[g] + 1;
            whole &= run[g] > k - cache_part_first(b, g, (k + 1) * b->config.block_tokens);
        }
        usable = whole ? k + 1 : usable;
    }
    return usable;
}

/* Holds (or drops) what whoever goes on behind this node, the n-th, needs of nodes' parts. */
static void walk_up(struct cache_blocks *b, int32_t node, int32_t n,
                    void (*act)(struct cache_blocks *, int32_t, int32_t))
{
    for (int32_t k = n - 1; k >= 0; k--, node = b->prefix->nodes[node].parent)
        for (int32_t g = 0; g < b->config.n_groups; g++)
            if (b->parts[g].owner && k >= cache_part_first(b, g, n * b->config.block_tokens))
                act(b, g, b->prefix->nodes[node].ids[g]);
}

void cache_parts_hold(struct cache_blocks *b, int32_t node, int32_t n)
{
    walk_up(b, node, n, cache_block_hold);
}

void cache_parts_drop(struct cache_blocks *b, int32_t node, int32_t n)
{
    walk_up(b, node, n, cache_block_drop);
}
