/* Penalties on tokens that were there before.
 *
 * The repetition penalty (Keskar et al. 2019, "CTRL") sees prompt and generated
 * tokens alike. Frequency and presence follow OpenAI's definition, in which c[j]
 * is how often token j was sampled: the prompt does not count for them.
 * Both look back over the last penalty_last_n tokens of prompt and generation. */
#include "base/error.h"
#include "sample/chain.h"

#include <float.h>

/* Bounds the ring that is allocated on a caller's word. */
#define WINDOW_MAX (1 << 20)
#define DRAWN_BIT  0x80000000u

static infer_status new_counts(uint32_t **out, const struct base_alloc *a, int32_t n_vocab)
{
    *out = base_new(a, (size_t)n_vocab, sizeof **out);
    return *out ? INFER_OK : INFER_ERR_NO_MEMORY;
}

infer_status sample_history_init(struct sample_history *h, const struct base_alloc *a,
                                 const struct sample_params *params, int32_t n_vocab)
{
    *h = (struct sample_history){.window = params->penalty_last_n};
    if (h->window > WINDOW_MAX)
        return base_error(
            INFER_ERR_LIMIT,
            "penalty_last_n is %d, above the limit of %d; -1 looks back on all tokens", h->window,
            WINDOW_MAX);
    infer_status st = INFER_OK;
    if (h->window != 0 && params->repetition_penalty != 1.0f)
        st = new_counts(&h->seen, a, n_vocab);
    if (st == INFER_OK && h->window != 0 &&
        (params->frequency_penalty != 0.0f || params->presence_penalty != 0.0f))
        st = new_counts(&h->drawn, a, n_vocab);
    if (st == INFER_OK && params->described && (h->seen || h->drawn)) {
        h->used = base_new(a, ((size_t)n_vocab + 63) / 64, sizeof *h->used);
        st = h->used ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    if (st == INFER_OK && h->window > 0 && (h->seen || h->drawn)) {
        h->ring = base_new_raw(a, (size_t)h->window, sizeof *h->ring);
        st = h->ring ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    if (st != INFER_OK)
        sample_history_release(h, a);
    return st;
}

void sample_history_release(struct sample_history *h, const struct base_alloc *a)
{
    base_free(a, h->seen);
    base_free(a, h->drawn);
    base_free(a, h->used);
    base_free(a, h->ring);
    *h = (struct sample_history){0};
}

/* `step` is 1 or, to take a token back, the unsigned -1. */
static void count(struct sample_history *h, uint32_t entry, uint32_t step)
{
    uint32_t token = entry & ~DRAWN_BIT;
    if (h->seen)
        h->seen[token] += step;
    if (h->drawn && (entry & DRAWN_BIT))
        h->drawn[token] += step;
    if (!h->used)
        return;
    const uint64_t bit = (uint64_t)1 << token % 64;
    if ((h->seen && h->seen[token]) || (h->drawn && h->drawn[token]))
        h->used[token / 64] |= bit;
    else
        h->used[token / 64] &= ~bit;
}

void sample_history_add(struct sample_history *h, infer_token token, int drawn)
{
    if (!h->seen && !h->drawn)
        return;
    uint32_t entry = (uint32_t)token | (drawn ? DRAWN_BIT : 0);
    count(h, entry, 1);
    if (!h->ring)
        return;
    if (h->n_ring < h->window) {
        h->ring[h->n_ring++] = entry;
        return;
    }
    count(h, h->ring[h->head], UINT32_MAX);
    h->ring[h->head] = entry;
    h->head = h->head + 1 < h->window ? h->head + 1 : 0;
}

void sample_history_lend(struct sample_history *h, const infer_token *tokens, int32_t n,
                         int32_t step)
{
    for (int32_t i = 0; i < n; i++)
        count(h, (uint32_t)tokens[i] | DRAWN_BIT, (uint32_t)step);
}

size_t sample_history_list(const struct sample_history *h, int32_t n_vocab,
                           struct sample_count *counts, size_t room)
{
    size_t n = 0;
    for (size_t w = 0; h->used && w * 64 < (size_t)n_vocab; w++)
        for (uint64_t bits = h->used[w]; bits; bits &= bits - 1) {
            const size_t token = w * 64 + (size_t)__builtin_ctzll(bits);
            const uint32_t drawn = h->drawn ? h->drawn[token] : 0;
            if (n == room)
                return SIZE_MAX;
            counts[n++] =
                (struct sample_count){(infer_token)token, drawn << 1 | (h->seen && h->seen[token])};
        }
    return n;
}

void sample_history_apply(const struct sample_history *h, const struct sample_params *params,
                          float *logits, int32_t n_vocab)
{
    const float repetition = params->repetition_penalty;
    for (int32_t i = 0; h->seen && i < n_vocab; i++)
        if (h->seen[i])
            logits[i] = logits[i] > 0.0f ? logits[i] / repetition : logits[i] * repetition;

    for (int32_t i = 0; h->drawn && i < n_vocab; i++)
        if (h->drawn[i] && logits[i] >= -FLT_MAX) /* no reward revives a banned token */
            logits[i] -= (float)h->drawn[i] * params->frequency_penalty + params->presence_penalty;
}
