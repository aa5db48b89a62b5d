/* Reading blocks beside running steps. */
#include "cache/held.h"

#include <string.h>

static int is_state(const struct cache_blocks *b, int32_t g)
{
    return cache_group_is_state(&b->config.groups[g]);
}

/* Zeroes `size` bytes of each of n runs. */
static void clear_runs(uint8_t *at, size_t stride, int32_t n, size_t offset, size_t size)
{
    for (int32_t i = 0; i < n; i++)
        memset(at + (size_t)i * stride + offset, 0, size);
}

/* Leaves of a block what was computed: slots behind the last position and gaps between layers hold
 * what others left there. */
void cache_block_clean(const struct cache_blocks *b, int32_t g, int32_t n_slots, uint8_t *block)
{
    const struct cache_group *group = &b->config.groups[g];
    const size_t used = (size_t)group->n_layers * group->layer_bytes;
    const size_t slots = (size_t)b->config.block_tokens, first = (size_t)n_slots;
    memset(block + used, 0, b->block_bytes[g] - used);
    if (is_state(b, g)) {
        clear_runs(block, group->layer_bytes, group->n_layers, group->state_bytes,
                   group->layer_bytes - group->state_bytes);
        return;
    }
    const size_t heads = (size_t)group->n_heads;
    const size_t k = group->k_bytes / heads, v = (group->layer_bytes - group->k_bytes) / heads;
    for (int32_t l = 0; first < slots && l < group->n_layers; l++) {
        uint8_t *layer = block + (size_t)l * group->layer_bytes;
        clear_runs(layer, k, group->n_heads, k / slots * first, k / slots * (slots - first));
        clear_runs(layer + group->k_bytes, v, group->n_heads, v / slots * first,
                   v / slots * (slots - first));
    }
}

struct device_range cache_block_range(const struct cache_blocks *b, int32_t g, int32_t id,
                                      void *host)
{
    return (struct device_range){b->base[g] + (size_t)id * b->block_bytes[g], host,
                                 b->block_bytes[g]};
}

/* One block of each group that has a copy of one, in one go. */
static infer_status read_copies(struct cache_held *h, const int32_t ids[CACHE_GROUPS_MAX],
                                int32_t n_slots)
{
    const struct cache_blocks *b = h->blocks;
    struct device_range ranges[CACHE_GROUPS_MAX];
    struct device_fetch fetch;
    int32_t n = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (ids[g] >= 0)
            ranges[n++] = cache_block_range(b, g, ids[g], h->copies[g]);
    infer_status st = device_fetch_begin(&fetch, &b->memory, ranges, n);
    infer_status ended = device_fetch_end(&fetch);
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (ids[g] >= 0)
            cache_block_clean(b, g, n_slots, h->copies[g]);
    return st == INFER_OK ? ended : st;
}

static infer_status make(struct cache_held *h, struct cache_blocks *b, int32_t n_tokens)
{
    *h = (struct cache_held){
        .blocks = b, .n_tokens = n_tokens, .n_full = n_tokens / b->config.block_tokens};
    h->nodes = base_new(&b->alloc, (size_t)h->n_full, sizeof *h->nodes);
    int made = !!h->nodes;
    for (int32_t g = 0; made && g < b->config.n_groups; g++) {
        if (!is_state(b, g))
            made = !!(h->ids[g] = base_new(&b->alloc, (size_t)h->n_full, sizeof **h->ids));
        if (made && n_tokens && (is_state(b, g) || n_tokens % b->config.block_tokens))
            made = !!(h->copies[g] = base_new_raw(&b->alloc, 1, b->block_bytes[g]));
    }
    if (made)
        return INFER_OK;
    h->n_full = 0; /* holds nothing yet */
    cache_held_release(h);
    return INFER_ERR_NO_MEMORY;
}

static int has_window(const struct cache_blocks *b, int32_t g)
{
    return b->config.groups[g].window > 0;
}

/* Under the lock. */
static void hold_nodes(struct cache_held *h, const int32_t *nodes, int32_t n)
{
    const struct cache_blocks *b = h->blocks;
    for (; h->n_nodes < n; h->n_nodes++) {
        int32_t k = h->n_nodes, node = nodes[k];
        cache_node_hold(h->blocks, node);
        h->nodes[k] = node;
        for (int32_t g = 0; g < b->config.n_groups; g++)
            if (h->ids[g])
                h->ids[g][k] = b->prefix->nodes[node].ids[g];
    }
}

