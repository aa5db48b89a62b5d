/* Sampling on the card against the sampler of the host: the same tokens by the same numbers, the
 * same log-probabilities, the same refusals. */
#include "base/rng.h"
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/ref/ref.h"
#include "sample/sampler.h"

#include <float.h>
#include <math.h>

#define ROWS  8
#define WORDS (1 << 15) /* of the pool */
#define TOP   64

/* Rows of one launch, and what the host says of them. */
struct trial {
    int32_t n, n_rows;
    float *logits;
    struct kern_cuda_sample_row rows[ROWS];
    uint64_t *pool;
    uint32_t used;
    struct sample_result expected[ROWS];
    infer_status status[ROWS];
    struct sample_candidate top[ROWS][TOP];
    int32_t ids[ROWS];
    float logprobs[ROWS];
    struct kern_cuda_sample_top card_top[ROWS][TOP];
};

static struct infer_kernels kernels;

static void trial_open(struct trial *t, int32_t n)
{
    *t = (struct trial){.n = n};
    t->logits = malloc((size_t)n * ROWS * sizeof *t->logits);
    t->pool = calloc(WORDS, sizeof *t->pool);
    assert_non_null(t->logits);
    assert_non_null(t->pool);
}

static void trial_close(struct trial *t)
{
    free(t->logits);
    free(t->pool);
}

static float *row_of(struct trial *t)
{
    assert_true(t->n_rows < ROWS);
    return t->logits + (size_t)t->n_rows * (size_t)t->n;
}

/* What a row asks for beside its parameters. */
struct asked {
    struct sample_params params;
    const infer_token *prompt, *drawn; /* n_prompt and n_drawn */
    size_t n_prompt, n_drawn;
    const uint64_t *mask;
    uint64_t position;
};

static uint32_t pool_take(struct trial *t, const void *data, size_t bytes)
{
    const uint32_t at = t->used;
    t->used += (uint32_t)((bytes + 7) / 8);
    assert_true(t->used <= WORDS);
    memcpy(t->pool + at, data, bytes);
    return at;
}

static struct kern_cuda_sample_row describe(struct trial *t, const struct sampler *sampler,
                                            const struct asked *a)
{
    static struct sample_count counts[4096];
    struct sample_description d;
    assert_true(sampler_describe(sampler, counts, BASE_COUNT(counts), &d));
    const struct sample_params *p = d.params;
    struct kern_cuda_sample_row row = {
        .seed = p->seed,
        .sequence = p->sequence,
        .position = a->position,
        .scale = p->temperature > 0 ? BASE_MIN(1.0f / p->temperature, FLT_MAX) : 0,
        .top_p = p->top_p,
        .min_p = p->min_p,
        .repetition = p->repetition_penalty,
        .frequency = p->frequency_penalty,
        .presence = p->presence_penalty,
        .kind = p->temperature > 0 ? KERN_CUDA_PICK_DRAW : KERN_CUDA_PICK_BEST,
        .top_k = p->top_k,
        .n_top = BASE_MIN(p->n_top_logprobs, t->n),
        .logprob = !p->no_logprobs,
        .n_bias = (uint32_t)p->n_bias,
        .n_counts = (uint32_t)d.n_counts,
        .masked = a->mask != NULL};
    row.bias_at = p->n_bias ? pool_take(t, p->bias, p->n_bias * sizeof *p->bias) : 0;
    row.counts_at = pool_take(t, counts, d.n_counts * sizeof *counts);
    if (a->mask)
        row.mask_at = pool_take(t, a->mask, ((size_t)t->n + 63) / 64 * 8);
    return row;
}

static size_t count_bits(const uint64_t *mask, int32_t n)
{
    size_t count = 0;
    for (int32_t i = 0; i < n; i++)
        count += mask[i / 64] >> i % 64 & 1;
    return count;
}

/* Adds the row that row_of() was filled for. */
static void trial_add(struct trial *t, const struct asked *a)
{
    const int32_t r = t->n_rows;
    float *x = row_of(t);
    struct sampler *sampler = NULL;
    struct sample_params params = a->params;
    params.described = 1;
    params.masked = a->mask != NULL;
    assert_ok(sampler_create(&sampler, &base_alloc_default, &kernels, &params, t->n));
    assert_ok(sampler_accept(sampler, a->prompt, a->n_prompt));
    assert_ok(sampler_replay(sampler, a->drawn, a->n_drawn));
    t->rows[r] = describe(t, sampler, a);
    float *scratch = malloc((size_t)t->n * sizeof *scratch);
    memcpy(scratch, x, (size_t)t->n * sizeof *scratch);
    if (a->mask)
        sampler_set_mask(sampler, a->mask, (size_t)t->n, count_bits(a->mask, t->n));
    t->status[r] = sampler_run(sampler, scratch, a->position, !params.no_logprobs, &t->expected[r]);
    if (t->status[r] == INFER_OK && t->expected[r].n_top)
        memcpy(t->top[r], t->expected[r].top, (size_t)t->expected[r].n_top * sizeof *t->top[r]);
    free(scratch);
    sampler_destroy(&sampler);
    t->n_rows++;
}

