/* The product of few rows for one type of weights (kern_cuda_few_fn).
 *
 * Each warp takes rows of weights in turn, a row of the gate and the one of up that belongs to it
 * together, and copies them into shared memory in chunks, some of which are on their way while
 * others are multiplied, from row to row without a pause. The first ones are asked for before x is
 * there; then the block puts x, normed and for quantised weights quantised, into shared memory.
 * Copies instead of loads into registers: of a warp's loads only six groups can be told apart, and
 * a wait for one load of a group is a wait for the youngest of it.
 *
 * A block leaves half of the multiprocessor to the kernel behind it, whose first chunks are then on
 * their way before this one ends. Sums over a lane's units and over lanes have an order that the
 * shape of the matrix alone decides. */
#ifndef KERNELS_CUDA_FEW_CUH
#define KERNELS_CUDA_FEW_CUH

#include "kernels/cuda/few_unit.cuh"

/* Blocks in all, and bytes that a warp has on their way at most. */
#ifndef FEW_BLOCKS /* fewer where blocks are emulated, each of which prepares x anew */
#define FEW_BLOCKS 132
#endif
#define FEW_RING 5120

/* The least chunks that a warp has on their way. Shared memory of a block at most, where that takes
 * no more than leaving some of them out: beside it there is room for the block of another kernel
 * (rows of a usual width, or attention), else the kernel behind a wide one could not begin before
 * it ends, and asks for nothing meanwhile. */
#define FEW_STAGES_MIN 3
#define FEW_TOGETHER   (124 * 1024)

/* Bytes that are asked for ahead, by a warp. */
#define FEW_AHEAD 8192

/* Parts of one type, of args.n_parts. */
struct kern_few_job {
    struct kern_cuda_few_args args;
    int32_t k, n_units;             /* of a row */
    int32_t body_bytes, side_bytes; /* of a row */
    int32_t gated;                  /* parts 0 and 1 are walked together */
    int32_t late_up;                /* part 0 is up alone, and its y holds the gate */
    int32_t plain;  /* results are the sums, with accumulate what was there in addition */
    int32_t stages; /* chunks that a warp has on their way, with the one that it multiplies */
    int32_t ahead;  /* bytes behind them that a warp asks the chip's cache for meanwhile */
    int32_t once;   /* weights are the first to leave that cache */
};

/* Chunks of rows whose blocks lie as a layout has them; sides are whole 16 bytes too. Of the
 * rarer types of blocks of 256, and of Q6_K, a lane multiplies one unit at a time: two at once
 * would need too many registers. Q3_K needs more than half of them even so. */
template <typename Reader, int elements, int body_bytes, int side_bytes, bool rare>
struct few_type : Reader {
    static constexpr bool together = !rare && body_bytes < 200;
    static constexpr bool large = sizeof(typename Reader::raw) > 64;
    static constexpr int units = 64;
    static constexpr int blocks = units * few_unit_elements<Reader>() / elements;
    static constexpr int body = blocks * body_bytes, side = blocks * side_bytes;
    static constexpr int bytes = body + side;
    static constexpr int stages = FEW_RING / bytes < 8 ? FEW_RING / bytes : 8;
    static_assert(body % 16 == 0 && side % 16 == 0 && stages >= FEW_STAGES_MIN);
};

/* ------------------------------------------------------------------ results */

/* As kernels/ref/unary.c defines them. */
static __device__ float few_gate(int act, float g, float up)
{
    switch (act) {
    case KERN_CUDA_ACT_SILU:
        return g / (1.0f + expf(-g)) * up;
    case KERN_CUDA_ACT_GELU:
        return 0.5f * g * erfcf(-0.70710678f * g) * up;
    case KERN_CUDA_ACT_GELU_TANH:
        return g / (1.0f + expf(-1.59576912f * (g + 0.044715f * g * g * g))) * up;
    case KERN_CUDA_ACT_RELU:
        return (g <= 0.0f ? 0.0f : g) * up;
    case KERN_CUDA_ACT_RELU2:
        return (g <= 0.0f ? 0.0f : g * g) * up;
    case KERN_CUDA_ACT_SWIGLU_OAI:
        g = g > 7.0f ? 7.0f : g;
        up = up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up;
        return g / (1.0f + expf(-1.702f * g)) * (up + 1.0f);
    default:
        return g * up;
    }
}

/* A row of a part. */
struct few_at {
    int part, row;
};

