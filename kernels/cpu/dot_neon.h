/* Sums of products of four bytes, the words of vec_neon.h for what the compiler may use: NEON,
 * its dot products, or its products of matrices of bytes as well. */
#ifndef KERNELS_CPU_DOT_NEON_H
#define KERNELS_CPU_DOT_NEON_H

/* All weights fit signed bytes: those made unsigned stay below 128. */

enum { DOT_S8_OFFSET = 0 };

KERN_INLINE vi dot_prepare_s8(vi w)
{
    return w;
}

#if defined(__ARM_FEATURE_DOTPROD)

KERN_INLINE vi dot_start(vi initial, enum kern_dot kind)
{
    (void)kind;
    return initial;
}

KERN_INLINE int32x4_t dot4(int32x4_t sum, int32x4_t w, int32x4_t x)
{
    return vdotq_s32(sum, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x));
}

KERN_INLINE vi dot_step(vi sum, vi w, vi x, enum kern_dot kind)
{
    (void)kind;
    return vi_make(dot4(sum.a, w.a, x.a), dot4(sum.b, w.b, x.b), dot4(sum.c, w.c, x.c),
                   dot4(sum.d, w.d, x.d));
}

KERN_INLINE vi dot_finish(vi sum, vi initial, enum kern_dot kind)
{
    (void)initial;
    (void)kind;
    return sum;
}

#else

/* Below 16 the sums of a whole block fit 16 bits: 16 * 15 * 127 < 2^15. */
KERN_INLINE vi dot_start(vi initial, enum kern_dot kind)
{
    return kind == KERN_DOT_U4 ? vi_zero() : initial;
}

/* Products of bytes are added in pairs of 16 bits: 2 * 128 * 127 < 2^15. */
KERN_INLINE int32x4_t dot4(int32x4_t sum, int32x4_t w, int32x4_t x, enum kern_dot kind)
{
    const int8x16_t wb = vreinterpretq_s8_s32(w), xb = vreinterpretq_s8_s32(x);
    const int16x8_t pairs =
        vpaddq_s16(vmull_s8(vget_low_s8(wb), vget_low_s8(xb)), vmull_high_s8(wb, xb));

    if (kind == KERN_DOT_U4) {
        return vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(sum), pairs));
    }
    return vpadalq_s16(sum, pairs);
}

KERN_INLINE vi dot_step(vi sum, vi w, vi x, enum kern_dot kind)
{
    return vi_make(dot4(sum.a, w.a, x.a, kind), dot4(sum.b, w.b, x.b, kind),
                   dot4(sum.c, w.c, x.c, kind), dot4(sum.d, w.d, x.d, kind));
}

KERN_INLINE vi dot_finish(vi sum, vi initial, enum kern_dot kind)
{
    if (kind == KERN_DOT_U4) {
        return vi_make(vpadalq_s16(initial.a, vreinterpretq_s16_s32(sum.a)),
                       vpadalq_s16(initial.b, vreinterpretq_s16_s32(sum.b)),
                       vpadalq_s16(initial.c, vreinterpretq_s16_s32(sum.c)),
                       vpadalq_s16(initial.d, vreinterpretq_s16_s32(sum.d)));
    }
    return sum;
}

#endif

/* ------------------------------------------------- the same for two rows at once
 *
 * pair_arrange() puts the bytes of two vectors of weights next to each other, eight of a lane,
 * and pair_step() multiplies them with eight activations of each of two rows. Sums start with
 * the words of dot_start(), and come out as those of the one and the other row. */

#if defined(__ARM_FEATURE_MATMUL_INT8)

#define DOT_PAIRS

typedef struct {
    vi low, high; /* lanes 0 1, 4 5, 8 9, 12 13 and those between; each for both rows */
} pair_sums;

KERN_INLINE void pair_arrange(vi w[2])
{
    const vi x = w[0], y = w[1];

    w[0] = vi_make(vzip1q_s32(x.a, y.a), vzip1q_s32(x.b, y.b), vzip1q_s32(x.c, y.c),
                   vzip1q_s32(x.d, y.d));
    w[1] = vi_make(vzip2q_s32(x.a, y.a), vzip2q_s32(x.b, y.b), vzip2q_s32(x.c, y.c),
                   vzip2q_s32(x.d, y.d));
}

/* Of initial values that are the same in all lanes. */
KERN_INLINE pair_sums pair_start(vi first, vi second)
{
    const int32x4_t both = vzip1q_s32(first.a, second.a);
    const vi all = vi_make(both, both, both, both);

    return (pair_sums){all, all};
}

KERN_INLINE int32x4_t pair4(int32x4_t sum, int32x4_t w, int8x16_t x)
{
    return vmmlaq_s32(sum, vreinterpretq_s8_s32(w), x);
}

KERN_INLINE pair_sums pair_step(pair_sums s, const vi w[2], const int8_t *first,
                                const int8_t *second)
{
    const int8x16_t x = vcombine_s8(vld1_s8(first), vld1_s8(second));
    const vi low = vi_make(pair4(s.low.a, w[0].a, x), pair4(s.low.b, w[0].b, x),
                           pair4(s.low.c, w[0].c, x), pair4(s.low.d, w[0].d, x));
    const vi high = vi_make(pair4(s.high.a, w[1].a, x), pair4(s.high.b, w[1].b, x),
                            pair4(s.high.c, w[1].c, x), pair4(s.high.d, w[1].d, x));

    return (pair_sums){low, high};
}

KERN_INLINE vi pair_first(pair_sums s)
{
    return vi_make(vuzp1q_s32(s.low.a, s.high.a), vuzp1q_s32(s.low.b, s.high.b),
                   vuzp1q_s32(s.low.c, s.high.c), vuzp1q_s32(s.low.d, s.high.d));
}

KERN_INLINE vi pair_second(pair_sums s)
{
    return vi_make(vuzp2q_s32(s.low.a, s.high.a), vuzp2q_s32(s.low.b, s.high.b),
                   vuzp2q_s32(s.low.c, s.high.c), vuzp2q_s32(s.low.d, s.high.d));
}

#endif

#endif
