/* Template: products of packed float weights (kernels.h, kern_pack_fn), for gemm_float_tmpl.h.
 *
 * A group of sixteen weight rows is a stream of vectors, one an input, and each activation is
 * multiplied with a whole vector of them: a lane is an output, whose sum goes along k in order.
 * There is nothing to fold at the end, so that short rows are as fast as long ones. No tile
 * changes the order of any sum: results are batch-invariant, and all variants agree to the bit.
 * Define PACKED_TILES(X) before: X(activation rows, groups) of tiles, most rows first, the last of
 * one row. */

enum {
    PACKED_GROUPS_MAX = 4,
    PACKED_ROWS_MAX = 12,
    PACKED_X_BYTES = 384 << 10 /* activation rows that stay in the second-level cache for all w */
};

/* Columns that a call wants of the groups from `first` on. */
struct packed_part {
    int32_t first; /* a multiple of KERN_PACK_ROWS */
    int32_t begin, end;
};

KERN_INLINE void packed_store(const struct kern_gemm_args *a, const struct packed_part *p,
                              int32_t column, float *y, vf sum)
{
    float lanes[LANES];
    const int32_t begin = BASE_MAX(p->begin - column, 0);
    const int32_t end = BASE_MIN(p->end - column, (int32_t)LANES);

    if (begin == 0 && end == LANES) {
        if (a->bias) {
            sum = vf_fma(sum, vf_set1(1.0f), vf_load(a->bias + column));
        }
        if (a->accumulate) {
            sum = vf_fma(sum, vf_set1(1.0f), vf_load(y + column));
        }
        vf_store(y + column, sum);
        return;
    }
    vf_store(lanes, sum);
    for (int32_t i = begin; i < end; i++) {
        const float with_bias = lanes[i] + (a->bias ? a->bias[column + i] : 0.0f);

        y[column + i] = a->accumulate ? with_bias + y[column + i] : with_bias;
    }
}

/* nx rows from `row` on of ng groups. */
KERN_INLINE void packed_tile(const struct kern_gemm_args *a, const struct packed_part *p,
                             int32_t row, infer_dtype type, int nx, int ng)
{
    const size_t group = KERN_PACK_ROWS * a->w_stride, step = LANES * size_of(type);
    const uint8_t *w = (const uint8_t *)a->w + (size_t)p->first * a->w_stride;
    const uint8_t *x = (const uint8_t *)a->x + (size_t)row * a->x_stride;
    const vf scale = vf_set1(kern_gemm_scale(a));
    vf acc[PACKED_ROWS_MAX][PACKED_GROUPS_MAX];

    KERN_UNROLL
    for (int i = 0; i < nx; i++) {
        KERN_UNROLL
        for (int g = 0; g < ng; g++) {
            acc[i][g] = vf_zero();
        }
    }
    for (size_t at = 0; at < (size_t)a->k; at++) {
        vf wv[PACKED_GROUPS_MAX];

        KERN_UNROLL
        for (int g = 0; g < ng; g++) {
            wv[g] = load_w(w + (size_t)g * group + at * step, type);
        }
        KERN_UNROLL
        for (int i = 0; i < nx; i++) {
            float value;

            memcpy(&value, x + (size_t)i * a->x_stride + at * sizeof(float), sizeof(value));
            KERN_UNROLL
            for (int g = 0; g < ng; g++) {
                acc[i][g] = vf_fma(wv[g], vf_set1(value), acc[i][g]);
            }
        }
    }
    KERN_UNROLL
    for (int i = 0; i < nx; i++) {
        float *y = a->y + (size_t)(row + i) * a->y_stride;

        KERN_UNROLL
        for (int g = 0; g < ng; g++) {
            packed_store(a, p, p->first + g * LANES, y, vf_fma(acc[i][g], scale, vf_zero()));
        }
    }
}

/* Rows of `rows` activation rows from `row` on with ng groups at a time. */
KERN_INLINE void packed_rows(const struct kern_gemm_args *a, struct packed_part *p, int32_t row,
                             int32_t rows, infer_dtype type)
{
    const int32_t last = row + rows, first = p->first;

#define RUN_PACKED(nx, ng)                                                                         \
    for (; row + nx <= last; row += nx) {                                                          \
        p->first = first;                                                                          \
        for (; p->first + ng * LANES <= BASE_ALIGN_UP(p->end, (int32_t)LANES);                     \
             p->first += ng * LANES) {                                                             \
            packed_tile(a, p, row, type, nx, ng);                                                  \
        }                                                                                          \
        for (; p->first < p->end; p->first += LANES) {                                             \
            packed_tile(a, p, row, type, nx, 1);                                                   \
        }                                                                                          \
    }
    PACKED_TILES(RUN_PACKED)
#undef RUN_PACKED
}

/* Columns begin .. end - 1, all of whole groups: a few at a time for a block of rows, which reads
 * weights from the first-level cache and activations from the second. */
KERN_INLINE void packed_columns(const struct kern_gemm_args *a, int32_t begin, int32_t end,
                                infer_dtype type)
{
    const int32_t fit = PACKED_X_BYTES / (int32_t)sizeof(float) / BASE_MAX(a->k, 1);
    const int32_t block = BASE_MAX(fit / PACKED_ROWS_MAX, 1) * PACKED_ROWS_MAX;
    const int32_t wide = PACKED_GROUPS_MAX * LANES;

    for (int32_t row = 0; row < a->m; row += block) {
        for (int32_t first = begin / LANES * LANES; first < end; first += wide) {
            struct packed_part p = {first, BASE_MAX(begin, first), BASE_MIN(end, first + wide)};

            packed_rows(a, &p, row, BASE_MIN(block, a->m - row), type);
        }
    }
}
