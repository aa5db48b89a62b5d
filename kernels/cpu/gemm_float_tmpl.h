/* Template: products of float weights and float activations, for the vector
 * vocabulary included before (vec_<isa>.h).
 *
 * Each output has one accumulator of sixteen lanes; lane i takes the inputs i,
 * i + 16, i + 32, ... in order (past the end: 0 * 0), and vf_sum() adds the
 * lanes in a fixed tree. The tile an output falls in changes nothing in that,
 * so results are batch-invariant, and all variants agree to the bit. Define
 * TILES(X) before: X(activation rows, weight rows) of tiles, most rows first, the
 * last of one row. */
#include "kernels/cpu/init.h"
#include "kernels/quant_blocks.h"

enum {
    LANES = 16,
    TILE_MAX = 8,
    N_BLOCK = 48, /* weight rows kept in the second-level cache for all of x */
};

/* Element size of a weight type, without the scales of F8_128. */
KERN_INLINE size_t size_of(infer_dtype type)
{
    switch (type) {
    case INFER_DTYPE_F32:
        return 4;
    case INFER_DTYPE_F8_E4M3:
    case INFER_DTYPE_F8_E5M2:
    case INFER_DTYPE_F8_128:
        return 1;
    default:
        return 2;
    }
}

KERN_INLINE vf load_w(const void *p, infer_dtype type)
{
    switch (type) {
    case INFER_DTYPE_F32:
        return vf_load(p);
    case INFER_DTYPE_F16:
        return vf_load_f16(p);
    case INFER_DTYPE_F8_E4M3:
        return vf_load_e4m3(p);
    case INFER_DTYPE_F8_E5M2:
        return vf_load_e5m2(p);
    default:
        return vf_load_bf16(p);
    }
}

/* Elements at .. at + 15 of a row. */
KERN_INLINE vf load_row(const uint8_t *row, size_t at, infer_dtype type)
{
    if (type == INFER_DTYPE_F8_128) {
        const struct kern_f8_128 *b = (const struct kern_f8_128 *)(const void *)row + at / KERN_F8;

        return vf_mul(vf_set1(kern_load_f32(b->d)), vf_load_e4m3(b->q + at % KERN_F8));
    }
    return load_w(row + at * size_of(type), type);
}

/* The first n < 16 elements, zeros behind. */
KERN_INLINE vf load_w_part(const void *p, size_t n, infer_dtype type)
{
    uint8_t buffer[LANES * sizeof(float)] = {0};

    memcpy(buffer, p, n * size_of(type));
    return load_w(buffer, type);
}

KERN_INLINE void prefetch(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += BASE_CACHE_LINE) {
        __builtin_prefetch((const char *)p + i, 0, 3);
    }
}

/* y of nw weight rows at w and nx activation rows at x. `fetch`: as many weight rows behind these
 * come next, and memory is asked for them in order of address, which the processor cannot foresee
 * from nw streams that all end soon. */