/* Runs all rows, and checks that the logits are as they were. */
static void trial_run(struct trial *t)
{
    const size_t bytes = (size_t)t->n * (size_t)t->n_rows * sizeof(float);
    const size_t n_rows = (size_t)t->n_rows;
    float *logits = card_new(t->logits, bytes), *after = malloc(bytes);
    struct kern_cuda_sample_args args = {.logits = logits,
                                         .n_rows = t->n_rows,
                                         .n = t->n,
                                         .rows = card_new(t->rows, n_rows * sizeof *t->rows),
                                         .pool = card_new(t->pool, (t->used + 1) * sizeof *t->pool),
                                         .saved = card_new(NULL, (t->used + 1) * sizeof(float)),
                                         .ids = card_new(NULL, n_rows * sizeof(int32_t)),
                                         .logprobs = card_new(NULL, n_rows * sizeof(float)),
                                         .top = card_new(NULL, n_rows * sizeof *t->card_top),
                                         .top_stride = TOP};
    assert_int_equal(kern_cuda_rows_sample(&args, NULL), 0);
    card_get(t->ids, args.ids, n_rows * sizeof(int32_t));
    card_get(t->logprobs, args.logprobs, n_rows * sizeof(float));
    card_get(t->card_top, args.top, n_rows * sizeof *t->card_top);
    card_get(after, logits, bytes);
    assert_memory_equal(after, t->logits, bytes);
    void *all[] = {logits,   (void *)args.rows, (void *)args.pool, args.saved,
                   args.ids, args.logprobs,     args.top};
    for (size_t i = 0; i < BASE_COUNT(all); i++)
        card_free(all[i]);
    free(after);
}

static void check_row(const struct trial *t, int32_t r)
{
    const struct sample_result *e = &t->expected[r];
    if (t->status[r] != INFER_OK) {
        assert_int_equal(t->ids[r], -1);
        return;
    }
    if (!t->rows[r].logprob)
        return;
    if (t->ids[r] == e->token && fabs((double)t->logprobs[r] - (double)e->logprob) > 2e-6)
        fail_msg("row %d: logprob %.9g, expected %.9g", r, (double)t->logprobs[r],
                 (double)e->logprob);
    for (int32_t i = 0; i < t->rows[r].n_top; i++) {
        const double got = (double)t->card_top[r][i].logprob;
        const double expected = (double)t->top[r][i].logprob;
        assert_int_equal(t->card_top[r][i].token, t->top[r][i].token);
        if (!(got == expected || fabs(got - expected) <= 2e-6 + 1e-7 * fabs(expected)))
            fail_msg("row %d, place %d: logprob %.9g, expected %.9g", r, i, got, expected);
    }
}

/* Rows whose token is not the host's. */
static int check(struct trial *t)
{
    int differ = 0;
    trial_run(t);
    for (int32_t r = 0; r < t->n_rows; r++) {
        check_row(t, r);
        if (t->status[r] == INFER_OK && t->ids[r] != t->expected[r].token) {
            const struct kern_cuda_sample_row *p = &t->rows[r];
            print_message("  n %d, scale %g, top-k %d, top-p %g, min-p %g: %d, not %d\n", t->n,
                          (double)p->scale, p->top_k, (double)p->top_p, (double)p->min_p, t->ids[r],
                          t->expected[r].token);
            differ++;
        }
    }
    return differ;
}

/* ------------------------------------------------------------------ random rows */

enum { FINE, COARSE, PEAKED, EQUAL, FLAT, SHAPES };

static void fill(float *x, int32_t n, int shape, uint64_t *seed)
{
    for (int32_t i = 0; i < n; i++) {
        float v = test_randf(seed);
        v = shape == COARSE   ? rintf(v * 24) / 4
            : shape == PEAKED ? v * v * v * 30
            : shape == EQUAL  ? 2.5f
            : shape == FLAT   ? v * 1e-3f
                              : v * 8;
        x[i] = shape != EQUAL && test_rand(seed) % 16 == 0 ? -INFINITY : v;
    }
    x[test_rand(seed) % (uint32_t)n] = 3.0f; /* never all -infinity */
}

