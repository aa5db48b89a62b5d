/**
 * @file request.h
 * One generation in flight. Made by infer_session_submit(); yields events.
 */
#ifndef INFER_REQUEST_H
#define INFER_REQUEST_H

#include <infer/adapter.h>
#include <infer/grammar.h>
#include <infer/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct infer_request infer_request;

typedef int32_t infer_finish;

enum {
    INFER_FINISH_NONE = 0,    /**< still running */
    INFER_FINISH_STOP = 1,    /**< an end token, a stop string, or a grammar that is complete */
    INFER_FINISH_LENGTH = 2,  /**< max_tokens reached, or a prefill_only prompt computed */
    INFER_FINISH_CONTEXT = 3, /**< the context, or a smaller KV cache as a whole, is full */
    INFER_FINISH_CANCELLED = 4,
    INFER_FINISH_ERROR = 5,   /**< see infer_request_error() */
    INFER_FINISH_DEADLINE = 6 /**< deadline_ns passed; what it had said until then stays */
};

/** Whether tokens are drafted, and checked several a step. Answers come faster, and are the same:
 *  tokens, log-probabilities and logits are those of plain decoding, greedy or drawn. */
typedef int32_t infer_speculation;

enum {
    INFER_SPECULATION_DEFAULT = 0, /**< DRAFT where the session has a draft model, else OFF */
    INFER_SPECULATION_OFF = 1,
    INFER_SPECULATION_NGRAM = 2, /**< what followed the last tokens when they were there before, in
                                      prompt or answer: for answers that repeat or quote */
    INFER_SPECULATION_DRAFT = 3  /**< by the session's draft model */
};

/**
 * Sees the logits of the next token and may change them; -INFINITY bans a token. Called by the
 * thread that steps, before penalties, grammar and sampling.
 * @return 0 to go on, anything else ends the request with INFER_ERR_CANCELLED
 */
typedef int32_t (*infer_logits_fn)(float *logits, int32_t n_logits, void *user_data);

/**
 * What to generate from, and how. Exactly one of prompt, tokens and a conversation
 * (messages, context or both) is given. Pointers need only live until infer_session_submit()
 * returns.
 */
