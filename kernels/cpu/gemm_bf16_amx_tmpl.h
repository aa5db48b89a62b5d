/* Template: products of BF16 weights and BF16 activations for many rows, for the vector words of
 * vec_avx512.h and the tile words included before (tile_amx.h).
 *
 * Two tiles of sixteen activation rows each are multiplied with two of sixteen weight rows. The
 * left ones are loaded from the activations as they lie; for the right ones weights are laid out
 * in pairs of inputs, sixteen rows side by side, a stretch of k for all activation rows. Sums
 * wait in memory between the stretches. */
#include "kernels/cpu/init.h"

enum {
    TILE = KERN_TILE_ROWS,
    STEP = 32,         /* inputs of a tile */
    K_BLOCK = 512,     /* inputs of a stretch: its weights fit the first-level cache */
    M_BLOCK = 8 * TILE /* activation rows that weights are laid out for at once */
};

/* A stretch of 32 weight rows: per step and group of sixteen, a tile. */
struct weights {
    vi w[K_BLOCK / STEP][2][TILE];
};

struct sums {
    vf y[2][M_BLOCK]; /* per group of sixteen columns */
};

/* Tiles 0 to 3 are sums, 4 and 5 activations, 6 and 7 weights. */
static void configure(void)
{
    struct kern_tile_config c = {.palette = 1};

    for (int i = 0; i < KERN_TILES; i++) {
        kern_tile_shape(&c, i, TILE, KERN_TILE_BYTES);
    }
    tile_configure(&c);
}

/* Inputs at .. at + n - 1 of two groups of weight rows. */
static void take_weights(struct weights *o, const uint8_t *const w[2], size_t stride, int32_t at,
                         int32_t n)
{
    for (int32_t s = 0; s < n / STEP; s++) {
        for (int g = 0; g < 2; g++) {
            const uint8_t *p = w[g] + 2 * (size_t)(at + s * STEP);

            KERN_UNROLL
            for (int j = 0; j < 4; j++) {
                vi_strided_16b(&o->w[s][g][4 * j], p + 16 * j, stride);
            }
        }
    }
}

/* Adds the products of n inputs to the sums of 32 rows (16 where not `both`). */
KERN_INLINE void multiply(vf *y0, vf *y1, const uint8_t *x, size_t x_stride,
                          const struct weights *w, int32_t n, int both)
{
    const uint8_t *x1 = x + TILE * x_stride;

    tile_load(0, y0, KERN_TILE_BYTES);
    tile_load(1, y1, KERN_TILE_BYTES);
    if (both) {
        tile_load(2, y0 + TILE, KERN_TILE_BYTES);
        tile_load(3, y1 + TILE, KERN_TILE_BYTES);
    }
    for (int32_t s = 0; s < n / STEP; s++) {
        tile_load(4, x + (size_t)s * KERN_TILE_BYTES, x_stride);
        tile_load(6, w->w[s][0], KERN_TILE_BYTES);
        tile_load(7, w->w[s][1], KERN_TILE_BYTES);
        tile_dot_bf16(0, 4, 6);
        tile_dot_bf16(1, 4, 7);
        if (both) {
            tile_load(5, x1 + (size_t)s * KERN_TILE_BYTES, x_stride);
            tile_dot_bf16(2, 5, 6);
            tile_dot_bf16(3, 5, 7);
        }
    }
    tile_store(0, y0, KERN_TILE_BYTES);
    tile_store(1, y1, KERN_TILE_BYTES);
    if (both) {
        tile_store(2, y0 + TILE, KERN_TILE_BYTES);
        tile_store(3, y1 + TILE, KERN_TILE_BYTES);
    }
}

