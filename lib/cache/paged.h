/* Block tables: which blocks hold the positions and the state of one sequence. */
#ifndef CACHE_PAGED_H
#define CACHE_PAGED_H

#include "cache/prefix.h"

struct cache_table {
    struct cache_blocks *blocks;
    int32_t *ids[CACHE_GROUPS_MAX]; /* `capacity` each, n_blocks in use; of a state: one, in use
                                       as soon as n_blocks is not 0 */
    int32_t n_blocks, capacity;
    struct cache_root *root; /* NULL: nothing is kept or found */
    int32_t *nodes;          /* the first n_nodes blocks are nodes of the prefix cache */
    int32_t n_nodes;
    /* What cache_table_copy() still has to copy into the last block and the state; held. */
    int32_t copies[CACHE_GROUPS_MAX]; /* -1: nothing */
    int32_t copied_node;              /* the node they belong to, or -1 */
    int32_t copied_block;             /* where in the table they go, but for the state */
    int32_t has_copies;
    int32_t n_passed[CACHE_GROUPS_MAX]; /* the first of them, behind the window and given back:
                                           their ids mean nothing */
};

/* Room for max_tokens positions; takes no block yet. */
infer_status cache_table_init(struct cache_table *table, struct cache_blocks *blocks,
                              int32_t max_tokens);
/* Lets a fresh table keep its full blocks, and find those of the same key. */
infer_status cache_table_share(struct cache_table *table, const struct cache_key *key);
/* Makes positions 0 .. n_tokens - 1 addressable, and takes the state with the first of them.
 * What a state's block holds then is of no meaning. INFER_OK, or INFER_ERR_NO_MEMORY
 * when blocks have run out (nothing changes then). */
infer_status cache_table_reserve(struct cache_table *table, int32_t n_tokens);
/* Nothing before `position` will be computed any more: gives back the blocks that lie wholly
 * behind the windows of what follows. */
void cache_table_slide(struct cache_table *table, int32_t position);
/* Gives back the blocks behind the first n_tokens positions. They are not shared: nothing was
 * computed there, or nothing that counts. */
void cache_table_trim(struct cache_table *table, int32_t n_tokens);
/* Gives all blocks back, keeps the table. */
void cache_table_clear(struct cache_table *table);
void cache_table_release(struct cache_table *table);

/* Into an empty table: the kept blocks of the first tokens of `sequence`, n_tokens at most.
 * Gives back how many positions that is. */
int32_t cache_table_find(struct cache_table *table, const void *sequence, cache_tokens_fn *get,
                         int32_t n_tokens);
/* The first n_tokens are computed: full blocks of them are found from now on. A block that
 * somebody else kept before, of the same content, takes the place of the own one. */
void cache_table_keep(struct cache_table *table, const void *sequence, cache_tokens_fn *get,
                      int32_t n_tokens);

/* Whether a fork may continue behind the first n_tokens: no block that it would see has gone back
 * behind a window. */
int cache_table_reaches(const struct cache_table *table, int32_t n_tokens);
/* Makes an empty table continue behind the first n_tokens positions of another, which are
 * computed and reached, and in whose state (if there is one) they end. Full blocks are shared; of
 * the last one and of the state a copy is owed. INFER_OK, or INFER_ERR_NO_MEMORY (nothing changes
 * then). */
infer_status cache_table_fork(struct cache_table *table, const struct cache_table *from,
                              int32_t n_tokens);
/* Copies what is owed; before anything is computed in either table. */
void cache_table_copy(struct cache_table *table);

#endif
