/* Prefixes that the host keeps in the cache. */
#include "cache/prefix.h"

/* The nodes of the leading blocks of n tokens: the deepest one, or with `pinned` the deepest
 * that has a pin of its own; -1: none. */
static int32_t deepest(const struct cache_blocks *b, const struct cache_root *root,
                       const infer_token *tokens, size_t n, int pinned)
{
    size_t step = (size_t)b->config.block_tokens;
    int32_t found = -1, node = -1;
    for (size_t at = 0; n - at >= step; at += step) {
        node = cache_prefix_find(b, root, node, tokens + at,
                                 cache_prefix_hash(b, root, node, tokens + at));
        if (node < 0)
            break;
        if (!pinned || b->prefix->nodes[node].pins)
            found = node;
    }
    return found;
}

static int32_t depth_of(const struct cache_blocks *b, int32_t node)
{
    int32_t n = 0;
    for (; node >= 0; node = b->prefix->nodes[node].parent)
        n += b->config.block_tokens;
    return n;
}

/* One reference for all pins of a node, on it and on its parents. */
static void add_pin(struct cache_blocks *b, int32_t node)
{
    if (b->prefix->nodes[node].pins++)
        return;
    for (; node >= 0; node = b->prefix->nodes[node].parent)
        cache_node_hold(b, node);
}

static void take_pin(struct cache_blocks *b, int32_t node)
{
    if (--b->prefix->nodes[node].pins)
        return;
    while (node >= 0) {
        int32_t parent = b->prefix->nodes[node].parent;
        cache_node_drop(b, node);
        node = parent;
    }
}

static int32_t change(struct cache_blocks *b, const struct cache_key *key,
                      const infer_token *tokens, size_t n, int unpin)
{
    int32_t depth = 0;
    if (!b->prefix)
        return 0;
    pthread_mutex_lock(&b->lock);
    const struct cache_root *root = cache_root_find(b, key);
    int32_t node = root ? deepest(b, root, tokens, n, unpin) : -1;
    if (node >= 0) {
        depth = depth_of(b, node);
        if (unpin)
            take_pin(b, node);
        else
            add_pin(b, node);
    }
    pthread_mutex_unlock(&b->lock);
    return depth;
}

int32_t cache_prefix_pin(struct cache_blocks *b, const struct cache_key *key,
                         const infer_token *tokens, size_t n)
{
    return change(b, key, tokens, n, 0);
}

int32_t cache_prefix_unpin(struct cache_blocks *b, const struct cache_key *key,
                           const infer_token *tokens, size_t n)
{
    return change(b, key, tokens, n, 1);
}
