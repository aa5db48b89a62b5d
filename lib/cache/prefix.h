/* The prefix cache: full blocks that are found again by the tokens up to their end.
 *
 * A node is such a block, of all groups at once. Nodes form trees: the root is a name space, the
 * path from it spells the tokens. A table holds a leading run of nodes and then blocks of its
 * own; a block becomes a node when it is full and computed. Nodes that nobody holds stay, oldest
 * first in a list, until blocks run out. Whoever holds a node holds its parents, and tables let
 * go of their last node first, so children always leave before their parents.
 *
 * Of groups with windows, and of states, a node may lack its block, its part. Parts are held and
 * evicted apart from their nodes: a table holds those that its window still sees, which are parts
 * of nodes that it holds. A sequence can go on behind a node when all parts that it would see are
 * there. The part of a state is the state behind the last token of the node. */
#ifndef CACHE_PREFIX_H
#define CACHE_PREFIX_H

#include "base/hash.h"
#include "cache/blocks.h"

#define CACHE_BLOCK_TOKENS_MAX 64

/* Who may share blocks: all of it must be equal. */
struct cache_key {
    const char *name; /* the host's name space; NULL with n 0 */
    size_t n;
    uint64_t adapter; /* 0: none */
    int32_t numerics; /* blocks computed in another arithmetic are other blocks */
};

struct cache_root {
    struct cache_root *next; /* in its bucket */
    int32_t refs;            /* tables, and first nodes */
    int32_t numerics;
    uint64_t adapter;
    struct base_hash128 hash;
    size_t n;
    char name[]; /* 0-terminated */
};

enum { CACHE_NODE_FREE, CACHE_NODE_LIVE, CACHE_NODE_FORGOTTEN };

struct cache_node {
    struct base_hash128 hash;
    struct cache_root *root;       /* of a first node, a reference; else NULL */
    int32_t parent;                /* -1: a first node */
    int32_t state;                 /* FORGOTTEN: cleared while held, goes when nobody holds it */
    int32_t refs;                  /* tables, and pins of it or of nodes below it */
    int32_t pins;                  /* those of it alone */
    int32_t leaving;               /* of refs: who reads it to the end and lets go then */
    int32_t chain;                 /* next in its bucket, or next free node; -1: none */
    int32_t older, newer;          /* in the list of nodes that nobody holds; -1: none */
    int32_t ids[CACHE_GROUPS_MAX]; /* -1: a part that is not there */
    int32_t in_tier;               /* CACHE_TIER_* (tier.h) */
    struct base_hash128 tier_hash; /* unless that is 0 */
};

struct cache_prefix {
    struct cache_node *nodes;
    infer_token *tokens; /* block_tokens of each node */
    int32_t n_nodes, n_buckets, free_node;
    int32_t *buckets;               /* first node of each, or -1 */
    struct cache_root **roots;      /* the same number of buckets */
    int32_t *path;                  /* n_nodes; under the lock, of who looks something up */
    int32_t oldest, newest, n_idle; /* nodes that nobody holds */
    int32_t n_groups;               /* whose blocks a node never lacks */
    uint8_t secret[BASE_HASH_SECRET_BYTES];
    /* Tests put a weak one here. */
    struct base_hash128 (*hash)(const void *data, size_t size, const uint8_t *secret);
    _Atomic uint64_t n_looked_up, n_hit;  /* tokens */
    _Atomic uint64_t n_evicted, n_cached; /* blocks; nodes */
    _Atomic uint64_t n_parts;             /* that nodes have */
};

/* The tokens first .. first + n - 1 of a sequence. */
typedef void cache_tokens_fn(const void *sequence, int32_t first, int32_t n, infer_token *out);

infer_status cache_prefix_create(struct cache_blocks *blocks);
void cache_prefix_destroy(struct cache_blocks *blocks);

/* Takes the lock. NULL in *out without a prefix cache. */
infer_status cache_root_acquire(struct cache_blocks *blocks, const struct cache_key *key,
                                struct cache_root **out);
void cache_root_release(struct cache_blocks *blocks, struct cache_root **root);

