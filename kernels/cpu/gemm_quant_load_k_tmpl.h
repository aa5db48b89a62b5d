/* Template: as gemm_quant_load_tmpl.h, of blocks of 256 inputs: K, TQ and IQ4_XS. */
#include "kernels/cpu/gemm_quant_load_tmpl.h"

/* ------------------------------------------------------------ Q4_K and Q5_K */

/* The first 16 bytes of a block: d and dmin, then the packed scales, here four
 * to a lane. */
KERN_INLINE void load_q4_k_factors(struct factors f[BLOCKS], const uint8_t *p, struct kern_rows r)
{
    const vi six = vi_set1(0x3f3f3f3f), four = vi_set1(0x0f0f0f0f), two = vi_set1(0x30303030);
    vi h[4], scale[2], min[2];
    vf d, dmin;

    vi_rows_16b(h, p, r);
    d = low_half(h[0]);
    dmin = vf_sub(vf_zero(), high_half(h[0]));
    scale[0] = vi_and(h[1], six);
    min[0] = vi_and(h[2], six);
    scale[1] = vi_or(vi_and(h[3], four), vi_and(vi_shr(h[1], 2), two));
    min[1] = vi_or(vi_and(vi_shr(h[3], 4), four), vi_and(vi_shr(h[2], 2), two));
    KERN_UNROLL
    for (int b = 0; b < BLOCKS; b++) {
        f[b].scale[0] = vf_mul(d, vf_of_int(byte_of(scale[b / 4], b % 4)));
        f[b].plus[0] = vf_mul(dmin, vf_of_int(byte_of(min[b / 4], b % 4)));
    }
}

/* Blocks 2 * pair and 2 * pair + 1 from the bytes of a block's q. */
KERN_INLINE void load_q4_k_pair(vi w[2][STEPS], const uint8_t *q, int pair, struct kern_rows r)
{
    vi both[STEPS];

    vi_rows_16b(both, q + 32 * pair, r);
    vi_rows_16b(both + 4, q + 32 * pair + 16, r);
    split_nibbles(w[0], w[1], both, STEPS);
}

/* h: the 32 bytes of fifth bits. */
KERN_INLINE void load_q5_k_pair(vi w[2][STEPS], const uint8_t *q, const vi h[STEPS], int pair,
                                struct kern_rows r)
{
    const vi sixteen = vi_set1(0x10101010);

    load_q4_k_pair(w, q, pair, r);
    KERN_UNROLL
    for (int j = 0; j < STEPS; j++) {
        const vi bits = vi_shr(h[j], 2 * (unsigned)pair);

        w[0][j] = vi_or(w[0][j], vi_and(vi_shl(bits, 4), sixteen));
        w[1][j] = vi_or(w[1][j], vi_and(vi_shl(bits, 3), sixteen));
    }
}

KERN_INLINE void load_32b(vi h[STEPS], const uint8_t *p, struct kern_rows r)
{
    vi_rows_16b(h, p, r);
    vi_rows_16b(h + 4, p + 16, r);
}

/* ------------------------------------------ quarters: Q6_K, Q3_K, Q2_K, TQ2_0
 *
 * w[i] becomes inputs 16 * part .. 16 * part + 15 of block 4 * half + i. */

KERN_INLINE void load_q6_k_quarters(vi w[4][4], const uint8_t *p, int half, int part,
                                    struct kern_rows r)
{
    const uint8_t *ql = p + half * 64 + part * 16;
    const uint8_t *qh = p + offsetof(struct kern_q6_k, qh) + half * 32 + part * 16;
    const vi high = vi_set1(0x30303030);
    vi a[4], c[4], h[4];

    vi_rows_16b(a, ql, r);
    vi_rows_16b(c, ql + 32, r);
    vi_rows_16b(h, qh, r);
    split_nibbles(w[0], w[2], a, 4);
    split_nibbles(w[1], w[3], c, 4);
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        w[0][j] = vi_or(w[0][j], vi_and(vi_shl(h[j], 4), high));
        w[1][j] = vi_or(w[1][j], vi_and(vi_shl(h[j], 2), high));
        w[2][j] = vi_or(w[2][j], vi_and(h[j], high));
        w[3][j] = vi_or(w[3][j], vi_and(vi_shr(h[j], 2), high));
    }
}

/* q: the 64 bytes of 2 bits each. */
KERN_INLINE void load_two_bits(vi w[4][4], const uint8_t *q, int half, int part, struct kern_rows r)
{
    const vi three = vi_set1(0x03030303);
    vi a[4];

    vi_rows_16b(a, q + half * 32 + part * 16, r);
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        w[0][j] = vi_and(a[j], three);
        w[1][j] = vi_and(vi_shr(a[j], 2), three);
        w[2][j] = vi_and(vi_shr(a[j], 4), three);
        w[3][j] = vi_and(vi_shr(a[j], 6), three);
    }
}

