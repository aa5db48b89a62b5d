/* What the card found, scored by the processor as the vectors are kept. */
#include "vector/card_state.h"

#include <math.h>

#define GROUP 16 /* found rows that are scored at a time */

/* What a score of the card must reach for a row that may be among the best: those of L2 are
 * x y - |y|^2 / 2. */
static float least_of(const struct card_call *c, const struct card_asked *a,
                      const struct vector_best *best)
{
    double least = (double)vector_best_least(best);
    if (isinf(least))
        return (float)least;
    if (c->view.shape.metric == INFER_METRIC_L2) {
        least = least * (1.0 + 2.0 * (double)card_rounding(&c->view));
        least = (least + a->query.length * a->query.length) * 0.5;
    }
    return nextafterf((float)least, -INFINITY);
}

static void sift_keys(uint64_t *keys, int32_t n, int32_t at)
{
    const uint64_t x = keys[at];
    for (int32_t child = 2 * at + 1; child < n; child = 2 * at + 1) {
        child += child + 1 < n && keys[child + 1] < keys[child];
        if (keys[child] >= x)
            break;
        keys[at] = keys[child];
        at = child;
    }
    keys[at] = x;
}

/* Largest first. */
void card_sort_keys(uint64_t *keys, int32_t n)
{
    for (int32_t i = n / 2 - 1; i >= 0; i--)
        sift_keys(keys, n, i);
    for (int32_t end = n - 1; end > 0; end--) {
        const uint64_t least = keys[0];
        keys[0] = keys[end];
        keys[end] = least;
        sift_keys(keys, end, 0);
    }
}

/* The best of what the card found; open where more may be among them, but for partitions, which
 * promise nothing. Of signs the card's order is the true one. */
static void score_one(const struct card_call *c, struct card_asked *a)
{
    const int32_t is_bits = c->view.shape.type == INFER_INDEX_BINARY;
    struct vector_scored list[CARD_K_MAX];
    struct vector_best best = {list, a->k, 0};
    int32_t at = 0, is_sure = 0;
    card_sort_keys(a->keys, c->keep);
    while (at < c->keep && a->keys[at] && !is_sure) {
        int32_t rows[GROUP], n = 0;
        float scores[GROUP];
        for (; n < GROUP && at < c->keep && a->keys[at]; n++, at++)
            rows[n] = (int32_t) ~(uint32_t)a->keys[at];
        vector_view_score(&c->view, &a->query, rows, n, scores);
        for (int32_t i = 0; i < n; i++)
            vector_best_offer(&best, scores[i], rows[i]);
        is_sure = is_bits ? best.n == best.k
                          : at < c->keep && a->keys[at] &&
                                card_score_at_most(a->keys[at]) < least_of(c, a, &best);
    }
    /* What was not kept is no better than the last that was. */
    a->open = !c->probes && !is_sure && a->keys[c->keep - 1] != 0 &&
              !(card_score_at_most(a->keys[c->keep - 1]) < least_of(c, a, &best));
    if (a->open)
        return;
    vector_best_sort(&best);
    for (int32_t i = 0; i < best.n; i++)
        a->found[i] =
            (struct vector_found){best.list[i].row, best.list[i].score,
                                  vector_distance(c->view.shape.metric, best.list[i].score)};
    *a->n_found = best.n;
}

static void score_some(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    struct card_call *c = arg;
    BASE_UNUSED(thread);
    for (int32_t i = begin; i < end; i++)
        if (!c->lost[i] && !c->asked[i].open)
            score_one(c, &c->asked[i]);
}

void card_score(struct card_call *c, struct base_pool *pool)
{
    if (pool && c->n > 1)
        base_pool_run(pool, score_some, c, c->n, 1);
    else
        score_some(c, 0, c->n, 0);
}
