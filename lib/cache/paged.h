/* Block tables: which blocks hold the positions and the state of one sequence. */
#ifndef CACHE_PAGED_H
#define CACHE_PAGED_H

#include "cache/prefix.h"

struct cache_table {
    struct cache_blocks *blocks;
    int32_t *ids[CACHE_GROUPS_MAX]; /* `capacity` each; of a state: one, in use as soon as n_blocks
                                       is not 0 */
    int32_t n_blocks, capacity;     /* taken of groups without a window */
    int32_t n_reached;              /* taken of groups with one, those given back included */
    int32_t n_passed[CACHE_GROUPS_MAX]; /* the first of them, behind the window and given back:
                                           their ids mean nothing */
    struct cache_root *root;            /* NULL: nothing is kept or found */
    int32_t *nodes;                     /* the first n_nodes blocks are nodes of the prefix cache */
    int32_t n_nodes;
    int32_t n_matched; /* of the first blocks: were found, if perhaps without the state */
    int32_t passing;   /* of which node it keeps the state until it is further; -1: none */
    /* What cache_table_copy() still has to copy into the last block and the state; held. */
    int32_t copies[CACHE_GROUPS_MAX]; /* -1: nothing */
    int32_t copied_node;              /* the node they belong to, or -1 */
    int32_t copied_block;             /* where in the table they go, but for the state */
    int32_t has_copies;
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
/* The same, but of groups with windows only for the first n_near positions: cache_table_reach()
 * takes the rest when it is about to be computed. */
infer_status cache_table_plan(struct cache_table *table, int32_t n_tokens, int32_t n_near);
/* Makes positions of the plan addressable up to n_tokens, or as far as there are blocks; gives
 * back how far. */
int32_t cache_table_reach(struct cache_table *table, int32_t n_tokens);
/* As cache_table_reserve(), where all positions before n_tokens will be put there and not
 * computed: nothing is taken for what then is behind a window. */
infer_status cache_table_leap(struct cache_table *table, int32_t n_tokens);
/* Nothing before `position` will be computed any more: gives back the blocks that lie wholly
 * behind the windows of what follows. */
void cache_table_slide(struct cache_table *table, int32_t position);
/* Gives back the blocks behind the first n_tokens positions. They are not shared: nothing was
 * computed there, or nothing that counts. */
void cache_table_trim(struct cache_table *table, int32_t n_tokens);
/* Gives all blocks back, keeps the table. */
void cache_table_clear(struct cache_table *table);
void cache_table_release(struct cache_table *table);

/* Into an empty table: the kept blocks of the first tokens of `sequence`, n_tokens at most, as far
 * as one can go on behind them. Gives back how many positions that is. Of a state a copy is
 * owed. */
int32_t cache_table_find(struct cache_table *table, const void *sequence, cache_tokens_fn *get,
                         int32_t n_tokens);
/* The first n_tokens are computed: full blocks of them are found from now on. A block that
 * somebody else kept before, of the same content, takes the place of the own one. */
void cache_table_keep(struct cache_table *table, const void *sequence, cache_tokens_fn *get,
                      int32_t n_tokens);
/* Keeps a copy of the state the sequence stands in, if it stands behind its last node and there is
 * room: others can go on from there. `passing`: it takes the place of the last such copy. */
void cache_table_checkpoint(struct cache_table *table, int32_t n_tokens, int passing);

/* Whether a fork may continue behind the first n_tokens: no block that it would see has gone back
 * behind a window. */
int cache_table_reaches(const struct cache_table *table, int32_t n_tokens);
/* Blocks of a group that a sequence of n_tokens must have to begin; what a table has of them. */
int32_t cache_blocks_wanted(const struct cache_blocks *blocks, int32_t group, int32_t n_tokens);
int32_t cache_table_has(const struct cache_table *table, int32_t group);
/* Makes an empty table continue behind the first n_tokens positions of another, which are
 * computed and reached, and in whose state (if there is one) they end. Full blocks are shared; of
 * the last one and of the state a copy is owed. INFER_OK, or INFER_ERR_NO_MEMORY (nothing changes
 * then). */
infer_status cache_table_fork(struct cache_table *table, const struct cache_table *from,
                              int32_t n_tokens);
/* Copies what is owed; before anything is computed in either table. */
void cache_table_copy(struct cache_table *table);

#endif