/* The third bit of block b lies in bit b of bytes. */
KERN_INLINE void load_q3_k_quarters(vi w[4][4], const uint8_t *p, int half, int part,
                                    struct kern_rows r)
{
    const vi bit = vi_set1(0x04040404);
    vi h[4];

    load_two_bits(w, p + offsetof(struct kern_q3_k, q), half, part, r);
    vi_rows_16b(h, p + part * 16, r);
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        const vi bits = vi_shr(h[j], 4 * (unsigned)half);

        w[0][j] = vi_or(w[0][j], vi_and(vi_shl(bits, 2), bit));
        w[1][j] = vi_or(w[1][j], vi_and(vi_shl(bits, 1), bit));
        w[2][j] = vi_or(w[2][j], vi_and(bits, bit));
        w[3][j] = vi_or(w[3][j], vi_and(vi_shr(bits, 1), bit));
    }
}

/* By type; a constant, so that the compiler sees through it. */
KERN_INLINE void load_quarters(vi w[4][4], const uint8_t *p, int half, int part, struct kern_rows r,
                               infer_dtype type)
{
    switch (type) {
    case INFER_DTYPE_Q6_K:
        load_q6_k_quarters(w, p, half, part, r);
        break;
    case INFER_DTYPE_Q3_K:
        load_q3_k_quarters(w, p, half, part, r);
        break;
    case INFER_DTYPE_Q2_K:
        load_two_bits(w, p + offsetof(struct kern_q2_k, q), half, part, r);
        break;
    default:
        load_two_bits(w, p + offsetof(struct kern_tq2_0, q), half, part, r);
        break;
    }
}

/* Of 32 bytes at p, the bits of mask, after a shift to the left (to the right where negative). */
KERN_INLINE void add_bits(vi w[STEPS], const uint8_t *p, int shift, int32_t mask,
                          struct kern_rows r)
{
    vi v[STEPS];

    load_32b(v, p, r);
    KERN_UNROLL
    for (int j = 0; j < STEPS; j++) {
        const vi moved = shift < 0 ? vi_shr(v[j], (unsigned)-shift) : vi_shl(v[j], (unsigned)shift);

        w[j] = vi_or(w[j], vi_and(moved, vi_set1(mask)));
    }
}

/* Block b alone, for packed rows, where bytes that blocks share are cheaper read again than kept.
 */
KERN_INLINE void load_block(vi w[STEPS], const uint8_t *p, int b, struct kern_rows r,
                            infer_dtype type)
{
    const int half = b / 4, i = b % 4;
    const size_t two = type == INFER_DTYPE_Q6_K   ? offsetof(struct kern_q6_k, qh)
                       : type == INFER_DTYPE_Q3_K ? offsetof(struct kern_q3_k, q)
                       : type == INFER_DTYPE_Q2_K ? offsetof(struct kern_q2_k, q)
                                                  : offsetof(struct kern_tq2_0, q);

    KERN_UNROLL
    for (int j = 0; j < STEPS; j++) {
        w[j] = vi_zero();
    }
    if (type == INFER_DTYPE_Q6_K) {
        add_bits(w, p + half * 64 + i % 2 * 32, i / 2 * -4, 0x0f0f0f0f, r);
        add_bits(w, p + two + half * 32, 4 - 2 * i, 0x30303030, r);
    } else {
        add_bits(w, p + two + half * 32, -2 * i, 0x03030303, r);
    }
    if (type == INFER_DTYPE_Q3_K) {
        add_bits(w, p + offsetof(struct kern_q3_k, h), 2 - b, 0x04040404, r);
    }
}

KERN_INLINE void load_q6_k_factors(struct factors f[BLOCKS], const uint8_t *p, struct kern_rows r)
{
    const vf d = vf_rows_f16(p + offsetof(struct kern_q6_k, d), r);
    vi s[4];

    vi_rows_16b(s, p + offsetof(struct kern_q6_k, scales), r);
    KERN_UNROLL
    for (int b = 0; b < BLOCKS; b++) {
        const vi both = b % 2 ? s[b / 2] : vi_shl(s[b / 2], 16); /* in the upper two bytes */

        f[b].scale[0] = vf_mul(d, vf_of_int(vi_sar(vi_shl(both, 8), 24)));
        f[b].scale[1] = vf_mul(d, vf_of_int(vi_sar(both, 24)));
    }
}

/* The three vectors of scales, and d. Plain rows are read by 16 bytes, the last of a block: two
 * that are not ours, the scales, d. */
