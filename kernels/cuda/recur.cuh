/* What the kernels of recurrent layers share: where the state of a sequence lies, and the causal
 * convolution of a few rows into shared memory. */
#ifndef KERNELS_CUDA_RECUR_CUH
#define KERNELS_CUDA_RECUR_CUH

#include "kernels/cuda/device.cuh"

/* Threads of a block at most. */
#define RECUR_THREADS 256
#define RECUR_WARPS   (RECUR_THREADS / KERN_WARP)

/* Rows of a sequence between two barriers, and blocks that give each multiprocessor one or two. */
#ifdef KERN_CUDA_EMULATED
#define RECUR_ROWS   4
#define RECUR_BLOCKS 8
#else
#define RECUR_ROWS   16
#define RECUR_BLOCKS 256
#endif

struct recur_job {
    struct kern_cuda_recur_args a;
    struct kern_cuda_batch batch;
    int32_t parts; /* blocks of a head */
    int32_t rows;  /* between two barriers */
    int32_t wide;  /* states are read 16 bytes at a time */
};

/* Those threads of a block that do something together. */
struct recur_team {
    int me, n;
};

/* What threads of a block do: move states, prepare rows, or both. */
struct recur_role {
    struct recur_team team;
    bool moves, prepares;
};

template <bool ahead> static __device__ __forceinline__ struct recur_role recur_role_of(void)
{
    struct recur_role role;
    role.team.n = (int)blockDim.x / (ahead ? 2 : 1);
    role.team.me = (int)threadIdx.x % role.team.n;
    role.moves = (int)threadIdx.x < role.team.n;
    role.prepares = !ahead || !role.moves;
    return role;
}

/* A sequence of the step. */
struct recur_seq {
    struct kern_cuda_seq rows;
    float *carried; /* [width - 1][n_channels] */
    float *state;   /* of all heads */
    bool fresh;     /* begins with nothing */
};

/* Both are described by what begins a step, which may be read ahead of the wait (attn_decode.cu).
 */
static __device__ __forceinline__ struct recur_seq recur_seq_of(const struct recur_job &job, int s)
{
    struct recur_seq seq;
    int block = job.a.tables[(size_t)s * job.a.table_stride];
    seq.rows = job.batch.seqs[s];
    seq.fresh = seq.rows.first_pos == 0;
    if (seq.rows.n_rows <= 0) /* fills up the shape of a graph: nothing is read or written */
        block = 0;
    seq.carried = (float *)(job.a.states + (size_t)block * job.a.block_stride);
    seq.state = seq.carried + (size_t)(job.a.width - 1) * job.a.n_channels;
    return seq;
}

static __device__ __forceinline__ float recur_silu(float x)
{
    return x / (1.0f + expf(-x));
}

static __device__ __forceinline__ float recur_softplus(float x)
{
    return x > 0.0f ? x + log1pf(expf(-x)) : log1pf(expf(x));
}

/* The vector of a head in row 0 of a sequence. */
static __device__ __forceinline__ const float *recur_of_head(const struct kern_cuda_recur_part &p,
                                                             int row, int head, int ratio)
{
    return p.x + (size_t)row * p.stride + (size_t)(head / ratio) * p.outer +
           (size_t)(head % ratio) * p.inner;
}

static __device__ __forceinline__ const float *recur_of_group(const struct kern_cuda_recur_part &p,
                                                              int row, int group)
{
    return p.x + (size_t)row * p.stride + (size_t)group * p.outer;
}

/* Input `at` of a channel, where those before the first row are carried. */
static __device__ __forceinline__ float recur_input(const struct recur_job &job,
                                                    const struct recur_seq &seq, const float *x,
                                                    size_t stride, int channel, int at)
{
    const int carried = job.a.width - 1;
    if (at >= 0)
        return x[(size_t)at * stride];
    return seq.fresh ? 0.0f : seq.carried[(size_t)(at + carried) * job.a.n_channels + channel];
}

/* Blocks that share a multiprocessor: one of prompts, and where a convolution is wide, which is
 * rare.
 */
static __host__ __device__ constexpr int recur_blocks(int width, bool ahead)
{
    return width > 4 || ahead ? 1 : 2;
}

/* Where a block wants the rows of its head and group in shared memory. */
struct recur_rows {
    float *write, *read; /* `deep` floats a row */
    float *value;        /* `columns` floats a row, from `column` of the head on */
    int deep, columns, column, head, group;
};

/* A channel of a sequence: its inputs, and where they go. */
struct recur_channel {
    const float *x;
    size_t stride;
    int number, out_stride;
    float *out;
};

/* Channel c of those that a block wants: what is written by, read by, and the values. */
static __device__ __forceinline__ struct recur_channel
recur_channel_of(const struct recur_job &job, const struct recur_rows &r, int row, int c)
{
    const struct kern_cuda_recur_args &a = job.a;
    struct recur_channel channel;
    const bool reads = c >= a.depth, is_value = c >= 2 * a.depth;
    const struct kern_cuda_recur_part &part = is_value ? a.value : reads ? a.read : a.write;
    channel.stride = part.stride;
    channel.out_stride = is_value ? r.columns : r.deep;
    if (is_value) {
        const int at = r.column + c - 2 * a.depth;
        channel.x = recur_of_head(part, row, r.head, a.n_head / a.n_group) + at;
        channel.number = a.value_at + r.head * a.dim + at;
        channel.out = r.value + c - 2 * a.depth;
    } else {
        const int at = reads ? c - a.depth : c;
        channel.x = recur_of_group(part, row, r.group) + at;
        channel.number = (reads ? a.read_at : a.write_at) + r.group * a.depth + at;
        channel.out = (reads ? r.read : r.write) + at;
    }
    return channel;
}

