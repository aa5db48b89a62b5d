/* One generation: what it computes is the stepping thread's, what it reports
 * is guarded by the session's lock. */
#ifndef ENGINE_REQUEST_H
#define ENGINE_REQUEST_H

#include "base/error.h"
#include "base/str.h"
#include "engine/kv_cache.h"
#include "engine/request_draft.h"
#include "engine/request_embed.h"
#include "engine/stop.h"
#include "sample/grammar_matcher.h"
#include "sample/sampler.h"
#include "text/stream_decode.h"

#include <infer/request.h>

struct infer_session;

enum request_state { REQUEST_WAITING, REQUEST_RUNNING, REQUEST_FINISHED };

struct request_config {
    const infer_token *prompt; /* copied */
    size_t n_prompt;
    struct sample_params sampling;
    const char *const *stop;
    size_t n_stop;
    int64_t max_tokens; /* 0: no limit of its own */
    int32_t prefill_only, ignore_eos, logprobs, n_top_logprobs, prompt_logprobs, want_logits;
    struct infer_adapter *adapter; /* NULL: none; the request takes a reference of its own */
    float adapter_scale;
    const char *cache_namespace;   /* NULL: the one that all share who name none */
    struct infer_grammar *grammar; /* NULL: none; the request takes a reference */
    int32_t n_said; /* last tokens of the prompt that are an answer under the grammar already */
    const struct grammar_matcher *said; /* of a beam: its parent's, which lacks the token before
                                           score_from; NULL: nothing was said */
    int32_t disable_jump_ahead;
    infer_logits_fn logits_fn; /* NULL: none */
    void *logits_user_data;
    int64_t min_tokens;       /* no end before so many */
    int32_t show_special;     /* control tokens give their names */
    int32_t n_prompt_top;     /* with prompt_logprobs: alternatives of each prompt token */
    int32_t score_from;       /* not 0: only prompt tokens from here on are scored, the last one
                                 need not be computed; with prefill_only and prompt_logprobs */
    const infer_token *rival; /* with score_from: the last token's probability is that beside this
                                 one alone; NULL: among all. Copied */
    const struct request_embed *embed; /* NULL: no vector is wanted; copied, but the vector is
                                          made for the request */
    int32_t n_heirs;              /* prefill_only: it keeps its blocks until so many requests began
                                     with them, or others need the room */
    struct infer_request *source; /* NULL: none; the request it may begin with the blocks of */
    const char *tenant;           /* who pays for it; NULL: cache_namespace */
    int32_t priority;             /* lower ones first */
    uint64_t deadline_ns;         /* after submit; 0: none */
    infer_speculation speculation;
    int32_t max_draft_tokens, ngram_min, ngram_max; /* 0: defaults */
};

/* What is reported of one generated token. */
struct request_token {
    infer_token token;
    float logprob;
    size_t text_end; /* of the text released with it */
    uint64_t time_ns;
};

/* Logits wait here until the host takes their event. */
struct request_logits {
    struct request_logits *next;
    float values[];
};

struct infer_request {
    _Atomic int32_t refs; /* the handle, and the session while it is not finished */
    struct base_alloc alloc;
    struct infer_session *session;             /* a reference */
    struct infer_request *next, *prev;         /* in its flow, while it waits */
    struct infer_request *next_all, *prev_all; /* in the queue */
    _Atomic int32_t cancelled;

    /* fixed at submit */
    infer_token *prompt;
    int32_t n_prompt;
    int32_t limit; /* tokens in all: prompt and generated */
    int64_t max_tokens;
    int32_t prefill_only, ignore_eos, logprobs, n_top, want_logits;
    struct engine_stop stop;
    struct infer_adapter *adapter; /* a reference, or NULL */
    float adapter_scale;
    /* Keys and values depend on tokens and on this: requests with another one share no blocks.
     * 0: no adapter. */
    uint64_t adapter_key;
    struct sample_params sampling; /* for forks; its bias is our copy */
    char *tenant;                  /* NULL: that of all who name none */
    int32_t priority;
    uint64_t time_limit_ns; /* after submit, for forks; 0: none */
    uint64_t deadline_ns;   /* 0: none */

