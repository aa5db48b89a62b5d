/* Template: quantised weights of sixteen rows side by side, one lane a row, for
 * the vector vocabulary included before. A vector holds four inputs of each
 * row, as bytes; a block of 32 inputs is eight vectors.
 *
 * Each function reads the block at p of 16 rows that lie `stride` bytes apart. */
#include "kernels/quant_blocks.h"

enum {
    LANES = 16,
    CHUNK = KERN_SUPER,          /* inputs taken together */
    BLOCKS = CHUNK / KERN_BLOCK, /* their blocks */
    STEPS = KERN_BLOCK / 4,      /* vectors of a block */
};

enum kind { Q8_0, Q4_0, Q4_K, Q6_K };

/* Of the blocks of a chunk: what an integer sum is multiplied with. */
struct scales {
    vf scale[BLOCKS];
    vf extra[BLOCKS]; /* Q4_K: minus the minimum; Q6_K: scale of inputs 16-31 */
};

KERN_INLINE size_t chunk_bytes(enum kind kind)
{
    switch (kind) {
    case Q8_0:
        return BLOCKS * sizeof(struct kern_q8_0);
    case Q4_0:
        return BLOCKS * sizeof(struct kern_q4_0);
    case Q4_K:
        return sizeof(struct kern_q4_k);
    default:
        return sizeof(struct kern_q6_k);
    }
}

/* Low and high halves of 4 vectors of bytes. */
KERN_INLINE void split_nibbles(vi low[4], vi high[4], const vi w[4])
{
    const vi mask = vi_set1(0x0f0f0f0f);

    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        low[j] = vi_and(w[j], mask);
        high[j] = vi_and(vi_shr(w[j], 4), mask);
    }
}

/* ------------------------------------------------------------- Q8_0 and Q4_0 */

KERN_INLINE void load_q8_0(vi w[STEPS], vf *scale, const uint8_t *p, size_t stride)
{
    vi_rows_16b(w, p + offsetof(struct kern_q8_0, q), stride);
    vi_rows_16b(w + 4, p + offsetof(struct kern_q8_0, q) + 16, stride);
    KERN_UNROLL
    for (int j = 0; j < STEPS; j++) {
        w[j] = dot_prepare_s8(w[j]);
    }
    *scale = vf_rows_f16(p, stride);
}

KERN_INLINE void load_q4_0(vi w[STEPS], vf *scale, const uint8_t *p, size_t stride)
{
    vi both[4];

    vi_rows_16b(both, p + offsetof(struct kern_q4_0, q), stride);
    split_nibbles(w, w + 4, both);
    *scale = vf_rows_f16(p, stride);
}

/* ---------------------------------------------------------------------- Q4_K */

/* The first 16 bytes of a block are all but its values: d and dmin, then the
 * packed scales, here four to a lane (layout: quant_blocks.h). */
KERN_INLINE void load_q4_k_scales(struct scales *o, const uint8_t *p, size_t stride)
{
    const vi six = vi_set1(0x3f3f3f3f), four = vi_set1(0x0f0f0f0f), two = vi_set1(0x30303030);
    vi h[4], scale[2], min[2];
    vf d, dmin;

    vi_rows_16b(h, p, stride);
    d = vf_of_low_f16(h[0]);
    dmin = vf_sub(vf_zero(), vf_of_low_f16(vi_shr(h[0], 16)));
    scale[0] = vi_and(h[1], six);
    min[0] = vi_and(h[2], six);
    scale[1] = vi_or(vi_and(h[3], four), vi_and(vi_shr(h[1], 2), two));
    min[1] = vi_or(vi_and(vi_shr(h[3], 4), four), vi_and(vi_shr(h[2], 2), two));
    KERN_UNROLL
    for (int b = 0; b < BLOCKS; b++) {
        const vi byte = vi_set1(0xff);
        const int shift = b % 4 * 8;

        o->scale[b] = vf_mul(d, vf_of_int(vi_and(vi_shr(scale[b / 4], shift), byte)));
        o->extra[b] = vf_mul(dmin, vf_of_int(vi_and(vi_shr(min[b / 4], shift), byte)));
    }
}

/* Blocks 2 * pair and 2 * pair + 1. */
KERN_INLINE void load_q4_k_pair(vi first[STEPS], vi second[STEPS], const uint8_t *p, int pair,
                                size_t stride)
{
    const uint8_t *q = p + offsetof(struct kern_q4_k, q) + 32 * pair;
    vi both[STEPS];

    vi_rows_16b(both, q, stride);
    vi_rows_16b(both + 4, q + 16, stride);
    split_nibbles(first, second, both);
    split_nibbles(first + 4, second + 4, both + 4);
}

/* ---------------------------------------------------------------------- Q6_K */

KERN_INLINE void load_q6_k_scales(struct scales *o, const uint8_t *p, size_t stride)
{
    const vf d = vf_rows_f16(p + offsetof(struct kern_q6_k, d), stride);
    vi s[4];

    vi_rows_16b(s, p + offsetof(struct kern_q6_k, scales), stride);
    KERN_UNROLL
    for (int b = 0; b < BLOCKS; b++) {
        const vi both = b % 2 ? s[b / 2] : vi_shl(s[b / 2], 16); /* in the upper two bytes */

        o->scale[b] = vf_mul(d, vf_of_int(vi_sar(vi_shl(both, 8), 24)));
        o->extra[b] = vf_mul(d, vf_of_int(vi_sar(both, 24)));
    }
}

/* Inputs 16 * part .. 16 * part + 15 of blocks 4 * half .. 4 * half + 3. */
KERN_INLINE void load_q6_k_quarters(vi w[4][4], const uint8_t *p, int half, int part, size_t stride)
{
    const uint8_t *ql = p + half * 64 + part * 16;
    const uint8_t *qh = p + offsetof(struct kern_q6_k, qh) + half * 32 + part * 16;
    const vi high = vi_set1(0x30303030);
    vi a[4], c[4], h[4];

    vi_rows_16b(a, ql, stride);
    vi_rows_16b(c, ql + 32, stride);
    vi_rows_16b(h, qh, stride);
    split_nibbles(w[0], w[2], a);
    split_nibbles(w[1], w[3], c);
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        w[0][j] = vi_or(w[0][j], vi_and(vi_shl(h[j], 4), high));
        w[1][j] = vi_or(w[1][j], vi_and(vi_shl(h[j], 2), high));
        w[2][j] = vi_or(w[2][j], vi_and(h[j], high));
        w[3][j] = vi_or(w[3][j], vi_and(vi_shr(h[j], 2), high));
    }
}