KERN_INLINE vf load_q3_k_scales(vi s[3], const uint8_t *p, struct kern_rows r)
{
    vi t[4];

    if (r.packed) {
        KERN_UNROLL
        for (int j = 0; j < 3; j++) {
            s[j] = vi_rows_4b(p + offsetof(struct kern_q3_k, scales) + 4 * j, r);
        }
        return vf_rows_f16(p + offsetof(struct kern_q3_k, d), r);
    }
    vi_rows_16b(t, p + sizeof(struct kern_q3_k) - 16, r);
    KERN_UNROLL
    for (int j = 0; j < 3; j++) {
        s[j] = vi_or(vi_shr(t[j], 16), vi_shl(t[j + 1], 16));
    }
    return high_half(t[3]);
}

KERN_INLINE void load_q3_k_factors(struct factors f[BLOCKS], const uint8_t *p, struct kern_rows r)
{
    const vi four = vi_set1(0x0f0f0f0f), two = vi_set1(0x03030303), middle = vi_set1(32);
    vi s[3], sc[4];
    const vf d = load_q3_k_scales(s, p, r);

    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        const vi low = vi_and(vi_shr(s[j % 2], j / 2 * 4), four);

        sc[j] = vi_or(low, vi_shl(vi_and(vi_shr(s[2], 2 * (unsigned)j), two), 4));
    }
    KERN_UNROLL
    for (int i = 0; i < 2 * BLOCKS; i++) {
        f[i / 2].scale[i % 2] = vf_mul(d, vf_of_int(vi_sub(byte_of(sc[i / 4], i % 4), middle)));
    }
}

KERN_INLINE void load_q2_k_factors(struct factors f[BLOCKS], const uint8_t *p, struct kern_rows r)
{
    const vi dm = vi_rows_4b(p + offsetof(struct kern_q2_k, d), r);
    const vf d = low_half(dm), dmin = vf_sub(vf_zero(), high_half(dm));
    vi s[4], sc[4], min[4];

    vi_rows_16b(s, p, r);
    split_nibbles(sc, min, s, 4);
    KERN_UNROLL
    for (int i = 0; i < 2 * BLOCKS; i++) {
        f[i / 2].scale[i % 2] = vf_mul(d, vf_of_int(byte_of(sc[i / 4], i % 4)));
        f[i / 2].plus[i % 2] = vf_mul(dmin, vf_of_int(byte_of(min[i / 4], i % 4)));
    }
}

/* d: where the block has its scale. */
KERN_INLINE void load_tq_factors(struct factors f[BLOCKS], const uint8_t *d, struct kern_rows r)
{
    const vf scale = vf_rows_f16(d, r);

    KERN_UNROLL
    for (int b = 0; b < BLOCKS; b++) {
        f[b].scale[0] = scale;
    }
}

KERN_INLINE void load_tq2_0_factors(struct factors f[BLOCKS], const uint8_t *p, struct kern_rows r)
{
    load_tq_factors(f, p + offsetof(struct kern_tq2_0, d), r);
}

/* ------------------------------------------------------------------- IQ4_XS */

KERN_INLINE void load_iq4_xs_factors(struct factors f[BLOCKS], const uint8_t *p, struct kern_rows r)
{
    const vi dh = vi_rows_4b(p, r), low = vi_rows_4b(p + 4, r);
    const vi four = vi_set1(0x0f), two = vi_set1(0x30), middle = vi_set1(32);
    const vf d = low_half(dh);

    KERN_UNROLL
    for (int b = 0; b < BLOCKS; b++) {
        const vi high = vi_shr(dh, 12 + 2 * (unsigned)b);
        const vi sc = vi_or(vi_and(vi_shr(low, 4 * (unsigned)b), four), vi_and(high, two));

        f[b].scale[0] = vf_mul(d, vf_of_int(vi_sub(sc, middle)));
    }
}

/* -------------------------------------------------------------------- TQ1_0 */

/* The next digit of four bytes, which move on by one. */
KERN_INLINE vi next_digit(vi *v)
{
    const vi third = vi_set1(0x56565656), thirds = vi_set1((int32_t)0xabababab);
    const vi minus = vi_add8(vi_ge_u8(*v, third), vi_ge_u8(*v, thirds));

    *v = vi_add8(*v, vi_add8(*v, *v));
    return vi_sub8(vi_zero(), minus);
}

KERN_INLINE void load_tq1_0(vi w[BLOCKS][STEPS], const uint8_t *p, struct kern_rows r)
{
    vi v[STEPS + 4], last;

    load_32b(v, p, r);
    vi_rows_16b(v + STEPS, p + 32, r);
    last = vi_rows_4b(p + offsetof(struct kern_tq1_0, h), r);
    for (int n = 0; n < 5; n++) {
        KERN_UNROLL
        for (int j = 0; j < STEPS; j++) {
            w[n][j] = next_digit(&v[j]);
        }
        KERN_UNROLL
        for (int j = 0; j < 4; j++) {
            w[5 + n / 2][n % 2 * 4 + j] = next_digit(&v[STEPS + j]);
        }
    }
    KERN_UNROLL
    for (int n = 0; n < 4; n++) {
        w[7][4 + n] = next_digit(&last);
    }
}
