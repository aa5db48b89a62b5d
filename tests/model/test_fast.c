/* FAST numerics. Of models in BF16, whose activations may become BF16 too: near the reference, and
 * other than what OpenBLAS computes just where the processor has kernels for it. Of quantised
 * weights, packed and not: near the default. */
#include "arch_fixture.h"
#include "support/engine.h"

/* A number in BF16 is off by 2^-9 of itself at most. */
#define TOLERANCE 0.03

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

/* Logits after n tokens of a model whose weights are quantised. */
static float *quantised(infer_numerics numerics, infer_pack pack, size_t n, int32_t *n_vocab)
{
    struct engine e;
    struct engine_setup setup = {
        .n_threads = 2, .kv_type = INFER_KV_F32, .numerics = numerics, .pack = pack};
    infer_token tokens[64];
    infer_model_info info = {.struct_size = sizeof info};
    engine_open(&e, test_source(TINY_MODEL), &setup);
    assert_ok(infer_model_get_info(e.model, &info));
    for (size_t i = 0; i < n; i++)
        tokens[i] = (infer_token)(i * 7 % 200 + 3);
    *n_vocab = info.n_vocab;
    float *logits = engine_logits(&e, tokens, n);
    engine_close(&e);
    return logits;
}

/* Quantised weights have but one arithmetic. */
static void test_quantised(void **state)
{
    static const infer_pack packs[] = {INFER_PACK_OFF, INFER_PACK_ON};
    int32_t n_vocab;
    (void)state;
    if (!infer_has("openblas"))
        skip();
    float *stable = quantised(INFER_NUMERICS_STABLE, INFER_PACK_OFF, 64, &n_vocab);
    for (size_t p = 0; p < sizeof packs / sizeof *packs; p++) {
        float *fast = quantised(INFER_NUMERICS_FAST, packs[p], 64, &n_vocab);
        assert_memory_equal(fast, stable, (size_t)n_vocab * sizeof *fast);
        free(fast);
    }
    free(stable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_quantised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
