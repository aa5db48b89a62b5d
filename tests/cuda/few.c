/* The product of few rows against a sum in double over the numbers that kernels/ref gives. */
#include "cuda/weights.h"

#include <math.h>

/* Rows of x as the weights' type sees them: normed, and for quantised types what the Q8 form of a
 * row stands for. */
static double *seen_rows(const float *x, size_t stride, int32_t m, int32_t k, const float *norm,
                         float eps, int quantised)
{
    struct kern_quant quant = {0};
    struct kern_norm norms = {0};
    double *seen = malloc((size_t)m * (size_t)k * sizeof *seen);
    float *row = malloc((size_t)k * sizeof *row);
    void *q8 = aligned_alloc(64, kern_act_q8_bytes(k));
    kern_quant_init_ref(&quant);
    kern_norm_init_ref(&norms);
    for (int32_t i = 0; i < m; i++) {
        memcpy(row, x + (size_t)i * stride, (size_t)k * sizeof *row);
        if (norm)
            norms.rms(row, row, norm, k, eps);
        if (quantised)
            quant.act_q8(q8, row, k);
        const struct kern_act_row act = kern_act_row_of(q8, k);
        for (int32_t e = 0; e < k; e++)
            seen[(size_t)i * (size_t)k + (size_t)e] =
                quantised ? (double)act.q[e] * (double)act.d[e / 32] : (double)row[e];
    }
    free(q8);
    free(row);
    return seen;
}

struct sum {
    double value, size; /* of the terms' absolute values */
};

static struct sum dot(const struct weights *w, size_t row, const double *x)
{
    struct sum s = {0.0, 0.0};
    for (int32_t e = 0; e < w->k; e++) {
        const double term = (double)w->numbers[row * (size_t)w->k + (size_t)e] * x[e];
        s.value += term;
        s.size += fabs(term);
    }
    return s;
}

static int is_quantised(infer_dtype type)
{
    struct kern_gemm gemm = {0};
    kern_gemm_init_ref(&gemm);
    return gemm.act[type] == KERN_ACT_Q8;
}

/* Each float sum of a lane has at most k / 32 terms of its own and then five: the error is below
 * that many halves of the last place of what is summed, on average far below; a term that is
 * missing or a scale that is rounded otherwise is beyond 1e-5 of the terms' sizes. */
#define BOUND 4e-6

static void compare(float got, double want, double size, const char *what, infer_dtype type,
                    int32_t i, int32_t r)
{
    if (isnan(want) && isnan(got))
        return;
    if (!(fabs((double)got - want) <= BOUND * size + 1e-7))
        fail_msg("%s, type %d, row %d, output %d: %.9g instead of %.9g (size %.3g)", what,
                 (int)type, (int)i, (int)r, (double)got, want, size);
}

/* One matrix and rows 1 .. m: all results are right, and those of one row the same for every m. */
static void check_plain(uint64_t *rng, infer_dtype type, int32_t n, int32_t k, int32_t m,
                        int normed)
{
    struct weights w = weights_new(rng, type, n, 1, k, 0);
    const size_t stride = (size_t)k + 4 * (test_rand(rng) % 2), y_stride = (size_t)n + 3;
    float *x = random_floats(rng, (size_t)m * stride, 3.0f),
          *norm = random_floats(rng, (size_t)k, 2.0f);
    float *bias = random_floats(rng, (size_t)n, 1.0f);
    float *card_x = card_new(x, (size_t)m * stride * 4), *card_norm = card_new(norm, (size_t)k * 4);
    float *card_bias = card_new(bias, (size_t)n * 4);
    const size_t bytes = (size_t)m * y_stride * 4;
    float *y = card_new(NULL, bytes), *got = malloc(bytes), *first = malloc(bytes);
    double *seen = seen_rows(x, stride, m, k, normed ? norm : NULL, 1e-5f, is_quantised(type));
    struct kern_cuda_few_args args = {.n_parts = 1, .x = card_x, .x_stride = stride, .eps = 1e-5f};
    args.parts[0] = (struct kern_cuda_part){w.matrix, card_bias, y, y_stride};
    args.norm = normed ? card_norm : NULL;
    for (args.m = m; args.m > 0; args.m = args.m == m ? m / 2 : args.m == 1 ? 0 : 1) {
        assert_int_equal(cudaMemset(y, 0xff, bytes), cudaSuccess);
        assert_int_equal(kern_cuda_product_few(&args, NULL), 0);
        card_get(got, y, bytes);
        if (args.m == m)
            memcpy(first, got, bytes);
        for (int32_t i = 0; i < m; i++) {
            for (int32_t r = 0; r < (int32_t)y_stride; r++) {
                const float is = got[(size_t)i * y_stride + (size_t)r];
                if (i >= args.m || r >= n) {
                    assert_true(isnan(is));
                    continue;
                }
                const struct sum s = dot(&w, (size_t)r, seen + (size_t)i * (size_t)k);
                compare(is, s.value + (double)bias[r], s.size, "plain", type, i, r);
                assert_memory_equal(&is, &first[(size_t)i * y_stride + (size_t)r], 4);
            }
        }
    }
    free(x), free(norm), free(bias), free(got), free(first), free(seen);
    card_free(card_x), card_free(card_norm), card_free(card_bias), card_free(y);
    weights_free(&w);
}