/* A product before activation: scaled, with its bias. */
static __device__ __forceinline__ float few_product(const struct kern_few_job &job, float sum,
                                                    int part, int row, int expert)
{
    const struct kern_cuda_part &p = job.args.parts[part];
    if (job.args.part_scale[part])
        sum *= job.args.part_scale[part][expert];
    if (p.bias)
        sum += p.bias[(size_t)expert * p.w.n + row];
    return sum;
}

/* Where its result for x row i of the launch belongs. */
static __device__ __forceinline__ float *few_y(const struct kern_few_job &job, struct few_at at,
                                               int i)
{
    const struct kern_cuda_part &p = job.args.parts[at.part];
    return p.y + i * p.y_stride + at.row;
}

/* The result: of `sum`, where rows are gated of the gate's `sum` and of `up`; `before` is in y, or
 * the up that was given. */
static __device__ float few_result(const struct kern_few_job &job, float sum, float up,
                                   float before, struct few_at at, int expert, int i)
{
    const struct kern_cuda_few_args &a = job.args;
    if (job.plain)
        return sum + before;
    float value = few_product(job, sum, at.part, at.row, expert);
    if (job.gated)
        value = few_gate(a.act, value, few_product(job, up, 1, at.row, expert));
    else if (job.late_up)
        value = few_gate(a.act, before, value);
    else if (a.act != KERN_CUDA_ACT_NONE)
        value = few_gate(a.act, value, a.up ? before : 1.0f);
    if (a.out_scale)
        value *= a.out_scale[i];
    return a.accumulate ? value + before : value;
}

/* ------------------------------------------------------------------ chunks */

static __device__ __forceinline__ bool few_is_end(const struct kern_few_job &job, struct few_at at)
{
    return at.part == (job.gated ? 1 : job.args.n_parts);
}

/* `rows` further, through the parts. */
static __device__ __forceinline__ void few_go(struct few_at &at, const struct kern_few_job &job,
                                              int rows)
{
    at.row += rows;
    while (!few_is_end(job, at) && at.row >= job.args.parts[at.part].w.n) {
        at.row -= job.args.parts[at.part].w.n;
        at.part++;
    }
}

/* The chunk that is copied next, and what is left of its row; all as this lane's 16 bytes see it.
 * Nothing is left behind the last row. */
struct few_source {
    const uint8_t *body, *side;
    int body_left, side_left;
    struct few_at at;
    int up; /* it is in the row of up */
};

static __device__ __forceinline__ void few_source_row(struct few_source &s,
                                                      const struct kern_few_job &job, int expert)
{
    if (few_is_end(job, s.at))
        return;
    const int lane16 = threadIdx.x % KERN_WARP * 16;
    const struct kern_cuda_matrix &w = job.args.parts[s.up ? 1 : s.at.part].w;
    const uint32_t row = (uint32_t)expert * (uint32_t)w.n + (uint32_t)s.at.row;
    s.body = w.body + ((uint64_t)row * (uint32_t)w.body_stride + (uint32_t)lane16);
    if (w.side)
        s.side = w.side + ((uint64_t)row * (uint32_t)w.side_stride + (uint32_t)lane16);
    s.body_left = job.body_bytes - lane16;
    s.side_left = job.side_bytes - lane16;
}

/* `bytes` of `left`, those of this lane; `to` and `from` are on its first. */
template <int bytes>
static __device__ __forceinline__ void few_copy_bytes(unsigned char *to, const uint8_t *from,
                                                      int left, uint64_t policy)
{
    const int lane16 = threadIdx.x % KERN_WARP * 16;
#pragma unroll
    for (int i = 0; i < bytes; i += KERN_WARP * 16)
        if (i < left && (i + KERN_WARP * 16 <= bytes || i + lane16 < bytes))
            kern_copy_weights(to + i, from + i, policy);
}

/* Starts the copy of a chunk. */
template <typename Type>
static __device__ __forceinline__ void few_copy(unsigned char *chunk, struct few_source &s,
                                                const struct kern_few_job &job, int stride,
                                                int expert, uint64_t policy)
{
    const int lane16 = threadIdx.x % KERN_WARP * 16;
    few_copy_bytes<Type::body>(chunk + lane16, s.body, s.body_left, policy);
    s.body += Type::body;
    s.body_left -= Type::body;
    if constexpr (Type::side > 0) {
        few_copy_bytes<Type::side>(chunk + Type::body + lane16, s.side, s.side_left, policy);
        s.side += Type::side;
        s.side_left -= Type::side;
    }
    kern_copy_commit();
    if (s.body_left + lane16 <= 0 && !few_is_end(job, s.at)) {
        if (!job.gated || s.up)
            few_go(s.at, job, stride);
        s.up = job.gated && !s.up;
        few_source_row(s, job, expert);
    }
}

