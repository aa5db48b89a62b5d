/* The sampler against plain double-precision code that sorts, and what it
 * promises: the distribution, the same token by seed and position, penalties. */
#include "base/rng.h"
#include "support/test.h"
#include "unit/sample_plain.h"

/* ---------------------------------------------------------- the reference */

static void normalise(struct item *items, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += items[i].value;
    for (int32_t i = 0; i < n; i++)
        items[i].value /= sum;
}

static void reference_penalties(double *x, int32_t n, const struct sample_params *p,
                                const infer_token *tokens, const int *drawn, int32_t n_tokens)
{
    const int32_t first = p->penalty_last_n < 0 ? 0 : n_tokens - p->penalty_last_n;
    for (int32_t id = 0; id < n; id++) {
        int seen = 0, generated = 0;
        for (int32_t i = first > 0 ? first : 0; i < n_tokens; i++) {
            seen += tokens[i] == id;
            generated += tokens[i] == id && drawn[i];
        }
        if (seen)
            x[id] = x[id] > 0 ? x[id] / p->repetition_penalty : x[id] * p->repetition_penalty;
        x[id] -= generated * (double)p->frequency_penalty;
        x[id] -= generated ? (double)p->presence_penalty : 0;
    }
}

/* Sorts, cuts, sorts back, walks. *margin is how near the draw came to another
 * token, so that rounding is not taken for an error. */
static infer_token reference_draw(const double *x, int32_t n, const struct sample_params *p,
                                  double u, double *margin)
{
    struct item items[N_MAX];
    for (int32_t i = 0; i < n; i++)
        items[i] = (struct item){x[i], i};
    qsort(items, (size_t)n, sizeof *items, by_value);
    *margin = 1;
    if (p->temperature == 0)
        return items[0].id;
    if (p->top_k && p->top_k < n)
        n = p->top_k;
    const double high = items[0].value;
    for (int32_t i = 0; i < n; i++)
        items[i].value = exp((items[i].value - high) / p->temperature);
    normalise(items, n);

    double sum = 0;
    for (int32_t i = 0; i < n && p->top_p < 1; i++) {
        sum += items[i].value;
        *margin = fmin(*margin, fabs(sum - (double)p->top_p));
        if (sum >= (double)p->top_p)
            n = i + 1;
    }
    for (int32_t i = n; i-- > 0 && p->min_p > 0;) {
        *margin =
            fmin(*margin, fabs(items[i].value - (double)p->min_p * items[0].value) + (i == 0));
        if (items[i].value < (double)p->min_p * items[0].value)
            n = i;
    }
    normalise(items, n);
    qsort(items, (size_t)n, sizeof *items, by_id);
    sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += items[i].value;
        *margin = fmin(*margin, fabs(sum - u));
        if (sum > u)
            return items[i].id;
    }
    return items[n - 1].id;
}

/* --------------------------------------------------------- the whole chain */

static struct sample_params random_params(uint64_t *rand, int32_t n)
{
    struct sample_params p = defaults();
    p.temperature = test_rand(rand) % 4 ? 0.2f + fabsf(test_randf(rand)) * 2 : 0.0f;
    p.top_k = test_rand(rand) % 2 ? (int32_t)(test_rand(rand) % (uint32_t)n) : 0;
    p.top_p = test_rand(rand) % 2 ? 0.01f + 0.98f * fabsf(test_randf(rand)) : 1.0f;
    p.min_p = test_rand(rand) % 2 ? 0.3f * fabsf(test_randf(rand)) : 0.0f;
    if (test_rand(rand) % 2)
        p.repetition_penalty = 0.5f + fabsf(test_randf(rand));
    if (test_rand(rand) % 2) {
        p.frequency_penalty = test_randf(rand);
        p.presence_penalty = test_randf(rand);
    }
    const int32_t windows[] = {-1, 0, 1, 7, 64};
    p.penalty_last_n = windows[test_rand(rand) % 5];
    p.seed = (uint64_t)test_rand(rand) << 32 | test_rand(rand);
    p.sequence = test_rand(rand) % 3;
    return p;
}

