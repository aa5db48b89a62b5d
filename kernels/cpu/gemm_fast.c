/* Products of quantised weights for many rows, rounded (kernels.h, run_fast), on AVX-512 with VNNI.
 *
 * Up to 64 weight rows are unpacked side by side, as for the exact products (a span: 256 inputs),
 * and their bytes rounded to eight bits of one scale a row. What is left is one sum of products of
 * bytes along the span for each output, exact in 32 bits:
 *
 *     y = fma(d * sum, scale, y)        d: the activations' scale, scale: the weights'
 *
 * span after span, whatever the shape of the call. A call keeps about 90 KiB on its stack. */
#include "kernels/cpu/vec_avx512.h"

/* The products of few rows are not used here. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include "kernels/cpu/gemm_quant_panel_tmpl.h"
#pragma GCC diagnostic pop

#include "kernels/cpu/gemm_quant_strip_tmpl.h"
#include "kernels/cpu/init.h"

enum {
    TILE_X = 6,    /* activation rows at once */
    TILE_W = 4,    /* groups of sixteen weight rows at once */
    X_BLOCK = 264, /* activation rows that weights are unpacked for at once */
    ROWS_MIN = 17, /* fewer wait for weights, or for their unpacking */
};

_Static_assert((int)CHUNK == (int)KERN_FAST_SPAN, "a span is what panels hold");

/* Weights of a span: four inputs of sixteen rows a vector, each 128 more than it is. */
struct span {
    vi w[CHUNK / 4][TILE_W];
    vf scale[TILE_W];
};

struct kind {
    size_t chunk_bytes;
    enum form form;
    int offset;          /* that unpacking adds to a weight */
    int16_t least, most; /* that a weight can be, without its factors */
    void (*unpack[2])(struct panel *o, const uint8_t *p, size_t stride, int n_blocks);
};

/* -------------------------------------------------------------- rounding */

/* Both halves of each lane. */
KERN_INLINE vi both(vi a)
{
    return vi_or(vi_and(a, vi_set1(0xffff)), vi_shl(a, 16));
}

/* Column g of a span from a panel. With `top` the most that the factors of its blocks admit, a
 * weight becomes rint(w * 127 / top), from products modulo 2^16 whose upper byte it is. The product
 * of what stands for zero cancels, so that zero stays zero where there is no minimum. */
KERN_INLINE void widen(struct span *o, int g, const struct panel *p, int n_blocks,
                       const struct kind *kind, enum form form)
{
    const int halves = has_halves(form) ? 2 : 1;
    const vf low = vf_set1(kind->least), high = vf_set1(kind->most);
    vf top = vf_zero(), unknown = vf_zero(), factor;

    for (int b = 0; b < n_blocks; b++) {
        KERN_UNROLL
        for (int h = 0; h < halves; h++) {
            const vf scale = p->f[b].scale[h], plus = has_plus(form) ? p->f[b].plus[h] : vf_zero();
            const vf least = vf_fma(scale, low, plus), most = vf_fma(scale, high, plus);

            top = _mm512_max_ps(top, _mm512_max_ps(_mm512_abs_ps(least), _mm512_abs_ps(most)));
            unknown = vf_fma(most, vf_zero(), unknown); /* NaN where a factor is not finite */
        }
    }
    factor = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(top, vf_set1(KERN_FAST_LEAST), _CMP_GE_OQ),
                                 vf_set1(127.0f * 256.0f), top);
    o->scale[g] = vf_fma(top, vf_set1(1.0f / 127.0f), unknown);
    for (int b = 0; b < n_blocks; b++) {
        KERN_UNROLL
        for (int h = 0; h < halves; h++) {
            const int first = h * STEPS / 2, last = halves == 2 ? first + STEPS / 2 : STEPS;
            const vi by = vi_of_float(vf_mul(p->f[b].scale[h], factor));
            const vi zero = _mm512_mullo_epi32(by, vi_set1(kind->offset));
            const vi plus =
                has_plus(form) ? vi_of_float(vf_mul(p->f[b].plus[h], factor)) : vi_zero();
            /* The bias of 128 in the upper byte, and a half of it for rounding. */
            const vi add = both(vi_add(vi_sub(plus, zero), vi_set1(0x8080))), times = both(by);

            KERN_UNROLL
            for (int j = first; j < last; j++) {
                const vi w = p->w[b][j];
                const vi even = _mm512_mullo_epi16(vi_and(w, vi_set1(0x00ff00ff)), times);
                const vi odd = _mm512_mullo_epi16(_mm512_srli_epi16(w, 8), times);
                const vi upper = vi_and(_mm512_add_epi16(odd, add), vi_set1((int)0xff00ff00));

                o->w[b * STEPS + j][g] =
                    vi_or(_mm512_srli_epi16(_mm512_add_epi16(even, add), 8), upper);
            }
        }
    }
}