/* Asks the chip's cache for what the warp copies next, `bytes` of bodies and the sides beside
 * them: while a kernel before this one goes through a chain of small steps, the memory has time. */
template <typename Type>
static __device__ __forceinline__ void few_ask(struct few_source s, const struct kern_few_job &job,
                                               int stride, int expert, int bytes)
{
    const int lane = threadIdx.x % KERN_WARP;
    while (bytes > 0 && !few_is_end(job, s.at)) {
        const int body_left = s.body_left + lane * 16, side_left = s.side_left + lane * 16;
        for (int i = lane * 128; i < min(body_left, bytes); i += KERN_WARP * 128)
            kern_ask(s.body - lane * 16 + i);
        if constexpr (Type::side > 0)
            for (int i = lane * 128; i < side_left; i += KERN_WARP * 128)
                kern_ask(s.side - lane * 16 + i);
        bytes -= body_left;
        if (!job.gated || s.up)
            few_go(s.at, job, stride);
        s.up = job.gated && !s.up;
        few_source_row(s, job, expert);
    }
}

/* ------------------------------------------------------------------ the kernel */

/* All chunks but the last `stages` - 1 have arrived; there are `least` to `most`. */
template <int least, int most> static __device__ __forceinline__ void few_copy_wait(int stages)
{
    if constexpr (most > least) {
        if (stages < most) {
            few_copy_wait<least, most - 1>(stages);
            return;
        }
    }
    kern_copy_wait<most - 1>();
}

template <typename Type, int M>
static __device__ __forceinline__ void few_add_chunk(float sums[M], const unsigned char *chunk,
                                                     const unsigned char *x, int n_units, int first,
                                                     int m)
{
    const int lane = threadIdx.x % KERN_WARP;
    if (first + Type::units <= n_units) {
#pragma unroll(M == 1 && Type::together ? 2 : 1)
        for (int u = lane; u < lane + Type::units; u += KERN_WARP)
            few_add<Type, M>(sums, chunk, u, x, n_units, first + u, m);
    } else {
#pragma unroll 1
        for (int u = lane; first + u < n_units; u += KERN_WARP)
            few_add<Type, M>(sums, chunk, u, x, n_units, first + u, m);
    }
}

/* Where a warp is: the row that it multiplies next, and the chunk that it copies next. */
struct few_walk {
    struct few_at at;
    struct few_source source;
    uint64_t policy;
};

/* Asks for the first chunks of the warp. */
template <typename Type>
static __device__ __forceinline__ void
few_begin(struct few_walk &walk, const struct kern_few_job &job, unsigned char *ring, int expert)
{
    const int warp = threadIdx.x / KERN_WARP, stride = gridDim.x * (blockDim.x / KERN_WARP);
    walk.at = {0, 0};
    walk.policy = kern_weights_policy(job.once);
    few_go(walk.at, job, blockIdx.x + gridDim.x * warp);
    walk.source = {nullptr, nullptr, 0, 0, walk.at, 0};
    few_source_row(walk.source, job, expert);
#pragma unroll 1
    for (int s = 0; s < job.stages; s++)
        few_copy<Type>(ring + s * Type::bytes, walk.source, job, stride, expert, walk.policy);
    if (job.ahead > 0)
        few_ask<Type>(walk.source, job, stride, expert, job.ahead);
}

/* Multiplies x, which lies in shared memory, with what few_begin() began; job.stages is from
 * `least` to `most`. */
