/* Drafts from what was said before, against a search of the whole text. */
#include "engine/ngram.h"
#include "support/test.h"
#include "support/test_alloc.h"

struct text {
    infer_token tokens[70000];
    int32_t n;
};

static infer_token get(const void *sequence, int32_t position)
{
    const struct text *t = sequence;
    assert_in_range(position, 0, t->n - 1);
    return t->tokens[position];
}

/* The longest run of last tokens that was there before, the latest of equals; -1: none. */
static int32_t search(const struct text *t, int32_t min, int32_t max)
{
    int32_t best = -1, longest = min - 1;
    for (int32_t end = t->n - 2; end >= 0; end--) {
        int32_t n = 0;
        while (n < max && n <= end && t->tokens[end - n] == t->tokens[t->n - 1 - n])
            n++;
        if (n > longest) {
            longest = n;
            best = end;
        }
    }
    return best;
}

static void test_random(void **state)
{
    (void)state;
    static struct text t;
    uint64_t random = 3;
    int found = 0;
    for (int round = 0; round < 60; round++) {
        struct ngram_index x;
        infer_token out[8];
        int32_t min = 1 + (int32_t)(test_rand(&random) % 3),
                max = min + (int32_t)(test_rand(&random) % 4);
        /* Few enough places alike that all are compared. */
        uint32_t n_vocab = min == 1 ? 60 : 12;
        assert_int_equal(ngram_init(&x, &base_alloc_default, min, max, 200), INFER_OK);
        for (t.n = 0; t.n < 200;) {
            t.tokens[t.n++] = (infer_token)(test_rand(&random) % n_vocab);
            if (test_rand(&random) % 3 == 0) /* not asked after each token */
                continue;
            int32_t n = ngram_draft(&x, &t, get, t.n, out, 8), best = search(&t, min, max);
            assert_int_equal(n, best < 0 ? 0 : 8);
            found += n > 0;
            for (int32_t i = 0; i < n; i++)
                assert_int_equal(out[i], best + 1 + i < t.n ? t.tokens[best + 1 + i]
                                                            : out[best + 1 + i - t.n]);
        }
        ngram_release(&x, &base_alloc_default);
    }
    assert_true(found > 1000);
}

static void test_repetition(void **state)
{
    (void)state;
    static struct text t = {.tokens = {9, 5, 6, 7, 5, 6, 7, 5}, .n = 8};
    const infer_token expected[] = {6, 7, 5, 6, 7, 5, 6, 7, 5, 6};
    infer_token out[10];
    struct ngram_index x;
    assert_int_equal(ngram_init(&x, &base_alloc_default, 2, 5, 64), INFER_OK);
    assert_int_equal(ngram_draft(&x, &t, get, t.n, out, 10), 10);
    assert_memory_equal(out, expected, sizeof expected);
    assert_int_equal(ngram_draft(&x, &t, get, t.n, out, 0), 0);
    ngram_release(&x, &base_alloc_default);
}

/* Beyond the window nothing is found, and nothing is read that was written over. */
static void test_long(void **state)
{
    (void)state;
    static struct text t;
    struct ngram_index x;
    infer_token out[2];
    assert_int_equal(ngram_init(&x, &base_alloc_default, 3, 5, 70000), INFER_OK);
    for (t.n = 0; t.n < 60000; t.n++)
        t.tokens[t.n] = t.n;
    assert_int_equal(ngram_draft(&x, &t, get, t.n, out, 2), 0);
    for (int32_t i = 100; i < 104; i++)
        t.tokens[t.n++] = i;
    assert_int_equal(ngram_draft(&x, &t, get, t.n, out, 2), 0);
    for (int32_t i = 50000; i < 50004; i++)
        t.tokens[t.n++] = i;
    assert_int_equal(ngram_draft(&x, &t, get, t.n, out, 2), 2);
    assert_int_equal(out[0], 50004);
    ngram_release(&x, &base_alloc_default);
}

static void test_short(void **state)
{
    (void)state;
    static struct text t = {.tokens = {1, 1, 1}};
    struct ngram_index x;
    infer_token out[4];
    assert_int_equal(ngram_init(&x, &base_alloc_default, 2, 2, 3), INFER_OK);
    for (t.n = 0; t.n <= 2; t.n++)
        assert_int_equal(ngram_draft(&x, &t, get, t.n, out, 4), 0);
    assert_int_equal(ngram_draft(&x, &t, get, t.n, out, 4), 4);
    ngram_release(&x, &base_alloc_default);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct test_alloc a;
    struct ngram_index x;
    test_alloc_init(&a);
    for (size_t i = 1; i <= 2; i++) {
        a.n_calls = 0;
        a.fail_at = i;
        assert_int_equal(ngram_init(&x, &a.alloc, 2, 5, 100), INFER_ERR_NO_MEMORY);
        assert_int_equal(a.live_blocks, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_repetition),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_short),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests_name("ngram", tests, NULL, NULL);
}
