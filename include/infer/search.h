/**
 * @file search.h
 * The best of several answers: of samples, or of all that a beam search sees.
 */
#ifndef INFER_SEARCH_H
#define INFER_SEARCH_H

#include <infer/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Answers to one prompt, best first. */
typedef struct infer_answers infer_answers;

/** Valid as long as the answers are. */
typedef struct infer_answer {
    size_t struct_size;
    const char *text; /**< whole characters, 0-terminated */
    size_t text_size;
    const infer_token *tokens; /**< without an end token */
    size_t n_tokens;
    double logprob; /**< of all its tokens together */
    double score;   /**< logprob divided by the number of tokens to the power of length_penalty */
    infer_finish finish;
} infer_answer;

typedef struct infer_best_of_options {
    size_t struct_size;
    const infer_request_options *request; /**< as of infer_session_submit(); NULL: all defaults */
    int32_t n_samples;                    /**< 1 to 256; 0: 4 */
    float length_penalty; /**< 0: sums compare, which favours short answers; 1: means of a token */
} infer_best_of_options;

/**
 * Samples several answers, which share the computed prompt, and ranks them by what the model
 * thinks of each, before penalties and temperature. End tokens are not counted.
 * @param out     receives the answers, best first; of equals the one of the lower seed
 * @param prompt  as of infer_session_generate()
 * @param options without sampling of its own the model's holds: if that is greedy, all are the same
 * @return INFER_OK, INFER_ERR_UNSUPPORTED (prefill_only), or as infer_session_submit() and
 *         infer_request_next()
 * Thread-safety: safe; concurrent calls are batched together. Since: 0.1
 */
INFER_API infer_status infer_session_best_of(infer_answers **out, infer_session *session,
                                             const char *prompt,
                                             const infer_best_of_options *options);

/** When a beam search has enough answers. */
typedef int32_t infer_early_stopping;

enum {
    INFER_EARLY_STOPPING_HEURISTIC = 0, /**< when no running beam, at its present length, is better
                                             than the worst answer */
    INFER_EARLY_STOPPING_FIRST = 1,     /**< as soon as there are `width` of them */
    INFER_EARLY_STOPPING_NEVER = 2      /**< when none that runs can become better */
};

typedef struct infer_beam_options {
    size_t struct_size;
    const infer_request_options *request; /**< prompt, adapter, cache_namespace, tenant, priority,
                                             max_tokens, min_tokens, ignore_eos, parse_special,
                                             grammar */
    int32_t width;                        /**< beams, 1 to 64; 0: 4 */
    infer_early_stopping early_stopping;
    float length_penalty; /**< 0: sums compare; 1: means of a token, which is the default of
                               transformers; above 0 favours long answers, below 0 short ones */
} infer_beam_options;

/**
 * Beam search, as Hugging Face transformers documents it: of all continuations of all beams the
 * `width` most likely go on; one that ends is an answer if it is among them. Beams share the keys
 * and values of what they have in common. The same call gives the same answers. An end token counts
 * for logprob and length, not for tokens and text.
 *
 * Under a grammar a beam goes on with tokens that it allows, and ends where it allows that. They
 * are ranked by the model's own probabilities, as those of all tokens: the best answer is the
 * likeliest text that matches, as far as beams see.
 * @param out  receives at most `width` answers, best first
 * @return INFER_OK, INFER_ERR_UNSUPPORTED (naming an option that it does not take: sampling, stop,
 *         logits_fn ...), or as infer_session_score()
 * Thread-safety: safe; concurrent calls are batched together. Since: 0.1
 */
INFER_API infer_status infer_session_beam_search(infer_answers **out, infer_session *session,
                                                 const char *prompt,
                                                 const infer_beam_options *options);

/** @return how many there are; 0 for NULL. Thread-safety: safe. Since: 0.1 */
INFER_API size_t infer_answers_count(const infer_answers *answers);

/** Set answer->struct_size first. @return INFER_OK or INFER_ERR_INVALID (index).
 *  Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_answers_at(const infer_answers *answers, size_t i,
                                        infer_answer *answer);

/** NULL-safe. Thread-safety: once per handle. Since: 0.1 */
INFER_API void infer_answers_destroy(infer_answers **answers);

#ifdef __cplusplus
}
#endif

#endif