/* Each is off as often as not. */
static struct sample_params random_params(uint64_t *seed, int32_t n)
{
    static const float temperatures[] = {0, 1e-30f, 0.2f, 0.8f, 1, 3};
    static const int32_t ks[] = {1, 2, 40, 129, 700, 3000};
    static const float ps[] = {0, 0.1f, 0.5f, 0.9f, 0.95f, 0.9999f};
    static const float mins[] = {0.01f, 0.05f, 0.5f, 1};
    struct sample_params p = {.temperature = temperatures[test_rand(seed) % 6],
                              .top_p = 1,
                              .repetition_penalty = 1,
                              .penalty_last_n = -1,
                              .seed = test_rand(seed),
                              .sequence = test_rand(seed) % 3,
                              .no_logprobs = test_rand(seed) % 3 > 0};
    if (test_rand(seed) % 2)
        p.top_k = ks[test_rand(seed) % 6];
    if (test_rand(seed) % 2)
        p.top_p = ps[test_rand(seed) % 6];
    if (test_rand(seed) % 4 == 0)
        p.min_p = mins[test_rand(seed) % 4];
    if (!p.no_logprobs)
        p.n_top_logprobs = (int32_t)(test_rand(seed) % 3 * 20) % (n + 1);
    if (test_rand(seed) % 2) {
        p.repetition_penalty = test_rand(seed) % 2 ? 1.3f : 0.7f;
        p.frequency_penalty = 0.3f;
        p.presence_penalty = test_rand(seed) % 2 ? -0.4f : 0.7f;
        p.penalty_last_n = test_rand(seed) % 2 ? -1 : 20;
    }
    return p;
}

static void add_random(struct trial *t, uint64_t *seed)
{
    enum { TOKENS = 40, BIAS = 5 };
    infer_token tokens[2 * TOKENS];
    struct sample_bias bias[BIAS];
    const int32_t n = t->n;
    fill(row_of(t), n, (int)(test_rand(seed) % SHAPES), seed);
    for (int i = 0; i < 2 * TOKENS; i++)
        tokens[i] = (infer_token)(test_rand(seed) % (uint32_t)BASE_MIN(n, i % 2 ? n : 30));
    struct asked a = {.params = random_params(seed, n),
                      .prompt = tokens,
                      .drawn = tokens + TOKENS,
                      .n_prompt = TOKENS,
                      .n_drawn = TOKENS,
                      .position = test_rand(seed)};
    for (int i = 0; i < BIAS; i++)
        bias[i] = (struct sample_bias){(n / BIAS + 1) * i, i ? test_randf(seed) * 3 : -INFINITY};
    if (n > 3 * BIAS && test_rand(seed) % 2) {
        a.params.bias = bias;
        a.params.n_bias = BIAS;
    }
    const size_t words = ((size_t)n + 63) / 64;
    uint64_t *mask = calloc(words, sizeof *mask);
    const int kind = (int)(test_rand(seed) % 6); /* many, few or, mostly, no mask */
    for (int32_t i = 0; i < n && kind < 2; i++)
        if (kind ? test_rand(seed) % 3 : test_rand(seed) % (uint32_t)(n / 50 + 1) == 0)
            mask[i / 64] |= (uint64_t)1 << i % 64;
    a.mask = kind < 2 ? mask : NULL;
    trial_add(t, &a);
    free(mask);
}

static void test_tokens_are_the_hosts(void **state)
{
    static const int32_t sizes[] = {1, 2, 3, 129, 1000, 2049, 4001, 9000, 33002, 128256};
    uint64_t seed = 5;
    int differ = 0, n = 0;
    (void)state;
    card_needed("sampling");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        struct trial t;
        trial_open(&t, sizes[s]);
        for (int i = 0; i < ROWS; i++)
            add_random(&t, &seed);
        differ += check(&t);
        n += t.n_rows;
        trial_close(&t);
    }
    print_message("  %d of %d tokens are not the host's\n", differ, n);
    assert_true(differ <= n / 100);
}

/* ------------------------------------------------------------------ single rows */

static const struct sample_params plain = {.temperature = 1,
                                           .top_p = 1,
                                           .repetition_penalty = 1,
                                           .penalty_last_n = -1,
                                           .n_top_logprobs = 2};

