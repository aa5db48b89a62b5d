/* Products of many rows, against sums in double of what the reference makes of weights and x. */
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <math.h>

enum { GUARD = 3 }; /* floats behind each row of y that stay as they were */

struct type {
    infer_dtype type;
    const char *name;
    int16_t halves[2]; /* where a block has its halves; -1: none */
};

/* One of each kind of arithmetic first. */
enum { N_KINDS = 8 };

static const struct type types[] = {
    {INFER_DTYPE_BF16, "BF16", {-1, -1}},    {INFER_DTYPE_F16, "F16", {-1, -1}},
    {INFER_DTYPE_F32, "F32", {-1, -1}},      {INFER_DTYPE_Q4_0, "Q4_0", {0, -1}},
    {INFER_DTYPE_Q4_1, "Q4_1", {0, 2}},      {INFER_DTYPE_Q6_K, "Q6_K", {208, -1}},
    {INFER_DTYPE_Q2_K, "Q2_K", {80, 82}},    {INFER_DTYPE_F8_128, "F8_128", {-1, -1}},
    {INFER_DTYPE_Q5_0, "Q5_0", {0, -1}},     {INFER_DTYPE_Q5_1, "Q5_1", {0, 2}},
    {INFER_DTYPE_Q8_0, "Q8_0", {0, -1}},     {INFER_DTYPE_IQ4_NL, "IQ4_NL", {0, -1}},
    {INFER_DTYPE_Q4_K, "Q4_K", {0, 2}},      {INFER_DTYPE_Q5_K, "Q5_K", {0, 2}},
    {INFER_DTYPE_IQ4_XS, "IQ4_XS", {0, -1}}, {INFER_DTYPE_MXFP4, "MXFP4", {-1, -1}},
    {INFER_DTYPE_Q3_K, "Q3_K", {108, -1}},   {INFER_DTYPE_IQ3_XXS, "IQ3_XXS", {0, -1}},
    {INFER_DTYPE_IQ3_S, "IQ3_S", {0, -1}},   {INFER_DTYPE_IQ2_XXS, "IQ2_XXS", {0, -1}},
    {INFER_DTYPE_IQ2_XS, "IQ2_XS", {0, -1}}, {INFER_DTYPE_IQ2_S, "IQ2_S", {0, -1}},
    {INFER_DTYPE_IQ1_S, "IQ1_S", {0, -1}},   {INFER_DTYPE_IQ1_M, "IQ1_M", {-1, -1}},
    {INFER_DTYPE_TQ1_0, "TQ1_0", {52, -1}},  {INFER_DTYPE_TQ2_0, "TQ2_0", {64, -1}},
    {INFER_DTYPE_NVFP4, "NVFP4", {-1, -1}},
};

/* A product: what the card gets, and the numbers that it stands for. */
struct product {
    struct kern_cuda_many_args args;
    int32_t n, k, m, x_rows, n_matrices;
    float *w, *x; /* as floats: n_matrices * n rows, x_rows rows, of k */
    float *bias, *scale, *before;
    int32_t *first, *from; /* of the host */
    size_t scratch_bytes;
};

static struct kern_quant quant;
static uint64_t random_state = 7;

static int32_t below(int32_t n)
{
    return (int32_t)(test_rand(&random_state) % (uint32_t)n);
}

