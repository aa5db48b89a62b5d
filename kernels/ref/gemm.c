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

            sum += a->bias ? (double)a->bias[r] : 0.0;
            sum += a->accumulate ? (double)y[r] : 0.0;
            y[r] = (float)sum;
        }
    }
}

#define GEMM(name, dtype, chunk_bytes, read_x)                                                     \
    static void name(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)            \
    {                                                                                              \
        run(args, n_begin, n_end, chunk_bytes, INFER_DTYPE_##dtype, read_x);                       \
    }

GEMM(gemm_f32, F32, CHUNK * sizeof(float), read_x_f32)
GEMM(gemm_f16, F16, CHUNK * sizeof(uint16_t), read_x_f32)
GEMM(gemm_bf16, BF16, CHUNK * sizeof(uint16_t), read_x_f32)
GEMM(gemm_q8_0, Q8_0, CHUNK / KERN_BLOCK * sizeof(struct kern_q8_0), read_x_q8)
GEMM(gemm_q4_0, Q4_0, CHUNK / KERN_BLOCK * sizeof(struct kern_q4_0), read_x_q8)
GEMM(gemm_q4_k, Q4_K, sizeof(struct kern_q4_k), read_x_q8)
GEMM(gemm_q6_k, Q6_K, sizeof(struct kern_q6_k), read_x_q8)

void kern_gemm_init_ref(struct kern_gemm *gemm)
{
    gemm->run[INFER_DTYPE_F32] = gemm_f32;
    gemm->run[INFER_DTYPE_F16] = gemm_f16;
    gemm->run[INFER_DTYPE_BF16] = gemm_bf16;
    gemm->run[INFER_DTYPE_Q8_0] = gemm_q8_0;
    gemm->run[INFER_DTYPE_Q4_0] = gemm_q4_0;
    gemm->run[INFER_DTYPE_Q4_K] = gemm_q4_k;
    gemm->run[INFER_DTYPE_Q6_K] = gemm_q6_k;
    gemm->act[INFER_DTYPE_Q8_0] = KERN_ACT_Q8;
    gemm->act[INFER_DTYPE_Q4_0] = KERN_ACT_Q8;
    gemm->act[INFER_DTYPE_Q4_K] = KERN_ACT_Q8;
    gemm->act[INFER_DTYPE_Q6_K] = KERN_ACT_Q8;
}
