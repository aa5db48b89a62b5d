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

/* What weights are multiplied with while they lie in registers: one activation row and 16 weight
 * rows, or m rows from x on and 32 weight rows. */
struct task {
    const struct inputs *in; /* one row: its chunk */
    const uint8_t *x;        /* m rows: the first, of k inputs */
    size_t x_stride;
    vf (*y)[2]; /* the sums so far; one row: y[0][0] alone */
    int32_t m, k, at, offset;
    int groups; /* a constant, so that the compiler sees through it: 1 or 2 */
};

/* What the integer sums start with, from the sums of activations of a block's halves. */
KERN_INLINE vi start_at(vi halves, int half, int offset, enum form form)
{
    const uint32_t factor = (uint16_t)-offset;

    if (has_plus(form) || (form == S8 && DOT_S8_OFFSET == 0)) {
        return vi_zero();
    }
    if (has_halves(form)) {
        return vi_madd16(halves, vi_set1((int32_t)(half ? factor << 16 : factor)));
    }
    return vi_madd16(halves, vi_set1((int32_t)(factor << 16 | factor)));
}

/* What a block adds for the minimum of its weights. */
KERN_INLINE vf add_plus(vf v, vi halves, const struct factors *f, enum form form)
{
    if (has_plus(form) && has_halves(form)) {
        v = vf_fma(f->plus[0], vf_of_int(vi_madd16(halves, vi_set1(1))), v);
        return vf_fma(f->plus[1], vf_of_int(vi_madd16(halves, vi_set1(1 << 16))), v);
    }
    return has_plus(form) ? vf_fma(f->plus[0], vf_of_int(vi_madd16(halves, vi_set1(0x10001))), v)
                          : v;
}

/* Adds the products of block b with m rows: w[g] and f[g] are its weights in group g. */
KERN_INLINE void add_several(const struct task *t, vi w[2][STEPS], const struct factors f[2], int b,
                             enum form form)
{
    const enum kern_dot how = dot_kind(form);
    const size_t at = (size_t)t->at + (size_t)b * KERN_BLOCK, k = (size_t)t->k,
                 stride = t->x_stride;
    const uint8_t *q = t->x + at, *d = t->x + k + at / KERN_BLOCK * sizeof(float);
    const uint8_t *s = t->x + k + k / KERN_BLOCK * sizeof(float) + at / 16 * sizeof(int16_t);
    const int offset = t->offset, later = has_halves(form) ? STEPS / 2 : STEPS;
    vf(*y)[2] = t->y, (*const end)[2] = y + t->m;

    for (; y < end; y++, q += stride, d += stride, s += stride) {
        const vi halves = vi_set1(kern_load_i32(s));
        const vi start = start_at(halves, 0, offset, form),
                 other = start_at(halves, 1, offset, form);
        vi sum[2][2];

        KERN_UNROLL
        for (int g = 0; g < 2; g++) {
            sum[g][0] = dot_start(start, how);
            sum[g][1] = dot_start(other, how);
        }
        KERN_UNROLL
        for (int j = 0; j < STEPS; j++) {
            const vi x = vi_set1(kern_load_i32(q + 4 * j));

            KERN_UNROLL
            for (int g = 0; g < 2; g++) {
                sum[g][j >= later] = dot_step(sum[g][j >= later], w[g][j], x, how);
            }
        }
        KERN_UNROLL
        for (int g = 0; g < 2; g++) {
            vf v = vf_mul(f[g].scale[0], vf_of_int(dot_finish(sum[g][0], start, how)));

            if (has_halves(form)) {
                v = vf_fma(f[g].scale[1], vf_of_int(dot_finish(sum[g][1], other, how)), v);
            }
            y[0][g] = vf_fma(add_plus(v, halves, &f[g], form), vf_set1(kern_load_f32(d)), y[0][g]);
        }
    }
}

KERN_INLINE void add_one(const struct task *t, const vi *w, const struct factors *f, int b,
                         enum form form)
{
    const struct inputs *in = t->in;
    const vi sum = dot(w, STEPS, in->q + b * KERN_BLOCK, start_of(in, b, 0, form), form);

    t->y[0][0] = add_block(t->y[0][0], in, b, f, sum, vi_zero(), form);
}

/* Adds the products of block b. */
KERN_INLINE void add_rows(const struct task *t, vi w[2][STEPS], const struct factors f[2], int b,
                          enum form form)
{
    if (t->groups == 1) {
        add_one(t, w[0], f, b, form);
    } else {
        add_several(t, w, f, b, form);
    }
}

/* ------------------------------------------------------- a chunk, by layout
 *
 * Adds the products of a chunk with the weights at p; group_bytes: from one group of weight rows
 * to the next. */

/* One activation row, with plain weight rows, `stride` bytes apart, or packed ones; several, with
 * packed ones. */