/* Prompt and twelve steps of one request; the reference keeps its own history. */
static int chain_trial(uint64_t *rand)
{
    const int32_t n = 1 + (int32_t)(test_rand(rand) % N_MAX);
    struct sample_params p = random_params(rand, n);
    struct sample_bias bias[3];
    for (int i = 0; i < 3; i++)
        bias[i] = (struct sample_bias){(int32_t)(test_rand(rand) % (uint32_t)n),
                                       n > 16 && i == 0 ? -INFINITY : test_randf(rand) * 4};
    p.bias = bias, p.n_bias = test_rand(rand) % 4;

    infer_token tokens[64];
    int drawn[64] = {0}, near = 0;
    int32_t n_tokens = (int32_t)(test_rand(rand) % 40);
    for (int32_t i = 0; i < n_tokens; i++)
        tokens[i] = (int32_t)(test_rand(rand) % (uint32_t)n);
    struct sampler *s = make(&p, n);
    assert_ok(sampler_accept(s, tokens, (size_t)n_tokens));
    for (int step = 0; step < 12; step++) {
        float x[N_MAX];
        double exact[N_MAX], margin;
        fill(x, n, rand);
        for (int32_t i = 0; i < n; i++)
            exact[i] = x[i];
        for (size_t i = 0; i < p.n_bias; i++)
            exact[bias[i].token] += bias[i].bias;
        reference_penalties(exact, n, &p, tokens, drawn, n_tokens);
        for (int32_t i = 0; i < n; i++)
            exact[i] = (float)exact[i]; /* ties are ties of floats */
        const double u = base_rng_uniform(p.seed, p.sequence, (uint64_t)n_tokens);
        infer_token expected = reference_draw(exact, n, &p, u, &margin);
        infer_token got = run(s, x, n, (uint64_t)n_tokens, 0).token;
        if (margin > 1e-6)
            assert_int_equal(got, expected);
        near += margin <= 1e-6;
        tokens[n_tokens] = got;
        drawn[n_tokens++] = 1;
    }
    sampler_destroy(&s);
    assert_null(s);
    return near;
}

static void chain_matches_the_reference(void **state)
{
    (void)state;
    uint64_t rand = 4;
    int near = 0;
    for (int trial = 0; trial < 1500; trial++)
        near += chain_trial(&rand);
    assert_in_range(near, 0, 1500 * 12 / 20); /* nearly all were compared */
}

static void greedy_takes_the_highest_and_the_lowest_id(void **state)
{
    (void)state;
    struct sample_params p = defaults();
    const float x[] = {0, 5, 5, -1};
    p.temperature = 0;
    struct sampler *s = make(&p, 4);
    assert_int_equal(run(s, x, 4, 0, 0).token, 1);
    sampler_destroy(&s);
}

static void extreme_temperatures_stay_finite(void **state)
{
    (void)state;
    const float x[] = {-3e38f, 80, 80.0001f, -INFINITY, 3};
    const float temperatures[] = {1e-45f, 1e-30f, 1e-6f};
    for (int i = 0; i < 3; i++) {
        struct sample_params p = defaults();
        p.temperature = temperatures[i];
        struct sampler *s = make(&p, 5);
        for (uint64_t position = 0; position < 20; position++)
            assert_int_equal(run(s, x, 5, position, 0).token, 2);
        sampler_destroy(&s);
    }
    struct sample_params p = defaults();
    p.temperature = 3e38f; /* nearly uniform over what is not banned */
    int seen[5] = {0};
    struct sampler *s = make(&p, 5);
    for (uint64_t position = 0; position < 400; position++)
        seen[run(s, x, 5, position, 0).token]++;
    sampler_destroy(&s);
    assert_true(seen[0] > 20 && seen[1] > 50 && seen[2] > 50 && seen[4] > 50);
    assert_int_equal(seen[3], 0);
}

/* ---------------------------------------------------------- random numbers */

