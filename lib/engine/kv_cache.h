/* The handle behind infer_kv_cache: a block pool shaped for one model. */
#ifndef ENGINE_KV_CACHE_H
#define ENGINE_KV_CACHE_H

#include "cache/swap.h"
#include "cache/tier.h"
#include "model/batch.h"
#include "model/model.h"

struct infer_kv_cache {
    _Atomic int32_t refs;
    struct base_alloc alloc;
    struct infer_model *model;
    struct cache_blocks *blocks;
    struct cache_swap *swap;                      /* NULL: preempted requests are computed again */
    int32_t swap_always;                          /* whatever it costs */
    struct model_kv_view views[CACHE_GROUPS_MAX]; /* what the forward pass reads */
    /* Without memory what they were before: tokens of one sequence, blocks of positions of all. */
    _Atomic int32_t capacity, n_spans;
    pthread_rwlock_t moving; /* taken first. Read: blocks are where they are. Steps need it not */
    pthread_mutex_t lock;    /* of the list */
    struct infer_session *sessions; /* whose own cache it is */
};

struct kv_cache_config {
    const struct base_alloc *alloc;
    uint64_t budget_bytes; /* 0: default */
    infer_dtype type;
    int32_t block_tokens;
    int32_t disable_prefix;
    const char *tier_dir; /* NULL: no file tier */
    uint64_t tier_bytes;
    int32_t tier_thread;
    int32_t sequence_tokens; /* 0: default */
    const char *swap_dir;    /* NULL: memory */
    uint64_t swap_bytes;     /* 0: no swap store */
    int32_t swap_always;
};

#define KV_CACHE_BLOCK_TOKENS 16

/* Recurrent state is taken to be wanted once for so many positions: the length of sequence that
 * budgets are parted for. */
#define KV_CACHE_SEQUENCE_TOKENS 4096

/* One full context and its share of states, within 16 MiB to 4 GiB. */
uint64_t kv_cache_default_budget(const struct infer_model *model, infer_dtype type);

/* Budget in which so many sequences of n_tokens have room. */
uint64_t kv_cache_budget_for(const struct infer_model *model, infer_dtype type, int32_t n_sequences,
                             int32_t n_tokens);

infer_status kv_cache_create(struct infer_kv_cache **out, struct infer_model *model,
                             const struct kv_cache_config *config);
struct infer_kv_cache *kv_cache_retain(struct infer_kv_cache *cache);
void kv_cache_release(struct infer_kv_cache **cache);

/* Tokens that one sequence can have when it has the cache to itself; a model without attention
 * has no bound but its context. */
int32_t kv_cache_capacity(const struct infer_kv_cache *cache);

/* A session begins and ends to use it. */
void kv_cache_join(struct infer_kv_cache *cache, struct infer_session *session);
void kv_cache_leave(struct infer_kv_cache *cache, struct infer_session *session);

/* Around all that holds or moves blocks outside of steps, from before it has any until its request
 * is queued. Not to be entered twice by a thread. */
void kv_cache_enter(struct infer_kv_cache *cache);
void kv_cache_exit(struct infer_kv_cache *cache);

/* Another budget; 0: no memory, and requests wait. All requests give way and are computed again
 * from what is kept; those that can never fit end with INFER_ERR_LIMIT. As cache_blocks_resize().
 */
infer_status kv_cache_resize(struct infer_kv_cache *cache, uint64_t budget_bytes);
/* After its blocks have another size. */
void kv_cache_fit(struct infer_kv_cache *cache);

struct kv_cache_counts {
    uint64_t bytes, n_blocks;                         /* of all groups */
    uint64_t n_cached, n_looked_up, n_hit, n_evicted; /* of the prefix cache: blocks, tokens (two),
                                                          blocks */
};

/* Waits for nothing but moments of the index. */
struct kv_cache_counts kv_cache_counts(const struct infer_kv_cache *cache);

#endif
