/**
 * @file score.h
 * What a model thinks of given texts: how likely continuations of a prompt are, and
 * decisions between labels.
 */
#ifndef INFER_SCORE_H
#define INFER_SCORE_H

#include <infer/session.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One continuation of a prompt: text or tokens, one of the two. The reserved words are 0. */
typedef struct infer_continuation {
    const char *text; /**< UTF-8; control tokens in it are plain text */
    size_t text_size; /**< bytes; 0: up to the terminating 0 */
    const infer_token *tokens;
    size_t n_tokens;
    float *logprobs;   /**< receives the log-probability of each token scored; NULL: not wanted */
    size_t n_logprobs; /**< room in it */
    uint64_t reserved[2];
} infer_continuation;

/** What a continuation was found to be. */
typedef struct infer_score {
    double logprob;      /**< natural log of its probability: the sum over its tokens */
    int64_t n_tokens;    /**< tokens scored */
    int64_t n_bytes;     /**< of its text; 0 for one of tokens */
    int32_t is_greedy;   /**< 1: each token was the most likely one, so greedy generation says it */
    int32_t reserved[3]; /**< 0 */
} infer_score;

/**
 * The log-likelihood of each of `n` continuations of one prompt. What they have in common is
 * computed once; all are batched together, also with other requests of the session.
 *
 * A text is encoded together with the prompt, so that its tokens are those that a model has seen,
 * and scored from the first token on that the prompt alone does not have; white space at the
 * prompt's end counts to the continuations. Where the prompt's last token and the continuation's
 * first one are merged into one, that one is scored; with harness_border the prompt's own tokens
 * are followed by what the whole text has beyond their number, as lm-evaluation-harness has it.
 * Continuations of tokens follow the prompt's tokens as they are.
 * @param scores   receives n entries
 * @param prompt   UTF-8, 0-terminated; NULL if options name tokens or messages; after a prompt of
 *                 tokens, continuations are tokens too
 * @param options  the prompt, if not `prompt`; adapter, cache_namespace, tenant, priority,
 * deadline_ns, parse_special, harness_border, and grammar: probabilities are then those among the
 * tokens that it allows, and a continuation that it does not allow has -INFINITY. The rest is of no
 * meaning here. NULL: all defaults
 * @return INFER_OK; INFER_ERR_INVALID (no or an empty continuation, nothing that stands before
 *         one, one that adds no token), INFER_ERR_LIMIT (longer than the context; too little room
 *         for logprobs), or as infer_session_submit()
 * Thread-safety: safe; concurrent calls are batched together. Since: 0.1
 */
INFER_API infer_status infer_session_score(infer_score *scores, infer_session *session,
                                           const char *prompt,
                                           const infer_continuation *continuations, size_t n,
                                           const infer_request_options *options);

/** How labels of different lengths compare. */
typedef int32_t infer_decide_by;

enum {
    INFER_DECIDE_BY_SUM = 0,   /**< by their probability: longer labels are less likely */
    INFER_DECIDE_BY_TOKEN = 1, /**< by the mean log-probability of a token */
    INFER_DECIDE_BY_BYTE = 2   /**< by the mean log-probability of a byte of the label */
};

typedef struct infer_decide_options {
    size_t struct_size;
    const infer_request_options *request; /**< as the options of infer_session_score() */
    int32_t scale;      /**< N: without labels, decides on a number from 1 to N, at most 100;
                             0: between yes and no */
    infer_decide_by by; /**< of the labels given */
    const char *ending; /**< scored behind each label, such as "\n": it tells apart labels that one
                             begins with another, such as "1" and "10". NULL: none, but for scales
                             above 9, which have "\n" */
} infer_decide_options;

typedef struct infer_decision {
    size_t struct_size;
    int32_t choice;     /**< index of the most likely label; yes is 0 and no is 1 */
    double probability; /**< its share */
    double mean;        /**< of a scale: the sum of each number times its share; else 0 */
    double logprob;     /**< of all labels together, as the model gives it: far below 0, it would
                             have said something else */
} infer_decision;

/**
 * Decides between labels: what their probabilities behind a prompt are, as shares of one.
 * Without labels it decides between yes and no, written with a small or a capital letter, or on a
 * scale. Those follow a space after a prompt that is plain text and does not end in white space;
 * given labels are taken as they are.
 * @param out     set out->struct_size first
 * @param shares  receives n_labels entries, or 2, or as many as the scale has; NULL: not wanted
 * @param labels  UTF-8, 0-terminated; NULL with n_labels 0: see above
 * @param options NULL: all defaults
 * @return as infer_session_score()
 * Thread-safety: safe; concurrent calls are batched together. Since: 0.1
 */
INFER_API infer_status infer_session_decide(infer_decision *out, double *shares,
                                            infer_session *session, const char *prompt,
                                            const char *const *labels, size_t n_labels,
                                            const infer_decide_options *options);

#ifdef __cplusplus
}
#endif

#endif
