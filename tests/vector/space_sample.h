/* Vectors for tests of spaces, and what is found of them. */
#ifndef TESTS_VECTOR_SPACE_SAMPLE_H
#define TESTS_VECTOR_SPACE_SAMPLE_H

#include "../support/test.h"

#include "vector/space.h"

#include <infer/index.h>
#include <math.h>

/* Around `n_centres` centres, so that near ones stand out as they do among embeddings. Lengths
 * differ a little. */
static inline void sample_fill(float *x, int32_t n, int32_t dims, int32_t n_centres, uint64_t seed)
{
    float *centres = malloc((size_t)n_centres * (size_t)dims * sizeof(*centres));
    uint64_t state = 77; /* the same centres for vectors and queries */

    for (int32_t i = 0; i < n_centres * dims; i++) {
        centres[i] = test_randf(&state);
    }
    state = seed;
    for (int32_t i = 0; i < n; i++) {
        const float *centre = centres + (size_t)(test_rand(&state) % (uint32_t)n_centres) * dims;
        const float size = 1.0f + 0.2f * test_randf(&state);

        for (int32_t j = 0; j < dims; j++) {
            x[(size_t)i * dims + j] = size * (centre[j] + 0.8f * test_randf(&state));
        }
    }
    free(centres);
}

static inline struct vector_space_config sample_config(const struct base_alloc *a,
                                                       const struct infer_kernels *kernels,
                                                       int32_t dims, int32_t metric, int32_t type)
{
    return (struct vector_space_config){.alloc = a,
                                        .kernels = kernels,
                                        .shape = {dims, metric, type},
                                        .degree = 16,
                                        .effort = 60,
                                        .seed = 5};
}

/* Mean share of the exact hits' number that are as good as the worst of them: equals may come in
 * any order. Every hit's score must be the exact one of its row, in falling order, and the row be
 * allowed and alive. `path`: INFER_SEARCH_..., 0: any. */
static inline double sample_recall(const struct vector_space *space, const float *queries,
                                   int32_t n_queries, int32_t dims,
                                   const struct vector_search *how_to, int32_t path)
{
    enum { K_MAX = 100 };
    struct vector_scratch *scratch;
    struct vector_found found[K_MAX], exact[K_MAX];
    double sum = 0.0;
    int32_t n_wanted = 0;

    assert_ok(vector_scratch_create(&scratch, &base_alloc_default));
    for (int32_t i = 0; i < n_queries; i++) {
        struct vector_search search = *how_to;
        struct vector_how how;
        int32_t n_found, n_exact;

        search.query = queries + (size_t)i * (size_t)dims;
        assert_ok(vector_space_search(space, scratch, &search, found, &n_found, &how));
        if (path) {
            assert_int_equal(how.path, path);
        }
        for (int32_t j = 0; j < n_found; j++) {
            assert_in_range(found[j].row, 0, search.n_rows - 1);
            assert_true(!search.allowed.bits ||
                        search.allowed.bits[found[j].row / 64] >> found[j].row % 64 & 1);
            assert_true(!search.dead || !(search.dead[found[j].row / 64] >> found[j].row % 64 & 1));
            assert_true(j == 0 || found[j].score < found[j - 1].score ||
                        (found[j].score == found[j - 1].score && found[j].row > found[j - 1].row));
        }
        search.recall = 1.0f;
        search.ef = 0;
        assert_ok(vector_space_search(space, scratch, &search, exact, &n_exact, &how));
        assert_int_equal(how.exact, 1);
        assert_true(n_found <= n_exact);
        for (int32_t j = 0; j < n_found; j++) {
            sum += found[j].score >= exact[n_exact - 1].score;
        }
        n_wanted += n_exact;
    }
    vector_scratch_destroy(&scratch);
    return n_wanted > 0 ? sum / n_wanted : 1.0;
}

#endif
