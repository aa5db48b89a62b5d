/* Passes over a row of scores: its highest entry, its weights, and where in it a budget is reached
 * when too many entries could be the one for the list in shared memory. */
#ifndef KERNELS_CUDA_SAMPLE_ROW_CUH
#define KERNELS_CUDA_SAMPLE_ROW_CUH

#include "kernels/cuda/sample.cuh"

/* Pieces that a thread has under way. */
#define AHEAD 2

#define BINS 256

/* A row of scores on its way. */
struct row {
    const float *x;
    const uint32_t *mask; /* or NULL */
    int n;
    float high, scale;
    float lightest; /* entries weigh at least that */
    struct sample_rule rule;
};

/* ------------------------------------------------------------- walking a row */

/* Pieces begin .. end - 1 go to the warps in runs, so that warps have tokens by rising id. */
static __device__ __forceinline__ int run_of(int begin, int end)
{
    const int each = (end - begin + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
    return (each + KERN_WARP - 1) / KERN_WARP * KERN_WARP;
}

template <int W, typename Take>
static __device__ __forceinline__ void each_piece(const struct row *row, int begin, int end,
                                                  Take take)
{
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int run = run_of(begin, end), to = min(begin + (warp + 1) * run, end);
    for (int first = begin + warp * run + lane; first < to; first += AHEAD * KERN_WARP) {
        kern_piece<W> ahead[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int i = first + k * KERN_WARP;
            if (i < to)
                ahead[k] = kern_piece_load<W>(row->x + (size_t)i * W);
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int i = first + k * KERN_WARP;
            if (i < to)
                take(ahead[k], i);
        }
    }
}

/* What a grammar forbids is -infinity. */
template <int W>
static __device__ __forceinline__ kern_piece<W> masked(const struct row *row, kern_piece<W> x,
                                                       int piece)
{
    if (row->mask) {
        const int id = piece * W;
        const uint32_t bits = row->mask[id / 32] >> id % 32;
#pragma unroll
        for (int e = 0; e < W; e++)
            x.v[e] = bits >> e & 1 ? x.v[e] : -INFINITY;
    }
    return x;
}

/* 0: the entry is out. */
static __device__ __forceinline__ float weight_of(const struct row *row, float x, int id)
{
    const struct sample_rule *rule = &row->rule;
    float w = fmaxf(sample_exp(x, row->high, row->scale), row->lightest);
    if (rule->by_score && sample_order(x, id) < rule->by_score)
        w = 0.0f;
    if (rule->by_weight && sample_order(w, id) < rule->by_weight)
        w = 0.0f;
    return w < rule->least ? 0.0f : w;
}

template <int by> static __device__ __forceinline__ uint64_t order_by(float x, float weight, int id)
{
    return sample_order(by == SAMPLE_BY_SCORE ? x : weight, id);
}

/* ------------------------------------------------------------------ the highest */

struct survey {
    struct largest best;
    float lowest; /* of the threads' largest */
    int broken;   /* a NaN or +infinity is in the row, masked or not */
};

/* This thread's part; its largest goes to part[]. */
template <int W>
static __device__ __forceinline__ struct survey survey_part(const struct row *row, float *part)
{
    struct survey s = {{-INFINITY, INT32_MAX}, 0.0f, 0};
    each_piece<W>(row, 0, row->n / W, [&](const kern_piece<W> &piece, int i) {
        const kern_piece<W> x = masked<W>(row, piece, i);
        float top = x.v[0];
#pragma unroll
        for (int e = 0; e < W; e++) {
            s.broken |= !(piece.v[e] <= FLT_MAX);
            top = fmaxf(top, x.v[e]);
        }
        if (top > s.best.value || s.best.at == INT32_MAX) {
            s.best.value = top;
            s.best.at = i;
        }
    });
    if (s.best.at != INT32_MAX) { /* which of its piece it is, is looked up once */
        const int i = s.best.at;
        const kern_piece<W> x = masked<W>(row, kern_piece_load<W>(row->x + (size_t)i * W), i);
        s.best.at = i * W;
#pragma unroll
        for (int e = W - 1; e >= 0; e--)
            s.best.at = x.v[e] == s.best.value ? i * W + e : s.best.at;
    }
    part[threadIdx.x] = s.lowest = s.best.value;
    return s;
}

/* Of the whole row, given to each thread. */
template <int W> static __device__ struct survey look(const struct row *row, float *part)
{
    __shared__ struct survey of_warp[SAMPLE_WARPS];
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    struct survey s = survey_part<W>(row, part);
    s.best = warp_largest(s.best);
    s.lowest = -kern_warp_max(-s.lowest);
    s.broken = __any_sync(0xffffffffu, s.broken);
    __syncthreads();
    if (lane == 0)
        of_warp[warp] = s;
    __syncthreads();
    s = of_warp[lane % SAMPLE_WARPS];
    s.best = warp_largest(s.best);
    s.lowest = -kern_warp_max(-s.lowest);
    s.broken = __any_sync(0xffffffffu, s.broken);
    return s;
}

/* ------------------------------------------------------------------ weights */

struct entries {
    uint64_t low, high; /* entries of this order are listed */
};

/* Sums of the weights of pieces begin .. end - 1, by warp in of_warp[] (each thread may read them)
 * and their sum. On the way entries go to the list, which may be NULL. */
template <int W, int by>
static __device__ sample_weight weigh(const struct row *row, int begin, int end,
                                      sample_weight *of_warp, struct sample_list *list,
                                      struct entries wanted)
{
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    sample_weight sum = 0;
    __syncthreads();
    if (list && threadIdx.x == 0)
        list->n = 0;
    __syncthreads();
    each_piece<W>(row, begin, end, [&](const kern_piece<W> &piece, int i) {
        const kern_piece<W> x = masked<W>(row, piece, i);
#pragma unroll
        for (int e = 0; e < W; e++) {
            const int id = i * W + e;
            const float w = weight_of(row, x.v[e], id);
            sum += sample_fixed(w);
            if (!list || !(w > 0.0f))
                continue;
            const uint64_t order = order_by<by>(x.v[e], w, id);
            if (order < wanted.low || order >= wanted.high ||
                *(volatile unsigned *)&list->n > SAMPLE_LISTED)
                continue;
            const unsigned at = atomicAdd(&list->n, 1u);
            if (at < SAMPLE_LISTED) {
                list->score[at] = x.v[e];
                list->weight[at] = w;
                list->id[at] = id;
            }
        }
    });
    sum = sample_warp_sum(sum);
    if (lane == 0)
        of_warp[warp] = sum;
    __syncthreads();
    return sample_sum(of_warp);
}

/* Whether weigh() found more than the list holds. */
static __device__ __forceinline__ bool is_full(const struct sample_list *list)
{
    return list->n > SAMPLE_LISTED;
}

/* ------------------------------------------------- cuts in rows that are flat */

struct histogram {
    uint32_t count[BINS], low[BINS], high[BINS]; /* the weight in two halves: atomics of 32 bits
                                                    are the card's own */
    struct sample_range range;
};

static __device__ __forceinline__ void bin_add(struct histogram *h, int bin, unsigned n,
                                               sample_weight weight)
{
    const uint32_t low = (uint32_t)weight, before = atomicAdd(&h->low[bin], low);
    const uint32_t high = (uint32_t)(weight >> 32) + (before + low < before);
    atomicAdd(&h->count[bin], n);
    if (high)
        atomicAdd(&h->high[bin], high);
}

static __device__ __forceinline__ sample_weight bin_weight(const struct histogram *h, int bin)
{
    return (sample_weight)h->high[bin] << 32 | h->low[bin];
}

/* From the highest bin down to that in which the budget is reached; a warp, eight bins a lane. */
static __device__ void choose_bin(struct histogram *h, sample_weight budget, uint64_t step)
{
    const int lane = threadIdx.x % KERN_WARP, each = BINS / KERN_WARP;
    const struct sample_range range = h->range;
    int bin = BINS - 1 - lane * each;
    sample_weight mine = 0;
    for (int k = 0; k < each; k++)
        mine += bin_weight(h, bin - k);
    sample_weight upto = mine;
    for (int step_up = 1; step_up < KERN_WARP; step_up *= 2) {
        const sample_weight other = __shfl_up_sync(0xffffffffu, upto, step_up);
        if (lane >= step_up)
            upto += other;
    }
    const unsigned reached = __ballot_sync(0xffffffffu, range.above + upto >= budget);
    const int chosen = reached ? __ffs((int)reached) - 1 : KERN_WARP - 1;
    if (lane != chosen)
        return;
    sample_weight above = range.above + (upto - mine);
    const int last = bin - each + 1;
    for (; bin > last && above + bin_weight(h, bin) < budget; bin--)
        above += bin_weight(h, bin);
    h->range.above = above;
    h->range.inside = h->count[bin];
    h->range.low = range.low + bin * step;
    h->range.high = min(range.high, h->range.low + step);
}

/* One pass over the row: the range becomes the one of its 256 parts in which the budget is reached.
 * Neighbours of a thread that fall into one bin are added up first: of a row of equal scores all
 * do. */
template <int W, int by>
static __device__ void narrow(const struct row *row, struct histogram *h, sample_weight budget)
{
    const struct sample_range range = h->range;
    int shift = 0;
    while ((range.high - range.low - 1) >> shift >= BINS)
        shift++;
    for (int i = threadIdx.x; i < BINS; i += SAMPLE_THREADS)
        h->count[i] = h->low[i] = h->high[i] = 0;
    __syncthreads();
    int bin = -1;
    unsigned n = 0;
    sample_weight sum = 0;
    each_piece<W>(row, 0, row->n / W, [&](const kern_piece<W> &piece, int i) {
        const kern_piece<W> x = masked<W>(row, piece, i);
#pragma unroll
        for (int e = 0; e < W; e++) {
            const float w = weight_of(row, x.v[e], i * W + e);
            const uint64_t order = order_by<by>(x.v[e], w, i * W + e);
            if (!(w > 0.0f) || order < range.low || order >= range.high)
                continue;
            const int to = (int)((order - range.low) >> shift);
            if (to != bin && n) {
                bin_add(h, bin, n, sum);
                n = 0;
                sum = 0;
            }
            bin = to;
            n++;
            sum += by == SAMPLE_BY_SCORE ? 1 : sample_fixed(w);
        }
    });
    if (n)
        bin_add(h, bin, n, sum);
    __syncthreads();
    if (threadIdx.x < KERN_WARP)
        choose_bin(h, budget, (uint64_t)1 << shift);
    __syncthreads();
}

/* What all of the block share. */
struct work {
    struct sample_list list;
    struct histogram histogram;
    float part[SAMPLE_THREADS];
    sample_weight of_warp[SAMPLE_WARPS];
    double norm; /* of the log-probabilities */
};

/* The cut at which the budget is reached, over all entries of the row; the list is used. */
template <int W, int by>
static __device__ uint64_t cut_row(const struct row *row, struct work *work, sample_weight budget)
{
    struct histogram *h = &work->histogram;
    __syncthreads();
    if (threadIdx.x == 0) {
        h->range.low = h->range.above = 0;
        h->range.high = (uint64_t)1 << (32 + SAMPLE_ID_BITS);
        h->range.inside = SAMPLE_LISTED + 1;
    }
    __syncthreads();
    while (h->range.inside > SAMPLE_LISTED)
        narrow<W, by>(row, h, budget);
    struct sample_range range = h->range;
    const struct entries wanted = {range.low, range.high};
    weigh<W, by>(row, 0, row->n / W, work->of_warp, &work->list, wanted);
    list_find<by>(&work->list, budget, &range);
    return range.low;
}

#endif
