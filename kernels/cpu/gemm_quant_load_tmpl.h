/* Template: quantised weights of sixteen rows side by side, one lane a row, for
 * the vector vocabulary included before. A vector holds four inputs of each
 * row, as bytes; a block of 32 inputs is eight vectors.
 *
 * Each function reads the rows r at p. Layouts: quant_blocks.h. */
#include "kernels/cpu/rows.h"
#include "kernels/iq_tables.h"
#include "kernels/quant_blocks.h"

enum {
    LANES = 16,
    CHUNK = KERN_SUPER,          /* inputs taken together */
    BLOCKS = CHUNK / KERN_BLOCK, /* their blocks */
    STEPS = KERN_BLOCK / 4,      /* vectors of a block */
};

/* What becomes of the integer sums of a block:
 *   scale[0] * sum (+ plus[0] * sum of the activations)
 * where a form has halves, each half of a block on its own. The dot_* words say
 * what U4, U7 and S8 are. */
enum form { U4, U7, S8, U4_PLUS, U7_PLUS, U4_HALVES, U7_HALVES, U4_HALVES_PLUS };

struct factors {
    vf scale[2], plus[2];
};

KERN_INLINE int has_halves(enum form form)
{
    return form == U4_HALVES || form == U7_HALVES || form == U4_HALVES_PLUS;
}

KERN_INLINE int has_plus(enum form form)
{
    return form == U4_PLUS || form == U7_PLUS || form == U4_HALVES_PLUS;
}

KERN_INLINE enum kern_dot dot_kind(enum form form)
{
    return form == S8                                           ? KERN_DOT_S8
           : form == U7 || form == U7_PLUS || form == U7_HALVES ? KERN_DOT_U7
                                                                : KERN_DOT_U4;
}

/* Low and high halves of n vectors of bytes. */
KERN_INLINE void split_nibbles(vi *low, vi *high, const vi *w, int n)
{
    const vi mask = vi_set1(0x0f0f0f0f);

    KERN_UNROLL
    for (int j = 0; j < n; j++) {
        low[j] = vi_and(w[j], mask);
        high[j] = vi_and(vi_shr(w[j], 4), mask);
    }
}

/* A block of 16 bytes of halves, as in Q4_0. */
KERN_INLINE void load_nibbles(vi w[STEPS], const uint8_t *p, struct kern_rows r)
{
    vi both[4];

    vi_rows_16b(both, p, r);
    split_nibbles(w, w + 4, both, 4);
}

/* Bits 8i .. 8i + 7 of each lane as a number. */
KERN_INLINE vi byte_of(vi v, int i)
{
    return i == 3 ? vi_shr(v, 24) : vi_and(vi_shr(v, (unsigned)i * 8), vi_set1(0xff));
}

/* Halves in the low and the high 16 bits of each lane. */
KERN_INLINE vf low_half(vi v)
{
    return vf_of_low_f16(v);
}

KERN_INLINE vf high_half(vi v)
{
    return vf_of_low_f16(vi_shr(v, 16));
}

/* ---------------------------------------------------------- blocks of 32 */

KERN_INLINE void load_q8_0(vi w[STEPS], struct factors *f, const uint8_t *p, struct kern_rows r)
{
    vi_rows_16b(w, p + offsetof(struct kern_q8_0, q), r);
    vi_rows_16b(w + 4, p + offsetof(struct kern_q8_0, q) + 16, r);
    KERN_UNROLL
    for (int j = 0; j < STEPS; j++) {
        w[j] = dot_prepare_s8(w[j]);
    }
    f->scale[0] = vf_rows_f16(p, r);
}

KERN_INLINE void load_q4_0(vi w[STEPS], struct factors *f, const uint8_t *p, struct kern_rows r)
{
    load_nibbles(w, p + offsetof(struct kern_q4_0, q), r);
    f->scale[0] = vf_rows_f16(p, r);
}

KERN_INLINE void load_q4_1(vi w[STEPS], struct factors *f, const uint8_t *p, struct kern_rows r)
{
    const vi dm = vi_rows_4b(p, r);

    load_nibbles(w, p + offsetof(struct kern_q4_1, q), r);
    f->scale[0] = low_half(dm);
    f->plus[0] = high_half(dm);
}

