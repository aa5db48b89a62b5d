/* Requests and prefixes that outlive their process, in the container of cache/snapshot.h. */
#ifndef ENGINE_SNAPSHOT_H
#define ENGINE_SNAPSHOT_H

#include "cache/held.h"
#include "cache/snapshot.h"
#include "engine/session.h"

/* Where a snapshot goes: a file, or the caller's memory. */
struct snapshot_target {
    const char *path; /* NULL: memory */
    void *buffer;     /* *size bytes; NULL: only the size is wanted */
    size_t *size;     /* receives what is needed */
};

/* What a snapshot does not hold, for the host decides it anew. */
struct snapshot_owner {
    const char *cache_namespace;
    struct infer_adapter *adapter;
    float adapter_scale;
    struct infer_grammar *grammar; /* as the rest of a request alone */
    infer_logits_fn logits_fn;
    void *logits_user_data;
};

/* Fills in what all snapshots of this cache have in common. */
void snapshot_head(struct cache_snapshot_head *out, const struct infer_kv_cache *kv, int32_t kind);
/* `body` are all sections but the blocks, which follow in order of groups. A file is written
 * beside its place and moved there whole. */
infer_status snapshot_write(const struct snapshot_target *to, struct cache_snapshot_head *head,
                            const struct base_str *body, const struct cache_held *held);
/* Opens a snapshot of this kind of this cache's model, type and adapter; reads the groups. */
infer_status snapshot_open(struct cache_snapshot *out, const struct infer_kv_cache *kv,
                           int32_t kind, const void *data, size_t size, uint64_t adapter);
/* Whether what follows is the blocks of n_tokens positions and then the end. */
infer_status snapshot_check_blocks(struct cache_snapshot s, const struct cache_blocks *blocks,
                                   int32_t n_tokens);
/* Puts them into blocks first .. of a table that has room; checked before. */
infer_status snapshot_load_blocks(struct cache_snapshot s, struct cache_table *table, int32_t first,
                                  int32_t end, int32_t n_tokens);

/* ----------------------------------------------------------------- requests */

/* Any that has not ended; does not disturb it, nor wait for more than the running step. */
infer_status snapshot_save_request(struct infer_request *r, const struct snapshot_target *to);
/* Queues it in a session of the same model. */
infer_status snapshot_restore_request(struct infer_request **out, struct infer_session *s,
                                      const void *data, size_t size,
                                      const struct snapshot_owner *owner);

/* A saved request, taken apart; points into the snapshot. Everything that needs no model is
 * checked. */
struct snapshot_request {
    struct request_config config; /* without tokens, stop strings, bias */
    int32_t n_prompt, n_tokens, n_computed, n_scored, n_cached, at_start, n_pending, n_stop;
    uint8_t pending[4];
    int32_t has_grammar, has_logits_fn;
    uint64_t n_taken, released, n_forks;
    double logprob_sum;
    struct base_hash128 grammar;
    struct cache_cursor tokens, bias, stop, text, reported, top, prompt_logprobs, logits;
};

infer_status snapshot_put_request(struct base_str *out, const struct infer_request *r);
infer_status snapshot_get_request(struct snapshot_request *out, struct cache_snapshot *s);

/* ----------------------------------------------------------------- prefixes */

/* What is cached of these tokens; NOT_FOUND if that is nothing. */
infer_status snapshot_save_prefix(struct infer_kv_cache *kv, const struct snapshot_owner *owner,
                                  const infer_token *tokens, size_t n,
                                  const struct snapshot_target *to, size_t *n_saved);
/* Into the prefix cache, as many blocks as there is room for. */
infer_status snapshot_load_prefix(struct infer_kv_cache *kv, const struct snapshot_owner *owner,
                                  const void *data, size_t size, size_t *n_loaded);

#endif
