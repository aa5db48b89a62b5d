/**
 * @file life.h
 * Life of models: giving their weights back for a while, and replacing the model
 * behind a session. Requests in flight are not lost by either.
 */
#ifndef INFER_LIFE_H
#define INFER_LIFE_H

#include <infer/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Gives back the memory of a model's weights: mapped pages and copies that were made at load. The
 * handle, metadata, tokenizer, chat template and adapters stay, and so does all that sessions
 * have: KV caches, running and queued requests. Waits for running steps, one step at most. With
 * the weights away already it does nothing.
 *
 * Until infer_model_restore() sessions of the model compute nothing: requests can be submitted and
 * wait, infer_request_next() waits, infer_session_step() gives INFER_AGAIN, a worker thread sleeps;
 * cancelling works and deadlines pass. Afterwards all go on as if nothing had been, to the last
 * bit. A session whose draft model is evicted goes on without drafts, with the same answers.
 * @return INFER_OK, INFER_ERR_INVALID (loaded with vocabulary_only)
 * Thread-safety: safe; not from logits_fn, trace or clock of a session. Since: 0.1
 */
INFER_API infer_status infer_model_evict(infer_model *model);

typedef struct infer_model_restore_options {
    size_t struct_size;
    infer_progress_fn progress; /**< may cancel, and calls nothing of this model; NULL: none */
    void *progress_user_data;
    int32_t read_weights; /**< 1: reads all of them now, so that no step waits for the disk; 0: the
                               first steps read what they need */
    uint32_t reserved;    /**< 0 */
} infer_model_restore_options;

/**
 * Brings the weights back from the files the model was loaded from, and lets sessions go on. The
 * files must have the same tensors, and the model the same digest: metadata, and samples of each
 * tensor's bytes, are compared. On an error the model stays evicted, and a later call may succeed.
 * With the weights there it does nothing.
 * @param options  NULL for all defaults
 * @return INFER_OK, INFER_ERR_FORMAT (the files are those of another model now, or damaged),
 *         INFER_ERR_CANCELLED, or as infer_model_load()
 * Thread-safety: safe; not from logits_fn, trace or clock of a session. Since: 0.1
 */
INFER_API infer_status infer_model_restore(infer_model *model,
                                           const infer_model_restore_options *options);

typedef struct infer_swap_options {
    size_t struct_size;
    infer_kv_cache *kv_cache; /**< of the new model; NULL: one with default options; the session
                                   keeps a reference, as of the next */
    infer_model *draft_model; /**< for the new model; NULL: none */
    int32_t n_context;        /**< 0: what the session was made with, or the new model's context
                                   where that is shorter or nothing was said */
    uint32_t reserved;        /**< 0 */
    const char *model_name;   /**< label of metrics, copied; NULL: as before */
} infer_swap_options;

/**
 * Puts another model behind a session, at once and without waiting for a step. Requests that were
 * submitted before, running or waiting, go on with their model to their end, and so do their forks;
 * what is submitted or restored from now on gets the new one. Steps serve both in turn. When the
 * last request of the old model has ended and its handle is destroyed, the session lets go of that
 * model, its KV cache and its draft model.
 *
 * All other options stay the session's. max_queue counts requests of all models; max_requests and
 * the other limits hold for each. Statistics go on.
 * @param options  NULL for all defaults
 * @return as infer_session_create(); on an error nothing has changed
 * Thread-safety: safe, also while a step runs. Since: 0.1
 */
INFER_API infer_status infer_session_swap_model(infer_session *session, infer_model *model,
                                                const infer_swap_options *options);

#ifdef __cplusplus
}
#endif

#endif
