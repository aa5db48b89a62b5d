/* Top-k, top-p (Holtzman et al. 2019, "The Curious Case of Neural Text
 * Degeneration") and min-p (Nguyen et al. 2024, arXiv:2407.01082).
 *
 * Top-k and top-p are one question: walking from the highest score down, lower
 * id first among equals, which tokens come before a weight of k tokens, or of
 * mass p, is reached? A radix selection answers it without sorting: the floats
 * become integers of the same order, weights are summed by their leading bits,
 * the bucket where the weight is reached is split by the next bits, and after
 * three rounds the last kept score is known exactly. Linear in the vocabulary
 * whatever the values are. */
#include "sample/chain.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Same order as the floats; both zeros are one value. */
static inline uint32_t key_of(float x)
{
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static inline float float_of(uint32_t key)
{
    float x;
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Tokens above `key` stay; those equal to it stay, by rising id, until the
 * weight reaches the budget. */
struct cut {
    uint32_t key;
    double taken, budget;
};

/* Finds the bucket in which the budget is reached and adds what lies above it
 * to *taken, which stays below the budget. Out of reach: the lowest bucket, so
 * that everything stays. */
static uint32_t find_bucket(const struct sample_radix *radix, uint32_t n_buckets, double budget,
                            double *taken)
{
    uint32_t b = n_buckets - 1;
    for (; b > 0 && *taken + radix->weight[b] < budget; b--)
        *taken += radix->weight[b];
    return b;
}

/* `by_mass`: an entry weighs its value, else one. Entries up to `bound` are
 * known to be out. */
static struct cut find_cut(const struct sample_row *row, double budget, int by_mass, float bound,
                           struct sample_radix *radix)
{
    struct cut cut = {.budget = budget};
    int shift = 32;
    uint32_t prefix = 0; /* leading bits found so far */
    while (shift > 0) {
        const int done = shift;
        const int bits = BASE_MIN(SAMPLE_RADIX_BITS, shift);
        const uint32_t mask = (1u << bits) - 1;
        shift -= bits;
        memset(radix->weight, 0, sizeof radix->weight);
        for (int32_t b = 0; b < row->n; b += SAMPLE_BLOCK) {
            if (!sample_row_above(row, b, bound))
                continue;
            for (int32_t i = b; i < BASE_MIN(b + SAMPLE_BLOCK, row->n); i++) {
                const uint32_t key = key_of(row->x[i]);
                if (row->x[i] > bound && (uint64_t)key >> done == prefix)
                    radix->weight[key >> shift & mask] += by_mass ? (double)row->x[i] : 1.0;
            }
        }
        prefix = prefix << bits | find_bucket(radix, mask + 1, budget, &cut.taken);
    }
    cut.key = prefix;
    return cut;
}

static inline int keeps(struct cut *cut, float x, double weight)
{
    uint32_t key = key_of(x);
    if (key != cut->key)
        return key > cut->key;
    if (cut->taken >= cut->budget)
        return 0;
    cut->taken += weight;
    return 1;
}

/* A bound below the k-th highest entry, so that few others are looked at: the
 * k-th highest of a part of the row is never above that of the whole. */
static float bound_of_k(const struct sample_row *row, int32_t k, struct sample_radix *radix)
{
    const struct sample_row part = {.x = row->x, .n = row->n / 16};
    if (k > part.n / 4)
        return -INFINITY;
    const uint32_t key = find_cut(&part, k, 0, -INFINITY, radix).key;
    return key > key_of(-INFINITY) ? nextafterf(float_of(key), -INFINITY) : -INFINITY;
}

void sample_row_top_k(struct sample_row *row, int32_t k, infer_token *ids,
                      struct sample_radix *radix)
{
    if (k <= 0 || k >= row->n)
        return;
    const float bound = bound_of_k(row, k, radix);
    struct cut cut = find_cut(row, k, 0, bound, radix);
    int32_t n = 0;
    for (int32_t b = 0; b < row->n && n < k; b += SAMPLE_BLOCK) {
        if (!sample_row_above(row, b, bound))
            continue;
        for (int32_t i = b; i < BASE_MIN(b + SAMPLE_BLOCK, row->n); i++) {
            if (row->x[i] <= bound || !keeps(&cut, row->x[i], 1.0))
                continue;
            ids[n] = sample_row_token(row, i);
            row->x[n++] = row->x[i];
        }
    }
    row->n = n;
    row->ids = ids;
}

static double mass_above(const struct sample_row *row, float bound)
{
    double mass = 0.0;
    for (int32_t b = 0; b < row->n; b += SAMPLE_BLOCK) {
        if (!sample_row_above(row, b, bound))
            continue;
        for (int32_t i = b; i < BASE_MIN(b + SAMPLE_BLOCK, row->n); i++)
            mass += row->x[i] > bound ? (double)row->x[i] : 0.0;
    }
    return mass;
}

void sample_row_top_p(struct sample_row *row, float p, struct sample_radix *radix)
{
    if (p >= 1.0f)
        return;
    p = BASE_MAX(p, FLT_MIN); /* so that one token is kept */
    /* All entries below (1 - p) / n have less than 1 - p together: the cut is not
     * among them, and half of it leaves room for rounding. Language models are
     * peaked, a few hundred entries hold most of the mass: first try higher. */
    const float lowest = 0.5f * (1.0f - p) / (float)row->n;
    float bound = 0x1p-10f;
    while (bound > lowest && mass_above(row, bound) < (double)p)
        bound *= 0x1p-5f;
    bound = BASE_MAX(bound, lowest);
    struct cut cut = find_cut(row, (double)p, 1, bound, radix);
    for (int32_t i = 0; i < row->n; i++)
        if (row->x[i] <= bound || !keeps(&cut, row->x[i], row->x[i]))
            row->x[i] = 0.0f;
}

void sample_row_min_p(struct sample_row *row, float min_p)
{
    if (min_p <= 0.0f)
        return;
    const float least = min_p * row->x[sample_row_argmax(row)];
    for (int32_t i = 0; i < row->n; i++)
        if (row->x[i] < least)
            row->x[i] = 0.0f;
}
