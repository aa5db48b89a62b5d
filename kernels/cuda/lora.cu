/* What adapters add to products: for each run of rows with one adapter t = A x, then y += B t. */
#include "kernels/cuda/lora.cuh"

/* Units of 16 bytes that a lane has under way of each row of weights. */
#define LORA_AHEAD 2
/* Rows of A that a warp has. */
#define LORA_WARP_RANKS (LORA_RANKS / (LORA_THREADS / KERN_WARP))

/* Rows of x together. */
#define LORA_FEW 4

/* --------------------------------------------------------------------- down */

template <typename Read> struct lora_weights {
    typename Read::raw unit[LORA_WARP_RANKS][LORA_AHEAD];
};

/* Units `first` + lane and those a warp further, zeros from `end` on. */
template <typename Read>
static __device__ __forceinline__ void lora_fetch(lora_weights<Read> *w, const lora_place &p,
                                                  int rank, int first, int end)
{
#pragma unroll
    for (int j = 0; j < LORA_WARP_RANKS; j++)
#pragma unroll
        for (int u = 0; u < LORA_AHEAD; u++) {
            const int unit = first + u * KERN_WARP + (int)threadIdx.x % KERN_WARP;
            if (rank + j < p.rank && unit < end)
                w->unit[j][u] = Read::load(p.w + (size_t)(rank + j) * p.stride, p.w, unit);
            else
                w->unit[j][u] = {make_uint4(0, 0, 0, 0)};
        }
}

/* Of one lane. */
template <int M> struct lora_sums {
    float v[LORA_WARP_RANKS][M];
    double squares[M];
};

template <typename Read, int M>
static __device__ __forceinline__ void
lora_multiply(lora_sums<M> *sums, const lora_weights<Read> &w, const struct kern_cuda_lora_args &a,
              int row, int n_rows, int first, bool square, bool wide)
{
    constexpr int n = Read::elements;
#pragma unroll
    for (int u = 0; u < LORA_AHEAD; u++) {
        const int e = (first + u * KERN_WARP + (int)threadIdx.x % KERN_WARP) * n;
        float weights[LORA_WARP_RANKS][n], norm[n];
#pragma unroll
        for (int j = 0; j < LORA_WARP_RANKS; j++)
            Read::decode(weights[j], w.unit[j][u]);
        if (a.norm)
            lora_load<n>(norm, a.norm, e, a.k, wide);
#pragma unroll
        for (int m = 0; m < M; m++) {
            float x[n];
            if (m >= n_rows)
                break;
            lora_load<n>(x, a.x + (size_t)(row + m) * a.x_stride, e, a.k, wide);
            if (a.norm) {
#pragma unroll
                for (int i = 0; square && i < n; i++)
                    sums->squares[m] += (double)x[i] * (double)x[i];
#pragma unroll
                for (int i = 0; i < n; i++)
                    x[i] *= norm[i];
            }
#pragma unroll
            for (int j = 0; j < LORA_WARP_RANKS; j++)
#pragma unroll
                for (int i = 0; i < n; i++)
                    sums->v[j][m] = fmaf(weights[j][i], x[i], sums->v[j][m]);
        }
    }
}

template <int M>
static __device__ __forceinline__ void
lora_store(const lora_sums<M> &sums, const lora_place &p, const struct kern_cuda_lora_args &a,
           int part, int section, int rank, int row, int n_rows, bool square)
{
    const int lane = (int)threadIdx.x % KERN_WARP;
#pragma unroll
    for (int m = 0; m < M; m++) {
        if (m >= n_rows)
            break;
        float *t = lora_t(a, row + m, part);
#pragma unroll
        for (int j = 0; j < LORA_WARP_RANKS; j++) {
            const float sum = kern_warp_sum(sums.v[j][m]);
            if (lane == 0 && rank + j < p.rank)
                t[section * lora_rank_up(p.rank) + rank + j] = sum;
        }
        if (square) {
            const double sum = kern_warp_sum_double(sums.squares[m]);
            if (lane == 0)
                lora_squares(a, t)[section] = sum;
        }
    }
}

