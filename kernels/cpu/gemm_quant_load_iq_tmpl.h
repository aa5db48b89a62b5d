/* Template: as gemm_quant_load_tmpl.h, of the IQ types whose inputs are entries of
 * tables with signs. Every function unpacks a block of 256 inputs. */
#include "kernels/cpu/gemm_quant_load_k_tmpl.h"

enum { IQ_OFFSET = 64, IQ1_OFFSET = 16 }; /* added to values, which become unsigned */

/* Four bytes of signs: the eighth bit of each becomes the parity of the others. */
KERN_INLINE vi with_parity(vi seven)
{
    static const int8_t odd[16] = {0,    -128, -128, 0,    -128, 0,    0,    -128,
                                   -128, 0,    0,    -128, 0,    -128, -128, 0};
    const vi half = vi_set1(0x0f0f0f0f);
    const vi folded = vi_and(vi_xor(seven, vi_shr(seven, 4)), half);

    return vi_or(seven, vi_lookup(vi_table(odd), folded));
}

/* Four times 7 bits, in bytes. */
KERN_INLINE vi four_sevens(vi s)
{
    const vi a = vi_and(s, vi_set1(0x7f)), b = vi_and(vi_shl(s, 1), vi_set1(0x7f00));
    const vi c = vi_and(vi_shl(s, 2), vi_set1(0x7f0000));
    const vi d = vi_and(vi_shl(s, 3), vi_set1(0x7f000000));

    return vi_or(vi_or(a, b), vi_or(c, d));
}

/* Gives the sizes of a block of 32 their signs, a bit each. */
KERN_INLINE void sign(vi w[STEPS], vi signs)
{
    KERN_UNROLL
    for (int j = 0; j < STEPS; j++) {
        const vi minus = vi_spread(signs, j);
        const vi value = vi_sub8(vi_xor(w[j], minus), minus);

        w[j] = vi_add8(value, vi_set1(IQ_OFFSET * 0x01010101));
    }
}

/* d * (sc + 0.5) * unit: exact. */
KERN_INLINE vf scale_of(vf d, vi sc, float unit)
{
    return vf_mul(d, vf_mul(vf_add(vf_of_int(sc), vf_set1(0.5f)), vf_set1(unit)));
}

/* Number i of four bits, the even ones in the low halves of bytes. */
KERN_INLINE vi nibble_of(const vi *v, int i)
{
    return vi_and(vi_shr(v[i / 8], i % 8 * 4), vi_set1(15));
}

KERN_INLINE void load_iq2_xxs(vi w[BLOCKS][STEPS], struct factors f[BLOCKS], const uint8_t *p,
                              struct kern_rows r)
{
    const vf d = vf_rows_f16(p, r);

    for (int b = 0; b < BLOCKS; b += 2) { /* 8 bytes a block */
        vi q[4];

        vi_rows_16b(q, p + offsetof(struct kern_iq2_xxs, q) + 8 * b, r);
        for (int i = 0; i < 2; i++) {
            KERN_UNROLL
            for (int g = 0; g < 4; g++) {
                vi_entries_8b(w[b + i] + 2 * g, kern_iq2_xxs, byte_of(q[2 * i], g));
            }
            sign(w[b + i], with_parity(four_sevens(q[2 * i + 1])));
            f[b + i].scale[0] = scale_of(d, vi_shr(q[2 * i + 1], 28), 0.25f);
        }
    }
}

KERN_INLINE void load_iq2_xs(vi w[BLOCKS][STEPS], struct factors f[BLOCKS], const uint8_t *p,
                             struct kern_rows r)
{
    const uint8_t *scales = p + offsetof(struct kern_iq2_xs, scales);
    const vi s[2] = {vi_rows_4b(scales, r), vi_rows_4b(scales + 4, r)};
    const vi entry = vi_set1(511), low = vi_set1(0x007f007f);
    const vf d = vf_rows_f16(p, r);