static void test_products_equal_the_reference(void **state)
{
    uint64_t rng = 1;
    (void)state;
    card_needed("few");
    for (size_t t = 0; t < BASE_COUNT(weights_types); t++) {
        const infer_dtype type = weights_types[t];
        const int32_t block = kern_cuda_layout_of(type)->block_elements;
        const int32_t odd = block == 1 ? 101 : block;
        check_plain(&rng, type, 7, odd, 8, 1);
        check_plain(&rng, type, 1, block == 1 ? 1031 : 1280, 3, 0);
        check_plain(&rng, type, 5, block == 1 ? 640 : 768, 1, 1);
    }
}

/* Matrices large enough that a warp has several tasks, whose loads run into each other. */
static void test_warps_go_from_row_to_row(void **state)
{
    uint64_t rng = 2;
    (void)state;
    card_needed("few");
    check_plain(&rng, INFER_DTYPE_Q4_0, 3301, 64, 1, 1);
    check_plain(&rng, INFER_DTYPE_Q8_0, 3201, 2080, 1, 0);
    check_plain(&rng, INFER_DTYPE_BF16, 3203, 1048, 3, 0);
    check_plain(&rng, INFER_DTYPE_F8_128, 1601, 1152, 2, 1);
}

static double act_of(int32_t act, double g, double up)
{
    switch (act) {
    case KERN_CUDA_ACT_SILU:
        return g / (1.0 + exp(-g)) * up;
    case KERN_CUDA_ACT_GELU:
        return g / 2.0 * erfc(-g / sqrt(2.0)) * up;
    case KERN_CUDA_ACT_GELU_TANH:
        return g / (1.0 + exp(-2.0 * sqrt(2.0 / M_PI) * (g + 0.044715 * g * g * g))) * up;
    case KERN_CUDA_ACT_RELU:
        return (g <= 0.0 ? 0.0 : g) * up;
    case KERN_CUDA_ACT_RELU2:
        return (g <= 0.0 ? 0.0 : g * g) * up;
    case KERN_CUDA_ACT_SWIGLU_OAI:
        g = fmin(g, 7.0);
        return g / (1.0 + exp(-1.702 * g)) * (fmax(fmin(up, 7.0), -7.0) + 1.0);
    default:
        return g * up;
    }
}

/* Parts of one call, with everything that can go with them. */
struct call {
    struct weights w[KERN_CUDA_PARTS];
    float *bias[KERN_CUDA_PARTS], *before[KERN_CUDA_PARTS], *scale[KERN_CUDA_PARTS];
    size_t y_stride[KERN_CUDA_PARTS];
    float *x, *norm, *out_scale;
    float *up; /* that is there, or NULL */
    int32_t *expert;
    int32_t n_experts, x_rows, m;
    struct kern_cuda_few_args args; /* pointers of the card */
};

static void *both(float **host, float *made, size_t n)
{
    *host = made;
    return card_new(made, n * sizeof(float));
}

