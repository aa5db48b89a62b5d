/* The sampler's errors and its memory. */
#include "support/test.h"
#include "support/test_alloc.h"
#include "unit/sample_plain.h"

/* ----------------------------------------------------------------- errors */

static void expect_run_error(struct sample_params p, const float *x, int32_t n,
                             const char *sentence)
{
    float copy[8];
    struct sample_result r = {.token = 77};
    struct sampler *s = make(&p, n);
    memcpy(copy, x, (size_t)n * sizeof *x);
    assert_int_equal(sampler_run(s, copy, 0, 0, &r), INFER_ERR_INVALID);
    assert_non_null(strstr(test_error_text(), sentence));
    assert_int_equal(r.token, 77);
    sampler_destroy(&s);
}

static void broken_logits_end_with_a_sentence(void **state)
{
    (void)state;
    const float nan[] = {0, 1, NAN, 2}, inf[] = {0, INFINITY}, none[] = {-INFINITY, -INFINITY};
    const float fine[] = {1, 2}, large[] = {0, 3e38f};
    struct sample_params p = defaults();
    expect_run_error(p, nan, 4, "token 2 the logit NaN");
    expect_run_error(p, inf, 2, "token 1 the logit infinity");
    expect_run_error(p, none, 2, "all 2 logits are -infinity");
    const struct sample_bias ban[] = {{0, -INFINITY}, {1, -INFINITY}}, boost = {1, 3e38f};
    p.bias = ban, p.n_bias = 2;
    expect_run_error(p, fine, 2, "no token is left");
    p.bias = &boost, p.n_bias = 1;
    expect_run_error(p, large, 2, "took token 1 to infinity");

    p = defaults();
    p.no_logprobs = 1;
    struct sampler *s = make(&p, 2);
    struct sample_result r;
    float x[] = {1, 2};
    assert_int_equal(sampler_run(s, x, 0, 1, &r), INFER_ERR_INVALID);
    sampler_destroy(&s);
}

static void expect_create_error(struct sample_params p, int32_t n, infer_status status)
{
    struct sampler *s = (struct sampler *)&p;
    assert_int_equal(sampler_create(&s, &base_alloc_default, &plain_kernels, &p, n), status);
    assert_ptr_equal(s, &p); /* out-parameters are written on success alone */
}

static void wrong_parameters_are_refused(void **state)
{
    (void)state;
    const struct sample_params good = defaults();
    expect_create_error(good, 0, INFER_ERR_INVALID);
#define BAD(field, value, status)                                                                  \
    do {                                                                                           \
        struct sample_params p = good;                                                             \
        p.field = (value);                                                                         \
        expect_create_error(p, 10, status);                                                        \
    } while (0)
    BAD(temperature, -1, INFER_ERR_INVALID);
    BAD(temperature, NAN, INFER_ERR_INVALID);
    BAD(temperature, INFINITY, INFER_ERR_INVALID);
    BAD(top_k, -1, INFER_ERR_INVALID);
    BAD(top_p, 1.5f, INFER_ERR_INVALID);
    BAD(top_p, NAN, INFER_ERR_INVALID);
    BAD(min_p, -0.1f, INFER_ERR_INVALID);
    BAD(repetition_penalty, 0, INFER_ERR_INVALID);
    BAD(frequency_penalty, NAN, INFER_ERR_INVALID);
    BAD(presence_penalty, INFINITY, INFER_ERR_INVALID);
    BAD(penalty_last_n, -2, INFER_ERR_INVALID);
    BAD(penalty_last_n, INT32_MAX, INFER_ERR_LIMIT);
    BAD(n_top_logprobs, -1, INFER_ERR_INVALID);
#undef BAD
    const struct sample_bias bad[] = {{10, 0}, {-1, 0}, {0, NAN}, {0, INFINITY}};
    for (int i = 0; i < 4; i++) {
        struct sample_params p = good;
        p.bias = &bad[i], p.n_bias = 1;
        expect_create_error(p, 10, INFER_ERR_INVALID);
    }
    struct sampler *s = make(&good, 10);
    const infer_token tokens[] = {1, 10};
    assert_int_equal(sampler_accept(s, tokens, 2), INFER_ERR_INVALID);
    sampler_destroy(&s);
    sampler_destroy(&s);
}