/* ------------------------------------------------------- under the lock */

/* The hash of a block behind a node (or behind the root, with -1); may run without the lock
 * while the caller holds the node. */
struct base_hash128 cache_prefix_hash(const struct cache_blocks *blocks,
                                      const struct cache_root *root, int32_t parent,
                                      const infer_token *tokens);
/* The node of a block, or -1. Hashes only point; what counts is the parent and the tokens. */
int32_t cache_prefix_find(const struct cache_blocks *blocks, const struct cache_root *root,
                          int32_t parent, const infer_token *tokens, struct base_hash128 hash);
/* Makes a node, held once, of blocks that are held once: they are the node's from now on. It has
 * no parts yet. -1: all nodes are held. */
int32_t cache_prefix_insert(struct cache_blocks *blocks, struct cache_root *root, int32_t parent,
                            const infer_token *tokens, struct base_hash128 hash,
                            const int32_t *ids);

/* --------------------------------------------- parts.c, under the lock */

/* The first block of a group that is seen from `position` on, where blocks end; of a state the one
 * before. */
int32_t cache_part_first(const struct cache_blocks *blocks, int32_t group, int32_t position);
/* The most of these n nodes, from a first one on, behind which a sequence can go on. */
int32_t cache_parts_usable(const struct cache_blocks *blocks, const int32_t *nodes, int32_t n);
/* Holds, or lets go of, what is seen from behind a node, the n-th from its root. */
void cache_parts_hold(struct cache_blocks *blocks, int32_t node, int32_t n);
void cache_parts_drop(struct cache_blocks *blocks, int32_t node, int32_t n);
/* A block that is held becomes a node's part, and a part is taken from its node: it is free, or
 * its holders' alone. */
void cache_part_give(struct cache_blocks *blocks, int32_t group, int32_t node, int32_t id);
void cache_part_take(struct cache_blocks *blocks, int32_t group, int32_t node);
/* For the allocator: a part is held again; nobody holds it any more; the n oldest of those go, or
 * none where there are fewer. */
void cache_part_wake(struct cache_blocks *blocks, int32_t group, int32_t id);
void cache_part_rest(struct cache_blocks *blocks, int32_t group, int32_t id);
int cache_parts_evict(struct cache_blocks *blocks, int32_t group, int32_t n);

/* ---------------------------------------------- evict.c, under the lock */

void cache_node_hold(struct cache_blocks *blocks, int32_t node);
/* Lets go: the node stays as the newest of those that nobody holds. */
void cache_node_drop(struct cache_blocks *blocks, int32_t node);
/* Takes back what the pins of a node held: it, its parents, and the parts seen from behind it. */
void cache_node_unpin(struct cache_blocks *blocks, int32_t node);
/* Frees the blocks of the n oldest nodes that nobody holds. 0 where there are fewer: none then. */
int cache_prefix_evict(struct cache_blocks *blocks, int32_t n);
/* The root of a key, or NULL. */
struct cache_root *cache_root_find(const struct cache_blocks *blocks, const struct cache_key *key);
/* Takes a root's reference away, and the root with the last. */
void cache_root_unref(struct cache_blocks *blocks, struct cache_root *root);
/* Where in the index nodes of this hash begin. */
int32_t *cache_prefix_bucket(const struct cache_prefix *prefix, struct base_hash128 hash);

/* ---------------------------------------- pin.c, for hosts; take the lock */

/* Keeps the leading blocks of n tokens that are cached now until as many unpins. Gives back how
 * many tokens they hold. */
int32_t cache_prefix_pin(struct cache_blocks *blocks, const struct cache_key *key,
                         const infer_token *tokens, size_t n);
/* Undoes one pin of these tokens: that of the deepest block. 0: there is none. */
int32_t cache_prefix_unpin(struct cache_blocks *blocks, const struct cache_key *key,
                           const infer_token *tokens, size_t n);
/* Forgets all blocks and pins; what requests hold goes with them. In evict.c. */
void cache_prefix_clear(struct cache_blocks *blocks);

#endif
