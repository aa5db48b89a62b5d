/* Experts: which ones a row goes to, the order of the work, and the sum of its results. */
#include "kernels/cuda/rows.cuh"

/* ------------------------------------------------------------------- choice */

#define ROUTE_THREADS 128
#define EXPERTS_MAX   512
#define LANE_EXPERTS  (EXPERTS_MAX / KERN_WARP)

/* Threads exchange what they have in shared memory. */
struct route_row {
    float score[EXPERTS_MAX]; /* after the gating */
    float group[EXPERTS_MAX];
    float weight[EXPERTS_MAX]; /* of the chosen, best first */
    double exps[EXPERTS_MAX];
    float of_warp[ROUTE_THREADS / KERN_WARP];
};

/* Of x and all other threads' x the largest; NaN counts for nothing. */
static __device__ __forceinline__ float block_max(struct route_row *row, float x)
{
    x = kern_warp_max(x);
    if (threadIdx.x % KERN_WARP == 0)
        row->of_warp[threadIdx.x / KERN_WARP] = x;
    __syncthreads();
    for (int w = 0; w < ROUTE_THREADS / KERN_WARP; w++)
        x = fmaxf(x, row->of_warp[w]);
    return x;
}

/* Scores from the router's products, by the whole block. */
static __device__ __forceinline__ void gate_scores(const struct kern_cuda_route_args *a,
                                                   struct route_row *row, const float *scores)
{
    float x[EXPERTS_MAX / ROUTE_THREADS], max = -INFINITY;
    double e[EXPERTS_MAX / ROUTE_THREADS], sum = 0.0;
#pragma unroll
    for (int j = 0; j < EXPERTS_MAX / ROUTE_THREADS; j++) {
        const int i = threadIdx.x + j * ROUTE_THREADS;
        x[j] = i < a->n_experts ? scores[i] : -INFINITY;
        x[j] = a->router_scale > 0.0f ? x[j] * a->router_scale : x[j];
        max = fmaxf(max, x[j]);
    }
    const bool softmax = !a->sigmoid && !a->topk_softmax;
    if (softmax) {
        max = block_max(row, max);
#pragma unroll
        for (int j = 0; j < EXPERTS_MAX / ROUTE_THREADS; j++) {
            const bool inside = threadIdx.x + j * ROUTE_THREADS < (unsigned)a->n_experts;
            e[j] = inside ? exp((double)(x[j] - max)) : 0.0;
            sum += e[j];
        }
        sum = kern_block_sum(sum);
    }
#pragma unroll
    for (int j = 0; j < EXPERTS_MAX / ROUTE_THREADS; j++) {
        const int i = threadIdx.x + j * ROUTE_THREADS;
        if (softmax)
            x[j] = (float)(e[j] / sum);
        else if (a->sigmoid)
            x[j] = (float)(1.0 / (1.0 + exp(-(double)x[j])));
        if (i < a->n_experts)
            row->score[i] = x[j];
    }
    __syncthreads();
}

static __device__ __forceinline__ float preference(const struct kern_cuda_route_args *a,
                                                   const struct route_row *row, int i)
{
    return row->score[i] + (a->correction ? a->correction[i] : 0.0f);
}

/* Of a group counts its best expert, or with a correction the sum of its two best. */
static __device__ __forceinline__ void score_groups(const struct kern_cuda_route_args *a,
                                                    struct route_row *row)
{
    const int size = a->n_experts / a->n_groups;
    for (int g = threadIdx.x; g < a->n_groups; g += KERN_WARP) {
        float best = -INFINITY, second = -INFINITY;
        for (int i = g * size; i < (g + 1) * size; i++) {
            const float s = preference(a, row, i);
            if (s > best) {
                second = best;
                best = s;
            } else if (s > second) {
                second = s;
            }
        }
        row->group[g] = a->correction && size > 1 ? best + second : best;
    }
    __syncwarp();
}

static __device__ __forceinline__ bool group_open(const struct kern_cuda_route_args *a,
                                                  const struct route_row *row, int g)
{
    const float own = row->group[g];
    int better = 0;
    for (int o = 0; o < a->n_groups; o++)
        better += row->group[o] > own || (row->group[o] == own && o < g);
    return better < a->n_groups_used;
}

/* What the choice goes by; the largest is chosen, and of equal ones the lower number. Below the
 * numbers stand NaN, then experts that are not open. The first of those left wins where it is NaN,
 * as it does in a search that keeps what nothing is greater than. */