/* A warp has some rows of A, whose first units are on their way before the kernel in front is done;
 * those behind follow, of single rows one round ahead. */
template <typename Read, int M>
static __device__ __forceinline__ void lora_down_run(const struct kern_cuda_lora_args &a,
                                                     const lora_place &p, int part, int section,
                                                     int first_rank)
{
    constexpr int n = Read::elements, round = LORA_AHEAD * KERN_WARP;
    const int length = lora_section_length(a, p.rank);
    const int begin = section * length / n, end = min(p.stride / 16, begin + length / n);
    const int warp = (int)threadIdx.x / KERN_WARP, rank = first_rank + warp * LORA_WARP_RANKS;
    const bool square = a.norm && first_rank == 0 && warp == 0;
    const bool wide =
        a.k % 4 == 0 && a.x_stride % 4 == 0 && (((uintptr_t)a.x | (uintptr_t)a.norm) & 15) == 0;
    lora_weights<Read> w;
    lora_fetch<Read>(&w, p, rank, begin, end);
    kern_wait();
    kern_release();
    if (rank >= p.rank)
        return;
    for (int row = 0; row < p.n_rows; row += M) {
        const int n_rows = min(M, p.n_rows - row);
        lora_sums<M> sums = {};
        for (int at = begin; at < end; at += round) {
            if constexpr (M == 1) {
                const bool last = at + round >= end;
                lora_weights<Read> next = w;
                if (!last || row + M < p.n_rows)
                    lora_fetch<Read>(&next, p, rank, last ? begin : at + round, end);
                lora_multiply<Read, M>(&sums, w, a, p.row + row, n_rows, at, square, wide);
                w = next;
            } else {
                if (at > begin || row > 0)
                    lora_fetch<Read>(&w, p, rank, at, end);
                lora_multiply<Read, M>(&sums, w, a, p.row + row, n_rows, at, square, wide);
            }
        }
        lora_store<M>(sums, p, a, part, section, rank, p.row + row, n_rows, square);
    }
}

/* Grid: sections and tiles of ranks, parts, segments. */
template <int M>
static __global__ void __launch_bounds__(LORA_THREADS, 2)
    lora_down(const __grid_constant__ struct kern_cuda_lora_args a, int sections)
{
    const int part = blockIdx.y, section = blockIdx.x % sections;
    const int first_rank = (int)blockIdx.x / sections * LORA_RANKS;
    lora_place p;
    if (!lora_find(&p, a, blockIdx.z, part, false) || p.source != part || first_rank >= p.rank ||
        section * lora_section_length(a, p.rank) >= a.k) {
        kern_wait();
        kern_release();
        return;
    }
    if (p.type == INFER_DTYPE_F32)
        lora_down_run<kern_read_F32, M>(a, p, part, section, first_rank);
    else if (p.type == INFER_DTYPE_BF16)
        lora_down_run<kern_read_BF16, M>(a, p, part, section, first_rank);
    else
        lora_down_run<kern_read_F16, M>(a, p, part, section, first_rank);
}

/* ----------------------------------------------------------------------- up */

/* Loads of B that a thread has under way. */
#define LORA_UP_AHEAD 4

/* Rows of t, scaled, with zeros up to whole units. */
static __device__ __forceinline__ void lora_gather(float *shared, const lora_place &p,
                                                   const struct kern_cuda_lora_args &a, int row,
                                                   int n_rows)
{
    const int rank = lora_rank_up(p.rank), length = lora_section_length(a, p.rank);
    const int n_sections = (a.k + length - 1) / length;
    for (int i = threadIdx.x; i < n_rows * rank; i += LORA_THREADS) {
        const int m = i / rank, r = i % rank;
        float *t = lora_t(a, row + m, p.source), sum = 0.0f;
        for (int s = 0; s < n_sections && r < p.rank; s++)
            sum += t[s * rank + r];
        shared[i] = r < p.rank
                        ? sum * (p.scale * a.scales[row + m]) * lora_norm_scale(a, t, n_sections)
                        : 0.0f;
    }
}

