/* Each stage of the sampler's chain against code that sorts. */
#include "sample/chain.h"
#include "support/test.h"
#include "unit/sample_plain.h"

static void top_k_keeps_what_a_sort_keeps(void **state)
{
    (void)state;
    uint64_t rand = 1;
    struct sample_radix *radix = malloc(sizeof *radix);
    for (int trial = 0; trial < 2000; trial++) {
        float x[N_MAX], kept[N_MAX];
        infer_token ids[N_MAX];
        struct item items[N_MAX];
        const int32_t n = 1 + (int32_t)(test_rand(&rand) % N_MAX);
        const int32_t k = 1 + (int32_t)(test_rand(&rand) % (uint32_t)(trial % 2 ? 9 : n + 5));
        fill(x, n, &rand);
        if (trial % 3 == 0)
            x[0] = -0.0f, x[n - 1] = 0.0f; /* equal, though their bits differ */
        for (int32_t i = 0; i < n / 8 && trial % 7 == 0; i++)
            x[i] = i ? -INFINITY : 100; /* what comes first must not stand for the rest */
        for (int32_t i = 0; i < n; i++)
            items[i] = (struct item){x[i], i};
        qsort(items, (size_t)n, sizeof *items, by_value);
        int32_t n_finite = 0; /* a banned token is not kept, even where k has room */
        while (n_finite < n && items[n_finite].value > -INFINITY)
            n_finite++;
        const int32_t expected = k >= n ? n : k < n_finite ? k : n_finite;
        qsort(items, (size_t)expected, sizeof *items, by_id);

        memcpy(kept, x, sizeof x);
        struct sample_row row = {.x = kept, .n = n};
        sample_row_top_k(&row, k, ids, radix);
        assert_int_equal(row.n, expected);
        for (int32_t i = 0; i < expected; i++) {
            assert_int_equal(sample_row_token(&row, i), items[i].id);
            assert_true(row.x[i] == x[items[i].id]);
        }
    }
    free(radix);
}

/* The kept set must reach p and must not without its last token; equal tokens
 * go by id. Exact in double over the same float probabilities. */
static void top_p_keeps_the_smallest_set(void **state)
{
    (void)state;
    uint64_t rand = 2;
    struct sample_radix *radix = malloc(sizeof *radix);
    for (int trial = 0; trial < 2000; trial++) {
        float x[N_MAX], probs[N_MAX];
        struct item items[N_MAX];
        const int32_t n = 1 + (int32_t)(test_rand(&rand) % N_MAX);
        const float p = trial % 50 ? (float)(test_rand(&rand) % 10000) / 10000 : 0.0f;
        fill(x, n, &rand);
        plain_softmax(x, x, 1.0f, n);
        memcpy(probs, x, sizeof x);
        for (int32_t i = 0; i < n; i++)
            items[i] = (struct item){probs[i], i};
        qsort(items, (size_t)n, sizeof *items, by_value);

        struct sample_row row = {.x = x, .n = n};
        sample_row_top_p(&row, p, radix);
        double sum = 0;
        for (int32_t i = 0; i < n; i++) {
            const int keep = i == 0 || sum < (double)p;
            if (fabs(sum - (double)p) > 1e-12 && items[i].value > 0)
                assert_true(x[items[i].id] == (keep ? probs[items[i].id] : 0.0f));
            sum += items[i].value;
        }
    }
    free(radix);
}

static void top_p_of_equal_tokens_takes_the_lowest_ids(void **state)
{
    (void)state;
    struct sample_radix *radix = malloc(sizeof *radix);
    float x[8];
    for (int i = 0; i < 8; i++)
        x[i] = 0.125f;
    struct sample_row row = {.x = x, .n = 8};
    sample_row_top_p(&row, 0.375f, radix); /* reached exactly by three */
    for (int i = 0; i < 8; i++)
        assert_true(x[i] == (i < 3 ? 0.125f : 0.0f));
    free(radix);
}

static void min_p_compares_with_the_highest(void **state)
{
    (void)state;
    float x[] = {0.05f, 0.5f, 0.25f, 0.125f, 0.075f};
    struct sample_row row = {.x = x, .n = 5};
    sample_row_min_p(&row, 0.25f);
    const float expected[] = {0, 0.5f, 0.25f, 0.125f, 0};
    for (int i = 0; i < 5; i++)
        assert_true(x[i] == expected[i]);
}

