/* Checks and timing of kernels/<level>/vector*. */
#include "vector_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int32_t sizes[] = {1,  2,  3,  7,  8,   15,  16,  17,  31,  32,  33,  48,  63,
                                64, 65, 96, 97, 127, 128, 129, 200, 255, 256, 384, 777, 1536};

/* ------------------------------------------------------- a query and rows */

static size_t row_bytes(infer_dtype type, int32_t dims)
{
    const size_t size = type == INFER_DTYPE_F32 ? 4 : type == INFER_DTYPE_I8 ? 1 : 2;

    return size * (size_t)dims;
}

void vector_make_rows(struct check *c, struct rows *rows, infer_dtype type, int32_t n, int32_t dims)
{
    float *values = check_floats(c, (size_t)dims);

    rows->n = n;
    for (int32_t r = 0; r < n; r++) {
        void *row = check_buffer(c, row_bytes(type, dims), 1);

        rows->scales[r] = check_uniform(c, 0.001f, 0.02f);
        if (type == INFER_DTYPE_I8) {
            check_fill_bytes(c, row, (size_t)dims);
        } else {
            check_fill(c, values, (size_t)dims, -1.0f, 1.0f);
            c->ref->quant.narrow[type](row, values, dims);
        }
        rows->at[r] = row;
    }
}

static kern_vector_fn *entry_of(const struct infer_kernels *k, infer_dtype type, int is_l2)
{
    return is_l2 ? k->vector.l2[type] : k->vector.dot[type];
}

/* Sums of floats: an error of a few units in the last place of the terms' sizes. */
static void rows_random(struct check *c, int32_t n, int32_t dims, int is_l2, int scaled)
{
    const struct check_bound bound = {
        1e-6 * sqrt((double)dims) * (c->dtype == INFER_DTYPE_I8 && !scaled ? 128 : 1), 1e-6, 1e-9};
    kern_vector_fn *dut = entry_of(c->dut, c->dtype, is_l2);
    float *query = check_floats(c, (size_t)dims);
    float *want = check_floats(c, (size_t)n), *got = check_floats(c, (size_t)n);
    float *one = check_floats(c, 1);
    struct rows rows;

    check_fill(c, query, (size_t)dims, -1.0f, 1.0f);
    vector_make_rows(c, &rows, c->dtype, n, dims);
    entry_of(c->ref, c->dtype, is_l2)(want, query, rows.at, scaled ? rows.scales : NULL, n, dims);
    dut(got, query, rows.at, scaled ? rows.scales : NULL, n, dims);
    check_close(c, got, want, (size_t)n, bound, "%d rows of %d", (int)n, (int)dims);
    for (int32_t r = 0; r < n; r++) {
        dut(one, query, rows.at + r, scaled ? rows.scales + r : NULL, 1, dims);
        check_same_bytes(c, one, got + r, sizeof(*one), "row %d of %d alone, %d elements", (int)r,
                         (int)n, (int)dims);
    }
    check_release(c);
}

static void rows_known(struct check *c, int is_l2)
{
    static const float x[5] = {1.0f, -2.0f, 0.5f, 3.0f, 1.0f}, y[5] = {2.0f, 1.0f, 4.0f, -1.0f, 0};
    static const int8_t bytes[5] = {2, 1, 4, -1, 0};
    const float want[2] = {is_l2 ? 1.0f + 9.0f + 12.25f + 16.0f + 1.0f : -1.0f,
                           is_l2 ? 0.0f + 6.25f + 2.25f + 12.25f + 1.0f : -0.5f};
    void *row = check_buffer(c, row_bytes(c->dtype, 5), 1);
    const void *rows[1] = {row};
    const float half = 0.5f;
    float got;

    if (c->dtype == INFER_DTYPE_I8) {
        memcpy(row, bytes, sizeof(bytes));
        entry_of(c->dut, c->dtype, is_l2)(&got, x, rows, &half, 1, 5);
        check_close(c, &got, &want[1], 1, (struct check_bound){0, 1e-6, 1e-9}, "by hand, halved");
    } else {
        c->ref->quant.narrow[c->dtype](row, y, 5);
    }
    entry_of(c->dut, c->dtype, is_l2)(&got, x, rows, NULL, 1, 5);
    check_close(c, &got, &want[0], 1, (struct check_bound){0, 1e-6, 1e-9}, "by hand");
    check_release(c);
}

