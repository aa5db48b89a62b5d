/* Template: one query of floats compared with rows, and vectors as bytes, over the words of
 * reg_<isa>.h and
 *   reg_sums4(out, x)      out[i] = sum of the lanes of x[i], all in the same order
 *   reg_store_s8(p, x)     REG bytes, rounded to nearest even; -127 <= x <= 127 */
#include "kernels/cpu/init.h"
#include "kernels/ref/ref.h"

#include <math.h>

enum {
    ROWS = 4,                 /* that share the query's registers */
    SUMS = REG == 16 ? 4 : 2, /* of a row, so that additions need not wait for each other */
    STEP = SUMS * REG,        /* elements */
    AHEAD_BYTES = 6 << 10,    /* of rows that are asked for before they are needed */
    AHEAD_ROW_BYTES = 4 << 10 /* longer rows are read ahead by the processor itself */
};

enum row_type { ROW_F32 = 4, ROW_F16 = 2, ROW_BF16 = 3, ROW_S8 = 1 };

KERN_INLINE size_t row_size(enum row_type type)
{
    return type == ROW_F32 ? 4 : type == ROW_S8 ? 1 : 2;
}

KERN_INLINE reg row_load(const uint8_t *p, enum row_type type)
{
    return type == ROW_F32    ? reg_load(p)
           : type == ROW_F16  ? reg_load_f16(p)
           : type == ROW_BF16 ? reg_load_bf16(p)
                              : reg_load_s8(p);
}

/* The first n elements, zeros after; touches no others. */
KERN_INLINE reg row_load_part(const uint8_t *p, int32_t n, enum row_type type)
{
    uint8_t part[REG * 4] = {0};

    memcpy(part, p, (size_t)n * row_size(type));
    return row_load(part, type);
}

/* ------------------------------------------------------- a query and rows */

/* What is done with rows, all constants. */
struct row_work {
    enum row_type type;
    int is_l2;
    int n; /* rows at a time */
};

KERN_INLINE reg row_add(reg sum, reg x, reg y, reg scale, struct row_work work)
{
    if (!work.is_l2) {
        return reg_fma(x, y, sum);
    }
    y = work.type == ROW_S8 ? reg_fnma(scale, y, x) : reg_sub(x, y);
    return reg_fma(y, y, sum);
}

/* Elements i .. i + STEP - 1 of rows that come later. */
KERN_INLINE void row_ask(const void *const *ahead, int32_t i, struct row_work work)
{
    const size_t step = STEP * row_size(work.type), at = (size_t)i * row_size(work.type);

    if (step < 64 && at % 64 != 0) {
        return;
    }
    KERN_UNROLL
    for (int r = 0; r < work.n; r++) {
        for (size_t b = 0; b < step; b += 64) {
            __builtin_prefetch((const uint8_t *)ahead[r] + at + b);
        }
    }
}

/* One value a row: the sums in pairs, then their lanes. */
KERN_INLINE void row_totals(float *out, reg sum[ROWS][SUMS], const float *scales,
                            struct row_work work)
{
    reg total[ROWS];
    float values[ROWS];

    KERN_UNROLL
    for (int r = 0; r < ROWS; r++) {
        const int q = r < work.n ? r : 0;

        total[r] = reg_add(sum[q][0], sum[q][1]);
        if (SUMS == 4) {
            total[r] = reg_add(total[r], reg_add(sum[q][2 % SUMS], sum[q][3 % SUMS]));
        }
    }
    reg_sums4(values, total);
    for (int r = 0; r < work.n; r++) {
        out[r] = work.type == ROW_S8 && !work.is_l2 && scales ? values[r] * scales[r] : values[r];
    }
}

/* The order of additions is that of a row alone. `ahead` may be NULL. */
KERN_INLINE void row_group(float *out, const float *query, const void *const *rows,
                           const void *const *ahead, const float *scales, int32_t dims,
                           struct row_work work)
{
    const size_t size = row_size(work.type);
    const uint8_t *p[ROWS];
    reg sum[ROWS][SUMS], scale[ROWS];
    int32_t i = 0;

    KERN_UNROLL
    for (int r = 0; r < work.n; r++) {
        p[r] = rows[r];
        scale[r] = reg_set1(work.type == ROW_S8 && scales ? scales[r] : 1.0f);
        KERN_UNROLL
        for (int s = 0; s < SUMS; s++) {
            sum[r][s] = reg_zero();
        }
    }
    for (; i + STEP <= dims; i += STEP) {
        if (ahead) {
            row_ask(ahead, i, work);
        }
        KERN_UNROLL
        for (int s = 0; s < SUMS; s++) {
            const reg x = reg_load(query + i + s * REG);

            KERN_UNROLL
            for (int r = 0; r < work.n; r++) {
                const reg y = row_load(p[r] + (size_t)(i + s * REG) * size, work.type);

                sum[r][s] = row_add(sum[r][s], x, y, scale[r], work);
            }
        }
    }
    for (; i < dims; i += REG) {
        const int32_t n = dims - i < REG ? dims - i : REG;
        const reg x = reg_load_part(query + i, n);

        KERN_UNROLL
        for (int r = 0; r < work.n; r++) {
            const uint8_t *at = p[r] + (size_t)i * size;
            const reg y = n == REG ? row_load(at, work.type) : row_load_part(at, n, work.type);

            sum[r][0] = row_add(sum[r][0], x, y, scale[r], work);
        }
    }
    row_totals(out, sum, scales, work);
}

