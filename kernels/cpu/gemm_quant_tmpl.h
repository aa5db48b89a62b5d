/* Template: products of quantised weights and Q8 activations, for the vector
 * vocabulary included before (vec_<isa>.h).
 *
 * Sixteen weight rows are unpacked side by side, one lane a row, 256 inputs at
 * a time (a panel), and every activation row of the call is multiplied with the
 * panel while it lies in the first-level cache. For each block of 32 inputs,
 * the integer sum is exact and
 *
 *     y = fma(scale * sum, d, y)        d: the activation block's scale
 *
 * block after block along k. So an element's value does not depend on which
 * other rows or columns the call computes, and all variants agree to the
 * bit. Define TILE_ROWS (activation rows at once) and TILE_GROUPS (groups of 16
 * weight rows at once, 1 or 2) before. */
#include "kernels/cpu/gemm_quant_panel_tmpl.h"
#include "kernels/cpu/gemm_quant_strip_tmpl.h"
#include "kernels/cpu/init.h"

enum {
    M_BLOCK = 64,          /* activation rows a panel is kept for */
    PREFETCH_BYTES = 6144, /* how far ahead packed weights are asked for */
};

/* ------------------------------------------------------------- the product */

#if defined(DOT_PAIRS)
#include "kernels/cpu/gemm_quant_pairs_tmpl.h"
#else

enum {
    TILE_REST = 1, /* rows of a tile where fewer than TILE_ROWS are left */
    FEW = 16,      /* so many are multiplied with weights that no panel keeps */
};

/* Panels stay as they were unpacked. */
KERN_INLINE void arrange(struct panel *o, int n_blocks)
{
    (void)o;
    (void)n_blocks;
}

/* Integer sums of a block b, or of a half of it, for all rows and groups. */
KERN_INLINE void dot_block(vi sum[TILE_ROWS][TILE_GROUPS], const struct panel *panels,
                           const struct inputs *in, int b, int half, enum form form, int rows,
                           int groups)
{
    const enum kern_dot dot = dot_kind(form);
    const int first = half * (STEPS / 2), last = has_halves(form) ? first + STEPS / 2 : STEPS;

    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            sum[i][g] = dot_start(start_of(&in[i], b, half, form), dot);
        }
    }
    KERN_UNROLL
    for (int j = first; j < last; j++) {
        KERN_UNROLL
        for (int i = 0; i < rows; i++) {
            const vi x = vi_set1(kern_load_i32(in[i].q + b * KERN_BLOCK + 4 * j));

            KERN_UNROLL
            for (int g = 0; g < groups; g++) {
                sum[i][g] = dot_step(sum[i][g], panels[g].w[b][j], x, dot);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            sum[i][g] = dot_finish(sum[i][g], start_of(&in[i], b, half, form), dot);
        }
    }
}

#endif

/* Adds the products of `rows` rows with `groups` panels to y. */
KERN_INLINE void tile(vf (*y)[TILE_GROUPS], const struct panel *panels, const struct inputs *in,
                      int n_blocks, enum form form, int rows, int groups)
{
    vf acc[TILE_ROWS][TILE_GROUPS];

    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            acc[i][g] = y[i][g];
        }
    }
    for (int b = 0; b < n_blocks; b++) {
        vi sum[TILE_ROWS][TILE_GROUPS], second[TILE_ROWS][TILE_GROUPS];

        dot_block(sum, panels, in, b, 0, form, rows, groups);
        if (has_halves(form)) {
            dot_block(second, panels, in, b, 1, form, rows, groups);
        }
        KERN_UNROLL
        for (int i = 0; i < rows; i++) {
            KERN_UNROLL
            for (int g = 0; g < groups; g++) {
                const vi other = has_halves(form) ? second[i][g] : vi_zero();

                acc[i][g] =
                    add_block(acc[i][g], &in[i], b, &panels[g].f[b], sum[i][g], other, form);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < rows; i++) {
        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            y[i][g] = acc[i][g];
        }
    }
}

/* -------------------------------------------------------------- the driver */

KERN_INLINE void store(const struct kern_gemm_args *a, const struct strip *s, int32_t i,
                       const vf *sums)
{
    float *y = a->y + (size_t)i * a->y_stride + s->column;
    const float *bias = a->bias ? a->bias + s->column : NULL;
    const float scale = kern_gemm_scale(a);
    float v[2 * LANES];

    for (int g = 0; g < s->groups; g++) {
        vf_store(v + g * LANES, sums[g]);
    }
    for (int32_t r = 0; r < s->count; r++) {
        const float product = v[s->skip + r] * scale;
        const float sum = bias ? product + bias[r] : product;

        y[r] = a->accumulate ? sum + y[r] : sum;
    }
}