static void argmax_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    float x[] = {-INFINITY, 2, 3, 3, 1};
    const struct sample_row row = {.x = x, .n = 5};
    assert_int_equal(sample_row_argmax(&row), 2);
}

static void draw_walks_the_cumulated_weights(void **state)
{
    (void)state;
    uint64_t rand = 3;
    for (int trial = 0; trial < 3000; trial++) {
        float x[N_MAX];
        const int32_t n = 1 + (int32_t)(test_rand(&rand) % N_MAX);
        double total = 0, sum = 0;
        for (int32_t i = 0; i < n; i++) {
            x[i] = test_rand(&rand) % 3 ? 0 : (float)(test_rand(&rand) % 1000);
            total += (double)x[i];
        }
        if (total == 0)
            total = x[n / 2] = 1;
        const double u = test_rand(&rand) * 0x1p-32;
        int32_t expected = 0;
        while (expected < n && (sum += (double)x[expected]) <= u * total)
            expected++;
        /* Whole numbers: every sum is exact, so the answer is. */
        const struct sample_row row = {.x = x, .n = n};
        assert_int_equal(sample_row_draw(&row, u), expected);
    }
}

static void draw_never_takes_a_zero_at_the_ends(void **state)
{
    (void)state;
    float x[200] = {0};
    x[3] = 0.1f, x[100] = 0.7f, x[130] = 0.1f;
    const struct sample_row row = {.x = x, .n = 200};
    assert_int_equal(sample_row_draw(&row, 0.0), 3);
    assert_int_equal(sample_row_draw(&row, 1.0 - 0x1p-53), 130);
    assert_int_equal(sample_row_draw(&row, 1.0),
                     130); /* what rounding of u * total can amount to */
}

/* Gathered or crossed out: the same tokens with the same scores are left. */
static void mask_leaves_what_its_bits_say(void **state)
{
    (void)state;
    uint64_t rand = 9;
    for (int trial = 0; trial < 1000; trial++) {
        float x[N_MAX], row_x[N_MAX];
        infer_token ids[N_MAX];
        uint64_t bits[N_MAX / 64 + 2] = {0};
        const int32_t n = 1 + (int32_t)(test_rand(&rand) % N_MAX);
        /* The tokenizer may know fewer tokens than the model has rows, or more. */
        const size_t n_tokens =
            (size_t)n - (size_t)n / 5 * (test_rand(&rand) % 2) + (trial % 3 == 0 ? 60 : 0);
        const uint32_t part = 1 + test_rand(&rand) % 60;
        size_t n_allowed = 0, left = 0, seen = 0;
        fill(x, n, &rand);
        memcpy(row_x, x, sizeof x);
        for (size_t i = 0; i < n_tokens; i++)
            if (test_rand(&rand) % 60 < part) {
                bits[i / 64] |= UINT64_C(1) << i % 64;
                n_allowed++;
                left += i < (size_t)n;
            }
        struct sample_row row = {.x = row_x, .n = n};
        const struct sample_mask mask = {bits, n_tokens, n_allowed};
        sample_row_mask(&row, &mask, ids, trial % 2 ? N_MAX : 0);
        assert_int_equal(row.ids != NULL, trial % 2 || n_allowed == 0);
        for (int32_t i = 0; i < row.n; i++) {
            infer_token token = sample_row_token(&row, i);
            int allowed = (size_t)token < n_tokens && (bits[token / 64] >> token % 64 & 1);
            assert_true(allowed ? row.x[i] == x[token] : row.x[i] == -INFINITY);
            seen += (size_t)allowed;
        }
        assert_int_equal(seen, left);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(top_k_keeps_what_a_sort_keeps),
        cmocka_unit_test(top_p_keeps_the_smallest_set),
        cmocka_unit_test(top_p_of_equal_tokens_takes_the_lowest_ids),
        cmocka_unit_test(min_p_compares_with_the_highest),
        cmocka_unit_test(argmax_takes_the_lowest_of_equals),
        cmocka_unit_test(draw_walks_the_cumulated_weights),
        cmocka_unit_test(draw_never_takes_a_zero_at_the_ends),
        cmocka_unit_test(mask_leaves_what_its_bits_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
