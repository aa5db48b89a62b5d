/* What sampling on the card is made of: numbers that order a row, weights in fixed point, and the
 * search for the place where a weight is reached.
 *
 * Weights are integers, so sums are exact and have the same bits in any order. Tokens of a row are
 * all different: an entry's order is its score, then the lower id. So each question of the chain
 * (lib/sample/chain.h) is the same one: from the highest entry down, which is the first at which
 * the weight of those so far reaches a budget? Top-k counts entries, top-p weighs their
 * probability, the draw weighs it too but goes by id. */
#ifndef KERNELS_CUDA_SAMPLE_CUH
#define KERNELS_CUDA_SAMPLE_CUH

#include "kernels/cuda/rows.cuh"

#include <float.h>

/* Threads of a block, which has one row; fewer where each is a fiber. */
#ifdef KERN_CUDA_EMULATED
#define SAMPLE_THREADS 256
#else
#define SAMPLE_THREADS KERN_BLOCK_MAX
#endif
#define SAMPLE_WARPS (SAMPLE_THREADS / KERN_WARP)

/* Entries of a row that are looked at together in shared memory. */
#define SAMPLE_LISTED 2048

/* A probability of the most likely token: 2^20 of them stay below 2^64. */
#define SAMPLE_ONE 0x1p43f

#define SAMPLE_ID_BITS 20
#define SAMPLE_ID_MASK ((1u << SAMPLE_ID_BITS) - 1)

typedef unsigned long long sample_weight;