/* Pearson's statistic of the drawn tokens against the distribution. */
static double chi_square(const struct sample_params *p, const float *x, int32_t n,
                         const double *expected, int n_draws)
{
    int count[16] = {0};
    double chi = 0;
    struct sampler *s = make(p, n);
    for (int i = 0; i < n_draws; i++)
        count[run(s, x, n, (uint64_t)i, 0).token]++;
    sampler_destroy(&s);
    for (int32_t i = 0; i < n; i++) {
        const double want = expected[i] * n_draws;
        if (want == 0)
            assert_int_equal(count[i], 0);
        else
            chi += (count[i] - want) * (count[i] - want) / want;
    }
    return chi;
}

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    const float weights[] = {1, 30, 2, 8, 20, 4, 1, 14, 10, 10};
    float x[10];
    double all[10], nucleus[10] = {0};
    for (int i = 0; i < 10; i++) {
        x[i] = logf(weights[i]) + 3;
        all[i] = weights[i] / 100.0;
    }
    struct sample_params p = defaults();
    for (uint64_t seed = 0; seed < 8; seed++) {
        p.seed = seed;
        p.sequence = seed * 77;
        /* 9 degrees of freedom: 33.7 is exceeded once in 10 000 */
        assert_true(chi_square(&p, x, 10, all, 50000) < 33.7);
    }
    /* The nucleus of 0.6 is {30, 20, 14}: 64 of 100. */
    nucleus[1] = 30 / 64.0, nucleus[4] = 20 / 64.0, nucleus[7] = 14 / 64.0;
    p.top_p = 0.6f;
    assert_true(chi_square(&p, x, 10, nucleus, 50000) < 18.4); /* 2 degrees, 1 in 10 000 */
}

static void a_token_depends_on_seed_sequence_and_position_alone(void **state)
{
    (void)state;
    uint64_t rand = 5;
    float x[64];
    for (int i = 0; i < 64; i++)
        x[i] = test_randf(&rand);
    struct sample_params p = defaults();
    infer_token first[200];
    struct sampler *a = make(&p, 64), *b = make(&p, 64);
    for (uint64_t i = 0; i < 200; i++)
        first[i] = run(a, x, 64, i, 0).token;
    for (uint64_t i = 200; i-- > 0;) /* another order, and log-probabilities asked for */
        assert_int_equal(run(b, x, 64, i, 1).token, first[i]);
    sampler_destroy(&a);
    sampler_destroy(&b);

    for (int which = 0; which < 2; which++) {
        int same = 0;
        p = defaults();
        *(which ? &p.seed : &p.sequence) += 1;
        a = make(&p, 64);
        for (uint64_t i = 0; i < 200; i++)
            same += run(a, x, 64, i, 0).token == first[i];
        sampler_destroy(&a);
        assert_in_range(same, 0, 20);
    }
}

/* ------------------------------------------------------ penalties and bias */

static void penalties_count_prompt_and_generated_as_documented(void **state)
{
    (void)state;
    const infer_token prompt[] = {0, 0, 1};
    const float x[] = {4, -2, 3.5f, 0};
    struct sample_params p = defaults();
    p.temperature = 0;
    p.repetition_penalty = 2; /* the prompt counts: token 0 falls to 2 */
    struct sampler *s = make(&p, 4);
    assert_ok(sampler_accept(s, prompt, 3));
    assert_int_equal(run(s, x, 4, 3, 0).token, 2);
    assert_int_equal(run(s, x, 4, 4, 0).token, 0); /* 2 fell to 1.75 */
    sampler_destroy(&s);

    p = defaults();
    p.temperature = 0;
    p.frequency_penalty = 0.3f; /* the prompt does not count */
    s = make(&p, 4);
    assert_ok(sampler_accept(s, prompt, 3));
    assert_int_equal(run(s, x, 4, 3, 0).token, 0);
    assert_int_equal(run(s, x, 4, 4, 0).token, 0); /* 3.7 */
    assert_int_equal(run(s, x, 4, 5, 0).token, 2); /* 3.4 < 3.5 */
    sampler_destroy(&s);
}

static void negative_logits_are_multiplied(void **state)
{
    (void)state;
    const infer_token prompt[] = {0, 2};
    const float x[] = {-1, -1.5f, -9};
    struct sample_params p = defaults();
    p.temperature = 0;
    p.repetition_penalty = 2;
    struct sampler *s = make(&p, 3);
    assert_ok(sampler_accept(s, prompt, 2));
    assert_int_equal(run(s, x, 3, 2, 0).token, 1);
    sampler_destroy(&s);
}