template <typename Type, int M, int least, int most>
static __device__ __forceinline__ void
few_finish(struct few_walk &walk, const struct kern_few_job &job, const unsigned char *x,
           unsigned char *ring, int expert, int y_row, int m)
{
    const int lane = threadIdx.x % KERN_WARP;
    const int n_units = job.n_units, stride = gridDim.x * (blockDim.x / KERN_WARP);
    unsigned char *chunk = ring, *ring_end = ring + job.stages * Type::bytes;
    struct few_at at = walk.at;
    for (; !few_is_end(job, at); few_go(at, job, stride)) {
        float *y = few_y(job, at, y_row + lane);
        float before = 0.0f, mine = 0.0f, gate = 0.0f;
        if (lane < m && (job.args.accumulate || job.late_up))
            before = *y;
        if (lane < m && job.args.up)
            before = job.args.up[(y_row + lane) * job.args.up_stride + at.row];
        for (int row = 0; row <= job.gated; row++) {
            float sums[M] = {};
            for (int first = 0; first < n_units; first += Type::units) {
                few_copy_wait<least, most>(job.stages);
                __syncwarp();
                few_add_chunk<Type, M>(sums, chunk, x, n_units, first, m);
                __syncwarp();
                few_copy<Type>(chunk, walk.source, job, stride, expert, walk.policy);
                chunk += Type::bytes;
                if (chunk == ring_end)
                    chunk = ring;
            }
            gate = mine;
#pragma unroll
            for (int i = 0; i < M; i++) {
                const float sum = kern_warp_sum(sums[i]);
                mine = lane == i ? sum : mine;
            }
        }
        if (lane < m)
            *y = few_result(job, job.gated ? gate : mine, mine, before, at, expert, y_row + lane);
    }
}

template <typename Type, int M>
static __device__ __forceinline__ void few_run(const struct kern_few_job &job,
                                               unsigned char *shared, int expert, int y_row, int m)
{
    const int warp = threadIdx.x / KERN_WARP;
    unsigned char *ring =
        shared + m * few_x_bytes<Type>(job.n_units) + warp * (job.stages * Type::bytes);
    struct few_walk walk;
    few_begin<Type>(walk, job, ring, expert);
    few_fetch_norm(job.args.norm, job.k);
    kern_release();
    if (!job.args.expert)
        kern_wait();
    const float *x = job.args.x;
    if (job.args.expert)
        x += (size_t)(y_row / job.args.x_div) * job.args.x_stride;
    few_prepare<Type, M>(shared, job.args, x, job.k, job.n_units, m);
    few_finish<Type, M, FEW_STAGES_MIN, Type::stages>(walk, job, shared, ring, expert, y_row, m);
}

/* Blocks along y: rows of y that each have an expert of their own. */
template <typename Type, int M>
static __global__ void __launch_bounds__(FEW_THREADS, M <= 2 && !Type::large ? 2 : 1)
    few_kernel(const __grid_constant__ struct kern_few_job job)
{
    KERN_SHARED_BYTES(shared);
    int expert = 0;
    if (job.args.expert) {
        kern_wait();
        expert = job.args.expert[blockIdx.y];
        if (expert < 0)
            return;
    }
    few_run<Type, M>(job, shared, expert, blockIdx.y, job.args.m);
}

/* ------------------------------------------------------------------ launches */

#define FEW_SHARED (224 * 1024)

template <typename Type, int M>
static int32_t few_start(struct kern_few_job &job, int32_t rows, int32_t n_warps, void *stream)
{
    int32_t n = 0;
    for (int32_t p = 0; p < (job.gated ? 1 : job.args.n_parts); p++)
        n += job.args.parts[p].w.n;
    if (n == 0)
        return 0;
    const int32_t each = (FEW_BLOCKS + rows - 1) / rows;
    const dim3 grid(n < each ? n : each, rows);
    const size_t ring = (size_t)n_warps * job.stages * Type::bytes;
    return kern_launch(few_kernel<Type, M>, grid, (unsigned)n_warps * KERN_WARP,
                       (size_t)job.args.m * few_x_bytes<Type>(job.n_units) + ring, stream, job);
}

/* job.args.m rows together. Where `most` is false, kernels for 2 and 4 rows are left out as not
 * worth their code. */
template <typename Type, bool most>
static int32_t few_start_rows(struct kern_few_job &job, int32_t rows, int32_t n_warps, void *stream)
{
    const int32_t m = job.args.m;
    if (m == 1)
        return few_start<Type, 1>(job, rows, n_warps, stream);
    if constexpr (most) {
        if (m == 2)
            return few_start<Type, 2>(job, rows, n_warps, stream);
        if (m <= 4)
            return few_start<Type, 4>(job, rows, n_warps, stream);
    }
    return few_start<Type, 8>(job, rows, n_warps, stream);
}

/* Where a card has too little shared memory for `group` rows together, fewer rows; for one, fewer
 * warps. Warps do not depend on the number of rows, nor does a row's norm. */
