/* Kernels over rows of activations against the reference. */
#include "base/types.h"
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <math.h>

#define ULP 0x1p-23

static void assert_near(float got, double expected, double bound, size_t at)
{
    if (isnan(expected) ? isnan(got) : (double)got == expected)
        return;
    if (!(fabs((double)got - expected) <= bound))
        fail_msg("element %zu is %.9g, expected %.9g within %.3g", at, (double)got, expected,
                 bound);
}

/* --------------------------------------------------------------------- forms */

static size_t row_bytes(int32_t rows_type, int32_t n)
{
    if (rows_type == KERN_CUDA_ROWS_Q8)
        return (size_t)n + (size_t)n / 32 * 4 + (size_t)n / 16 * 2;
    return (size_t)n * (rows_type == KERN_CUDA_ROWS_BF16 ? 2 : 4);
}

/* That a row is what x becomes in its form, to the bit (NaN only as NaN), and that bytes behind it
 * are as they were. */
static void assert_row(const uint8_t *row, size_t stride, int32_t rows_type, const float *x,
                       int32_t n)
{
    size_t bytes = row_bytes(rows_type, n);
    if (rows_type == KERN_CUDA_ROWS_Q8) {
        struct kern_quant quant = {0};
        kern_quant_init_ref(&quant);
        uint8_t *expected = malloc(kern_act_q8_bytes(n));
        quant.act_q8(expected, x, n);
        assert_memory_equal(row, expected, bytes);
        free(expected);
    }
    for (int32_t i = 0; rows_type == KERN_CUDA_ROWS_BF16 && i < n; i++) {
        uint16_t got = kern_load_u16(row + 2 * (size_t)i);
        if (isnan(x[i]))
            assert_true(isnan(kern_float_of_bf16(got)));
        else
            assert_int_equal(got, kern_bf16_of_float(x[i]));
    }
    for (int32_t i = 0; rows_type == KERN_CUDA_ROWS_F32 && i < n; i++)
        assert_near(((const float *)(const void *)row)[i], (double)x[i], 0, (size_t)i);
    for (size_t i = bytes; i < stride; i++)
        assert_int_equal(row[i], 0xff);
}

/* Values of all sizes, blocks of zeros, and blocks with NaN and infinity. */
static void test_forms_are_the_references(void **state)
{
    static const int32_t sizes[] = {32, 96, 1024, 1056, 1, 3, 100, 1025};
    uint64_t seed = 1;
    (void)state;
    card_needed("forms of rows");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        int32_t n = sizes[s], rows = 3;
        size_t x_stride = (size_t)n + (n % 4 ? 3 : 4);
        float *x = random_floats(&seed, x_stride * (size_t)rows, 5);
        for (size_t i = 0; i < x_stride * (size_t)rows; i++)
            x[i] = i / 32 % 5 == 1 ? 0.0f : ldexpf(x[i], (int)(i / 32 % 7) * 40 - 120);
        for (int i = 0; i < 32 && n >= 1024; i++) {
            x[320 + i] = ldexpf(test_randf(&seed), -140); /* reciprocals are beyond a float */
            x[352 + i] = (float)(i - 16) + 0.5f;          /* between two codes */
            x[384 + i] = ((float)(4 * i - 63) + 0.5f) * 0.7f;
        }
        if (n >= 1024)
            x[383] = 127, x[415] = 127 * 0.7f;
        if (n >= 96)
            x[40] = NAN, x[70] = -INFINITY, x[95] = 0x1p-149f;
        float *x_card = card_new(x, x_stride * (size_t)rows * 4);
        for (int32_t type = 0; type <= (n % 32 ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_Q8); type++) {
            size_t stride = BASE_ALIGN_UP(row_bytes(type, n), (size_t)64) + 64;
            uint8_t *y = malloc(stride * (size_t)rows), *y_card = card_new(NULL, stride * 3);
            assert_int_equal(
                kern_cuda_rows_convert(y_card, stride, type, x_card, x_stride, rows, n, NULL), 0);
            card_get(y, y_card, stride * (size_t)rows);
            for (int32_t r = 0; r < rows; r++)
                assert_row(y + (size_t)r * stride, stride, type, x + (size_t)r * x_stride, n);
            card_free(y_card);
            free(y);
        }
        card_free(x_card);
        free(x);
    }
}

