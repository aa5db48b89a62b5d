/* The sampler of one request: its state and the order of the chain.
 *
 *   log-probabilities (of what the model said)
 *   logit bias, penalties            the order of vLLM's sampler
 *   mask                             what a grammar allows
 *   greedy, where temperature is 0
 *   temperature, top-k, top-p, min-p the order of Hugging Face transformers'
 *   draw                             generation
 *
 * Top-p counts the mass that top-k left as one; min-p compares with the
 * highest probability, which neither of them can remove. */
#include "sample/sampler.h"

#include "base/error.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "sample/chain.h"

#include <float.h>
#include <math.h>
#include <string.h>

struct sampler {
    struct base_alloc alloc;
    const struct infer_kernels *kernels;
    struct sample_params params; /* its bias is our copy */
    int32_t n_vocab;
    struct sample_bias *bias;
    struct sample_history history;
    infer_token *ids;             /* what top-k keeps */
    struct sample_radix *radix;   /* NULL where neither top-k nor top-p is on */
    float *raw;                   /* the model's logits; NULL with no_logprobs */
    struct sample_candidate *top; /* n_top_logprobs */
    struct sample_mask mask;      /* of the next run */
    infer_token *masked;          /* the tokens of a small mask; NULL without `masked` */
    size_t n_masked;
    int bias_twice; /* the bias names a token more than once */
};

/* A mask of a larger part of the vocabulary is applied in place. */
#define MASKED_PART 8

static infer_status check_bias(const struct sample_params *p, int32_t n_vocab)
{
    for (size_t i = 0; i < p->n_bias; i++) {
        const struct sample_bias *b = &p->bias[i];
        if (b->token < 0 || b->token >= n_vocab)
            return base_error(INFER_ERR_INVALID, "logit bias %zu names token %d, expected 0 to %d",
                              i, b->token, n_vocab - 1);
        if (!(b->bias <= FLT_MAX))
            return base_error(INFER_ERR_INVALID,
                              "logit bias of token %d is %g, expected a number or -infinity",
                              b->token, (double)b->bias);
    }
    return INFER_OK;
}

/* Comparisons are written so that NaN fails them. */
static infer_status check_params(const struct sample_params *p, int32_t n_vocab)
{
    if (n_vocab < 1)
        return base_error(INFER_ERR_INVALID, "a vocabulary of %d tokens, expected at least 1",
                          n_vocab);
    if (!(p->temperature >= 0.0f && p->temperature <= FLT_MAX))
        return base_error(INFER_ERR_INVALID, "temperature is %g, expected 0 or more",
                          (double)p->temperature);
    if (p->top_k < 0)
        return base_error(INFER_ERR_INVALID, "top_k is %d, expected 0 (off) or more", p->top_k);
    if (!(p->top_p >= 0.0f && p->top_p <= 1.0f))
        return base_error(INFER_ERR_INVALID, "top_p is %g, expected 0 to 1", (double)p->top_p);
    if (!(p->min_p >= 0.0f && p->min_p <= 1.0f))
        return base_error(INFER_ERR_INVALID, "min_p is %g, expected 0 to 1", (double)p->min_p);
    if (!(p->repetition_penalty > 0.0f && p->repetition_penalty <= FLT_MAX))
        return base_error(INFER_ERR_INVALID,
                          "repetition_penalty is %g, expected more than 0 (1 is off)",
                          (double)p->repetition_penalty);
    if (!(fabsf(p->frequency_penalty) <= FLT_MAX && fabsf(p->presence_penalty) <= FLT_MAX))
        return base_error(INFER_ERR_INVALID,
                          "frequency_penalty is %g and presence_penalty %g, expected numbers",
                          (double)p->frequency_penalty, (double)p->presence_penalty);
    if (p->penalty_last_n < -1)
        return base_error(INFER_ERR_INVALID, "penalty_last_n is %d, expected -1 (all) or more",
                          p->penalty_last_n);
    if (p->n_top_logprobs < 0)
        return base_error(INFER_ERR_INVALID, "n_top_logprobs is %d, expected 0 or more",
                          p->n_top_logprobs);
    return check_bias(p, n_vocab);
}

/* Whether a sampler elsewhere could add the biases all at once. */
static infer_status look_at_bias(struct sampler *s)
{
    const struct base_alloc *a = &s->alloc;
    const struct sample_params *p = &s->params;
    if (!p->described || p->n_bias < 2)
        return INFER_OK;
    uint64_t *named = base_new(a, ((size_t)s->n_vocab + 63) / 64, sizeof *named);
    if (!named)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < p->n_bias; i++) {
        const uint64_t bit = (uint64_t)1 << p->bias[i].token % 64;
        s->bias_twice |= (named[p->bias[i].token / 64] & bit) != 0;
        named[p->bias[i].token / 64] |= bit;
    }
    base_free(a, named);
    return INFER_OK;
}

