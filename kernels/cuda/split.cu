/* Matrices on the card: rows of the file cut into bodies and sides, and rows read back. */
#include "kernels/cuda/block.cuh"
#include "kernels/cuda/block_float.cuh"
#include "kernels/cuda/block_iq.cuh"
#include "kernels/cuda/block_k.cuh"
#include "kernels/cuda/block_plain.cuh"

#define THREADS 256

/* ------------------------------------------------------------------ the cut */

/* What both kinds of rows are made of. */
struct split_job {
    uint8_t *body, *side;
    size_t body_stride, side_stride;
    const uint8_t *src;
    size_t src_stride;
    int32_t n_rows, n_blocks;
    struct kern_cuda_layout layout;
};

/* The byte of the file's row that byte `at` of the row of bodies is, or of sides. */
static __device__ __forceinline__ size_t body_source(const struct kern_cuda_layout &l, uint32_t at)
{
    const uint32_t block = at / l.body_bytes;
    return (size_t)block * l.block_bytes + l.body_at + at % l.body_bytes;
}

static __device__ __forceinline__ size_t side_source(const struct kern_cuda_layout &l, uint32_t at)
{
    const uint32_t block = at / l.side_bytes, in = at % l.side_bytes;
    return (size_t)block * l.block_bytes + (in < l.body_at ? in : in + l.body_bytes);
}

/* A thread writes 16 bytes; those behind the row's last block are zeros. */
static __global__ void split_kernel(const __grid_constant__ struct split_job job)
{
    kern_wait();
    const uint32_t bodies = (uint32_t)(job.body_stride / 16);
    const uint32_t pieces = bodies + (uint32_t)(job.side_stride / 16);
    const size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    const size_t row = at / pieces;
    const uint32_t piece = (uint32_t)(at % pieces);
    kern_release();
    if (row >= (size_t)job.n_rows)
        return;
    const uint8_t *src = job.src + row * job.src_stride;
    const bool is_body = piece < bodies;
    const uint32_t first = 16 * (is_body ? piece : piece - bodies);
    const uint32_t end =
        (uint32_t)job.n_blocks * (is_body ? job.layout.body_bytes : job.layout.side_bytes);
    uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
    for (uint32_t i = 0; i < 16; i++) {
        if (first + i >= end)
            continue;
        const size_t from =
            is_body ? body_source(job.layout, first + i) : side_source(job.layout, first + i);
        words[i / 4] |= (uint32_t)src[from] << 8 * (i % 4);
    }
    uint8_t *to = is_body ? job.body + row * job.body_stride : job.side + row * job.side_stride;
    *(uint4 *)(void *)(to + first) = make_uint4(words[0], words[1], words[2], words[3]);
}

extern "C" int32_t kern_cuda_product_split(const struct kern_cuda_matrix *m, const void *src,
                                           size_t src_stride, int32_t first, int32_t n,
                                           void *stream)
{
    const struct kern_cuda_layout *layout = kern_cuda_layout_of(m->type);
    if (!layout)
        return (int32_t)cudaErrorInvalidValue;
    if (n <= 0 || m->k <= 0)
        return 0;
    struct split_job job = {};
    job.body = (uint8_t *)m->body + (size_t)first * m->body_stride;
    job.side = (uint8_t *)m->side + (size_t)first * m->side_stride;
    job.body_stride = m->body_stride;
    job.side_stride = layout->side_bytes ? m->side_stride : 0;
    job.src = (const uint8_t *)src;
    job.src_stride = src_stride;
    job.n_rows = n;
    job.n_blocks = m->k / layout->block_elements;
    job.layout = *layout;
    const size_t pieces = (job.body_stride + job.side_stride) / 16 * (size_t)n;
    return kern_launch(split_kernel, dim3((unsigned)((pieces + THREADS - 1) / THREADS)), THREADS, 0,
                       stream, job);
}

/* ------------------------------------------------------------------ rows read back */

