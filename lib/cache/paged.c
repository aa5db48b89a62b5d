/* Block tables of sequences. */
#include "cache/paged.h"

#include "base/error.h"

/* Blocks of group g among the first n_blocks of a table. */
static int32_t count(const struct cache_blocks *b, int32_t g, int32_t n_blocks)
{
    return cache_group_is_state(&b->config.groups[g]) ? BASE_MIN(n_blocks, 1) : n_blocks;
}

infer_status cache_table_init(struct cache_table *table, struct cache_blocks *blocks,
                              int32_t max_tokens)
{
    *table = (struct cache_table){.blocks = blocks};
    table->capacity = BASE_DIV_UP(max_tokens, blocks->config.block_tokens);
    for (int32_t g = 0; g < blocks->config.n_groups; g++) {
        table->ids[g] = base_new(&blocks->alloc, (size_t)count(blocks, g, table->capacity),
                                 sizeof **table->ids);
        if (!table->ids[g]) {
            cache_table_release(table);
            return INFER_ERR_NO_MEMORY;
        }
    }
    return INFER_OK;
}

infer_status cache_table_share(struct cache_table *table, const struct cache_key *key)
{
    struct cache_blocks *b = table->blocks;
    if (!b->prefix)
        return INFER_OK;
    table->nodes = base_new(&b->alloc, (size_t)table->capacity, sizeof *table->nodes);
    return table->nodes ? cache_root_acquire(b, key, &table->root) : INFER_ERR_NO_MEMORY;
}

infer_status cache_table_reserve(struct cache_table *table, int32_t n_tokens)
{
    struct cache_blocks *b = table->blocks;
    int32_t wanted = BASE_DIV_UP(n_tokens, b->config.block_tokens);
    int32_t had = table->n_blocks;
    if (wanted <= had)
        return INFER_OK;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t from = count(b, g, had), n = count(b, g, wanted) - from;
        infer_status st = cache_blocks_take(b, g, table->ids[g] + from, n);
        if (st == INFER_OK)
            continue;
        while (g-- > 0) {
            from = count(b, g, had);
            cache_blocks_give(b, g, table->ids[g] + from, count(b, g, wanted) - from);
        }
        return st;
    }
    table->n_blocks = wanted;
    return INFER_OK;
}

void cache_table_trim(struct cache_table *table, int32_t n_tokens)
{
    struct cache_blocks *b = table->blocks;
    int32_t wanted = BASE_MAX(BASE_DIV_UP(n_tokens, b->config.block_tokens), table->n_nodes);
    int32_t had = table->n_blocks;
    if (wanted >= had)
        return;
    table->n_blocks = wanted;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t from = count(b, g, wanted);
        cache_blocks_give(b, g, table->ids[g] + from, count(b, g, had) - from);
    }
}

/* Lets go of what was to be copied. */
static void drop_copies(struct cache_table *table)
{
    struct cache_blocks *b = table->blocks;
    if (!table->has_copies)
        return;
    table->has_copies = 0;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (table->copies[g] >= 0 &&
            (table->copied_node < 0 || cache_group_is_state(&b->config.groups[g])))
            cache_blocks_give(b, g, &table->copies[g], 1);
    if (table->copied_node < 0)
        return;
    pthread_mutex_lock(&b->lock);
    cache_node_drop(b, table->copied_node);
    pthread_mutex_unlock(&b->lock);
}

/* Blocks of a group that nothing from `position` on sees: it sees window - 1 before itself. */
static int32_t n_behind(const struct cache_blocks *b, int32_t g, int32_t position)
{
    int32_t window = b->config.groups[g].window;
    return window && position >= window ? (position - window + 1) / b->config.block_tokens : 0;
}

void cache_table_slide(struct cache_table *table, int32_t position)
{
    if (table->root) /* nodes hold the blocks of all groups together */
        return;
    for (int32_t g = 0; g < table->blocks->config.n_groups; g++) {
        int32_t had = table->n_passed[g];
        int32_t passed = BASE_MIN(n_behind(table->blocks, g, position), table->n_blocks);
        if (passed <= had)
            continue;
        cache_blocks_give(table->blocks, g, table->ids[g] + had, passed - had);
        table->n_passed[g] = passed;
    }
}