static __device__ __forceinline__ uint64_t key_of(float p, bool open, int i, bool first)
{
    const uint32_t bits = __float_as_uint(p + 0.0f); /* -0 is 0 */
    uint32_t rank = bits >> 31 ? ~bits : bits | 0x80000000u;
    if (p != p)
        rank = first ? 0xffffffffu : 2;
    if (!open)
        rank = 1;
    return (uint64_t)rank << 32 | (uint32_t)~i;
}

/* Experts of one lane: i = lane + 32 j. */
struct lane_experts {
    float p[LANE_EXPERTS];
    uint32_t open, left; /* bit j */
};

static __device__ __forceinline__ struct lane_experts
take_experts(const struct kern_cuda_route_args *a, struct route_row *row)
{
    const int groups = max(a->n_groups, 1), size = a->n_experts / groups;
    struct lane_experts mine = {};
    if (groups > 1)
        score_groups(a, row);
#pragma unroll
    for (int j = 0; j < LANE_EXPERTS; j++) {
        const int i = threadIdx.x + j * KERN_WARP;
        mine.p[j] = 0.0f;
        if (i >= a->n_experts)
            continue;
        mine.p[j] = preference(a, row, i);
        mine.left |= 1u << j;
        if (i < groups * size && (groups == 1 || group_open(a, row, i / size)))
            mine.open |= 1u << j;
    }
    return mine;
}

/* The best expert that is left, by one warp. */
static __device__ __forceinline__ int next_best(const struct lane_experts *mine, bool any_nan)
{
    int first = INT32_MAX;
    uint64_t best = 0;
    const uint32_t open_left = mine->open & mine->left;
    if (any_nan) {
        first = open_left ? (int)threadIdx.x + (__ffs((int)open_left) - 1) * KERN_WARP : INT32_MAX;
        for (int step = KERN_WARP / 2; step > 0; step /= 2)
            first = min(first, __shfl_xor_sync(0xffffffffu, first, step));
    }
#pragma unroll
    for (int j = 0; j < LANE_EXPERTS; j++) {
        const int i = threadIdx.x + j * KERN_WARP;
        const uint64_t key = key_of(mine->p[j], mine->open >> j & 1, i, i == first);
        if (mine->left >> j & 1)
            best = max(best, key);
    }
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        best = max(best, __shfl_xor_sync(0xffffffffu, best, step));
    return (int)~(uint32_t)best;
}

/* Weights of the chosen: a softmax over them, a sum of 1, a factor, as asked for. */
static __device__ __forceinline__ void weigh(const struct kern_cuda_route_args *a,
                                             struct route_row *row, float *weights)
{
    const int n = a->n_used;
    const float scale = a->expert_scale != 0.0f ? a->expert_scale : 1.0f;
    double sum = 0.0, exps = 0.0;
    float max = -INFINITY;
    for (int u = 0; u < n; u++) {
        sum += (double)row->weight[u];
        max = fmaxf(max, row->weight[u]);
    }
    for (int u = threadIdx.x; a->topk_softmax && u < n; u += KERN_WARP)
        row->exps[u] = exp((double)(row->weight[u] - max));
    __syncwarp();
    for (int u = 0; a->topk_softmax && u < n; u++)
        exps += row->exps[u];
    for (int u = threadIdx.x; u < n; u += KERN_WARP) {
        float w = a->topk_softmax ? (float)(row->exps[u] / exps) : row->weight[u];
        if (a->sum)
            w = (float)((double)w / fmax(sum, 1e-20));
        weights[u] = w * scale;
    }
}

/* Of elements i .. i + W - 1: what the norm's sum of squares gets, and the product. */
template <int W>
static __device__ __forceinline__ void gate_piece(const struct kern_cuda_route_args *a,
                                                  const float *x, int i, double *squares,
                                                  double *product)
{
    const kern_piece<W> v = kern_piece_load<W>(x + i), w = kern_piece_load<W>(a->gate_w + i);
    kern_piece<W> n = kern_piece_fill<W>(1.0f);
    if (a->norm)
        n = kern_piece_load<W>(a->norm + i);
#pragma unroll
    for (int e = 0; e < W; e++) {
        *squares += (double)v.v[e] * (double)v.v[e];
        *product += (double)v.v[e] * (double)n.v[e] * (double)w.v[e];
    }
}