/* Only what the parameters can use: with a vocabulary of 128k, each row that a
 * request need not keep is half a megabyte. */
static infer_status allocate(struct sampler *s)
{
    const struct base_alloc *a = &s->alloc;
    struct sample_params *p = &s->params;
    const int truncates = p->temperature > 0.0f;
    if (p->n_bias) {
        s->bias = base_new_raw(a, p->n_bias, sizeof *s->bias);
        if (!s->bias)
            return INFER_ERR_NO_MEMORY;
        memcpy(s->bias, p->bias, p->n_bias * sizeof *s->bias);
    }
    p->bias = s->bias;
    if (truncates && p->top_k > 0 && p->top_k < s->n_vocab) {
        s->ids = base_new_raw(a, (size_t)p->top_k, sizeof *s->ids);
        if (!s->ids)
            return INFER_ERR_NO_MEMORY;
    }
    if (truncates && (s->ids || p->top_p < 1.0f)) {
        s->radix = base_new_raw(a, 1, sizeof *s->radix);
        if (!s->radix)
            return INFER_ERR_NO_MEMORY;
    }
    if (p->masked) {
        s->n_masked = (size_t)s->n_vocab / MASKED_PART + 1;
        s->masked = base_new_raw(a, s->n_masked, sizeof *s->masked);
        if (!s->masked)
            return INFER_ERR_NO_MEMORY;
    }
    if (!p->no_logprobs) {
        s->raw = base_new_raw(a, (size_t)s->n_vocab, sizeof *s->raw);
        s->top = base_new_raw(a, (size_t)p->n_top_logprobs, sizeof *s->top);
        if (!s->raw || !s->top)
            return INFER_ERR_NO_MEMORY;
    }
    infer_status st = look_at_bias(s);
    return st == INFER_OK ? sample_history_init(&s->history, a, p, s->n_vocab) : st;
}

infer_status sampler_create(struct sampler **out, const struct base_alloc *a,
                            const struct infer_kernels *kernels, const struct sample_params *params,
                            int32_t n_vocab)
{
    infer_status st = check_params(params, n_vocab);
    if (st != INFER_OK)
        return st;
    struct sampler *s = base_new(a, 1, sizeof *s);
    if (!s)
        return INFER_ERR_NO_MEMORY;
    s->alloc = *a;
    s->kernels = kernels;
    s->params = *params;
    s->params.n_top_logprobs = BASE_MIN(params->n_top_logprobs, n_vocab);
    s->n_vocab = n_vocab;
    st = allocate(s);
    if (st != INFER_OK) {
        sampler_destroy(&s);
        return st;
    }
    *out = s;
    return INFER_OK;
}

void sampler_destroy(struct sampler **sampler)
{
    struct sampler *s = *sampler;
    *sampler = NULL;
    if (!s)
        return;
    const struct base_alloc a = s->alloc;
    sample_history_release(&s->history, &a);
    base_free(&a, s->bias);
    base_free(&a, s->ids);
    base_free(&a, s->radix);
    base_free(&a, s->masked);
    base_free(&a, s->raw);
    base_free(&a, s->top);
    base_free(&a, s);
}

static infer_status add_tokens(struct sampler *s, const infer_token *tokens, size_t n, int drawn)
{
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= s->n_vocab)
            return base_error(INFER_ERR_INVALID, "token %zu of %zu is %d, expected 0 to %d", i, n,
                              tokens[i], s->n_vocab - 1);
    for (size_t i = 0; i < n; i++)
        sample_history_add(&s->history, tokens[i], drawn);
    return INFER_OK;
}

infer_status sampler_accept(struct sampler *s, const infer_token *tokens, size_t n)
{
    return add_tokens(s, tokens, n, 0);
}

infer_status sampler_replay(struct sampler *s, const infer_token *tokens, size_t n)
{
    return add_tokens(s, tokens, n, 1);
}

void sampler_force(struct sampler *s, infer_token token)
{
    sample_history_add(&s->history, token, 1);
}

void sampler_set_mask(struct sampler *s, const uint64_t *mask, size_t n_tokens, size_t n_allowed)
{
    s->mask = (struct sample_mask){mask, n_tokens, n_allowed};
}

int sampler_takes_best(const struct sampler *s)
{
    const struct sample_params *p = &s->params;
    return p->temperature <= 0 && !p->n_bias && p->repetition_penalty == 1 &&
           p->frequency_penalty == 0 && p->presence_penalty == 0 && !s->mask.bits;
}

