/* Products of BF16 weights and BF16 activations on AVX-512 with BF16.
 *
 * Each output has one accumulator of sixteen lanes; lane i takes the pairs of inputs i, i + 16,
 * ... in order (past the end: 0 * 0), and vf_sum() adds the lanes in a fixed tree, whatever the
 * tile that an output falls in. */
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/init.h"

enum {
    TILE_W = 6, /* weight and activation rows at once */
    TILE_X = 4,
    N_BLOCK = 48, /* weight rows kept in the second-level cache for all of x */
    STEP = 32,    /* inputs of a vector */
};

/* The first n elements at p, zeros behind. */
KERN_INLINE __m512bh load(const uint8_t *p, size_t n)
{
    const __mmask32 mask = n >= STEP ? ~(__mmask32)0 : ((__mmask32)1 << n) - 1;

    return (__m512bh)_mm512_maskz_loadu_epi16(mask, p);
}

/* acc plus the products of n inputs at w and x, at most STEP. */
KERN_INLINE void step(vf acc[TILE_X][TILE_W], const struct kern_gemm_args *a, const uint8_t *w,
                      const uint8_t *x, size_t n, int nw, int nx)
{
    __m512bh xv[TILE_X];

    KERN_UNROLL
    for (int i = 0; i < nx; i++) {
        xv[i] = load(x + (size_t)i * a->x_stride, n);
    }
    KERN_UNROLL
    for (int r = 0; r < nw; r++) {
        const __m512bh wv = load(w + (size_t)r * a->w_stride, n);

        KERN_UNROLL
        for (int i = 0; i < nx; i++) {
            acc[i][r] = _mm512_dpbf16_ps(acc[i][r], wv, xv[i]);
        }
    }
}

/* y of nw weight rows from column and nx activation rows from row. `fetch`: as many weight rows
 * behind these come next, and memory is asked for them in order of address, as for float products
 * (gemm_float_tmpl.h). */
KERN_INLINE void tile(const struct kern_gemm_args *a, int32_t column, int32_t row, int nw, int nx,
                      int fetch)
{
    const uint8_t *w = (const uint8_t *)a->w + (size_t)column * a->w_stride;
    const uint8_t *x = (const uint8_t *)a->x + (size_t)row * a->x_stride;
    const float scale = kern_gemm_scale(a);
    const uint8_t *next = w + (size_t)nw * a->w_stride;
    size_t left = (size_t)a->k;
    vf acc[TILE_X][TILE_W];

    KERN_UNROLL
    for (int i = 0; i < nx; i++) {
        KERN_UNROLL
        for (int r = 0; r < nw; r++) {
            acc[i][r] = vf_zero();
        }
    }
    for (; left >= STEP; left -= STEP, w += STEP * 2, x += STEP * 2) {
        if (fetch) {
            KERN_UNROLL
            for (int r = 0; r < nw; r++, next += BASE_CACHE_LINE) {
                __builtin_prefetch(next, 0, 3);
            }
        }
        step(acc, a, w, x, STEP, nw, nx);
    }
    if (left > 0) {
        step(acc, a, w, x, left, nw, nx);
    }
    KERN_UNROLL
    for (int i = 0; i < nx; i++) {
        float *y = a->y + (size_t)(row + i) * a->y_stride + column;

        KERN_UNROLL
        for (int r = 0; r < nw; r++) {
            const float sum = vf_sum(acc[i][r]) * scale + (a->bias ? a->bias[column + r] : 0.0f);

            y[r] = a->accumulate ? sum + y[r] : sum;
        }
    }
}

/* Columns begin .. end - 1 for nx activation rows; `last`: where the call's columns end. */
KERN_INLINE void run_rows(const struct kern_gemm_args *a, int32_t begin, int32_t end, int32_t last,
                          int32_t row, int nx)
{
    for (; begin + TILE_W <= end; begin += TILE_W) {
        if (row == 0 && begin + 2 * TILE_W <= last) {
            tile(a, begin, row, TILE_W, nx, 1);
        } else {
            tile(a, begin, row, TILE_W, nx, 0);
        }
    }
    for (; begin < end; begin++) {
        tile(a, begin, row, 1, nx, 0);
    }
}

static void gemm_bf16(const struct kern_gemm_args *a, int32_t n_begin, int32_t n_end)
{
    for (int32_t begin = n_begin; begin < n_end; begin += N_BLOCK) {
        const int32_t end = BASE_MIN(n_end, begin + N_BLOCK);
        int32_t row = 0;

        for (; row + TILE_X <= a->m; row += TILE_X) {
            run_rows(a, begin, end, n_end, row, TILE_X);
        }
        switch (a->m - row) {
        case 3:
            run_rows(a, begin, end, n_end, row, 3);
            break;
        case 2:
            run_rows(a, begin, end, n_end, row, 2);
            break;
        case 1:
            run_rows(a, begin, end, n_end, row, 1);
            break;
        default:
            break;
        }
    }
}

void kern_gemm_bf16_init_avx512bf16(struct kern_gemm *gemm)
{
    gemm->run_bf16[INFER_DTYPE_BF16] = gemm_bf16;
    gemm->bf16_rows[INFER_DTYPE_BF16] = 1;
    gemm->bf16_stable[INFER_DTYPE_BF16] = 1;
}
