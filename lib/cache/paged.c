/* Block tables of sequences. */
#include "cache/paged.h"

#include "base/error.h"

#include <string.h>

static int is_state(const struct cache_blocks *b, int32_t g)
{
    return cache_group_is_state(&b->config.groups[g]);
}

/* Blocks of group g in a table that has n_blocks, and n_reached of groups with windows. */
static int32_t count(const struct cache_blocks *b, int32_t g, int32_t n_blocks, int32_t n_reached)
{
    if (is_state(b, g))
        return BASE_MIN(n_blocks, 1);
    return b->config.groups[g].window ? n_reached : n_blocks;
}

infer_status cache_table_init(struct cache_table *table, struct cache_blocks *blocks,
                              int32_t max_tokens)
{
    *table = (struct cache_table){.blocks = blocks, .passing = -1};
    const int32_t n = table->capacity = BASE_DIV_UP(max_tokens, blocks->config.block_tokens);
    for (int32_t g = 0; g < blocks->config.n_groups; g++) {
        table->ids[g] =
            base_new(&blocks->alloc, (size_t)count(blocks, g, n, n), sizeof **table->ids);
        if (!table->ids[g]) {
            cache_table_release(table);
            return INFER_ERR_NO_MEMORY;
        }
    }
    return INFER_OK;
}

/* The first block of a group that is to be taken: behind those that there are, and behind what
 * nobody looks at any more where positions from `start` on are computed. */
static int32_t first_new(const struct cache_table *t, int32_t g, int32_t start)
{
    const struct cache_blocks *b = t->blocks;
    int32_t n = count(b, g, t->n_blocks, t->n_reached);
    return b->config.groups[g].window ? BASE_MAX(n, cache_part_first(b, g, start)) : n;
}

static infer_status take(struct cache_table *t, int32_t n_blocks, int32_t n_reached, int32_t start)
{
    struct cache_blocks *b = t->blocks;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t from = first_new(t, g, start), n = count(b, g, n_blocks, n_reached) - from;
        infer_status st = n > 0 ? cache_blocks_take(b, g, t->ids[g] + from, n) : INFER_OK;
        if (st == INFER_OK)
            continue;
        while (g-- > 0) {
            from = first_new(t, g, start);
            n = count(b, g, n_blocks, n_reached) - from;
            if (n > 0)
                cache_blocks_give(b, g, t->ids[g] + from, n);
        }
        return st;
    }
    t->n_blocks = n_blocks;
    t->n_reached = n_reached;
    return INFER_OK;
}

static int32_t span(const struct cache_table *t, int32_t n_tokens)
{
    return BASE_DIV_UP(n_tokens, t->blocks->config.block_tokens);
}

infer_status cache_table_plan(struct cache_table *t, int32_t n_tokens, int32_t n_near)
{
    int32_t n_blocks = BASE_MAX(t->n_blocks, span(t, n_tokens));
    int32_t n_reached = BASE_MAX(t->n_reached, BASE_MIN(span(t, n_near), n_blocks));
    if (n_blocks == t->n_blocks && n_reached == t->n_reached)
        return INFER_OK;
    return take(t, n_blocks, n_reached, 0);
}

infer_status cache_table_reserve(struct cache_table *t, int32_t n_tokens)
{
    return cache_table_plan(t, n_tokens, n_tokens);
}

static int has_windows(const struct cache_blocks *b)
{
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (b->config.groups[g].window)
            return 1;
    return 0;
}

int32_t cache_table_reach(struct cache_table *t, int32_t n_tokens)
{
    struct cache_blocks *b = t->blocks;
    int32_t wanted = BASE_MIN(span(t, n_tokens), t->n_blocks);
    if (!has_windows(b))
        return BASE_MIN(n_tokens, t->n_blocks * b->config.block_tokens);
    while (wanted > t->n_reached && take(t, t->n_blocks, wanted, 0) != INFER_OK) {
        int32_t least = wanted - t->n_reached - 1;
        for (int32_t g = 0; g < b->config.n_groups; g++)
            if (b->config.groups[g].window)
                least = BASE_MIN(least, cache_blocks_free(b, g));
        wanted = t->n_reached + least;
    }
    return BASE_MIN(n_tokens, t->n_reached * b->config.block_tokens);
}

infer_status cache_table_leap(struct cache_table *t, int32_t n_tokens)
{
    int32_t wanted = span(t, n_tokens), had = t->n_reached;
    infer_status st = take(t, BASE_MAX(t->n_blocks, wanted), BASE_MAX(had, wanted), n_tokens);
    for (int32_t g = 0; st == INFER_OK && g < t->blocks->config.n_groups; g++) {
        int32_t passed = cache_part_first(t->blocks, g, n_tokens), from = t->n_passed[g];
        if (!t->blocks->config.groups[g].window || passed <= from)
            continue;
        if (had > from)
            cache_blocks_give(t->blocks, g, t->ids[g] + from, BASE_MIN(passed, had) - from);
        t->n_passed[g] = passed;
    }
    return st;
}

