/* Rows and queries of a vector index in the forms that the card compares (cuda_vector.h). A warp
 * makes one. */
#include "kernels/cuda/cuda_vector.h"
#include "kernels/cuda/device.cuh"

#define WARPS 8
/* Lengths that are summed in floats are off by less (8192 squares). */
#define ABOVE 1.001f
/* The half of a square that L2 takes away, less what rounding may add to it. */
#define HALF_SQUARE (-0.5f * (1.0f - 0x1p-19f))

template <infer_dtype type>
static __device__ __forceinline__ float pack_element(const uint8_t *row, int i)
{
    switch (type) {
    case INFER_DTYPE_F32:
        return ((const float *)row)[i];
    case INFER_DTYPE_F16:
        return __half2float(__ushort_as_half(((const unsigned short *)row)[i]));
    case INFER_DTYPE_BF16:
        return __uint_as_float((uint32_t)((const unsigned short *)row)[i] << 16);
    default:
        return (float)((const int8_t *)row)[i];
    }
}

template <infer_dtype type> static __device__ float pack_largest(const uint8_t *row, int dims)
{
    float largest = 0.0f;
    for (int i = (int)threadIdx.x % KERN_WARP; i < dims; i += KERN_WARP)
        largest = fmaxf(largest, fabsf(pack_element<type>(row, i)));
    return kern_warp_max(largest);
}

static __device__ __forceinline__ float pack_power(int e)
{
    return __uint_as_float((uint32_t)(e + 127) << 23);
}

/* The power of two that brings the largest to 2^14 .. 2^15, where halves have all their bits and
 * those of the smallest that matter. */
static __device__ __forceinline__ int pack_exponent(float largest)
{
    const int e = 14 + 127 - (int)(__float_as_uint(largest) >> 23 & 255);
    return largest > 0.0f ? min(e, 120) : 0;
}

/* Where word `w` of a row at this place lies: lane 4 g + t of the tensor core's warp has, of each
 * 32 bytes, bytes 8 t .. 8 t + 7 of rows g and g + 8, four by four. */
static __device__ __forceinline__ size_t pack_at(int place_in_tile, int w)
{
    const int step = w / 8, t = w % 8 / 2, part = w % 2;
    const int g = place_in_tile % 8, upper = place_in_tile / 8;
    return (size_t)step * 512 + (size_t)((4 * g + t) * 16 + part * 8 + upper * 4);
}

/* Two elements as halves. *lost: sum of squares of what that loses; *kept: of what it keeps. */
template <infer_dtype type>
static __device__ __forceinline__ uint32_t pack_two(const uint8_t *row, int i, int dims,
                                                    float scale, float *lost, float *kept)
{
    uint32_t word = 0;
    for (int j = 0; j < 2 && i + j < dims; j++) {
        const float x = pack_element<type>(row, i + j) * scale;
        const __half h = __float2half_rn(x);
        const float back = __half2float(h);
        *lost += (x - back) * (x - back);
        *kept += back * back;
        word |= (uint32_t)__half_as_ushort(h) << 16 * j;
    }
    return word;
}

struct pack_job {
    struct kern_cuda_vector_pack_args args;
    int32_t words; /* of a row */
    size_t tile_bytes;
};

template <infer_dtype type, int form>
static __global__ void __launch_bounds__(WARPS *KERN_WARP)
    pack_rows(const __grid_constant__ struct pack_job job)
{
    const struct kern_cuda_vector_pack_args *a = &job.args;
    const int lane = (int)threadIdx.x % KERN_WARP;
    const int row = (int)(blockIdx.x * WARPS + threadIdx.x / KERN_WARP);
    kern_wait();
    kern_release();
    if (row >= a->n)
        return;
    const int place = a->places ? a->places[row] : a->first_place + row;
    const uint8_t *from = (const uint8_t *)a->from + (size_t)row * a->stride;
    if (form == KERN_CUDA_VECTOR_BITS) {
        uint32_t *tile = (uint32_t *)(a->to.tiles + (size_t)(place / 32) * job.tile_bytes);
        for (int w = lane; w < job.words; w += KERN_WARP)
            tile[w * 32 + place % 32] = ((const uint32_t *)from)[w];
        if (lane == 0)
            a->to.ids[place] = a->first_id + row;
        return;
    }
    uint8_t *tile = a->to.tiles + (size_t)(place / 16) * job.tile_bytes;
    const bool scales = form == KERN_CUDA_VECTOR_HALF && type != INFER_DTYPE_F16;
    const int e = scales ? pack_exponent(pack_largest<type>(from, a->to.dims)) : 0;
    float lost = 0.0f, kept = 0.0f;
    for (int w = lane; w < job.words; w += KERN_WARP) {
        uint32_t word = 0;
        if (form == KERN_CUDA_VECTOR_HALF) {
            word = pack_two<type>(from, 2 * w, a->to.dims, pack_power(e), &lost, &kept);
        } else {
            for (int j = 0; j < 4 && 4 * w + j < a->to.dims; j++)
                word |= (uint32_t)from[4 * w + j] << 8 * j;
        }
        *(uint32_t *)(tile + pack_at(place % 16, w)) = word;
    }
    lost = kern_warp_sum(lost);
    if (lane == 0) {
        const float factor = a->given[2 * row], length = a->given[2 * row + 1];
        struct kern_cuda_vector_note note;
        note.scale = factor * pack_power(-e);
        note.length = length;
        note.error = sqrtf(lost) * ABOVE * fabsf(note.scale);
        note.plus = a->squares ? HALF_SQUARE * length * length : 0.0f;
        a->to.notes[place] = note;
        a->to.ids[place] = a->first_id + row;
    }
}

