/* Block tables: which blocks hold the positions and the state of one sequence. */
#ifndef CACHE_PAGED_H
#define CACHE_PAGED_H

#include "cache/blocks.h"

struct cache_table {
    struct cache_blocks *blocks;
    int32_t *ids[CACHE_GROUPS_MAX]; /* `capacity` each, n_blocks in use; of a state: one, in use
                                       as soon as n_blocks is not 0 */
    int32_t n_blocks, capacity;
    int32_t n_passed[CACHE_GROUPS_MAX]; /* the first of them, behind the window and given back:
                                           their ids mean nothing */
};

/* Room for max_tokens positions; takes no block yet. */
infer_status cache_table_init(struct cache_table *table, struct cache_blocks *blocks,
                              int32_t max_tokens);
/* Makes positions 0 .. n_tokens - 1 addressable, and takes the state with the first of them.
 * What a state's block holds then is of no meaning. INFER_OK, or INFER_ERR_NO_MEMORY
 * when blocks have run out (nothing changes then). */
infer_status cache_table_reserve(struct cache_table *table, int32_t n_tokens);
/* Nothing before `position` will be computed any more: gives back the blocks that lie wholly
 * behind the windows of what follows. */
void cache_table_slide(struct cache_table *table, int32_t position);
/* Gives all blocks back, keeps the table. */
void cache_table_clear(struct cache_table *table);
void cache_table_release(struct cache_table *table);

#endif
