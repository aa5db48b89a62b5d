/* The stages of the sampler's chain. Each works on one row of scores in place.
 *
 * A row starts as one logit a token. Top-k shortens it to the kept tokens, in
 * order of their ids; after the softmax it holds probabilities and a removed
 * token is a zero. So nothing is ever sorted, no stage needs a second row, and
 * the draw walks tokens by rising id whatever was switched on. */
#ifndef SAMPLE_CHAIN_H
#define SAMPLE_CHAIN_H

#include "sample/sampler.h"

struct sample_row {
    float *x;
    int32_t n;
    const infer_token *ids; /* entry i is token ids[i]; NULL: token i */
};

static inline infer_token sample_row_token(const struct sample_row *row, int32_t i)
{
    return row->ids ? row->ids[i] : (infer_token)i;
}

/* Most passes look for few entries among many. They go by blocks, which the
 * compiler turns into a handful of vector compares, and into few of them. */
#define SAMPLE_BLOCK 16

/* Whether an entry of the block at i may be above `bound`, or NaN. */
static inline int sample_row_above(const struct sample_row *row, int32_t i, float bound)
{
    if (row->n - i < SAMPLE_BLOCK)
        return 1;
    int any = 0;
    for (int j = 0; j < SAMPLE_BLOCK; j++)
        any |= !(row->x[i + j] <= bound);
    return any;
}

/* -------------------------------------------------------------- penalties */

/* What penalties look back on: counts by token over the last `window` tokens. */
struct sample_history {
    uint32_t *seen;  /* prompt and generated; NULL where the repetition penalty is off */
    uint32_t *drawn; /* generated alone; NULL where frequency and presence are off */
    uint64_t *used;  /* set of the tokens that have a count; NULL: nobody asks for them */
    uint32_t *ring;  /* the tokens of the window, oldest first from `head`; NULL: no window */
    int32_t window, n_ring, head;
};

infer_status sample_history_init(struct sample_history *h, const struct base_alloc *a,
                                 const struct sample_params *params, int32_t n_vocab);
void sample_history_release(struct sample_history *h, const struct base_alloc *a);
void sample_history_add(struct sample_history *h, infer_token token, int drawn);
/* Counts (1) or takes back (-1) generated tokens that may not come; the window stays. */
void sample_history_lend(struct sample_history *h, const infer_token *tokens, int32_t n,
                         int32_t step);
/* The tokens that have a count, `room` at most; their number, or SIZE_MAX where these are more. */
size_t sample_history_list(const struct sample_history *h, int32_t n_vocab,
                           struct sample_count *counts, size_t room);
void sample_history_apply(const struct sample_history *h, const struct sample_params *params,
                          float *logits, int32_t n_vocab);

/* ------------------------------------------------------------------- mask */

/* What a grammar allows, as a set of n_tokens bits, n_allowed of them set. */
struct sample_mask {
    const uint64_t *bits; /* NULL: everything */
    size_t n_tokens, n_allowed;
};

/* Only allowed tokens stay. A few are gathered, so that no later stage looks at more; `ids` has
 * room for n_ids. Of many, the others become -infinity in place. */
void sample_row_mask(struct sample_row *row, const struct sample_mask *mask, infer_token *ids,
                     size_t n_ids);

/* --------------------------------------------------------------- truncate */

/* Weight by bucket of the radix selection: counts for top-k, mass for top-p. */
#define SAMPLE_RADIX_BITS 11
struct sample_radix {
    double weight[1 << SAMPLE_RADIX_BITS];
};

/* The k highest scores stay, of equal scores the lower id; -infinity never does. `ids` has
 * room for k. */
void sample_row_top_k(struct sample_row *row, int32_t k, infer_token *ids,
                      struct sample_radix *radix);
/* On probabilities: the fewest tokens whose mass reaches p, at least one. */
void sample_row_top_p(struct sample_row *row, float p, struct sample_radix *radix);
/* On probabilities: removes those below min_p times the highest. */
void sample_row_min_p(struct sample_row *row, float min_p);

/* ------------------------------------------------------------------- draw */

/* Index of the first entry that is NaN or above `bound`; n if there is none. */
int32_t sample_row_find(const struct sample_row *row, float bound);
/* Index of the highest score, the lowest of equals; of a NaN if there is one. */
int32_t sample_row_argmax(const struct sample_row *row);
/* Index drawn from weights that are not all zero, by u in [0, 1). */
int32_t sample_row_draw(const struct sample_row *row, double u);

/* --------------------------------------------------------------- logprobs */

/* log(sum(exp(x))) of a row whose highest value is finite. */
double sample_logprobs_norm(const float *logits, int32_t n);
/* The `n_top` most likely tokens of those in the mask, most likely first, lower id first of equals;
 * what is left over is -infinity. NULL: of all. */
void sample_logprobs_top(struct sample_candidate *top, int32_t n_top, const float *logits,
                         int32_t n, const struct sample_mask *mask, double norm);

#endif
