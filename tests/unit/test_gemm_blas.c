/* kern_gemm_blas against the reference product: with a plain SGEMM that checks
 * what it is handed, and with OpenBLAS where the system has it. */
#include "kernels/cpu/gemm_openblas.h"
#include "kernels/quant_blocks.h"
#include "support/test.h"

#include <dlfcn.h>
#include <math.h>

static int n_calls;

/* Row-major C = A * B^T + beta * C, as the glue must ask for it. */
static void plain_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                        const float *a, int lda, const float *b, int ldb, float beta, float *c,
                        int ldc)
{
    assert_int_equal(order, 101);
    assert_int_equal(trans_a, 111);
    assert_int_equal(trans_b, 112);
    assert_true(alpha == 1.0f);
    assert_true(m > 0 && n > 0 && k > 0 && lda >= k && ldb >= k && ldc >= n);
    n_calls++;
    for (int i = 0; i < m; i++) {
        for (int r = 0; r < n; r++) {
            double sum = beta == 0.0f ? 0.0 : (double)beta * (double)c[i * ldc + r];

            for (int j = 0; j < k; j++) {
                sum += (double)a[i * lda + j] * (double)b[r * ldb + j];
            }
            c[i * ldc + r] = (float)sum;
        }
    }
}

static size_t row_bytes(infer_dtype type, int32_t k)
{
    switch (type) {
    case INFER_DTYPE_F32:
        return (size_t)k * 4;
    case INFER_DTYPE_Q8_0:
        return (size_t)k / 32 * sizeof(struct kern_q8_0);
    case INFER_DTYPE_Q6_K:
        return (size_t)k / 256 * sizeof(struct kern_q6_k);
    default:
        return (size_t)k * 2;
    }
}

/* Random weights without NaN; scales of quantised blocks are 2^-7 or so. */
static void fill_row(uint8_t *w, infer_dtype type, int32_t k, uint64_t *rng)
{
    const uint16_t small = 0x2000;

    for (size_t i = 0; i < row_bytes(type, k); i++) {
        w[i] = (uint8_t)test_rand(rng);
    }
    for (int32_t i = 0; i < k; i++) {
        const float f = test_randf(rng);

        if (type == INFER_DTYPE_F32) {
            memcpy(w + 4 * (size_t)i, &f, 4);
        } else if (type == INFER_DTYPE_BF16) {
            memcpy(w + 2 * (size_t)i, (const char *)&f + 2, 2);
        } else if (type == INFER_DTYPE_Q8_0 && i % 32 == 0) {
            memcpy(w + (size_t)i / 32 * sizeof(struct kern_q8_0), &small, 2);
        } else if (type == INFER_DTYPE_Q6_K && i % 256 == 0) {
            memcpy(w + (size_t)(i / 256 + 1) * sizeof(struct kern_q6_k) - 2, &small, 2);
        }
    }
}

struct problem {
    infer_dtype type;
    int32_t m, n, k;
    size_t w_gap, w_offset; /* bytes */
    int with_bias, accumulate;
};

/* The product by definition: every weight widened, sums in double. */
static void expect(const struct kern_gemm_args *a, const struct problem *p, const float *before,
                   const float *after, const struct kern_quant *quant, int32_t begin, int32_t end)
{
    float *w = calloc((size_t)p->k, sizeof(*w));

    assert_non_null(w);
    for (int32_t r = 0; r < p->n; r++) {
        quant->dequant[p->type](w, (const uint8_t *)a->w + (size_t)r * a->w_stride, p->k);
        for (int32_t i = 0; i < p->m; i++) {
            const float *x =
                (const float *)(const void *)((const char *)a->x + (size_t)i * a->x_stride);
            const size_t at = (size_t)i * a->y_stride + (size_t)r;
            double sum = a->bias ? (double)a->bias[r] : 0.0;
            double size = 1.0;

            sum += p->accumulate ? (double)before[at] : 0.0;
            for (int32_t j = 0; j < p->k; j++) {
                sum += (double)w[j] * (double)x[j];
                size += fabs((double)w[j] * (double)x[j]);
            }
            if (r < begin || r >= end) {
                assert_memory_equal(after + at, before + at, sizeof(float));
            } else {
                assert_true(fabs((double)after[at] - sum) <= 1e-6 * size);
            }
        }
    }
    free(w);
}

