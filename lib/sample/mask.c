/* Rows of scores under a mask of allowed tokens. */
#include "sample/chain.h"

#include <math.h>

static uint64_t word_of(const struct sample_mask *mask, size_t w)
{
    return w * 64 < mask->n_tokens ? mask->bits[w] : 0;
}

static void gather(struct sample_row *row, const struct sample_mask *mask, infer_token *ids)
{
    int32_t n = 0;
    for (size_t w = 0; w * 64 < (size_t)row->n; w++)
        for (uint64_t bits = word_of(mask, w); bits; bits &= bits - 1) {
            int32_t token = (int32_t)(w * 64) + __builtin_ctzll(bits);
            if (token >= row->n)
                break;
            row->x[n] = row->x[token];
            ids[n++] = token;
        }
    row->n = n;
    row->ids = ids;
}

static void cross_out(struct sample_row *row, const struct sample_mask *mask)
{
    for (size_t w = 0; w * 64 < (size_t)row->n; w++)
        for (uint64_t bits = ~word_of(mask, w); bits; bits &= bits - 1) {
            int32_t token = (int32_t)(w * 64) + __builtin_ctzll(bits);
            if (token >= row->n)
                break;
            row->x[token] = -INFINITY;
        }
}

void sample_row_mask(struct sample_row *row, const struct sample_mask *mask, infer_token *ids,
                     size_t n_ids)
{
    if (mask->n_allowed <= n_ids)
        gather(row, mask, ids);
    else
        cross_out(row, mask);
}