/* Asks memory for weights that come later: with each chunk for as many bytes as it has. Sixteen
 * plain rows are too many streams for the processor to foresee, so the next strip is asked for in
 * order of address while this one is computed. Packed rows are one stream, or two, which the
 * processor does foresee, but not far enough. */
struct ahead {
    const uint8_t *p;
    size_t step;  /* bytes asked for with each chunk */
    size_t group; /* packed: bytes from a group to the next */
    int groups, packed;
};

KERN_INLINE struct ahead look_ahead(const struct kern_gemm_args *a, const struct strip *s,
                                    size_t chunk_bytes)
{
    const size_t group = LANES * s->stride, all = (size_t)s->groups * group;

    if (s->packed) {
        return (struct ahead){s->w + PREFETCH_BYTES, chunk_bytes * LANES, group, s->groups, 1};
    }
    return (struct ahead){s->fetch_next ? s->w + all : NULL,
                          all / (size_t)BASE_DIV_UP(a->k, CHUNK) + 1, 0, 1, 0};
}

KERN_INLINE void prefetch(struct ahead *f)
{
    for (int g = 0; f->p && g < f->groups; g++) {
        const uint8_t *p = f->p + (size_t)g * f->group;

        for (size_t i = 0; i < f->step; i += BASE_CACHE_LINE) {
            if (f->packed) {
                __builtin_prefetch((const char *)p + i, 0, 3);
            } else {
                __builtin_prefetch((const char *)p + i, 0, 2);
            }
        }
    }
    f->p = f->p ? f->p + f->step : NULL;
}

/* One chunk of `m` activation rows from `row` with unpacked panels. */
struct chunk {
    const struct panel *panels;
    const struct kern_gemm_args *args;
    int32_t row, m, at;
    int groups, offset;
};

KERN_INLINE void run_chunk(vf (*y)[TILE_GROUPS], const struct chunk *c, enum form form)
{
    const struct kern_gemm_args *a = c->args;
    const uint8_t *x = (const uint8_t *)a->x + (size_t)c->row * a->x_stride;
    const int n_blocks = BASE_MIN(CHUNK, a->k - c->at) / KERN_BLOCK;

    for (int32_t m = c->m, rows; m > 0; m -= rows, y += rows) {
        struct inputs in[TILE_ROWS];

        rows = m >= TILE_ROWS ? TILE_ROWS : m >= TILE_REST ? TILE_REST : 1;
        for (int32_t i = 0; i < rows; i++, x += a->x_stride) {
            const struct kern_act_row r = kern_act_row_of(x, a->k);

            take_inputs(&in[i], &r, c->at, n_blocks, c->offset, form);
        }
        if (rows == TILE_ROWS && c->groups == TILE_GROUPS) {
            tile(y, c->panels, in, n_blocks, form, TILE_ROWS, TILE_GROUPS);
        } else if (rows == TILE_ROWS) {
            tile(y, c->panels, in, n_blocks, form, TILE_ROWS, 1);
        } else if (TILE_REST > 1 && rows == TILE_REST) {
            tile(y, c->panels, in, n_blocks, form, TILE_REST, 1);
        } else if (c->groups == TILE_GROUPS) {
            tile(y, c->panels, in, n_blocks, form, 1, TILE_GROUPS);
        } else {
            tile(y, c->panels, in, n_blocks, form, 1, 1);
        }
    }
}

/* By form, for the weights of all types. */
static void chunk_of(vf (*y)[TILE_GROUPS], const struct chunk *c, enum form form)
{
    switch (form) {
    case U4:
        run_chunk(y, c, U4);
        break;
    case U7:
        run_chunk(y, c, U7);
        break;
    case S8:
        run_chunk(y, c, S8);
        break;
    case U4_PLUS:
        run_chunk(y, c, U4_PLUS);
        break;
    case U7_PLUS:
        run_chunk(y, c, U7_PLUS);
        break;
    case U4_HALVES:
        run_chunk(y, c, U4_HALVES);
        break;
    case U7_HALVES:
        run_chunk(y, c, U7_HALVES);
        break;
    case U4_HALVES_PLUS:
        run_chunk(y, c, U4_HALVES_PLUS);
        break;
    }
}

/* ----------------------------------------------------------------- the types */

struct kind {
    size_t chunk_bytes;
    enum form form;
    int offset; /* that unpacking adds to a weight */
    /* Of plain rows, and of packed ones. */
    void (*unpack[2])(struct panel *o, const uint8_t *p, size_t stride, int n_blocks);
    /* NULL: few activation rows go by panels as well. */
    vf (*one[2])(vf y, const struct inputs *in, const uint8_t *p, size_t stride, int n_blocks);
    void (*several)(const struct task *t, const uint8_t *p, size_t group_bytes, int n_blocks);
};