/* --------------------------------------------------------------------- E4M3 */

enum { F8_BLOCK = 128 };

static size_t f8_bytes(int32_t rows, int32_t n)
{
    return BASE_ALIGN_UP((size_t)rows, (size_t)4) * ((size_t)n + (size_t)n / F8_BLOCK * 4);
}

/* That y holds the rows x in E4M3, with zeros up to a multiple of four rows, to the bit. */
static void assert_f8_rows(const uint8_t *y, const float *x, size_t x_stride, int32_t rows,
                           int32_t n)
{
    const size_t up = BASE_ALIGN_UP((size_t)rows, (size_t)4);
    const float *scales = (const float *)(const void *)(y + up * (size_t)n);
    for (size_t r = 0; r < up; r++)
        for (size_t b = 0; b < (size_t)n / F8_BLOCK; b++) {
            const float *v = x + r * x_stride + b * F8_BLOCK;
            const uint8_t *codes = y + r * (size_t)n + b * F8_BLOCK;
            float most = 0, scale = scales[b * up + r];
            int finite = 1;
            for (int i = 0; r < (size_t)rows && i < F8_BLOCK; i++) {
                finite &= isfinite(v[i]) != 0;
                most = fmaxf(most, fabsf(v[i]));
            }
            if (finite)
                assert_true(scale == most / 448.0f);
            else
                assert_true(isnan(scale));
            for (int i = 0; i < F8_BLOCK; i++) {
                uint8_t want = most > 0 && finite ? kern_e4m3_of_float(v[i] / most * 448.0f) : 0;
                assert_int_equal(codes[i], want);
            }
        }
}

static void test_rows_become_e4m3(void **state)
{
    static const int32_t shapes[][2] = {{1, 128}, {4, 384}, {3, 1024}, {6, 128}, {2, 17408}};
    uint64_t seed = 8;
    (void)state;
    card_needed("rows of E4M3");
    for (size_t s = 0; s < BASE_COUNT(shapes); s++) {
        const int32_t rows = shapes[s][0], n = shapes[s][1];
        const size_t all = (size_t)rows * (size_t)n, bytes = f8_bytes(rows, n);
        float *x = random_floats(&seed, all, 3), *up = random_floats(&seed, all, 2);
        for (size_t i = 0; i < all; i++)
            x[i] = i / F8_BLOCK % 3 == 1 ? ldexpf(x[i], -(int)(i % 24)) : x[i];
        memset(x + all - F8_BLOCK, 0, F8_BLOCK * 4);
        if (rows == 3)
            x[5] = NAN, x[300] = -INFINITY;
        float *x_card = card_new(x, all * 4), *up_card = card_new(up, all * 4);
        float *plain = malloc(all * 4), *plain_card = card_new(NULL, all * 4);
        uint8_t *y = malloc(bytes), *y_card = card_new(NULL, bytes);
        const size_t stride = (size_t)n;
        assert_int_equal(kern_cuda_rows_convert(y_card, stride, KERN_CUDA_ROWS_F8, x_card, stride,
                                                rows, n, NULL),
                         0);
        card_get(y, y_card, bytes);
        assert_f8_rows(y, x, stride, rows, n);
        /* What the others make are their rows of F32 in this form. */
        struct kern_cuda_norm_args norm = {.y = plain_card,
                                           .y_stride = stride * 4,
                                           .x = x_card,
                                           .x_stride = stride,
                                           .w = up_card,
                                           .n_rows = rows,
                                           .n = n,
                                           .eps = 1e-5f};
        assert_int_equal(kern_cuda_rows_norm(&norm, NULL), 0);
        card_get(plain, plain_card, all * 4);
        norm.y = y_card, norm.y_stride = stride, norm.rows_type = KERN_CUDA_ROWS_F8;
        assert_int_equal(kern_cuda_rows_norm(&norm, NULL), 0);
        card_get(y, y_card, bytes);
        assert_f8_rows(y, plain, stride, rows, n);
        struct kern_cuda_gate_args gate = {.y = plain_card,
                                           .y_stride = stride * 4,
                                           .rows_type = KERN_CUDA_ROWS_F32,
                                           .gate = x_card,
                                           .up = up_card,
                                           .stride = stride,
                                           .up_stride = stride,
                                           .act = KERN_CUDA_ACT_SILU,
                                           .n_rows = rows,
                                           .n = n};
        assert_int_equal(kern_cuda_rows_gate(&gate, NULL), 0);
        card_get(plain, plain_card, all * 4);
        gate.y = y_card, gate.y_stride = stride, gate.rows_type = KERN_CUDA_ROWS_F8;
        assert_int_equal(kern_cuda_rows_gate(&gate, NULL), 0);
        card_get(y, y_card, bytes);
        assert_f8_rows(y, plain, stride, rows, n);
        assert_int_equal(
            kern_cuda_rows_convert(y_card, 96, KERN_CUDA_ROWS_F8, x_card, 96, 1, 96, NULL),
            cudaErrorInvalidValue);
        card_free(x_card), card_free(up_card), card_free(plain_card), card_free(y_card);
        free(x), free(up), free(plain), free(y);
    }
}