/* Same order as the floats; both zeros are one value (truncate.c). */
static __device__ __forceinline__ uint32_t sample_key(float x)
{
    const uint32_t bits = __float_as_uint(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* The order of entries: higher is earlier. */
static __device__ __forceinline__ uint64_t sample_order(float x, int id)
{
    return (uint64_t)sample_key(x) << SAMPLE_ID_BITS | (SAMPLE_ID_MASK - (uint32_t)id);
}

static __device__ __forceinline__ sample_weight sample_fixed(float weight)
{
    return (sample_weight)(weight * SAMPLE_ONE);
}

/* exp of what is at most zero, as softmax takes it; 0 where nothing is left of it. */
static __device__ __forceinline__ float sample_exp(float x, float high, float scale)
{
    const float s = __fmul_rn(x - high, scale);
    return s > -40.0f ? expf(s) : 0.0f;
}

/* What is decided of a row so far: earlier entries stay. */
struct sample_rule {
    uint64_t by_score;  /* entries whose score orders them before it are out */
    uint64_t by_weight; /* the same of the weight as a float */
    float least;        /* of the weight */
};

/* A part of the order, and what lies above it. Above `low` the budget is reached, above `high` it
 * is not. */
struct sample_range {
    uint64_t low, high;  /* low is in it, high is not */
    sample_weight above; /* weight from `high` on */
    unsigned inside;     /* entries; what has no weight does not count */
};

/* -------------------------------------------------------------------- sums */

static __device__ __forceinline__ sample_weight sample_warp_sum(sample_weight value)
{
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

/* The sum of what the warps left there, given to each thread. */
static __device__ __forceinline__ sample_weight sample_sum(const sample_weight *of_warp)
{
    const int lane = threadIdx.x % KERN_WARP;
    return sample_warp_sum(lane < SAMPLE_WARPS ? of_warp[lane] : 0);
}

static __device__ __forceinline__ unsigned sample_warp_count(unsigned value)
{
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

/* ------------------------------------------------------------------ a list */

/* Entries of the row that are looked at together. */
struct sample_list {
    float score[SAMPLE_LISTED], weight[SAMPLE_LISTED]; /* weight 0: out */
    int id[SAMPLE_LISTED];
    unsigned n; /* may be more than there is room for: then not all are here */
};

enum sample_by { SAMPLE_BY_SCORE, SAMPLE_BY_WEIGHT, SAMPLE_BY_ID };

/* What entry i of the list is ordered by, and what it weighs. */
template <int by>
static __device__ __forceinline__ uint64_t listed_order(const struct sample_list *list, unsigned i)
{
    if constexpr (by == SAMPLE_BY_ID)
        return SAMPLE_ID_MASK - (uint32_t)list->id[i];
    else
        return sample_order(by == SAMPLE_BY_SCORE ? list->score[i] : list->weight[i], list->id[i]);
}

template <int by>
static __device__ __forceinline__ sample_weight listed_weight(const struct sample_list *list,
                                                              unsigned i)
{
    if constexpr (by == SAMPLE_BY_SCORE)
        return 1;
    else
        return sample_fixed(list->weight[i]);
}

/* Cuts the range into as many parts as the block has warps, and keeps that in which the budget is
 * reached: warp w sums what lies from the beginning of part w on. */
template <int by>
static __device__ void list_narrow(const struct sample_list *list, sample_weight budget,
                                   struct sample_range *range)
{
    __shared__ sample_weight from[SAMPLE_WARPS];
    __shared__ unsigned inside[SAMPLE_WARPS];
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const uint64_t step = (range->high - range->low - 1) / SAMPLE_WARPS + 1;
    const uint64_t begin = range->low + warp * step;
    sample_weight sum = 0;
    unsigned n = 0;
    for (unsigned i = lane; i < list->n; i += KERN_WARP) {
        const uint64_t order = listed_order<by>(list, i);
        if (list->weight[i] > 0.0f && order >= begin && order < range->high) {
            sum += listed_weight<by>(list, i);
            n++;
        }
    }
    sum = sample_warp_sum(sum);
    n = sample_warp_count(n);
    __syncthreads(); /* the sums of a call before are read */
    if (lane == 0) {
        from[warp] = sum;
        inside[warp] = n;
    }
    __syncthreads();
    /* The last part from whose beginning on the budget is reached; the first if there is none. */
    const unsigned reached =
        __ballot_sync(0xffffffffu, lane < SAMPLE_WARPS && range->above + from[lane] >= budget) | 1u;
    const int part = 31 - __clz((int)reached);
    const uint64_t low = range->low + part * step;
    range->inside = inside[part] - (part + 1 < SAMPLE_WARPS ? inside[part + 1] : 0);
    if (part + 1 < SAMPLE_WARPS) {
        range->above += from[part + 1];
        range->high = min(range->high, low + step);
    }
    range->low = low;
}

/* Of the entries in the list that have a weight: narrows the range to the last one that is needed
 * to reach the budget. What lies from range->low on is what reaches it; out of reach, `low` stays,
 * and with it everything. All entries of the range are listed. */
template <int by>
static __device__ void list_find(const struct sample_list *list, sample_weight budget,
                                 struct sample_range *range)
{
    do
        list_narrow<by>(list, budget, range);
    while (range->inside > 1 && range->high - range->low > 1);
}

/* Takes the weight from entries before `cut` and below `least`; the sum of what stays, given to
 * each thread. */
template <int by>
static __device__ sample_weight list_drop(struct sample_list *list, uint64_t cut, float least)
{
    __shared__ sample_weight of_warp[SAMPLE_WARPS];
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    sample_weight sum = 0;
    __syncthreads(); /* nobody reads the list any more, nor the sums of a call before */
    for (unsigned i = threadIdx.x; i < list->n; i += SAMPLE_THREADS) {
        if (listed_order<by>(list, i) < cut || list->weight[i] < least)
            list->weight[i] = 0.0f;
        sum += sample_fixed(list->weight[i]);
    }
    sum = sample_warp_sum(sum);
    if (lane == 0)
        of_warp[warp] = sum;
    __syncthreads();
    return sample_sum(of_warp);
}

/* The token at which the weight by rising id exceeds `target`, given to each thread. */
static __device__ int list_draw(const struct sample_list *list, sample_weight target)
{
    __shared__ int drawn;
    struct sample_range range = {0, (uint64_t)SAMPLE_ID_MASK + 1, 0, 0};
    list_find<SAMPLE_BY_ID>(list, target + 1, &range);
    for (unsigned i = threadIdx.x; i < list->n; i += SAMPLE_THREADS) {
        const uint64_t order = listed_order<SAMPLE_BY_ID>(list, i);
        if (list->weight[i] > 0.0f && order >= range.low && order < range.high)
            drawn = list->id[i];
    }
    __syncthreads();
    return drawn;
}

/* Uniform in [0, 1): base_rng_uniform(), Philox 4x32-10 (Salmon, Moraes, Dror, Shaw 2011). */
static __device__ __forceinline__ double sample_uniform(uint64_t seed, uint64_t sequence,
                                                        uint64_t position)
{
    uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32);
    uint32_t c2 = (uint32_t)sequence, c3 = (uint32_t)(sequence >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (double)(((uint64_t)c0 << 32 | c1) >> 11) * 0x1p-53;
}

#endif