/* The gate of the shared expert: the norm's factor is the same for the whole row. */
static __device__ __forceinline__ void shared_gate(const struct kern_cuda_route_args *a, size_t r)
{
    const float *x = a->x + r * a->x_stride;
    const uintptr_t at = (uintptr_t)x | (uintptr_t)a->gate_w | (uintptr_t)a->norm;
    double squares = 0.0, product = 0.0;
    if (at % 16 == 0 && a->n % 4 == 0)
        for (int i = threadIdx.x * 4; i < a->n; i += ROUTE_THREADS * 4)
            gate_piece<4>(a, x, i, &squares, &product);
    else
        for (int i = threadIdx.x; i < a->n; i += ROUTE_THREADS)
            gate_piece<1>(a, x, i, &squares, &product);
    product = kern_block_sum(product);
    squares = kern_block_sum(squares);
    if (a->norm)
        product /= sqrt(squares / (double)a->n + (double)a->eps);
    if (threadIdx.x == 0)
        a->gate[r] = (float)(1.0 / (1.0 + exp(-product)));
}

/* A block a row, whose first warp chooses; another where there is a shared expert with a gate. */
static __global__ void __launch_bounds__(ROUTE_THREADS) route(const struct kern_cuda_route_args a)
{
    __shared__ struct route_row row;
    const size_t r = blockIdx.x;
    kern_wait();
    if (blockIdx.y) {
        kern_release();
        shared_gate(&a, r);
        return;
    }
    gate_scores(&a, &row, a.scores + r * a.n_experts);
    kern_release();
    if (threadIdx.x >= KERN_WARP)
        return;
    struct lane_experts mine = take_experts(&a, &row);
    bool nan = false;
#pragma unroll
    for (int j = 0; j < LANE_EXPERTS; j++)
        nan |= mine.p[j] != mine.p[j];
    nan = __any_sync(0xffffffffu, nan);
    for (int u = 0; u < a.n_used; u++) {
        const int i = next_best(&mine, nan);
        if (i % KERN_WARP == (int)threadIdx.x) {
            mine.left &= ~(1u << i / KERN_WARP);
            a.chosen[r * a.n_used + u] = i;
            row.weight[u] = row.score[i];
        }
    }
    __syncwarp();
    weigh(&a, &row, a.weights + r * a.n_used);
}

extern "C" int32_t kern_cuda_moe_route(const struct kern_cuda_route_args *args, void *stream)
{
    if (args->n_rows <= 0)
        return 0;
    if (args->n_experts > EXPERTS_MAX || args->n_used > args->n_experts)
        return (int32_t)cudaErrorInvalidValue;
    return kern_launch(route, dim3((unsigned)args->n_rows, args->gate ? 2 : 1), dim3(ROUTE_THREADS),
                       0, stream, *args);
}

/* --------------------------------------------------------------------- sort */

/* Slots that a lane has under way. */
#define SORT_AHEAD 4

/* Slots of lower experts, and of this one. */
struct counts {
    int lower, own;
};

static __device__ __forceinline__ struct counts count_slots(const int32_t *chosen, int begin,
                                                            int end, int expert)
{
    const int lane = threadIdx.x % KERN_WARP;
    struct counts c = {0, 0};
    for (int i = begin + lane; i < end; i += KERN_WARP) {
        const int e = chosen[i];
        c.lower += e < expert;
        c.own += e == expert;
    }
    for (int step = KERN_WARP / 2; step > 0; step /= 2) {
        c.lower += __shfl_xor_sync(0xffffffffu, c.lower, step);
        c.own += __shfl_xor_sync(0xffffffffu, c.own, step);
    }
    return c;
}

/* A block an expert: each reads all of `chosen`, and none waits for another. A warp takes
 * neighbouring slots, so that their order is that of the warps and lanes. */