/* --------------------------------------------------------------------- norms */

struct norm_case {
    int32_t n, rows, layer, weights;
    float scale;
    int32_t x_div, factored, plain; /* rows of one of x; by a number each; no norm */
};

static void norm_reference(float *y, const float *x, const float *w, const float *b,
                           const struct norm_case *c, float eps)
{
    struct kern_norm norm;
    kern_norm_init_ref(&norm);
    if (c->plain)
        memcpy(y, x, (size_t)c->n * sizeof *y);
    else if (c->layer)
        norm.layer(y, x, w, b, c->n, eps);
    else
        norm.rms(y, x, w, c->n, eps);
}

/* The last row has the same bits in a call of its own, again and again. */
static void assert_same_alone(const struct kern_cuda_norm_args *args, const uint8_t *y, size_t at)
{
    size_t bytes = row_bytes(args->rows_type, args->n), last = (size_t)args->n_rows - 1;
    struct kern_cuda_norm_args alone = *args;
    uint8_t *again = malloc(bytes);
    alone.n_rows = 1;
    alone.x += last / (size_t)BASE_MAX(args->x_div, 1) * args->x_stride;
    alone.factor += args->factor ? last : 0;
    alone.y = card_new(NULL, bytes);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kern_cuda_rows_norm(&alone, NULL), 0);
        card_get(again, alone.y, bytes);
        assert_memory_equal(again, y + at, bytes);
    }
    card_free(alone.y);
    free(again);
}

/* The sums are taken in double in another order, which moves a result by one place of a float at
 * most; the other forms are made from these very floats. */
