/* The best k of what is offered, equals by row: a heap whose first entry is the worst that is kept.
 */
#ifndef VECTOR_BEST_H
#define VECTOR_BEST_H

#include <math.h>
#include <stdint.h>

struct vector_scored {
    float score;
    int32_t row;
};

struct vector_best {
    struct vector_scored *list; /* room for k */
    int32_t k, n;
};

static inline int vector_is_worse(struct vector_scored a, struct vector_scored b)
{
    return a.score < b.score || (a.score == b.score && a.row > b.row);
}

/* Scores below this are of no use. */
static inline float vector_best_least(const struct vector_best *best)
{
    return best->n < best->k ? -INFINITY : best->k > 0 ? best->list[0].score : INFINITY;
}

static inline void vector_best_down(struct vector_scored *list, int32_t n, struct vector_scored x)
{
    int32_t at = 0;

    for (int32_t child = 1; child < n; child = 2 * at + 1) {
        child += child + 1 < n && vector_is_worse(list[child + 1], list[child]);
        if (!vector_is_worse(list[child], x)) {
            break;
        }
        list[at] = list[child];
        at = child;
    }
    list[at] = x;
}

static inline void vector_best_up(struct vector_scored *list, int32_t at, struct vector_scored x)
{
    while (at > 0 && vector_is_worse(x, list[(at - 1) / 2])) {
        list[at] = list[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    list[at] = x;
}

/* NaN is not kept. Whether it was. */
static inline int vector_best_offer(struct vector_best *best, float score, int32_t row)
{
    const struct vector_scored x = {score, row};

    if (!(score >= vector_best_least(best))) {
        return 0;
    }
    if (best->n < best->k) {
        vector_best_up(best->list, best->n++, x);
        return 1;
    }
    if (best->k == 0 || !vector_is_worse(best->list[0], x)) {
        return 0;
    }
    vector_best_down(best->list, best->n, x);
    return 1;
}

/* Best first; it is no heap then. */
static inline void vector_best_sort(struct vector_best *best)
{
    for (int32_t n = best->n; n > 1; n--) {
        const struct vector_scored last = best->list[n - 1];

        best->list[n - 1] = best->list[0];
        vector_best_down(best->list, n - 1, last);
    }
}

#endif