struct rows_job {
    void *y;
    struct kern_cuda_matrix m;
    const int32_t *ids;
    int32_t first, n_ids, n_units;
    float scale;
    int32_t add; /* y = (y + ...) * factor */
    float factor;
};

/* Round to nearest even; a NaN stays one, with its sign. */
static __device__ __forceinline__ uint32_t bf16_of(float f)
{
    const uint32_t bits = __float_as_uint(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

/* Elements `at` .. at + 3 of y, of which `left` are there. */
static __device__ __forceinline__ void store_4(float *y, size_t at, const float v[4], int left)
{
    if (left >= 4 && at % 4 == 0)
        *(float4 *)(y + at) = make_float4(v[0], v[1], v[2], v[3]);
    else
        for (int i = 0; i < 4; i++)
            if (i < left)
                y[at + i] = v[i];
}

static __device__ __forceinline__ void store_4(uint16_t *y, size_t at, const float v[4], int left)
{
    if (left >= 4 && at % 4 == 0)
        *(uint2 *)(void *)(y + at) =
            make_uint2(bf16_of(v[0]) | bf16_of(v[1]) << 16, bf16_of(v[2]) | bf16_of(v[3]) << 16);
    else
        for (int i = 0; i < 4; i++)
            if (i < left)
                y[at + i] = (uint16_t)bf16_of(v[i]);
}

/* The same, as the job wants it. */
template <typename Out>
static __device__ __forceinline__ void put_4(const struct rows_job &job, size_t at, float v[4],
                                             int left)
{
    if (job.add) {
        const float *y = (const float *)job.y + at;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < left)
                v[i] = (y[i] + v[i]) * job.factor;
    }
    store_4((Out *)job.y, at, v, left);
}

/* Elements 4j .. 4j + 3 of group g of a unit. */
template <typename Read>
static __device__ __forceinline__ float4 numbers_of(const kern_unit &u, int g, int j, float scale)
{
    const int s = Read::one_scale ? 0 : g;
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int q = (int)(int8_t)(u.q[4 * g + j] >> 8 * i) - Read::bias;
        v[i] = u.scale[s] * (float)q;
        if (Read::mins)
            v[i] += u.min[s];
        v[i] *= scale;
    }
    return make_float4(v[0], v[1], v[2], v[3]);
}

template <typename Read>
static __device__ __forceinline__ typename Read::raw load_unit(const struct rows_job &job, size_t i,
                                                               int unit)
{
    const size_t row = job.ids ? (size_t)job.ids[i] : (size_t)job.first + i;
    return Read::load(job.m.body + row * job.m.body_stride, job.m.side + row * job.m.side_stride,
                      unit);
}

/* Where four floats lie among those of a warp: eight lanes meet in no bank, whether they write
 * units or read what is together. */
static __device__ __forceinline__ int staged_at(int cell)
{
    return cell ^ (cell >> 3 & 7);
}

