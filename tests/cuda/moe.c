/* Choice, order and sum of experts against the engine's own. */
#include "model/moe_route.h"

#include "base/types.h"
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"

#include <math.h>

/* -------------------------------------------------------------------- choice */

struct route_case {
    int32_t n_experts, n_used, n_groups, n_groups_used;
    int32_t gating, corrected, sum;
    float router_scale, expert_scale;
};

enum { PLAIN, TIES, WITH_NAN, ALL_NAN, WITH_INFINITY, KINDS };

static void fill_scores(float *scores, size_t n, int kind, uint64_t *state)
{
    for (size_t i = 0; i < n; i++) {
        float x = test_randf(state) * 4;
        scores[i] = kind == TIES ? rintf(x) : kind == ALL_NAN ? NAN : x;
        if (kind == WITH_NAN && test_rand(state) % 4 == 0)
            scores[i] = NAN;
        if (kind == WITH_INFINITY && test_rand(state) % 4 == 0)
            scores[i] = test_rand(state) % 2 ? INFINITY : -INFINITY;
    }
}

/* The functions are summed in double in another order, which moves a weight by a place of a float
 * at most; each of softmax, division and factor may then round to the other side. */
static void assert_weights(const float *got, const float *expected, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (isnan(expected[i]) ? isnan(got[i]) : got[i] == expected[i])
            continue;
        if (!(fabsf(got[i] - expected[i]) <= 3 * 0x1p-23f * fabsf(expected[i])))
            fail_msg("weight %d is %.9g, expected %.9g", (int)i, (double)got[i],
                     (double)expected[i]);
    }
}

static void check_route(const struct route_case *c, uint64_t *state)
{
    size_t rows = 2 * KINDS, n = (size_t)c->n_experts, used = (size_t)c->n_used;
    float *scores = malloc(rows * n * 4), *correction = malloc(n * 4);
    float *weights = malloc(rows * used * 4), *w = malloc(used * 4);
    int32_t *chosen = malloc(rows * used * 4), *ids = malloc(used * 4);
    for (size_t r = 0; r < rows; r++)
        fill_scores(scores + r * n, n, (int)(r % KINDS), state);
    for (size_t i = 0; i < n; i++)
        correction[i] = rintf(test_randf(state) * 4) / 4;
    float *scores_card = card_new(scores, rows * n * 4),
          *correction_card = card_new(correction, n * 4);
    float *weights_card = card_new(NULL, rows * used * 4);
    int32_t *chosen_card = card_new(NULL, rows * used * 4);
    struct kern_cuda_route_args args = {.scores = scores_card,
                                        .correction = c->corrected ? correction_card : NULL,
                                        .chosen = chosen_card,
                                        .weights = weights_card,
                                        .n_rows = (int32_t)rows,
                                        .n_experts = c->n_experts,
                                        .n_used = c->n_used,
                                        .n_groups = c->n_groups,
                                        .n_groups_used = c->n_groups_used,
                                        .sigmoid = c->gating == MODEL_GATING_SIGMOID,
                                        .topk_softmax = c->gating == MODEL_GATING_TOPK_SOFTMAX,
                                        .sum = c->sum,
                                        .router_scale = c->router_scale,
                                        .expert_scale = c->expert_scale};
    assert_int_equal(kern_cuda_moe_route(&args, NULL), 0);
    card_get(chosen, chosen_card, rows * used * 4);
    card_get(weights, weights_card, rows * used * 4);
    struct model_hparams hp = {.n_experts = c->n_experts,
                               .n_experts_used = c->n_used,
                               .n_expert_groups = c->n_groups,
                               .n_expert_groups_used = c->n_groups_used,
                               .gating = c->gating,
                               .expert_weights_sum = c->sum,
                               .router_scale = c->router_scale,
                               .expert_scale = c->expert_scale};
    for (size_t r = 0; r < rows; r++) {
        model_moe_choose(&hp, scores + r * n, c->corrected ? correction : NULL, ids, w);
        assert_memory_equal(chosen + r * used, ids, used * 4);
        assert_weights(weights + r * used, w, c->n_used);
    }
    card_free(scores_card), card_free(correction_card), card_free(weights_card);
    card_free(chosen_card);
    free(scores), free(correction), free(weights), free(w), free(chosen), free(ids);
}

static void test_the_choice_is_the_engines(void **state)
{
    static const struct route_case shapes[] = {
        {1, 1, 0, 0, 0, 0, 0, 0, 0},      {8, 2, 1, 1, 0, 0, 0, 0, 0},
        {31, 4, 0, 0, 0, 0, 0, 0, 0},     {33, 33, 0, 0, 0, 0, 0, 0.5f, 2},
        {128, 8, 0, 0, 0, 0, 0, 0, 0},    {256, 8, 8, 4, 0, 0, 0, 0, 2.5f},
        {512, 10, 16, 3, 0, 0, 0, 2, 0},  {60, 6, 7, 2, 0, 0, 0, 0, 1},
        {16, 12, 4, 2, 0, 0, 0, 0, 1},    {12, 5, 12, 3, 0, 0, 0, 0, 0},
        {384, 37, 48, 40, 0, 0, 0, 0, 0},
    };
    static const int32_t gatings[] = {MODEL_GATING_SOFTMAX, MODEL_GATING_SIGMOID,
                                      MODEL_GATING_TOPK_SOFTMAX};
    uint64_t seed = 1;
    (void)state;
    card_needed("the choice of experts");
    for (size_t i = 0; i < BASE_COUNT(shapes) * 12; i++) {
        struct route_case c = shapes[i / 12];
        c.gating = gatings[i % 3];
        c.corrected = i / 3 % 2;
        c.sum = i / 6 % 2;
        check_route(&c, &seed);
    }
}