/* Rows first .. first + n - 1 of a sequence, convolved, with SiLU. Each thread takes channels by
 * itself. WIDTH: at least the width; weights in front of the first are
 * zeros. LOADS inputs of a channel are on their way together. */
template <int WIDTH, int LOADS>
static __device__ __forceinline__ void
recur_convolve(const struct recur_job &job, const struct recur_seq &seq, const struct recur_rows &r,
               const struct recur_team &team, int first, int n)
{
    const int padding = WIDTH - job.a.width;
    const int n_channels = 2 * job.a.depth + min(r.columns, job.a.dim - r.column);
    for (int c = team.me; c < n_channels; c += team.n) {
        const struct recur_channel channel = recur_channel_of(job, r, seq.rows.row, c);
        const float *x = channel.x, *w = job.a.conv + (size_t)channel.number * job.a.width;
        const float bias = job.a.bias ? job.a.bias[channel.number] : 0.0f;
        float weights[WIDTH], in[WIDTH];
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            weights[j] = j < padding ? 0.0f : w[j - padding];
            in[j] = 0.0f;
            if (j >= padding && j < WIDTH - 1)
                in[j] =
                    recur_input(job, seq, x, channel.stride, channel.number, first + j - WIDTH + 1);
        }
        for (int t = 0; t < n; t += LOADS) {
            float rows[LOADS];
#pragma unroll
            for (int i = 0; i < LOADS; i++)
                rows[i] = t + i < n ? x[(size_t)(first + t + i) * channel.stride] : 0.0f;
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                float sum = bias;
                in[WIDTH - 1] = rows[i];
#pragma unroll
                for (int j = 0; j < WIDTH; j++)
                    sum = fmaf(weights[j], in[j], sum);
                if (t + i < n)
                    channel.out[(t + i) * channel.out_stride] = recur_silu(sum);
#pragma unroll
                for (int j = 0; j + 1 < WIDTH; j++)
                    in[j] = j >= padding ? in[j + 1] : 0.0f;
            }
        }
    }
}

/* Four neighbours of a state, n of them there. That of earlier steps may be read ahead of the wait
 * as keys and values are (attn_decode.cu): no other kernel of a step writes a layer's. */
static __device__ __forceinline__ void recur_load(float v[4], const float *p, int n, bool wide)
{
    if (wide && n >= 4) {
        const float4 all = __ldcs((const float4 *)p);
        v[0] = all.x;
        v[1] = all.y;
        v[2] = all.z;
        v[3] = all.w;
        return;
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
        v[e] = e < n ? __ldcs(p + e) : 0.0f;
}

static __device__ __forceinline__ void recur_store(float *p, const float v[4], int n, bool wide)
{
    if (wide && n >= 4) {
        *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
#pragma unroll
    for (int e = 0; e < 4; e++)
        if (e < n)
            p[e] = v[e];
}

/* A job, and a launch of `columns` elements of a head's value a warp, in blocks of `warps`; of half
 * of them where whole ones would leave multiprocessors without any. A warp's sums are its own, so
 * that changes no bit. */
struct recur_grid {
    struct recur_job job;
    dim3 grid, block;
    int32_t warps; /* that have states */
    bool ahead;    /* and as many more, which prepare the next rows meanwhile: of prompts */
};

static inline struct recur_grid recur_grid_of(const struct kern_cuda_recur_args *a, int columns,
                                              int warps)
{
    struct recur_grid g = {};
    int needed = (a->dim + columns - 1) / columns;
    const int64_t heads = (int64_t)a->n_head * a->batch->n_seqs;
    g.ahead = a->batch->seq_rows > RECUR_ROWS && a->width <= 4;
    if (g.ahead || heads * ((needed + warps - 1) / warps) < RECUR_BLOCKS)
        warps /= 2;
    if (needed < warps)
        warps = needed;
    g.job.a = *a;
    g.job.batch = *a->batch;
    g.job.a.batch = NULL;
    g.job.parts = (needed + warps - 1) / warps;
    g.job.rows = a->batch->seq_rows < RECUR_ROWS ? a->batch->seq_rows : RECUR_ROWS;
    const size_t carried = (size_t)(a->width - 1) * a->n_channels;
    g.job.wide =
        (((uintptr_t)a->states | (uintptr_t)a->y | a->block_stride | carried * sizeof(float)) &
         15) == 0;
    g.grid = dim3((unsigned)(a->n_head * g.job.parts), (unsigned)a->batch->n_seqs);
    g.block = dim3((unsigned)(warps * KERN_WARP * (g.ahead ? 2 : 1)));
    g.warps = warps;
    return g;
}

#endif
