/**
 * @file kv_cache.h
 * Keys and values of past tokens, in fixed-size blocks within a byte budget.
 * Optional: a session that is given none makes its own.
 */
#ifndef INFER_KV_CACHE_H
#define INFER_KV_CACHE_H

#include <infer/adapter.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_kv_cache infer_kv_cache;

typedef struct infer_kv_cache_options {
    size_t struct_size;
    uint64_t budget_bytes; /**< memory for blocks, allocated at once; 0: one full context of the
                                model, at least 16 MiB and at most 4 GiB */
    infer_kv_type type;
    int32_t block_tokens;             /**< 16, 32 or 64; 0: 16 */
    const infer_allocator *allocator; /**< NULL: the model's; copied */
    int32_t disable_prefix_cache; /**< 1: a prompt's beginning is always computed again, also where
                                       an earlier request had the same */
    const char *tier_dir; /**< an existing folder, in whose one file for this model blocks of the
                               prefix cache outlive their eviction, and the process; NULL: none.
                               Keep it from others: it holds what prompts were made of */
    uint64_t tier_bytes;  /**< of that file at most */
    int32_t tier_thread;  /**< 1: a thread of the cache's own writes to tier_dir; 0:
                               infer_kv_cache_flush() does, where the host calls it */
    uint32_t reserved;    /**< 0 */
    const char *swap_dir; /**< an existing folder for a file without a name, in which what preempted
                               requests have computed waits until they run again; NULL: memory */
    uint64_t swap_bytes;  /**< of that file or memory at most; 0: they compute it again */
    int32_t swap_always;  /**< 0: it is written where that is expected, by what was measured so far,
                               to take less time than computing; 1: whenever there is room */
    int32_t sequence_tokens; /**< how long sequences are, for parting the budget among layers with
                                  and without windows or state; 0: 4096 or the context */
} infer_kv_cache_options;

typedef struct infer_kv_cache_stats {
    size_t struct_size;
    uint64_t budget_bytes; /**< in use for blocks: the budget asked for, cut to whole blocks */
    uint64_t block_bytes;  /**< of one block of each kind of layer together */
    uint64_t n_blocks, n_blocks_used; /**< of all kinds; recurrent layers have one a sequence, and
                                           as many again to go on from */
    int32_t block_tokens;
    infer_kv_type type;
    uint64_t n_blocks_cached;  /**< kept for requests that begin alike, of all kinds; those that
                                    running requests or pins hold are in n_blocks_used too */
    uint64_t n_prefix_queries; /**< prompt tokens that were looked up so far */
    uint64_t n_prefix_hits;    /**< and those of them that were there */
    uint64_t n_evicted;        /**< kept blocks that made room for others, of all kinds */
    uint64_t n_tier_records;   /**< prefixes' blocks in tier_dir, of block_tokens tokens each */
    uint64_t n_tier_written;   /**< so many were written so far */
    uint64_t n_tier_read;      /**< and read back for requests */
    uint64_t n_tier_lost;      /**< were evicted before somebody had written them */
    uint64_t n_tier_damaged;   /**< had a wrong checksum or could not be read: computed again */
    uint64_t n_tier_failed;    /**< could not be written */
    uint64_t swap_bytes, swap_used_bytes; /**< in swap_dir or memory: in all and in use */
    uint64_t n_swapped_out, n_swapped_in; /**< preempted requests that were written and read back */
    uint64_t swapped_out_bytes, swapped_in_bytes; /**< and their bytes */
    uint64_t n_swap_full;    /**< found no room in swap_bytes: computed again, as in what follows */
    uint64_t n_swap_failed;  /**< could not be written or read */
    uint64_t n_swap_damaged; /**< had a wrong checksum */
    uint64_t n_swap_lost;    /**< began with blocks of others that are gone */
} infer_kv_cache_stats;

