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

/* ---------------------------------------------------------------------- gate */

/* Row r is of x_stride floats; sums are taken in double, and so is the sigmoid. */
static void check_gate(int32_t n, size_t pad, int normed, uint64_t *state)
{
    enum { ROWS = 3, EXPERTS = 5, USED = 2 };
    const float eps = 1e-3f;
    const size_t width = (size_t)n, stride = width + pad;
    float *x = malloc(ROWS * stride * 4), *w = malloc(width * 4), *norm = malloc(width * 4);
    float scores[ROWS * EXPERTS], got[ROWS];
    for (size_t i = 0; i < ROWS * stride; i++)
        x[i] = i / stride == 1 ? 0 : test_randf(state) * (i / stride ? 3 : 1);
    for (size_t i = 0; i < width; i++)
        w[i] = test_randf(state), norm[i] = 1 + test_randf(state) / 2;
    for (size_t i = 0; i < ROWS * EXPERTS; i++)
        scores[i] = test_randf(state);
    x[stride * 2 + width / 2] = n == 1 ? NAN : x[stride * 2 + width / 2];
    float *x_card = card_new(x, ROWS * stride * 4), *w_card = card_new(w, width * 4);
    float *norm_card = card_new(norm, width * 4), *scores_card = card_new(scores, sizeof scores);
    float *gate_card = card_new(NULL, sizeof got), *weights_card = card_new(NULL, ROWS * USED * 4);
    int32_t *chosen_card = card_new(NULL, ROWS * USED * 4);
    const struct kern_cuda_route_args args = {.scores = scores_card,
                                              .chosen = chosen_card,
                                              .weights = weights_card,
                                              .n_rows = ROWS,
                                              .n_experts = EXPERTS,
                                              .n_used = USED,
                                              .gate = gate_card,
                                              .gate_w = w_card,
                                              .x = x_card,
                                              .norm = normed ? norm_card : NULL,
                                              .x_stride = stride,
                                              .n = n,
                                              .eps = eps};
    assert_int_equal(kern_cuda_moe_route(&args, NULL), 0);
    card_get(got, gate_card, sizeof got);
    for (size_t r = 0; r < ROWS; r++) {
        double product = 0, squares = 0;
        for (size_t i = 0; i < width; i++) {
            const double v = (double)x[r * stride + i];
            squares += v * v;
            product += v * (double)w[i] * (normed ? (double)norm[i] : 1);
        }
        if (normed)
            product /= sqrt(squares / n + (double)eps);
        const double want = 1 / (1 + exp(-product));
        if (isnan(want) ? !isnan(got[r]) : !(fabs((double)got[r] - want) <= 0x1p-23 * want + 1e-38))
            fail_msg("gate %zu of %d numbers is %.9g, expected %.9g", r, (int)n, (double)got[r],
                     want);
    }
    card_free(x_card), card_free(w_card), card_free(norm_card), card_free(scores_card);
    card_free(gate_card), card_free(weights_card), card_free(chosen_card);
    free(x), free(w), free(norm);
}

static void test_the_gate_of_a_shared_expert(void **state)
{
    static const int32_t sizes[] = {1, 7, 64, 516, 2050};
    uint64_t seed = 4;
    (void)state;
    card_needed("the gate of a shared expert");
    for (size_t i = 0; i < BASE_COUNT(sizes) * 4; i++)
        check_gate(sizes[i / 4], i & 1 ? 4 : 0, i >> 1 & 1, &seed);
}

/* ------------------------------------------------------------------- combine */

enum { SORTED = 1, WEIGHTED = 2, BESIDE = 4, SUM_NORM = 8, BY_NORM = 16, NORM = 32, ALL = 64 };

struct combine_case {
    int32_t rows, used, n, what; /* bits of the above */
};

static float *random_rows(size_t n, uint64_t *state)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = test_randf(state);
    return x;
}

/* y = norm(y) * w, w NULL: as it is. */
static void norm_of(double *y, const float *w, size_t n, double eps)
{
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        squares += y[i] * y[i];
    for (size_t i = 0; w && i < n; i++)
        y[i] *= (double)w[i] / sqrt(squares / (double)n + eps);
}

struct combine_host {
    float *x, *experts, *weights, *beside, *norms[3];
    int32_t *slot_of;
    float eps, scale, factor;
};

/* Row r of what the kernel shall give, in double; and how large its terms are. */
static double reference_row(double *y, const struct combine_host *h, const struct combine_case *c,
                            size_t r)
{
    const size_t n = (size_t)c->n, used = (size_t)c->used;
    double *beside = malloc(n * sizeof *beside), largest = 0;
    for (size_t i = 0; i < n; i++) {
        y[i] = 0;
        for (size_t u = r * used; u < (r + 1) * used; u++) {
            const size_t slot = c->what & SORTED ? (size_t)h->slot_of[u] : u;
            const double term = (double)h->experts[slot * n + i];
            y[i] += (c->what & WEIGHTED ? (double)h->weights[u] : 1) * term;
        }
        beside[i] = c->what & BESIDE ? (double)h->beside[r * n + i] : 0;
    }
    norm_of(y, c->what & SUM_NORM ? h->norms[0] : NULL, n, (double)h->eps);
    norm_of(beside, c->what & BESIDE && c->what & BY_NORM ? h->norms[1] : NULL, n, (double)h->eps);
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fmax(fabs(y[i]), fabs(beside[i])));
        y[i] += beside[i];
    }
    norm_of(y, c->what & NORM ? h->norms[2] : NULL, n, (double)h->eps);
    for (size_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs(y[i]));
        y[i] = ((double)h->x[r * n + i] + (double)h->scale * y[i]) * (double)h->factor;
    }
    free(beside);
    return largest;
}