/* A lane has a unit. The units of a warp are one piece of y, which it writes from shared memory. */
template <typename Read, typename Out>
static __device__ __forceinline__ void rows_quant(const struct rows_job &job)
{
    constexpr int cells = Read::groups * 4; /* of a unit, of four elements each */
    __shared__ float4 staged[THREADS * cells];
    const int lane = threadIdx.x % KERN_WARP;
    float4 *own = staged + (threadIdx.x - lane) * cells;
    const size_t all = (size_t)job.n_ids * (uint32_t)job.n_units;
    const size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x, first = at - lane;
    if (at < all) {
        const int unit = (int)(at % (uint32_t)job.n_units);
        kern_unit u;
        Read::decode(u, load_unit<Read>(job, at / (uint32_t)job.n_units, unit), unit);
        const int row_start = lane - unit; /* the lane that would have the row's first unit */
#pragma unroll
        for (int g = 0; g < Read::groups; g++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                own[staged_at(row_start * cells + Read::group(unit, g) * 4 + j)] =
                    numbers_of<Read>(u, g, j, job.scale);
    }
    __syncwarp();
    const int left = first < all ? (int)min((size_t)KERN_WARP, all - first) * cells : 0;
#pragma unroll
    for (int c = 0; c < cells; c++) {
        const int cell = c * KERN_WARP + lane;
        if (cell < left) {
            const float4 v = own[staged_at(cell)];
            float four[4] = {v.x, v.y, v.z, v.w};
            put_4<Out>(job, (first * cells + cell) * 4, four, 4);
        }
    }
}

template <typename Read, typename Out>
static __device__ __forceinline__ void rows_float(const struct rows_job &job)
{
    const size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    const size_t i = at / (uint32_t)job.n_units;
    const int unit = (int)(at % (uint32_t)job.n_units);
    if (i >= (size_t)job.n_ids)
        return;
    float w[Read::elements], v[4];
    const typename Read::raw raw = load_unit<Read>(job, i, unit);
    Read::decode(w, raw);
    if constexpr (Read::scaled)
        for (int j = 0; j < Read::elements; j++)
            w[j] = Read::scale(w[j], raw);
#pragma unroll
    for (int j = 0; j < Read::elements; j += 4) {
        const int e = unit * Read::elements + j;
        for (int n = 0; n < 4; n++)
            v[n] = w[j + n] * job.scale;
        put_4<Out>(job, i * (size_t)job.m.k + e, v, job.m.k - e);
    }
}

template <typename Read, typename Out>
static __global__ void __launch_bounds__(THREADS)
    rows_kernel(const __grid_constant__ struct rows_job job)
{
    kern_wait();
    kern_release();
    if constexpr (Read::quant)
        rows_quant<Read, Out>(job);
    else
        rows_float<Read, Out>(job);
}

template <typename Read> static int32_t rows_start(rows_job &job, int32_t rows_type, void *stream)
{
    if constexpr (Read::quant)
        job.n_units = job.m.k / (16 * Read::groups);
    else
        job.n_units = (job.m.k + Read::elements - 1) / Read::elements;
    const size_t all = (size_t)job.n_units * (size_t)job.n_ids;
    const dim3 grid((unsigned)((all + THREADS - 1) / THREADS));
    if (rows_type == KERN_CUDA_ROWS_F32)
        return kern_launch(rows_kernel<Read, float>, grid, THREADS, 0, stream, job);
    if (rows_type == KERN_CUDA_ROWS_BF16)
        return kern_launch(rows_kernel<Read, uint16_t>, grid, THREADS, 0, stream, job);
    return (int32_t)cudaErrorInvalidValue;
}

static int32_t rows_of(struct rows_job &job, int32_t rows_type, void *stream)
{
    if (job.n_ids <= 0 || job.m.k <= 0)
        return 0;
    switch (job.m.type) {
#define CASE(dtype)                                                                                \
    case INFER_DTYPE_##dtype:                                                                      \
        return rows_start<kern_read_##dtype>(job, rows_type, stream);
#define QUANT_CASE(dtype, type, n) CASE(dtype)
        CASE(F32)
        CASE(F16)
        CASE(BF16)
        CASE(F8_E4M3)
        CASE(F8_E5M2)
        CASE(F8_128)
        KERN_QUANT_LIST(QUANT_CASE)
    default:
        return (int32_t)cudaErrorInvalidValue;
    }
}

extern "C" int32_t kern_cuda_product_rows(void *y, int32_t rows_type,
                                          const struct kern_cuda_matrix *m, const int32_t *ids,
                                          int32_t first, int32_t n_ids, float scale, void *stream)
{
    struct rows_job job = {y, *m, ids, first, n_ids, 0, scale, 0, 1.0f};
    return rows_of(job, rows_type, stream);
}

extern "C" int32_t kern_cuda_product_add_rows(float *y, const struct kern_cuda_matrix *m,
                                              const int32_t *ids, int32_t n_ids, float scale,
                                              float factor, void *stream)
{
    struct rows_job job = {y, *m, ids, 0, n_ids, 0, scale, 1, factor};
    return rows_of(job, KERN_CUDA_ROWS_F32, stream);
}
