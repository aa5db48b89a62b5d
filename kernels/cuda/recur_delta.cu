/* The gated delta rule (Yang, Kautz and Hatamizadeh, arXiv:2412.06464) over states that stay in
 * registers while the rows of a sequence pass. */
#include "kernels/cuda/recur.cuh"

/* A warp has eight columns of a state: its lanes are pairs of four columns each, and sixteen of
 * these pairs share the rows. What a pair reads of a row is a sector of memory. */
#define COLUMNS   8
#define ROW_LANES 16

struct delta_shared {
    float *k, *q;             /* rows of ROW_LANES * R */
    float *v;                 /* rows of the block's columns */
    float *decay, *u, *agree; /* by row; agree: q . k */
};

static __device__ __forceinline__ struct delta_shared delta_place(unsigned char *shared, int rows,
                                                                  int depth, int columns)
{
    struct delta_shared s;
    s.k = (float *)shared;
    s.q = s.k + rows * depth;
    s.v = s.q + rows * depth;
    s.decay = s.v + rows * columns;
    s.u = s.decay + rows;
    s.agree = s.u + rows;
    return s;
}

/* Keys and queries of n rows get their lengths; a warp takes a row, in an order of sums that
 * depends on the depth alone. */
static __device__ __forceinline__ void delta_normalise(const struct delta_shared &s,
                                                       const struct recur_job &job, int n, int ld)
{
    const int lane = threadIdx.x % KERN_WARP, warps = blockDim.x / KERN_WARP;
    for (int t = threadIdx.x / KERN_WARP; t < n; t += warps) {
        float *k = s.k + t * ld, *q = s.q + t * ld;
        float kk = 0.0f, qq = 0.0f, kq = 0.0f;
        for (int i = lane; i < job.a.depth; i += KERN_WARP) {
            kk = fmaf(k[i], k[i], kk);
            qq = fmaf(q[i], q[i], qq);
            kq = fmaf(k[i], q[i], kq);
        }
        kk = 1.0f / sqrtf(kern_warp_sum(kk) + job.a.eps);
        qq = job.a.scale / sqrtf(kern_warp_sum(qq) + job.a.eps);
        kq = kern_warp_sum(kq) * kk * qq;
        for (int i = lane; i < job.a.depth; i += KERN_WARP) {
            k[i] *= kk;
            q[i] *= qq;
        }
        if (lane == 0)
            s.agree[t] = kq;
    }
}

/* Eight sums over the lanes of one parity, one to each lane: of held[lane >> 2 & 3], or of read[]
 * of that where the lane has bit 16. Each round halves what is exchanged. */
static __device__ __forceinline__ float delta_sums(const float held[4], const float read[4],
                                                   int lane)
{
    float four[4], two[2];
#pragma unroll
    for (int e = 0; e < 4; e++)
        four[e] = (lane & 16 ? read[e] : held[e]) +
                  __shfl_xor_sync(0xffffffffu, lane & 16 ? held[e] : read[e], 16);
#pragma unroll
    for (int e = 0; e < 2; e++)
        two[e] = (lane & 8 ? four[2 + e] : four[e]) +
                 __shfl_xor_sync(0xffffffffu, lane & 8 ? four[e] : four[2 + e], 8);
    float one =
        (lane & 4 ? two[1] : two[0]) + __shfl_xor_sync(0xffffffffu, lane & 4 ? two[0] : two[1], 4);
    return one + __shfl_xor_sync(0xffffffffu, one, 2);
}

/* Row t: what is read is said of the state before the row, so that both sums over its rows are
 * taken at once: S' q = g S q + (k . q) change. Returns y of column (lane >> 2 & 3) where the lane
 * has bit 16. */
template <int R>
static __device__ __forceinline__ float delta_row(float state[R][4], const struct delta_shared &s,
                                                  int t, const float4 *v, int lane)
{
    const float *k = s.k + t * ROW_LANES * R + lane / 2, *q = s.q + t * ROW_LANES * R + lane / 2;
    const float decay = s.decay[t], u = s.u[t], agree = s.agree[t];
    const float values[4] = {v->x, v->y, v->z, v->w};
    float keys[R], held[4] = {0.0f, 0.0f, 0.0f, 0.0f}, read[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int r = 0; r < R; r++) {
        const float query = q[r * ROW_LANES];
        keys[r] = k[r * ROW_LANES];
#pragma unroll
        for (int e = 0; e < 4; e++) {
            held[e] = fmaf(state[r][e], keys[r], held[e]);
            read[e] = fmaf(state[r][e], query, read[e]);
        }
    }
    const float sum = delta_sums(held, read, lane);
    float mine = 0.0f;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        const float all = __shfl_sync(0xffffffffu, sum, e << 2 | (lane & 1));
        const float change = u * (values[e] - decay * all);
        mine = (lane >> 2 & 3) == e ? change : mine;
#pragma unroll
        for (int r = 0; r < R; r++)
            state[r][e] = fmaf(keys[r], change, decay * state[r][e]);
    }
    return fmaf(agree, mine, decay * sum);
}