#define ROW_VARIANTS(name)                                                                         \
    static vf name##_one(vf y, const struct inputs *in, const uint8_t *p, size_t stride,           \
                         int n_blocks)                                                             \
    {                                                                                              \
        vf sum[1][2] = {{y}};                                                                      \
        const struct task t = {.in = in, .y = sum, .groups = 1};                                   \
                                                                                                   \
        name(&t, p, 0, kern_rows_plain(stride), n_blocks);                                         \
        return sum[0][0];                                                                          \
    }                                                                                              \
    static vf name##_one_packed(vf y, const struct inputs *in, const uint8_t *p, size_t stride,    \
                                int n_blocks)                                                      \
    {                                                                                              \
        vf sum[1][2] = {{y}};                                                                      \
        const struct task t = {.in = in, .y = sum, .groups = 1};                                   \
                                                                                                   \
        (void)stride;                                                                              \
        name(&t, p, 0, kern_rows_packed(p), n_blocks);                                             \
        return sum[0][0];                                                                          \
    }                                                                                              \
    static void name##_several(const struct task *given, const uint8_t *p, size_t group_bytes,     \
                               int n_blocks)                                                       \
    {                                                                                              \
        struct task t = *given;                                                                    \
                                                                                                   \
        t.groups = 2;                                                                              \
        name(&t, p, group_bytes, kern_rows_packed(p), n_blocks);                                   \
    }

#define ROW_PLAIN(name, load, type, form)                                                          \
    KERN_INLINE void name(const struct task *t, const uint8_t *p, size_t group_bytes,              \
                          struct kern_rows r, int n_blocks)                                        \
    {                                                                                              \
        for (int b = 0; b < n_blocks; b++) {                                                       \
            struct factors f[2];                                                                   \
            vi w[2][STEPS];                                                                        \
                                                                                                   \
            KERN_UNROLL                                                                            \
            for (int g = 0; g < t->groups; g++) {                                                  \
                const uint8_t *block =                                                             \
                    kern_block_at(&r, p + (size_t)g * group_bytes, b, sizeof(struct type));        \
                                                                                                   \
                load(w[g], &f[g], block, r);                                                       \
            }                                                                                      \
            add_rows(t, w, f, b, form);                                                            \
        }                                                                                          \
    }                                                                                              \
    ROW_VARIANTS(name)

ROW_PLAIN(row_q8_0, load_q8_0, kern_q8_0, S8)
ROW_PLAIN(row_q4_0, load_q4_0, kern_q4_0, U4)
ROW_PLAIN(row_q4_1, load_q4_1, kern_q4_1, U4_PLUS)
ROW_PLAIN(row_q5_0, load_q5_0, kern_q5_0, U7)
ROW_PLAIN(row_q5_1, load_q5_1, kern_q5_1, U7_PLUS)
ROW_PLAIN(row_iq4_nl, load_iq4_nl, kern_iq4_nl, S8)
ROW_PLAIN(row_mxfp4, load_mxfp4, kern_mxfp4, U7)

/* The groups' factors of block b side by side. */
KERN_INLINE void pick_factors(struct factors out[2], struct factors f[2][BLOCKS], int b, int groups)
{
    for (int g = 0; g < groups; g++) {
        out[g] = f[g][b];
    }
}

