/* Template: activations, and the product of one activation row with sixteen
 * quantised weight rows, for the vector vocabulary included before. Types whose
 * unpacking costs more than a trip through the cache have no product of their
 * own here: gemm_quant_tmpl.h takes them by panels always. */
#include "kernels/cpu/gemm_quant_load_iq_tmpl.h"

/* A chunk of one activation row. */
struct inputs {
    const int8_t *q;
    const float *d;
    /* What the integer sums start with, because weights are made unsigned:
     * minus the offset of a weight times the sum of the activations, for each
     * block, or half block. */
    int32_t start[2 * BLOCKS];
    float sum[2 * BLOCKS]; /* of the activations of a block, or half block */
};

KERN_INLINE void take_inputs(struct inputs *in, const struct kern_act_row *row, int32_t at,
                             int n_blocks, int offset, enum form form)
{
    int16_t s[2 * BLOCKS] = {0};

    in->q = row->q + at;
    in->d = row->d + at / KERN_BLOCK;
    memcpy(s, row->s + at / 16, (size_t)n_blocks * 2 * sizeof(*s));
    if (has_plus(form)) {
        if (has_halves(form)) {
            vf_store(in->sum, vf_of_int(vi_load_s16(s)));
        } else {
            kern_pair_sums_f32(in->sum, s);
        }
    } else if (has_halves(form)) {
        kern_scaled_i32(in->start, s, -offset);
    } else {
        kern_pair_sums_i32(in->start, s, -offset);
    }
}

KERN_INLINE vi start_of(const struct inputs *in, int b, int half, enum form form)
{
    if (has_plus(form) || (form == S8 && DOT_S8_OFFSET == 0)) {
        return vi_zero();
    }
    return vi_set1(in->start[has_halves(form) ? 2 * b + half : b]);
}

/* Integer sum of `steps` vectors with the activations at x. */
KERN_INLINE vi dot(const vi *w, int steps, const int8_t *x, vi start, enum form form)
{
    const enum kern_dot how = dot_kind(form);
    vi sum = dot_start(start, how);

    KERN_UNROLL
    for (int j = 0; j < steps; j++) {
        sum = dot_step(sum, w[j], vi_set1(kern_load_i32(x + 4 * j)), how);
    }
    return dot_finish(sum, start, how);
}

/* y plus the product of block b, from its integer sums. */
KERN_INLINE vf add_block(vf y, const struct inputs *in, int b, const struct factors *f, vi sum,
                         vi second, enum form form)
{
    vf v = vf_mul(f->scale[0], vf_of_int(sum));

    if (has_halves(form)) {
        v = vf_fma(f->scale[1], vf_of_int(second), v);
    }
    if (has_plus(form)) {
        v = vf_fma(f->plus[0], vf_set1(in->sum[has_halves(form) ? 2 * b : b]), v);
    }
    if (has_plus(form) && has_halves(form)) {
        v = vf_fma(f->plus[1], vf_set1(in->sum[2 * b + 1]), v);
    }
    return vf_fma(v, vf_set1(in->d[b]), y);
}

KERN_INLINE vf row_block(vf y, const struct inputs *in, const vi *w, int b, const struct factors *f,
                         enum form form)
{
    const vi sum = dot(w, STEPS, in->q + b * KERN_BLOCK, start_of(in, b, 0, form), form);

    return add_block(y, in, b, f, sum, vi_zero(), form);
}

/* -------------------------------------------------------- a row, by layout
 *
 * y plus the product of a chunk with the weights at p. */

#define ROW_PLAIN(name, load, type, form)                                                          \
    static vf name(vf y, const struct inputs *in, const uint8_t *p, size_t stride, int n_blocks)   \
    {                                                                                              \
        for (int b = 0; b < n_blocks; b++, p += sizeof(struct type)) {                             \
            struct factors f;                                                                      \
            vi w[STEPS];                                                                           \
                                                                                                   \
            load(w, &f, p, stride);                                                                \
            y = row_block(y, in, w, b, &f, form);                                                  \
        }                                                                                          \
        return y;                                                                                  \
    }

ROW_PLAIN(row_q8_0, load_q8_0, kern_q8_0, S8)
ROW_PLAIN(row_q4_0, load_q4_0, kern_q4_0, U4)
ROW_PLAIN(row_q4_1, load_q4_1, kern_q4_1, U4_PLUS)
ROW_PLAIN(row_q5_0, load_q5_0, kern_q5_0, U7)
ROW_PLAIN(row_q5_1, load_q5_1, kern_q5_1, U7_PLUS)
ROW_PLAIN(row_iq4_nl, load_iq4_nl, kern_iq4_nl, S8)
ROW_PLAIN(row_mxfp4, load_mxfp4, kern_mxfp4, U7)