/* The same bits again: of what is drawn, of log-probabilities, of lists, with ties and without. */
static void test_bits_are_the_same_again(void **state)
{
    uint64_t seed = 77;
    struct trial t, first;
    (void)state;
    card_needed("repeatable sampling");
    trial_open(&t, 5000);
    for (int shape = 0; shape < SHAPES; shape++) {
        struct asked a = {.params = plain, .position = 3};
        a.params.top_p = 0.9f;
        a.params.n_top_logprobs = 40;
        fill(row_of(&t), t.n, shape, &seed);
        trial_add(&t, &a);
    }
    assert_int_equal(check(&t), 0);
    first = t;
    trial_run(&t);
    assert_memory_equal(t.ids, first.ids, sizeof t.ids);
    assert_memory_equal(t.logprobs, first.logprobs, sizeof t.logprobs);
    assert_memory_equal(t.card_top, first.card_top, sizeof t.card_top);
    trial_close(&t);
}

/* Rows that the host refuses, and one that nothing is asked of; a number beside them. */
static void test_what_is_broken_gives_no_token(void **state)
{
    const struct sample_bias nothing[] = {{0, -INFINITY}, {1, -INFINITY}, {2, -INFINITY}};
    const float rows[ROWS][3] = {
        {1, NAN, 2}, {1, INFINITY, 2}, {-INFINITY, -INFINITY, -INFINITY}, {1, 2, 3},
        {1, 2, 3},   {1, 2, 3},        {-INFINITY, 4, -INFINITY},         {NAN, 1, 2}};
    const uint64_t masks[] = {0, 2, 6};
    struct trial t;
    (void)state;
    card_needed("refused rows");
    trial_open(&t, 3);
    for (int i = 0; i < ROWS; i++) {
        struct asked a = {.params = plain};
        a.params.no_logprobs = i % 2;
        a.params.n_top_logprobs = 0;
        if (i == 3)
            a.params.bias = nothing, a.params.n_bias = 3;
        a.mask = i == 4 ? &masks[0] : i == 5 ? &masks[1] : i == 7 ? &masks[2] : NULL;
        memcpy(row_of(&t), rows[i], sizeof rows[i]);
        trial_add(&t, &a);
    }
    assert_int_equal(check(&t), 0);
    static const int32_t expected[ROWS] = {-1, -1, -1, -1, -1, 1, 1, -1};
    assert_memory_equal(t.ids, expected, sizeof expected);
    t.rows[5].kind = KERN_CUDA_PICK_NONE;
    trial_run(&t);
    assert_int_equal(t.ids[5], -1);
    assert_int_equal(t.ids[6], 1);
    trial_close(&t);
}

/* How often each of four tokens is drawn, within four standard deviations. */
static void test_draws_are_as_likely_as_said(void **state)
{
    enum { TIMES = 9 };
    const double p[] = {0.5, 0.3, 0.15, 0.05};
    int seen[4] = {0};
    (void)state;
    card_needed("frequencies of draws");
    for (int time = 0; time < TIMES; time++) {
        struct trial t;
        trial_open(&t, 4);
        for (int r = 0; r < ROWS; r++) {
            struct asked a = {.params = plain, .position = (uint64_t)(time * ROWS + r)};
            a.params.no_logprobs = 1;
            float *x = row_of(&t);
            for (int i = 0; i < 4; i++)
                x[i] = (float)log(p[i]);
            trial_add(&t, &a);
        }
        assert_int_equal(check(&t), 0);
        for (int r = 0; r < ROWS; r++)
            seen[t.ids[r]]++;
        trial_close(&t);
    }
    const double n = TIMES * ROWS;
    for (int i = 0; i < 4; i++)
        assert_true(fabs(seen[i] - n * p[i]) <= 4 * sqrt(n * p[i] * (1 - p[i])));
}

static void test_vocabularies_have_a_limit(void **state)
{
    struct kern_cuda_sample_args args = {.n_rows = 1, .n = KERN_CUDA_SAMPLE_VOCAB_MAX + 1};
    (void)state;
    card_needed("the limit of vocabularies");
    assert_int_equal(kern_cuda_rows_sample(&args, NULL), cudaErrorInvalidValue);
    args.n_rows = 0;
    assert_int_equal(kern_cuda_rows_sample(&args, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_are_the_hosts),
        cmocka_unit_test(test_bits_are_the_same_again),
        cmocka_unit_test(test_what_is_broken_gives_no_token),
        cmocka_unit_test(test_draws_are_as_likely_as_said),
        cmocka_unit_test(test_vocabularies_have_a_limit),
    };
    kern_unary_init_ref(&kernels.unary);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
