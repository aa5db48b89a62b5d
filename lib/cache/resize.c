/* Another budget for a cache: what is kept moves over, newest first, as far as there is room. */
#include "cache/tier.h"

#include "base/error.h"

#include <string.h>

/* New numbers of what moves; -1: it does not. */
struct moves {
    int32_t *nodes;
    int32_t *ids[CACHE_GROUPS_MAX];
};

static int is_partial(const struct cache_blocks *b, int32_t g)
{
    return cache_group_is_partial(&b->config.groups[g]);
}

/* Blocks of a group that are kept. Nobody holds any but nodes. */
static int32_t n_kept(const struct cache_blocks *b, int32_t g)
{
    return b->n_blocks[g] - b->n_free[g];
}

/* Evicts until all that is kept fits into `to`. What is pinned stays. */
static infer_status evict(struct cache_blocks *b, const struct cache_blocks *to)
{
    int32_t n_nodes = b->prefix ? (int32_t)b->prefix->n_cached : 0, too_many = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (!is_partial(b, g))
            too_many = BASE_MAX(too_many, n_kept(b, g) - to->n_blocks[g]);
    if (n_nodes)
        too_many = BASE_MAX(too_many, n_nodes - to->n_spans);
    int fits = too_many <= 0 || (b->prefix && cache_prefix_evict(b, too_many));
    for (int32_t g = 0; fits && g < b->config.n_groups; g++)
        if (b->parts[g].owner && n_kept(b, g) > to->n_blocks[g])
            fits = cache_parts_evict(b, g, n_kept(b, g) - to->n_blocks[g]);
    return fits ? INFER_OK
                : base_error(INFER_ERR_BUSY,
                             "what is pinned does not fit into the new budget of %llu bytes",
                             (unsigned long long)to->config.budget_bytes);
}