KERN_INLINE void tile(const struct kern_gemm_args *a, int32_t column, int32_t row, infer_dtype type,
                      int nw, int nx, int fetch)
{
    const uint8_t *w = (const uint8_t *)a->w + (size_t)column * a->w_stride;
    const uint8_t *x = (const uint8_t *)a->x + (size_t)row * a->x_stride;
    const size_t k = (size_t)a->k, tail = k % LANES;
    vf acc[TILE_MAX][TILE_MAX];

    KERN_UNROLL
    for (int i = 0; i < nx; i++) {
        KERN_UNROLL
        for (int r = 0; r < nw; r++) {
            acc[i][r] = vf_zero();
        }
    }
    for (size_t at = 0; at < k - tail; at += LANES) {
        vf xv[TILE_MAX];

        if (fetch) {
            prefetch(w + (size_t)nw * (a->w_stride + at * size_of(type)),
                     (size_t)nw * LANES * size_of(type));
        }
        KERN_UNROLL
        for (int i = 0; i < nx; i++) {
            xv[i] = vf_load(x + (size_t)i * a->x_stride + at * sizeof(float));
        }
        KERN_UNROLL
        for (int r = 0; r < nw; r++) {
            const vf wv = load_row(w + (size_t)r * a->w_stride, at, type);

            KERN_UNROLL
            for (int i = 0; i < nx; i++) {
                acc[i][r] = vf_fma(wv, xv[i], acc[i][r]);
            }
        }
    }
    if (tail > 0) {
        const size_t at = k - tail;

        KERN_UNROLL
        for (int r = 0; r < nw; r++) {
            const vf wv = load_w_part(w + (size_t)r * a->w_stride + at * size_of(type), tail, type);

            KERN_UNROLL
            for (int i = 0; i < nx; i++) {
                const uint8_t *p = x + (size_t)i * a->x_stride + at * sizeof(float);

                acc[i][r] = vf_fma(wv, load_w_part(p, tail, INFER_DTYPE_F32), acc[i][r]);
            }
        }
    }
    const float scale = kern_gemm_scale(a);

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

/* All columns of a block for nx activation rows; `last`: where the call's columns end. */
KERN_INLINE void run_rows(const struct kern_gemm_args *a, int32_t begin, int32_t end, int32_t last,
                          int32_t row, infer_dtype type, int nw, int nx)
{
    for (; begin + nw <= end; begin += nw) {
        if (row == 0 && begin + 2 * nw <= last) {
            tile(a, begin, row, type, nw, nx, 1);
        } else {
            tile(a, begin, row, type, nw, nx, 0);
        }
    }
    for (; begin < end; begin++) {
        tile(a, begin, row, type, 1, nx, 0);
    }
}

#include "kernels/cpu/gemm_packed_tmpl.h"

/* Packed weights, where there are any: whole groups; the rest is plain. */
KERN_INLINE void run(const struct kern_gemm_args *a, int32_t begin, int32_t end, infer_dtype type)
{
    if (a->packed && size_of(type) > 1) {
        const int32_t whole = a->n / KERN_PACK_ROWS * KERN_PACK_ROWS;

        packed_columns(a, begin, BASE_MIN(end, whole), type);
        begin = BASE_MAX(begin, whole);
    }
    for (int32_t block = begin; block < end; block += N_BLOCK) {
        const int32_t block_end = BASE_MIN(end, block + N_BLOCK);
        int32_t row = 0;

#define RUN_TILES(nx, nw)                                                                          \
    for (; row + nx <= a->m; row += nx) {                                                          \
        run_rows(a, block, block_end, end, row, type, nw, nx);                                     \
    }
        TILES(RUN_TILES)
#undef RUN_TILES
    }
}

#define GEMM(name, type)                                                                           \
    static void name(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)            \
    {                                                                                              \
        run(args, n_begin, n_end, type);                                                           \
    }

GEMM(gemm_f32, INFER_DTYPE_F32)
GEMM(gemm_f16, INFER_DTYPE_F16)
GEMM(gemm_bf16, INFER_DTYPE_BF16)
GEMM(gemm_f8_e4m3, INFER_DTYPE_F8_E4M3)
GEMM(gemm_f8_e5m2, INFER_DTYPE_F8_E5M2)
GEMM(gemm_f8_128, INFER_DTYPE_F8_128)

KERN_INLINE void gemm_float_init(struct kern_gemm *gemm)
{
    gemm->packed_floats_are_faster = 1;
    gemm->run[INFER_DTYPE_F32] = gemm_f32;
    gemm->run[INFER_DTYPE_F16] = gemm_f16;
    gemm->run[INFER_DTYPE_BF16] = gemm_bf16;
    gemm->run[INFER_DTYPE_F8_E4M3] = gemm_f8_e4m3;
    gemm->run[INFER_DTYPE_F8_E5M2] = gemm_f8_e5m2;
    gemm->run[INFER_DTYPE_F8_128] = gemm_f8_128;
}