static struct kern_cuda_combine_args args_of(const struct combine_case *c,
                                             const struct combine_host *h, float *const cards[7],
                                             const int32_t *slot_card)
{
    return (struct kern_cuda_combine_args){
        .x = cards[6],
        .experts = cards[3],
        .weights = c->what & WEIGHTED ? cards[4] : NULL,
        .slot_of = c->what & SORTED ? slot_card : NULL,
        .beside = c->what & BESIDE ? cards[5] : NULL,
        .norm = c->what & NORM ? cards[2] : NULL,
        .sum_norm = c->what & SUM_NORM ? cards[0] : NULL,
        .by_norm = c->what & BY_NORM ? cards[1] : NULL,
        .eps = h->eps,
        .scale = h->scale,
        .factor = h->factor,
        .n_rows = c->rows,
        .n_used = c->used,
        .n = c->n,
    };
}

/* One rounding a use and one a norm and a sum, each half a place of the largest term at most; the
 * last norm may make its row larger, which `largest` covers. The last row has the same bits alone.
 */
static void check_combine(const struct combine_case *c, uint64_t *state)
{
    const size_t n = (size_t)c->n, rows = (size_t)c->rows, slots = rows * (size_t)c->used;
    const size_t all = rows * n;
    struct combine_host h = {.x = random_rows(all, state),
                             .experts = random_rows(slots * n, state),
                             .weights = random_rows(slots, state),
                             .beside = random_rows(all, state),
                             .slot_of = malloc(slots * 4),
                             .eps = 1e-3f,
                             .scale = 0.75f,
                             .factor = -1.25f};
    float *cards[7] = {NULL}, *got = malloc(all * 4), *again = malloc(all * 4);
    double *y = malloc(n * sizeof *y);
    for (size_t i = 0; i < slots; i++)
        h.slot_of[i] = (int32_t)((i * 7 + 3) % slots);
    for (int i = 0; i < 3; i++) {
        h.norms[i] = random_rows(n, state);
        cards[i] = card_new(h.norms[i], n * 4);
    }
    cards[3] = card_new(h.experts, slots * n * 4);
    cards[4] = card_new(h.weights, slots * 4);
    cards[5] = card_new(h.beside, all * 4);
    cards[6] = card_new(h.x, all * 4);
    int32_t *slot_card = card_new(h.slot_of, slots * 4);
    struct kern_cuda_combine_args args = args_of(c, &h, cards, slot_card);
    assert_int_equal(kern_cuda_moe_combine(&args, NULL), 0);
    card_get(got, cards[6], all * 4);
    card_free(cards[6]);
    const size_t last = rows - 1, use = last * (size_t)c->used;
    cards[6] = card_new(h.x, all * 4);
    args.n_rows = 1;
    args.x = cards[6] + last * n;
    args.beside += args.beside ? last * n : 0;
    args.weights += args.weights ? use : 0;
    args.slot_of += args.slot_of ? use : 0;
    args.experts += args.slot_of ? 0 : use * n;
    assert_int_equal(kern_cuda_moe_combine(&args, NULL), 0);
    card_get(again, cards[6], all * 4);
    assert_memory_equal(again, h.x, last * n * 4);
    assert_memory_equal(got + last * n, again + last * n, n * 4);
    for (size_t r = 0; r < rows; r++) {
        const double largest = reference_row(y, &h, c, r);
        for (size_t i = 0; i < n; i++) {
            const double bound =
                (c->used + 6) * 0x1p-24 * 2 * (largest + fabs((double)h.x[r * n + i]));
            if (!(fabs((double)got[r * n + i] - y[i]) <= bound))
                fail_msg("element %zu of row %zu of %zu, case %d: %.9g, expected %.9g", i, r, n,
                         (int)c->what, (double)got[r * n + i], y[i]);
        }
    }
    for (size_t i = 0; i < BASE_COUNT(cards); i++)
        card_free(cards[i]);
    card_free(slot_card);
    for (int i = 0; i < 3; i++)
        free(h.norms[i]);
    free(h.x), free(h.experts), free(h.weights), free(h.beside), free(h.slot_of);
    free(got), free(again), free(y);
}

static void test_results_join_the_stream(void **state)
{
    static const int32_t shapes[][3] = {{1, 1, 1}, {5, 2, 33}, {3, 3, 132}};
    uint64_t seed = 3;
    (void)state;
    card_needed("the sum of experts' results");
    for (size_t i = 0; i < BASE_COUNT(shapes); i++)
        for (int32_t what = 0; what < ALL; what++)
            check_combine(&(struct combine_case){shapes[i][0], shapes[i][1], shapes[i][2], what},
                          &seed);
    for (int32_t what = WEIGHTED; what < ALL; what += 20) { /* blocks share a row, or go round */
        check_combine(&(struct combine_case){1, 8, 2048, what}, &seed);
        check_combine(&(struct combine_case){2, 1, 4644, what}, &seed);
        check_combine(&(struct combine_case){1, 2, 1501, what}, &seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_choice_is_the_engines),
        cmocka_unit_test(test_slots_are_sorted_and_stay_in_order),
        cmocka_unit_test(test_the_gate_of_a_shared_expert),
        cmocka_unit_test(test_results_join_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
