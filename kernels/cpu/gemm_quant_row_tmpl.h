/* Template: activations, and the product of one activation row with sixteen
 * quantised weight rows, for the vector vocabulary included before. */
#include "kernels/cpu/gemm_quant_load_tmpl.h"

/* A chunk of one activation row. */
struct inputs {
    const int8_t *q;
    const float *d;
    /* What the integer sums start with, because weights are made unsigned:
     * minus the offset of a weight times the sum of the activations, for each
     * block, or for Q6_K each half block. */
    int32_t start[2 * BLOCKS];
    float sum[BLOCKS]; /* Q4_K: of the activations of a block */
};

KERN_INLINE void take_inputs(struct inputs *in, const struct kern_act_row *row, int32_t at,
                             int n_blocks, enum kind kind)
{
    int16_t s[2 * BLOCKS] = {0};

    in->q = row->q + at;
    in->d = row->d + at / KERN_BLOCK;
    memcpy(s, row->s + at / 16, (size_t)n_blocks * 2 * sizeof(*s));
    switch (kind) {
    case Q8_0:
        kern_pair_sums_i32(in->start, s, -DOT_S8_OFFSET);
        break;
    case Q4_0:
        kern_pair_sums_i32(in->start, s, -8);
        break;
    case Q4_K:
        kern_pair_sums_f32(in->sum, s);
        break;
    case Q6_K:
        vi_store(in->start, vi_shl(vi_sub(vi_zero(), vi_load_s16(s)), 5));
        break;
    }
}

KERN_INLINE enum kern_dot dot_kind(enum kind kind)
{
    return kind == Q8_0 ? KERN_DOT_S8 : kind == Q6_K ? KERN_DOT_U6 : KERN_DOT_U4;
}

KERN_INLINE vi start_of(const struct inputs *in, int b, int half, enum kind kind)
{
    if (kind == Q4_K || (kind == Q8_0 && DOT_S8_OFFSET == 0)) {
        return vi_zero();
    }
    return vi_set1(in->start[kind == Q6_K ? 2 * b + half : b]);
}

/* Integer sum of `steps` vectors with the activations at x. */
KERN_INLINE vi dot(const vi *w, int steps, const int8_t *x, vi start, enum kind kind)
{
    const enum kern_dot how = dot_kind(kind);
    vi sum = dot_start(start, how);

    KERN_UNROLL
    for (int j = 0; j < steps; j++) {
        sum = dot_step(sum, w[j], vi_set1(kern_load_i32(x + 4 * j)), how);
    }
    return dot_finish(sum, start, how);
}

KERN_INLINE vf row_block(vf y, const struct inputs *in, const vi *w, int b, vf scale,
                         enum kind kind)
{
    const vi sum = dot(w, STEPS, in->q + b * KERN_BLOCK, start_of(in, b, 0, kind), kind);

    return vf_fma(vf_mul(scale, vf_of_int(sum)), vf_set1(in->d[b]), y);
}

KERN_INLINE vf row_q8_0(vf y, const struct inputs *in, const uint8_t *p, size_t stride,
                        int n_blocks)
{
    for (int b = 0; b < n_blocks; b++, p += sizeof(struct kern_q8_0)) {
        vi w[STEPS];
        vf scale;

        load_q8_0(w, &scale, p, stride);
        y = row_block(y, in, w, b, scale, Q8_0);
    }
    return y;
}

KERN_INLINE vf row_q4_0(vf y, const struct inputs *in, const uint8_t *p, size_t stride,
                        int n_blocks)
{
    for (int b = 0; b < n_blocks; b++, p += sizeof(struct kern_q4_0)) {
        vi w[STEPS];
        vf scale;

        load_q4_0(w, &scale, p, stride);
        y = row_block(y, in, w, b, scale, Q4_0);
    }
    return y;
}

KERN_INLINE vf row_q4_k_block(vf y, const struct inputs *in, const struct scales *s, const vi *w,
                              int b)
{
    const vi sum = dot(w, STEPS, in->q + b * KERN_BLOCK, vi_zero(), Q4_K);
    const vf v = vf_fma(s->extra[b], vf_set1(in->sum[b]), vf_mul(s->scale[b], vf_of_int(sum)));

    return vf_fma(v, vf_set1(in->d[b]), y);
}

KERN_INLINE vf row_q4_k(vf y, const struct inputs *in, const uint8_t *p, size_t stride)
{
    struct scales s;

    load_q4_k_scales(&s, p, stride);
    for (int pair = 0; pair < BLOCKS / 2; pair++) {
        vi first[STEPS], second[STEPS];

        load_q4_k_pair(first, second, p, pair, stride);
        y = row_q4_k_block(y, in, &s, first, 2 * pair);
        y = row_q4_k_block(y, in, &s, second, 2 * pair + 1);
    }
    return y;
}

KERN_INLINE vf row_q6_k(vf y, const struct inputs *in, const uint8_t *p, size_t stride)
{
    struct scales s;

    load_q6_k_scales(&s, p, stride);
    for (int half = 0; half < 2; half++) {
        vi sum[2][4];

        KERN_UNROLL
        for (int part = 0; part < 2; part++) {
            vi w[4][4];

            load_q6_k_quarters(w, p, half, part, stride);
            KERN_UNROLL
            for (int i = 0; i < 4; i++) {
                const int b = 4 * half + i;
                const int8_t *x = in->q + b * KERN_BLOCK + part * 16;

                sum[part][i] = dot(w[i], STEPS / 2, x, start_of(in, b, part, Q6_K), Q6_K);
            }
        }
        KERN_UNROLL
        for (int i = 0; i < 4; i++) {
            const int b = 4 * half + i;
            const vf v =
                vf_fma(s.extra[b], vf_of_int(sum[1][i]), vf_mul(s.scale[b], vf_of_int(sum[0][i])));

            y = vf_fma(v, vf_set1(in->d[b]), y);
        }
    }
    return y;
}

/* y plus the product of a chunk with the weights at p. */
KERN_INLINE vf row_chunk(vf y, const struct inputs *in, const uint8_t *p, size_t stride,
                         int n_blocks, enum kind kind)
{
    switch (kind) {
    case Q8_0:
        return row_q8_0(y, in, p, stride, n_blocks);
    case Q4_0:
        return row_q4_0(y, in, p, stride, n_blocks);
    case Q4_K:
        return row_q4_k(y, in, p, stride);
    default:
        return row_q6_k(y, in, p, stride);
    }
}