static infer_status make_moves(struct moves *m, const struct cache_blocks *b)
{
    const size_t n_nodes = b->prefix ? (size_t)b->prefix->n_nodes : 0;
    *m = (struct moves){.nodes = base_new(&b->alloc, n_nodes, sizeof *m->nodes)};
    int made = !!m->nodes;
    for (int32_t g = 0; made && g < b->config.n_groups; g++) {
        m->ids[g] = base_new(&b->alloc, (size_t)b->n_blocks[g], sizeof **m->ids);
        made = !!m->ids[g];
        if (made)
            memset(m->ids[g], 0xFF, (size_t)b->n_blocks[g] * sizeof **m->ids);
    }
    return made ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static void free_moves(struct moves *m, const struct base_alloc *a)
{
    base_free(a, m->nodes);
    for (int32_t g = 0; g < CACHE_GROUPS_MAX; g++)
        base_free(a, m->ids[g]);
}

/* ------------------------------------------------------------------- moving */

/* Gives every node its new place, and its blocks theirs. */
static void place(struct moves *m, const struct cache_blocks *b, struct cache_blocks *to)
{
    for (int32_t i = 0; i < b->prefix->n_nodes; i++) {
        const struct cache_node *node = &b->prefix->nodes[i];
        if (node->state == CACHE_NODE_FREE)
            continue;
        m->nodes[i] = to->prefix->free_node;
        to->prefix->free_node = to->prefix->nodes[m->nodes[i]].chain;
        for (int32_t g = 0; g < b->config.n_groups; g++)
            if (node->ids[g] >= 0)
                m->ids[g][node->ids[g]] = to->free_ids[g][--to->n_free[g]];
    }
}

static void move_blocks(const struct moves *m, const struct cache_blocks *b,
                        struct cache_blocks *to)
{
    for (int32_t g = 0; g < b->config.n_groups; g++)
        for (int32_t id = 0; id < b->n_blocks[g]; id++) {
            int32_t at = m->ids[g][id];
            if (at < 0)
                continue;
            const size_t bytes = b->block_bytes[g]; /* inside both buffers: it cannot fail */
            device_buffer_copy(&to->memory, to->base[g] + (size_t)at * bytes, &b->memory,
                               b->base[g] + (size_t)id * bytes, bytes);
            to->refs[g][at] = b->refs[g][id];
            if (b->parts[g].owner)
                to->parts[g].owner[at] = m->nodes[b->parts[g].owner[id]];
        }
}

static int32_t moved(const struct moves *m, int32_t node)
{
    return node < 0 ? -1 : m->nodes[node];
}

static void move_nodes(const struct moves *m, const struct cache_blocks *b, struct cache_blocks *to)
{
    const struct cache_prefix *p = b->prefix;
    const size_t tokens = (size_t)b->config.block_tokens;
    for (int32_t i = 0; i < p->n_nodes; i++) {
        if (p->nodes[i].state == CACHE_NODE_FREE)
            continue;
        struct cache_node *node = &to->prefix->nodes[m->nodes[i]];
        *node = p->nodes[i];
        node->parent = moved(m, node->parent);
        node->older = moved(m, node->older);
        node->newer = moved(m, node->newer);
        for (int32_t g = 0; g < b->config.n_groups; g++)
            node->ids[g] = node->ids[g] < 0 ? -1 : m->ids[g][node->ids[g]];
        int32_t *bucket = cache_prefix_bucket(to->prefix, node->hash);
        node->chain = *bucket;
        *bucket = m->nodes[i];
        memcpy(to->prefix->tokens + (size_t)m->nodes[i] * tokens, p->tokens + (size_t)i * tokens,
               tokens * sizeof *p->tokens);
    }
    to->prefix->oldest = moved(m, p->oldest);
    to->prefix->newest = moved(m, p->newest);
    to->prefix->n_idle = p->n_idle;
}

static void move_parts(const struct moves *m, const struct cache_blocks *b, struct cache_blocks *to,
                       int32_t g)
{
    for (int32_t id = b->parts[g].oldest; id >= 0; id = b->parts[g].newer[id])
        cache_part_rest(to, g, m->ids[g][id]);
}

/* The index of whom the blocks belong to, and what it has counted. */
static void move_roots(struct cache_prefix *p, struct cache_prefix *to)
{
    memcpy(to->secret, p->secret, sizeof to->secret);
    to->hash = p->hash;
    for (int32_t i = 0; i < p->n_buckets; i++)
        while (p->roots[i]) {
            struct cache_root *root = p->roots[i];
            struct cache_root **bucket = &to->roots[root->hash.low & (uint64_t)(to->n_buckets - 1)];
            p->roots[i] = root->next;
            root->next = *bucket;
            *bucket = root;
        }
    to->n_looked_up = p->n_looked_up;
    to->n_hit = p->n_hit;
    to->n_evicted = p->n_evicted;
    to->n_cached = p->n_cached;
    to->n_parts = p->n_parts;
}

static void move_all(struct moves *m, struct cache_blocks *b, struct cache_blocks *to)
{
    place(m, b, to);
    move_blocks(m, b, to);
    move_nodes(m, b, to);
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (b->parts[g].owner)
            move_parts(m, b, to, g);
    move_roots(b->prefix, to->prefix);
}

/* What belongs to the handle and not to its contents stays. */
static void exchange(struct cache_blocks *b, struct cache_blocks *to)
{
    struct cache_blocks old = *b;
    b->config.budget_bytes = to->config.budget_bytes;
    b->memory = to->memory;
    b->n_spans = to->n_spans;
    b->prefix = to->prefix;
    memcpy(b->base, to->base, sizeof b->base);
    memcpy(b->n_blocks, to->n_blocks, sizeof b->n_blocks);
    memcpy(b->free_ids, to->free_ids, sizeof b->free_ids);
    memcpy(b->n_free, to->n_free, sizeof b->n_free);
    memcpy(b->refs, to->refs, sizeof b->refs);
    memcpy(b->parts, to->parts, sizeof b->parts);
    to->memory = old.memory;
    to->prefix = old.prefix;
    memcpy(to->free_ids, old.free_ids, sizeof b->free_ids);
    memcpy(to->refs, old.refs, sizeof b->refs);
    memcpy(to->parts, old.parts, sizeof b->parts);
}

infer_status cache_blocks_resize(struct cache_blocks *b, uint64_t budget_bytes)
{
    struct cache_blocks *to = NULL;
    struct cache_config config = b->config;
    struct moves m = {0};
    config.budget_bytes = budget_bytes;
    infer_status st = cache_blocks_create(&to, &b->alloc, b->device, &config);
    if (st == INFER_OK)
        st = make_moves(&m, b);
    if (st == INFER_OK) {
        pthread_mutex_lock(&b->lock);
        if (b->tier)
            cache_tier_settle(b->tier);
        st = evict(b, to);
        if (st == INFER_OK && b->prefix)
            move_all(&m, b, to);
        if (st == INFER_OK)
            exchange(b, to);
        pthread_mutex_unlock(&b->lock);
    }
    free_moves(&m, &b->alloc);
    cache_blocks_destroy(&to);
    return st;
}
