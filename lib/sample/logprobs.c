/* Log-probabilities of the model's own distribution, in double precision. */
#include "sample/chain.h"

#include <math.h>

double sample_logprobs_norm(const float *logits, int32_t n)
{
    const struct sample_row row = {.x = (float *)logits, .n = n};
    const double high = (double)logits[sample_row_argmax(&row)];
    double sum = 0.0;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - high);
    return high + log(sum);
}

/* Whether a is less likely than b: lower score, or higher id of equals. */
static int is_after(struct sample_candidate a, struct sample_candidate b)
{
    return a.logprob != b.logprob ? a.logprob < b.logprob : a.token > b.token;
}

/* Puts `item` into a heap of n whose root is the least likely entry. */
static void sift_down(struct sample_candidate *heap, int32_t n, struct sample_candidate item)
{
    int32_t i = 0;
    for (int32_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && is_after(heap[child + 1], heap[child]))
            child++;
        if (!is_after(heap[child], item))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
}

static int is_in(const struct sample_mask *mask, int32_t token)
{
    return !mask || ((size_t)token < mask->n_tokens && mask->bits[token / 64] >> token % 64 & 1);
}

void sample_logprobs_top(struct sample_candidate *top, int32_t n_top, const float *logits,
                         int32_t n, const struct sample_mask *mask, double norm)
{
    if (n_top == 0)
        return;
    /* Places that nothing has taken yet are after every token. */
    for (int32_t i = 0; i < n_top; i++)
        top[i] = (struct sample_candidate){INT32_MAX, -INFINITY};
    for (int32_t i = 0; i < n; i++) {
        struct sample_candidate c = {i, logits[i]};
        if (is_after(top[0], c) && is_in(mask, i))
            sift_down(top, n_top, c);
    }
    for (int32_t left = n_top - 1; left > 0; left--) {
        struct sample_candidate last = top[0], item = top[left];
        sift_down(top, left, item);
        top[left] = last;
    }
    for (int32_t i = 0; i < n_top; i++)
        top[i].logprob = (float)((double)top[i].logprob - norm);
}
