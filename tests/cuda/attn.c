/* Paged attention on the card against the reference in double (attn_bench.h). */
#include "cuda/attn_bench.h"

/* One row a sequence at the edges of blocks; one sequence is not of this step. */
#define EDGES {{0, 1}, {15, 1}, {16, 1}, {0, 0}, {17, 1}, {1000, 1}}, 6

static void test_attn_decodes_every_type(void **state)
{
    (void)state;
    card_needed("attention");
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const struct shape s = {types[t], 8, 2, 64, 64, 16, 0, 0, 0.0f, 0, 0, 0, 0, EDGES};
        check(&s, t + 1);
    }
}

/* So many sequences that keys are not cut into parts: a warp goes through more than 32 tiles. */
static void test_attn_decodes_far_into_a_sequence(void **state)
{
    (void)state;
    card_needed("attention");
    for (size_t t = 1; t < 4; t += 2) {
        const struct shape s = {
            types[t], 4,    1, 64, 64, 16, 0,
            0,        0.0f, 0, 0,  0,  0,  {{4300, 1}, {2047, 1}, {2048, 2}, {2111, 1}},
            SEQS_MAX};
        check(&s, t + 5);
    }
}

static void test_attn_decodes_every_head(void **state)
{
    static const int32_t heads[][4] = {{4, 1, 128, 128}, {2, 2, 128, 128},  {3, 1, 80, 80},
                                       {2, 1, 192, 128}, {6, 2, 96, 96},    {4, 2, 256, 256},
                                       {2, 1, 7, 5},     {16, 1, 576, 512}, {24, 2, 64, 64}};
    (void)state;
    card_needed("attention");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        for (int k = 0; k < 2; k++) {
            const struct shape s = {types[1 + (i + (size_t)k) % 2],
                                    heads[i][0],
                                    heads[i][1],
                                    heads[i][2],
                                    heads[i][3],
                                    32,
                                    0,
                                    0,
                                    0.0f,
                                    0,
                                    0,
                                    k,
                                    0,
                                    {{0, 1}, {31, 2}, {130, 1}},
                                    3};
            check(&s, i + 10);
        }
}

static void test_attn_quantised_heads(void **state)
{
    static const int32_t dims[] = {96, 128, 256, 80};
    (void)state;
    card_needed("attention");
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int k = 3; k < 5; k++) {
            const struct shape s = {types[k], 8,    2, dims[i], dims[i], 64, 0,
                                    0,        0.0f, 0, 0,       0,       0,  {{63, 1}, {70, 3}},
                                    2};
            check(&s, i + 20);
        }
}

static void test_attn_windows_chunks_caps_sinks_gates(void **state)
{
    (void)state;
    card_needed("attention");
    for (int32_t i = 0; i < 24; i++) {
        const struct shape s = {types[i % 5],
                                8,
                                2,
                                i % 7 == 6 ? 40 : 64,
                                i % 7 == 6 ? 40 : 64,
                                16 << i % 3,
                                i & 1 ? 1 + i * 3 : 0,
                                i & 2 ? 24 : 0,
                                i & 4 ? 1.5f : 0.0f,
                                i & 8,
                                i % 3 == 0,
                                0,
                                i % 5 == 1   ? 16
                                : i % 5 == 2 ? 6
                                             : 0,
                                {{5, 1 + i % 9}, {23, 1}, {48, 2}, {301, 1 + i % 4}},
                                4};
        check(&s, (uint64_t)i + 30);
    }
}

static void test_attn_prefills(void **state)
{
    (void)state;
    card_needed("attention");
    for (int32_t i = 0; i < 5; i++) {
        const struct shape s = {
            types[i], 8,    2, 64, 64, 16, 0,
            0,        0.0f, 0, 0,  0,  0,  {{0, 1}, {0, 37}, {0, 0}, {77, 17}, {150, 2}},
            5};
        check(&s, (uint64_t)i + 70);
    }
}

static void test_attn_prefills_far_into_a_sequence(void **state)
{
    const struct shape s = {INFER_DTYPE_F16,      4, 1, 64, 64, 32, 0, 0, 0.0f, 0, 0, 0, 0,
                            {{1000, 20}, {1, 1}}, 2};
    (void)state;
    card_needed("attention");
    check(&s, 79);
}