typedef struct infer_request_options {
    size_t struct_size;
    const char *prompt; /**< UTF-8; BOS is added as the vocabulary says, control tokens are parsed
                             only with parse_special */
    size_t prompt_size; /**< bytes; 0: up to the terminating 0 */
    const infer_token *tokens; /**< taken as they are */
    size_t n_tokens;
    const infer_message *messages; /**< rendered with the model's chat template; control tokens
                                        written in messages are plain text, but for the
                                        roles "system" and "assistant" */
    size_t n_messages;
    const infer_sampling *sampling; /**< NULL: infer_model_sampling() */
    const char *const *stop; /**< strings that end the generation and are not part of its text */
    size_t n_stop;
    int64_t max_tokens;      /**< 0: until the model ends or its context is full */
    int32_t prefill_only;    /**< 1: generate nothing (scoring) */
    int32_t ignore_eos;      /**< 1: end tokens do not end the generation */
    int32_t parse_special;   /**< 1: control tokens in `prompt` become their ids */
    int32_t logprobs;        /**< 1: events carry the log-probability of each token */
    int32_t n_top_logprobs;  /**< the most likely alternatives reported per token, 0 .. 64 */
    int32_t prompt_logprobs; /**< 1: log-probability of each prompt token given those before it */
    int32_t want_logits; /**< 1: events carry the logits the token was chosen from; n_vocab floats
                              are kept for each event not yet taken */
    const char *context; /**< JSON object of the chat template's variables, as in
                              infer_model_render_context(): tools, documents, settings, and the
                              conversation itself unless `messages` holds it. Texts inside messages,
                              tools, documents and other lists and objects are plain as those of
                              `messages` are */
    size_t context_size; /**< bytes; 0: up to the terminating 0 */
    const infer_adapter *adapter; /**< of the session's model; NULL: the model as it is. The request
                                       keeps a reference */
    float adapter_scale;          /**< multiplies what the adapter adds; 0: 1 */
    int32_t disable_jump_ahead;   /**< 1: tokens that a grammar forces are computed one by one; the
                                       answer is the same */
    const char *cache_namespace;  /**< requests of one namespace share cached prefixes with each
                                       other alone: one per tenant keeps tenants from learning by
                                       time what others asked. Set it from what the host knows, never
                                       from what a request says. NULL or "": one like any other */
    const infer_grammar *grammar; /**< the generated text matches it; the request keeps a reference.
                                       An answer that max_tokens, a stop string or a full context
                                       cuts is the beginning of one that matches */
    infer_logits_fn logits_fn;    /**< NULL: none */
    void *logits_user_data;
    const char *tenant;   /**< requests of one priority share the session fairly between tenants, by
                               tokens. NULL: the cache_namespace */
    uint64_t deadline_ns; /**< so long after submit the request ends with INFER_FINISH_DEADLINE,
                               running or waiting; 0: never */
    int32_t priority;     /**< lower ones run first, also instead of others that run already; what
                               waits betters with time: priority_age_ns of infer_session_options */
    uint32_t reserved;    /**< 0 */
    /** Until so many tokens are there, no end token is chosen and no stop string ends the
     *  generation; only a grammar's text that is complete and cannot go on does. Stop strings count
     *  from their first byte behind these. */
    int64_t min_tokens;
    int32_t n_prompt_top_logprobs; /**< as n_top_logprobs, of the prompt: 0 .. 64; not 0 includes
                                        prompt_logprobs */
    int32_t show_special; /**< 1: control tokens that are no end tokens appear in the text by name,
                             as <infer/message.h> needs them */
    infer_speculation speculation; /**< none for models with recurrent state, nor with a
                                        logits_fn */
    int32_t max_draft_tokens;     /**< drafted a step at most, 1 .. 64; 0: 16. How many it really is
                                       follows from what steps cost and how many were right */
    int32_t ngram_min, ngram_max; /**< last tokens that must have been there before; the longest
                                       match counts. 1 .. 16; 0: 2 and 5, or nearest to the other */
    int32_t harness_border; /**< of infer_session_score() and infer_session_decide() alone: 1: where
                                 a token reaches across prompt and continuation, the tokens are
                               those of lm-evaluation-harness */
} infer_request_options;

/** How a fork differs from its source. */
typedef struct infer_fork_options {
    size_t struct_size;
    const infer_sampling *sampling; /**< NULL: the source's */
    int64_t max_tokens;             /**< of the fork alone; 0: the source's max_tokens */
    uint64_t seed; /**< 0: that of `sampling`; without it the source's plus 1 for the first fork of
                        a source, 2 for the second ... */
} infer_fork_options;

typedef struct infer_top_logprob {
    infer_token token;
    float logprob;
} infer_top_logprob;

typedef int32_t infer_event_type;

enum {
    INFER_EVENT_TOKEN = 1, /**< one more token */
    INFER_EVENT_FINISH = 2 /**< the last event, with what text was still held back */
};

/** Set struct_size first. Pointers are valid until the next call on this request. */
typedef struct infer_event {
    size_t struct_size;
    const char *text; /**< whole characters that became certain; may be "" while a character or a
                           possible stop string is incomplete; 0-terminated */
    size_t text_size;
    const infer_top_logprob *top; /**< n_top_logprobs entries, most likely first; token -1 where the
                                       vocabulary has no more */
    size_t n_top;
    const float *logits; /**< n_logits, as the model gave them; NULL unless asked for */
    size_t n_logits;
    infer_event_type type;
    infer_token token;   /**< -1 in FINISH */
    float logprob;       /**< natural log, before penalties and temperature; 0 without `logprobs` */
    infer_finish finish; /**< why, in FINISH */
    uint64_t time_ns;    /**< when the token was there, or the end, by the session's clock */
} infer_event;

