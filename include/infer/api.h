/**
 * @file api.h
 * All functions as one table, for hosts that load libinfer at run time:
 *
 *   void *lib = dlopen("libinfer.so.0", RTLD_NOW);
 *   const infer_api *(*get)(uint32_t) = (...)dlsym(lib, "infer_get_api");
 *   const infer_api *infer = get(INFER_API_VERSION);
 *   infer->model_load(&model, path, NULL);
 *
 * The table is append-only: members never move and never change their type.
 */
#ifndef INFER_API_H
#define INFER_API_H

#include <infer/adapter.h>
#include <infer/convert.h>
#include <infer/embed.h>
#include <infer/error.h>
#include <infer/grammar.h>
#include <infer/index.h>
#include <infer/life.h>
#include <infer/log.h>
#include <infer/message.h>
#include <infer/score.h>
#include <infer/search.h>
#include <infer/self_test.h>
#include <infer/snapshot.h>
#include <infer/template.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Version of the table: grows when members are appended. */
#define INFER_API_VERSION 3

/** Members have the name and the contract of the function infer_<member>(). */
typedef struct infer_api {
    size_t struct_size;   /**< bytes of the table that this library fills */
    uint32_t api_version; /**< INFER_API_VERSION of this library */

    /* error.h */
    const char *(*last_error)(void);
    const char *(*status_name)(infer_status status);
    int32_t (*status_retryable)(infer_status status);
    uint32_t (*version)(void);
    int32_t (*has)(const char *feature);

    /* log.h */
    void (*log_set)(infer_log_fn fn, void *user_data, infer_log_level level);

    /* device.h */
    int32_t (*device_count)(void);
    infer_status (*device_create)(infer_device **out, int32_t index,
                                  const infer_device_options *options);
    void (*device_destroy)(infer_device **device);
    infer_status (*device_get_info)(const infer_device *device, infer_device_info *info);

    /* model.h */
    infer_status (*model_load)(infer_model **out, const char *path,
                               const infer_model_options *options);
    void (*model_destroy)(infer_model **model);
    infer_status (*model_get_info)(const infer_model *model, infer_model_info *info);
    infer_status (*model_estimate)(infer_memory_estimate *out, const char *path, int64_t kv_tokens,
                                   const infer_model_options *options);
    const infer_tokenizer *(*model_tokenizer)(const infer_model *model);
    infer_status (*model_sampling)(const infer_model *model, infer_sampling *out);
    size_t (*model_metadata_count)(const infer_model *model);
    infer_status (*model_metadata_at)(const infer_model *model, size_t i, infer_metadata *out);
    size_t (*model_tensor_count)(const infer_model *model);
    infer_status (*model_tensor_at)(const infer_model *model, size_t i, infer_tensor_info *out);
    infer_status (*model_render_chat)(const infer_model *model, const infer_message *messages,
                                      size_t n_messages, char *text, size_t *size);

    /* tokenizer.h */
    infer_status (*tokenizer_get_info)(const infer_tokenizer *tokenizer,
                                       infer_tokenizer_info *info);
    infer_status (*tokenizer_encode)(const infer_tokenizer *tokenizer, const char *text,
                                     size_t size, const infer_encode_options *options,
                                     infer_token *tokens, size_t *n);
    infer_status (*tokenizer_decode)(const infer_tokenizer *tokenizer, const infer_token *tokens,
                                     size_t n, const infer_decode_options *options, char *text,
                                     size_t *size);
    infer_status (*tokenizer_piece)(const infer_tokenizer *tokenizer, infer_token token,
                                    char *bytes, size_t *size);
    int32_t (*tokenizer_is_end)(const infer_tokenizer *tokenizer, infer_token token);

    /* kv_cache.h */
    infer_status (*kv_cache_create)(infer_kv_cache **out, infer_model *model,
                                    const infer_kv_cache_options *options);
    void (*kv_cache_destroy)(infer_kv_cache **cache);
    infer_status (*kv_cache_get_stats)(const infer_kv_cache *cache, infer_kv_cache_stats *stats);

    /* session.h */
    infer_status (*session_create)(infer_session **out, infer_model *model,
                                   const infer_session_options *options);
    void (*session_destroy)(infer_session **session);
    infer_status (*session_generate)(infer_session *session, const char *prompt,
                                     const infer_request_options *options, infer_text_fn text,
                                     void *user_data);
    infer_status (*session_submit)(infer_request **out, infer_session *session,
                                   const infer_request_options *options);
    infer_status (*session_step)(infer_session *session);
    infer_status (*session_get_stats)(const infer_session *session, infer_session_stats *stats);
    infer_status (*session_metrics)(const infer_session *session, char *text, size_t *size);

    /* request.h */
    infer_status (*request_next)(infer_request *request, infer_event *event);
    infer_status (*request_poll)(infer_request *request, infer_event *event);
    void (*request_cancel)(infer_request *request);
    void (*request_destroy)(infer_request **request);
    infer_status (*request_get_info)(const infer_request *request, infer_request_info *info);
    const char *(*request_error)(const infer_request *request);
    const infer_token *(*request_prompt)(const infer_request *request, size_t *n);
    const float *(*request_prompt_logprobs)(const infer_request *request, size_t *n);

    /* version 2 */
    infer_status (*model_render_context)(const infer_model *model, const char *context,
                                         size_t context_size, char *text, size_t *size);
    infer_status (*template_render)(const char *source, size_t source_size, const char *context,
                                    size_t context_size, const infer_template_options *options,
                                    char *text, size_t *size);
    infer_status (*model_memory)(const infer_model *model, int64_t kv_tokens,
                                 infer_memory_estimate *out);
    infer_status (*convert)(infer_convert_info *out, const char *src, const char *dst,
                            const infer_convert_options *options);

    /* version 3 */
    infer_status (*adapter_load)(infer_adapter **out, infer_model *model, const char *path,
                                 const infer_adapter_options *options);
    void (*adapter_destroy)(infer_adapter **adapter);
    infer_status (*adapter_get_info)(const infer_adapter *adapter, infer_adapter_info *info);
    infer_status (*kv_cache_pin)(infer_kv_cache *cache, const infer_kv_prefix *prefix,
                                 size_t *n_pinned);
    infer_status (*kv_cache_unpin)(infer_kv_cache *cache, const infer_kv_prefix *prefix);
    infer_status (*kv_cache_clear)(infer_kv_cache *cache);
    infer_status (*request_fork)(infer_request **out, infer_request *source,
                                 const infer_fork_options *options);
    infer_status (*grammar_create)(infer_grammar **out, const infer_grammar_options *options);
    void (*grammar_destroy)(infer_grammar **grammar);
    infer_status (*grammar_accepts)(int32_t *out, const infer_grammar *grammar, const char *text,
                                    size_t size);
    infer_status (*request_save)(infer_request *request, const char *path);
    infer_status (*request_save_memory)(infer_request *request, void *buffer, size_t *size);
    infer_status (*session_restore)(infer_request **out, infer_session *session, const char *path,
                                    const infer_restore_options *options);
    infer_status (*session_restore_memory)(infer_request **out, infer_session *session,
                                           const void *data, size_t size,
                                           const infer_restore_options *options);
    infer_status (*kv_cache_save_prefix)(infer_kv_cache *cache, const infer_kv_prefix *prefix,
                                         const char *path, size_t *n_saved);
    infer_status (*kv_cache_save_prefix_memory)(infer_kv_cache *cache,
                                                const infer_kv_prefix *prefix, void *buffer,
                                                size_t *size);
    infer_status (*kv_cache_load_prefix)(infer_kv_cache *cache, const char *path,
                                         const infer_restore_options *options, size_t *n_loaded);
    infer_status (*kv_cache_load_prefix_memory)(infer_kv_cache *cache, const void *data,
                                                size_t size, const infer_restore_options *options,
                                                size_t *n_loaded);
    infer_status (*kv_cache_flush)(infer_kv_cache *cache, uint64_t *n_written);

    /* score.h, and what request.h has of prompts */
    infer_status (*session_score)(infer_score *scores, infer_session *session, const char *prompt,
                                  const infer_continuation *continuations, size_t n,
                                  const infer_request_options *options);
    infer_status (*session_decide)(infer_decision *out, double *shares, infer_session *session,
                                   const char *prompt, const char *const *labels, size_t n_labels,
                                   const infer_decide_options *options);
    const infer_top_logprob *(*request_prompt_top_logprobs)(const infer_request *request,
                                                            size_t *n);

    /* message.h */
    infer_message_format (*message_format_of)(const char *chat_template);
    infer_status (*message_reader_create)(infer_message_reader **out,
                                          const infer_message_options *options);
    void (*message_reader_destroy)(infer_message_reader **message);
    infer_status (*message_reader_push)(infer_message_reader *message, const char *text,
                                        size_t size);
    infer_status (*message_reader_finish)(infer_message_reader *message);
    infer_status (*message_reader_get)(infer_message_reader *message, infer_message_parts *parts);
    infer_status (*message_parse)(infer_message_reader **out, const char *text, size_t size,
                                  const infer_message_options *options);

    /* search.h */
    infer_status (*session_best_of)(infer_answers **out, infer_session *session, const char *prompt,
                                    const infer_best_of_options *options);
    infer_status (*session_beam_search)(infer_answers **out, infer_session *session,
                                        const char *prompt, const infer_beam_options *options);
    size_t (*answers_count)(const infer_answers *answers);
    infer_status (*answers_at)(const infer_answers *answers, size_t i, infer_answer *answer);
    void (*answers_destroy)(infer_answers **answers);

    /* life.h */
    infer_status (*model_evict)(infer_model *model);
    infer_status (*model_restore)(infer_model *model, const infer_model_restore_options *options);
    infer_status (*session_swap_model)(infer_session *session, infer_model *model,
                                       const infer_swap_options *options);

    /* self_test.h */
    infer_status (*model_self_test)(infer_self_test_report *report, infer_model *model,
                                    const infer_self_test_options *options);

    /* kv_cache.h */
    infer_status (*kv_cache_resize)(infer_kv_cache *cache, uint64_t budget_bytes);

    /* embed.h */
    infer_status (*model_get_embedding_info)(infer_model *model, infer_embedding_info *info);
    infer_status (*session_embed)(float *vectors, infer_session *session, const char *const *texts,
                                  const size_t *sizes, size_t n, const infer_embed_options *options,
                                  infer_embed_report *report);
    infer_status (*session_rerank)(float *scores, infer_session *session, const char *query,
                                   const char *const *texts, const size_t *sizes, size_t n,
                                   const infer_embed_options *options, infer_embed_report *report);

    /* index.h */
    infer_status (*index_open)(infer_index **out, const char *path,
                               const infer_index_options *options);
    void (*index_destroy)(infer_index **index);
    infer_status (*index_upsert)(infer_index *index, const infer_record *records, size_t n);
    infer_status (*index_delete)(infer_index *index, const char *ns, const char *const *ids,
                                 size_t n, size_t *n_deleted);
    infer_status (*index_delete_where)(infer_index *index, const char *ns, const char *filter,
                                       size_t *n_deleted);
    infer_status (*index_get)(infer_hits **out, infer_index *index, const char *ns,
                              const char *const *ids, size_t n, uint32_t with);
    infer_status (*index_list)(infer_hits **out, infer_index *index, const char *ns,
                               const char *filter, const char *after, size_t limit, uint32_t with);
    infer_status (*index_count)(infer_index *index, const char *ns, const char *filter,
                                uint64_t *count);
    infer_status (*index_search)(infer_hits **out, infer_index *index,
                                 const infer_index_query *queries, size_t n);
    size_t (*hits_count)(const infer_hits *hits, size_t query);
    infer_status (*hits_at)(const infer_hits *hits, size_t query, size_t i, infer_hit *hit);
    infer_status (*hits_info)(const infer_hits *hits, size_t query, infer_search_info *info);
    void (*hits_destroy)(infer_hits **hits);
    infer_status (*index_add_field)(infer_index *index, const char *path);
    infer_status (*index_get_info)(infer_index *index, infer_index_info *info);
    infer_status (*index_compact)(infer_index *index);
    infer_status (*index_verify)(infer_index *index);
    infer_status (*index_snapshot)(infer_index *index, const char *path);
} infer_api;

/**
 * The function table.
 * @param version  INFER_API_VERSION of the header the host was compiled with
 * @return NULL if this library is older than that; borrowed, lives as long as the library
 * Thread-safety: safe. Since: 0.1
 */
INFER_API const infer_api *infer_get_api(uint32_t version);

#ifdef __cplusplus
}
#endif

#endif
