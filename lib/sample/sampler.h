/* From logits to one token: penalties, bias, truncation, draw; one state a request.
 * Same seed, same logits: same token, whatever else is in the batch. */
#ifndef SAMPLE_SAMPLER_H
#define SAMPLE_SAMPLER_H

#include "base/array.h"

struct sample_bias {
    infer_token token;
    float bias; /* added to the logit; -INFINITY bans the token */
};

/* Resolved parameters: defaults are already filled in by the caller. */
struct sample_params {
    float temperature;                         /* 0: greedy */
    int32_t top_k;                             /* 0: off */
    float top_p;                               /* 1: off */
    float min_p;                               /* 0: off */
    float repetition_penalty;                  /* 1: off; CTRL, Keskar et al. 2019 */
    float frequency_penalty, presence_penalty; /* 0: off; OpenAI's: sampled tokens alone count */
    int32_t penalty_last_n;                    /* tokens looked back on for penalties; -1: all */
    uint64_t seed;
    uint64_t sequence; /* stream of the random numbers: request fork or sample index */
    const struct sample_bias *bias;
    size_t n_bias;
    int32_t n_top_logprobs; /* candidates reported beside the chosen one */
    int32_t no_logprobs;    /* non-zero: sampler_run is never asked for log-probabilities, which
                               saves a row of n_vocab floats in this request */
    int32_t masked;         /* non-zero: sampler_set_mask will be used with small sets */
    int32_t described;      /* non-zero: sampler_describe() will be used */
};

struct sample_candidate {
    infer_token token;
    float logprob; /* natural log, of the model's distribution before penalties and temperature */
};

struct sample_result {
    infer_token token;
    float logprob;                      /* of `token`, as above */
    const struct sample_candidate *top; /* n_top, most likely first; borrowed until the next call */
    int32_t n_top;
};

/* A token that penalties are for. */
struct sample_count {
    infer_token token;
    uint32_t count; /* twice how often it was drawn, plus one if the repetition penalty sees it */
};

struct sampler;
struct infer_kernels;

infer_status sampler_create(struct sampler **out, const struct base_alloc *a,
                            const struct infer_kernels *kernels, const struct sample_params *params,
                            int32_t n_vocab);
void sampler_destroy(struct sampler **sampler);

/* Tells the sampler of tokens that it did not choose: the prompt. The
 * repetition penalty sees them. */
infer_status sampler_accept(struct sampler *sampler, const infer_token *tokens, size_t n);
/* The same of tokens that another sampler of these parameters chose after those it was told of:
 * from here on this one chooses what that one would. */
infer_status sampler_replay(struct sampler *sampler, const infer_token *tokens, size_t n);

/* A token that was not chosen but forced: the penalties see it as a chosen one. */
void sampler_force(struct sampler *sampler, infer_token token);

/* The next sampler_run chooses among `n_allowed` tokens, whose bits are set in `mask`; those from
 * n_tokens on are not. It is borrowed until then. */
void sampler_set_mask(struct sampler *sampler, const uint64_t *mask, size_t n_tokens,
                      size_t n_allowed);

/* For who chooses in this sampler's place (a GPU), and then tells it by sampler_force(): the
 * parameters, whose bias names no token twice, and what its penalties look back on, by rising
 * token. Masks are for the caller to take along. 0: it cannot be said so, or not in `room`. */
struct sample_description {
    const struct sample_params *params;
    size_t n_counts;
};
int sampler_describe(const struct sampler *sampler, struct sample_count *counts, size_t room,
                     struct sample_description *out);

/* Whether sampler_run() would only look for the highest logit, until a mask is set. */
int sampler_takes_best(const struct sampler *sampler);

/* Chooses the token for `position` (index in the sequence) and accepts it.
 * `logits` (n_vocab) is scratch: it is changed. INVALID if a logit is NaN or
 * nothing is left to choose from, so that a broken model ends its request with
 * a sentence and nothing else. No allocation in this call. */
infer_status sampler_run(struct sampler *sampler, float *logits, uint64_t position,
                         int want_logprobs, struct sample_result *out);

/* What a draft model proposes for `position`, with the number the position will be drawn with:
 * the same token that sampler_run() gives there for the same logits, after the `ahead` tokens that
 * are not accepted yet. Changes nothing but `logits`. With penalty_last_n, tokens that leave the
 * window meanwhile still count. Errors as of sampler_run(). */
infer_status sampler_guess(struct sampler *sampler, float *logits, uint64_t position,
                           const infer_token *ahead, int32_t n_ahead, infer_token *out);

#endif