/* A query in bytes: of each element the nearest of 255 steps, and 256ths of a step behind it. */
static __device__ void query_bytes(uint8_t *to, const float *from, int dims, int words, float step,
                                   float *lost, float *kept)
{
    const float inverse = step > 0.0f ? 1.0f / step : 0.0f;
    for (int w = (int)threadIdx.x % KERN_WARP; w < words; w += KERN_WARP) {
        uint32_t high = 0, low = 0;
        for (int j = 0; j < 4 && 4 * w + j < dims; j++) {
            const float x = from[4 * w + j] * inverse;
            const int a = min(max(__float2int_rn(x), -127), 127);
            const int b = min(max(__float2int_rn((x - (float)a) * 256.0f), -127), 127);
            const float back = (float)a + (float)b * (1.0f / 256.0f);
            /* what the reciprocal rounds is lost, too */
            const float rest = fabsf(x - back) + fabsf(x) * 0x1p-22f;
            *lost += rest * rest;
            *kept += back * back;
            high |= (uint32_t)(a & 255) << 8 * j;
            low |= (uint32_t)(b & 255) << 8 * j;
        }
        ((uint32_t *)to)[w] = high;
        ((uint32_t *)to)[words + w] = low;
    }
}

static __global__ void __launch_bounds__(WARPS *KERN_WARP)
    pack_queries(const __grid_constant__ struct kern_cuda_vector_queries_args a, int words)
{
    const int lane = (int)threadIdx.x % KERN_WARP;
    const int q = (int)(blockIdx.x * WARPS + threadIdx.x / KERN_WARP);
    kern_wait();
    kern_release();
    if (q >= a.n)
        return;
    const float *from = a.from + (size_t)q * (size_t)a.dims;
    const bool halves = a.form == KERN_CUDA_VECTOR_HALF;
    uint8_t *to = a.to + (size_t)q * (size_t)words * (halves ? 4 : 8);
    const float largest = pack_largest<INFER_DTYPE_F32>((const uint8_t *)from, a.dims);
    float lost = 0.0f, kept = 0.0f, scale;
    if (halves) {
        const int e = pack_exponent(largest);
        for (int w = lane; w < words; w += KERN_WARP)
            ((uint32_t *)to)[w] = pack_two<INFER_DTYPE_F32>((const uint8_t *)from, 2 * w, a.dims,
                                                            pack_power(e), &lost, &kept);
        scale = pack_power(-e);
    } else {
        scale = largest > 1e-30f ? largest / 127.0f : 0.0f;
        query_bytes(to, from, a.dims, words, scale, &lost, &kept);
    }
    lost = sqrtf(kern_warp_sum(lost)) * ABOVE * scale;
    kept = sqrtf(kern_warp_sum(kept)) * ABOVE * scale;
    if (lane == 0) {
        struct kern_cuda_vector_note note;
        note.scale = scale;
        note.length = lost + a.rounding * (kept + lost);
        note.error = kept;
        note.plus = 0.0f;
        a.notes[q] = note;
    }
}