typedef struct infer_request_info {
    size_t struct_size;
    uint64_t queue_ns;   /**< from submit to the first step it ran in */
    uint64_t prefill_ns; /**< from then to the first token */
    uint64_t decode_ns;  /**< from then to the last token so far */
    int64_t n_prompt_tokens;
    int64_t n_cached_tokens; /**< prompt tokens whose keys and values were already there */
    int64_t n_generated_tokens;
    infer_status status; /**< INFER_OK, or why it failed */
    infer_finish finish;
    double logprob_sum; /**< of the generated tokens; 0 without `logprobs` */
    uint64_t id;        /**< counted from 1 in each session; as in infer_trace_event */
    /** By the session's clock; 0: not yet. Scheduled is the first step it ran in. */
    uint64_t submitted_ns, scheduled_ns, first_token_ns, last_token_ns, finished_ns;
    int64_t n_preempted;       /**< how often it gave its blocks back and waited again */
    int64_t n_drafted_tokens;  /**< checked beside tokens of the answer */
    int64_t n_accepted_tokens; /**< of those, right ones */
    int64_t n_swapped; /**< how often its blocks went to the swap store, to be computed no more */
} infer_request_info;

/**
 * Waits for the next event. If the session has no worker thread, the calling
 * thread runs the session's steps meanwhile, for all its requests.
 * @return INFER_OK with an event, INFER_DONE when FINISH was already given, or a negative status
 *         once the request failed (its sentence is on this thread and on the request)
 * Thread-safety: one thread at a time per request. Since: 0.1
 */
INFER_API infer_status infer_request_next(infer_request *request, infer_event *event);

/** As infer_request_next(), but never waits and runs no step: INFER_AGAIN if nothing is ready.
 *  Thread-safety: one thread at a time per request. Since: 0.1 */
INFER_API infer_status infer_request_poll(infer_request *request, infer_event *event);

/**
 * Queues a request that goes on from the tokens that `source` has so far, prompt and answer, as
 * one with these tokens as its prompt would, to the last bit. It begins with the keys and values
 * that the source has computed instead of its own: full blocks are shared, the last one is copied.
 * Made right after submit, forks wait until the source has computed the prompt: n samples of one
 * prompt. The source may run, wait, have ended or be destroyed; stop strings, logprobs and the
 * like, its cache_namespace, tenant, priority and deadline_ns (from now on) are taken over, and
 * min_tokens less what it has said; prefill_only and prompt_logprobs are not.
 * @param options  NULL for all defaults
 * @return as infer_session_submit()
 * Thread-safety: safe from any thread, also while a step runs. Since: 0.1
 */
INFER_API infer_status infer_request_fork(infer_request **out, infer_request *source,
                                          const infer_fork_options *options);

/** Asks a request to end; honoured at the next step. NULL-safe.
 *  Thread-safety: safe from any thread. Since: 0.1 */
INFER_API void infer_request_cancel(infer_request *request);

/** Cancels if needed, frees and sets *request to NULL. NULL-safe.
 *  Thread-safety: once per handle, and not during another call on it. Since: 0.1 */
INFER_API void infer_request_destroy(infer_request **request);

/** Set info->struct_size first. @return INFER_OK or INFER_ERR_INVALID.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API infer_status infer_request_get_info(const infer_request *request,
                                              infer_request_info *info);

/** The sentence of a failed request, else "". Borrowed from the request.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API const char *infer_request_error(const infer_request *request);

/** The prompt as tokens; borrowed from the request; *n receives their number.
 *  Thread-safety: safe. Since: 0.1 */
INFER_API const infer_token *infer_request_prompt(const infer_request *request, size_t *n);

/**
 * With prompt_logprobs, the log-probability of prompt token i given tokens 0 .. i - 1; entry 0
 * is 0. Complete when the first event arrives; NULL before and if not asked for. Borrowed.
 * Thread-safety: as infer_request_next(). Since: 0.1
 */
INFER_API const float *infer_request_prompt_logprobs(const infer_request *request, size_t *n);

/**
 * With n_prompt_top_logprobs = k, the k most likely tokens at each place of the prompt given those
 * before it, most likely first: entries i * k .. i * k + k - 1 are of prompt token i, whose own
 * log-probability is that of infer_request_prompt_logprobs(). Token -1 where there is none: at
 * place 0, and beyond the vocabulary. *n receives the number of prompt tokens. Complete, NULL and
 * borrowed as infer_request_prompt_logprobs(). Thread-safety: as infer_request_next(). Since: 0.1
 */
INFER_API const infer_top_logprob *infer_request_prompt_top_logprobs(const infer_request *request,
                                                                     size_t *n);

#ifdef __cplusplus
}
#endif

#endif
