/* Attention of heads of 512 elements on the card against the reference in double (attn_bench.h).
 * Tiles have 16 vectors, or 64 where a KV head has more than 32 of a sequence. */
#include "cuda/attn_bench.h"

/* One row a sequence at the edges of blocks and tiles; one is cut into parts. */
static void test_wide_decodes_every_type(void **state)
{
    (void)state;
    card_needed("attention");
    for (size_t t = 1; t < BASE_COUNT(types); t++) {
        const struct shape s = {.type = types[t],
                                .n_head = 2 * (int32_t)t,
                                .n_head_kv = 1 + (int32_t)(t + 1) % 2,
                                .head_dim = 512,
                                .head_dim_v = 512,
                                .block_tokens = 16 << t % 3,
                                .bf16_rows = t % 2 == 1,
                                .slot_pad = t == 2 ? 16 : 0,
                                .seqs = {{0, 1}, {t == 1 ? 140 : 31, 1}, {0, 0}, {32, 1}},
                                .n_seqs = 4};
        check(&s, t + 1);
    }
}

/* 16 heads of a KV head, and more vectors than 32: tiles that some rows see little of, and one that
 * is cut into parts. */
static void test_wide_takes_many_vectors(void **state)
{
    static const struct shape shapes[] = {
        {INFER_DTYPE_F16, 16, 1, 512, 512, 16, 0, 0, 0, 0, 0, 0, 0, {{3, 1}, {17, 2}}, 2},
        {INFER_DTYPE_F16, 6, 1, 512, 512, 16, 0, 0, 0, 0, 0, 0, 0, {{20, 6}, {0, 0}, {5, 2}}, 3},
        {INFER_DTYPE_BF16, 11, 1, 512, 512, 64, 0, 0, 0, 0, 0, 1, 16, {{290, 3}}, 1},
        {INFER_DTYPE_Q8_0, 5, 1, 512, 512, 32, 0, 0, 0, 0, 0, 0, 0, {{26, 14}}, 1},
        {INFER_DTYPE_Q4_1, 9, 1, 512, 512, 16, 0, 0, 0, 0, 0, 0, 0, {{16, 4}}, 1},
        {INFER_DTYPE_F8_E4M3, 1, 1, 512, 512, 16, 0, 0, 0, 0, 0, 1, 0, {{0, 36}}, 1},
    };
    (void)state;
    card_needed("attention");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        check(&shapes[i], i + 11);
}

static void test_wide_windows_chunks_caps_sinks_gates(void **state)
{
    (void)state;
    card_needed("attention");
    for (int32_t i = 0; i < 10; i++) {
        const struct shape s = {.type = types[1 + i % 5],
                                .n_head = 6,
                                .n_head_kv = 1 + i % 2,
                                .head_dim = 512,
                                .head_dim_v = 512,
                                .block_tokens = 16 << i % 3,
                                .window = i & 1 ? 1 + i * 3 : 0,
                                .chunk = i & 2 ? 24 : 0,
                                .softcap = i & 4 ? 1.5f : 0.0f,
                                .sinks = i % 4 == 3,
                                .gates = i % 3 == 0,
                                .seqs = {{i * 7, i < 5 ? 6 + i % 2 * 6 : 2}},
                                .n_seqs = 1};
        check(&s, (uint64_t)i + 21);
    }
}

/* What the kernel does not take goes through the plain one. */
static void test_wide_of_odd_strides(void **state)
{
    const struct shape s = {INFER_DTYPE_F16, 2, 1, 512, 512, 16, 0, 0, 0, 0, 0, 0, 6, {{20, 1}}, 1};
    (void)state;
    card_needed("attention");
    check(&s, 31);
}

/* Parts of 64 keys: of a row alone, or few, each has a block; of the tiles of seven rows, which are
 * too many for that here, one block takes them in turn. Windows begin within tiles. */
static void test_wide_parts_at_fixed_places(void **state)
{
    static const struct shape shapes[] = {
        {INFER_DTYPE_F16, 4, 2, 512, 512, 32, 41, 0, 0, 1, 0, 0, 0, {{90, 2}, {59, 2}}, 2},
        {INFER_DTYPE_Q8_0, 16, 1, 512, 512, 16, 42, 50, 0, 0, 0, 0, 0, {{60, 7}}, 1},
    };
    (void)state;
    card_needed("attention");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        check_parts(&shapes[i], 64, i + 41);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wide_decodes_every_type),
        cmocka_unit_test(test_wide_takes_many_vectors),
        cmocka_unit_test(test_wide_windows_chunks_caps_sinks_gates),
        cmocka_unit_test(test_wide_of_odd_strides),
        cmocka_unit_test(test_wide_parts_at_fixed_places),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
