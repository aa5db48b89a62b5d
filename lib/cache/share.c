/* Tables and the prefix cache: what is found there, and what is kept. */
#include "cache/tier.h"

infer_status cache_table_share(struct cache_table *table, const struct cache_key *key)
{
    struct cache_blocks *b = table->blocks;
    if (!b->prefix)
        return INFER_OK;
    table->nodes = base_new(&b->alloc, (size_t)table->capacity, sizeof *table->nodes);
    return table->nodes ? cache_root_acquire(b, key, &table->root) : INFER_ERR_NO_MEMORY;
}

/* ------------------------------------------------------------------ finding */

/* Under the lock: the nodes of the first tokens, which are not held yet. */
static int32_t match(struct cache_table *t, const void *sequence, cache_tokens_fn *get,
                     int32_t n_tokens)
{
    struct cache_blocks *b = t->blocks;
    const int32_t step = b->config.block_tokens;
    infer_token tokens[CACHE_BLOCK_TOKENS_MAX];
    int32_t n = 0;
    for (; (n + 1) * step <= n_tokens; n++) {
        int32_t parent = n ? t->nodes[n - 1] : -1;
        get(sequence, n * step, step, tokens);
        t->nodes[n] = cache_prefix_find(b, t->root, parent, tokens,
                                        cache_prefix_hash(b, t->root, parent, tokens));
        if (t->nodes[n] < 0)
            break;
    }
    return n;
}

/* Under the lock: holds the first n nodes, and what is seen from behind them. */
static void hold(struct cache_table *t, int32_t n)
{
    struct cache_blocks *b = t->blocks;
    for (int32_t k = 0; k < n; k++)
        cache_node_hold(b, t->nodes[k]);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        const struct cache_group *group = &b->config.groups[g];
        if (cache_group_is_state(group))
            continue;
        int32_t first = cache_part_first(b, g, n * b->config.block_tokens);
        for (int32_t k = first; k < n; k++) {
            t->ids[g][k] = b->prefix->nodes[t->nodes[k]].ids[g];
            if (group->window)
                cache_block_hold(b, g, t->ids[g][k]);
        }
        t->n_passed[g] = first;
    }
    t->n_nodes = t->n_blocks = t->n_reached = n;
}

/* Under the lock: takes states, and owes them those behind the last node. 0: there is no room. */
static int owe_states(struct cache_table *t)
{
    struct cache_blocks *b = t->blocks;
    const struct cache_node *last = &b->prefix->nodes[t->nodes[t->n_nodes - 1]];
    int32_t g = 0;
    for (; g < b->config.n_groups; g++) {
        t->copies[g] = -1;
        if (!cache_group_is_state(&b->config.groups[g]))
            continue;
        cache_block_hold(b, g, last->ids[g]); /* it does not make room for its copy */
        if (b->config.groups[g].is_source) {
            t->ids[g][0] = last->ids[g];
            continue;
        }
        t->ids[g][0] = cache_block_take(b, g);
        if (t->ids[g][0] < 0)
            break;
        t->copies[g] = last->ids[g];
        t->has_copies = 1;
    }
    if (g == b->config.n_groups) {
        t->copied_node = -1;
        return 1;
    }
    cache_block_drop(b, g, last->ids[g]);
    while (g-- > 0) {
        if (t->copies[g] >= 0)
            cache_block_drop(b, g, t->copies[g]);
        if (cache_group_is_state(&b->config.groups[g]))
            cache_block_drop(b, g, t->ids[g][0]);
    }
    t->has_copies = 0;
    return 0;
}

/* Under the lock: of a table that owns nothing yet. */
static void let_go(struct cache_table *t)
{
    struct cache_blocks *b = t->blocks;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        for (int32_t k = t->n_nodes; b->config.groups[g].window && k-- > t->n_passed[g];)
            cache_block_drop(b, g, t->ids[g][k]);
        t->n_passed[g] = 0;
    }
    while (t->n_nodes)
        cache_node_drop(b, t->nodes[--t->n_nodes]);
    t->n_blocks = t->n_reached = 0;
}

int32_t cache_table_find(struct cache_table *t, const void *sequence, cache_tokens_fn *get,
                         int32_t n_tokens)
{
    struct cache_blocks *b = t->blocks;
    if (!t->root)
        return 0;
    pthread_mutex_lock(&b->lock);
    t->n_matched = match(t, sequence, get, n_tokens);
    hold(t, cache_parts_usable(b, t->nodes, t->n_matched));
    if (t->n_nodes && !owe_states(t))
        let_go(t);
    pthread_mutex_unlock(&b->lock);
    return t->n_nodes * b->config.block_tokens;
}

/* ------------------------------------------------------------------ keeping */

/* Under the lock: block k of a table becomes a part of the node, or gives way to that which is
 * there. */
static void keep_part(struct cache_table *t, int32_t g, int32_t k, int32_t node)
{
    struct cache_blocks *b = t->blocks;
    struct cache_node *n = &b->prefix->nodes[node];
    if (k < t->n_passed[g] || k >= t->n_reached)
        return;
    if (n->ids[g] < 0) {
        cache_part_give(b, g, node, t->ids[g][k]);
        if (n->in_tier >= CACHE_TIER_COPYING) /* without it */
            n->in_tier = CACHE_TIER_HASHED;
        return;
    }
    cache_block_hold(b, g, n->ids[g]);
    cache_block_drop(b, g, t->ids[g][k]);
    t->ids[g][k] = n->ids[g];
}

/* Under the lock: makes the table's first block of its own a node, or exchanges it for one. 0:
 * there is no room for a node. */
