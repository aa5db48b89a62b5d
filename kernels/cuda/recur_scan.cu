/* The scan of Mamba 2 (Dao and Gu, arXiv:2405.21060) over states that stay in registers while the
 * rows of a sequence pass. */
#include "kernels/cuda/recur.cuh"

/* Eight lanes share a row of a state, four neighbours each at a time: a line of memory. A warp has
 * 4 * P rows of Q such lines. */
#define LANES 8

static __host__ __device__ constexpr int rows_of(int q)
{
    return q >= 4 ? 8 / q : 4 / q;
}

struct scan_shared {
    float *b, *c; /* rows of LANES * 4 * Q */
    float *x;     /* rows of the block's columns */
    float *decay, *step;
};

static __device__ __forceinline__ struct scan_shared scan_place(unsigned char *shared, int rows,
                                                                int depth, int columns)
{
    struct scan_shared s;
    s.b = (float *)shared;
    s.c = s.b + rows * depth;
    s.x = s.c + rows * depth;
    s.decay = s.x + rows * columns;
    s.step = s.decay + rows;
    return s;
}

/* Rows first .. first + n - 1 of a sequence, convolved, in shared memory. */
template <int WIDTH>
static __device__ __forceinline__ void
scan_prepare(const struct scan_shared &s, const struct recur_job &job, const struct recur_seq &seq,
             int head, int column, int columns, int ld, int first, int n)
{
    const struct kern_cuda_recur_args &a = job.a;
    const int ratio = a.n_head / a.n_group, row = seq.rows.row;
    const struct recur_rows rows = {s.b, s.c, s.x, ld, columns, column, head, head / ratio};
    recur_convolve<WIDTH>(job, seq, rows, first, n);
    for (int i = threadIdx.x; i < n * (ld - a.depth); i += blockDim.x) {
        const int at = i / (ld - a.depth) * ld + a.depth + i % (ld - a.depth);
        s.b[at] = s.c[at] = 0.0f;
    }
    if ((int)threadIdx.x < n) {
        const int t = threadIdx.x;
        const float raw = recur_of_head(a.step, row + first + t, head, ratio)[0];
        const float step = recur_softplus(raw + (a.dt_bias ? a.dt_bias[head] : 0.0f));
        s.step[t] = step;
        s.decay[t] = expf(step * a.a[head]);
    }
    __syncthreads();
}

/* Row t, and its sums over the row of the state, which all of the eight lanes get. */
template <int Q>
static __device__ __forceinline__ void scan_row(float state[rows_of(Q)][Q][4], float y[rows_of(Q)],
                                                const struct scan_shared &s, int t, const float *x,
                                                int lane)
{
    constexpr int P = rows_of(Q);
    const float4 *b = (const float4 *)(s.b + t * LANES * 4 * Q);
    const float4 *c = (const float4 *)(s.c + t * LANES * 4 * Q);
    const float decay = s.decay[t], step = s.step[t];
    float in[P];
#pragma unroll
    for (int p = 0; p < P; p++) {
        in[p] = step * x[4 * p];
        y[p] = 0.0f;
    }
#pragma unroll
    for (int q = 0; q < Q; q++) {
        const float4 bs = b[q * LANES + lane], cs = c[q * LANES + lane];
#pragma unroll
        for (int p = 0; p < P; p++) {
            float *h = state[p][q];
            h[0] = fmaf(decay, h[0], in[p] * bs.x);
            h[1] = fmaf(decay, h[1], in[p] * bs.y);
            h[2] = fmaf(decay, h[2], in[p] * bs.z);
            h[3] = fmaf(decay, h[3], in[p] * bs.w);
            y[p] = fmaf(h[0], cs.x, y[p]);
            y[p] = fmaf(h[1], cs.y, y[p]);
            y[p] = fmaf(h[2], cs.z, y[p]);
            y[p] = fmaf(h[3], cs.w, y[p]);
        }
    }
#pragma unroll
    for (int lanes = 1; lanes < LANES; lanes *= 2)
#pragma unroll
        for (int p = 0; p < P; p++)
            y[p] += __shfl_xor_sync(0xffffffffu, y[p], lanes);
}

