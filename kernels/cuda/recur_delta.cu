/* The gated delta rule (Yang, Kautz and Hatamizadeh, arXiv:2412.06464) over states that stay in
 * registers while the rows of a sequence pass. */
#include "kernels/cuda/recur.cuh"

/* A warp has eight columns of a state: its lanes are pairs of four columns each, and sixteen of
 * these pairs share the rows. What a pair reads of a row is a sector of memory. */
#define COLUMNS   8
#define ROW_LANES 16
#define STAGES    3

struct delta_shared {
    float *k, *q;             /* rows of ROW_LANES * R */
    float *v;                 /* rows of the block's columns */
    float *decay, *u, *agree; /* by row; agree: q . k */
};

/* Of `rows` rows; whole float4. */
static __host__ __device__ __forceinline__ size_t delta_floats(int rows, int depth, int columns)
{
    return (size_t)(rows * (2 * depth + columns + 3) + 3) / 4 * 4;
}

static __device__ __forceinline__ struct delta_shared delta_place(float *at, int rows, int depth,
                                                                  int columns)
{
    struct delta_shared s;
    s.k = at;
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
                                                       const struct recur_job &job,
                                                       const struct recur_team &team, int n, int ld)
{
    const int lane = threadIdx.x % KERN_WARP;
    for (int t = team.me / KERN_WARP; t < n; t += team.n / KERN_WARP) {
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

/* A block's part of a sequence. */
struct delta_work {
    struct recur_seq seq;
    struct recur_team team;
    int head, column, columns;
};

/* Rows first .. first + n - 1 of a sequence, convolved, in shared memory. */
template <int R, int WIDTH>
static __device__ __forceinline__ void delta_prepare(const struct delta_shared &s,
                                                     const struct recur_job &job,
                                                     const struct delta_work &w, int first, int n)
{
    const struct kern_cuda_recur_args &a = job.a;
    const int ratio = a.n_head / a.n_group, row = w.seq.rows.row + first, ld = ROW_LANES * R;
    const int group = a.tiled ? w.head % a.n_group : w.head / ratio;
    const struct recur_rows rows = {s.k, s.q, s.v, ld, w.columns, w.column, w.head, group};
    recur_convolve<WIDTH, 4>(job, w.seq, rows, w.team, first, n);
    for (int i = w.team.me; i < n * (ld - a.depth); i += w.team.n) {
        const int at = i / (ld - a.depth) * ld + a.depth + i % (ld - a.depth);
        s.k[at] = s.q[at] = 0.0f;
    }
    if (w.team.me < n) {
        const int t = w.team.me;
        const float alpha = recur_of_head(a.step, row + t, w.head, ratio)[0];
        const float beta = recur_of_head(a.strength, row + t, w.head, ratio)[0];
        const float bias = a.dt_bias ? a.dt_bias[w.head] : 0.0f;
        s.decay[t] = expf(a.a[w.head] * recur_softplus(alpha + bias));
        s.u[t] = 1.0f / (1.0f + expf(-beta));
    }
}

/* A lane's part of a state, of which `there` columns are left from its first on. */
template <int R>
static __device__ __forceinline__ void delta_load(float state[R][4], const float *own, int there,
                                                  int row_lane, bool held,
                                                  const struct recur_job &job)
{
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = r * ROW_LANES + row_lane;
        recur_load(state[r], own + (size_t)i * job.a.dim, i < job.a.depth && held ? there : 0,
                   job.wide != 0);
    }
}

template <int R>
static __device__ __forceinline__ void delta_save(float state[R][4], float *own, int there,
                                                  int row_lane, const struct recur_job &job)
{
#pragma unroll
    for (int r = 0; r < R; r++) {
        const int i = r * ROW_LANES + row_lane;
        if (i < job.a.depth)
            recur_store(own + (size_t)i * job.a.dim, state[r], there, job.wide != 0);
    }
}

/* Warps of a block: deep states leave registers to half of them. */
static __host__ __device__ constexpr int warps_of(int depth)
{
    return depth > 128 ? RECUR_WARPS / 2 : RECUR_WARPS;
}

/* Blocks are (head and part of its columns, sequence). */
template <int R, int WIDTH, bool ahead>
static __global__ void __launch_bounds__(KERN_WARP *warps_of(ROW_LANES *R),
                                         R > 8 ? 2 : recur_blocks(WIDTH, ahead))
    delta(const struct recur_job job)
{
    KERN_SHARED_BYTES(shared);
    const struct recur_role role = recur_role_of<ahead>();
    struct delta_work w;
    kern_release();
    w.seq = recur_seq_of(job, blockIdx.y);
    w.team = role.team;
    w.columns = role.team.n / KERN_WARP * COLUMNS;
    w.head = blockIdx.x / job.parts;
    w.column = (int)blockIdx.x % job.parts * w.columns;
    const int lane = threadIdx.x % KERN_WARP, row_lane = lane / 2, at_column = lane >> 2 & 3;
    const int mine = role.team.me / KERN_WARP * COLUMNS + lane % 2 * 4;
    const int dim = job.a.dim, there = dim - w.column - mine;
    const int n_rows = w.seq.rows.n_rows;
    const bool held = !w.seq.fresh && n_rows > 0 && role.moves;
    float *const own = w.seq.state + (size_t)w.head * job.a.depth * dim + w.column + mine;
    float state[R][4];
    delta_load<R>(state, own, there, row_lane, held, job);
    kern_wait();
    if (n_rows <= 0)
        return;
    float *out = job.a.y + ((size_t)w.seq.rows.row * job.a.n_head + w.head) * dim + w.column +
                 mine + at_column;
    /* Rows are convolved, get their lengths, and move the state: stages with a barrier between, of
     * three runs of rows at a time where there is somebody for each. */
    const int n_runs = (n_rows + job.rows - 1) / job.rows;
    const int n_turns = ahead ? n_runs + STAGES - 1 : n_runs * STAGES;
    const size_t step = ahead ? delta_floats(job.rows, ROW_LANES * R, w.columns) : 0;
    for (int turn = 0; turn < n_turns; turn++) {
        for (int stage = 0; stage < STAGES; stage++) {
            const int run = ahead ? turn - stage : turn / STAGES, first = run * job.rows;
            if (run < 0 || run >= n_runs || (!ahead && stage != turn % STAGES) ||
                !(stage < STAGES - 1 ? role.prepares : role.moves))
                continue;
            const int n = min(job.rows, n_rows - first);
            const struct delta_shared s = delta_place((float *)shared + run % STAGES * step,
                                                      job.rows, ROW_LANES * R, w.columns);
            if (stage == 0)
                delta_prepare<R, WIDTH>(s, job, w, first, n);
            if (stage == 1)
                delta_normalise(s, job, w.team, n, ROW_LANES * R);
            for (int t = 0; stage == 2 && t < n; t++) {
                const float *v = s.v + t * w.columns + mine;
                const float y = delta_row<R>(state, s, t, (const float4 *)v, lane);
                if ((lane & 18) == 16 && at_column < there)
                    out[(size_t)(first + t) * job.a.n_head * dim] = y;
            }
        }
        __syncthreads();
    }
    if (role.moves)
        delta_save<R>(state, own, there, row_lane, job);
}

typedef void delta_kernel(const struct recur_job job);

template <int WIDTH, bool ahead> static delta_kernel *kernel_of(int depth)
{
    return depth <= 64    ? delta<4, WIDTH, ahead>
           : depth <= 128 ? delta<8, WIDTH, ahead>
                          : delta<16, WIDTH, ahead>;
}

extern "C" int32_t kern_cuda_recur_delta(const struct kern_cuda_recur_args *args, void *stream)
{
    if (args->batch->n_seqs <= 0 || args->batch->n_rows <= 0)
        return 0;
    struct recur_grid g = recur_grid_of(args, COLUMNS, warps_of(args->depth));
    const int depth = args->depth <= 64 ? 64 : args->depth <= 128 ? 128 : 256;
    g.job.wide = g.job.wide && args->dim % 4 == 0;
    if (depth > 128 && g.job.rows > RECUR_ROWS / 2) /* else some cards have too little for them */
        g.job.rows = RECUR_ROWS / 2;
    const size_t runs = g.ahead ? STAGES : 1;
    const size_t floats = runs * delta_floats(g.job.rows, depth, g.warps * COLUMNS);
    delta_kernel *kernel = g.ahead            ? kernel_of<4, true>(depth)
                           : args->width <= 4 ? kernel_of<4, false>(depth)
                                              : kernel_of<8, false>(depth);
    return kern_launch(kernel, g.grid, g.block, floats * sizeof(float), stream, g.job);
}