    for (int b = 0; b < BLOCKS; b += 2) { /* 8 bytes a block */
        vi q[4];

        vi_rows_16b(q, p + offsetof(struct kern_iq2_xs, q) + 8 * b, r);
        for (int i = 0; i < 2; i++) {
            const vi *v = q + 2 * i; /* 7 bits of signs atop each 16 */
            const vi first = vi_and(vi_shr(v[0], 9), low), second = vi_and(vi_shr(v[1], 9), low);
            const vi ones = vi_or(vi_and(first, vi_set1(0x7f)), vi_shr(first, 8));
            const vi twos = vi_or(vi_and(second, vi_set1(0x7f)), vi_shr(second, 8));

            KERN_UNROLL
            for (int g = 0; g < 4; g++) {
                vi_entries_8b(w[b + i] + 2 * g, kern_iq2_xs,
                              vi_and(vi_shr(v[g / 2], g % 2 * 16), entry));
            }
            sign(w[b + i], with_parity(vi_or(ones, vi_shl(twos, 16))));
            f[b + i].scale[0] = scale_of(d, nibble_of(s, 2 * (b + i)), 0.25f);
            f[b + i].scale[1] = scale_of(d, nibble_of(s, 2 * (b + i) + 1), 0.25f);
        }
    }
}

KERN_INLINE void load_iq2_s(vi w[BLOCKS][STEPS], struct factors f[BLOCKS], const uint8_t *p,
                            struct kern_rows r)
{
    const vf d = vf_rows_f16(p, r);
    const vi two = vi_set1(0x300);
    vi q[8], signs[8], h[4]; /* h: the top bits, then the scales */

    load_32b(q, p + offsetof(struct kern_iq2_s, q), r);
    load_32b(signs, p + offsetof(struct kern_iq2_s, signs), r);
    vi_rows_16b(h, p + offsetof(struct kern_iq2_s, h), r);
    for (int b = 0; b < BLOCKS; b++) {
        const vi high = vi_shl(byte_of(h[b / 4], b % 4), 8);

        KERN_UNROLL
        for (int g = 0; g < 4; g++) {
            const vi top = vi_and(vi_shr(high, 2 * (unsigned)g), two);

            vi_entries_8b(w[b] + 2 * g, kern_iq2_s, vi_or(byte_of(q[b], g), top));
        }
        sign(w[b], signs[b]);
        f[b].scale[0] = scale_of(d, nibble_of(h + 2, 2 * b), 0.25f);
        f[b].scale[1] = scale_of(d, nibble_of(h + 2, 2 * b + 1), 0.25f);
    }
}

KERN_INLINE void load_iq3_xxs(vi w[BLOCKS][STEPS], struct factors f[BLOCKS], const uint8_t *p,
                              struct kern_rows r)
{
    const vf d = vf_rows_f16(p, r);
    vi s[8];

    load_32b(s, p + offsetof(struct kern_iq3_xxs, s), r);
    for (int b = 0; b < BLOCKS; b += 2) {
        vi q[4];

        vi_rows_16b(q, p + offsetof(struct kern_iq3_xxs, q) + 8 * b, r);
        for (int i = 0; i < 2; i++) {
            KERN_UNROLL
            for (int j = 0; j < STEPS; j++) {
                w[b + i][j] = vi_entries_4b(kern_iq3_xxs, byte_of(q[2 * i + j / 4], j % 4));
            }
            sign(w[b + i], with_parity(four_sevens(s[b + i])));
            f[b + i].scale[0] = scale_of(d, vi_shr(s[b + i], 28), 0.5f);
        }
    }
}

KERN_INLINE void load_iq3_s(vi w[BLOCKS][STEPS], struct factors f[BLOCKS], const uint8_t *p,
                            struct kern_rows r)
{
    const uint8_t *high = p + offsetof(struct kern_iq3_s, h);
    const vi h[2] = {vi_rows_4b(high, r), vi_rows_4b(high + 4, r)};
    const vi s = vi_rows_4b(p + offsetof(struct kern_iq3_s, scales), r);
    const vi ninth = vi_set1(0x100), one = vi_set1(1);
    const vf d = vf_rows_f16(p, r);
    vi signs[8];

    load_32b(signs, p + offsetof(struct kern_iq3_s, signs), r);
    for (int b = 0; b < BLOCKS; b += 2) {
        vi q[4];

        vi_rows_16b(q, p + offsetof(struct kern_iq3_s, q) + 8 * b, r);
        for (int i = 0; i < 2; i++) {
            const vi top = vi_shl(byte_of(h[b / 4], b % 4 + i), 8);
            const vi sc = nibble_of(&s, b + i);

            KERN_UNROLL
            for (int j = 0; j < STEPS; j++) {
                const vi bit = vi_and(vi_shr(top, (unsigned)j), ninth);

                w[b + i][j] =
                    vi_entries_4b(kern_iq3_s, vi_or(byte_of(q[2 * i + j / 4], j % 4), bit));
            }
            sign(w[b + i], signs[b + i]);
            f[b + i].scale[0] = vf_mul(d, vf_of_int(vi_add(vi_add(sc, sc), one)));
        }
    }
}

