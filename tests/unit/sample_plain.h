/* What the sampler's tests share: a softmax in double, sorting, logits with
 * and without ties, one call of the sampler. */
#ifndef TESTS_UNIT_SAMPLE_PLAIN_H
#define TESTS_UNIT_SAMPLE_PLAIN_H

#include "kernels/kernels.h"
#include "sample/sampler.h"
#include "support/test.h"

#include <math.h>

#define N_MAX 700

/* A softmax of our own: the sampler is tested, not the kernels. */
static inline float plain_softmax(float *y, const float *x, float scale, int32_t n)
{
    double high = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        high = fmax(high, (double)x[i] * scale);
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)x[i] * scale - high);
    for (int32_t i = 0; i < n; i++)
        y[i] = (float)(exp((double)x[i] * scale - high) / sum);
    return (float)(log(sum) + high);
}

/* Steps of 1/4 give many ties; fine values give few. */
static inline void fill(float *x, int32_t n, uint64_t *rand)
{
    const int coarse = test_rand(rand) % 2;
    for (int32_t i = 0; i < n; i++) {
        x[i] = test_randf(rand) * 8;
        if (coarse)
            x[i] = rintf(x[i] * 4) / 4;
        if (test_rand(rand) % 16 == 0)
            x[i] = -INFINITY;
    }
    x[test_rand(rand) % (uint32_t)n] = 1.0f; /* never all -infinity */
}

struct item {
    double value;
    int32_t id;
};

static inline int by_value(const void *left, const void *right)
{
    const struct item *a = left, *b = right;
    if (a->value != b->value)
        return a->value < b->value ? 1 : -1;
    return a->id - b->id;
}

static inline int by_id(const void *left, const void *right)
{
    return ((const struct item *)left)->id - ((const struct item *)right)->id;
}

static const struct infer_kernels plain_kernels = {.unary = {.softmax = plain_softmax}};

static inline struct sample_params defaults(void)
{
    return (struct sample_params){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .penalty_last_n = -1, .seed = 1};
}

static inline struct sampler *make(const struct sample_params *params, int32_t n_vocab)
{
    struct sampler *s = NULL;
    assert_ok(sampler_create(&s, &base_alloc_default, &plain_kernels, params, n_vocab));
    return s;
}

/* Runs on a copy, so that a test may use its logits again. */
static inline struct sample_result run(struct sampler *s, const float *logits, int32_t n,
                                       uint64_t position, int want_logprobs)
{
    struct sample_result result = {.token = -1};
    float *copy = malloc((size_t)n * sizeof *copy);
    memcpy(copy, logits, (size_t)n * sizeof *copy);
    assert_ok(sampler_run(s, copy, position, want_logprobs, &result));
    free(copy);
    assert_in_range(result.token, 0, n - 1);
    return result;
}

#endif