static void call_part(struct call *c, uint64_t *rng, int p, infer_dtype type, int32_t n, int32_t k)
{
    struct kern_cuda_part *part = &c->args.parts[p];
    const size_t stride = (size_t)n + (size_t)p + 1, outputs = (size_t)(n * c->n_experts);
    c->w[p] = weights_new(rng, type, n, c->n_experts, k, 0);
    part->w = c->w[p].matrix;
    part->y_stride = c->y_stride[p] = stride;
    part->bias = both(&c->bias[p], random_floats(rng, outputs, 1.0f), outputs);
    part->y = both(&c->before[p], random_floats(rng, (size_t)c->m * stride, 50.0f),
                   (size_t)c->m * stride);
    c->args.part_scale[p] =
        both(&c->scale[p], random_floats(rng, (size_t)c->n_experts, 1.0f), (size_t)c->n_experts);
    c->args.n_parts = p + 1;
}

static void call_rows(struct call *c, uint64_t *rng, int32_t k)
{
    const size_t n_x = (size_t)(c->x_rows * k);
    c->args.x = both(&c->x, random_floats(rng, n_x, 1.0f), n_x);
    c->args.x_stride = (size_t)k;
    c->args.norm = both(&c->norm, random_floats(rng, (size_t)k, 0.2f), (size_t)k);
    c->args.out_scale = both(&c->out_scale, random_floats(rng, (size_t)c->m, 1.0f), (size_t)c->m);
    c->args.eps = 1e-6f;
    c->args.m = c->m;
}

static void call_up(struct call *c, uint64_t *rng, size_t stride)
{
    const size_t n = (size_t)c->m * stride;
    c->args.up = both(&c->up, random_floats(rng, n, 2.0f), n);
    c->args.up_stride = stride;
}

static void call_free(struct call *c)
{
    for (int p = 0; p < KERN_CUDA_PARTS; p++) {
        if (!c->w[p].file)
            continue;
        weights_free(&c->w[p]);
        card_free((void *)(uintptr_t)c->args.parts[p].bias), card_free(c->args.parts[p].y);
        card_free((void *)(uintptr_t)c->args.part_scale[p]);
        free(c->bias[p]), free(c->before[p]), free(c->scale[p]);
    }
    card_free((void *)(uintptr_t)c->args.x), card_free((void *)(uintptr_t)c->args.norm);
    card_free((void *)(uintptr_t)c->args.out_scale);
    if (c->args.expert)
        card_free((void *)(uintptr_t)c->args.expert);
    if (c->up)
        card_free((void *)(uintptr_t)c->args.up);
    free(c->up), free(c->x), free(c->norm), free(c->out_scale), free(c->expert);
}

/* part_scale * w . x + bias, and the size of its terms. */
static struct sum product(const struct call *c, int p, const double *seen, int32_t i, int32_t r)
{
    const int32_t expert = c->expert ? c->expert[i] : 0;
    const size_t x_row = (size_t)(c->expert ? i / c->args.x_div : i);
    const size_t output = (size_t)(expert * c->w[p].n + r);
    const double scale = (double)c->scale[p][expert];
    struct sum s = dot(&c->w[p], output, seen + x_row * (size_t)c->w[p].k);
    s.value = s.value * scale + (double)c->bias[p][output];
    s.size = s.size * fabs(scale) + 1.0;
    return s;
}

