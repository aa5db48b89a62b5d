/* FAST numerics. Of models in BF16, whose activations may become BF16 too, and do by default where
 * that is batch-invariant: near the reference, and other than what OpenBLAS computes just where the
 * processor has kernels for it. Of quantised weights, packed and not: near the default. */
#include "arch_fixture.h"
#include "support/engine.h"

#include <math.h>
#include <unistd.h>

/* A number in BF16 is off by 2^-9 of itself at most. */
#define TOLERANCE 0.03
/* Weights and activations with one scale for 256 of them, eight bits each. */
#define TOLERANCE_ROUNDED 0.05

static const char *const names[] = {"llama", "gemma3", "deepseek-v2", "mixtral", "mamba2"};

/* The logits after all tokens; the caller frees. */
static float *logits_of(const char *path, const struct arch_fixture *f, uint32_t disabled,
                        int *has_bf16)
{
    struct engine e;
    struct engine_setup setup = {.n_threads = 2,
                                 .disable_cpu_features = disabled,
                                 .kv_type = INFER_KV_F32,
                                 .numerics = INFER_NUMERICS_FAST};
    infer_device_info info = {.struct_size = sizeof info};
    engine_open(&e, path, &setup);
    assert_ok(infer_device_get_info(e.device, &info));
    *has_bf16 = !strcmp(info.kernels, "avx512bf16") || !strcmp(info.kernels, "avx512amx");
    float *logits = engine_logits(&e, f->tokens, f->n_tokens);
    engine_close(&e);
    return logits;
}

static double error_of(const struct arch_fixture *f, const float *logits)
{
    struct arch_error error = {0};
    arch_error_add(&error, f, f->n_tokens - 1, logits);
    return arch_error_relative(&error);
}

static void check_model(const char *name)
{
    struct arch_fixture f;
    char folder[512];
    int has_bf16, none;
    arch_fixture_open(&f, name);
    arch_folder_make(folder, sizeof folder);
    arch_fixture_write(&f, folder, "BF16");
    float *fast = logits_of(folder, &f, 0, &has_bf16);
    float *blas = logits_of(folder, &f, INFER_CPU_AVX512, &none);
    print_message("  %s: error %.2g, without kernels for BF16 %.2g\n", name, error_of(&f, fast),
                  error_of(&f, blas));
    assert_true(error_of(&f, fast) <= TOLERANCE);
    assert_true(error_of(&f, blas) <= 1e-4);
    assert_false(none);
    assert_int_equal(memcmp(fast, blas, f.n_vocab * sizeof *fast) != 0, has_bf16);
    free(fast);
    free(blas);
    arch_folder_remove(folder);
    arch_fixture_close(&f);
}

static void test_bf16(void **state)
{
    (void)state;
    if (!infer_has("openblas"))
        skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_model(names[i]);
}

/* Activations in BF16 belong to the default where they are batch-invariant: other numbers than
 * without them, the same bits however a prompt is cut and on any number of threads. */
static void test_bf16_stable(void **state)
{
    const struct engine_setup ways[] = {
        {.n_threads = 2, .kv_type = INFER_KV_F32},
        {.n_threads = 1, .kv_type = INFER_KV_F32, .step_tokens = 7},
        {.n_threads = 2, .kv_type = INFER_KV_F32, .step_tokens = 1},
        {.n_threads = 2, .kv_type = INFER_KV_F32, .disable_cpu_features = INFER_CPU_AVX512BF16},
    };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        float *logits[sizeof ways / sizeof *ways];
        infer_device_info info = {.struct_size = sizeof info};
        struct arch_fixture f;
        char folder[512];
        arch_fixture_open(&f, names[i]);
        arch_folder_make(folder, sizeof folder);
        arch_fixture_write(&f, folder, "BF16");
        for (size_t w = sizeof ways / sizeof *ways; w-- > 0;) {
            struct engine e;
            engine_open(&e, folder, &ways[w]);
            assert_ok(infer_device_get_info(e.device, &info));
            logits[w] = engine_logits(&e, f.tokens, f.n_tokens);
            engine_close(&e);
        }
        size_t bytes = f.n_vocab * sizeof **logits;
        assert_true(error_of(&f, logits[0]) <= TOLERANCE);
        assert_memory_equal(logits[1], logits[0], bytes);
        assert_memory_equal(logits[2], logits[0], bytes);
        assert_int_equal(memcmp(logits[3], logits[0], bytes) != 0,
                         !strcmp(info.kernels, "avx512bf16"));
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
            free(logits[w]);
        arch_folder_remove(folder);
        arch_fixture_close(&f);
    }
}