/* The fifth bits of a block. */
KERN_INLINE void add_fifth_bits(vi w[STEPS], const uint8_t *p, struct kern_rows r)
{
    const vi h = vi_rows_4b(p, r), sixteen = vi_set1(0x10101010);

    KERN_UNROLL
    for (int j = 0; j < STEPS; j++) {
        w[j] = vi_or(w[j], vi_and(vi_spread(h, j), sixteen));
    }
}

KERN_INLINE void load_q5_0(vi w[STEPS], struct factors *f, const uint8_t *p, struct kern_rows r)
{
    load_nibbles(w, p + offsetof(struct kern_q5_0, q), r);
    add_fifth_bits(w, p + offsetof(struct kern_q5_0, h), r);
    f->scale[0] = vf_rows_f16(p, r);
}

KERN_INLINE void load_q5_1(vi w[STEPS], struct factors *f, const uint8_t *p, struct kern_rows r)
{
    const vi dm = vi_rows_4b(p, r);

    load_nibbles(w, p + offsetof(struct kern_q5_1, q), r);
    add_fifth_bits(w, p + offsetof(struct kern_q5_1, h), r);
    f->scale[0] = low_half(dm);
    f->plus[0] = high_half(dm);
}

/* ------------------------------------------------------ values from a table */

/* n vectors of halves become the bytes they stand for. */
KERN_INLINE void look_up(vi *w, vi table, int n)
{
    KERN_UNROLL
    for (int j = 0; j < n; j++) {
        w[j] = vi_lookup(table, w[j]);
    }
}

KERN_INLINE void load_iq4_values(vi w[STEPS], const uint8_t *p, struct kern_rows r)
{
    load_nibbles(w, p, r);
    look_up(w, dot_prepare_s8(vi_table(kern_iq4_levels)), STEPS);
}

KERN_INLINE void load_iq4_nl(vi w[STEPS], struct factors *f, const uint8_t *p, struct kern_rows r)
{
    load_iq4_values(w, p + offsetof(struct kern_iq4_nl, q), r);
    f->scale[0] = vf_rows_f16(p, r);
}

enum { E2M1_OFFSET = 12 };

KERN_INLINE vi e2m1_table(void)
{
    return vi_add8(vi_table(kern_e2m1), vi_set1(E2M1_OFFSET * 0x01010101));
}

/* The first byte of a block is e; 2^(e - 128) is subnormal below 2. */
KERN_INLINE void load_mxfp4(vi w[STEPS], struct factors *f, const uint8_t *p, struct kern_rows r)
{
    const vi e = vi_rows_u8(p, r), one = vi_set1(1);
    const vi normal = vi_shl(vi_sub(e, one), 23), small = vi_shl(vi_add(e, one), 21);

    load_nibbles(w, p + offsetof(struct kern_mxfp4, q), r);
    look_up(w, e2m1_table(), STEPS);
    f->scale[0] = vf_of_bits(vi_select_gt(e, one, normal, small));
}

/* Two blocks of 32. */
KERN_INLINE void load_nvfp4(vi w[2][STEPS], struct factors f[2], const uint8_t *p,
                            struct kern_rows r)
{
    const vi d = vi_rows_4b(p, r), below = vi_set1(0x7e), zero = vi_set1(0x7f);

    KERN_UNROLL
    for (int i = 0; i < 2; i++) {
        vi both[4];

        vi_rows_16b(both, p + offsetof(struct kern_nvfp4, q) + 16 * i, r);
        split_nibbles(w[i], w[i] + 2, both, 2);
        split_nibbles(w[i] + 4, w[i] + 6, both + 2, 2);
        look_up(w[i], e2m1_table(), STEPS);
    }
    KERN_UNROLL
    for (int j = 0; j < 4; j++) {
        const vi b = byte_of(d, j), size = vi_shl(vi_and(b, zero), 20);
        const vi bits = vi_select_gt(b, below, vi_select_gt(b, zero, size, vi_zero()), size);

        f[j / 2].scale[j % 2] = vf_mul(vf_of_bits(bits), vf_set1(0x1p119f));
    }
}