static __global__ void __launch_bounds__(KERN_BLOCK_MAX)
    sort_slots(int32_t *first, int32_t *from, int32_t *slot_of, const int32_t *chosen, int n,
               int n_used)
{
    __shared__ struct counts of_warp[KERN_WARP];
    const int lane = threadIdx.x % KERN_WARP, warp = threadIdx.x / KERN_WARP;
    const int n_warps = blockDim.x / KERN_WARP, expert = blockIdx.x;
    const int share = (n + n_warps - 1) / n_warps;
    const int begin = min(warp * share, n), end = min(begin + share, n);
    kern_wait();
    const struct counts mine = count_slots(chosen, begin, end, expert);
    if (lane == 0)
        of_warp[warp] = mine;
    __syncthreads();
    kern_release();
    int start = 0, at = 0, all = 0;
    for (int w = 0; w < n_warps; w++) {
        start += of_warp[w].lower;
        at += w < warp ? of_warp[w].own : 0;
        all += of_warp[w].own;
    }
    at += start;
    if (threadIdx.x == 0) {
        first[expert] = start;
        if (expert + 1 == (int)gridDim.x)
            first[expert + 1] = start + all;
    }
    for (int base = begin; base < end; base += SORT_AHEAD * KERN_WARP) {
        int e[SORT_AHEAD];
#pragma unroll
        for (int j = 0; j < SORT_AHEAD; j++) {
            const int i = base + j * KERN_WARP + lane;
            e[j] = i < end ? chosen[i] : -1;
        }
#pragma unroll
        for (int j = 0; j < SORT_AHEAD; j++) {
            const int i = base + j * KERN_WARP + lane;
            const unsigned own = __ballot_sync(0xffffffffu, e[j] == expert);
            const int slot = at + __popc(own & ((1u << lane) - 1));
            if (e[j] == expert) {
                from[slot] = i / n_used;
                slot_of[i] = slot;
            }
            at += __popc(own);
        }
    }
}

extern "C" int32_t kern_cuda_moe_sort(int32_t *first, int32_t *from, int32_t *slot_of,
                                      const int32_t *chosen, int32_t n_rows, int32_t n_used,
                                      int32_t n_experts, void *stream)
{
    const int32_t n = n_rows * n_used, warps = BASE_DIV_UP(n, SORT_AHEAD * KERN_WARP);
    const unsigned threads = (unsigned)BASE_MIN(BASE_MAX(warps, 1) * KERN_WARP, KERN_BLOCK_MAX);
    return kern_launch(sort_slots, dim3((unsigned)n_experts), dim3(threads), 0, stream, first, from,
                       slot_of, chosen, n, n_used);
}

/* ------------------------------------------------------------------ combine */

#define COMBINE_THREADS 256

/* Piece i of the sum of a row's results, best expert first. */
template <int W>
static __device__ __forceinline__ kern_piece<W> sum_of_uses(const struct kern_cuda_combine_args *a,
                                                            size_t row, int i)
{
    kern_piece<W> sum = kern_piece_fill<W>(0.0f);
#pragma unroll 4
    for (int u = 0; u < a->n_used; u++) {
        const size_t at = row * a->n_used + u, slot = a->slot_of ? (size_t)a->slot_of[at] : at;
        const float weight = a->weights ? a->weights[at] : 1.0f;
        const kern_piece<W> v = kern_piece_load<W>(a->experts + slot * a->n + (size_t)i * W);
#pragma unroll
        for (int e = 0; e < W; e++)
            sum.v[e] = fmaf(weight, v.v[e], sum.v[e]);
    }
    return sum;
}

template <int W>
static __device__ __forceinline__ void join_piece(const struct kern_cuda_combine_args *a,
                                                  size_t row, int i, const kern_piece<W> &sum)
{
    float *to = a->x + row * a->n + (size_t)i * W;
    kern_piece<W> x = kern_piece_load<W>(to);
#pragma unroll
    for (int e = 0; e < W; e++)
        x.v[e] = fmaf(a->scale, sum.v[e], x.v[e]) * a->factor;
    kern_piece_store<W>(to, x);
}

/* Blocks are (row, run of pieces). */
template <int W>
static __global__ void __launch_bounds__(COMBINE_THREADS)
    combine(const struct kern_cuda_combine_args a)
{
    kern_wait();
    kern_release();
    const int i = blockIdx.y * COMBINE_THREADS + threadIdx.x;
    const size_t row = blockIdx.x;
    if (i >= a.n / W)
        return;
    kern_piece<W> sum = sum_of_uses<W>(&a, row, i);
    if (a.beside) {
        const kern_piece<W> more = kern_piece_load<W>(a.beside + row * a.n + (size_t)i * W);
#pragma unroll
        for (int e = 0; e < W; e++)
            sum.v[e] += more.v[e];
    }
    join_piece<W>(&a, row, i, sum);
}

