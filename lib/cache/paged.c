/* Block tables of sequences. */
#include "cache/paged.h"

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

void cache_table_slide(struct cache_table *table, int32_t position)
{
    const struct cache_config *c = &table->blocks->config;
    for (int32_t g = 0; g < c->n_groups; g++) {
        int32_t window = c->groups[g].window, had = table->n_passed[g];
        if (!window || position < window)
            continue;
        /* The position itself sees window - 1 before it. */
        int32_t passed = BASE_MIN((position - window + 1) / c->block_tokens, table->n_blocks);
        if (passed <= had)
            continue;
        cache_blocks_give(table->blocks, g, table->ids[g] + had, passed - had);
        table->n_passed[g] = passed;
    }
}

void cache_table_clear(struct cache_table *table)
{
    if (!table->n_blocks) /* maybe not even made */
        return;
    for (int32_t g = 0; g < table->blocks->config.n_groups; g++) {
        int32_t passed = table->n_passed[g];
        cache_blocks_give(table->blocks, g, table->ids[g] + passed,
                          count(table->blocks, g, table->n_blocks) - passed);
        table->n_passed[g] = 0;
    }
    table->n_blocks = 0;
}

void cache_table_release(struct cache_table *table)
{
    if (!table->blocks)
        return;
    cache_table_clear(table);
    for (int32_t g = 0; g < table->blocks->config.n_groups; g++)
        base_free(&table->blocks->alloc, table->ids[g]);
    *table = (struct cache_table){0};
}