    /* the stepping thread's */
    struct sampler *sampler;
    struct text_decoder decoder;
    struct grammar_matcher matcher; /* its grammar is NULL: none */
    int32_t n_unbound;              /* leading tokens that the grammar does not see */
    int32_t jump_ahead;             /* forced tokens need no logits of their own */
    infer_logits_fn logits_fn;
    void *logits_user_data;
    struct cache_table table;
    int32_t n_computed;           /* positions whose keys and values are in the cache */
    struct cache_swapped swapped; /* while it waits after a preemption */
    float *prompt_logprobs;
    infer_top_logprob *prompt_top; /* n_prompt_top for each prompt token from score_from on */
    int32_t n_prompt_top;
    int64_t min_tokens;
    uint64_t *no_ends; /* set of all tokens but those that end; NULL: not wanted */
    size_t n_no_ends;  /* tokens in it */
    int32_t n_prompt_scored;
    uint64_t serial;              /* order of arrival, from 1 */
    struct infer_request *source; /* whose blocks to begin with, a reference; until it has begun */
    int32_t score_from;           /* as in the config */
    infer_token rival;            /* -1: none */
    int32_t is_greedy;            /* each token scored so far was the most likely one */
    int32_t outside;              /* a scored token was none that the grammar allows */
    int32_t is_whole;             /* of a beam: nothing may follow, not even an end token */
    int32_t keeps;                /* its blocks are for heirs */
    int32_t is_kept;              /* they are computed; under the lock */
    int32_t row_ahead;            /* 1 + its row of the step in flight, or 0; under the lock */
    int32_t n_heirs;              /* of them, those that have not begun; under the lock */
    struct request_draft draft;
    struct request_embed embed;

    /* under the session's lock */
    enum request_state state;
    infer_finish finish;
    infer_status status;
    char error[BASE_ERROR_MAX];
    BASE_ARRAY(struct request_token) tokens;
    BASE_ARRAY(infer_top_logprob) top; /* n_top for each token */
    struct base_str text;
    size_t released; /* text up to here is certain */
    struct request_logits *logits, **logits_tail;
    uint64_t submit_ns, start_ns, first_ns, last_ns, finish_ns;
    uint64_t served_ns;       /* when it last took part in a step */
    int64_t rank;             /* its priority, bettered by the level at which it came to run */
    struct engine_flow *flow; /* until it has ended */
    int64_t n_preempted, n_swapped;
    int32_t n_cached;    /* positions that needed no computing when it began */
    uint64_t n_forks;    /* made of it so far */
    int32_t n_followers; /* forks that wait for what it computes */
    double logprob_sum;  /* of the generated tokens */

    /* the consumer's */
    size_t n_taken;
    int32_t finish_taken;
    struct base_str out_text;
    infer_top_logprob *out_top;
    struct request_logits *out_logits;
};

infer_status request_create(struct infer_request **out, struct infer_session *session,
                            const struct request_config *config);
void request_release(struct infer_request *request);

/* A request of the source's session that goes on from its tokens so far. In fork.c. */
struct fork_config;
infer_status request_fork(struct infer_request **out, struct infer_request *source,
                          const struct fork_config *config);

/* Tokens in the sequence so far, prompt included. */
static inline int32_t request_length(const struct infer_request *r)
{
    return r->n_prompt + (int32_t)r->tokens.size;
}

/* Positions that are to be computed: of the last token of a scored prompt nothing is wanted. */
static inline int32_t request_needed(const struct infer_request *r)
{
    return request_length(r) - (r->score_from > 0);
}

/* Whether it has nothing more to do than to keep its blocks for others. */
static inline int request_only_keeps(const struct infer_request *r)
{
    return r->keeps && r->n_computed == request_needed(r);
}

/* Of these, those that are not in the cache yet. */
static inline int32_t request_pending(const struct infer_request *r)
{
    return request_needed(r) - r->n_computed;
}

static inline infer_token request_token_at(const struct infer_request *r, int32_t i)
{
    return i < r->n_prompt ? r->prompt[i] : r->tokens.data[i - r->n_prompt].token;
}

/* The next event: INFER_OK, INFER_AGAIN (none yet), INFER_DONE, or the request's
 * failure. Under the session's lock; `event` is a full struct. */
infer_status request_take(struct infer_request *r, infer_event *event);

#endif
