/* The random weights of benchmarks/make_model: size, mean and repeatability of every type. */
#include "random_weights.h"
#include "support/test.h"

#include "format/quant_layout.h"
#include "kernels/kernels.h"

#include <math.h>

enum { ROW = 4096, ROWS = 64 };

static const infer_dtype types[] = {
    INFER_DTYPE_F32,     INFER_DTYPE_F16,     INFER_DTYPE_BF16,  INFER_DTYPE_F8_E4M3,
    INFER_DTYPE_F8_E5M2, INFER_DTYPE_Q8_0,    INFER_DTYPE_Q4_0,  INFER_DTYPE_Q4_1,
    INFER_DTYPE_Q5_0,    INFER_DTYPE_Q5_1,    INFER_DTYPE_Q2_K,  INFER_DTYPE_Q3_K,
    INFER_DTYPE_Q4_K,    INFER_DTYPE_Q5_K,    INFER_DTYPE_Q6_K,  INFER_DTYPE_IQ4_NL,
    INFER_DTYPE_IQ4_XS,  INFER_DTYPE_IQ3_XXS, INFER_DTYPE_IQ3_S, INFER_DTYPE_IQ2_XXS,
    INFER_DTYPE_IQ2_XS,  INFER_DTYPE_IQ2_S,   INFER_DTYPE_IQ1_S, INFER_DTYPE_IQ1_M,
    INFER_DTYPE_TQ1_0,   INFER_DTYPE_TQ2_0,   INFER_DTYPE_MXFP4, INFER_DTYPE_NVFP4,
    INFER_DTYPE_F8_128};

static size_t bytes_of(infer_dtype type, size_t n)
{
    const struct quant_layout *layout = quant_layout_of(type);
    return n / (size_t)layout->block_elements * (size_t)layout->block_bytes;
}

/* Down to the widest rows of large models, where the scales become subnormal halves. */
static void test_moments(void **state)
{
    static const float stds[] = {1.0f, 0.0625f, 1 / 64.0f, 1 / 170.0f};
    static struct infer_kernels kernels;
    BASE_UNUSED(state);
    kern_init_cpu(&kernels, 0);
    float *values = malloc(ROW * sizeof *values);
    void *block = malloc(bytes_of(INFER_DTYPE_F32, ROW));
    for (size_t t = 0; t < BASE_COUNT(types) * BASE_COUNT(stds); t++) {
        infer_dtype type = types[t % BASE_COUNT(types)];
        float std = stds[t / BASE_COUNT(types)];
        struct random_weights r = {t, std};
        double sum = 0, squares = 0;
        for (int row = 0; row < ROWS; row++) {
            assert_true(random_weights_fill(&r, type, block, ROW));
            kernels.quant.dequant[type](values, block, ROW);
            for (int i = 0; i < ROW; i++) {
                if (!(fabsf(values[i]) < 4.2f * std))
                    fail_msg("%s at %g: a value of %g", quant_type_name(type), (double)std,
                             (double)values[i]);
                sum += (double)values[i];
                squares += (double)values[i] * (double)values[i];
            }
        }
        double n = ROW * ROWS, mean = sum / n / (double)std;
        double spread = sqrt(squares / n) / (double)std;
        if (fabs(mean) > 0.02 || fabs(spread - 1) > 0.05)
            fail_msg("%s at %g: mean %g, deviation %g", quant_type_name(type), (double)std, mean,
                     spread);
    }
    free(values);
    free(block);
}

static void test_repeatable(void **state)
{
    BASE_UNUSED(state);
    for (size_t t = 0; t < BASE_COUNT(types); t++) {
        struct random_weights a = {5, 0.1f}, b = {5, 0.1f}, c = {6, 0.1f};
        size_t n = bytes_of(types[t], ROW);
        char *x = malloc(n), *y = malloc(n), *z = malloc(n);
        random_weights_fill(&a, types[t], x, ROW);
        random_weights_fill(&b, types[t], y, ROW);
        random_weights_fill(&c, types[t], z, ROW);
        assert_memory_equal(x, y, n);
        assert_memory_not_equal(x, z, n);
        free(x);
        free(y);
        free(z);
    }
    struct random_weights r = {1, 1};
    assert_false(random_weights_fill(&r, INFER_DTYPE_I64, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_repeatable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