/* Runs and compares every output; what lies between rows of y stays. */
static void call_check(struct call *c, const char *what)
{
    const int gated = c->args.act != KERN_CUDA_ACT_NONE && c->args.n_parts > 1;
    const int32_t k = c->w[0].k;
    assert_int_equal(kern_cuda_product_few(&c->args, NULL), 0);
    for (int p = 0; p < (gated ? 1 : c->args.n_parts); p++) {
        double *seen = seen_rows(c->x, (size_t)k, c->x_rows, k, c->norm, c->args.eps,
                                 is_quantised(c->w[p].type));
        double *up_seen = seen_rows(c->x, (size_t)k, c->x_rows, k, c->norm, c->args.eps,
                                    is_quantised(c->w[gated].type));
        const size_t bytes = (size_t)c->m * c->y_stride[p] * sizeof(float);
        float *got = malloc(bytes);
        card_get(got, c->args.parts[p].y, bytes);
        for (int32_t i = 0; i < c->m; i++) {
            for (int32_t r = 0; r < (int32_t)c->y_stride[p]; r++) {
                const size_t at = (size_t)i * c->y_stride[p] + (size_t)r;
                const double before = (double)c->before[p][at];
                if (r >= c->w[p].n) {
                    assert_true((double)got[at] == before);
                    continue;
                }
                const struct sum s = product(c, p, seen, i, r);
                struct sum up = gated ? product(c, 1, up_seen, i, r) : (struct sum){1.0, 0.0};
                if (c->up)
                    up.value = (double)c->up[(size_t)i * c->args.up_stride + (size_t)r];
                double want = act_of(c->args.act, s.value, up.value) * (double)c->out_scale[i];
                /* Of a product of two sums: each error times the other; squares twice. */
                double size = s.size * (1.0 + fabs(up.value)) +
                              (gated ? up.size * (1.0 + fabs(s.value)) : 0.0);
                if (c->args.act == KERN_CUDA_ACT_RELU2)
                    size *= 1.0 + 2.0 * fabs(s.value);
                want += c->args.accumulate ? before : 0.0;
                compare(got[at], want, 2.0 * size + fabs(before), what, c->w[p].type, i, r);
            }
        }
        free(got), free(seen), free(up_seen);
    }
    call_free(c);
}

static void test_parts_share_their_rows(void **state)
{
    static const infer_dtype types[][3] = {
        {INFER_DTYPE_BF16, INFER_DTYPE_BF16, INFER_DTYPE_BF16},
        {INFER_DTYPE_Q4_K, INFER_DTYPE_Q4_K, INFER_DTYPE_Q6_K},
        {INFER_DTYPE_Q8_0, INFER_DTYPE_F32, INFER_DTYPE_Q8_0},
        {INFER_DTYPE_F8_128, INFER_DTYPE_BF16, INFER_DTYPE_F8_128},
    };
    uint64_t rng = 7;
    (void)state;
    card_needed("few");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        for (int32_t m = 1; m <= 8; m += m == 1 ? 1 : 3) {
            struct call c = {.n_experts = 1, .x_rows = m, .m = m};
            c.args.accumulate = m % 2;
            call_part(&c, &rng, 0, types[t][0], 17, 256);
            call_part(&c, &rng, 1, types[t][1], 1, 256);
            call_part(&c, &rng, 2, types[t][2], 6, 256);
            call_rows(&c, &rng, 256);
            call_check(&c, "parts");
        }
    }
}

static void test_gates(void **state)
{
    static const infer_dtype types[][2] = {
        {INFER_DTYPE_F16, INFER_DTYPE_F16},   {INFER_DTYPE_Q4_0, INFER_DTYPE_Q4_0},
        {INFER_DTYPE_Q5_K, INFER_DTYPE_Q5_K}, {INFER_DTYPE_Q4_K, INFER_DTYPE_Q6_K},
        {INFER_DTYPE_Q3_K, INFER_DTYPE_Q3_K}, {INFER_DTYPE_F8_128, INFER_DTYPE_F8_128},
    };
    uint64_t rng = 9;
    (void)state;
    card_needed("few");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        for (int32_t act = KERN_CUDA_ACT_SILU; act <= KERN_CUDA_ACT_SWIGLU_OAI; act++) {
            struct call c = {.n_experts = 1, .x_rows = act, .m = act};
            c.args.act = act;
            c.args.accumulate = act == KERN_CUDA_ACT_GELU && types[t][0] == types[t][1];
            call_part(&c, &rng, 0, types[t][0], 5, 256);
            if (act % 3 || types[t][0] != types[t][1])
                call_part(&c, &rng, 1, types[t][1], 5, 256);
            else if (t % 2)
                call_up(&c, &rng, 5 + t);
            call_rows(&c, &rng, 256);
            call_check(&c, "gate");
        }
    }
}

