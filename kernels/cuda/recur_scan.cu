/* The scan of Mamba 2 (Dao and Gu, arXiv:2405.21060) over states that stay in registers while the
 * rows of a sequence pass. */
#include "kernels/cuda/recur.cuh"

/* Eight lanes share a row of a state, four neighbours each at a time: a line of memory. A warp has
 * 4 * P rows of Q such lines. */
#define LANES  8
#define STAGES 2

static __host__ __device__ constexpr int rows_of(int q)
{
    return q >= 4 ? 8 / q : 4 / q;
}

struct scan_shared {
    float *b, *c; /* rows of LANES * 4 * Q */
    float *x;     /* rows of the block's columns */
    float *decay, *step;
};

/* Of `rows` rows; whole float4. */
static __host__ __device__ __forceinline__ size_t scan_floats(int rows, int depth, int columns)
{
    return (size_t)(rows * (2 * depth + columns + 2) + 3) / 4 * 4;
}

static __device__ __forceinline__ struct scan_shared scan_place(float *at, int rows, int depth,
                                                                int columns)
{
    struct scan_shared s;
    s.b = at;
    s.c = s.b + rows * depth;
    s.x = s.c + rows * depth;
    s.decay = s.x + rows * columns;
    s.step = s.decay + rows;
    return s;
}

/* A block's part of a sequence. */
struct scan_work {
    struct recur_seq seq;
    struct recur_team team;
    int head, column, columns;
};