/* Size of a difference, relative to b. */
static double distance(const float *a, const float *b, int32_t n)
{
    double error = 0, power = 0;
    for (int32_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        error += d * d;
        power += (double)b[i] * (double)b[i];
    }
    return sqrt(error / power);
}

/* Whether this processor has kernels for rounded weights. */
static int rounds(void)
{
    struct engine e;
    infer_device_info info = {.struct_size = sizeof info};
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){0});
    assert_ok(infer_device_get_info(e.device, &info));
    int has = !strcmp(info.kernels, "avx512vnni") || !strcmp(info.kernels, "avx512bf16");
    engine_close(&e);
    return has;
}

/* Two steps of so many give each of four experts the rows that rounded products want. */
#define N_TOKENS 96

/* Logits after so many tokens of a model whose weights are quantised. */
static float *quantised(const char *path, const struct engine_setup *how, int32_t *n_vocab)
{
    struct engine e;
    struct engine_setup setup = *how;
    infer_token tokens[N_TOKENS];
    infer_model_info info = {.struct_size = sizeof info};
    setup.n_threads = 2;
    setup.kv_type = INFER_KV_F32;
    engine_open(&e, path, &setup);
    assert_ok(infer_model_get_info(e.model, &info));
    for (size_t i = 0; i < N_TOKENS; i++)
        tokens[i] = (infer_token)(i * 7 % 200 + 3);
    *n_vocab = info.n_vocab;
    float *logits = engine_logits(&e, tokens, N_TOKENS);
    engine_close(&e);
    return logits;
}

/* Of many rows weights are rounded, where the processor has kernels for that: near the default,
 * the same packed or not and however the prompt is cut. Elsewhere, and of few rows, they have but
 * one arithmetic. */
static void check_quantised(const char *name, const char *path)
{
    const struct engine_setup plain = {.pack = INFER_PACK_OFF},
                              ways[] = {
                                  {.numerics = INFER_NUMERICS_FAST, .pack = INFER_PACK_OFF},
                                  {.numerics = INFER_NUMERICS_FAST, .pack = INFER_PACK_ON},
                                  {.numerics = INFER_NUMERICS_FAST,
                                   .pack = INFER_PACK_ON,
                                   .step_tokens = N_TOKENS / 2},
                                  {.numerics = INFER_NUMERICS_FAST,
                                   .disable_cpu_features = INFER_CPU_AVX512VNNI},
                                  {.numerics = INFER_NUMERICS_FAST, .step_tokens = 8},
                              };
    float *logits[sizeof ways / sizeof *ways];
    int32_t n_vocab;
    float *stable = quantised(path, &plain, &n_vocab);
    size_t bytes = (size_t)n_vocab * sizeof *stable;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        logits[i] = quantised(path, &ways[i], &n_vocab);
    double error = distance(logits[0], stable, n_vocab);
    print_message("  %s, rounded weights: error %.2g\n", name, error);
    assert_true(error <= TOLERANCE_ROUNDED);
    assert_int_equal(error > 0, rounds());
    assert_memory_equal(logits[1], logits[0], bytes);
    assert_memory_equal(logits[2], logits[0], bytes);
    assert_memory_equal(logits[3], stable, bytes);
    assert_memory_equal(logits[4], stable, bytes);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        free(logits[i]);
    free(stable);
}

static void test_quantised(void **state)
{
    infer_convert_options options = {.struct_size = sizeof options, .type = "Q8_0"};
    struct arch_fixture f;
    char folder[512], file[600];
    (void)state;
    if (!infer_has("openblas"))
        skip();
    check_quantised("bundled", test_source(TINY_MODEL));
    arch_fixture_open(&f, "mixtral");
    arch_folder_make(folder, sizeof folder);
    arch_fixture_write(&f, folder, "F32");
    snprintf(file, sizeof file, "%s/model.gguf", folder);
    assert_ok(infer_convert(NULL, folder, file, &options));
    check_quantised("mixtral", file);
    unlink(file);
    arch_folder_remove(folder);
    arch_fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_bf16_stable),
        cmocka_unit_test(test_quantised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