/* How the threads of a block share rows of B: `lanes` of them, neighbours in a warp, have a row,
 * each every lanes-th unit. */
struct lora_split {
    int units, lanes, rounds; /* rounds: units of a lane in a row */
    int lane, output;         /* of this thread */
};

static __device__ __forceinline__ lora_split lora_split_of(const lora_place &p, int first)
{
    lora_split s = {p.stride / 16, 1, 0, 0, 0};
    while (s.lanes < s.units && s.lanes < KERN_WARP)
        s.lanes *= 2;
    s.rounds = (s.units + s.lanes - 1) / s.lanes;
    s.lane = (int)threadIdx.x % s.lanes;
    s.output = first + (int)threadIdx.x / s.lanes;
    return s;
}

/* A step is a round of a pass; a pass takes as many outputs as threads can share out. */
template <typename Read>
static __device__ __forceinline__ typename Read::raw lora_unit(const lora_split &s,
                                                               const lora_place &p, int step, int n)
{
    const int pass = step / s.rounds, unit = step % s.rounds * s.lanes + s.lane;
    const int output = s.output + pass * (LORA_THREADS / s.lanes);
    if (pass < s.lanes && output < n && unit < s.units)
        return Read::load(p.w + (size_t)output * p.stride, p.w, unit);
    return {make_uint4(0, 0, 0, 0)};
}