static void check_norm(const struct norm_case *c, uint64_t *seed)
{
    const float eps = 1e-5f;
    size_t n = (size_t)c->n, x_stride = n + (n % 4 ? 1 : 8), rows = (size_t)c->rows;
    float *x = random_floats(seed, x_stride * rows, c->scale), *f32 = malloc(n * rows * 4);
    float *w = random_floats(seed, n, 2), *b = random_floats(seed, n, 1), *ref = malloc(n * 4);
    float *x_card = card_new(x, x_stride * rows * 4);
    float *w_card = card_new(w, n * 4), *b_card = card_new(b, n * 4);
    float *factor = random_floats(seed, rows, 2), *factor_card = card_new(factor, rows * 4);
    for (int32_t type = 0; type <= (n % 32 ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_Q8); type++) {
        size_t stride = BASE_ALIGN_UP(row_bytes(type, c->n), (size_t)64) + 64;
        uint8_t *y = malloc(stride * rows), *y_card = card_new(NULL, stride * rows);
        struct kern_cuda_norm_args args = {.y = y_card,
                                           .y_stride = stride,
                                           .x = x_card,
                                           .x_stride = x_stride,
                                           .w = c->weights ? w_card : NULL,
                                           .b = c->weights && c->layer ? b_card : NULL,
                                           .n_rows = c->rows,
                                           .n = c->n,
                                           .rows_type = type,
                                           .layer = c->layer,
                                           .eps = eps,
                                           .x_div = c->x_div,
                                           .factor = c->factored ? factor_card : NULL,
                                           .plain = c->plain};
        assert_int_equal(kern_cuda_rows_norm(&args, NULL), 0);
        card_get(y, y_card, stride * rows);
        assert_same_alone(&args, y, stride * (rows - 1));
        for (size_t r = 0; r < rows; r++) {
            float *got = f32 + r * n;
            norm_reference(ref, x + r / (size_t)BASE_MAX(c->x_div, 1) * x_stride,
                           c->weights ? w : NULL, c->weights ? b : NULL, c, eps);
            for (size_t i = 0; c->factored && i < n; i++)
                ref[i] *= factor[r];
            if (type == KERN_CUDA_ROWS_F32)
                memcpy(got, y + r * stride, n * 4);
            for (size_t i = 0; i < n; i++)
                assert_near(got[i], (double)ref[i], (1 + c->factored) * ULP * fabs((double)ref[i]),
                            i);
            assert_row(y + r * stride, stride, type, got, c->n);
        }
        card_free(y_card);
        free(y);
    }
    card_free(x_card), card_free(w_card), card_free(b_card), card_free(factor_card);
    free(x), free(w), free(b), free(ref), free(f32), free(factor);
}

static void test_norms_equal_the_reference(void **state)
{
    static const int32_t sizes[] = {1, 3, 31, 32, 128, 1000, 1023, 4096, 4128, 16384, 16416, 20001};
    uint64_t seed = 2;
    (void)state;
    card_needed("norms");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++)
        for (int32_t i = 0; i < 4; i++)
            check_norm(
                &(struct norm_case){sizes[s], sizes[s] > 5000 ? 1 : 3, i & 1, i >> 1, 3, 0, 0, 0},
                &seed);
    for (size_t s = 0; s < BASE_COUNT(sizes); s += 3) /* a row for each of its experts */
        for (int32_t i = 0; i < 4; i++)
            check_norm(&(struct norm_case){sizes[s], 5, 0, !(i & 1), 3, i + 1, i < 3, i & 1},
                       &seed);
    check_norm(&(struct norm_case){4096, 2, 0, 1, 1e30f, 0, 0, 0},
               &seed); /* squares beyond a float */
    check_norm(&(struct norm_case){128, 2, 1, 1, 1e-20f, 0, 0, 0}, &seed);
}

static void test_a_norm_may_stay_in_place(void **state)
{
    static const int32_t sizes[] = {5, 512, 20000};
    uint64_t seed = 3;
    (void)state;
    card_needed("norms in place");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        struct norm_case c = {sizes[s], 2, 0, 0, 1, 0, 0, 0};
        size_t n = (size_t)c.n;
        float *x = random_floats(&seed, 2 * n, 1), *y = malloc(n * 8), *ref = malloc(n * 4);
        float *card = card_new(x, n * 8);
        struct kern_cuda_norm_args args = {
            .y = card, .y_stride = n * 4, .x = card, .x_stride = n, .n_rows = 2, .n = c.n};
        assert_int_equal(kern_cuda_rows_norm(&args, NULL), 0);
        card_get(y, card, n * 8);
        for (size_t i = 0; i < 2 * n; i++) {
            if (i % n == 0)
                norm_reference(ref, x + i, NULL, NULL, &c, 0);
            assert_near(y[i], (double)ref[i % n], ULP * fabs((double)ref[i % n]), i);
        }
        card_free(card);
        free(x), free(y), free(ref);
    }
}