/* Entries of a block; `top`: their upper bits, 3 each `step` bits apart, lowest in bit 8. */
KERN_INLINE void iq1_entries(vi w[STEPS], vi q, vi top, int step)
{
    KERN_UNROLL
    for (int g = 0; g < 4; g++) {
        const vi high = vi_and(vi_shr(top, (unsigned)(g * step)), vi_set1(0x700));

        vi_entries_8b(w + 2 * g, kern_iq1, vi_or(byte_of(q, g), high));
    }
}

/* 15 where a bit is 1, else 17: eight times delta, and the offset. */
KERN_INLINE vi iq1_delta(vi minus)
{
    return vi_add8(vi_set1((IQ1_OFFSET + 1) * 0x01010101), vi_add8(minus, minus));
}

/* d / 8 * (2 sc + 1), for values eight times as large. */
KERN_INLINE vf iq1_scale(vf d, vi sc)
{
    return vf_mul(d, vf_mul(vf_of_int(vi_add(vi_add(sc, sc), vi_set1(1))), vf_set1(0.125f)));
}

KERN_INLINE void load_iq1_s(vi w[BLOCKS][STEPS], struct factors f[BLOCKS], const uint8_t *p,
                            struct kern_rows r)
{
    const vf d = vf_rows_f16(p, r);
    vi q[8], h[4];

    load_32b(q, p + offsetof(struct kern_iq1_s, q), r);
    vi_rows_16b(h, p + offsetof(struct kern_iq1_s, h), r);
    for (int b = 0; b < BLOCKS; b++) {
        const vi bits = vi_shl(h[b / 2], b % 2 ? 0 : 16); /* in the upper half */
        const vi delta = iq1_delta(vi_sar(bits, 31));

        iq1_entries(w[b], q[b], vi_shr(bits, 8), 3);
        KERN_UNROLL
        for (int j = 0; j < STEPS; j++) {
            w[b][j] = vi_add8(w[b][j], delta);
        }
        f[b].scale[0] = iq1_scale(d, vi_and(vi_shr(bits, 28), vi_set1(7)));
    }
}

/* The half whose four bits each are the top bits of the 16-bit numbers of scales. */
KERN_INLINE vf iq1_m_d(const vi s[2])
{
    const vi a = vi_and(vi_shr(s[0], 12), vi_set1(0xf)),
             b = vi_and(vi_shr(s[0], 24), vi_set1(0xf0));
    const vi c = vi_and(vi_shr(s[1], 4), vi_set1(0xf00));
    const vi e = vi_and(vi_shr(s[1], 16), vi_set1(0xf000));

    return low_half(vi_or(vi_or(a, b), vi_or(c, e)));
}

KERN_INLINE void load_iq1_m(vi w[BLOCKS][STEPS], struct factors f[BLOCKS], const uint8_t *p,
                            struct kern_rows r)
{
    const uint8_t *scales = p + offsetof(struct kern_iq1_m, scales);
    const vi s[2] = {vi_rows_4b(scales, r), vi_rows_4b(scales + 4, r)};
    const vi seven = vi_set1(7);
    const vf d = iq1_m_d(s);
    vi q[8], h[4];

    load_32b(q, p + offsetof(struct kern_iq1_m, q), r);
    vi_rows_16b(h, p + offsetof(struct kern_iq1_m, h), r);
    for (int b = 0; b < BLOCKS; b++) {
        const vi bits = vi_and(vi_shr(h[b / 2], b % 2 * 16), vi_set1(0xffff));
        const vi sc = vi_shr(s[b / 4], b % 4 / 2 * 16 + b % 2 * 6);

        iq1_entries(w[b], q[b], vi_shl(bits, 8), 4);
        KERN_UNROLL
        for (int g = 0; g < 4; g++) {
            const vi delta = iq1_delta(vi_sar(vi_shl(bits, 28 - 4 * (unsigned)g), 31));

            w[b][2 * g] = vi_add8(w[b][2 * g], delta);
            w[b][2 * g + 1] = vi_add8(w[b][2 * g + 1], delta);
        }
        f[b].scale[0] = iq1_scale(d, vi_and(sc, seven));
        f[b].scale[1] = iq1_scale(d, vi_and(vi_shr(sc, 3), seven));
    }
}