KERN_INLINE void row_list(float *out, const float *query, const void *const *rows,
                          const float *scales, int32_t n, int32_t dims, enum row_type type,
                          int is_l2)
{
    const size_t bytes = (size_t)dims * row_size(type);
    const int32_t ahead =
        bytes > AHEAD_ROW_BYTES ? n : (int32_t)(AHEAD_BYTES / (bytes + 1) / ROWS * ROWS) + ROWS;
    const struct row_work four = {type, is_l2, ROWS}, one = {type, is_l2, 1};
    int32_t i = 0;

    for (; i + ROWS <= n; i += ROWS) {
        row_group(out + i, query, rows + i, i + ahead + ROWS <= n ? rows + i + ahead : NULL,
                  scales ? scales + i : NULL, dims, four);
    }
    for (; i < n; i++) {
        row_group(out + i, query, rows + i, NULL, scales ? scales + i : NULL, dims, one);
    }
}

#define ROW_LIST(name, type, is_l2)                                                                \
    static void name(float *out, const float *query, const void *const *rows, const float *scales, \
                     int32_t n, int32_t dims)                                                      \
    {                                                                                              \
        row_list(out, query, rows, scales, n, dims, type, is_l2);                                  \
    }

ROW_LIST(dot_f32, ROW_F32, 0)
ROW_LIST(dot_f16, ROW_F16, 0)
ROW_LIST(dot_bf16, ROW_BF16, 0)
ROW_LIST(dot_s8, ROW_S8, 0)
ROW_LIST(l2_f32, ROW_F32, 1)
ROW_LIST(l2_f16, ROW_F16, 1)
ROW_LIST(l2_bf16, ROW_BF16, 1)
ROW_LIST(l2_s8, ROW_S8, 1)

/* ------------------------------------------------------------------- bytes */

KERN_INLINE void row_code(int8_t *dst, const void *src, float factor, int32_t dims,
                          enum row_type type)
{
    const reg f = reg_set1(factor), most = reg_set1(127.0f), least = reg_set1(-127.0f);
    const uint8_t *p = src;
    int32_t i = 0;

    for (; i + REG <= dims; i += REG) {
        const reg x = reg_mul(row_load(p + (size_t)i * row_size(type), type), f);

        reg_store_s8(dst + i, reg_min(reg_max(x, least), most));
    }
    if (i < dims) {
        const reg x = reg_mul(row_load_part(p + (size_t)i * row_size(type), dims - i, type), f);
        int8_t part[REG];

        reg_store_s8(part, reg_min(reg_max(x, least), most));
        memcpy(dst + i, part, (size_t)(dims - i));
    }
}

static void code_f32(int8_t *dst, const void *src, float factor, int32_t dims)
{
    row_code(dst, src, factor, dims, ROW_F32);
}

static void code_f16(int8_t *dst, const void *src, float factor, int32_t dims)
{
    row_code(dst, src, factor, dims, ROW_F16);
}

static void code_bf16(int8_t *dst, const void *src, float factor, int32_t dims)
{
    row_code(dst, src, factor, dims, ROW_BF16);
}

static float quantize(int8_t *dst, const float *src, int32_t dims)
{
    reg most = reg_zero();
    float max;

    for (int32_t i = 0; i < dims; i += REG) {
        const reg x = reg_load_part(src + i, dims - i < REG ? dims - i : REG);

        most = reg_max(most, reg_max(x, reg_sub(reg_zero(), x)));
    }
    max = reg_max_all(most);
    if (max < 0x1p-120f) {
        memset(dst, 0, (size_t)dims);
        return 0.0f;
    }
    code_f32(dst, src, 127.0f / max, dims);
    return max / 127.0f;
}

static float normalize(float *dst, const float *src, int32_t dims)
{
    struct reg_total sum = reg_total_zero();
    double length;
    reg scale;

    for (int32_t i = 0; i < dims; i += REG) {
        reg_total_add_square(&sum, reg_load_part(src + i, dims - i < REG ? dims - i : REG));
    }
    length = sqrt(reg_total_value(sum));
    if (!(length > 0x1p-100 && length < 0x1p100)) { /* a factor would be no float */
        return kern_vector_normalize_ref(dst, src, dims);
    }
    scale = reg_set1((float)(1.0 / length));
    for (int32_t i = 0; i < dims; i += REG) {
        const int32_t n = dims - i < REG ? dims - i : REG;

        reg_store_part(dst + i, n, reg_mul(reg_load_part(src + i, n), scale));
    }
    return (float)length;
}

KERN_INLINE void vector_init_floats(struct kern_vector *vector)
{
    vector->dot[INFER_DTYPE_F32] = dot_f32;
    vector->dot[INFER_DTYPE_F16] = dot_f16;
    vector->dot[INFER_DTYPE_BF16] = dot_bf16;
    vector->dot[INFER_DTYPE_I8] = dot_s8;
    vector->l2[INFER_DTYPE_F32] = l2_f32;
    vector->l2[INFER_DTYPE_F16] = l2_f16;
    vector->l2[INFER_DTYPE_BF16] = l2_bf16;
    vector->l2[INFER_DTYPE_I8] = l2_s8;
    vector->code[INFER_DTYPE_F32] = code_f32;
    vector->code[INFER_DTYPE_F16] = code_f16;
    vector->code[INFER_DTYPE_BF16] = code_bf16;
    vector->quantize = quantize;
    vector->normalize = normalize;
}