static void check_rows(struct check *c, int is_l2)
{
    rows_known(c, is_l2);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        rows_random(c, 5, sizes[i], is_l2, 1);
        rows_random(c, 1 + (int32_t)(i % 4), sizes[i], is_l2, 0);
    }
    rows_random(c, ROWS_MAX, 100, is_l2, 1); /* rows ahead */
    rows_random(c, ROWS_MAX, 384, is_l2, 1);
    rows_random(c, 9, 5000, is_l2, 1);
}

void check_vector_dot(struct check *c)
{
    check_rows(c, 0);
}

void check_vector_l2(struct check *c)
{
    check_rows(c, 1);
}

void vector_fill_query(struct check *c, int8_t *query, int32_t dims)
{
    for (int32_t i = 0; i < dims; i++) {
        query[i] = (int8_t)check_range(c, -127, 127);
    }
}

static void bytes_random(struct check *c, int32_t n, int32_t dims)
{
    int8_t *query = check_buffer(c, (size_t)dims, 1);
    int32_t *want = check_buffer(c, (size_t)n * 4, 4), *got = check_buffer(c, (size_t)n * 4, 4);
    struct rows rows;

    vector_fill_query(c, query, dims);
    vector_make_rows(c, &rows, INFER_DTYPE_I8, n, dims);
    if (n > 2) { /* the largest sums of both signs */
        memset(query, 127, (size_t)dims);
        memset((void *)(uintptr_t)rows.at[0], -127, (size_t)dims);
        memset((void *)(uintptr_t)rows.at[1], 127, (size_t)dims);
    }
    c->ref->vector.dot_i8(want, query, rows.at, n, dims);
    c->dut->vector.dot_i8(got, query, rows.at, n, dims);
    check_same_bytes(c, got, want, (size_t)n * 4, "%d rows of %d", (int)n, (int)dims);
    check_release(c);
}

void check_vector_dot_i8(struct check *c)
{
    static const int8_t x[3] = {127, -127, 5}, y[3] = {-127, 127, 1};
    const void *rows[1] = {y};
    int32_t got;

    c->dut->vector.dot_i8(&got, x, rows, 1, 3);
    check_true(c, got == 5 - 2 * 127 * 127, "by hand");
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        bytes_random(c, 1 + (int32_t)(i % 9), sizes[i]);
    }
    bytes_random(c, ROWS_MAX, 384);
    bytes_random(c, 6, 8192);
}

void check_vector_hamming(struct check *c)
{
    for (int32_t bytes = 8; bytes <= 1024; bytes += bytes < 200 ? 8 : 264) {
        const int32_t n = check_range(c, 1, 9);
        void *query = check_buffer(c, (size_t)bytes, 1);
        int32_t *want = check_buffer(c, (size_t)n * 4, 4), *got = check_buffer(c, (size_t)n * 4, 4);
        struct rows rows;

        check_fill_bytes(c, query, (size_t)bytes);
        vector_make_rows(c, &rows, INFER_DTYPE_I8, n, bytes);
        for (int32_t i = 0; i < bytes; i++) { /* the first: all bits differ */
            ((uint8_t *)(uintptr_t)rows.at[0])[i] = (uint8_t) ~((const uint8_t *)query)[i];
        }
        c->ref->vector.hamming(want, query, rows.at, n, bytes);
        c->dut->vector.hamming(got, query, rows.at, n, bytes);
        check_same_bytes(c, got, want, (size_t)n * 4, "%d rows of %d bytes", (int)n, (int)bytes);
        check_true(c, got[0] == 8 * bytes, "all bits of %d bytes", (int)bytes);
        check_release(c);
    }
}

/* ------------------------------------------------------------------- bytes */

static void code_random(struct check *c, int32_t dims, float factor)
{
    float *values = check_floats(c, (size_t)dims);
    void *row = check_buffer(c, row_bytes(c->dtype, dims), 1);
    int8_t *want = check_buffer(c, (size_t)dims, 1), *got = check_buffer(c, (size_t)dims, 1);

    check_fill(c, values, (size_t)dims, -1.0f, 1.0f);
    for (int32_t i = 0; i < dims; i += 5) { /* half way between two bytes */
        values[i] = (float)check_range(c, -300, 300) / 256.0f;
    }
    c->ref->quant.narrow[c->dtype](row, values, dims);
    c->ref->vector.code[c->dtype](want, row, factor, dims);
    c->dut->vector.code[c->dtype](got, row, factor, dims);
    check_same_bytes(c, got, want, (size_t)dims, "%d elements times %g", (int)dims, (double)factor);
    check_release(c);
}

