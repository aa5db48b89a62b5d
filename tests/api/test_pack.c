/* Packed weights: the same bits as plain ones, memory that comes and goes, every refusal. */
#include "support/engine.h"

#include <stdlib.h>

#define TOKENS 24

static infer_model_info info_of(const infer_model *model)
{
    infer_model_info info = {.struct_size = sizeof info};
    assert_ok(infer_model_get_info(model, &info));
    return info;
}

static float *logits_of(struct engine *e)
{
    infer_token tokens[TOKENS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = 5 + 7 * i;
    return engine_logits(e, tokens, TOKENS);
}

/* The logits of the bundled model at a level of the processor. */
static float *logits_at(infer_pack pack, uint32_t disabled, size_t *n)
{
    struct engine e;
    engine_open(
        &e, test_source(TINY_MODEL),
        &(struct engine_setup){.n_threads = 2, .pack = pack, .disable_cpu_features = disabled});
    float *logits = logits_of(&e);
    *n = (size_t)info_of(e.model).n_vocab;
    engine_close(&e);
    return logits;
}

static void test_same_bits(void **state)
{
    (void)state;
    const uint32_t levels[] = {0, INFER_CPU_AVX512VNNI, INFER_CPU_AVX512, ~0u};
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        size_t n;
        float *plain = logits_at(INFER_PACK_OFF, levels[i], &n);
        float *packed = logits_at(INFER_PACK_ON, levels[i], &n);
        assert_memory_equal(plain, packed, n * sizeof *plain);
        free(plain);
        free(packed);
    }
}

static void test_memory(void **state)
{
    (void)state;
    struct engine plain, packed;
    engine_open(&plain, test_source(TINY_MODEL), &(struct engine_setup){.pack = INFER_PACK_OFF});
    engine_open(&packed, test_source(TINY_MODEL), &(struct engine_setup){.pack = INFER_PACK_ON});
    infer_model_info without = info_of(plain.model), with = info_of(packed.model);
    assert_int_equal(without.weight_bytes, with.weight_bytes);
    assert_true(without.private_bytes + with.weight_bytes / 2 < with.private_bytes);
    assert_true(with.private_bytes < without.private_bytes + with.weight_bytes + (64u << 10));

    assert_ok(infer_model_evict(packed.model));
    assert_true(info_of(packed.model).private_bytes < without.private_bytes + (64u << 10));
    assert_ok(infer_model_restore(packed.model, NULL));
    uint64_t again = info_of(packed.model).private_bytes;
    assert_true(again + 4096 > with.private_bytes && again < with.private_bytes + 4096);
    float *a = logits_of(&plain), *b = logits_of(&packed);
    assert_memory_equal(a, b, (size_t)with.n_vocab * sizeof *a);
    free(a);
    free(b);
    engine_close(&plain);
    engine_close(&packed);
}

/* Nothing as large as the weights. */
static void *alloc_small(size_t bytes, size_t alignment, void *user_data)
{
    (void)user_data;
    return bytes > (1u << 20)
               ? NULL
               : aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void free_small(void *ptr, void *user_data)
{
    (void)user_data;
    free(ptr);
}

static void test_no_room(void **state)
{
    (void)state;
    const infer_allocator small = {
        .struct_size = sizeof small, .alloc = alloc_small, .free = free_small};
    infer_device *device = NULL;
    infer_model *model = NULL;
    assert_ok(infer_device_create(
        &device, 0,
        &(infer_device_options){.struct_size = sizeof(infer_device_options), .allocator = &small}));
    infer_model_options options = {
        .struct_size = sizeof options, .device = device, .pack = INFER_PACK_ON};
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &options),
                     INFER_ERR_NO_MEMORY);
    assert_null(model);
    options.pack = INFER_PACK_AUTO;
    assert_ok(infer_model_load(&model, test_source(TINY_MODEL), &options));
    infer_model_info info = info_of(model);
    assert_true(info.private_bytes < info.weight_bytes);
    infer_model_destroy(&model);
    infer_device_destroy(&device);
}

static int32_t stop_packing(double fraction, const char *stage, void *user_data)
{
    int *seen = user_data;
    if (strcmp(stage, "packing") != 0)
        return 0;
    assert_true(fraction > 0.2 && fraction <= 1);
    return ++*seen == 3;
}

static void test_refusals(void **state)
{
    (void)state;
    int seen = 0;
    infer_model *model = NULL;
    infer_model_options options = {.struct_size = sizeof options,
                                   .progress = stop_packing,
                                   .progress_user_data = &seen,
                                   .pack = INFER_PACK_ON};
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &options),
                     INFER_ERR_CANCELLED);
    assert_int_equal(seen, 3);
    assert_null(model);
    options.pack = INFER_PACK_ON + 1;
    assert_int_equal(infer_model_load(&model, test_source(TINY_MODEL), &options),
                     INFER_ERR_INVALID);
    assert_non_null(strstr(infer_last_error(), "pack is 3"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
