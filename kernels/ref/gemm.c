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

static void read_x_bf16(double *dst, const void *row, int32_t k, int32_t at, int32_t n)
{
    const uint8_t *p = (const uint8_t *)row + (size_t)at * sizeof(uint16_t);

    BASE_UNUSED(k);
    for (int32_t i = 0; i < n; i++) {
        uint16_t bits;

        memcpy(&bits, p + (size_t)i * sizeof(bits), sizeof(bits));
        dst[i] = (double)kern_float_of_bf16(bits);
    }
}

static void read_x_q8(double *dst, const void *row, int32_t k, int32_t at, int32_t n)
{
    const struct kern_act_row x = kern_act_row_of(row, k);

    for (int32_t i = at; i < at + n; i++) {
        dst[i - at] = (double)x.q[i] * (double)x.d[i / KERN_BLOCK];
    }
}

static void read_x_fast(double *dst, const void *row, int32_t k, int32_t at, int32_t n)
{
    const struct kern_fast_row x = kern_fast_row_of(row, k);

    for (int32_t i = at; i < at + n; i++) {
        dst[i - at] = (double)x.q[i] * (double)x.d[i / KERN_FAST_SPAN];
    }
}

enum {
    CHUNK = KERN_SUPER, /* a multiple of every type's block */
    CHUNK_BYTES_MAX = CHUNK * sizeof(float),
};

/* A weight row: plain at p, or number `row` of the packed group at p. */
struct weights {
    const uint8_t *p;
    int32_t row;
    size_t chunk_bytes; /* of one row */
    kern_dequant_fn *dequant;
    kern_unpack_fn *unpack;                /* NULL: plain */
    const struct kern_pack_layout *layout; /* of packed ones */
};

/* The row's chunk number `chunk`, of n elements, as floats. */
static void read_w(float *dst, const struct weights *w, int32_t chunk, int32_t n)
{
    const size_t offset = (size_t)chunk * w->chunk_bytes;
    uint8_t plain[CHUNK_BYTES_MAX];

    if (!w->unpack) {
        w->dequant(dst, w->p + offset, n);
        return;
    }
    w->unpack(plain, w->p + KERN_PACK_ROWS * offset, w->row, w->layout,
              n / w->layout->block_elements);
    w->dequant(dst, plain, n);
}

static double dot(const struct weights *w, const void *x, int32_t k, read_x_fn *read_x)
{
    float wf[CHUNK];
    double xd[CHUNK];
    double sum = 0.0;

    for (int32_t at = 0; at < k; at += CHUNK) {
        const int32_t n = BASE_MIN(CHUNK, k - at);

        read_w(wf, w, at / CHUNK, n);
        read_x(xd, x, k, at, n);
        for (int32_t i = 0; i < n; i++) {
            sum += (double)wf[i] * xd[i];
        }
    }
    return sum;
}

static struct weights weights_of(const struct kern_gemm_args *a, const struct kern_quant *quant,
                                 int32_t r, size_t chunk_bytes, infer_dtype type)
{
    const int32_t row = r % KERN_PACK_ROWS;
    const int packed = a->packed && r - row + KERN_PACK_ROWS <= a->n;
    const int32_t first = packed ? r - row : r;

    return (struct weights){.p = (const uint8_t *)a->w + (size_t)first * a->w_stride,
                            .row = row,
                            .chunk_bytes = chunk_bytes,
                            .dequant = quant->dequant[type],
                            .unpack = packed ? quant->unpack : NULL,
                            .layout = kern_pack_layout_of(type)};
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
            const struct weights w = weights_of(a, &quant, r, chunk_bytes, type);
            double sum = dot(&w, x, a->k, read_x);

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
#define GEMM_FLOAT(dtype, type) GEMM(dtype, CHUNK * sizeof(type), read_x_f32)
#define GEMM_QUANT(dtype, type, elements)                                                          \
    GEMM(dtype, CHUNK / (elements) * sizeof(type), read_x_q8)                                      \
    static void fast_##dtype(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)    \
    {                                                                                              \
        run(args, n_begin, n_end, CHUNK / (elements) * sizeof(type), INFER_DTYPE_##dtype,          \
            read_x_fast);                                                                          \
    }

GEMM_FLOAT(F32, float)
GEMM_FLOAT(F16, uint16_t)
GEMM_FLOAT(BF16, uint16_t)
GEMM_FLOAT(F8_E4M3, uint8_t)
GEMM_FLOAT(F8_E5M2, uint8_t)
GEMM(F8_128, CHUNK / KERN_F8 * sizeof(struct kern_f8_128), read_x_f32)
KERN_QUANT_LIST(GEMM_QUANT)

static void gemm_bf16_bf16(const struct kern_gemm_args *args, int32_t n_begin, int32_t n_end)
{
    run(args, n_begin, n_end, CHUNK * sizeof(uint16_t), INFER_DTYPE_BF16, read_x_bf16);
}

#define STORE(dtype, type, elements)                                                               \
    gemm->run[INFER_DTYPE_##dtype] = gemm_##dtype;                                                 \
    gemm->run_fast[INFER_DTYPE_##dtype] = fast_##dtype;                                            \
    gemm->act[INFER_DTYPE_##dtype] = KERN_ACT_Q8;

void kern_gemm_init_ref(struct kern_gemm *gemm)
{
    gemm->sgemm_rows = 32; /* fewer are bound by reading weights */
    gemm->run[INFER_DTYPE_F32] = gemm_F32;
    gemm->run[INFER_DTYPE_F16] = gemm_F16;
    gemm->run[INFER_DTYPE_BF16] = gemm_BF16;
    gemm->run[INFER_DTYPE_F8_E4M3] = gemm_F8_E4M3;
    gemm->run[INFER_DTYPE_F8_E5M2] = gemm_F8_E5M2;
    gemm->run[INFER_DTYPE_F8_128] = gemm_F8_128;
    gemm->run_bf16[INFER_DTYPE_BF16] = gemm_bf16_bf16;
    KERN_QUANT_LIST(STORE)
}