/* Layouts whose blocks come in pairs: load_pair() reads both of one group. */
#define ROW_PAIRS(name, load_factors, load_pair, form)                                             \
    KERN_INLINE void name(const struct task *t, const uint8_t *p, size_t group_bytes,              \
                          struct kern_rows r, int n_blocks)                                        \
    {                                                                                              \
        struct factors f[2][BLOCKS], of_block[2];                                                  \
                                                                                                   \
        (void)n_blocks;                                                                            \
        for (int g = 0; g < t->groups; g++) {                                                      \
            const uint8_t *block = kern_block_at(&r, p + (size_t)g * group_bytes, 0, 0);           \
                                                                                                   \
            load_factors(f[g], block, r);                                                          \
        }                                                                                          \
        for (int pair = 0; pair < BLOCKS / 2; pair++) {                                            \
            vi w[2][2][STEPS];                                                                     \
                                                                                                   \
            KERN_UNROLL                                                                            \
            for (int g = 0; g < t->groups; g++) {                                                  \
                const uint8_t *block = kern_block_at(&r, p + (size_t)g * group_bytes, 0, 0);       \
                vi both[2][STEPS];                                                                 \
                                                                                                   \
                load_pair(both, block, pair, r);                                                   \
                KERN_UNROLL                                                                        \
                for (int j = 0; j < STEPS; j++) {                                                  \
                    w[0][g][j] = both[0][j];                                                       \
                    w[1][g][j] = both[1][j];                                                       \
                }                                                                                  \
            }                                                                                      \
            for (int i = 0; i < 2; i++) {                                                          \
                pick_factors(of_block, f, 2 * pair + i, t->groups);                                \
                add_rows(t, w[i], of_block, 2 * pair + i, form);                                   \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    ROW_VARIANTS(name)

KERN_INLINE void load_q4_k_two(vi w[2][STEPS], const uint8_t *p, int pair, struct kern_rows r)
{
    load_q4_k_pair(w, p + offsetof(struct kern_q4_k, q), pair, r);
}

KERN_INLINE void load_q5_k_two(vi w[2][STEPS], const uint8_t *p, int pair, struct kern_rows r)
{
    vi h[STEPS];

    load_32b(h, p + offsetof(struct kern_q5_k, h), r);
    load_q5_k_pair(w, p + offsetof(struct kern_q5_k, q), h, pair, r);
}

KERN_INLINE void load_iq4_xs_two(vi w[2][STEPS], const uint8_t *p, int pair, struct kern_rows r)
{
    load_iq4_values(w[0], p + offsetof(struct kern_iq4_xs, q) + 32 * pair, r);
    load_iq4_values(w[1], p + offsetof(struct kern_iq4_xs, q) + 32 * pair + 16, r);
}

ROW_PAIRS(row_q4_k, load_q4_k_factors, load_q4_k_two, U4_PLUS)
ROW_PAIRS(row_q5_k, load_q4_k_factors, load_q5_k_two, U7_PLUS)
ROW_PAIRS(row_iq4_xs, load_iq4_xs_factors, load_iq4_xs_two, S8)

/* Half a chunk, four blocks, of one row: no more registers than there are. */
KERN_INLINE void add_quarters(const struct task *t, const uint8_t *p, int half,
                              const struct factors f[BLOCKS], struct kern_rows r, infer_dtype type,
                              enum form form)
{
    vi sum[2][4];

    KERN_UNROLL
    for (int part = 0; part < 2; part++) {
        vi w[4][4];

        load_quarters(w, p, half, part, r, type);
        KERN_UNROLL
        for (int i = 0; i < 4; i++) {
            const int b = 4 * half + i;
            const int8_t *x = t->in->q + b * KERN_BLOCK + part * 16;
            const vi start =
                part == 0 || has_halves(form) ? start_of(t->in, b, part, form) : vi_zero();

            sum[part][i] = dot(w[i], STEPS / 2, x, start, form);
        }
    }
    KERN_UNROLL
    for (int i = 0; i < 4; i++) {
        const int b = 4 * half + i;
        const vi first = has_halves(form) ? sum[0][i] : vi_add(sum[0][i], sum[1][i]);

        t->y[0][0] = add_block(t->y[0][0], t->in, b, &f[b], first, sum[1][i], form);
    }
}

/* Four blocks of several rows. */
KERN_INLINE void add_quarters_several(const struct task *t, const uint8_t *p, size_t group_bytes,
                                      int half, struct factors f[2][BLOCKS], struct kern_rows r,
                                      infer_dtype type, enum form form)
{
    KERN_UNROLL
    for (int b = 0; b < 4; b++) {
        struct factors of_block[2];
        vi w[2][STEPS];

        KERN_UNROLL
        for (int g = 0; g < 2; g++) {
            const uint8_t *block = kern_block_at(&r, p + (size_t)g * group_bytes, 0, 0);

            load_block(w[g], block, 4 * half + b, r, type);
        }
        pick_factors(of_block, f, 4 * half + b, 2);
        add_several(t, w, of_block, 4 * half + b, form);
    }
}

#define ROW_QUARTERS(name, load_factors, type, form)                                               \
    KERN_INLINE void name(const struct task *t, const uint8_t *p, size_t group_bytes,              \
                          struct kern_rows r, int n_blocks)                                        \
    {                                                                                              \
        struct factors f[2][BLOCKS];                                                               \
                                                                                                   \
        (void)n_blocks;                                                                            \
        for (int g = 0; g < t->groups; g++) {                                                      \
            const uint8_t *block = kern_block_at(&r, p + (size_t)g * group_bytes, 0, 0);           \
                                                                                                   \
            load_factors(f[g], block, r);                                                          \
        }                                                                                          \
        KERN_UNROLL                                                                                \
        for (int half = 0; half < 2; half++) {                                                     \
            if (t->groups == 1) {                                                                  \
                add_quarters(t, p, half, f[0], r, type, form);                                     \
            } else {                                                                               \
                add_quarters_several(t, p, group_bytes, half, f, r, type, form);                   \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    ROW_VARIANTS(name)

ROW_QUARTERS(row_q6_k, load_q6_k_factors, INFER_DTYPE_Q6_K, U7_HALVES)
ROW_QUARTERS(row_q3_k, load_q3_k_factors, INFER_DTYPE_Q3_K, U4_HALVES)
ROW_QUARTERS(row_q2_k, load_q2_k_factors, INFER_DTYPE_Q2_K, U4_HALVES_PLUS)
ROW_QUARTERS(row_tq2_0, load_tq2_0_factors, INFER_DTYPE_TQ2_0, U4)