static void test_attn_prefills_every_head(void **state)
{
    static const int32_t heads[][3] = {{2, 1, 128}, {1, 1, 96}, {1, 1, 256}, {3, 1, 64}};
    (void)state;
    card_needed("attention");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        for (int k = 2; k < 10; k++) {
            const struct shape s = {types[k / 2],
                                    heads[i][0],
                                    heads[i][1],
                                    heads[i][2],
                                    heads[i][2],
                                    16 << i % 3,
                                    0,
                                    0,
                                    0.0f,
                                    0,
                                    0,
                                    k / 2 == 2,
                                    0,
                                    {{0, 65}, {33, 66}},
                                    k % 2 ? SEQS_MAX : 2};
            check(&s, i + 80);
        }
}

static void test_attn_prefills_windows_chunks_caps_sinks_gates(void **state)
{
    (void)state;
    card_needed("attention");
    for (int32_t i = 0; i < 16; i++) {
        const struct shape s = {types[1 + i % 4],
                                4,
                                1,
                                64,
                                64,
                                16 << i % 3,
                                i & 1 ? 1 + i * 7 : 0,
                                i & 2 ? 24 : 0,
                                i & 4 ? 1.5f : 0.0f,
                                i & 8,
                                i % 3 == 0,
                                i % 5 == 0,
                                i % 4 < 2 ? 16 : 0,
                                {{90, 40}, {0, 18}},
                                i / 4 % 2 ? SEQS_MAX / 2 : 2};
        check(&s, (uint64_t)i + 100);
    }
}

/* A sequence alone has the bits that it has among others (of no greater length, so that the
 * number of parts is the same). */
static void test_attn_ignores_other_sequences(void **state)
{
    static const int32_t rows[] = {1, 3, 30};
    (void)state;
    card_needed("attention");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct shape s = {INFER_DTYPE_F16,
                                4,
                                1,
                                64,
                                64,
                                16,
                                0,
                                0,
                                0.0f,
                                0,
                                0,
                                0,
                                0,
                                {{40, 1}, {100, rows[i]}, {2, 1}},
                                3};
        struct bench b;
        float both[50 * 256], alone[50 * 256];
        bench_new(&b, &s, i + 120);
        bench_run(&b, both);
        struct kern_cuda_seq seqs[3] = {{0, 0, 0}, b.seqs[1], {0, 0, 0}};
        assert_int_equal(cudaMemcpy(b.card[5], seqs, sizeof seqs, cudaMemcpyHostToDevice),
                         cudaSuccess);
        bench_run(&b, alone);
        assert_memory_equal(both + 256, alone + 256, (size_t)rows[i] * 256 * 4);
        for (size_t k = 0; k < 256; k++)
            assert_true(isnan(alone[k]));
        bench_free(&b);
    }
}

/* With parts at fixed places a row alone has the bits that it has in any step. */
static void test_attn_parts_at_fixed_places(void **state)
{
    static const struct sequence seqs[] = {{0, 21}, {160, 30}, {130, 1}};
    (void)state;
    card_needed("attention");
    for (int32_t i = 0; i < 10; i++) {
        struct shape s = {.type = types[i % 5],
                          .n_head = 4,
                          .n_head_kv = 1 + i % 2,
                          .head_dim = i % 4 == 3 ? 40 : 64,
                          .head_dim_v = i % 4 == 3 ? 40 : 64,
                          .block_tokens = 16 << i % 3,
                          .window = i & 1 ? 100 + i : 0,
                          .chunk = i & 2 ? 100 : 0,
                          .softcap = i & 4 ? 1.5f : 0.0f,
                          .sinks = i & 8,
                          .gates = i % 3 == 0,
                          .n_seqs = i == 4 ? SEQS_MAX : 3};
        memcpy(s.seqs, seqs, sizeof seqs);
        check_parts(&s, 128, (uint64_t)i + 140);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attn_decodes_every_type),
        cmocka_unit_test(test_attn_decodes_far_into_a_sequence),
        cmocka_unit_test(test_attn_decodes_every_head),
        cmocka_unit_test(test_attn_quantised_heads),
        cmocka_unit_test(test_attn_windows_chunks_caps_sinks_gates),
        cmocka_unit_test(test_attn_prefills),
        cmocka_unit_test(test_attn_prefills_far_into_a_sequence),
        cmocka_unit_test(test_attn_prefills_every_head),
        cmocka_unit_test(test_attn_prefills_windows_chunks_caps_sinks_gates),
        cmocka_unit_test(test_attn_ignores_other_sequences),
        cmocka_unit_test(test_attn_parts_at_fixed_places),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
