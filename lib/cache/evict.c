/* Who holds nodes of the prefix cache, and which go when blocks run out. */
#include "cache/tier.h"

int32_t *cache_prefix_bucket(const struct cache_prefix *p, struct base_hash128 hash)
{
    return &p->buckets[hash.low & (uint64_t)(p->n_buckets - 1)];
}

void cache_root_unref(struct cache_blocks *b, struct cache_root *root)
{
    if (--root->refs)
        return;
    struct cache_root **at =
        &b->prefix->roots[root->hash.low & (uint64_t)(b->prefix->n_buckets - 1)];
    while (*at != root)
        at = &(*at)->next;
    *at = root->next;
    base_free(&b->alloc, root);
}

static void list_remove(struct cache_prefix *p, int32_t i)
{
    struct cache_node *node = &p->nodes[i];
    *(node->older >= 0 ? &p->nodes[node->older].newer : &p->oldest) = node->newer;
    *(node->newer >= 0 ? &p->nodes[node->newer].older : &p->newest) = node->older;
    node->older = node->newer = -1;
    p->n_idle--;
}

static void list_append(struct cache_prefix *p, int32_t i)
{
    struct cache_node *node = &p->nodes[i];
    node->older = p->newest;
    *(p->newest >= 0 ? &p->nodes[p->newest].newer : &p->oldest) = i;
    p->newest = i;
    p->n_idle++;
}

static void index_remove(struct cache_prefix *p, int32_t i)
{
    int32_t *at = cache_prefix_bucket(p, p->nodes[i].hash);
    while (*at != i)
        at = &p->nodes[*at].chain;
    *at = p->nodes[i].chain;
    p->n_cached--;
}

/* Of a node that is in no list and no index any more. */
static void free_node(struct cache_blocks *b, int32_t i)
{
    struct cache_prefix *p = b->prefix;
    struct cache_node *node = &p->nodes[i];
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (cache_group_is_partial(&b->config.groups[g])) {
            cache_part_take(b, g, i);
        } else {
            b->refs[g][node->ids[g]] = 0;
            b->free_ids[g][b->n_free[g]++] = node->ids[g];
        }
    if (node->root)
        cache_root_unref(b, node->root);
    node->root = NULL;
    node->state = CACHE_NODE_FREE;
    node->chain = p->free_node;
    p->free_node = i;
}

void cache_node_hold(struct cache_blocks *b, int32_t i)
{
    struct cache_prefix *p = b->prefix;
    if (p->nodes[i].refs++)
        return;
    list_remove(p, i);
    atomic_fetch_add(&b->n_used, p->n_groups);
}

void cache_node_drop(struct cache_blocks *b, int32_t i)
{
    struct cache_prefix *p = b->prefix;
    if (--p->nodes[i].refs)
        return;
    atomic_fetch_sub(&b->n_used, p->n_groups);
    if (p->nodes[i].state == CACHE_NODE_LIVE) {
        list_append(p, i);
        cache_tier_notice(b->tier, &p->nodes[i]);
    } else {
        free_node(b, i);
    }
}

int cache_prefix_evict(struct cache_blocks *b, int32_t n)
{
    struct cache_prefix *p = b->prefix;
    if (n > p->n_idle)
        return 0;
    for (; n > 0; n--) {
        int32_t i = p->oldest; /* has no child: that would be older */
        list_remove(p, i);
        index_remove(p, i);
        cache_tier_lose(b->tier, &p->nodes[i]);
        for (int32_t g = 0; g < b->config.n_groups; g++)
            p->n_evicted += p->nodes[i].ids[g] >= 0;
        free_node(b, i);
    }
    return 1;
}

/* A node that is held stays with its holders and is found no more. */
static void forget(struct cache_blocks *b, int32_t i)
{
    struct cache_prefix *p = b->prefix;
    index_remove(p, i);
    p->nodes[i].state = CACHE_NODE_FORGOTTEN;
    if (p->nodes[i].refs)
        return;
    list_remove(p, i);
    free_node(b, i);
}

void cache_node_unpin(struct cache_blocks *b, int32_t i)
{
    const struct cache_node *nodes = b->prefix->nodes;
    int32_t n = 0;
    for (int32_t at = i; at >= 0; at = nodes[at].parent)
        n++;
    cache_parts_drop(b, i, n);
    while (i >= 0) {
        int32_t parent = nodes[i].parent;
        cache_node_drop(b, i);
        i = parent;
    }
}

static void drop_pins(struct cache_blocks *b, int32_t i)
{
    if (!b->prefix->nodes[i].pins)
        return;
    b->prefix->nodes[i].pins = 0;
    cache_node_unpin(b, i);
}

void cache_prefix_clear(struct cache_blocks *b)
{
    pthread_mutex_lock(&b->lock);
    struct cache_prefix *p = b->prefix;
    for (int32_t i = 0; p && i < p->n_nodes; i++)
        if (p->nodes[i].state == CACHE_NODE_LIVE)
            drop_pins(b, i);
    for (int32_t i = 0; p && i < p->n_nodes; i++)
        if (p->nodes[i].state == CACHE_NODE_LIVE)
            forget(b, i);
    pthread_mutex_unlock(&b->lock);
}
