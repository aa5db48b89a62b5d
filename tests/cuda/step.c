/* What a step brings in from the host by itself, and what it answers. */
#include "base/types.h"
#include "cuda/card.h"
#include "kernels/cuda/cuda_kernels.h"

static int32_t *pinned_new(size_t n)
{
    void *p = NULL;
    assert_int_equal(cudaMallocHost(&p, n * sizeof(int32_t)), cudaSuccess);
    memset(p, 0xff, n * sizeof(int32_t));
    return p;
}

static void fill(uint64_t *seed, int32_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (int32_t)(test_rand(seed) % 100000);
}

/* Pieces of ragged sizes: what lies between their rows and behind them stays. */
static void test_words_arrive_and_nothing_else(void **state)
{
    static const int32_t shapes[][3] = {/* width, rows, pitch */
                                        {1, 1, 1},    {7, 1, 7},    {3, 5, 8},       {1, 9, 3},
                                        {1025, 1, 1}, {65, 64, 70}, {4097, 5, 4100}, {0, 3, 4}};
    uint64_t seed = 3;
    (void)state;
    card_needed("words of a step");
    for (int twice = 0; twice < 2; twice++) { /* and again: the same bits */
        struct kern_cuda_begin_args args = {.n_pieces = (int32_t)BASE_COUNT(shapes)};
        size_t n[BASE_COUNT(shapes)];
        for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
            n[i] = (size_t)shapes[i][1] * (size_t)BASE_MAX(shapes[i][0], shapes[i][2]);
            int32_t *from = pinned_new(n[i]);
            fill(&seed, from, n[i]);
            args.pieces[i] = (struct kern_cuda_words){card_new(NULL, n[i] * 4), from, shapes[i][0],
                                                      shapes[i][1], shapes[i][2]};
        }
        assert_int_equal(kern_cuda_step_begin(&args, NULL), 0);
        for (size_t i = 0; i < BASE_COUNT(shapes); i++) {
            const struct kern_cuda_words *p = &args.pieces[i];
            int32_t *got = malloc(n[i] * 4);
            card_get(got, p->to, n[i] * 4);
            for (size_t k = 0; k < n[i]; k++) {
                int in = (int32_t)(k % (size_t)p->pitch) < p->width || p->rows == 1;
                in &= p->width > 0 && (p->rows > 1 || (int32_t)k < p->width);
                assert_int_equal(got[k], in ? p->from[k] : -1);
            }
            free(got);
            card_free(p->to);
            assert_int_equal(cudaFreeHost((void *)(uintptr_t)p->from), cudaSuccess);
        }
    }
    const struct kern_cuda_begin_args many = {.n_pieces = KERN_CUDA_PIECES + 1};
    assert_int_not_equal(kern_cuda_step_begin(&many, NULL), 0);
}

/* Tokens of the host, tokens that the card chose, and rows for which it found none. */
static void test_tokens_come_from_both_sides(void **state)
{
    static const int32_t sizes[] = {1, 2, 31, 256, 300, 5000};
    uint64_t seed = 4;
    (void)state;
    card_needed("tokens of a step");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        const size_t n = (size_t)sizes[s];
        int32_t *tokens = pinned_new(n), *source = pinned_new(n), *chosen = malloc(n * 4);
        int32_t *got = malloc((n + 3) * 4), *card = card_new(NULL, (n + 3) * 4);
        fill(&seed, tokens, n);
        fill(&seed, chosen, n);
        for (size_t i = 0; i < n; i++) {
            source[i] = test_rand(&seed) % 3 ? (int32_t)(test_rand(&seed) % n) : -1;
            if (test_rand(&seed) % 5 == 0)
                chosen[i] = -1;
        }
        int32_t *chosen_card = card_new(chosen, n * 4);
        const struct kern_cuda_begin_args args = {.n_rows = sizes[s],
                                                  .tokens = card,
                                                  .new_tokens = tokens,
                                                  .source = source,
                                                  .chosen = chosen_card};
        assert_int_equal(kern_cuda_step_begin(&args, NULL), 0);
        card_get(got, card, (n + 3) * 4);
        for (size_t i = 0; i < n + 3; i++) {
            int32_t expected = i >= n ? -1 : source[i] < 0 ? tokens[i] : chosen[source[i]];
            if (i < n && source[i] >= 0 && expected < 0)
                expected = 0;
            assert_int_equal(got[i], expected);
        }
        card_free(card), card_free(chosen_card);
        free(chosen), free(got);
        assert_int_equal(cudaFreeHost(tokens), cudaSuccess);
        assert_int_equal(cudaFreeHost(source), cudaSuccess);
    }
}

/* The same launch answers where its step asks. */
static void test_answers_go_where_they_are_asked_for(void **state)
{
    static const int32_t sizes[] = {1, 7, 256, 257, 1000};
    uint64_t seed = 5;
    (void)state;
    card_needed("answers of a step");
    for (size_t s = 0; s < BASE_COUNT(sizes); s++) {
        const size_t n = (size_t)sizes[s];
        int32_t *ids = malloc(n * 4);
        int32_t **to = card_new(NULL, sizeof *to);
        fill(&seed, ids, n);
        int32_t *ids_card = card_new(ids, n * 4);
        for (int k = 0; k < 2; k++) {
            int32_t *answer = pinned_new(n + 1);
            assert_int_equal(
                cudaMemcpy((void *)to, (void *)&answer, sizeof answer, cudaMemcpyHostToDevice),
                cudaSuccess);
            assert_int_equal(kern_cuda_step_answer(to, ids_card, sizes[s], NULL), 0);
            assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
            assert_memory_equal(answer, ids, n * 4);
            assert_int_equal(answer[n], -1);
            assert_int_equal(cudaFreeHost(answer), cudaSuccess);
        }
        card_free((void *)to), card_free(ids_card);
        free(ids);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_arrive_and_nothing_else),
        cmocka_unit_test(test_tokens_come_from_both_sides),
        cmocka_unit_test(test_answers_go_where_they_are_asked_for),
    };
    return cmocka_run_group_tests_name("begin and end of a step", tests, NULL, NULL);
}