static void tokens_leave_the_window(void **state)
{
    (void)state;
    const infer_token prompt[] = {0, 1, 1};
    const float x[] = {2, 1.9f, 1.8f};
    struct sample_params p = defaults();
    p.temperature = 0;
    p.repetition_penalty = 4;
    p.penalty_last_n = 2;
    struct sampler *s = make(&p, 3);
    assert_ok(sampler_accept(s, prompt, 3));       /* window 1 1 */
    assert_int_equal(run(s, x, 3, 3, 0).token, 0); /* window 1 0 */
    assert_int_equal(run(s, x, 3, 4, 0).token, 2); /* window 0 2 */
    assert_int_equal(run(s, x, 3, 5, 0).token, 1); /* window 2 1 */
    assert_int_equal(run(s, x, 3, 6, 0).token, 0);
    sampler_destroy(&s);
}

static void a_reward_does_not_revive_a_banned_token(void **state)
{
    (void)state;
    const float first[] = {3, 1}, banned[] = {-INFINITY, 1};
    struct sample_params p = defaults();
    p.temperature = 0;
    p.frequency_penalty = p.presence_penalty = -3e38f;
    struct sampler *s = make(&p, 2);
    assert_int_equal(run(s, first, 2, 0, 0).token, 0);
    assert_int_equal(run(s, banned, 2, 1, 0).token, 1);
    sampler_destroy(&s);
}

static void bias_bans_and_prefers(void **state)
{
    (void)state;
    const float x[] = {9, 1, 0};
    const struct sample_bias bias[] = {{0, -INFINITY}, {2, 1.5f}};
    struct sample_params p = defaults();
    p.bias = bias, p.n_bias = 2;
    p.temperature = 0;
    struct sampler *s = make(&p, 3);
    assert_int_equal(run(s, x, 3, 0, 0).token, 2);
    sampler_destroy(&s);
    p.temperature = 1;
    s = make(&p, 3);
    for (uint64_t i = 0; i < 300; i++)
        assert_int_not_equal(run(s, x, 3, i, 0).token, 0);
    sampler_destroy(&s);
}

/* -------------------------------------------------------- log-probabilities */

static void logprobs_are_the_models_own(void **state)
{
    (void)state;
    uint64_t rand = 6;
    for (int trial = 0; trial < 300; trial++) {
        float x[N_MAX];
        struct item items[N_MAX];
        const int32_t n = 1 + (int32_t)(test_rand(&rand) % N_MAX);
        struct sample_params p = random_params(&rand, n);
        p.n_top_logprobs = (int32_t)(test_rand(&rand) % 30);
        const struct sample_bias ban = {0, -5};
        p.bias = &ban, p.n_bias = 1;
        fill(x, n, &rand);
        double norm = 0;
        for (int32_t i = 0; i < n; i++) {
            norm += exp((double)x[i]);
            items[i] = (struct item){x[i], i};
        }
        norm = log(norm);
        qsort(items, (size_t)n, sizeof *items, by_value);

        struct sampler *s = make(&p, n);
        struct sample_result r = run(s, x, n, 0, 1);
        assert_true(fabs((double)r.logprob - ((double)x[r.token] - norm)) < 2e-6);
        assert_int_equal(r.n_top, p.n_top_logprobs < n ? p.n_top_logprobs : n);
        for (int32_t i = 0; i < r.n_top; i++) {
            assert_int_equal(r.top[i].token, items[i].id);
            if (isinf(items[i].value))
                assert_true(isinf(r.top[i].logprob));
            else
                assert_true(fabs((double)r.top[i].logprob - (items[i].value - norm)) < 2e-6);
        }
        sampler_destroy(&s);
    }
}

static void logprobs_far_down_do_not_underflow(void **state)
{
    (void)state;
    const float x[] = {200, -300};
    const struct sample_bias ban = {0, -INFINITY};
    struct sample_params p = defaults();
    p.bias = &ban, p.n_bias = 1;
    struct sampler *s = make(&p, 2);
    struct sample_result r = run(s, x, 2, 0, 1);
    assert_int_equal(r.token, 1);
    assert_true(r.logprob == -500.0f);
    sampler_destroy(&s);
}

/* A guess is what the sampler will say once it has accepted what lies ahead, and changes nothing.
 */