/* What a norm multiplies its row by, from each thread's sum of squares; all threads call it. */
static __device__ __forceinline__ double norm_factor(const struct kern_cuda_combine_args *a,
                                                     double squares)
{
    return 1.0 / sqrt(kern_block_sum(squares) / (double)a->n + (double)a->eps);
}

template <int W> static __device__ __forceinline__ double squares_of(const kern_piece<W> &x)
{
    double sum = 0.0;
#pragma unroll
    for (int e = 0; e < W; e++)
        sum += (double)x.v[e] * (double)x.v[e];
    return sum;
}

/* x with its norm, whose weights are NULL where there is none. */
template <int W>
static __device__ __forceinline__ kern_piece<W> normed(kern_piece<W> x, const float *w, int i,
                                                       double factor)
{
    if (!w)
        return x;
    const kern_piece<W> weights = kern_piece_load<W>(w + (size_t)i * W);
#pragma unroll
    for (int e = 0; e < W; e++)
        x.v[e] = (float)((double)x.v[e] * factor * (double)weights.v[e]);
    return x;
}

/* A block a row. Each thread keeps its pieces of both terms in shared memory, and they become
 * their sum there: no other thread reads them. */
template <int W>
static __global__ void __launch_bounds__(KERN_BLOCK_MAX, 1)
    combine_normed(const struct kern_cuda_combine_args a)
{
    KERN_SHARED_BYTES(shared);
    float *sums = (float *)shared, *terms = sums + a.n;
    const size_t row = blockIdx.x;
    const int n_pieces = a.n / W;
    double squares = 0.0, squares_beside = 0.0, squares_both = 0.0;
    kern_wait();
    kern_release();
    for (int i = threadIdx.x; i < n_pieces; i += blockDim.x) {
        kern_piece<W> term = kern_piece_fill<W>(0.0f);
        if (a.beside)
            term = kern_piece_load<W>(a.beside + row * a.n + (size_t)i * W);
        const kern_piece<W> sum = sum_of_uses<W>(&a, row, i);
        squares += squares_of<W>(sum);
        squares_beside += squares_of<W>(term);
        kern_piece_store<W>(sums + i * W, sum);
        kern_piece_store<W>(terms + i * W, term);
    }
    const double by_sum = a.sum_norm ? norm_factor(&a, squares) : 1.0;
    const double by_beside = a.beside && a.by_norm ? norm_factor(&a, squares_beside) : 1.0;
    for (int i = threadIdx.x; i < n_pieces; i += blockDim.x) {
        kern_piece<W> sum = normed<W>(kern_piece_load<W>(sums + i * W), a.sum_norm, i, by_sum);
        const kern_piece<W> term =
            normed<W>(kern_piece_load<W>(terms + i * W), a.beside ? a.by_norm : NULL, i, by_beside);
#pragma unroll
        for (int e = 0; e < W; e++)
            sum.v[e] += term.v[e];
        squares_both += squares_of<W>(sum);
        kern_piece_store<W>(sums + i * W, sum);
    }
    const double by_both = a.norm ? norm_factor(&a, squares_both) : 1.0;
    for (int i = threadIdx.x; i < n_pieces; i += blockDim.x)
        join_piece<W>(&a, row, i, normed<W>(kern_piece_load<W>(sums + i * W), a.norm, i, by_both));
}

extern "C" int32_t kern_cuda_moe_combine(const struct kern_cuda_combine_args *args, void *stream)
{
    const int32_t n = args->n;
    if (args->n_rows <= 0 || n <= 0)
        return 0;
    const bool wide = n % 4 == 0 && kern_on_16_bytes(args->x, args->experts, args->beside, NULL) &&
                      kern_on_16_bytes(args->norm, args->sum_norm, args->by_norm, NULL);
    const int pieces = wide ? n / 4 : n;
    if (args->norm || args->sum_norm || args->by_norm) {
        const int threads = BASE_ALIGN_UP(pieces, KERN_WARP);
        return kern_launch(wide ? combine_normed<4> : combine_normed<1>,
                           dim3((unsigned)args->n_rows),
                           dim3((unsigned)BASE_MIN(threads, KERN_BLOCK_MAX)),
                           2 * (size_t)n * sizeof(float), stream, *args);
    }
    const dim3 grid((unsigned)args->n_rows,
                    (unsigned)((pieces + COMBINE_THREADS - 1) / COMBINE_THREADS));
    return kern_launch(wide ? combine<4> : combine<1>, grid, dim3(COMBINE_THREADS), 0, stream,
                       *args);
}