static float *floats(size_t n, float size)
{
    float *p = malloc((n + 1) * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = size * test_randf(&random_state);
    return p;
}

/* Random blocks of the file: any codes, scales near 1 / 64. */
static void fill_blocks(uint8_t *row, const struct type *t, const struct kern_cuda_layout *l,
                        int32_t k)
{
    for (int32_t b = 0; b < k / l->block_elements; b++, row += l->block_bytes) {
        for (int i = 0; i < l->block_bytes; i++)
            row[i] = (uint8_t)test_rand(&random_state);
        for (int i = 0; i < 2 && t->halves[i] >= 0; i++) {
            const uint16_t h = kern_f16_of_float(test_randf(&random_state) / 64);
            memcpy(row + t->halves[i], &h, 2);
        }
        if (t->type == INFER_DTYPE_MXFP4) {
            row[0] = (uint8_t)(118 + row[0] % 8); /* an exponent near that of 1 */
        } else if (t->type == INFER_DTYPE_NVFP4) {
            for (int i = 0; i < 4; i++)
                row[i] &= 0x7f; /* scales have no sign */
        } else if (t->type == INFER_DTYPE_F8_128) {
            const float d = test_randf(&random_state) / 64;
            memcpy(row, &d, sizeof d);
            for (int i = 4; i < l->block_bytes; i++)
                row[i] ^= (row[i] & 0x7f) == 0x7f; /* no NaN */
        } else if (t->type == INFER_DTYPE_IQ1_M) {
            row[55] = (uint8_t)(0x20 | (row[55] & 15)); /* the top of d */
        } else if (l->block_elements == 1) {
            const float value = test_randf(&random_state);
            quant.narrow[t->type](row, &value, 1);
        }
    }
}

/* A row of the file in the card's layout. */
static void cut_row(uint8_t *body, uint8_t *side, const uint8_t *row,
                    const struct kern_cuda_layout *l, int32_t k)
{
    const int behind = l->body_at + l->body_bytes;
    for (int32_t b = 0; b < k / l->block_elements; b++, row += l->block_bytes) {
        memcpy(body, row + l->body_at, l->body_bytes);
        body += l->body_bytes;
        if (!l->side_bytes)
            continue;
        memcpy(side, row, l->body_at);
        memcpy(side + l->body_at, row + behind, (size_t)(l->block_bytes - behind));
        side += l->side_bytes;
    }
}

static void make_weights(struct product *p, const struct type *t)
{
    const struct kern_cuda_layout *l = kern_cuda_layout_of(t->type);
    struct kern_cuda_matrix *w = &p->args.w;
    const size_t rows = (size_t)p->n * (size_t)p->n_matrices, k = (size_t)p->k;
    uint8_t *row = malloc(k / l->block_elements * l->block_bytes);
    *w = (struct kern_cuda_matrix){.n = p->n, .k = p->k, .type = t->type};
    w->body_stride = kern_cuda_body_stride(l, p->k);
    w->side_stride = kern_cuda_side_stride(l, p->k);
    uint8_t *body = malloc(rows * w->body_stride), *side = malloc(rows * w->side_stride + 1);
    memset(body, 0xff, rows * w->body_stride);
    memset(side, 0xff, rows * w->side_stride);
    p->w = malloc(rows * k * sizeof(float));
    for (size_t r = 0; r < rows; r++) {
        fill_blocks(row, t, l, p->k);
        quant.dequant[t->type](p->w + r * k, row, p->k);
        cut_row(body + r * w->body_stride, side + r * w->side_stride, row, l, p->k);
    }
    w->body = card_new(body, rows * w->body_stride);
    w->side = l->side_bytes ? card_new(side, rows * w->side_stride) : NULL;
    free(row);
    free(body);
    free(side);
}

static void make_x(struct product *p, infer_dtype type)
{
    const int32_t form = kern_cuda_many_rows(type);
    const size_t k = (size_t)p->k;
    size_t stride = BASE_ALIGN_UP(k * (form == KERN_CUDA_ROWS_F32 ? 4 : 2), (size_t)16);
    if (form == KERN_CUDA_ROWS_Q8)
        stride = kern_act_q8_bytes(p->k);
    uint8_t *rows = malloc((size_t)p->x_rows * stride);
    memset(rows, 0xff, (size_t)p->x_rows * stride);
    p->x = floats((size_t)p->x_rows * k, 1);
    for (int32_t i = 0; i < p->x_rows; i++) {
        float *x = p->x + (size_t)i * k;
        uint8_t *row = rows + (size_t)i * stride;
        if (form == KERN_CUDA_ROWS_F32) {
            memcpy(row, x, k * 4);
        } else if (form == KERN_CUDA_ROWS_BF16) {
            quant.narrow[INFER_DTYPE_BF16](row, x, p->k);
            quant.dequant[INFER_DTYPE_BF16](x, row, p->k);
        } else {
            quant.act_q8(row, x, p->k);
            for (size_t j = 0; j < k; j++) {
                float d;
                memcpy(&d, row + k + j / 32 * 4, 4);
                x[j] = d * (float)(int8_t)row[j];
            }
        }
    }
    p->args.x = card_new(rows, (size_t)p->x_rows * stride);
    p->args.x_stride = stride;
    free(rows);
}

/* What stands in y before, the guards included. */
static void reset_y(struct product *p)
{
    const size_t size = (size_t)p->m * (size_t)(p->n + GUARD);
    assert_int_equal(cudaMemcpy(p->args.y, p->before, size * 4, cudaMemcpyHostToDevice), 0);
}

static struct product *make(const struct type *t, int32_t m, int32_t n, int32_t k,
                            int32_t n_matrices, int32_t x_rows, int extras)
{
    struct product *p = calloc(1, sizeof *p);
    p->m = m, p->n = n, p->k = k, p->n_matrices = n_matrices, p->x_rows = x_rows;
    make_weights(p, t);
    make_x(p, t->type);
    p->args.m = m;
    p->args.y_stride = (size_t)(n + GUARD);
    p->before = floats((size_t)m * p->args.y_stride, 1);
    if (!(extras & 1))
        for (size_t i = 0; i < (size_t)m * p->args.y_stride; i++)
            p->before[i] = NAN;
    p->args.accumulate = extras & 1;
    p->args.y = card_new(p->before, (size_t)m * p->args.y_stride * 4);
    if (extras & 2) {
        p->bias = floats((size_t)(n * n_matrices), 1);
        p->args.bias = card_new(p->bias, (size_t)(n * n_matrices) * 4);
    }
    p->scratch_bytes = kern_cuda_many_scratch(n, k, m);
    if (p->scratch_bytes) {
        p->args.scratch = card_new(NULL, p->scratch_bytes);
        assert_int_equal(cudaMemset(p->args.scratch, 0, p->scratch_bytes), 0);
    }
    return p;
}

static void drop(struct product *p)
{
    const void *all[] = {p->args.w.body, p->args.w.side,     p->args.x,
                         p->args.y,      p->args.bias,       p->args.first,
                         p->args.from,   p->args.part_scale, p->args.scratch};
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        card_free((void *)(uintptr_t)all[i]);
    free(p->w);
    free(p->x);
    free(p->bias);
    free(p->scale);
    free(p->before);
    free(p->first);
    free(p->from);
    free(p);
}

static float *run(struct product *p)
{
    const size_t size = (size_t)p->m * p->args.y_stride;
    float *y = malloc(size * 4);
    reset_y(p);
    assert_int_equal(kern_cuda_product_many(&p->args, NULL), 0);
    card_get(y, p->args.y, size * 4);
    return y;
}

static int32_t expert_of(const struct product *p, int32_t row)
{
    int32_t e = 0;
    while (p->first && p->first[e + 1] <= row)
        e++;
    return e;
}

/* Each addition of floats errs by 2^-24 of the sum of sizes at most, tensor cores by twice that;
 * there is one for 16 elements or more (F32: one for each, of random sign). One element left out
 * is about 1 / k of the sum of sizes, which is far more. */
static void check_element(const struct product *p, const char *name, float y, int32_t i, int32_t r)
{
    const size_t k = (size_t)p->k, e = (size_t)expert_of(p, i);
    const float *w = p->w + (e * (size_t)p->n + (size_t)r) * k;
    const float *x = p->x + (size_t)(p->from ? p->from[i] : i) * k;
    double sum = 0, size = 0;
    for (size_t j = 0; j < k; j++) {
        sum += (double)w[j] * (double)x[j];
        size += fabs((double)w[j] * (double)x[j]);
    }
    if (p->scale) {
        sum *= (double)p->scale[e];
        size *= fabs((double)p->scale[e]);
    }
    const double extra[] = {
        p->bias ? (double)p->bias[e * (size_t)p->n + (size_t)r] : 0,
        p->args.accumulate ? (double)p->before[(size_t)i * p->args.y_stride + (size_t)r] : 0};
    sum += extra[0] + extra[1];
    size += fabs(extra[0]) + fabs(extra[1]);
    const double bound = 0x1p-22 * (4 + (double)k / 64) * size;
    if (!(fabs((double)y - sum) <= bound))
        fail_msg("%s m %d n %d k %d: row %d output %d is %.9g, expected %.9g within %.3g", name,
                 p->m, p->n, p->k, i, r, (double)y, sum, bound);
}

static void check(const struct product *p, const char *name, const float *y)
{
    for (int32_t i = 0; i < p->m; i++) {
        const size_t at = (size_t)i * p->args.y_stride;
        for (int32_t r = 0; r < p->n; r++)
            check_element(p, name, y[at + (size_t)r], i, r);
        assert_memory_equal(y + at + p->n, p->before + at + p->n, GUARD * 4);
    }
}

/* k of whole blocks, about `k`. */
static int32_t whole(const struct type *t, int32_t k)
{
    const int32_t block = kern_cuda_layout_of(t->type)->block_elements;
    return BASE_MAX(k / block, 1) * block;
}

static void test_every_shape(void **state)
{
    /* Every third for the types that share their arithmetic. */
    static const int32_t shapes[][3] = {
        /* m, n, k */
        {1, 1, 2305},  {1, 65, 33}, {9, 64, 256},  {16, 63, 513}, {17, 130, 65}, {33, 7, 544},
        {32, 31, 800}, {65, 64, 1}, {70, 129, 96}, {131, 3, 255}, {5, 17, 1100}, {40, 66, 1088}};
    BASE_UNUSED(state);
    card_needed("products of ragged shapes");
    for (size_t t = 0; t < BASE_COUNT(types); t++)
        for (size_t s = 0; s < BASE_COUNT(shapes); s += t < N_KINDS ? 1 : 3) {
            struct product *p =
                make(&types[t], shapes[s][0], shapes[s][1], whole(&types[t], shapes[s][2]), 1,
                     shapes[s][0], (int)(s + t) % 4);
            float *y = run(p);
            check(p, types[t].name, y);
            free(y);
            drop(p);
        }
}

/* Fewer rows of the same x, which other tiles compute, and one expert of all rows, whose sections
 * are not split. */
static void test_bits_do_not_depend_on_m(void **state)
{
    static const int32_t fewer[] = {1, 17, 33, 65};
    BASE_UNUSED(state);
    card_needed("bits of a row");
    for (size_t t = 0; t < N_KINDS; t++) {
        struct product *p = make(&types[t], 66, 66, whole(&types[t], 1070), 1, 66, 3);
        const size_t row = p->args.y_stride * 4;
        int32_t first[] = {0, p->m};
        float *y = run(p), *again = run(p);
        assert_true(p->scratch_bytes > 0);
        assert_memory_equal(y, again, (size_t)p->m * row);
        free(again);
        for (size_t i = 0; i < BASE_COUNT(fewer); i++) {
            p->args.m = fewer[i];
            again = run(p);
            assert_memory_equal(y, again, (size_t)fewer[i] * row);
            free(again);
        }
        p->args.m = p->m;
        p->args.first = card_new(first, sizeof first);
        p->args.n_experts = 1;
        again = run(p);
        assert_memory_equal(y, again, (size_t)p->m * row);
        free(again);
        free(y);
        drop(p);
    }
}

static void test_experts(void **state)
{
    static const int32_t cases[][2] = {/* rows, experts */ {40, 3}, {37, 41}, {150, 2}, {1, 70}};
    BASE_UNUSED(state);
    card_needed("products of experts");
    for (size_t t = 0; t < BASE_COUNT(types); t++)
        for (size_t c = 0; c < (t < N_KINDS ? BASE_COUNT(cases) : 1); c++) {
            const int32_t m = cases[c][0], n_experts = cases[c][1];
            struct product *p = make(&types[t], m, 5, whole(&types[t], 300), n_experts, m / 2 + 1,
                                     (int)(c + t) % 4);
            p->first = calloc((size_t)n_experts + 1, 4);
            p->from = calloc((size_t)m, 4);
            for (int32_t i = 0; i < m; i++) { /* some have many rows, some none */
                p->first[BASE_MIN(below(n_experts), below(n_experts)) + 1]++;
                p->from[i] = below(p->x_rows);
            }
            for (int32_t e = 0; e < n_experts; e++)
                p->first[e + 1] += p->first[e];
            p->args.first = card_new(p->first, ((size_t)n_experts + 1) * 4);
            p->args.from = card_new(p->from, (size_t)m * 4);
            p->args.n_experts = n_experts;
            if (c % 2) {
                p->scale = floats((size_t)n_experts, 2);
                p->args.part_scale = card_new(p->scale, (size_t)n_experts * 4);
            }
            float *y = run(p);
            check(p, types[t].name, y);
            free(y);
            drop(p);
        }
}

/* A row of x with NaN gives NaN in its own row of y alone. */
static void test_nan_stays_in_its_row(void **state)
{
    BASE_UNUSED(state);
    card_needed("NaN in x");
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        struct product *p = make(&types[t], 18, 20, whole(&types[t], 288), 1, 18, 0);
        uint8_t *x = (uint8_t *)(uintptr_t)p->args.x + 7 * p->args.x_stride;
        if (kern_cuda_many_rows(types[t].type) == KERN_CUDA_ROWS_Q8)
            x += p->k;
        assert_int_equal(cudaMemset(x, 0xff, 4), 0);
        float *y = run(p);
        for (int32_t i = 0; i < p->m; i++)
            for (int32_t r = 0; r < p->n; r++)
                assert_int_equal(isnan(y[(size_t)i * p->args.y_stride + (size_t)r]) != 0, i == 7);
        free(y);
        drop(p);
    }
}

