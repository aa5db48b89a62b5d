/* The length of drafts: the one that gives most tokens a second, by made-up costs. */
#include "engine/draft_pace.h"
#include "support/test.h"

#include <math.h>

/* Steps of 1 and more rows in a world where a row more costs `share` of a step, and the second one
 * `jump` beside. */
static void learn_jump(struct draft_pace *p, double share, double jump)
{
    uint64_t random = 1;
    for (int i = 0; i < 200; i++) {
        int32_t rows = 1 + (int32_t)(test_rand(&random) % 8);
        double noise = 1 + 0.1 * ((double)(test_rand(&random) % 1000) / 1000 - 0.5);
        double cost = 1 + share * (rows - 1) + (rows > 1 ? jump : 0);
        draft_pace_observe(p, rows, (uint64_t)(1e6 * noise * cost));
    }
}

static void learn(struct draft_pace *p, double share)
{
    learn_jump(p, share, 0);
}

static int32_t choose(const struct draft_pace *p, double chance, int32_t n)
{
    struct draft_pace_record r = {.right = 1e4 * chance, .tried = 1e4};
    struct draft_pace_plan plan = {p, 1, 1, 0};
    return draft_pace_choose(&plan, &r, 0, n);
}

static double speed(double share, double jump, double chance, int32_t n)
{
    double tokens = 1, gain = 1;
    for (int32_t i = 0; i < n; i++)
        tokens += gain *= chance;
    return tokens / (1 + share * n + (n ? jump : 0));
}

static void test_optimum(void **state)
{
    (void)state;
    static const double shares[] = {0.02, 0.1, 0.3, 0.7}, chances[] = {0.05, 0.3, 0.6, 0.8, 0.95};
    static const double jumps[] = {0, 0.8};
    for (size_t i = 0; i < 40; i++) {
        double share = shares[i % 4], jump = jumps[i / 4 % 2], chance = chances[i / 8];
        struct draft_pace p = {0};
        double most = 0;
        learn_jump(&p, share, jump);
        for (int32_t rows = 1; rows < 9; rows++) {
            double cost = 1e6 * (1 + share * (rows - 1) + (rows > 1 ? jump : 0));
            assert_true(fabs(draft_pace_step_ns(&p, rows) - cost) < 0.1 * cost);
        }
        for (int32_t n = 0; n <= 16; n++)
            most = fmax(most, speed(share, jump, chance, n));
        assert_true(speed(share, jump, chance, choose(&p, chance, 16)) > 0.95 * most);
    }
}

/* Steps that were interrupted do not change the picture, and a wrong one does not last. */
static void test_noise(void **state)
{
    (void)state;
    struct draft_pace p = {0};
    struct draft_pace_record r = {.right = 800, .tried = 1000};
    uint64_t random = 1;
    int32_t n = 0;
    for (int i = 0; i < 2000; i++) {
        int32_t rows = 1 + (int32_t)(test_rand(&random) % 8);
        double ns = 1e6 * (1 + 0.2 * (rows - 1)) * (test_rand(&random) % 25 ? 1 : 100);
        draft_pace_observe(&p, rows, (uint64_t)ns);
        double step = draft_pace_step_ns(&p, 5);
        if (i > 100)
            assert_true(step > 1.3e6 && step < 3.2e6);
    }
    p = (struct draft_pace){0};
    learn(&p, 1.0);
    assert_int_equal(choose(&p, 0.8, 8), 0);
    for (int i = 0; i < 1000; i++) { /* by trials alone */
        struct draft_pace_plan plan = {&p, 1, 1, 0};
        n = draft_pace_choose(&plan, &r, 0, 8);
        draft_pace_observe(&p, 1 + n, (uint64_t)(1e6 * (1 + 0.1 * n)));
    }
    assert_true(n > 2);
}

static void test_bounds(void **state)
{
    (void)state;
    struct draft_pace p = {0};
    assert_true(choose(&p, 0.9, 16) > 0); /* before anything was measured */
    assert_int_equal(choose(&p, 0.9, 0), 0);
    learn(&p, 0.001);
    assert_int_equal(choose(&p, 0.999, 5), 5);
    /* Absurd times: the same for all, falling, none. */
    for (int kind = 0; kind < 3; kind++) {
        struct draft_pace q = {0};
        for (int32_t i = 0; i < 50; i++)
            draft_pace_observe(&q, 1 + i % 9,
                               kind == 0   ? 1000
                               : kind == 1 ? 1000 - 90 * (i % 9)
                                           : 0);
        int32_t n = choose(&q, 0.5, 16);
        assert_in_range(n, 0, 16);
    }
}

/* What never is right is tried now and then, and comes back when it is right again. */
static void test_comes_back(void **state)
{
    (void)state;
    struct draft_pace p = {0};
    struct draft_pace_record r = {0};
    int n_tried = 0;
    learn(&p, 0.3);
    for (int step = 0; step < 640; step++) {
        struct draft_pace_plan plan = {&p, 1, 1, 0};
        int32_t n = draft_pace_choose(&plan, &r, 0, 8);
        if (n)
            draft_pace_record_add(&r, 0, 1);
        n_tried += step >= 320 && n;
    }
    assert_in_range(n_tried, 5, 20);
    int32_t n = 0;
    for (int step = 0; step < 320; step++) {
        struct draft_pace_plan plan = {&p, 1, 1, 0};
        n = draft_pace_choose(&plan, &r, 0, 8);
        if (n)
            draft_pace_record_add(&r, n, n);
    }
    assert_true(n >= 3);
}

/* Drafts that cost more than they gain are left, and a busy step drafts less than an idle one. */
static void test_costs(void **state)
{
    (void)state;
    struct draft_pace p = {0};
    struct draft_pace_record r = {.right = 80, .tried = 100};
    learn(&p, 0.2);
    struct draft_pace_plan plan = {&p, 1, 1, 0}, busy = {&p, 32, 32, 0};
    int32_t cheap = draft_pace_choose(&plan, &r, 0, 16);
    plan = (struct draft_pace_plan){&p, 1, 1, 0};
    int32_t dear = draft_pace_choose(&plan, &r, 0.3e6, 16);
    plan = (struct draft_pace_plan){&p, 1, 1, 0};
    assert_true(dear < cheap);
    assert_int_equal(draft_pace_choose(&plan, &r, 1e6, 16), 0);
    assert_true(draft_pace_choose(&busy, &r, 0, 16) < cheap);
    draft_pace_observe_draft(&p, 4, 4000);
    assert_true(fabs(p.draft_ns - 1000) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_optimum), cmocka_unit_test(test_noise),
        cmocka_unit_test(test_bounds),  cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_costs),
    };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