static void widen_as(struct span *o, int g, const struct panel *p, int n_blocks,
                     const struct kind *kind)
{
    switch (kind->form) {
    case U4:
    case U7:
    case S8:
        widen(o, g, p, n_blocks, kind, U4);
        break;
    case U4_PLUS:
    case U7_PLUS:
        widen(o, g, p, n_blocks, kind, U4_PLUS);
        break;
    case U4_HALVES:
    case U7_HALVES:
        widen(o, g, p, n_blocks, kind, U4_HALVES);
        break;
    case U4_HALVES_PLUS:
        widen(o, g, p, n_blocks, kind, U4_HALVES_PLUS);
        break;
    }
}

/* ----------------------------------------------------------------- tiles */

/* The activation rows of a block. */
struct block {
    const struct kern_gemm_args *args;
    const struct span *span;
    float *y; /* sums so far: TILE_W vectors a row */
    int32_t row, m, at;
    int n_blocks;
};

/* Adds the products of four inputs. */
KERN_INLINE void step(vi sum[TILE_X][TILE_W], const vi *w, const uint8_t *x, size_t stride,
                      int rows, int groups)
{
    vi v[TILE_W];

    KERN_UNROLL
    for (int g = 0; g < groups; g++) {
        v[g] = w[g];
    }
    KERN_UNROLL
    for (int r = 0; r < rows; r++) {
        const vi four = vi_set1(kern_load_i32(x + (size_t)r * stride));

        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            /* As an intrinsic, gcc 12 copies the sums from step to step. */
            __asm__("vpdpbusd %2, %1, %0" : "+v"(sum[r][g]) : "v"(v[g]), "v"(four));
        }
    }
}

/* Adds a span's products of `rows` rows from row i of the block. The rows behind them are asked
 * for: a span of each is too short for the processor to foresee. */
KERN_INLINE void tile(const struct block *c, int32_t i, int rows, int groups)
{
    const struct kern_gemm_args *a = c->args;
    const size_t stride = a->x_stride, number = (size_t)(c->at / CHUNK);
    const uint8_t *first = (const uint8_t *)a->x + (size_t)(c->row + i) * stride;
    const uint8_t *x = first + c->at, *end = x + (size_t)c->n_blocks * KERN_BLOCK;
    const vi *w = c->span->w[0];
    vi sum[TILE_X][TILE_W];

    KERN_UNROLL
    for (int r = 0; r < rows; r++) {
        const struct kern_fast_row f = kern_fast_row_of(first + (size_t)r * stride, a->k);

        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            sum[r][g] = vi_set1(-128 * f.s[number]);
        }
        for (size_t at = 0; at < CHUNK; at += BASE_CACHE_LINE) {
            __builtin_prefetch((const char *)x + ((size_t)(rows + r)) * stride + at, 0, 3);
        }
    }
    for (; x != end; x += 4, w += TILE_W) {
        step(sum, w, x, stride, rows, groups);
    }
    KERN_UNROLL
    for (int r = 0; r < rows; r++) {
        const struct kern_fast_row f = kern_fast_row_of(first + (size_t)r * stride, a->k);

        KERN_UNROLL
        for (int g = 0; g < groups; g++) {
            float *y = c->y + ((i + r) * TILE_W + g) * LANES;
            const vf scaled = vf_mul(vf_of_int(sum[r][g]), vf_set1(f.d[number]));

            vf_store(y, vf_fma(scaled, c->span->scale[g], vf_load(y)));
        }
    }
}