infer_status cache_held_table(struct cache_held *h, struct cache_table *table, int32_t n_tokens)
{
    struct cache_blocks *b = table->blocks;
    const int32_t rest = n_tokens % b->config.block_tokens;
    int32_t copied[CACHE_GROUPS_MAX];
    cache_table_copy(table);
    infer_status st = make(h, b, n_tokens);
    if (st != INFER_OK)
        return st;
    pthread_mutex_lock(&b->lock);
    hold_nodes(h, table->nodes, BASE_MIN(h->n_full, table->n_nodes));
    pthread_mutex_unlock(&b->lock);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t first = has_window(b, g) ? table->n_passed[g] : h->n_nodes;
        h->first[g] = first = BASE_MIN(first, h->n_full);
        if (h->ids[g] && first < h->n_full) {
            memcpy(h->ids[g] + first, table->ids[g] + first,
                   (size_t)(h->n_full - first) * sizeof **h->ids);
            cache_blocks_share(b, g, h->ids[g] + first, h->n_full - first);
        }
    }
    for (int32_t g = 0; g < b->config.n_groups; g++)
        copied[g] = h->copies[g] ? table->ids[g][is_state(b, g) ? 0 : h->n_full] : -1;
    st = read_copies(h, copied, rest);
    if (st != INFER_OK)
        cache_held_release(h);
    return st;
}

/* Under the lock: the nodes of the leading blocks behind which one can go on, and their parts. */
static void hold_prefix(struct cache_held *h, const struct cache_key *key,
                        const infer_token *tokens, int32_t states[CACHE_GROUPS_MAX])
{
    struct cache_blocks *b = h->blocks;
    const int32_t step = b->config.block_tokens;
    const struct cache_root *root = cache_root_find(b, key);
    int32_t *path = b->prefix->path, n = 0;
    for (int32_t node = -1; root && n < h->n_full; n++, tokens += step) {
        node = cache_prefix_find(b, root, node, tokens, cache_prefix_hash(b, root, node, tokens));
        if (node < 0)
            break;
        path[n] = node;
    }
    h->n_full = cache_parts_usable(b, path, n);
    hold_nodes(h, path, h->n_full);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t first = cache_part_first(b, g, h->n_full * step);
        h->first[g] = has_window(b, g) ? first : h->n_full;
        for (int32_t k = h->first[g]; h->ids[g] && k < h->n_full; k++)
            cache_block_hold(b, g, h->ids[g][k]);
        states[g] = is_state(b, g) && h->n_full ? b->prefix->nodes[path[first]].ids[g] : -1;
        if (states[g] >= 0)
            cache_block_hold(b, g, states[g]);
    }
}

infer_status cache_held_prefix(struct cache_held *h, struct cache_blocks *b,
                               const struct cache_key *key, const infer_token *tokens, size_t n)
{
    const int32_t step = b->config.block_tokens;
    int32_t states[CACHE_GROUPS_MAX];
    infer_status st = make(h, b, (int32_t)n / step * step);
    if (st != INFER_OK || !b->prefix) {
        h->n_tokens = h->n_full = 0;
        return st;
    }
    pthread_mutex_lock(&b->lock);
    hold_prefix(h, key, tokens, states);
    pthread_mutex_unlock(&b->lock);
    h->n_tokens = h->n_full * step;
    st = read_copies(h, states, 0);
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (states[g] >= 0)
            cache_blocks_give(b, g, &states[g], 1);
    if (st != INFER_OK)
        cache_held_release(h);
    return st;
}

void cache_held_release(struct cache_held *h)
{
    struct cache_blocks *b = h->blocks;
    if (!b)
        return;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        if (h->ids[g])
            cache_blocks_give(b, g, h->ids[g] + h->first[g], h->n_full - h->first[g]);
        base_free(&b->alloc, h->ids[g]);
        base_free(&b->alloc, h->copies[g]);
    }
    pthread_mutex_lock(&b->lock);
    while (h->n_nodes)
        cache_node_drop(b, h->nodes[--h->n_nodes]);
    pthread_mutex_unlock(&b->lock);
    base_free(&b->alloc, h->nodes);
    *h = (struct cache_held){0};
}

int32_t cache_held_count(const struct cache_held *h, int32_t g)
{
    if (is_state(h->blocks, g))
        return h->copies[g] != NULL;
    return h->n_full + (h->copies[g] != NULL);
}

/* -------------------------------------------------------------- one after the other */

static int is_copy(const struct cache_held *h, int32_t g, int32_t k)
{
    return is_state(h->blocks, g) || k >= h->n_full;
}

static int is_gap(const struct cache_held *h, int32_t g, int32_t k)
{
    return has_window(h->blocks, g) && k < h->first[g]; /* behind it */
}

