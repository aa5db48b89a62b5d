/* Products through BLAS: panels of weight rows become floats, then one SGEMM each. */
#include "kernels/cpu/gemm_openblas.h"

enum {
    CBLAS_ROW_MAJOR = 101,
    CBLAS_NO_TRANS = 111,
    CBLAS_TRANS = 112,
    SCRATCH_FLOATS = 1 << 20, /* large enough that SGEMM hides the expansion */
    ROWS_MIN = 16,
    ROWS_MAX = 512,
};

/* Weight rows expanded at a time. */
static int32_t panel_rows(int32_t k)
{
    const int32_t rows = SCRATCH_FLOATS / BASE_MAX(k, 1);

    return BASE_MAX(ROWS_MIN, BASE_MIN(rows, ROWS_MAX));
}

size_t kern_gemm_blas_scratch(int32_t k)
{
    return (size_t)panel_rows(k) * (size_t)k * sizeof(float);
}

/* Floats that lie as SGEMM wants them are multiplied where they are. */
static int usable_in_place(const struct kern_gemm_args *a, infer_dtype type)
{
    return type == INFER_DTYPE_F32 && (uintptr_t)a->w % sizeof(float) == 0 &&
           a->w_stride % sizeof(float) == 0;
}

static void add_bias(const struct kern_gemm_args *a, int32_t n_begin, int32_t n_end)
{
    for (int32_t i = 0; i < a->m; i++) {
        float *y = a->y + (size_t)i * a->y_stride;

        for (int32_t r = n_begin; r < n_end; r++) {
            y[r] += a->bias[r];
        }
    }
}

void kern_gemm_blas(const struct kern_gemm_args *a, infer_dtype type,
                    const struct kern_quant *quant, kern_sgemm_fn *sgemm, float *scratch,
                    int32_t n_begin, int32_t n_end)
{
    const int in_place = usable_in_place(a, type);
    const int32_t step = in_place ? BASE_MAX(n_end - n_begin, 1) : panel_rows(a->k);
    const int ldx = (int)(a->x_stride / sizeof(float));

    if (a->m == 0) {
        return;
    }
    for (int32_t r = n_begin; r < n_end; r += step) {
        const int32_t n = BASE_MIN(step, n_end - r);
        const uint8_t *w = (const uint8_t *)a->w + (size_t)r * a->w_stride;
        const float *b = in_place ? (const float *)(const void *)w : scratch;
        const int ldw = in_place ? (int)(a->w_stride / sizeof(float)) : a->k;

        for (int32_t i = 0; i < n && !in_place; i++) {
            quant->dequant[type](scratch + (size_t)i * (size_t)a->k, w + (size_t)i * a->w_stride,
                                 a->k);
        }
        sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_TRANS, a->m, n, a->k, kern_gemm_scale(a),
              (const float *)a->x, ldx, b, ldw, a->accumulate ? 1.0f : 0.0f, a->y + r,
              (int)a->y_stride);
    }
    if (a->bias) {
        add_bias(a, n_begin, n_end);
    }
}