/* BF16 numbers beyond the largest half count as it, with weights of F16. */
static void test_large_x_saturates(void **state)
{
    const uint16_t w[8] = {0x3c00, 0, 0, 0, 0, 0, 0, 0};     /* 1 */
    const uint16_t x[3][8] = {{0x4780}, {0xff7f}, {0x7f80}}; /* 65536, -3e38, infinity */
    const float expected[3] = {65504.0f, -65504.0f, INFINITY};
    float y[3];
    BASE_UNUSED(state);
    card_needed("x beyond halves");
    struct kern_cuda_many_args args = {
        .w = {.body = card_new(w, 16), .body_stride = 16, .n = 1, .k = 1, .type = INFER_DTYPE_F16},
        .x = card_new(x, sizeof x),
        .x_stride = 16,
        .y = card_new(NULL, sizeof y),
        .y_stride = 1,
        .m = 3};
    assert_int_equal(kern_cuda_product_many(&args, NULL), 0);
    card_get(y, args.y, sizeof y);
    assert_memory_equal(y, expected, sizeof y);
    card_free((void *)(uintptr_t)args.w.body);
    card_free((void *)(uintptr_t)args.x);
    card_free(args.y);
}

static void test_other_types_are_refused(void **state)
{
    struct kern_cuda_many_args args = {.w = {.n = 8, .k = 256, .type = INFER_DTYPE_F8_E4M3},
                                       .m = 4};
    BASE_UNUSED(state);
    assert_int_equal(kern_cuda_product_many(&args, NULL), cudaErrorNotSupported);
}

/* Memory for many rows is enough for fewer. */
static void test_scratch_is_for_fewer_rows_as_well(void **state)
{
    static const int32_t sizes[][2] = {{64, 4096}, {1024, 4096}, {4096, 4096}, {11008, 4096}};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t before = 0;
        for (int32_t m = 1; m <= 2048; m += 15) {
            size_t bytes = kern_cuda_many_scratch(sizes[i][0], sizes[i][1], m);
            assert_true(bytes >= before);
            before = bytes;
        }
    }
    assert_int_equal(kern_cuda_many_scratch(0, 0, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_shape),
        cmocka_unit_test(test_bits_do_not_depend_on_m),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_nan_stays_in_its_row),
        cmocka_unit_test(test_large_x_saturates),
        cmocka_unit_test(test_other_types_are_refused),
        cmocka_unit_test(test_scratch_is_for_fewer_rows_as_well),
    };
    kern_quant_init_ref(&quant);
    return cmocka_run_group_tests_name("cuda_many", tests, NULL, NULL);
}
