/* One entry of a row: the highest, or one drawn by weight. */
#include "sample/chain.h"

#include <math.h>

#define DRAW_BLOCK 64

int32_t sample_row_find(const struct sample_row *row, float bound)
{
    int32_t i = 0;
    while (i < row->n && !sample_row_above(row, i, bound))
        i += SAMPLE_BLOCK;
    while (i < row->n && row->x[i] <= bound)
        i++;
    return BASE_MIN(i, row->n);
}

int32_t sample_row_argmax(const struct sample_row *row)
{
    int32_t best = 0;
    float high = -INFINITY;
    for (int32_t b = 0; b < row->n; b += SAMPLE_BLOCK) {
        if (!sample_row_above(row, b, high))
            continue;
        for (int32_t i = b; i < BASE_MIN(b + SAMPLE_BLOCK, row->n); i++) {
            if (row->x[i] <= high)
                continue;
            high = row->x[i];
            best = i;
        }
    }
    return best;
}

/* Four sums, so that one addition need not wait for the last. */
static double block_sum(const float *x, int32_t n)
{
    double sum[4] = {0};
    int32_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++)
            sum[j] += (double)x[i + j];
    for (; i < n; i++)
        sum[0] += (double)x[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* First entry of [begin, end) at which the running sum exceeds the target;
 * where rounding leaves none, the last that weighs anything. */
static int32_t walk(const float *x, int32_t begin, int32_t end, double sum, double target)
{
    int32_t last = begin;
    for (int32_t i = begin; i < end; i++) {
        if (x[i] <= 0.0f)
            continue;
        last = i;
        sum += (double)x[i];
        if (sum > target)
            break;
    }
    return last;
}

int32_t sample_row_draw(const struct sample_row *row, double u)
{
    double total = 0.0, sum = 0.0;
    for (int32_t i = 0; i < row->n; i += DRAW_BLOCK)
        total += block_sum(row->x + i, BASE_MIN(DRAW_BLOCK, row->n - i));

    /* The same sums in the same order, so that the last block ends at total. */
    const double target = u * total;
    int32_t begin = 0;
    double before = 0.0;
    for (int32_t i = 0; i < row->n; i += DRAW_BLOCK) {
        const double block = block_sum(row->x + i, BASE_MIN(DRAW_BLOCK, row->n - i));
        if (block <= 0.0)
            continue;
        begin = i;
        before = sum;
        sum += block;
        if (sum > target)
            break;
    }
    return walk(row->x, begin, BASE_MIN(begin + DRAW_BLOCK, row->n), before, target);
}
