/* Computed blocks held for reading: full ones never change again, so nobody waits for a reader. */
#ifndef CACHE_HELD_H
#define CACHE_HELD_H

#include "cache/paged.h"

struct cache_held {
    struct cache_blocks *blocks;
    int32_t n_tokens, n_full;          /* positions; full blocks of them */
    int32_t *ids[CACHE_GROUPS_MAX];    /* n_full each; NULL for states */
    int32_t first[CACHE_GROUPS_MAX];   /* held by themselves from here on: behind the nodes; of
                                          groups with windows nothing is there before */
    int32_t *nodes, n_nodes;           /* the first of them are held as nodes */
    uint8_t *copies[CACHE_GROUPS_MAX]; /* of the state and of the last block where it is not full */
};

/* The first n_tokens positions of a table and the state it stands in. For the thread that may
 * change the table. INFER_OK or INFER_ERR_NO_MEMORY. */
infer_status cache_held_table(struct cache_held *out, struct cache_table *table, int32_t n_tokens);
/* The cached leading blocks of n tokens; n_tokens says how many they are. */
infer_status cache_held_prefix(struct cache_held *out, struct cache_blocks *blocks,
                               const struct cache_key *key, const infer_token *tokens, size_t n);
void cache_held_release(struct cache_held *held);

/* Blocks of a group: of states one, of positions as many as n_tokens fill or begin. */
int32_t cache_held_count(const struct cache_held *held, int32_t group);
/* All of them in their order, group by group, while the device already reads what comes next. */
struct cache_reader {
    const struct cache_held *held;
    struct cache_batch {
        uint8_t *data;
        struct device_range *ranges;
        struct device_fetch fetch;
        int32_t group, first, n; /* blocks; n 0: none */
    } batches[2];
    int32_t room; /* blocks of a batch */
    int32_t turn, at, group, next;
};

infer_status cache_reader_open(struct cache_reader *reader, const struct cache_held *held);
void cache_reader_close(struct cache_reader *reader);
/* The next block as block_bytes[group] bytes, of which nothing is anybody else's; they stay until
 * the next call. NULL behind the last one. */
infer_status cache_reader_next(struct cache_reader *reader, int32_t *group, int32_t *k,
                               const uint8_t **out);
/* Whether some are behind a window and gone: they read as zeros. */
int cache_held_has_gaps(const struct cache_held *held);
/* Where a block lies, and who reads it. */
struct device_range cache_block_range(const struct cache_blocks *blocks, int32_t group, int32_t id,
                                      void *host);
/* Leaves of a block that was read what is computed, n_slots positions. */
void cache_block_clean(const struct cache_blocks *blocks, int32_t group, int32_t n_slots,
                       uint8_t *block);
/* Bytes of all blocks, and their number. */
uint64_t cache_held_bytes(const struct cache_held *held, int32_t *n_blocks);

#endif