void check_vector_code(struct check *c)
{
    static const float x[6] = {0.5f, -0.5f, 1.5f, 2.5f, 1000.0f, -126.5f};
    static const int8_t want[6] = {0, 0, 2, 2, 127, -126};
    uint8_t row[24];
    int8_t got[6];

    c->ref->quant.narrow[c->dtype](row, x, 6);
    c->dut->vector.code[c->dtype](got, row, 1.0f, 6);
    check_same_bytes(c, got, want, sizeof(want), "by hand");
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        code_random(c, sizes[i], 128.0f);
        code_random(c, sizes[i], 1e30f); /* beyond a byte, and beyond an int */
        code_random(c, sizes[i], 0.0f);
    }
}

static void quantize_random(struct check *c, int32_t dims, float span)
{
    float *values = check_floats(c, (size_t)dims);
    int8_t *want = check_buffer(c, (size_t)dims, 1), *got = check_buffer(c, (size_t)dims, 1);
    float scale[2];

    check_fill(c, values, (size_t)dims, -span, span);
    scale[0] = c->ref->vector.quantize(want, values, dims);
    scale[1] = c->dut->vector.quantize(got, values, dims);
    check_same_bytes(c, got, want, (size_t)dims, "%d elements within %g", (int)dims, (double)span);
    check_same_bytes(c, &scale[1], &scale[0], sizeof(float), "scale of %d", (int)dims);
    check_release(c);
}

void check_vector_quantize(struct check *c)
{
    static const float x[5] = {2.0f, -4.0f, 1.0f, 0.0f, 0.015f};
    static const int8_t want[5] = {64, -127, 32, 0, 0}; /* 63.5 and 31.75, to the nearest even */
    int8_t got[5];

    check_true(c, c->dut->vector.quantize(got, x, 5) == 4.0f / 127.0f, "scale by hand");
    check_same_bytes(c, got, want, sizeof(want), "by hand");
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        quantize_random(c, sizes[i], 1.0f);
        quantize_random(c, sizes[i], 1e-37f);
        quantize_random(c, sizes[i], 3e38f);
        quantize_random(c, sizes[i], 0.0f);
    }
}

static void normalize_random(struct check *c, int32_t dims, float span)
{
    const struct check_bound bound = {1e-44, 3e-7, 1e-12};
    float *x = check_floats(c, (size_t)dims);
    float *want = check_floats(c, (size_t)dims), *got = check_floats(c, (size_t)dims);
    float length[2];

    check_fill(c, x, (size_t)dims, -span, span);
    length[0] = c->ref->vector.normalize(want, x, dims);
    length[1] = c->dut->vector.normalize(got, x, dims);
    check_close(c, got, want, (size_t)dims, bound, "%d elements within %g", (int)dims,
                (double)span);
    check_close(c, &length[1], &length[0], 1, bound, "length of %d", (int)dims);
    c->dut->vector.normalize(x, x, dims);
    check_same_bytes(c, x, got, (size_t)dims * 4, "%d elements in place", (int)dims);
    check_release(c);
}

void check_vector_normalize(struct check *c)
{
    float x[4] = {3.0f, 0.0f, -4.0f, 0.0f}, want[4] = {0.6f, 0.0f, -0.8f, 0.0f}, zeros[4] = {0};

    check_true(c, c->dut->vector.normalize(x, x, 4) == 5.0f, "length by hand");
    check_close(c, x, want, 4, (struct check_bound){0, 2e-7, 1e-12}, "by hand");
    check_true(c, c->dut->vector.normalize(x, zeros, 4) == 0.0f, "length of zeros");
    check_same_bytes(c, x, zeros, sizeof(x), "zeros");
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        normalize_random(c, sizes[i], 2.0f);
        normalize_random(c, sizes[i], 1e-40f);
        normalize_random(c, sizes[i], 1e36f);
        normalize_random(c, sizes[i], 0.0f);
    }
}