KERN_INLINE void run_rows(const struct block *c, int groups)
{
    int32_t i = 0;

    for (; i + TILE_X <= c->m; i += TILE_X) {
        tile(c, i, TILE_X, groups);
    }
    if (i + 4 <= c->m) {
        tile(c, i, 4, groups);
        i += 4;
    }
    if (i + 2 <= c->m) {
        tile(c, i, 2, groups);
        i += 2;
    }
    if (i < c->m) {
        tile(c, i, 1, groups);
    }
}

static void run_span(const struct block *c, int groups)
{
    switch (groups) {
    case 4:
        run_rows(c, 4);
        break;
    case 2:
        run_rows(c, 2);
        break;
    default:
        run_rows(c, 1);
        break;
    }
}

/* ---------------------------------------------------------------- driver */

KERN_INLINE void store(const struct kern_gemm_args *a, const struct strip *s, int32_t i,
                       const float *sums)
{
    float *y = a->y + (size_t)i * a->y_stride + s->column;
    const float *bias = a->bias ? a->bias + s->column : NULL;
    const float scale = kern_gemm_scale(a);

    for (int32_t r = 0; r < s->count; r++) {
        const float product = sums[s->skip + r] * scale;
        const float sum = bias ? product + bias[r] : product;

        y[r] = a->accumulate ? sum + y[r] : sum;
    }
}

/* Rows row .. row + m - 1, at most X_BLOCK, of one strip. */
static void run_strip(const struct kern_gemm_args *a, const struct strip *s, int32_t row, int32_t m,
                      const struct kind *kind)
{
    const size_t chunk_bytes = kind->chunk_bytes * (s->packed ? LANES : 1);
    float y[X_BLOCK * TILE_W * LANES] __attribute__((aligned(BASE_CACHE_LINE)));
    struct span span;
    struct block c = {a, &span, y, row, m, 0, 0};
    const uint8_t *w = s->w;

    memset(y, 0, (size_t)m * TILE_W * LANES * sizeof(*y));
    for (; c.at < a->k; c.at += CHUNK, w += chunk_bytes) {
        c.n_blocks = BASE_MIN(CHUNK, a->k - c.at) / KERN_BLOCK;
        for (int g = 0; g < s->groups; g++) {
            const uint8_t *p = w + (size_t)g * LANES * s->stride;
            struct panel panel;

            for (size_t i = 0; s->packed && i < chunk_bytes; i += BASE_CACHE_LINE) {
                __builtin_prefetch((const char *)p + chunk_bytes + i, 0, 2);
            }
            kind->unpack[s->packed](&panel, p, s->stride, c.n_blocks);
            widen_as(&span, g, &panel, c.n_blocks, kind);
        }
        run_span(&c, s->groups);
    }
    for (int32_t i = 0; i < m; i++) {
        store(a, s, row + i, y + i * TILE_W * LANES);
    }
}

/* Blocks of rows are about as large as each other. */
static void run(const struct kern_gemm_args *a, int32_t begin, int32_t end, const struct kind *kind)
{
    const int32_t n = BASE_MAX(BASE_DIV_UP(a->m, X_BLOCK), 1);
    const int32_t block = BASE_ALIGN_UP(BASE_DIV_UP(a->m, n), TILE_X);

    while (begin < end) {
        struct strip s = next_strip(a, begin, end, TILE_W);

        if (s.groups == 3) {
            s.groups = 2;
            s.count = 2 * LANES;
        }
        for (int32_t row = 0; row < a->m; row += block) {
            run_strip(a, &s, row, BASE_MIN(block, a->m - row), kind);
        }
        begin += s.count;
    }
}