/* A single activation row: the weights are used as they come. */
KERN_INLINE void run_row(const struct kern_gemm_args *a, const struct strip *s,
                         const struct kind *kind)
{
    struct ahead ahead = look_ahead(a, s, kind->chunk_bytes);
    const struct kern_act_row x = kern_act_row_of(a->x, a->k);
    const size_t chunk_bytes = kind->chunk_bytes * (s->packed ? LANES : 1);
    const uint8_t *w = s->w;
    vf y = vf_zero();

    for (int32_t at = 0; at < a->k; at += CHUNK, w += chunk_bytes) {
        const int n_blocks = BASE_MIN(CHUNK, a->k - at) / KERN_BLOCK;
        struct inputs in;

        prefetch(&ahead);
        take_inputs(&in, &x, at, n_blocks, kind->offset, kind->form);
        y = kind->one[s->packed](y, &in, w, s->stride, n_blocks);
    }
    store(a, s, 0, &y);
}

/* A few activation rows and two groups of packed weights, used as they come. */
static void run_few(const struct kern_gemm_args *a, const struct strip *s, const struct kind *kind)
{
    const size_t group_bytes = LANES * s->stride;
    struct ahead ahead = look_ahead(a, s, kind->chunk_bytes);
    const uint8_t *w = s->w;
    vf y[FEW][2];
    struct task t = {
        .x = a->x, .x_stride = a->x_stride, .y = y, .m = a->m, .k = a->k, .offset = kind->offset};

    for (int32_t i = 0; i < a->m; i++) {
        y[i][0] = y[i][1] = vf_zero();
    }
    for (; t.at < a->k; t.at += CHUNK, w += kind->chunk_bytes * LANES) {
        const int n_blocks = BASE_MIN(CHUNK, a->k - t.at) / KERN_BLOCK;

        prefetch(&ahead);
        kind->several(&t, w, group_bytes, n_blocks);
    }
    for (int32_t i = 0; i < a->m; i++) {
        store(a, s, i, y[i]);
    }
}

/* Activation rows row .. row + m - 1, at most M_BLOCK, of one strip. */
static void run_strip(const struct kern_gemm_args *a, const struct strip *s, int32_t row, int32_t m,
                      const struct kind *kind)
{
    const size_t chunk_bytes = kind->chunk_bytes * (s->packed ? LANES : 1);
    struct ahead ahead = look_ahead(a, s, kind->chunk_bytes);
    vf y[M_BLOCK][TILE_GROUPS];
    struct panel panels[TILE_GROUPS];
    struct chunk c = {panels, a, row, m, 0, s->groups, kind->offset};
    const uint8_t *w = s->w;

    for (int32_t i = 0; i < m; i++) {
        for (int g = 0; g < TILE_GROUPS; g++) {
            y[i][g] = vf_zero();
        }
    }
    for (; c.at < a->k; c.at += CHUNK, w += chunk_bytes) {
        const int n_blocks = BASE_MIN(CHUNK, a->k - c.at) / KERN_BLOCK;

        if (row == 0) {
            prefetch(&ahead);
        }
        for (int g = 0; g < s->groups; g++) {
            kind->unpack[s->packed](&panels[g], w + (size_t)g * LANES * s->stride, s->stride,
                                    n_blocks);
            arrange(&panels[g], n_blocks);
        }
        chunk_of(y, &c, kind->form);
    }
    for (int32_t i = 0; i < m; i++) {
        store(a, s, row + i, y[i]);
    }
}

KERN_INLINE void run(const struct kern_gemm_args *a, int32_t begin, int32_t end,
                     const struct kind *kind)
{
    const int direct = kind->several != NULL, one = direct && a->m == 1;
    const int few = direct && a->packed && a->m <= FEW;

    while (begin < end) {
        const struct strip s = next_strip(a, begin, end, one ? 1 : few ? 2 : TILE_GROUPS);

        if (one) {
            run_row(a, &s, kind);
        } else if (few && s.groups == 2) {
            run_few(a, &s, kind);
        } else {
            for (int32_t row = 0; row < a->m; row += M_BLOCK) {
                run_strip(a, &s, row, BASE_MIN(M_BLOCK, a->m - row), kind);
            }
        }
        begin += s.count;
    }
}