static void test_a_row_of_nan_is_nan_alone(void **state)
{
    uint64_t seed = 4;
    size_t n = 4096;
    float *x = random_floats(&seed, 3 * n, 1), *y = malloc(n * 12);
    (void)state;
    card_needed("norms of NaN");
    x[n + 1234] = NAN;
    float *card = card_new(x, n * 12);
    struct kern_cuda_norm_args args = {.y = card,
                                       .y_stride = n * 4,
                                       .x = card,
                                       .x_stride = n,
                                       .n_rows = 3,
                                       .n = (int32_t)n,
                                       .eps = 1e-6f};
    assert_int_equal(kern_cuda_rows_norm(&args, NULL), 0);
    card_get(y, card, n * 12);
    for (size_t i = 0; i < 3 * n; i++)
        assert_int_equal(isnan(y[i]) != 0, i / n == 1);
    card_free(card);
    free(x), free(y);
}

/* Rounded once more than the norm, with the sum: two places of the larger term. */
static void check_join(const struct norm_case *c, uint64_t *seed)
{
    const float eps = 1e-6f, scale = 0.75f, factor = c->weights ? 1 : -1.5f;
    size_t n = (size_t)c->n, all = n * (size_t)c->rows;
    float *x = random_floats(seed, all, 2), *branch = random_floats(seed, all, c->scale);
    float *w = random_floats(seed, n, 2), *b = random_floats(seed, n, 1);
    float *got = malloc(all * 4), *ref = malloc(n * 4);
    float *x_card = card_new(x, all * 4), *branch_card = card_new(branch, all * 4);
    float *w_card = card_new(w, n * 4), *b_card = card_new(b, n * 4);
    const struct kern_cuda_join_args args = {.x = x_card,
                                             .branch = branch_card,
                                             .w = c->weights ? w_card : NULL,
                                             .b = c->layer ? b_card : NULL,
                                             .layer = c->layer,
                                             .eps = eps,
                                             .scale = scale,
                                             .factor = factor,
                                             .n_rows = c->rows,
                                             .n = c->n};
    assert_int_equal(kern_cuda_rows_join(&args, NULL), 0);
    card_get(got, x_card, all * 4);
    for (size_t i = 0; i < all; i++) {
        if (i % n == 0 && c->weights)
            norm_reference(ref, branch + i, w, c->layer ? b : NULL, c, eps);
        double term = (double)scale * (double)(c->weights ? ref[i % n] : branch[i]);
        assert_near(got[i], ((double)x[i] + term) * (double)factor,
                    1.5 * fabs((double)factor) * ULP * (fabs(term) + fabs((double)x[i] + term)), i);
    }
    card_free(x_card), card_free(branch_card), card_free(w_card), card_free(b_card);
    free(x), free(branch), free(w), free(b), free(got), free(ref);
}

static void test_branches_join(void **state)
{
    static const int32_t sizes[] = {1, 7, 64, 1001, 4096, 17000};
    uint64_t seed = 5;
    (void)state;
    card_needed("joins");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++)
        for (int32_t i = 0; i < 4; i++)
            check_join(&(struct norm_case){sizes[s], 2, i & 1, i >> 1, 3, 0, 0, 0}, &seed);
}

/* --------------------------------------------------------------------- gates */

static kern_gate_fn *gate_reference(const struct kern_unary *u, int32_t act)
{
    kern_gate_fn *const fns[] = {NULL,        u->silu_mul,  u->gelu_mul,  u->gelu_tanh_mul,
                                 u->relu_mul, u->relu2_mul, u->swiglu_oai};
    return fns[act];
}

/* Arguments of exponentials are up to 25 with three roundings, and a relative error of the
 * argument is an absolute one of the exponent: 25 * 3 * 2^-24 and some places more. */
