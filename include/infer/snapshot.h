/**
 * @file snapshot.h
 * Requests and prefixes that outlive their process: tokens, keys and values, and all that a
 * generation goes on from, in a file or in memory. What is restored continues to the last bit as
 * it would have without the interruption.
 *
 * A snapshot belongs to one model, one infer_kv_type and one block_tokens, and is refused
 * elsewhere. Damage is noticed, forgery is not: restore only what nobody else could write.
 */
#ifndef INFER_SNAPSHOT_H
#define INFER_SNAPSHOT_H

#include <infer/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a snapshot does not hold: the host decides it anew. */
typedef struct infer_restore_options {
    size_t struct_size;
    const char *cache_namespace;  /**< as in infer_request_options: it is not taken over */
    const infer_adapter *adapter; /**< the one it was made with, loaded again; NULL: none */
    float adapter_scale;          /**< the same as then; 0: 1 */
    uint32_t reserved;            /**< 0 */
    const infer_grammar *grammar; /**< of a request: the one it was made with, made again of the
                                     same text; NULL: none. The request keeps a reference */
    infer_logits_fn logits_fn;    /**< of a request that was made with one; NULL: none */
    void *logits_user_data;
} infer_restore_options;

/**
 * Saves a request that has not ended; it goes on undisturbed. Waits for the step that runs at
 * most, and steps never wait for the file.
 * @param path  is replaced when the snapshot is complete; until then it is written to "path.part"
 * @return INFER_OK, INFER_ERR_INVALID (the request has ended), INFER_ERR_IO, INFER_ERR_BUSY
 *         (somebody else is writing there), INFER_ERR_NO_MEMORY; after an error the old file is
 *         as it was
 * Thread-safety: safe, also while a step runs; not from within a callback, nor during
 * infer_request_next() or infer_request_poll() of the same request. Since: 0.1
 */
INFER_API infer_status infer_request_save(infer_request *request, const char *path);

/**
 * The same into memory.
 * @param buffer  of *size bytes, or NULL to ask; *size receives what is needed, which grows while
 *                the request runs
 * @return as infer_request_save(), or INFER_ERR_LIMIT (buffer too small)
 * Thread-safety: as infer_request_save(). Since: 0.1
 */
INFER_API infer_status infer_request_save_memory(infer_request *request, void *buffer,
                                                 size_t *size);

/**
 * Queues a saved request. Its events go on behind the last one that was taken when it was saved.
 * Where the KV cache has no room for its blocks now, they are computed again.
 * @param out      receives the handle; the caller destroys it
 * @param options  NULL for all defaults
 * @return INFER_OK, INFER_ERR_NOT_FOUND, INFER_ERR_FORMAT (no snapshot, damaged, cut),
 *         INFER_ERR_UNSUPPORTED (of a newer format), INFER_ERR_INVALID (of another model, adapter,
 *         grammar, KV cache type or numerics; a logits callback that is not given), or as
 *         infer_session_submit()
 * Thread-safety: safe from any thread, also while a step runs. Since: 0.1
 */
INFER_API infer_status infer_session_restore(infer_request **out, infer_session *session,
                                             const char *path,
                                             const infer_restore_options *options);

/** The same from memory, which need only live until the call returns.
 *  Thread-safety: as infer_session_restore(). Since: 0.1 */
INFER_API infer_status infer_session_restore_memory(infer_request **out, infer_session *session,
                                                    const void *data, size_t size,
                                                    const infer_restore_options *options);

/**
 * Saves what is cached now of a prefix: whole blocks from its beginning on.
 * @param path     as in infer_request_save()
 * @param n_saved  receives how many leading tokens that is; NULL: not wanted
 * @return INFER_OK, INFER_ERR_NOT_FOUND (nothing of it is cached), INFER_ERR_INVALID,
 *         INFER_ERR_IO, INFER_ERR_BUSY, INFER_ERR_NO_MEMORY
 * Thread-safety: safe, also while a step runs. Since: 0.1
 */
INFER_API infer_status infer_kv_cache_save_prefix(infer_kv_cache *cache,
                                                  const infer_kv_prefix *prefix, const char *path,
                                                  size_t *n_saved);

/** The same into memory: buffer and *size as in infer_request_save_memory().
 *  Thread-safety: as infer_kv_cache_save_prefix(). Since: 0.1 */
INFER_API infer_status infer_kv_cache_save_prefix_memory(infer_kv_cache *cache,
                                                         const infer_kv_prefix *prefix,
                                                         void *buffer, size_t *size);

/**
 * Puts a saved prefix into the cache, where requests of this cache_namespace find it. Makes room
 * as requests do; what does not fit beside the blocks in use is left out at its end, or
 * all of it where the model has windows or recurrent layers.
 * @param options   NULL for all defaults
 * @param n_loaded  receives how many leading tokens are cached now; NULL: not wanted
 * @return as infer_session_restore()
 * Thread-safety: safe, also while a step runs. Since: 0.1
 */
INFER_API infer_status infer_kv_cache_load_prefix(infer_kv_cache *cache, const char *path,
                                                  const infer_restore_options *options,
                                                  size_t *n_loaded);

/** The same from memory. Thread-safety: as infer_kv_cache_load_prefix(). Since: 0.1 */
INFER_API infer_status infer_kv_cache_load_prefix_memory(infer_kv_cache *cache, const void *data,
                                                         size_t size,
                                                         const infer_restore_options *options,
                                                         size_t *n_loaded);

#ifdef __cplusplus
}
#endif

#endif
