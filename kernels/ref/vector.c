/* Comparing vectors, reference. */
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <math.h>

/* ------------------------------------------------------- a query and rows */

static double element(const void *row, infer_dtype type, int32_t i)
{
    const uint8_t *p = row;
    float f;

    switch (type) {
    case INFER_DTYPE_F32:
        memcpy(&f, p + 4 * (size_t)i, sizeof(f));
        return (double)f;
    case INFER_DTYPE_F16:
        return (double)kern_float_of_f16(kern_load_u16(p + 2 * (size_t)i));
    case INFER_DTYPE_BF16:
        return (double)kern_float_of_bf16(kern_load_u16(p + 2 * (size_t)i));
    default:
        return (double)((const int8_t *)row)[i];
    }
}

static float dot_row(const float *query, const void *row, infer_dtype type, double scale,
                     int32_t dims)
{
    double sum = 0.0;

    for (int32_t i = 0; i < dims; i++) {
        sum += (double)query[i] * element(row, type, i);
    }
    return (float)(sum * scale);
}

static float l2_row(const float *query, const void *row, infer_dtype type, double scale,
                    int32_t dims)
{
    double sum = 0.0;

    for (int32_t i = 0; i < dims; i++) {
        const double d = (double)query[i] - element(row, type, i) * scale;

        sum += d * d;
    }
    return (float)sum;
}

#define ROWS(name, type, row_fn, scale)                                                            \
    static void name(float *out, const float *query, const void *const *rows, const float *scales, \
                     int32_t n, int32_t dims)                                                      \
    {                                                                                              \
        (void)scales;                                                                              \
        for (int32_t i = 0; i < n; i++) {                                                          \
            out[i] = row_fn(query, rows[i], type, scale, dims);                                    \
        }                                                                                          \
    }

ROWS(dot_f32, INFER_DTYPE_F32, dot_row, 1.0)
ROWS(dot_f16, INFER_DTYPE_F16, dot_row, 1.0)
ROWS(dot_bf16, INFER_DTYPE_BF16, dot_row, 1.0)
ROWS(dot_s8, INFER_DTYPE_I8, dot_row, scales ? (double)scales[i] : 1.0)
ROWS(l2_f32, INFER_DTYPE_F32, l2_row, 1.0)
ROWS(l2_f16, INFER_DTYPE_F16, l2_row, 1.0)
ROWS(l2_bf16, INFER_DTYPE_BF16, l2_row, 1.0)
ROWS(l2_s8, INFER_DTYPE_I8, l2_row, scales ? (double)scales[i] : 1.0)

static int32_t dot_bytes(const int8_t *a, const int8_t *b, int32_t n)
{
    int32_t sum = 0;

    for (int32_t i = 0; i < n; i++) {
        sum += (int32_t)a[i] * (int32_t)b[i];
    }
    return sum;
}

static void dot_i8(int32_t *out, const int8_t *query, const void *const *rows, int32_t n,
                   int32_t dims)
{
    for (int32_t i = 0; i < n; i++) {
        out[i] = dot_bytes(query, rows[i], dims);
    }
}

static void hamming(int32_t *out, const void *query, const void *const *rows, int32_t n,
                    int32_t bytes)
{
    for (int32_t i = 0; i < n; i++) {
        const uint8_t *a = query, *b = rows[i];

        out[i] = 0;
        for (int32_t j = 0; j < bytes; j++) {
            for (unsigned rest = (unsigned)(a[j] ^ b[j]); rest; rest &= rest - 1) {
                out[i]++;
            }
        }
    }
}

/* ------------------------------------------------------------------- bytes */

/* A NaN gives -127. */
static int8_t byte_of(float x)
{
    const float r = rintf(x);

    return (int8_t)(r > -127.0f ? r < 127.0f ? (int)r : 127 : -127);
}

#define CODE(name, type)                                                                           \
    static void name(int8_t *dst, const void *src, float factor, int32_t dims)                     \
    {                                                                                              \
        for (int32_t i = 0; i < dims; i++) {                                                       \
            dst[i] = byte_of((float)element(src, type, i) * factor);                               \
        }                                                                                          \
    }

CODE(code_f32, INFER_DTYPE_F32)
CODE(code_f16, INFER_DTYPE_F16)
CODE(code_bf16, INFER_DTYPE_BF16)