static void check_gate(int32_t act, int32_t n, int with_up, int factored, uint64_t *seed)
{
    static const float special[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 200, -200, 7, -7, 1e-30f};
    struct kern_unary unary;
    kern_unary_init_ref(&unary);
    const float factor[] = {0.3f, -1.7f};
    size_t stride = (size_t)n + (n % 4 ? 2 : 4), all = stride * 2;
    size_t up_stride = stride + (factored ? 8 : 0), all_up = up_stride * 2;
    float *gate = random_floats(seed, all, 6), *up = random_floats(seed, all_up, 9);
    float *factor_card = card_new(factor, sizeof factor);
    for (size_t i = 0; i < BASE_COUNT(special) && n > 20; i++)
        gate[stride + i] = special[i];
    float *gate_card = card_new(gate, all * 4), *up_card = card_new(up, all_up * 4);
    float *got = malloc(all * 4), *ref = malloc((size_t)n * 4);
    for (int32_t type = 0; type <= (n % 32 ? KERN_CUDA_ROWS_BF16 : KERN_CUDA_ROWS_Q8); type++) {
        size_t y_stride = BASE_ALIGN_UP(row_bytes(type, n), (size_t)64) + 64;
        uint8_t *y = malloc(2 * y_stride), *y_card = card_new(NULL, 2 * y_stride);
        const struct kern_cuda_gate_args args = {.y = y_card,
                                                 .y_stride = y_stride,
                                                 .rows_type = type,
                                                 .gate = gate_card,
                                                 .up = with_up ? up_card : NULL,
                                                 .stride = stride,
                                                 .up_stride = up_stride,
                                                 .factor = factored ? factor_card : NULL,
                                                 .act = act,
                                                 .n_rows = 2,
                                                 .n = n};
        assert_int_equal(kern_cuda_rows_gate(&args, NULL), 0);
        card_get(y, y_card, 2 * y_stride);
        for (size_t r = 0; r < 2; r++) {
            if (type == KERN_CUDA_ROWS_F32)
                memcpy(got + r * stride, y + r * y_stride, (size_t)n * 4);
            gate_reference(&unary, act)(ref, gate + r * stride, with_up ? up + r * up_stride : NULL,
                                        n);
            for (int32_t i = 0; factored && i < n; i++)
                ref[i] *= factor[r];
            for (int32_t i = 0; i < n; i++)
                assert_near(got[r * stride + (size_t)i], (double)ref[i],
                            6e-6 * fabs((double)ref[i]) + 1e-36, (size_t)i);
            assert_row(y + r * y_stride, y_stride, type, got + r * stride, n);
        }
        card_free(y_card);
        free(y);
    }
    card_free(gate_card), card_free(up_card), card_free(factor_card);
    free(gate), free(up), free(got), free(ref);
}

static void test_gates_follow_the_reference(void **state)
{
    static const int32_t sizes[] = {1, 33, 64, 1000, 2080};
    uint64_t seed = 6;
    (void)state;
    card_needed("gates");
    for (int32_t act = KERN_CUDA_ACT_SILU; act <= KERN_CUDA_ACT_SWIGLU_OAI; act++)
        for (size_t s = 0; s < BASE_COUNT(sizes); s++)
            for (int with_up = act == KERN_CUDA_ACT_SWIGLU_OAI; with_up < 2; with_up++)
                check_gate(act, sizes[s], with_up, s % 2, &seed);
}

/* -------------------------------------------------------------- rows, logits */

static void test_a_bias_joins_rows_apart(void **state)
{
    static const int32_t sizes[] = {1, 7, 64, 4097};
    uint64_t seed = 11;
    (void)state;
    card_needed("add_bias");
    for (size_t s = 0; s < BASE_COUNT(sizes) * 2; s++) {
        size_t n = (size_t)sizes[s / 2], stride = n + (s % 2 ? 5 : 0), all = 3 * stride;
        float *y = random_floats(&seed, all, 4), *bias = random_floats(&seed, n, 4);
        float *got = malloc(all * 4), *y_card = card_new(y, all * 4);
        float *bias_card = card_new(bias, n * 4);
        assert_int_equal(kern_cuda_rows_add_bias(y_card, stride, bias_card, 3, (int32_t)n, NULL),
                         0);
        card_get(got, y_card, all * 4);
        for (size_t i = 0; i < all; i++) {
            float e = i % stride < n ? y[i] + bias[i % stride] : y[i];
            assert_memory_equal(&got[i], &e, sizeof e);
        }
        card_free(y_card), card_free(bias_card);
        free(y), free(bias), free(got);
    }
}

