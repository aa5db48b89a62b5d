/* Rows of scores under a mask of allowed tokens. */
#include "sample/chain.h"

#include <math.h>
#include <string.h>

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

/* All ones for a bit that is set: four floats at a time, which compilers make one operation. */
#define LANE(bits, i) ((bits) >> (i)&1 ? UINT32_MAX : 0)
#define LANES(bits)                                                                                \
    {                                                                                              \
        LANE(bits, 0), LANE(bits, 1), LANE(bits, 2), LANE(bits, 3)                                 \
    }
static const uint32_t lanes[16][4] = {
    LANES(0), LANES(1), LANES(2),  LANES(3),  LANES(4),  LANES(5),  LANES(6),  LANES(7),
    LANES(8), LANES(9), LANES(10), LANES(11), LANES(12), LANES(13), LANES(14), LANES(15)};

#define FEW 6 /* of a word are crossed out one by one */

static void cross_out_word(float *x, uint64_t bits)
{
    const uint32_t minus_infinity = 0xFF800000u;
    for (int i = 0; i < 64; i += 4, bits >>= 4) {
        const uint32_t *keep = lanes[bits & 15];
        uint32_t value[4];
        memcpy(value, x + i, sizeof value);
        for (int k = 0; k < 4; k++)
            value[k] = (value[k] & keep[k]) | (minus_infinity & ~keep[k]);
        memcpy(x + i, value, sizeof value);
    }
}

static void cross_out(struct sample_row *row, const struct sample_mask *mask)
{
    size_t n = (size_t)row->n;
    for (size_t w = 0; w * 64 < n; w++) {
        uint64_t bits = word_of(mask, w);
        if (w * 64 + 64 <= n && __builtin_popcountll(~bits) > FEW)
            cross_out_word(row->x + w * 64, bits);
        else if (w * 64 + 64 <= n)
            for (bits = ~bits; bits; bits &= bits - 1)
                row->x[w * 64 + (size_t)__builtin_ctzll(bits)] = -INFINITY;
        for (size_t i = w * 64; w * 64 + 64 > n && i < n; i++)
            if (!(bits >> i % 64 & 1))
                row->x[i] = -INFINITY;
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