template <int M>
static __device__ __forceinline__ void lora_add(const lora_split &s, float sums[M], float *y,
                                                size_t y_stride, int n_rows, bool inside)
{
#pragma unroll
    for (int m = 0; m < M; m++) {
        float sum = sums[m];
        for (int step = s.lanes / 2; step > 0; step /= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (m < n_rows && inside && m % s.lanes == s.lane)
            y[(size_t)m * y_stride] += sum;
    }
}

template <typename Read, int M>
static __device__ __forceinline__ void lora_up_run(const struct kern_cuda_lora_args &a,
                                                   const lora_place &p, int part, int first,
                                                   float *shared)
{
    constexpr int elements = Read::elements;
    const lora_split s = lora_split_of(p, first);
    const int n = a.n[part], rank = lora_rank_up(p.rank), steps = s.lanes * s.rounds;
    typename Read::raw w[LORA_UP_AHEAD];
#pragma unroll
    for (int i = 0; i < LORA_UP_AHEAD; i++)
        w[i] = lora_unit<Read>(s, p, i, n);
    kern_wait();
    kern_release();
    for (int row = 0; row < p.n_rows; row += M) {
        const int n_rows = min(M, p.n_rows - row);
        float *y = a.y[part] + (size_t)(p.row + row) * a.y_stride[part];
        float sums[M] = {};
        __syncthreads(); /* the rows before have been read */
        lora_gather(shared, p, a, p.row + row, n_rows);
        __syncthreads();
        for (int base = 0; base < steps; base += LORA_UP_AHEAD) {
#pragma unroll
            for (int i = 0; (base || row) && i < LORA_UP_AHEAD; i++)
                w[i] = lora_unit<Read>(s, p, base + i, n);
#pragma unroll
            for (int i = 0; i < LORA_UP_AHEAD; i++) {
                const int step = base + i, round = step % s.rounds;
                const int unit = round * s.lanes + s.lane;
                if (step >= steps)
                    break;
                if (unit < s.units) {
                    float weights[elements];
                    Read::decode(weights, w[i]);
#pragma unroll
                    for (int m = 0; m < M; m++) {
                        float t[elements];
                        if (m >= n_rows)
                            break;
                        lora_load<elements>(t, shared + m * rank, unit * elements, rank, true);
#pragma unroll
                        for (int e = 0; e < elements; e++)
                            sums[m] = fmaf(weights[e], t[e], sums[m]);
                    }
                }
                if (round + 1 < s.rounds)
                    continue;
                const int output = s.output + step / s.rounds * (LORA_THREADS / s.lanes);
                lora_add<M>(s, sums, y + output, a.y_stride[part], n_rows, output < n);
#pragma unroll
                for (int m = 0; m < M; m++)
                    sums[m] = 0.0f;
            }
        }
    }
}

/* Grid: tiles of outputs, parts, segments. */
template <int M>
static __global__ void __launch_bounds__(LORA_THREADS, M == 1 ? 3 : 2)
    lora_up(const __grid_constant__ struct kern_cuda_lora_args a)
{
    KERN_SHARED_BYTES(shared);
    const int part = blockIdx.y, first = blockIdx.x * LORA_OUTPUTS;
    lora_place p;
    if (first >= a.n[part] || !lora_find(&p, a, blockIdx.z, part, true)) {
        kern_wait();
        kern_release();
        return;
    }
    float *t = (float *)(void *)shared;
    if (p.type == INFER_DTYPE_F32)
        lora_up_run<kern_read_F32, M>(a, p, part, first, t);
    else if (p.type == INFER_DTYPE_BF16)
        lora_up_run<kern_read_BF16, M>(a, p, part, first, t);
    else
        lora_up_run<kern_read_F16, M>(a, p, part, first, t);
}

/* ----------------------------------------------------------------- launches */

/* Rows of t of higher ranks do not fit into shared memory together. */
#define LORA_FEW_RANK 1024

extern "C" size_t kern_cuda_lora_row(int32_t max_rank)
{
    return (size_t)lora_row_floats(max_rank);
}

static bool lora_is_empty(const struct kern_cuda_lora_args *args)
{
    return args->n_segments <= 0 || args->n_parts <= 0 || args->max_rank <= 0;
}

extern "C" int32_t kern_cuda_lora_down(const struct kern_cuda_lora_args *args, void *stream)
{
    const int32_t sections = min(LORA_SECTIONS, (args->k + LORA_SECTION - 1) / LORA_SECTION);
    const int32_t tiles = (args->max_rank + LORA_RANKS - 1) / LORA_RANKS;
    if (lora_is_empty(args) || args->k <= 0)
        return 0;
    if (args->tiles)
        return lora_tile_down_launch(args, stream);
    const dim3 grid((unsigned)(sections * tiles), (unsigned)args->n_parts,
                    (unsigned)args->n_segments);
    return kern_launch(args->segment_rows == 1 ? lora_down<1> : lora_down<LORA_FEW>, grid,
                       dim3(LORA_THREADS), 0, stream, *args, sections);
}

extern "C" int32_t kern_cuda_lora_up(const struct kern_cuda_lora_args *args, void *stream)
{
    int32_t n = 0;
    if (lora_is_empty(args))
        return 0;
    if (args->tiles)
        return lora_tile_up_launch(args, stream);
    for (int32_t p = 0; p < args->n_parts; p++)
        n = max(n, args->n[p]);
    const bool one = args->segment_rows == 1 || args->max_rank > LORA_FEW_RANK;
    const size_t shared =
        (size_t)(one ? 1 : LORA_FEW) * (size_t)lora_rank_up(args->max_rank) * sizeof(float);
    const dim3 grid((unsigned)((n + LORA_OUTPUTS - 1) / LORA_OUTPUTS), (unsigned)args->n_parts,
                    (unsigned)args->n_segments);
    return kern_launch(one ? lora_up<1> : lora_up<LORA_FEW>, grid, dim3(LORA_THREADS), shared,
                       stream, *args);
}