static void run_problem(const struct problem *p, kern_sgemm_fn *sgemm)
{
    uint64_t rng = 1 + (uint64_t)p->type * 1000 + (uint64_t)p->k;
    const size_t w_stride = row_bytes(p->type, p->k) + p->w_gap;
    const size_t x_stride = ((size_t)p->k + 3) * sizeof(float);
    const size_t y_stride = (size_t)p->n + 2, y_bytes = (size_t)p->m * y_stride * sizeof(float);
    uint8_t *w = calloc((size_t)p->n * w_stride + p->w_offset + 1, 1);
    float *x = calloc((size_t)p->m * x_stride + 1, 1);
    float *y = calloc(y_bytes + 1, 1), *before = calloc(y_bytes + 1, 1);
    float *bias = calloc((size_t)p->n + 1, sizeof(*bias));
    float *scratch = malloc(kern_gemm_blas_scratch(p->k)); /* a sanitizer sees one float too few */
    struct infer_kernels kernels;
    struct kern_gemm_args args = {.w = w + p->w_offset,
                                  .w_stride = w_stride,
                                  .x = x,
                                  .x_stride = x_stride,
                                  .y = y,
                                  .y_stride = y_stride,
                                  .bias = p->with_bias ? bias : NULL,
                                  .m = p->m,
                                  .n = p->n,
                                  .k = p->k,
                                  .accumulate = p->accumulate};
    const int32_t begin = p->n / 5, end = p->n - p->n / 7;

    assert_true(w && x && y && before && bias && scratch);
    for (int32_t r = 0; r < p->n; r++) {
        fill_row(w + p->w_offset + (size_t)r * w_stride, p->type, p->k, &rng);
        bias[r] = test_randf(&rng);
    }
    for (size_t i = 0; i < (size_t)p->m * x_stride / sizeof(float); i++) {
        x[i] = test_randf(&rng);
    }
    for (size_t i = 0; i < (size_t)p->m * y_stride; i++) {
        y[i] = p->accumulate ? test_randf(&rng) : NAN; /* must not be read */
    }
    memcpy(before, y, y_bytes);
    kern_init_cpu(&kernels, ~0u);
    kern_gemm_blas(&args, p->type, &kernels.quant, sgemm, scratch, begin, end);
    expect(&args, p, before, y, &kernels.quant, begin, end);
    free(w);
    free(x);
    free(y);
    free(before);
    free(bias);
    free(scratch);
}

static const struct problem problems[] = {
    {INFER_DTYPE_F32, 5, 30, 64, 0, 0, 0, 0},  /* in place */
    {INFER_DTYPE_F32, 5, 30, 64, 8, 0, 1, 1},  /* in place, with gaps */
    {INFER_DTYPE_F32, 3, 30, 33, 2, 0, 1, 0},  /* rows not aligned as floats */
    {INFER_DTYPE_F32, 3, 30, 33, 0, 2, 0, 1},  /* the first row is not */
    {INFER_DTYPE_BF16, 1, 700, 7, 0, 0, 1, 1}, /* several panels of 512 rows */
    {INFER_DTYPE_Q8_0, 4, 60, 96, 2, 2, 1, 0},    {INFER_DTYPE_Q6_K, 7, 40, 512, 0, 0, 0, 1},
    {INFER_DTYPE_Q8_0, 2, 50, 65536, 0, 0, 0, 0}, /* panels of 16 rows */
    {INFER_DTYPE_F16, 0, 10, 8, 0, 0, 1, 0},      {INFER_DTYPE_BF16, 3, 0, 8, 0, 0, 1, 0},
};

static void matches_definition(void **state)
{
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(problems); i++) {
        run_problem(&problems[i], plain_sgemm);
    }
}

static void panels_cover_the_range(void **state)
{
    const struct problem many = {INFER_DTYPE_Q8_0, 1, 100, 65536, 0, 0, 0, 0};

    (void)state;
    n_calls = 0;
    run_problem(&many, plain_sgemm);
    assert_int_equal(n_calls, 5); /* columns 20 .. 85 by 16 */
    assert_int_equal(kern_gemm_blas_scratch(65536), 16 * 65536 * sizeof(float));
    assert_int_equal(kern_gemm_blas_scratch(8), 512 * 8 * sizeof(float));
}

static void matches_with_openblas(void **state)
{
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so"};
    void *blas = NULL;
    kern_sgemm_fn *sgemm = NULL;

    (void)state;
    for (size_t i = 0; i < BASE_COUNT(names) && !blas; i++) {
        blas = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (!blas) {
        print_message("OpenBLAS is not installed\n");
        skip();
    }
    *(void **)&sgemm = dlsym(blas, "cblas_sgemm");
    assert_non_null(sgemm);
    for (size_t i = 0; i < BASE_COUNT(problems); i++) {
        run_problem(&problems[i], sgemm);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_definition),
        cmocka_unit_test(panels_cover_the_range),
        cmocka_unit_test(matches_with_openblas),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