/* ---------------------------------------------------------------------- sort */

/* `skew`: most slots go to one expert. */
static void check_sort(int32_t rows, int32_t used, int32_t experts, int skew, uint64_t *state)
{
    size_t n = (size_t)rows * (size_t)used, e = (size_t)experts;
    int32_t *chosen = malloc(n * 4 + 4), *first = malloc(e * 4 + 4), *expected = calloc(e + 1, 4);
    int32_t *from = malloc(n * 4 + 4), *slot_of = malloc(n * 4 + 4);
    for (size_t i = 0; i < n; i++) {
        chosen[i] = (int32_t)(test_rand(state) % (uint32_t)experts);
        chosen[i] = skew && test_rand(state) % 8 ? experts / 2 : chosen[i];
        for (size_t later = (size_t)chosen[i] + 1; later <= e; later++)
            expected[later]++;
    }
    int32_t *chosen_card = card_new(chosen, n * 4), *first_card = card_new(NULL, e * 4 + 4);
    int32_t *from_card = card_new(NULL, n * 4), *slot_card = card_new(NULL, n * 4);
    assert_int_equal(kern_cuda_moe_sort(first_card, from_card, slot_card, chosen_card, rows, used,
                                        experts, NULL),
                     0);
    card_get(first, first_card, e * 4 + 4);
    card_get(from, from_card, n * 4);
    card_get(slot_of, slot_card, n * 4);
    assert_memory_equal(first, expected, (e + 1) * 4);
    for (size_t i = 0; i < n; i++) { /* expected: where an expert's next slot is */
        int32_t slot = expected[chosen[i]]++;
        assert_int_equal(slot_of[i], slot);
        assert_int_equal(from[slot], i / (size_t)used);
    }
    card_free(chosen_card), card_free(first_card), card_free(from_card), card_free(slot_card);
    free(chosen), free(first), free(expected), free(from), free(slot_of);
}

static void test_slots_are_sorted_and_stay_in_order(void **state)
{
    static const int32_t shapes[][3] = {{0, 2, 5},  {1, 1, 1},   {1, 8, 128}, {3, 5, 7},
                                        {16, 8, 8}, {43, 3, 17}, {129, 1, 3}, {700, 8, 16}};
    uint64_t seed = 2;
    (void)state;
    card_needed("the order of experts' work");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        for (int skew = 0; skew < 2; skew++)
            check_sort(shapes[i][0], shapes[i][1], shapes[i][2], skew, &seed);
    check_sort(9000, 7, 3, 0, &seed); /* more than a round of each warp */
}

/* ------------------------------------------------------------------- combine */

/* One rounding a use: the exact sum is at most n_used half places of the sum of magnitudes away,
 * and one more where it is added. */
static void check_combine(int32_t rows, int32_t used, int32_t n, int sorted, int add,
                          uint64_t *state)
{
    size_t slots = (size_t)rows * (size_t)used, width = (size_t)n, all = (size_t)rows * width;
    float *x = malloc(slots * width * 4), *weights = malloc(slots * 4), *y = malloc(all * 4);
    float *got = malloc(all * 4);
    int32_t *slot_of = malloc(slots * 4);
    for (size_t i = 0; i < slots * width; i++)
        x[i] = test_randf(state);
    for (size_t i = 0; i < all; i++)
        y[i] = add ? test_randf(state) : NAN;
    for (size_t i = 0; i < slots; i++) {
        weights[i] = test_randf(state);
        slot_of[i] = (int32_t)((i * 7 + 3) % slots);
    }
    float *x_card = card_new(x, slots * width * 4), *y_card = card_new(y, all * 4);
    float *weights_card = card_new(weights, slots * 4);
    int32_t *slot_card = card_new(slot_of, slots * 4);
    assert_int_equal(kern_cuda_moe_combine(y_card, x_card, weights_card, sorted ? slot_card : NULL,
                                           rows, used, n, add, NULL),
                     0);
    card_get(got, y_card, all * 4);
    for (size_t i = 0; i < all; i++) {
        size_t row = i / width * (size_t)used;
        double sum = add ? (double)y[i] : 0, size = fabs(sum);
        for (size_t u = row; u < row + (size_t)used; u++) {
            size_t slot = sorted ? (size_t)slot_of[u] : u;
            double term = (double)weights[u] * (double)x[slot * width + i % width];
            sum += term;
            size += fabs(term);
        }
        if (!(fabs((double)got[i] - sum) <= (used + 1) * 0x1p-24 * size))
            fail_msg("element %zu is %.9g, expected %.9g", i, (double)got[i], sum);
    }
    card_free(x_card), card_free(y_card), card_free(weights_card), card_free(slot_card);
    free(x), free(weights), free(y), free(got), free(slot_of);
}

static void test_results_are_summed_by_weight(void **state)
{
    static const int32_t shapes[][3] = {{1, 1, 1}, {1, 8, 2048}, {5, 2, 33}, {3, 9, 1028}};
    uint64_t seed = 3;
    (void)state;
    card_needed("the sum of experts' results");
    for (size_t i = 0; i < BASE_COUNT(shapes) * 4; i++)
        check_combine(shapes[i / 4][0], shapes[i / 4][1], shapes[i / 4][2], i & 1, i >> 1 & 1,
                      &seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_choice_is_the_engines),
        cmocka_unit_test(test_slots_are_sorted_and_stay_in_order),
        cmocka_unit_test(test_results_are_summed_by_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