/* ------------------------------------------------------------------ memory */

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const struct sample_bias bias = {1, 1};
    struct sample_params p = defaults();
    p.bias = &bias, p.n_bias = 1;
    p.top_k = 5, p.top_p = 0.9f;
    p.repetition_penalty = 1.1f, p.presence_penalty = 0.1f, p.penalty_last_n = 8;
    p.n_top_logprobs = 3;
    int failed = 0;
    for (size_t fail_at = 1;; fail_at++) {
        struct test_alloc t;
        struct sampler *s = NULL;
        test_alloc_init(&t);
        t.fail_at = fail_at;
        infer_status st = sampler_create(&s, &t.alloc, &plain_kernels, &p, 20);
        if (st == INFER_OK) {
            sampler_destroy(&s);
            assert_int_equal(t.live_blocks, 0);
            break;
        }
        assert_int_equal(st, INFER_ERR_NO_MEMORY);
        assert_null(s);
        assert_int_equal(t.live_blocks, 0);
        failed++;
    }
    assert_int_equal(failed, 9); /* the sampler and its eight parts */
}

static void a_run_allocates_nothing_and_a_plain_request_is_small(void **state)
{
    (void)state;
    const int32_t n = 131072;
    float *x = malloc((size_t)n * sizeof *x);
    uint64_t rand = 7;
    struct sample_params p = defaults();
    p.top_k = 40, p.top_p = 0.9f, p.min_p = 0.05f, p.no_logprobs = 1;
    struct test_alloc t;
    test_alloc_init(&t);
    struct sampler *s = NULL;
    struct sample_result r;
    assert_ok(sampler_create(&s, &t.alloc, &plain_kernels, &p, n));
    assert_true(t.live_bytes < 20000);
    const size_t calls = t.n_calls;
    for (int i = 0; i < 20; i++) {
        for (int32_t j = 0; j < n; j++)
            x[j] = test_randf(&rand);
        assert_ok(sampler_run(s, x, (uint64_t)i, 0, &r));
    }
    assert_int_equal(t.n_calls, calls);
    sampler_destroy(&s);
    assert_int_equal(t.live_blocks, 0);
    free(x);
}

/* Shapes that make a comparison-based selection slow, at full size. */
static void large_vocabularies_with_hostile_orders(void **state)
{
    (void)state;
    const int32_t n = 131072;
    float *x = malloc((size_t)n * sizeof *x);
    struct sample_params p = defaults();
    p.top_k = 1000;
    for (int shape = 0; shape < 4; shape++) {
        for (int32_t i = 0; i < n; i++) {
            const float values[] = {1.0f, (float)i * 1e-4f, (float)-i * 1e-4f,
                                    1.0f + (float)(i % 64) * 0x1p-20f};
            x[i] = values[shape];
        }
        struct sampler *s = make(&p, n);
        for (uint64_t i = 0; i < 20; i++) {
            infer_token token = run(s, x, n, i, 0).token;
            if (shape == 0 || shape == 2)
                assert_in_range(token, 0, 999);
            else if (shape == 1)
                assert_in_range(token, n - 1000, n - 1);
            else
                assert_true(token % 64 == 63 && token < 64 * 1000);
        }
        sampler_destroy(&s);
    }
    free(x);
}

static void a_vocabulary_of_one(void **state)
{
    (void)state;
    const float x[] = {-4};
    struct sample_params p = defaults();
    p.top_k = 3, p.top_p = 0.1f, p.min_p = 1, p.n_top_logprobs = 5;
    p.repetition_penalty = 2, p.frequency_penalty = 1;
    struct sampler *s = make(&p, 1);
    for (uint64_t i = 0; i < 5; i++) {
        struct sample_result r = run(s, x, 1, i, 1);
        assert_int_equal(r.token, 0);
        assert_int_equal(r.n_top, 1);
        assert_true(r.logprob == 0.0f && r.top[0].logprob == 0.0f);
    }
    sampler_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_logits_end_with_a_sentence),
        cmocka_unit_test(wrong_parameters_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_run_allocates_nothing_and_a_plain_request_is_small),
        cmocka_unit_test(large_vocabularies_with_hostile_orders),
        cmocka_unit_test(a_vocabulary_of_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