/* Blocks are (head and part of its rows, sequence). */
template <int Q, int WIDTH>
static __global__ void __launch_bounds__(RECUR_THREADS, recur_blocks(WIDTH))
    scan(const struct recur_job job)
{
    constexpr int P = rows_of(Q), ROWS = 4 * P;
    KERN_SHARED_BYTES(shared);
    const int lane = threadIdx.x % LANES, columns = (int)blockDim.x / KERN_WARP * ROWS;
    const int head = blockIdx.x / job.parts, column = (int)blockIdx.x % job.parts * columns;
    const int mine = (int)threadIdx.x / KERN_WARP * ROWS + (int)threadIdx.x % KERN_WARP / LANES;
    kern_release();
    const struct recur_seq seq = recur_seq_of(job, blockIdx.y);
    const bool begins = seq.fresh || seq.rows.n_rows <= 0;
    constexpr int DEPTH = LANES * 4 * Q;
    const struct scan_shared s = scan_place(shared, job.rows, DEPTH, columns);
    const int dim = job.a.dim, depth = job.a.depth;
    const size_t at = ((size_t)head * dim + column + mine) * depth;
    float state[P][Q][4];
#pragma unroll
    for (int p = 0; p < P; p++)
#pragma unroll
        for (int q = 0; q < Q; q++) {
            const bool held = column + mine + 4 * p < dim && !begins;
            const int i = (q * LANES + lane) * 4;
            recur_load(state[p][q], seq.state + at + (size_t)(4 * p) * depth + i,
                       held ? depth - i : 0, job.wide != 0);
        }
    kern_wait();
    if (seq.rows.n_rows <= 0)
        return;
    const float d = job.a.d ? job.a.d[head] : 0.0f;
    for (int first = 0; first < seq.rows.n_rows; first += job.rows) {
        const int n = min(job.rows, seq.rows.n_rows - first);
        scan_prepare<WIDTH>(s, job, seq, head, column, columns, DEPTH, first, n);
        for (int t = 0; t < n; t++) {
            float y[P];
            const float *x = s.x + t * columns + mine;
            float *out = job.a.y +
                         ((size_t)(seq.rows.row + first + t) * job.a.n_head + head) * dim + column +
                         mine;
            scan_row<Q>(state, y, s, t, x, lane);
#pragma unroll
            for (int p = 0; p < P; p++)
                if (lane == 0 && column + mine + 4 * p < dim)
                    out[4 * p] = fmaf(d, x[4 * p], y[p]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int p = 0; p < P; p++)
#pragma unroll
        for (int q = 0; q < Q; q++) {
            const int i = (q * LANES + lane) * 4;
            if (column + mine + 4 * p < dim)
                recur_store(seq.state + at + (size_t)(4 * p) * depth + i, state[p][q], depth - i,
                            job.wide != 0);
        }
}

typedef void scan_kernel(const struct recur_job job);

template <int WIDTH> static scan_kernel *kernel_of(int depth)
{
    return depth <= 32    ? scan<1, WIDTH>
           : depth <= 64  ? scan<2, WIDTH>
           : depth <= 128 ? scan<4, WIDTH>
                          : scan<8, WIDTH>;
}

extern "C" int32_t kern_cuda_recur_scan(const struct kern_cuda_recur_args *args, void *stream)
{
    if (args->batch->n_seqs <= 0 || args->batch->n_rows <= 0)
        return 0;
    int depth = 32;
    while (depth < args->depth)
        depth *= 2;
    const int of_warp = 4 * rows_of(depth / 32);
    struct recur_grid g = recur_grid_of(args, of_warp, RECUR_WARPS);
    const int columns = (int)g.block.x / KERN_WARP * of_warp;
    g.job.wide = g.job.wide && args->depth % 4 == 0;
    const size_t floats = (size_t)g.job.rows * (size_t)(2 * depth + columns + 2);
    return kern_launch(args->width <= 4 ? kernel_of<4>(depth) : kernel_of<8>(depth), g.grid,
                       g.block, floats * sizeof(float), stream, g.job);
}