/* Rows first .. first + n - 1 of a sequence, convolved, in shared memory. */
template <int WIDTH>
static __device__ __forceinline__ void
scan_prepare(const struct scan_shared &s, const struct recur_job &job, const struct scan_work &w,
             int ld, int first, int n)
{
    const struct kern_cuda_recur_args &a = job.a;
    const int ratio = a.n_head / a.n_group, row = w.seq.rows.row + first;
    const struct recur_rows rows = {s.b, s.c, s.x, ld, w.columns, w.column, w.head, w.head / ratio};
    recur_convolve<WIDTH, (WIDTH > 4 ? 4 : 8)>(job, w.seq, rows, w.team, first, n);
    for (int i = w.team.me; i < n * (ld - a.depth); i += w.team.n) {
        const int at = i / (ld - a.depth) * ld + a.depth + i % (ld - a.depth);
        s.b[at] = s.c[at] = 0.0f;
    }
    if (w.team.me < n) {
        const int t = w.team.me;
        const float raw = recur_of_head(a.step, row + t, w.head, ratio)[0];
        const float step = recur_softplus(raw + (a.dt_bias ? a.dt_bias[w.head] : 0.0f));
        s.step[t] = step;
        s.decay[t] = expf(step * a.a[w.head]);
    }
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

/* A lane's part of a state, of which `there` rows are left from its first on. */
template <int Q>
static __device__ __forceinline__ void scan_load(float state[rows_of(Q)][Q][4], const float *own,
                                                 int there, int lane, bool begins,
                                                 const struct recur_job &job)
{
#pragma unroll
    for (int p = 0; p < rows_of(Q); p++)
#pragma unroll
        for (int q = 0; q < Q; q++) {
            const int i = (q * LANES + lane) * 4;
            recur_load(state[p][q], own + (size_t)(4 * p) * job.a.depth + i,
                       4 * p < there && !begins ? job.a.depth - i : 0, job.wide != 0);
        }
}

template <int Q>
static __device__ __forceinline__ void scan_save(float state[rows_of(Q)][Q][4], float *own,
                                                 int there, int lane, const struct recur_job &job)
{
#pragma unroll
    for (int p = 0; p < rows_of(Q); p++)
#pragma unroll
        for (int q = 0; q < Q; q++) {
            const int i = (q * LANES + lane) * 4;
            if (4 * p < there)
                recur_store(own + (size_t)(4 * p) * job.a.depth + i, state[p][q], job.a.depth - i,
                            job.wide != 0);
        }
}

/* Blocks are (head and part of its rows, sequence). */
template <int Q, int WIDTH, bool ahead>
static __global__ void __launch_bounds__(RECUR_THREADS, recur_blocks(WIDTH, ahead))
    scan(const struct recur_job job)
{
    constexpr int P = rows_of(Q), ROWS = 4 * P, DEPTH = LANES * 4 * Q;
    KERN_SHARED_BYTES(shared);
    const struct recur_role role = recur_role_of<ahead>();
    struct scan_work w;
    kern_release();
    w.seq = recur_seq_of(job, blockIdx.y);
    w.team = role.team;
    w.columns = role.team.n / KERN_WARP * ROWS;
    w.head = blockIdx.x / job.parts;
    w.column = (int)blockIdx.x % job.parts * w.columns;
    const int lane = threadIdx.x % LANES, dim = job.a.dim;
    const int mine = role.team.me / KERN_WARP * ROWS + (int)threadIdx.x % KERN_WARP / LANES;
    const int n_rows = w.seq.rows.n_rows, there = dim - w.column - mine;
    const bool begins = w.seq.fresh || n_rows <= 0 || !role.moves;
    float *const own = w.seq.state + ((size_t)w.head * dim + w.column + mine) * job.a.depth;
    float state[P][Q][4];
    scan_load<Q>(state, own, there, lane, begins, job);
    kern_wait();
    if (n_rows <= 0)
        return;
    const float d = job.a.d ? job.a.d[w.head] : 0.0f;
    float *out = job.a.y + ((size_t)w.seq.rows.row * job.a.n_head + w.head) * dim + w.column + mine;
    /* Rows are convolved, and move the state: stages with a barrier between, of two runs of rows at
     * a time where there is somebody for each. */
    const int n_runs = (n_rows + job.rows - 1) / job.rows;
    const int n_turns = ahead ? n_runs + STAGES - 1 : n_runs * STAGES;
    const size_t step = ahead ? scan_floats(job.rows, DEPTH, w.columns) : 0;
    for (int turn = 0; turn < n_turns; turn++) {
        for (int stage = 0; stage < STAGES; stage++) {
            const int run = ahead ? turn - stage : turn / STAGES, first = run * job.rows;
            if (run < 0 || run >= n_runs || (!ahead && stage != turn % STAGES) ||
                !(stage < STAGES - 1 ? role.prepares : role.moves))
                continue;
            const int n = min(job.rows, n_rows - first);
            const struct scan_shared s =
                scan_place((float *)shared + run % STAGES * step, job.rows, DEPTH, w.columns);
            if (stage == 0)
                scan_prepare<WIDTH>(s, job, w, DEPTH, first, n);
            for (int t = 0; stage == 1 && t < n; t++) {
                float y[P];
                const float *x = s.x + t * w.columns + mine;
                scan_row<Q>(state, y, s, t, x, lane);
#pragma unroll
                for (int p = 0; p < P; p++)
                    if (lane == 0 && 4 * p < there)
                        out[(size_t)(first + t) * job.a.n_head * dim + 4 * p] =
                            fmaf(d, x[4 * p], y[p]);
            }
        }
        __syncthreads();
    }
    if (role.moves)
        scan_save<Q>(state, own, there, lane, job);
}

typedef void scan_kernel(const struct recur_job job);

template <int WIDTH, bool ahead> static scan_kernel *kernel_of(int depth)
{
    return depth <= 32    ? scan<1, WIDTH, ahead>
           : depth <= 64  ? scan<2, WIDTH, ahead>
           : depth <= 128 ? scan<4, WIDTH, ahead>
                          : scan<8, WIDTH, ahead>;
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
    g.job.wide = g.job.wide && args->depth % 4 == 0;
    const size_t runs = g.ahead ? STAGES : 1;
    const size_t floats = runs * scan_floats(g.job.rows, depth, g.warps * of_warp);
    scan_kernel *kernel = g.ahead            ? kernel_of<4, true>(depth)
                          : args->width <= 4 ? kernel_of<4, false>(depth)
                                             : kernel_of<8, false>(depth);
    return kern_launch(kernel, g.grid, g.block, floats * sizeof(float), stream, g.job);
}