void cache_table_clear(struct cache_table *table)
{
    struct cache_blocks *b = table->blocks;
    if (!b)
        return;
    drop_copies(table);
    for (int32_t g = 0; table->n_blocks && g < b->config.n_groups; g++) {
        int32_t from = BASE_MAX(count(b, g, table->n_nodes), table->n_passed[g]);
        cache_blocks_give(b, g, table->ids[g] + from, count(b, g, table->n_blocks) - from);
        table->n_passed[g] = 0;
    }
    if (table->n_nodes) {
        pthread_mutex_lock(&b->lock);
        while (table->n_nodes)
            cache_node_drop(b, table->nodes[--table->n_nodes]);
        pthread_mutex_unlock(&b->lock);
    }
    table->n_blocks = 0;
}

void cache_table_release(struct cache_table *table)
{
    if (!table->blocks)
        return;
    cache_table_clear(table);
    cache_root_release(table->blocks, &table->root);
    for (int32_t g = 0; g < table->blocks->config.n_groups; g++)
        base_free(&table->blocks->alloc, table->ids[g]);
    base_free(&table->blocks->alloc, table->nodes);
    *table = (struct cache_table){0};
}

/* ------------------------------------------------------------- prefix cache */

/* Under the lock: block k of a table is this node, which is held for it. */
static void set_node(struct cache_table *table, int32_t k, int32_t node)
{
    const struct cache_blocks *b = table->blocks;
    table->nodes[k] = node;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (!cache_group_is_state(&b->config.groups[g]))
            table->ids[g][k] = b->prefix->nodes[node].ids[g];
}

static int32_t last_node(const struct cache_table *table)
{
    return table->n_nodes ? table->nodes[table->n_nodes - 1] : -1;
}

int32_t cache_table_find(struct cache_table *table, const void *sequence, cache_tokens_fn *get,
                         int32_t n_tokens)
{
    struct cache_blocks *b = table->blocks;
    const int32_t step = b->config.block_tokens;
    infer_token tokens[CACHE_BLOCK_TOKENS_MAX];
    if (!table->root)
        return 0;
    pthread_mutex_lock(&b->lock);
    while ((table->n_nodes + 1) * step <= n_tokens) {
        int32_t parent = last_node(table), node;
        get(sequence, table->n_nodes * step, step, tokens);
        node = cache_prefix_find(b, table->root, parent, tokens,
                                 cache_prefix_hash(b, table->root, parent, tokens));
        if (node < 0)
            break;
        cache_node_hold(b, node);
        set_node(table, table->n_nodes++, node);
    }
    pthread_mutex_unlock(&b->lock);
    table->n_blocks = table->n_nodes;
    return table->n_nodes * step;
}

/* Under the lock: makes the table's first block of its own a node, or exchanges it for one. */
static void keep_block(struct cache_table *table, const infer_token *tokens,
                       struct base_hash128 hash)
{
    struct cache_blocks *b = table->blocks;
    int32_t k = table->n_nodes, parent = last_node(table), ids[CACHE_GROUPS_MAX] = {0};
    int32_t node = cache_prefix_find(b, table->root, parent, tokens, hash);
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (!cache_group_is_state(&b->config.groups[g]))
            ids[g] = table->ids[g][k];
    if (node < 0) {
        node = cache_prefix_insert(b, table->root, parent, tokens, hash, ids);
    } else {
        for (int32_t g = 0; g < b->config.n_groups; g++)
            if (!cache_group_is_state(&b->config.groups[g]))
                cache_block_drop(b, g, ids[g]);
        cache_node_hold(b, node);
    }
    set_node(table, k, node);
    table->n_nodes++;
}

void cache_table_keep(struct cache_table *table, const void *sequence, cache_tokens_fn *get,
                      int32_t n_tokens)
{
    struct cache_blocks *b = table->blocks;
    const int32_t step = b->config.block_tokens;
    infer_token tokens[CACHE_BLOCK_TOKENS_MAX];
    while (table->root && (table->n_nodes + 1) * step <= n_tokens) {
        int32_t parent = last_node(table);
        get(sequence, table->n_nodes * step, step, tokens);
        struct base_hash128 hash = cache_prefix_hash(b, table->root, parent, tokens);
        pthread_mutex_lock(&b->lock);
        /* Nothing joins what was forgotten. */
        int joins = parent < 0 || b->prefix->nodes[parent].state == CACHE_NODE_LIVE;
        if (joins)
            keep_block(table, tokens, hash);
        pthread_mutex_unlock(&b->lock);
        if (!joins)
            return;
    }
}