/* So many that a warp has several, of more chunks than are on their way at once. */
static void test_gates_go_from_row_to_row(void **state)
{
    static const infer_dtype types[] = {INFER_DTYPE_Q8_0, INFER_DTYPE_BF16};
    uint64_t rng = 10;
    (void)state;
    card_needed("few");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        struct call c = {.n_experts = 1, .x_rows = 1, .m = 1};
        const int32_t n = t ? 2300 : 40, k = t ? 96 : 7200;
        c.args.act = KERN_CUDA_ACT_SILU;
        call_part(&c, &rng, 0, types[t], n, k);
        call_part(&c, &rng, 1, types[t], n, k);
        call_rows(&c, &rng, k);
        call_check(&c, "gates");
    }
}

static void test_experts(void **state)
{
    static const infer_dtype types[] = {INFER_DTYPE_BF16, INFER_DTYPE_MXFP4, INFER_DTYPE_Q4_K,
                                        INFER_DTYPE_F8_128};
    uint64_t rng = 11;
    (void)state;
    card_needed("few");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        for (int32_t used = 1; used <= 4; used += 3) {
            struct call c = {.n_experts = 5, .x_rows = 3, .m = 3 * used};
            c.args.act = used > 1 ? KERN_CUDA_ACT_SWIGLU_OAI : KERN_CUDA_ACT_NONE;
            c.args.x_div = used;
            call_part(&c, &rng, 0, types[t], 6, 256);
            if (used > 1)
                call_part(&c, &rng, 1, types[t], 6, 256);
            c.expert = malloc((size_t)c.m * sizeof *c.expert);
            for (int32_t i = 0; i < c.m; i++)
                c.expert[i] = (int32_t)(test_rand(&rng) % 5);
            c.args.expert = card_new(c.expert, (size_t)c.m * sizeof *c.expert);
            call_rows(&c, &rng, 256);
            call_check(&c, "experts");
        }
    }
}

/* More of x than shared memory holds for eight rows. */
static void test_long_rows_go_in_groups(void **state)
{
    static const infer_dtype types[] = {INFER_DTYPE_BF16, INFER_DTYPE_Q4_0};
    uint64_t rng = 13;
    (void)state;
    card_needed("few");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        struct call c = {.n_experts = 1, .x_rows = 8, .m = 8};
        const int32_t k = t ? 32768 : 14336;
        c.args.accumulate = 1;
        call_part(&c, &rng, 0, types[t], 2, k);
        call_part(&c, &rng, 1, types[t], 1, k);
        call_rows(&c, &rng, k);
        call_check(&c, "groups");
    }
}

/* A block of x with an infinity makes what it meets NaN, and no other row. */
static void test_infinity_stays_in_its_row(void **state)
{
    static const infer_dtype types[] = {INFER_DTYPE_F16, INFER_DTYPE_Q4_0, INFER_DTYPE_Q8_0,
                                        INFER_DTYPE_Q6_K};
    uint64_t rng = 15;
    (void)state;
    card_needed("few");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        struct weights w = weights_new(&rng, types[t], 3, 1, 256, 0);
        float *x = random_floats(&rng, 3 * 256, 1.0f), got[9];
        x[256 + 70] = INFINITY;
        float *card_x = card_new(x, 3 * 256 * sizeof *x), *y = card_new(NULL, sizeof got);
        struct kern_cuda_few_args args = {.n_parts = 1, .m = 3, .x = card_x, .x_stride = 256};
        args.parts[0] = (struct kern_cuda_part){w.matrix, NULL, y, 3};
        assert_int_equal(kern_cuda_product_few(&args, NULL), 0);
        card_get(got, y, sizeof got);
        for (int i = 0; i < 9; i++)
            assert_int_equal(!isfinite(got[i]), i / 3 == 1);
        free(x);
        card_free(card_x), card_free(y);
        weights_free(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_equal_the_reference),
        cmocka_unit_test(test_warps_go_from_row_to_row),
        cmocka_unit_test(test_parts_share_their_rows),
        cmocka_unit_test(test_gates),
        cmocka_unit_test(test_gates_go_from_row_to_row),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_long_rows_go_in_groups),
        cmocka_unit_test(test_infinity_stays_in_its_row),
    };
    return cmocka_run_group_tests_name("cuda few", tests, NULL, NULL);
}