/* Begins the blocks that follow, of one group. */
static infer_status begin(struct cache_reader *r, struct cache_batch *t)
{
    const struct cache_held *h = r->held;
    const struct cache_blocks *b = h->blocks;
    int32_t n_ranges = 0;
    while (r->group < b->config.n_groups && r->next >= cache_held_count(h, r->group)) {
        r->group++;
        r->next = 0;
    }
    const int32_t g = t->group = r->group;
    t->first = r->next;
    t->n = g < b->config.n_groups ? BASE_MIN(cache_held_count(h, g) - r->next, r->room) : 0;
    r->next += t->n;
    for (int32_t i = 0; i < t->n; i++) {
        const int32_t k = t->first + i;
        uint8_t *data = t->data + (size_t)i * b->block_bytes[g];
        if (is_copy(h, g, k))
            memcpy(data, h->copies[g], b->block_bytes[g]);
        else if (is_gap(h, g, k))
            memset(data, 0, b->block_bytes[g]);
        else
            t->ranges[n_ranges++] = cache_block_range(b, g, h->ids[g][k], data);
    }
    return device_fetch_begin(&t->fetch, &b->memory, t->ranges, n_ranges);
}

infer_status cache_reader_open(struct cache_reader *r, const struct cache_held *h)
{
    const struct cache_blocks *b = h->blocks;
    size_t largest = 1;
    *r = (struct cache_reader){.held = h, .turn = -1};
    for (int32_t g = 0; g < b->config.n_groups; g++)
        largest = BASE_MAX(largest, b->block_bytes[g]);
    r->room = (int32_t)BASE_MAX(b->device->ops->piece_bytes / largest, (size_t)1);
    infer_status st = INFER_OK;
    for (int i = 0; i < 2 && st == INFER_OK; i++) {
        struct cache_batch *t = &r->batches[i];
        t->data = base_new_raw(&b->alloc, (size_t)r->room, largest);
        t->ranges = base_new_raw(&b->alloc, (size_t)r->room, sizeof *t->ranges);
        st = t->data && t->ranges ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    for (int i = 0; i < 2 && st == INFER_OK; i++)
        st = begin(r, &r->batches[i]);
    if (st != INFER_OK)
        cache_reader_close(r);
    return st;
}

void cache_reader_close(struct cache_reader *r)
{
    for (int i = 0; r->held && i < 2; i++) {
        struct cache_batch *t = &r->batches[i];
        device_fetch_end(&t->fetch);
        base_free(&r->held->blocks->alloc, t->data);
        base_free(&r->held->blocks->alloc, t->ranges);
    }
    *r = (struct cache_reader){0};
}

/* The turn goes to the other batch, and the one that was read begins what comes behind it. */
static infer_status turn(struct cache_reader *r)
{
    infer_status st = INFER_OK;
    if (r->turn >= 0)
        st = begin(r, &r->batches[r->turn]);
    r->turn = r->turn < 0 ? 0 : !r->turn;
    r->at = 0;
    const struct cache_held *h = r->held;
    struct cache_batch *t = &r->batches[r->turn];
    infer_status ended = device_fetch_end(&t->fetch);
    for (int32_t i = 0; i < t->n; i++)
        if (!is_copy(h, t->group, t->first + i) && !is_gap(h, t->group, t->first + i))
            cache_block_clean(h->blocks, t->group, h->blocks->config.block_tokens,
                              t->data + (size_t)i * h->blocks->block_bytes[t->group]);
    return st == INFER_OK ? ended : st;
}

infer_status cache_reader_next(struct cache_reader *r, int32_t *group, int32_t *k,
                               const uint8_t **out)
{
    infer_status st = INFER_OK;
    if (r->turn < 0 || r->at == r->batches[r->turn].n)
        st = turn(r);
    const struct cache_batch *t = &r->batches[r->turn];
    *out = NULL;
    if (st != INFER_OK || !t->n)
        return st;
    *group = t->group;
    *k = t->first + r->at;
    *out = t->data + (size_t)r->at++ * r->held->blocks->block_bytes[t->group];
    return INFER_OK;
}

uint64_t cache_held_bytes(const struct cache_held *h, int32_t *n_blocks)
{
    uint64_t bytes = 0;
    *n_blocks = 0;
    for (int32_t g = 0; g < h->blocks->config.n_groups; g++) {
        int32_t n = cache_held_count(h, g);
        bytes += (uint64_t)n * h->blocks->block_bytes[g];
        *n_blocks += n;
    }
    return bytes;
}

int cache_held_has_gaps(const struct cache_held *h)
{
    int gaps = 0;
    for (int32_t g = 0; g < h->blocks->config.n_groups; g++)
        gaps |= has_window(h->blocks, g) && h->first[g] > 0;
    return gaps;
}