/* A thread sums eight bytes of each row: a piece of 16 bytes has them of two rows. */
template <int form>
static __global__ void __launch_bounds__(WARPS *KERN_WARP)
    sum_rows(const __grid_constant__ struct kern_cuda_vector_sums_args a, int steps)
{
    constexpr int elements = form == KERN_CUDA_VECTOR_HALF ? 2 : 4; /* of a word */
    kern_wait();
    kern_release();
    const int begin = a.first[blockIdx.x], end = a.first[blockIdx.x + 1];
    for (int piece = (int)threadIdx.x; piece < steps * 4; piece += WARPS * KERN_WARP) {
        const int step = piece / 4, t = piece % 4;
        float sums[2 * elements] = {};
        for (int i = begin * 8; i < end * 8; i++) {
            const int tile = i / 8, g = i % 8;
            const uint4 both =
                ((const uint4 *)a.rows
                     .tiles)[((size_t)tile * (size_t)steps + step) * 32 + (size_t)(4 * g + t)];
            const uint32_t words[4] = {both.x, both.y, both.z, both.w};
            const struct kern_cuda_vector_note *notes = a.rows.notes + (size_t)tile * 16 + g;
            const float scales[2] = {notes[0].scale, notes[8].scale};
#pragma unroll
            for (int w = 0; w < 4; w++)
#pragma unroll
                for (int e = 0; e < elements; e++) {
                    const uint32_t bits = words[w] >> e * (32 / elements);
                    const float x = form == KERN_CUDA_VECTOR_HALF
                                        ? __half2float(__ushort_as_half((unsigned short)bits))
                                        : (float)(int8_t)(bits & 255);
                    float *sum = &sums[w / 2 * elements + e];
                    *sum = fmaf(x, scales[w % 2], *sum);
                }
        }
        float *to = a.sums + (size_t)blockIdx.x * (size_t)a.rows.dims;
        const int at = (step * 4 + t) * 2 * elements;
#pragma unroll
        for (int e = 0; e < 2 * elements; e++)
            if (at + e < a.rows.dims)
                to[at + e] = sums[e];
    }
}

extern "C" int32_t kern_cuda_vector_sums(const struct kern_cuda_vector_sums_args *args,
                                         void *stream)
{
    const int steps = kern_cuda_vector_steps(args->rows.form, args->rows.dims);
    const dim3 grid((unsigned)args->n), block(WARPS * KERN_WARP);
    if (args->n <= 0)
        return 0;
    switch (args->rows.form) {
    case KERN_CUDA_VECTOR_HALF:
        return kern_launch(sum_rows<KERN_CUDA_VECTOR_HALF>, grid, block, 0, stream, *args, steps);
    case KERN_CUDA_VECTOR_BYTES:
        return kern_launch(sum_rows<KERN_CUDA_VECTOR_BYTES>, grid, block, 0, stream, *args, steps);
    default:
        return (int32_t)cudaErrorInvalidValue;
    }
}

extern "C" int32_t kern_cuda_vector_pack(const struct kern_cuda_vector_pack_args *args,
                                         void *stream)
{
    struct pack_job job = {};
    if (args->n <= 0)
        return 0;
    job.args = *args;
    job.words = args->to.form == KERN_CUDA_VECTOR_BITS
                    ? kern_cuda_vector_words(args->to.dims)
                    : kern_cuda_vector_steps(args->to.form, args->to.dims) * 8;
    job.tile_bytes = kern_cuda_vector_tile_bytes(args->to.form, args->to.dims);
    const dim3 grid((unsigned)BASE_DIV_UP(args->n, WARPS)), block(WARPS * KERN_WARP);
    switch (args->to.form == KERN_CUDA_VECTOR_BITS ? -1 : args->type) {
    case -1:
        return kern_launch(pack_rows<INFER_DTYPE_I8, KERN_CUDA_VECTOR_BITS>, grid, block, 0, stream,
                           job);
    case INFER_DTYPE_F32:
        return kern_launch(pack_rows<INFER_DTYPE_F32, KERN_CUDA_VECTOR_HALF>, grid, block, 0,
                           stream, job);
    case INFER_DTYPE_F16:
        return kern_launch(pack_rows<INFER_DTYPE_F16, KERN_CUDA_VECTOR_HALF>, grid, block, 0,
                           stream, job);
    case INFER_DTYPE_BF16:
        return kern_launch(pack_rows<INFER_DTYPE_BF16, KERN_CUDA_VECTOR_HALF>, grid, block, 0,
                           stream, job);
    case INFER_DTYPE_I8:
        return kern_launch(pack_rows<INFER_DTYPE_I8, KERN_CUDA_VECTOR_BYTES>, grid, block, 0,
                           stream, job);
    default:
        return (int32_t)cudaErrorInvalidValue;
    }
}

extern "C" int32_t kern_cuda_vector_queries(const struct kern_cuda_vector_queries_args *args,
                                            void *stream)
{
    if (args->n <= 0)
        return 0;
    const dim3 grid((unsigned)BASE_DIV_UP(args->n, WARPS)), block(WARPS * KERN_WARP);
    return kern_launch(pack_queries, grid, block, 0, stream, *args,
                       kern_cuda_vector_steps(args->form, args->dims) * 8);
}