#define FAST(name, elements, form, offset, least, most)                                            \
    static void fast_##name(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)     \
    {                                                                                              \
        static const struct kind kind = {                                                          \
            CHUNK / (elements) * sizeof(struct kern_##name), form, offset, least, most,            \
            {unpack_##name, unpack_##name##_packed}};                                              \
                                                                                                   \
        run(args, n_begin, n_end, &kind);                                                          \
    }

/* Name, type, elements of a block, form, what unpacking adds, the least and the largest number
 * that a block's factors multiply. */
#define KINDS(X)                                                                                   \
    X(q8_0, Q8_0, KERN_BLOCK, S8, DOT_S8_OFFSET, -128, 127)                                        \
    X(q4_0, Q4_0, KERN_BLOCK, U4, 8, -8, 7)                                                        \
    X(q4_1, Q4_1, KERN_BLOCK, U4_PLUS, 0, 0, 15)                                                   \
    X(q5_0, Q5_0, KERN_BLOCK, U7, 16, -16, 15)                                                     \
    X(q5_1, Q5_1, KERN_BLOCK, U7_PLUS, 0, 0, 31)                                                   \
    X(q2_k, Q2_K, KERN_SUPER, U4_HALVES_PLUS, 0, 0, 3)                                             \
    X(q3_k, Q3_K, KERN_SUPER, U4_HALVES, 4, -4, 3)                                                 \
    X(q4_k, Q4_K, KERN_SUPER, U4_PLUS, 0, 0, 15)                                                   \
    X(q5_k, Q5_K, KERN_SUPER, U7_PLUS, 0, 0, 31)                                                   \
    X(q6_k, Q6_K, KERN_SUPER, U7_HALVES, 32, -32, 31)                                              \
    X(iq4_nl, IQ4_NL, KERN_BLOCK, S8, DOT_S8_OFFSET, -127, 113)                                    \
    X(iq4_xs, IQ4_XS, KERN_SUPER, S8, DOT_S8_OFFSET, -127, 113)                                    \
    X(iq3_xxs, IQ3_XXS, KERN_SUPER, U7, IQ_OFFSET, -62, 62)                                        \
    X(iq3_s, IQ3_S, KERN_SUPER, U7, IQ_OFFSET, -15, 15)                                            \
    X(iq2_xxs, IQ2_XXS, KERN_SUPER, U7, IQ_OFFSET, -43, 43)                                        \
    X(iq2_xs, IQ2_XS, KERN_SUPER, U7_HALVES, IQ_OFFSET, -43, 43)                                   \
    X(iq2_s, IQ2_S, KERN_SUPER, U7_HALVES, IQ_OFFSET, -43, 43)                                     \
    X(iq1_s, IQ1_S, KERN_SUPER, U7, IQ1_OFFSET, -9, 9)                                             \
    X(iq1_m, IQ1_M, KERN_SUPER, U7_HALVES, IQ1_OFFSET, -9, 9)                                      \
    X(tq1_0, TQ1_0, KERN_SUPER, U4, 1, -1, 1)                                                      \
    X(tq2_0, TQ2_0, KERN_SUPER, U4, 1, -1, 2)                                                      \
    X(mxfp4, MXFP4, KERN_BLOCK, U7, E2M1_OFFSET, -12, 12)                                          \
    X(nvfp4, NVFP4, KERN_NVFP4, U7_HALVES, E2M1_OFFSET, -12, 12)

#define DEFINE(name, dtype, ...) FAST(name, __VA_ARGS__)
#define STORE(name, dtype, ...)                                                                    \
    gemm->run_fast[INFER_DTYPE_##dtype] = fast_##name;                                             \
    gemm->fast_rows[INFER_DTYPE_##dtype] = ROWS_MIN;

KINDS(DEFINE)

void kern_gemm_fast_init_avx512vnni(struct kern_gemm *gemm)
{
    KINDS(STORE)
}