#define GEMM(name, elements, form, offset, ...)                                                    \
    static void gemm_##name(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)     \
    {                                                                                              \
        static const struct kind kind = {CHUNK / (elements) * sizeof(struct kern_##name),          \
                                         form,                                                     \
                                         offset,                                                   \
                                         {unpack_##name, unpack_##name##_packed},                  \
                                         __VA_ARGS__};                                             \
                                                                                                   \
        run(args, n_begin, n_end, &kind);                                                          \
    }

#define ROWS(row) {row##_one, row##_one_packed}, row##_several
#define NO_ROWS   {NULL, NULL}, NULL

GEMM(q8_0, KERN_BLOCK, S8, DOT_S8_OFFSET, ROWS(row_q8_0))
GEMM(q4_0, KERN_BLOCK, U4, 8, ROWS(row_q4_0))
GEMM(q4_1, KERN_BLOCK, U4_PLUS, 0, ROWS(row_q4_1))
GEMM(q5_0, KERN_BLOCK, U7, 16, ROWS(row_q5_0))
GEMM(q5_1, KERN_BLOCK, U7_PLUS, 0, ROWS(row_q5_1))
GEMM(q2_k, KERN_SUPER, U4_HALVES_PLUS, 0, ROWS(row_q2_k))
GEMM(q3_k, KERN_SUPER, U4_HALVES, 4, ROWS(row_q3_k))
GEMM(q4_k, KERN_SUPER, U4_PLUS, 0, ROWS(row_q4_k))
GEMM(q5_k, KERN_SUPER, U7_PLUS, 0, ROWS(row_q5_k))
GEMM(q6_k, KERN_SUPER, U7_HALVES, 32, ROWS(row_q6_k))
GEMM(iq4_nl, KERN_BLOCK, S8, DOT_S8_OFFSET, ROWS(row_iq4_nl))
GEMM(iq4_xs, KERN_SUPER, S8, DOT_S8_OFFSET, ROWS(row_iq4_xs))
GEMM(iq3_xxs, KERN_SUPER, U7, IQ_OFFSET, NO_ROWS)
GEMM(iq3_s, KERN_SUPER, U7, IQ_OFFSET, NO_ROWS)
GEMM(iq2_xxs, KERN_SUPER, U7, IQ_OFFSET, NO_ROWS)
GEMM(iq2_xs, KERN_SUPER, U7_HALVES, IQ_OFFSET, NO_ROWS)
GEMM(iq2_s, KERN_SUPER, U7_HALVES, IQ_OFFSET, NO_ROWS)
GEMM(iq1_s, KERN_SUPER, U7, IQ1_OFFSET, NO_ROWS)
GEMM(iq1_m, KERN_SUPER, U7_HALVES, IQ1_OFFSET, NO_ROWS)
GEMM(tq1_0, KERN_SUPER, U4, 1, NO_ROWS)
GEMM(tq2_0, KERN_SUPER, U4, 1, ROWS(row_tq2_0))
GEMM(mxfp4, KERN_BLOCK, U7, E2M1_OFFSET, ROWS(row_mxfp4))
GEMM(nvfp4, KERN_NVFP4, U7_HALVES, E2M1_OFFSET, NO_ROWS)

KERN_INLINE void gemm_quant_init(struct kern_gemm *gemm)
{
    gemm->packed_is_faster = 1;
    gemm->run[INFER_DTYPE_Q8_0] = gemm_q8_0;
    gemm->run[INFER_DTYPE_Q4_0] = gemm_q4_0;
    gemm->run[INFER_DTYPE_Q4_1] = gemm_q4_1;
    gemm->run[INFER_DTYPE_Q5_0] = gemm_q5_0;
    gemm->run[INFER_DTYPE_Q5_1] = gemm_q5_1;
    gemm->run[INFER_DTYPE_Q2_K] = gemm_q2_k;
    gemm->run[INFER_DTYPE_Q3_K] = gemm_q3_k;
    gemm->run[INFER_DTYPE_Q4_K] = gemm_q4_k;
    gemm->run[INFER_DTYPE_Q5_K] = gemm_q5_k;
    gemm->run[INFER_DTYPE_Q6_K] = gemm_q6_k;
    gemm->run[INFER_DTYPE_IQ4_NL] = gemm_iq4_nl;
    gemm->run[INFER_DTYPE_IQ4_XS] = gemm_iq4_xs;
    gemm->run[INFER_DTYPE_IQ3_XXS] = gemm_iq3_xxs;
    gemm->run[INFER_DTYPE_IQ3_S] = gemm_iq3_s;
    gemm->run[INFER_DTYPE_IQ2_XXS] = gemm_iq2_xxs;
    gemm->run[INFER_DTYPE_IQ2_XS] = gemm_iq2_xs;
    gemm->run[INFER_DTYPE_IQ2_S] = gemm_iq2_s;
    gemm->run[INFER_DTYPE_IQ1_S] = gemm_iq1_s;
    gemm->run[INFER_DTYPE_IQ1_M] = gemm_iq1_m;
    gemm->run[INFER_DTYPE_TQ1_0] = gemm_tq1_0;
    gemm->run[INFER_DTYPE_TQ2_0] = gemm_tq2_0;
    gemm->run[INFER_DTYPE_MXFP4] = gemm_mxfp4;
    gemm->run[INFER_DTYPE_NVFP4] = gemm_nvfp4;
}