/** Set struct_size first. The beginning of a prompt, and who may share it. */
typedef struct infer_kv_prefix {
    size_t struct_size;
    const infer_token *tokens; /**< such as infer_request_prompt() gives */
    size_t n_tokens;
    const char *cache_namespace; /**< as in infer_request_options, as the next two */
    const infer_adapter *adapter;
    float adapter_scale;
    uint32_t reserved; /**< 0 */
} infer_kv_prefix;

/**
 * Makes a cache for one model; several sessions of that model may share it.
 * @return INFER_OK, INFER_ERR_INVALID, INFER_ERR_NO_MEMORY, INFER_ERR_LIMIT (the budget is below
 *         one block), INFER_ERR_UNSUPPORTED (an element type this device cannot use)
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_kv_cache_create(infer_kv_cache **out, infer_model *model,
                                             const infer_kv_cache_options *options);

/** Drops the caller's reference; sessions keep theirs. NULL-safe.
 *  Thread-safety: safe, once per handle. Since: 0.1 */
INFER_API void infer_kv_cache_destroy(infer_kv_cache **cache);

/**
 * Gives a cache another budget, while sessions use it. Waits for running steps. All requests give
 * way and go on by themselves, computed again from what the prefix cache and the swap store have of
 * them, to the same tokens; those that can never fit again end with INFER_ERR_LIMIT, and answers
 * end where the room does. Cached prefixes are kept, the newest first, as far as there is room.
 * For a moment both budgets are allocated. The caches of draft models stay.
 * @param budget_bytes  bytes; 0 is no default here: all memory is given back, requests wait, and
 *                      new ones are taken, until another call
 * @return INFER_OK, INFER_ERR_BUSY (what is pinned does not fit; unpin it), INFER_ERR_LIMIT (below
 *         one block, or more than the device's budget beside the old one), INFER_ERR_NO_MEMORY,
 *         INFER_ERR_INVALID (no cache). On an error the budget is the old one.
 * Thread-safety: safe, not from a callback of a session. Since: 0.1
 */
INFER_API infer_status infer_kv_cache_resize(infer_kv_cache *cache, uint64_t budget_bytes);

/** Set stats->struct_size first. @return INFER_OK or INFER_ERR_INVALID.
 *  Thread-safety: safe; does not wait for a running step. Since: 0.1 */
INFER_API infer_status infer_kv_cache_get_stats(const infer_kv_cache *cache,
                                                infer_kv_cache_stats *stats);

/**
 * Keeps what is cached now of a prefix until infer_kv_cache_unpin(): it is not evicted. To bring
 * it there, run it first as a request with prefill_only.
 * @param n_pinned  receives how many leading tokens are kept: whole blocks; NULL: not wanted
 * @return INFER_OK, also if nothing of it is cached, or INFER_ERR_INVALID
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_kv_cache_pin(infer_kv_cache *cache, const infer_kv_prefix *prefix,
                                          size_t *n_pinned);

/**
 * Takes one pin of the same prefix back.
 * @return INFER_OK, INFER_ERR_NOT_FOUND (nothing of it is pinned), INFER_ERR_INVALID
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_kv_cache_unpin(infer_kv_cache *cache, const infer_kv_prefix *prefix);

/** Forgets all cached prefixes and pins, those in tier_dir too. Running requests keep their
 *  blocks, which nobody finds any more. @return INFER_OK, INFER_ERR_INVALID or INFER_ERR_IO.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_kv_cache_clear(infer_kv_cache *cache);

/**
 * Writes blocks that no request holds, and that are not there yet, to tier_dir: before a process
 * ends, or from a thread of the host beside running sessions, whose steps do not wait for it.
 * @param n_written  receives how many records were written; NULL: not wanted
 * @return INFER_OK, INFER_ERR_INVALID (the cache has no tier_dir), INFER_ERR_IO (some could not be
 *         written)
 * Thread-safety: safe. Since: 0.1
 */
INFER_API infer_status infer_kv_cache_flush(infer_kv_cache *cache, uint64_t *n_written);

#ifdef __cplusplus
}
#endif

#endif