int sampler_describe(const struct sampler *s, struct sample_count *counts, size_t room,
                     struct sample_description *out)
{
    const struct sample_history *h = &s->history;
    if (s->bias_twice || ((h->seen || h->drawn) && !h->used))
        return 0;
    *out =
        (struct sample_description){&s->params, sample_history_list(h, s->n_vocab, counts, room)};
    return out->n_counts != SIZE_MAX;
}

static infer_status check_logits(const struct sample_row *row)
{
    const int32_t i = sample_row_find(row, FLT_MAX);
    if (i == row->n)
        return INFER_OK;
    return base_error(INFER_ERR_INVALID,
                      "the model gave token %d the logit %s: its weights or its input are broken",
                      i, isnan(row->x[i]) ? "NaN" : "infinity");
}

/* Bias, penalties, mask; *best is the highest entry afterwards. */
static infer_status adjust(struct sampler *s, struct sample_row *row, int32_t *best)
{
    for (size_t i = 0; i < s->params.n_bias; i++)
        row->x[s->bias[i].token] += s->bias[i].bias;
    sample_history_apply(&s->history, &s->params, row->x, row->n);
    if (s->mask.bits)
        sample_row_mask(row, &s->mask, s->masked, s->n_masked);
    s->mask.bits = NULL;
    if (row->n == 0)
        return base_error(INFER_ERR_INVALID, "no token is left to choose from");

    *best = sample_row_argmax(row);
    const float high = row->x[*best];
    if (!(high <= FLT_MAX))
        return base_error(INFER_ERR_INVALID,
                          "logit bias and penalties took token %d to infinity, expected less",
                          sample_row_token(row, *best));
    if (high < -FLT_MAX)
        return base_error(INFER_ERR_INVALID,
                          "no token is left to choose from: all %d logits are -infinity", row->n);
    return INFER_OK;
}

/* From logits to probabilities of the tokens that may be drawn. */
static void truncate_row(struct sampler *s, struct sample_row *row, float high)
{
    const struct sample_params *p = &s->params;
    if (s->ids)
        sample_row_top_k(row, p->top_k, s->ids, s->radix);

    /* With the highest at zero no temperature, however low, can overflow. */
    for (int32_t i = 0; i < row->n; i++)
        row->x[i] -= high;
    const float scale = BASE_MIN(1.0f / p->temperature, FLT_MAX);
    s->kernels->unary.softmax(row->x, row->x, scale, row->n);

    sample_row_top_p(row, p->top_p, s->radix);
    sample_row_min_p(row, p->min_p);
}

static infer_status choose(struct sampler *s, struct sample_row *row, uint64_t position,
                           infer_token *token)
{
    int32_t best = 0;
    infer_status st = adjust(s, row, &best);
    if (st != INFER_OK)
        return st;
    if (s->params.temperature > 0.0f) {
        truncate_row(s, row, row->x[best]);
        double u = base_rng_uniform(s->params.seed, s->params.sequence, position);
        best = sample_row_draw(row, u);
    }
    *token = sample_row_token(row, best);
    return INFER_OK;
}

infer_status sampler_run(struct sampler *s, float *logits, uint64_t position, int want_logprobs,
                         struct sample_result *out)
{
    struct sample_row row = {.x = logits, .n = s->n_vocab};
    struct sample_result result = {0};
    if (want_logprobs && !s->raw)
        return base_error(INFER_ERR_INVALID,
                          "log-probabilities asked of a sampler made with no_logprobs");
    infer_status st = check_logits(&row);
    if (st != INFER_OK)
        return st;
    if (want_logprobs)
        memcpy(s->raw, logits, (size_t)s->n_vocab * sizeof *s->raw);
    st = choose(s, &row, position, &result.token);
    if (st != INFER_OK)
        return st;

    if (want_logprobs) {
        const double norm = sample_logprobs_norm(s->raw, s->n_vocab);
        result.logprob = (float)((double)s->raw[result.token] - norm);
        result.top = s->top;
        result.n_top = s->params.n_top_logprobs;
        sample_logprobs_top(s->top, result.n_top, s->raw, s->n_vocab, NULL, norm);
    }
    sample_history_add(&s->history, result.token, 1);
    *out = result;
    return INFER_OK;
}

infer_status sampler_guess(struct sampler *s, float *logits, uint64_t position,
                           const infer_token *ahead, int32_t n_ahead, infer_token *out)
{
    struct sample_row row = {.x = logits, .n = s->n_vocab};
    infer_status st = check_logits(&row);
    if (st != INFER_OK)
        return st;
    sample_history_lend(&s->history, ahead, n_ahead, 1);
    st = choose(s, &row, position, out);
    sample_history_lend(&s->history, ahead, n_ahead, -1);
    return st;
}