/* ------------------------------------------------------------------ timing */

enum { BENCH_ROWS = 1024, BENCH_DIMS = 384 };

struct call {
    infer_dtype dtype;
    int is_l2;
    float *out, *query;
    int8_t *bytes;
    const void **rows;
};

/* Rows in no order, of more memory than caches of the second level have. */
static void make_call(struct check *c, struct call *a, size_t bytes)
{
    uint8_t *memory = check_buffer(c, bytes * BENCH_ROWS, 64);

    a->dtype = c->dtype;
    a->out = check_buffer(c, BENCH_ROWS * 4, 64);
    a->query = check_buffer(c, BENCH_DIMS * 4, 64);
    a->bytes = check_buffer(c, BENCH_DIMS, 64);
    a->rows = check_buffer(c, BENCH_ROWS * sizeof(*a->rows), 64);
    check_fill(c, a->query, BENCH_DIMS, -1.0f, 1.0f);
    vector_fill_query(c, a->bytes, BENCH_DIMS);
    for (size_t i = 0; i < BENCH_ROWS; i++) {
        a->rows[i] = memory + i * 619 % BENCH_ROWS * bytes;
    }
}

static void call_rows(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    entry_of(kernels, a->dtype, a->is_l2)(a->out, a->query, a->rows, NULL, BENCH_ROWS, BENCH_DIMS);
}

static void bench_rows(struct check *c, int is_l2)
{
    const size_t bytes = row_bytes(c->dtype, BENCH_DIMS);
    struct call a;

    make_call(c, &a, bytes);
    a.is_l2 = is_l2;
    check_time(c, "1024 rows of 384", call_rows, &a,
               (struct check_work){(double)(bytes * BENCH_ROWS), "B", 1});
    check_release(c);
}

void bench_vector_dot(struct check *c)
{
    bench_rows(c, 0);
}

void bench_vector_l2(struct check *c)
{
    bench_rows(c, 1);
}

static void call_dot_i8(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    kernels->vector.dot_i8((int32_t *)(void *)a->out, a->bytes, a->rows, BENCH_ROWS, BENCH_DIMS);
}

void bench_vector_dot_i8(struct check *c)
{
    struct call a;

    make_call(c, &a, BENCH_DIMS);
    check_time(c, "1024 rows of 384", call_dot_i8, &a,
               (struct check_work){BENCH_DIMS * BENCH_ROWS, "B", 1});
    check_release(c);
}

static void call_hamming(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    kernels->vector.hamming((int32_t *)(void *)a->out, a->bytes, a->rows, BENCH_ROWS,
                            BENCH_DIMS / 8);
}

void bench_vector_hamming(struct check *c)
{
    struct call a;

    make_call(c, &a, BENCH_DIMS / 8);
    check_time(c, "1024 rows of 384 bits", call_hamming, &a,
               (struct check_work){BENCH_DIMS / 8 * BENCH_ROWS, "B", 1});
    check_release(c);
}

static void call_code(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    kernels->vector.code[a->dtype](a->bytes, a->rows[0], 127.0f, BENCH_DIMS);
}

void bench_vector_code(struct check *c)
{
    struct call a;

    make_call(c, &a, row_bytes(c->dtype, BENCH_DIMS));
    check_time(c, "384", call_code, &a,
               (struct check_work){(double)row_bytes(c->dtype, BENCH_DIMS), "B", 0});
    check_release(c);
}

static void call_quantize(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    kernels->vector.quantize(a->bytes, a->query, BENCH_DIMS);
}

void bench_vector_quantize(struct check *c)
{
    struct call a;

    make_call(c, &a, 4);
    check_time(c, "384", call_quantize, &a, (struct check_work){BENCH_DIMS * 4, "B", 0});
    check_release(c);
}

static void call_normalize(const struct infer_kernels *kernels, void *arg)
{
    const struct call *a = arg;

    kernels->vector.normalize(a->out, a->query, BENCH_DIMS);
}

void bench_vector_normalize(struct check *c)
{
    struct call a;

    make_call(c, &a, 4);
    check_time(c, "384", call_normalize, &a, (struct check_work){BENCH_DIMS * 4, "B", 0});
    check_release(c);
}