static void test_gather_takes_rows_by_number(void **state)
{
    static const int32_t ids[] = {4, 0, 4, 2}, sizes[] = {1, 5, 64, 1028};
    uint64_t seed = 7;
    (void)state;
    card_needed("gather");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        size_t n = (size_t)sizes[s];
        float *x = random_floats(&seed, 5 * n, 1), *y = malloc(n * 16);
        float *x_card = card_new(x, n * 20), *y_card = card_new(NULL, n * 16);
        int32_t *ids_card = card_new(ids, sizeof ids);
        assert_int_equal(kern_cuda_rows_gather(y_card, x_card, ids_card, 4, sizes[s], NULL), 0);
        card_get(y, y_card, n * 16);
        for (size_t i = 0; i < 4; i++)
            assert_memory_equal(y + i * n, x + (size_t)ids[i] * n, n * 4);
        card_free(x_card), card_free(y_card), card_free(ids_card);
        free(x), free(y);
    }
}

/* tanh to two places, and two roundings. */
static void test_logits_are_scaled_and_capped(void **state)
{
    static const size_t sizes[] = {1, 255, 1028, 5000};
    uint64_t seed = 8;
    (void)state;
    card_needed("logits");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++)
        for (int capped = 0; capped < 2; capped++) {
            size_t n = sizes[s];
            double cap = capped ? 30 : 0, scale = 0.37f;
            float *x = random_floats(&seed, n, 200), *y = malloc(n * 4);
            float *card = card_new(x, n * 4);
            assert_int_equal(kern_cuda_rows_logits(card, 0.37f, (float)cap, n, NULL), 0);
            card_get(y, card, n * 4);
            for (size_t i = 0; i < n; i++) {
                double v = (double)x[i] * scale, e = capped ? cap * tanh(v / cap) : v;
                assert_near(y[i], e, 4 * ULP * fabs(e), i);
            }
            card_free(card);
            free(x), free(y);
        }
}

static int32_t largest_of(const float *x, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 0; i < n; i++) {
        if (isnan(x[i]))
            return -1;
        best = x[i] > x[best] ? i : best;
    }
    return isfinite(x[best]) ? best : -1;
}

/* Rows: many equal ones, -infinity alone, a NaN, the largest last, infinity twice. */
static void test_argmax_is_the_first_of_the_largest(void **state)
{
    static const int32_t sizes[] = {1, 2, 4, 33, 1000, 4097, 40964, 128256};
    uint64_t seed = 9;
    (void)state;
    card_needed("argmax");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        size_t n = (size_t)sizes[s];
        float *x = random_floats(&seed, 6 * n, 4);
        for (size_t i = 0; i < n; i++) {
            x[i] = rintf(x[i]);
            x[n + i] = -INFINITY;
        }
        x[2 * n + (n - 1) / 3] = NAN;
        x[4 * n - 1] = 9;
        x[4 * n + n / 2] = x[5 * n - 1] = INFINITY;
        float *card = card_new(x, 6 * n * 4);
        int32_t ids[6], *ids_card = card_new(NULL, sizeof ids);
        assert_int_equal(kern_cuda_rows_argmax(ids_card, card, 6, sizes[s], NULL), 0);
        card_get(ids, ids_card, sizeof ids);
        for (size_t r = 0; r < 6; r++)
            assert_int_equal(ids[r], largest_of(x + r * n, sizes[s]));
        card_free(card), card_free(ids_card);
        free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_are_the_references),
        cmocka_unit_test(test_rows_become_e4m3),
        cmocka_unit_test(test_norms_equal_the_reference),
        cmocka_unit_test(test_a_norm_may_stay_in_place),
        cmocka_unit_test(test_a_row_of_nan_is_nan_alone),
        cmocka_unit_test(test_branches_join),
        cmocka_unit_test(test_gates_follow_the_reference),
        cmocka_unit_test(test_a_bias_joins_rows_apart),
        cmocka_unit_test(test_gather_takes_rows_by_number),
        cmocka_unit_test(test_logits_are_scaled_and_capped),
        cmocka_unit_test(test_argmax_is_the_first_of_the_largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