static void test_guess(void **state)
{
    (void)state;
    const struct infer_kernels kernels = {.unary.softmax = plain_softmax};
    uint64_t random = 11;
    for (int round = 0; round < 200; round++) {
        struct sample_params p = {.temperature = round % 3 ? 0.8f : 0.0f,
                                  .top_p = 0.9f,
                                  .top_k = round % 2 ? 30 : 0,
                                  .repetition_penalty = 1.3f,
                                  .frequency_penalty = 0.7f,
                                  .presence_penalty = 0.5f,
                                  .penalty_last_n = -1,
                                  .seed = (uint64_t)round,
                                  .no_logprobs = 1};
        struct sampler *s = NULL;
        float x[6][64], scratch[64];
        infer_token guessed[6];
        assert_int_equal(sampler_create(&s, &base_alloc_default, &kernels, &p, 64), INFER_OK);
        for (int32_t i = 0; i < 6; i++) {
            fill(x[i], 64, &random);
            memcpy(scratch, x[i], sizeof scratch);
            assert_int_equal(sampler_guess(s, scratch, (uint64_t)i + 9, guessed, i, &guessed[i]),
                             INFER_OK);
        }
        for (int32_t i = 0; i < 6; i++) {
            struct sample_result result;
            infer_token blind;
            memcpy(scratch, x[i], sizeof scratch);
            assert_int_equal(sampler_guess(s, scratch, (uint64_t)i + 9, NULL, 0, &blind), INFER_OK);
            assert_int_equal(blind, guessed[i]);
            assert_int_equal(sampler_run(s, x[i], (uint64_t)i + 9, 0, &result), INFER_OK);
            assert_int_equal(result.token, guessed[i]);
        }
        sampler_destroy(&s);
    }
}

/* Who samples elsewhere is told of the tokens in the window alone, and of no bias that it could not
 * add at once. */
static void test_description(void **state)
{
    (void)state;
    const struct sample_bias bias[] = {{3, 1}, {2, 1}, {3, 1}};
    const infer_token prompt[] = {63, 5, 5}, drawn[] = {9, 5, 9};
    struct sample_count counts[8];
    struct sample_description d;
    struct sample_params p = defaults();
    p.repetition_penalty = 2;
    p.presence_penalty = 1;
    p.penalty_last_n = 5;
    struct sampler *s = make(&p, 64);
    assert_false(sampler_describe(s, counts, 8, &d)); /* it was not asked to keep a list */
    sampler_destroy(&s);
    p.described = 1;
    p.bias = bias, p.n_bias = 2;
    s = make(&p, 64);
    assert_ok(sampler_accept(s, prompt, 3));
    assert_ok(sampler_replay(s, drawn, 3));
    assert_false(sampler_describe(s, counts, 1, &d));
    assert_true(sampler_describe(s, counts, 2, &d));
    assert_int_equal(d.n_counts, 2); /* 63 has left the window */
    assert_int_equal(d.params->n_bias, 2);
    assert_int_equal(counts[0].token, 5);
    assert_int_equal(counts[0].count, 2 * 1 + 1);
    assert_int_equal(counts[1].token, 9);
    assert_int_equal(counts[1].count, 2 * 2 + 1);
    sampler_destroy(&s);
    p.n_bias = 3;
    s = make(&p, 64);
    assert_false(sampler_describe(s, counts, 8, &d));
    sampler_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guess),
        cmocka_unit_test(test_description),
        cmocka_unit_test(chain_matches_the_reference),
        cmocka_unit_test(greedy_takes_the_highest_and_the_lowest_id),
        cmocka_unit_test(extreme_temperatures_stay_finite),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(a_token_depends_on_seed_sequence_and_position_alone),
        cmocka_unit_test(penalties_count_prompt_and_generated_as_documented),
        cmocka_unit_test(negative_logits_are_multiplied),
        cmocka_unit_test(tokens_leave_the_window),
        cmocka_unit_test(a_reward_does_not_revive_a_banned_token),
        cmocka_unit_test(bias_bans_and_prefers),
        cmocka_unit_test(logprobs_are_the_models_own),
        cmocka_unit_test(logprobs_far_down_do_not_underflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