static float quantize(int8_t *dst, const float *src, int32_t dims)
{
    float max = 0.0f;

    for (int32_t i = 0; i < dims; i++) {
        max = fmaxf(max, fabsf(src[i]));
    }
    if (max < 0x1p-120f) { /* 127 / max would be beyond a float */
        memset(dst, 0, (size_t)dims);
        return 0.0f;
    }
    code_f32(dst, src, 127.0f / max, dims);
    return max / 127.0f;
}

float kern_vector_normalize_ref(float *dst, const float *src, int32_t dims)
{
    double sum = 0.0;

    for (int32_t i = 0; i < dims; i++) {
        sum += (double)src[i] * (double)src[i];
    }
    if (sum == 0.0) {
        memset(dst, 0, (size_t)dims * sizeof(*dst));
        return 0.0f;
    }
    for (int32_t i = 0; i < dims; i++) {
        dst[i] = (float)((double)src[i] / sqrt(sum));
    }
    return (float)sqrt(sum);
}

/* ------------------------------------------------------------------- tiles */

void kern_vector_pack(int8_t *panel, const int8_t *queries, size_t stride, int32_t n, int32_t dims)
{
    const size_t fours = ((size_t)dims + 3) / 4;

    memset(panel, 0, kern_vector_panel_bytes(dims));
    for (int32_t q = 0; q < n; q++) {
        const int8_t *query = queries + (size_t)q * stride;
        int32_t sum = 0;

        for (int32_t i = 0; i < dims; i++) {
            panel[(size_t)(i / 4) * 64 + (size_t)q * 4 + (size_t)(i % 4)] = query[i];
            sum += query[i];
        }
        memcpy(panel + fours * 64 + (size_t)q * 4, &sum, sizeof(sum));
    }
}

static int32_t tile_dot(const int8_t *panel, int32_t q, const int8_t *row, int32_t dims)
{
    int32_t sum = 0;

    for (int32_t i = 0; i < dims; i++) {
        sum += (int32_t)panel[(size_t)(i / 4) * 64 + (size_t)q * 4 + (size_t)(i % 4)] *
               (int32_t)row[i];
    }
    return sum;
}

static int is_hit(const struct kern_vector_note *note, const struct kern_vector_limits *limits,
                  int32_t q, int32_t d)
{
    const double most = (double)note->scale * (double)d +
                        (double)note->length * (double)limits->length[q] +
                        (double)note->error * (double)limits->error[q] +
                        (double)note->square * (double)limits->square[q];

    return most >= (double)limits->least[q];
}

static int32_t tile(struct kern_vector_hit *hits, const struct kern_vector_tile *args)
{
    int32_t n = 0;

    for (int32_t p = 0; p < args->n_panels; p++) {
        const int8_t *panel = args->panels + (size_t)p * kern_vector_panel_bytes(args->dims);

        for (int32_t r = 0; r < args->n_rows; r++) {
            for (int32_t q = 0; q < KERN_VECTOR_PANEL; q++) {
                const int32_t d = tile_dot(panel, q, args->rows[r], args->dims);

                if (is_hit(&args->notes[r], &args->limits[p], q, d)) {
                    hits[n++] = (struct kern_vector_hit){r, p * KERN_VECTOR_PANEL + q};
                }
            }
        }
    }
    return n;
}

void kern_vector_init_ref(struct kern_vector *vector)
{
    vector->dot[INFER_DTYPE_F32] = dot_f32;
    vector->dot[INFER_DTYPE_F16] = dot_f16;
    vector->dot[INFER_DTYPE_BF16] = dot_bf16;
    vector->dot[INFER_DTYPE_I8] = dot_s8;
    vector->l2[INFER_DTYPE_F32] = l2_f32;
    vector->l2[INFER_DTYPE_F16] = l2_f16;
    vector->l2[INFER_DTYPE_BF16] = l2_bf16;
    vector->l2[INFER_DTYPE_I8] = l2_s8;
    vector->dot_i8 = dot_i8;
    vector->hamming = hamming;
    vector->code[INFER_DTYPE_F32] = code_f32;
    vector->code[INFER_DTYPE_F16] = code_f16;
    vector->code[INFER_DTYPE_BF16] = code_bf16;
    vector->quantize = quantize;
    vector->normalize = kern_vector_normalize_ref;
    vector->tile = tile;
}