void cache_table_trim(struct cache_table *t, int32_t n_tokens)
{
    struct cache_blocks *b = t->blocks;
    int32_t wanted = BASE_MAX(span(t, n_tokens), t->n_nodes);
    int32_t had = t->n_blocks, reached = t->n_reached;
    t->n_blocks = BASE_MIN(had, wanted);
    t->n_reached = BASE_MIN(reached, wanted);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t from = count(b, g, t->n_blocks, t->n_reached);
        from = BASE_MAX(from, t->n_passed[g]);
        if (count(b, g, had, reached) > from)
            cache_blocks_give(b, g, t->ids[g] + from, count(b, g, had, reached) - from);
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
            (table->copied_node < 0 || cache_group_is_partial(&b->config.groups[g])))
            cache_blocks_give(b, g, &table->copies[g], 1);
    if (table->copied_node < 0)
        return;
    pthread_mutex_lock(&b->lock);
    cache_node_drop(b, table->copied_node);
    pthread_mutex_unlock(&b->lock);
}

void cache_table_slide(struct cache_table *t, int32_t position)
{
    for (int32_t g = 0; g < t->blocks->config.n_groups; g++) {
        int32_t had = t->n_passed[g];
        int32_t passed = BASE_MIN(cache_part_first(t->blocks, g, position), t->n_reached);
        if (!t->blocks->config.groups[g].window || passed <= had)
            continue;
        cache_blocks_give(t->blocks, g, t->ids[g] + had, passed - had);
        t->n_passed[g] = passed;
    }
}

/* The first block of a group that a table holds by itself, and not by a node. */
static int32_t first_own(const struct cache_table *t, int32_t g)
{
    if (is_state(t->blocks, g))
        return 0;
    return t->blocks->config.groups[g].window ? t->n_passed[g] : t->n_nodes;
}

void cache_table_clear(struct cache_table *table)
{
    struct cache_blocks *b = table->blocks;
    if (!b)
        return;
    drop_copies(table);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t from = first_own(table, g), n = cache_table_has(table, g) - from;
        if (n > 0)
            cache_blocks_give(b, g, table->ids[g] + from, n);
        table->n_passed[g] = 0;
    }
    if (table->n_nodes) {
        pthread_mutex_lock(&b->lock);
        while (table->n_nodes)
            cache_node_drop(b, table->nodes[--table->n_nodes]);
        pthread_mutex_unlock(&b->lock);
    }
    table->n_blocks = table->n_reached = table->n_matched = 0;
    table->passing = -1;
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

/* -------------------------------------------------------------------- forks */

/* Whether a fork writes into its last block of a group. */
static int changes(const struct cache_blocks *b, int32_t g, int32_t rest)
{
    return is_state(b, g) ? !b->config.groups[g].is_source : rest > 0;
}

/* Takes what the fork writes into next: a last block, where the positions end within one, and
 * the state. */
static infer_status take_own(struct cache_table *table, int32_t full, int32_t rest)
{
    struct cache_blocks *b = table->blocks;
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        infer_status st = INFER_OK;
        if (changes(b, g, rest))
            st = cache_blocks_take(b, g, table->ids[g] + (is_state(b, g) ? 0 : full), 1);
        if (st == INFER_OK)
            continue;
        while (g-- > 0)
            if (changes(b, g, rest))
                cache_blocks_give(b, g, table->ids[g] + (is_state(b, g) ? 0 : full), 1);
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
        table->copies[g] = changes(b, g, rest) ? from->ids[g][is_state(b, g) ? 0 : full] : -1;
        table->has_copies |= table->copies[g] >= 0;
        if (table->copies[g] >= 0 &&
            (table->copied_node < 0 || cache_group_is_partial(&b->config.groups[g])))
            cache_blocks_share(b, g, &table->copies[g], 1);
    }
}

int cache_table_reaches(const struct cache_table *table, int32_t n_tokens)
{
    for (int32_t g = 0; g < table->blocks->config.n_groups; g++)
        if (table->n_passed[g] > cache_part_first(table->blocks, g, n_tokens))
            return 0;
    return 1;
}

int32_t cache_table_has(const struct cache_table *t, int32_t g)
{
    return count(t->blocks, g, t->n_blocks, t->n_reached);
}

int32_t cache_blocks_wanted(const struct cache_blocks *b, int32_t g, int32_t n_tokens)
{
    int32_t n = BASE_DIV_UP(n_tokens, b->config.block_tokens), window = b->config.groups[g].window;
    return count(b, g, n, BASE_MIN(n, cache_window_blocks(&b->config, window)));
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
    table->n_blocks = table->n_reached = full + (rest > 0);
    table->n_nodes = BASE_MIN(full, from->n_nodes);
    pthread_mutex_lock(&b->lock);
    for (int32_t k = 0; k < table->n_nodes; k++) {
        cache_node_hold(b, from->nodes[k]);
        table->nodes[k] = from->nodes[k];
    }
    pthread_mutex_unlock(&b->lock);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        if (is_state(b, g)) {
            if (b->config.groups[g].is_source)
                cache_blocks_share(b, g, from->ids[g], 1);
            table->ids[g][0] = changes(b, g, rest) ? table->ids[g][0] : from->ids[g][0];
            continue;
        }
        table->n_passed[g] = from->n_passed[g];
        memcpy(table->ids[g], from->ids[g], (size_t)full * sizeof **table->ids);
        int32_t first = first_own(table, g);
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
        int32_t at = is_state(b, g) ? 0 : table->copied_block;
        int32_t to = table->copies[g] < 0 ? -1 : table->ids[g][at];
        if (to >= 0) /* both lie in the buffer, so it cannot fail */
            device_buffer_copy(&b->memory, b->base[g] + (size_t)to * b->block_bytes[g], &b->memory,
                               b->base[g] + (size_t)table->copies[g] * b->block_bytes[g],
                               b->block_bytes[g]);
    }
    drop_copies(table);
}