/* Columns column .. end - 1, at most sixteen, of m rows; the sums begin at column `first`. */
static void store(const struct kern_gemm_args *a, int32_t row, int32_t m, int32_t first,
                  int32_t column, int32_t end, const vf *sums)
{
    const float scale = kern_gemm_scale(a);

    for (int32_t i = 0; i < m; i++) {
        float *y = a->y + (size_t)(row + i) * a->y_stride;
        float v[TILE];

        vf_store(v, vf_mul(sums[i], vf_set1(scale)));
        for (int32_t c = column; c < end; c++) {
            const float sum = v[c - first] + (a->bias ? a->bias[c] : 0.0f);

            y[c] = a->accumulate ? sum + y[c] : sum;
        }
    }
}

/* Columns begin .. end - 1, at most 32, of m rows, a multiple of sixteen up to M_BLOCK. Where
 * weight rows end, earlier ones are taken along. */
static void run_block(const struct kern_gemm_args *a, int32_t row, int32_t m, int32_t begin,
                      int32_t end)
{
    const int32_t second = begin + TILE;
    const int32_t first[2] = {BASE_MIN(begin, a->n - TILE), BASE_MIN(second, a->n - TILE)};
    const uint8_t *w = a->w, *x = (const uint8_t *)a->x + (size_t)row * a->x_stride;
    const uint8_t *const groups[2] = {w + (size_t)first[0] * a->w_stride,
                                      w + (size_t)first[1] * a->w_stride};
    struct weights stretch;
    struct sums sums;

    for (int32_t i = 0; i < m; i++) {
        sums.y[0][i] = sums.y[1][i] = vf_zero();
    }
    for (int32_t at = 0; at < a->k; at += K_BLOCK) {
        const int32_t n = BASE_MIN(K_BLOCK, a->k - at);
        int32_t i = 0;

        take_weights(&stretch, groups, a->w_stride, at, n);
        for (; i < m; i += 2 * TILE) {
            const uint8_t *p = x + (size_t)i * a->x_stride + 2 * (size_t)at;

            if (i + 2 * TILE <= m) {
                multiply(sums.y[0] + i, sums.y[1] + i, p, a->x_stride, &stretch, n, 1);
            } else {
                multiply(sums.y[0] + i, sums.y[1] + i, p, a->x_stride, &stretch, n, 0);
            }
        }
    }
    store(a, row, m, first[0], begin, BASE_MIN(second, end), sums.y[0]);
    store(a, row, m, first[1], second, end, sums.y[1]);
}

/* Rows that fill no tile, and all where inputs do not fill one: by vectors. */
static void run_rest(const struct kern_gemm_args *a, int32_t row, int32_t begin, int32_t end)
{
    struct kern_gemm_args rest = *a;
    struct kern_gemm below;

    kern_gemm_bf16_init_avx512bf16(&below);
    rest.m = a->m - row;
    rest.x = (const uint8_t *)a->x + (size_t)row * a->x_stride;
    rest.y = a->y + (size_t)row * a->y_stride;
    below.run_bf16[INFER_DTYPE_BF16](&rest, begin, end);
}

static void gemm_bf16(const struct kern_gemm_args *a, int32_t n_begin, int32_t n_end)
{
    const int fits = a->k % STEP == 0 && a->n >= TILE;
    const int32_t m = fits ? a->m / TILE * TILE : 0;

    if (m > 0) {
        configure();
        for (int32_t begin = n_begin; begin < n_end; begin += 2 * TILE) {
            for (int32_t row = 0; row < m; row += M_BLOCK) {
                run_block(a, row, BASE_MIN(M_BLOCK, m - row), begin,
                          BASE_MIN(begin + 2 * TILE, n_end));
            }
        }
        tile_release();
    }
    if (m < a->m) {
        run_rest(a, m, n_begin, n_end);
    }
}

/* The least number of rows for which it pays stays that of the level below. */
KERN_INLINE void gemm_bf16_amx_init(struct kern_gemm *gemm)
{
    gemm->run_bf16[INFER_DTYPE_BF16] = gemm_bf16;
    gemm->bf16_stable[INFER_DTYPE_BF16] = 0;
}
