/* Matrix products, reference: weights and activations become doubles, element
 * by element, and each output is one sum along k. */
#include "kernels/quant_blocks.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <string.h>

/* Reads elements at .. at + n - 1 of an activation row of k. */
typedef void read_x_fn(double *dst, const void *row, int32_t k, int32_t at, int32_t n);

static void read_x_f32(double *dst, const void *row, int32_t k, int32_t at, int32_t n)
{
    const uint8_t *p = (const uint8_t *)row + (size_t)at * sizeof(float);

    BASE_UNUSED(k);
    for (int32_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, p + (size_t)i * sizeof(bits), sizeof(bits));
        dst[i] = (double)kern_float_of_bits(bits);
    }
}

static void read_x_q8(double *dst, const void *row, int32_t k, int32_t at, int32_t n)
{
    const struct kern_act_row x = kern_act_row_of(row, k);

    for (int32_t i = at; i < at + n; i++) {
        dst[i - at] = (double)x.q[i] * (double)x.d[i / KERN_BLOCK];
    }
}

enum { CHUNK = KERN_SUPER }; /* a multiple of every type's block */

static double dot(const void *w, const void *x, int32_t k, size_t chunk_bytes,
                  kern_dequant_fn *dequant, read_x_fn *read_x)
{
    const uint8_t *p = w;
    float wf[CHUNK];
    double xd[CHUNK];
    double sum = 0.0;

    for (int32_t at = 0; at < k; at += CHUNK, p += chunk_bytes) {
        const int32_t n = BASE_MIN(CHUNK, k - at);

        dequant(wf, p, n);
        read_x(xd, x, k, at, n);
        for (int32_t i = 0; i < n; i++) {
            sum += (double)wf[i] * xd[i];
        }
    }
    return sum;
}

static void run(const struct kern_gemm_args *a, int32_t n_begin, int32_t n_end, size_t chunk_bytes,
                infer_dtype type, read_x_fn *read_x)
{
    struct kern_quant quant;

    kern_quant_init_ref(&quant);
    for (int32_t i = 0; i < a->m; i++) {
        const uint8_t *x = (const uint8_t *)a->x + (size_t)i * a->x_stride;
        float *y = a->y + (size_t)i * a->y_stride;

        for (int32_t r = n_begin; r < n_end; r++) {
            const uint8_t *w = (const uint8_t *)a->w + (size_t)r * a->w_stride;
            double sum = dot(w, x, a->k, chunk_bytes, quant.dequant[type], read_x);

            sum *= (double)kern_gemm_scale(a);
            sum += a->bias ? (double)a->bias[r] : 0.0;
            sum += a->accumulate ? (double)y[r] : 0.0;
            y[r] = (float)sum;
        }
    }
}

#define GEMM(dtype, chunk_bytes, read_x)                                                           \
    static void gemm_##dtype(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)    \
    {                                                                                              \
        run(args, n_begin, n_end, chunk_bytes, INFER_DTYPE_##dtype, read_x);                       \
    }
#define GEMM_FLOAT(dtype, type)           GEMM(dtype, CHUNK * sizeof(type), read_x_f32)
#define GEMM_QUANT(dtype, type, elements) GEMM(dtype, CHUNK / (elements) * sizeof(type), read_x_q8)

GEMM_FLOAT(F32, float)
GEMM_FLOAT(F16, uint16_t)
GEMM_FLOAT(BF16, uint16_t)
GEMM_FLOAT(F8_E4M3, uint8_t)
GEMM_FLOAT(F8_E5M2, uint8_t)
KERN_QUANT_LIST(GEMM_QUANT)

#define STORE(dtype, type, elements)                                                               \
    gemm->run[INFER_DTYPE_##dtype] = gemm_##dtype;                                                 \
    gemm->act[INFER_DTYPE_##dtype] = KERN_ACT_Q8;

void kern_gemm_init_ref(struct kern_gemm *gemm)
{
    gemm->run[INFER_DTYPE_F32] = gemm_F32;
    gemm->run[INFER_DTYPE_F16] = gemm_F16;
    gemm->run[INFER_DTYPE_BF16] = gemm_BF16;
    gemm->run[INFER_DTYPE_F8_E4M3] = gemm_F8_E4M3;
    gemm->run[INFER_DTYPE_F8_E5M2] = gemm_F8_E5M2;
    KERN_QUANT_LIST(STORE)
}