/* Rows first .. first + n - 1 of a sequence, convolved and made ready in shared memory. */
template <int R, int WIDTH>
static __device__ __forceinline__ void
delta_prepare(const struct delta_shared &s, const struct recur_job &job,
              const struct recur_seq &seq, int head, int column, int columns, int first, int n)
{
    const struct kern_cuda_recur_args &a = job.a;
    const int ratio = a.n_head / a.n_group, row = seq.rows.row;
    const int group = a.tiled ? head % a.n_group : head / ratio, ld = ROW_LANES * R;
    const struct recur_rows rows = {s.k, s.q, s.v, ld, columns, column, head, group};
    recur_convolve<WIDTH>(job, seq, rows, first, n);
    for (int i = threadIdx.x; i < n * (ld - a.depth); i += blockDim.x) {
        const int at = i / (ld - a.depth) * ld + a.depth + i % (ld - a.depth);
        s.k[at] = s.q[at] = 0.0f;
    }
    if ((int)threadIdx.x < n) {
        const int t = threadIdx.x;
        const float alpha = recur_of_head(a.step, row + first + t, head, ratio)[0];
        const float beta = recur_of_head(a.strength, row + first + t, head, ratio)[0];
        s.decay[t] = expf(a.a[head] * recur_softplus(alpha + (a.dt_bias ? a.dt_bias[head] : 0.0f)));
        s.u[t] = 1.0f / (1.0f + expf(-beta));
    }
    __syncthreads();
    delta_normalise(s, job, n, ld);
    __syncthreads();
}

/* Warps of a block: deep states leave registers to half of them. */
static __host__ __device__ constexpr int warps_of(int depth)
{
    return depth > 128 ? RECUR_WARPS / 2 : RECUR_WARPS;
}

/* Blocks are (head and part of its columns, sequence). */
template <int R, int WIDTH>
static __global__ void __launch_bounds__(KERN_WARP *warps_of(ROW_LANES *R),
                                         R > 8 ? 3 : recur_blocks(WIDTH))
    delta(const struct recur_job job)
{
    KERN_SHARED_BYTES(shared);
    const int lane = threadIdx.x % KERN_WARP, columns = (int)blockDim.x / KERN_WARP * COLUMNS;
    const int head = blockIdx.x / job.parts, column = (int)blockIdx.x % job.parts * columns;
    const int mine = (int)threadIdx.x / KERN_WARP * COLUMNS + lane % 2 * 4, row_lane = lane / 2;
    kern_release();
    const struct recur_seq seq = recur_seq_of(job, blockIdx.y);
    const bool begins = seq.fresh || seq.rows.n_rows <= 0;
    const struct delta_shared s = delta_place(shared, job.rows, ROW_LANES * R, columns);
    const int dim = job.a.dim, depth = job.a.depth, there = dim - column - mine;
    const size_t at = (size_t)head * depth * dim + column + mine;
    float state[R][4];
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = r * ROW_LANES + row_lane;
        recur_load(state[r], seq.state + at + (size_t)i * dim, i < depth && !begins ? there : 0,
                   job.wide != 0);
    }
    kern_wait();
    if (seq.rows.n_rows <= 0)
        return;
    const int at_column = lane >> 2 & 3;
    float *out =
        job.a.y + ((size_t)seq.rows.row * job.a.n_head + head) * dim + column + mine + at_column;
    for (int first = 0; first < seq.rows.n_rows; first += job.rows) {
        const int n = min(job.rows, seq.rows.n_rows - first);
        delta_prepare<R, WIDTH>(s, job, seq, head, column, columns, first, n);
        for (int t = 0; t < n; t++) {
            const float y =
                delta_row<R>(state, s, t, (const float4 *)(s.v + t * columns + mine), lane);
            if ((lane & 18) == 16 && at_column < there)
                out[(size_t)(first + t) * job.a.n_head * dim] = y;
        }
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = r * ROW_LANES + row_lane;
        if (i < depth)
            recur_store(seq.state + at + (size_t)i * dim, state[r], there, job.wide != 0);
    }
}

typedef void delta_kernel(const struct recur_job job);

template <int WIDTH> static delta_kernel *kernel_of(int depth)
{
    return depth <= 64 ? delta<4, WIDTH> : depth <= 128 ? delta<8, WIDTH> : delta<16, WIDTH>;
}

extern "C" int32_t kern_cuda_recur_delta(const struct kern_cuda_recur_args *args, void *stream)
{
    if (args->batch->n_seqs <= 0 || args->batch->n_rows <= 0)
        return 0;
    struct recur_grid g = recur_grid_of(args, COLUMNS, warps_of(args->depth));
    const int columns = (int)g.block.x / KERN_WARP * COLUMNS;
    const int depth = args->depth <= 64 ? 64 : args->depth <= 128 ? 128 : 256;
    g.job.wide = g.job.wide && args->dim % 4 == 0;
    const size_t floats = (size_t)g.job.rows * (size_t)(2 * depth + columns + 3);
    return kern_launch(args->width <= 4 ? kernel_of<4>(depth) : kernel_of<8>(depth), g.grid,
                       g.block, floats * sizeof(float), stream, g.job);
}
