/* Prefixes that the host keeps in the cache. */
#include "cache/prefix.h"

/* The node behind which the leading blocks of n tokens can be gone on from, as far as they are
 * cached, or with `pinned` the deepest that has a pin of its own; -1: none. Tells its depth. */
static int32_t deepest(const struct cache_blocks *b, const struct cache_root *root,
                       const infer_token *tokens, size_t n, int pinned, int32_t *nodes,
                       int32_t *depth)
{
    const size_t step = (size_t)b->config.block_tokens;
    int32_t node = -1, n_nodes = 0;
    for (size_t at = 0; n - at >= step; at += step) {
        node = cache_prefix_find(b, root, node, tokens + at,
                                 cache_prefix_hash(b, root, node, tokens + at));
        if (node < 0)
            break;
        nodes[n_nodes++] = node;
    }
    if (!pinned)
        n_nodes = cache_parts_usable(b, nodes, n_nodes);
    while (pinned && n_nodes > 0 && !b->prefix->nodes[nodes[n_nodes - 1]].pins)
        n_nodes--;
    *depth = n_nodes;
    return n_nodes ? nodes[n_nodes - 1] : -1;
}

/* One reference for all pins of a node, on it, on its parents and on what is seen behind it. */
static void add_pin(struct cache_blocks *b, int32_t node, int32_t depth)
{
    if (b->prefix->nodes[node].pins++)
        return;
    for (int32_t at = node; at >= 0; at = b->prefix->nodes[at].parent)
        cache_node_hold(b, at);
    cache_parts_hold(b, node, depth);
}

static void take_pin(struct cache_blocks *b, int32_t node)
{
    if (!--b->prefix->nodes[node].pins)
        cache_node_unpin(b, node);
}

static int32_t change(struct cache_blocks *b, const struct cache_key *key,
                      const infer_token *tokens, size_t n, int unpin)
{
    int32_t depth = 0;
    pthread_mutex_lock(&b->lock);
    const struct cache_root *root = b->prefix ? cache_root_find(b, key) : NULL;
    int32_t node = root ? deepest(b, root, tokens, n, unpin, b->prefix->path, &depth) : -1;
    if (node >= 0 && unpin)
        take_pin(b, node);
    else if (node >= 0)
        add_pin(b, node, depth);
    pthread_mutex_unlock(&b->lock);
    return depth * b->config.block_tokens;
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