static int keep_block(struct cache_table *t, int32_t parent, const infer_token *tokens,
                      struct base_hash128 hash)
{
    struct cache_blocks *b = t->blocks;
    int32_t k = t->n_nodes, ids[CACHE_GROUPS_MAX] = {0};
    int32_t node = cache_prefix_find(b, t->root, parent, tokens, hash);
    const int is_new = node < 0;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (!cache_group_is_partial(&b->config.groups[g]))
            ids[g] = t->ids[g][k];
    if (is_new && (node = cache_prefix_insert(b, t->root, parent, tokens, hash, ids)) < 0)
        return 0;
    if (!is_new)
        cache_node_hold(b, node);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        const struct cache_group *group = &b->config.groups[g];
        if (group->window) {
            keep_part(t, g, k, node);
        } else if (!cache_group_is_state(group) && !is_new) {
            cache_block_drop(b, g, ids[g]);
            t->ids[g][k] = b->prefix->nodes[node].ids[g];
        }
    }
    t->nodes[t->n_nodes++] = node;
    return 1;
}

void cache_table_keep(struct cache_table *t, const void *sequence, cache_tokens_fn *get,
                      int32_t n_tokens)
{
    struct cache_blocks *b = t->blocks;
    const int32_t step = b->config.block_tokens;
    infer_token tokens[CACHE_BLOCK_TOKENS_MAX];
    while (t->root && (t->n_nodes + 1) * step <= n_tokens) {
        int32_t parent = t->n_nodes ? t->nodes[t->n_nodes - 1] : -1;
        get(sequence, t->n_nodes * step, step, tokens);
        struct base_hash128 hash = cache_prefix_hash(b, t->root, parent, tokens);
        pthread_mutex_lock(&b->lock);
        /* Nothing joins what was forgotten. */
        int joins = (parent < 0 || b->prefix->nodes[parent].state == CACHE_NODE_LIVE) &&
                    keep_block(t, parent, tokens, hash);
        pthread_mutex_unlock(&b->lock);
        if (!joins)
            return;
    }
}

/* ------------------------------------------------------------------- states */

/* Whether a table's own block becomes the part: one that does not change, and is nobody's yet. */
static int is_given(const struct cache_table *t, int32_t g)
{
    const struct cache_blocks *b = t->blocks;
    return b->config.groups[g].is_source && b->parts[g].owner[t->ids[g][0]] < 0;
}

/* A block for each state that the node lacks. 0: none is lacking, or there is no room. */
static int take_parts(const struct cache_table *t, int32_t node, int32_t ids[CACHE_GROUPS_MAX])
{
    struct cache_blocks *b = t->blocks;
    int n_taken = 0, fits = 1;
    pthread_mutex_lock(&b->lock);
    const struct cache_node *n = &b->prefix->nodes[node];
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        ids[g] = -1;
        if (!cache_group_is_state(&b->config.groups[g]) || n->ids[g] >= 0 ||
            n->state != CACHE_NODE_LIVE)
            continue;
        if (is_given(t, g)) {
            ids[g] = t->ids[g][0];
            cache_block_hold(b, g, ids[g]);
        } else {
            ids[g] = cache_block_take(b, g);
        }
        fits &= ids[g] >= 0;
        n_taken += ids[g] >= 0;
    }
    for (int32_t g = 0; !fits && g < b->config.n_groups; g++)
        if (ids[g] >= 0)
            cache_block_drop(b, g, ids[g]);
    pthread_mutex_unlock(&b->lock);
    return fits && n_taken;
}

static void give_parts(struct cache_blocks *b, int32_t node, const int32_t ids[CACHE_GROUPS_MAX])
{
    pthread_mutex_lock(&b->lock);
    const struct cache_node *n = &b->prefix->nodes[node];
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        if (ids[g] < 0)
            continue;
        if (n->ids[g] < 0 && n->state == CACHE_NODE_LIVE) /* nobody was faster */
            cache_part_give(b, g, node, ids[g]);
        cache_block_drop(b, g, ids[g]);
    }
    pthread_mutex_unlock(&b->lock);
}

/* What it kept while it passed by, unless somebody goes on from there. */
static void forget_passing(struct cache_table *t)
{
    struct cache_blocks *b = t->blocks;
    if (t->passing < 0)
        return;
    pthread_mutex_lock(&b->lock);
    const struct cache_node *n = &b->prefix->nodes[t->nodes[t->passing]];
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        const int32_t id = n->ids[g];
        if (cache_group_is_state(&b->config.groups[g]) && id >= 0 &&
            b->refs[g][id] == (id == t->ids[g][0])) /* held by itself at most */
            cache_part_take(b, g, t->nodes[t->passing]);
    }
    pthread_mutex_unlock(&b->lock);
    t->passing = -1;
}

void cache_table_checkpoint(struct cache_table *t, int32_t n_tokens, int passing)
{
    struct cache_blocks *b = t->blocks;
    int32_t ids[CACHE_GROUPS_MAX];
    if (!t->n_nodes || t->n_nodes * b->config.block_tokens != n_tokens)
        return;
    if (passing)
        forget_passing(t);
    const int32_t node = t->nodes[t->n_nodes - 1];
    if (!take_parts(t, node, ids))
        return;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (ids[g] >= 0 && ids[g] != t->ids[g][0]) /* inside the buffer, so it cannot fail */
            device_buffer_copy(&b->memory, b->base[g] + (size_t)ids[g] * b->block_bytes[g],
                               &b->memory, b->base[g] + (size_t)t->ids[g][0] * b->block_bytes[g],
                               b->block_bytes[g]);
    give_parts(b, node, ids);
    if (passing)
        t->passing = t->n_nodes - 1;
}
