/* The file tier: blocks of the prefix cache in a file of bounded size, so that they are found
 * again when memory had to give them up, and by the next process.
 *
 * One file a model and layout of blocks, of slots of one size: a record's head with its tokens and
 * checksums, then the blocks of all groups. The index is in memory, made of the heads when the
 * file is opened. Blocks that nobody holds are written while they wait for eviction, never in a
 * step; a record is believed only if its name space, its tokens, its parent and its checksum are
 * right, so it may be torn, or overwritten while it is read. */
#ifndef CACHE_TIER_H
#define CACHE_TIER_H

#include "base/output.h"
#include "cache/paged.h"

enum { CACHE_TIER_UNKNOWN, CACHE_TIER_HASHED, CACHE_TIER_COPYING, CACHE_TIER_STORED };

struct cache_tier_config {
    const char *folder;
    uint64_t bytes;
    struct base_hash128 model;
    int32_t thread; /* a thread of its own writes; else whoever calls cache_tier_flush() */
};

struct cache_tier_entry {
    struct base_hash128 hash, parent; /* parent 0: a first block */
    uint64_t serial;                  /* of its writing; 0: the slot is free */
    uint32_t missing;                 /* a bit for each group whose block it lacks */
    int32_t chain;                    /* in its bucket, or next free slot; -1: none */
    int32_t older, newer;
};

/* Records on their way from the device to the file. */
#define CACHE_TIER_BATCH 16
struct cache_tier_batch {
    uint8_t *records;
    struct device_range ranges[CACHE_TIER_BATCH * CACHE_GROUPS_MAX];
    struct device_fetch fetch;
    infer_status status;
    int32_t nodes[CACHE_TIER_BATCH], n, n_ranges;
    struct cache_tier_entry entries[CACHE_TIER_BATCH];
    infer_token tokens[CACHE_TIER_BATCH][CACHE_BLOCK_TOKENS_MAX];
};

struct cache_tier {
    struct cache_blocks *blocks;
    struct base_output file;
    uint8_t secret[BASE_HASH_SECRET_BYTES]; /* in the file: its hashes outlive the process */
    size_t head_bytes, record_bytes;        /* of a record; the head is part of it */
    uint32_t format;                        /* of the file as it was found; 0: it is new */
    int32_t n_slots;

    pthread_rwlock_t clearing; /* readers bring blocks back; taken before all other locks */
    pthread_mutex_t lock;      /* of the index; nothing is waited for under it */
    struct cache_tier_entry *entries;
    int32_t *buckets, n_buckets;
    int32_t free_slot, oldest, newest;
    uint64_t next_serial;

    pthread_mutex_t writing;            /* one writer at a time; taken next */
    struct cache_tier_batch batches[2]; /* the writer's */
    int32_t batch_room;                 /* records of one */
    int32_t n_copying; /* batches; under the lock of the blocks, as who waits for 0 of them */
    int32_t waited_for;
    uint8_t *scratch;    /* one record, while it opens */
    pthread_cond_t wake; /* with the lock of the blocks */
    pthread_t thread;
    int32_t has_thread;
    _Atomic int32_t closing;
    uint64_t n_noticed; /* under the lock of the blocks */
    _Atomic uint64_t n_stored, n_written, n_read, n_damaged, n_lost, n_failed; /* records */
};

/* Opens or makes the file in an existing folder. Errors name the path: BUSY (another cache uses
 * it), FORMAT (it is damaged, or none of ours), LIMIT (too small for one record), IO. */
infer_status cache_tier_open(struct cache_blocks *blocks, const struct cache_tier_config *config);
/* Ends the thread; writes nothing more. NULL-safe. */
void cache_tier_close(struct cache_blocks *blocks);

/* Writes what nobody holds and is not in the file yet; gives back how many records. */
int64_t cache_tier_flush(struct cache_tier *tier);
/* Into an empty table that shares: the blocks of the first n tokens, where the file has some that
 * memory does not. Gives back how many tokens the table then has, 0 where it is no use. Reads the
 * file, so not from within a step. */
int32_t cache_tier_fetch(struct cache_tier *tier, struct cache_table *table,
                         const struct cache_key *key, const infer_token *tokens, int32_t n);
/* Forgets the prefixes in memory and in the file, which is cut. */
infer_status cache_tier_clear(struct cache_tier *tier);

/* ------------------------------------- under the lock of the blocks */

/* Waits until no block is being copied; the lock is given back meanwhile. Until it is given back
 * again none is. */
void cache_tier_settle(struct cache_tier *tier);

/* Nobody holds this node any more. NULL-safe. */
static inline void cache_tier_notice(struct cache_tier *t, const struct cache_node *node)
{
    if (!t || node->in_tier == CACHE_TIER_STORED)
        return;
    t->n_noticed++;
    if (t->has_thread)
        pthread_cond_signal(&t->wake);
}

/* This node is evicted. NULL-safe. */
static inline void cache_tier_lose(struct cache_tier *t, const struct cache_node *node)
{
    if (t && node->in_tier != CACHE_TIER_STORED)
        t->n_lost++;
}

/* --------------------------------------------------------- tier_index.c: the index */

/* Whose blocks they are, under the file's secret. */
struct base_hash128 cache_tier_root(const struct cache_tier *t, const struct cache_key *key);
struct base_hash128 cache_tier_hash(const struct cache_tier *t, struct base_hash128 parent,
                                    const infer_token *tokens);
infer_status cache_tier_index_make(struct cache_tier *t);
/* The slot of a hash, which becomes the newest, or -1. Under the tier's lock as the rest. */
int32_t cache_tier_find(struct cache_tier *t, struct base_hash128 hash);
/* A slot for a new record: a free one, or the oldest, whose record is forgotten. */
int32_t cache_tier_slot(struct cache_tier *t);
void cache_tier_insert(struct cache_tier *t, int32_t slot, const struct cache_tier_entry *entry);
void cache_tier_remove(struct cache_tier *t, int32_t slot);
/* Parents become newer than their children, so that they leave after them. */
void cache_tier_touch_chain(struct cache_tier *t, int32_t slot);

/* ------------------------------------------------------- tier_file.c: the file */

/* Opens the file and reads the heads of its records into the index, which is made. */
infer_status cache_tier_file_open(struct cache_tier *t, const struct cache_tier_config *config);
/* Completes the head of the record in `record`, whose blocks and tokens are in place. */
void cache_tier_record_write(const struct cache_tier *t, uint8_t *record,
                             const struct cache_tier_entry *entry, const infer_token *tokens);
/* Whether it is this record, whole. */
int cache_tier_record_is(const struct cache_tier *t, const uint8_t *record,
                         struct base_hash128 hash, struct base_hash128 parent,
                         const infer_token *tokens);
/* A bit for each group whose block it lacks. */
uint32_t cache_tier_record_missing(const uint8_t *record);
uint64_t cache_tier_offset(const struct cache_tier *t, int32_t slot);
/* Leaves the file room for so many records. */
infer_status cache_tier_file_cut(struct cache_tier *t, int32_t n_slots);

#endif