static inline bool few_shrink(int32_t *group, int32_t *n_warps)
{
    (void)cudaGetLastError();
    if (*group > 1)
        *group /= 2;
    else
        *n_warps /= 2;
    return *n_warps > 0;
}

static inline bool few_is_plain(const struct kern_few_job &job)
{
    bool plain = !job.late_up && job.args.act == KERN_CUDA_ACT_NONE && !job.args.out_scale;
    for (int32_t p = 0; p < job.args.n_parts; p++)
        plain = plain && !job.args.parts[p].bias && !job.args.part_scale[p];
    return plain;
}

/* Chunks that each of n_warps has on its way, beside x of so many bytes. */
template <typename Type> static int32_t few_stages(size_t x_bytes, int32_t n_warps)
{
    for (int32_t stages = Type::stages; stages >= FEW_STAGES_MIN; stages--)
        if (x_bytes + (size_t)n_warps * stages * Type::bytes <= FEW_TOGETHER)
            return stages;
    return Type::stages;
}

/* What follows from the arguments but for the number of rows. */
template <typename Type> static void few_fill(struct kern_few_job &job, bool gated)
{
    const struct kern_cuda_layout *layout = kern_cuda_layout_of(job.args.parts[0].w.type);
    job.gated = gated;
    job.plain = few_is_plain(job);
    job.n_units = (job.k + few_unit_elements<Type>() - 1) / few_unit_elements<Type>();
    job.body_bytes = (int32_t)kern_cuda_body_stride(layout, job.k);
    job.side_bytes = (int32_t)kern_cuda_side_stride(layout, job.k);
    job.stages = Type::stages;
    job.ahead = job.args.ways & KERN_CUDA_FEW_AHEAD ? FEW_AHEAD : 0;
    job.once = (job.args.ways & KERN_CUDA_FEW_ONCE) != 0;
}

/* Rows in groups that fit into shared memory; each row alone where it has an expert. */
template <typename Type, bool most>
static int32_t few_launch(struct kern_few_job job, bool gated, void *stream)
{
    const int32_t m = job.args.m;
    few_fill<Type>(job, gated);
    int32_t n_warps = FEW_WARPS, group = KERN_CUDA_FEW_ROWS, first = 0;
    const size_t ring = (size_t)FEW_WARPS * Type::stages * Type::bytes;
    while (group > 1 && (size_t)group * few_x_bytes<Type>(job.n_units) + ring > FEW_SHARED)
        group--;
    while (job.args.expert ? first == 0 : first < m) {
        job.args.m = job.args.expert ? 1 : m - first < group ? m - first : group;
        const int32_t rows = job.args.expert ? m : 1;
        if (job.args.ways & KERN_CUDA_FEW_BESIDE)
            job.stages =
                few_stages<Type>((size_t)job.args.m * few_x_bytes<Type>(job.n_units), n_warps);
        const int32_t error = few_start_rows<Type, most>(job, rows, n_warps, stream);
        if (error && first == 0) {
            group = job.args.m;
            if (few_shrink(&group, &n_warps))
                continue;
        }
        if (error)
            return error;
        first += group;
        job.args.x += group * job.args.x_stride;
        for (int32_t p = 0; p < job.args.n_parts; p++)
            job.args.parts[p].y += group * job.args.parts[p].y_stride;
        if (job.args.out_scale)
            job.args.out_scale += group;
        if (job.args.up)
            job.args.up += group * job.args.up_stride;
    }
    return 0;
}

typedef int32_t kern_few_launch_fn(const struct kern_few_job *job, bool gated, void *stream);
typedef kern_few_launch_fn *kern_few_find_fn(infer_dtype type); /* NULL: there is none */

/* Parts in turn, those of a type together, by what `find` gives for it (few.cu). */
int32_t kern_few_by_type(const struct kern_cuda_few_args *args, kern_few_find_fn *find,
                         void *stream);

/* Elements and bytes of a block as layout.c has them. */
#define FEW_LAUNCH(dtype, elements, body, side, most)                                              \
    int32_t kern_few_##dtype(const struct kern_few_job *job, bool gated, void *stream)             \
    {                                                                                              \
        return few_launch<                                                                         \
            few_type<kern_read_##dtype, elements, body, side, elements == 256 && !most>, most>(    \
            *job, gated, stream);                                                                  \
    }

#endif