/* -------------------------------------------------------------------- forks */

/* Takes what the fork writes into next: a last block, where the positions end within one, and
 * the state. */
static infer_status take_own(struct cache_table *table, int32_t full, int32_t rest)
{
    struct cache_blocks *b = table->blocks;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int is_state = cache_group_is_state(&b->config.groups[g]);
        infer_status st = INFER_OK;
        if (is_state || rest)
            st = cache_blocks_take(b, g, table->ids[g] + (is_state ? 0 : full), 1);
        if (st == INFER_OK)
            continue;
        while (g-- > 0) {
            is_state = cache_group_is_state(&b->config.groups[g]);
            if (is_state || rest)
                cache_blocks_give(b, g, table->ids[g] + (is_state ? 0 : full), 1);
        }
        return st;
    }
    return INFER_OK;
}

/* Holds the other table's part of a block and its state until they are copied. */
static void hold_copies(struct cache_table *table, const struct cache_table *from, int32_t full,
                        int32_t rest)
{
    struct cache_blocks *b = table->blocks;
    table->copied_node = -1;
    table->copied_block = full;
    if (rest && full < from->n_nodes) {
        table->copied_node = from->nodes[full];
        pthread_mutex_lock(&b->lock);
        cache_node_hold(b, table->copied_node);
        pthread_mutex_unlock(&b->lock);
    }
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int is_state = cache_group_is_state(&b->config.groups[g]);
        table->copies[g] = is_state ? from->ids[g][0] : rest ? from->ids[g][full] : -1;
        table->has_copies |= table->copies[g] >= 0;
        if (is_state || (rest && table->copied_node < 0))
            cache_blocks_share(b, g, &table->copies[g], 1);
    }
}

int cache_table_reaches(const struct cache_table *table, int32_t n_tokens)
{
    for (int32_t g = 0; g < table->blocks->config.n_groups; g++)
        if (table->n_passed[g] > n_behind(table->blocks, g, n_tokens))
            return 0;
    return 1;
}

infer_status cache_table_fork(struct cache_table *table, const struct cache_table *from,
                              int32_t n_tokens)
{
    struct cache_blocks *b = table->blocks;
    const int32_t full = n_tokens / b->config.block_tokens;
    const int32_t rest = n_tokens % b->config.block_tokens;
    infer_status st = take_own(table, full, rest);
    if (st != INFER_OK)
        return st;
    table->n_blocks = full + (rest > 0);
    table->n_nodes = BASE_MIN(full, from->n_nodes);
    pthread_mutex_lock(&b->lock);
    for (int32_t k = 0; k < table->n_nodes; k++) {
        cache_node_hold(b, from->nodes[k]);
        set_node(table, k, from->nodes[k]);
    }
    pthread_mutex_unlock(&b->lock);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        if (cache_group_is_state(&b->config.groups[g]))
            continue;
        int32_t first = BASE_MAX(table->n_nodes, from->n_passed[g]);
        table->n_passed[g] = from->n_passed[g];
        for (int32_t k = first; k < full; k++)
            table->ids[g][k] = from->ids[g][k];
        cache_blocks_share(b, g, table->ids[g] + first, full - first);
    }
    hold_copies(table, from, full, rest);
    return INFER_OK;
}

void cache_table_copy(struct cache_table *table)
{
    struct cache_blocks *b = table->blocks;
    if (!table->has_copies)
        return;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int is_state = cache_group_is_state(&b->config.groups[g]);
        int32_t to = table->copies[g] < 0 ? -1 : table->ids[g][is_state ? 0 : table->copied_block];
        if (to >= 0) /* both lie in the buffer, so it cannot fail */
            device_buffer_copy(&b->memory, b->base[g] + (size_t)to * b->block_bytes[g], &b->memory,
                               b->base[g] + (size_t)table->copies[g] * b->block_bytes[g],
                               b->block_bytes[g]);
    }
    drop_copies(table);
}