static vf row_q4_k(vf y, const struct inputs *in, const uint8_t *p, size_t stride, int n_blocks)
{
    struct factors f[BLOCKS];

    (void)n_blocks;
    load_q4_k_factors(f, p, stride);
    for (int pair = 0; pair < BLOCKS / 2; pair++) {
        vi w[2][STEPS];

        load_q4_k_pair(w, p + offsetof(struct kern_q4_k, q), pair, stride);
        y = row_block(y, in, w[0], 2 * pair, &f[2 * pair], U4_PLUS);
        y = row_block(y, in, w[1], 2 * pair + 1, &f[2 * pair + 1], U4_PLUS);
    }
    return y;
}

static vf row_q5_k(vf y, const struct inputs *in, const uint8_t *p, size_t stride, int n_blocks)
{
    struct factors f[BLOCKS];
    vi h[STEPS];

    (void)n_blocks;
    load_q4_k_factors(f, p, stride);
    load_32b(h, p + offsetof(struct kern_q5_k, h), stride);
    for (int pair = 0; pair < BLOCKS / 2; pair++) {
        vi w[2][STEPS];

        load_q5_k_pair(w, p + offsetof(struct kern_q5_k, q), h, pair, stride);
        y = row_block(y, in, w[0], 2 * pair, &f[2 * pair], U7_PLUS);
        y = row_block(y, in, w[1], 2 * pair + 1, &f[2 * pair + 1], U7_PLUS);
    }
    return y;
}

static vf row_iq4_xs(vf y, const struct inputs *in, const uint8_t *p, size_t stride, int n_blocks)
{
    struct factors f[BLOCKS];

    (void)n_blocks;
    load_iq4_xs_factors(f, p, stride);
    for (int b = 0; b < BLOCKS; b++) {
        vi w[STEPS];

        load_iq4_values(w, p + offsetof(struct kern_iq4_xs, q) + 16 * b, stride);
        y = row_block(y, in, w, b, &f[b], S8);
    }
    return y;
}

KERN_INLINE vf row_quarters(vf y, const struct inputs *in, const struct factors f[BLOCKS],
                            const uint8_t *p, size_t stride, infer_dtype type, enum form form)
{
    for (int half = 0; half < 2; half++) {
        vi sum[2][4];

        KERN_UNROLL
        for (int part = 0; part < 2; part++) {
            vi w[4][4];

            load_quarters(w, p, half, part, stride, type);
            KERN_UNROLL
            for (int i = 0; i < 4; i++) {
                const int b = 4 * half + i;
                const int8_t *x = in->q + b * KERN_BLOCK + part * 16;
                const vi start =
                    part == 0 || has_halves(form) ? start_of(in, b, part, form) : vi_zero();

                sum[part][i] = dot(w[i], STEPS / 2, x, start, form);
            }
        }
        KERN_UNROLL
        for (int i = 0; i < 4; i++) {
            const int b = 4 * half + i;
            const vi first = has_halves(form) ? sum[0][i] : vi_add(sum[0][i], sum[1][i]);

            y = add_block(y, in, b, &f[b], first, sum[1][i], form);
        }
    }
    return y;
}

#define ROW_QUARTERS(name, load_factors, type, form)                                               \
    static vf name(vf y, const struct inputs *in, const uint8_t *p, size_t stride, int n_blocks)   \
    {                                                                                              \
        struct factors f[BLOCKS];                                                                  \
                                                                                                   \
        (void)n_blocks;                                                                            \
        load_factors(f, p, stride);                                                                \
        return row_quarters(y, in, f, p, stride, type, form);                                      \
    }

ROW_QUARTERS(row_q6_k, load_q6_k_factors, INFER_DTYPE_Q6_K, U7_HALVES)
ROW_QUARTERS(row_q3_k, load_q3_k_factors, INFER_DTYPE_Q3_K, U4_HALVES)
ROW_QUARTERS(row_q2_k, load_q2_k_factors, INFER_DTYPE_Q2_K, U4_HALVES_PLUS)
ROW_QUARTERS(row_tq2_0, load_tq2_0_factors, INFER_DTYPE_TQ2_0, U4)
