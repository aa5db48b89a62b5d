/* Between the products and attention, vector by vector: norms, rotations, and keys and values
 * narrowed into the cache. For the kernel that does it for many rows (store.cu) and for attention
 * of one row a sequence, which does it for itself (attn_front.cuh). */
#ifndef KERNELS_CUDA_STORE_CUH
#define KERNELS_CUDA_STORE_CUH

#include "kernels/cuda/rows.cuh"

/* ------------------------------------------------------------------- narrowing */

#define STORE_BLOCK 32
#define STORE_NAN   0x7e00u

/* As kernels/ref/half.h has it, NaN included. */
static __device__ __forceinline__ uint32_t store_half_bits(float x)
{
    const uint32_t bits = __float_as_uint(x), size = bits & 0x7fffffffu;
    if (size > 0x7f800000u)
        return (bits >> 16 & 0x8000u) | 0x7e00u | (size >> 13 & 0x3ffu);
    return __half_as_ushort(__float2half_rn(x));
}

static __device__ __forceinline__ float store_of_half(uint32_t bits)
{
    return __half2float(__ushort_as_half((unsigned short)bits));
}

static __device__ __forceinline__ uint32_t store_bf16_bits(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

static __device__ __forceinline__ bool store_half_is_finite(uint32_t bits)
{
    return (bits & 0x7c00u) != 0x7c00u;
}

/* Integers in the order of the floats, NaN outermost; its own inverse. */
static __device__ __forceinline__ int store_in_order(int bits)
{
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

static __device__ __forceinline__ int store_code(float v, int low, int high)
{
    const float c = rintf(v);
    return c <= (float)low ? low : c >= (float)high ? high : (int)c;
}

static __device__ __forceinline__ int store_warp_max(int value)
{
    for (int step = KERN_WARP / 2; step > 0; step /= 2)
        value = max(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}

/* Slots lie anywhere, so that halves are stored by bytes. */
static __device__ __forceinline__ void store_bytes(uint8_t *dst, uint32_t bits)
{
    dst[0] = (uint8_t)(bits & 0xff);
    dst[1] = (uint8_t)(bits >> 8);
}

/* One block: lane i has element i, of which there are n. */
static __device__ __forceinline__ void store_narrow_q8(uint8_t *dst, float x, int n)
{
    const int lane = threadIdx.x % KERN_WARP;
    const int amax = store_warp_max(lane < n ? __float_as_int(x) & 0x7fffffff : 0);
    uint32_t bits = store_half_bits(__int_as_float(amax) / 127.0f);
    bits = store_half_is_finite(bits) ? bits : STORE_NAN;
    const float d = store_of_half(bits);
    if (lane == 0)
        store_bytes(dst, bits);
    if (lane < n)
        dst[2 + lane] = (uint8_t)(d > 0.0f ? store_code(x / d, -127, 127) : 0);
}

static __device__ __forceinline__ void store_narrow_q4(uint8_t *dst, float x, int n)
{
    const int lane = threadIdx.x % KERN_WARP, order = store_in_order(__float_as_int(x));
    const float high = __int_as_float(store_in_order(store_warp_max(lane < n ? order : INT32_MIN)));
    const float low =
        __int_as_float(store_in_order(~store_warp_max(lane < n ? ~order : INT32_MIN)));
    uint32_t m_bits = store_half_bits(low);
    const float range = high - store_of_half(m_bits);
    uint32_t d_bits = store_half_bits(range > 0.0f ? range / 15.0f : range * 0.0f);
    if (!store_half_is_finite(m_bits) || !store_half_is_finite(d_bits))
        m_bits = d_bits = STORE_NAN;
    d_bits &= 0x7fffu;
    const float d = store_of_half(d_bits), m = store_of_half(m_bits);
    const int q = d > 0.0f && lane < n ? store_code((x - m) / d, 0, 15) : 0;
    const int next = __shfl_down_sync(0xffffffffu, q, 1);
    if (lane == 0) {
        store_bytes(dst, d_bits);
        store_bytes(dst + 2, m_bits);
    }
    if (lane % 2 == 0 && lane < n)
        dst[4 + lane / 2] = (uint8_t)(q | next << 4);
}

/* One vector of n from shared memory, by a warp (kern_narrow_fn). */
static __device__ void store_narrow(uint8_t *dst, const float *x, int n, int type)
{
    const int lane = threadIdx.x % KERN_WARP;
#pragma unroll 1
    for (int at = 0; at < n; at += STORE_BLOCK) {
        const int i = at + lane, left = n - at < STORE_BLOCK ? n - at : STORE_BLOCK;
        const float value = i < n ? x[i] : 0.0f;
        if (type == INFER_DTYPE_Q8_0)
            store_narrow_q8(dst + at / STORE_BLOCK * (STORE_BLOCK + 2), value, left);
        else if (type == INFER_DTYPE_Q4_1)
            store_narrow_q4(dst + at / STORE_BLOCK * (STORE_BLOCK / 2 + 4), value, left);
        else if (i < n && type == INFER_DTYPE_F8_E4M3)
            dst[i] = (uint8_t)kern_e4m3_bits(value);
        else if (i < n && type == INFER_DTYPE_F32)
            ((float *)dst)[i] = value;
        else if (i < n)
            ((uint16_t *)dst)[i] = (uint16_t)(type == INFER_DTYPE_F16 ? store_half_bits(value)
                                                                      : store_bf16_bits(value));
    }
}

/* n elements by `step` threads, of which this is number `first`. */
static __device__ __forceinline__ void store_copy(float *to, const float *from, int n, int first,
                                                  int step)
{
    const int wide = (((uintptr_t)to | (uintptr_t)from) & 15) == 0 ? n / 4 : 0;
#pragma unroll 2
    for (int i = first; i < wide; i += step)
        ((float4 *)to)[i] = ((const float4 *)from)[i];
#pragma unroll 1
    for (int i = 4 * wide + first; i < n; i += step)
        to[i] = from[i];
}

/* ------------------------------------------------------------------------ norms */

/* What of x, `step` threads of which each begins at `first`, goes into a sum. */
static __device__ __forceinline__ double store_sum_of(const float *x, int n, int first, int step,
                                                      double mean, bool square)
{
    double sum = 0.0;
#pragma unroll 2
    for (int i = first; i < n; i += step) {
        const double d = (double)x[i] - mean;
        sum += square ? d * d : d;
    }
    return sum;
}

static __device__ __forceinline__ void store_scale_of(float *x, const float *w, int n, int first,
                                                      int step, double mean, double factor)
{
#pragma unroll 2
    for (int i = first; i < n; i += step)
        x[i] = (float)(((double)x[i] - mean) * factor * (w ? (double)w[i] : 1.0));
}

static __device__ __forceinline__ double store_factor_of(double squares, int n, float eps)
{
    return 1.0 / sqrt(squares / (double)n + (double)eps);
}

/* Of one vector, by a warp; w NULL: no weights. */
static __device__ __forceinline__ void store_norm_one(float *x, const float *w, int n, int layer,
                                                      float eps)
{
    const int lane = threadIdx.x % KERN_WARP;
    double mean = 0.0;
    if (layer)
        mean = kern_warp_sum_double(store_sum_of(x, n, lane, KERN_WARP, 0.0, false)) / (double)n;
    const double squares = kern_warp_sum_double(store_sum_of(x, n, lane, KERN_WARP, mean, true));
    store_scale_of(x, w, n, lane, KERN_WARP, mean, store_factor_of(squares, n, eps));
    __syncwarp();
}

/* --------------------------------------------------------- a warp and one vector */

/* In double as the reference: products of floats are exact there. */
static __device__ __forceinline__ void store_rope(float *x, const float *cs, int n_rot, int pairs)
{
    const int n_pairs = n_rot / 2;
#pragma unroll 2
    for (int i = threadIdx.x % KERN_WARP; i < n_pairs; i += KERN_WARP) {
        float *a = x + (pairs ? 2 * i : i), *b = a + (pairs ? 1 : n_pairs);
        const double va = (double)*a, vb = (double)*b;
        const double c = (double)cs[i], s = (double)cs[n_pairs + i];
        *a = (float)(va * c - vb * s);
        *b = (float)(va * s + vb * c);
    }
    __syncwarp();
}

static __device__ __forceinline__ void store_grow(const struct kern_cuda_store_args *a, float *x,
                                                  int n, int position)
{
    const double turns = floor((double)(position + a->grow_offset) / max(a->grow_length, 1));
    const float factor = (float)(1.0 + (double)a->grow_scale * log1p(turns));
#pragma unroll 2
    for (int i = threadIdx.x % KERN_WARP; i < n; i += KERN_WARP)
        x[i] *= factor;
    __syncwarp();
}

/* kern_rotate_fn: transforms of the largest power of two that divides n, side by side. */
static __device__ __forceinline__ void store_hadamard(float *x, int n)
{
    const int power = n & -n, lane = threadIdx.x % KERN_WARP;
    if (power == 1)
        return;
    for (int step = 1; step < power; step *= 2) {
#pragma unroll 2
        for (int i = lane; i < n / 2; i += KERN_WARP) {
            const int at = i / step * 2 * step + i % step;
            const float a = x[at], b = x[at + step];
            x[at] = a + b;
            x[at + step] = a - b;
        }
        __syncwarp();
    }
    const float scale = 1.0f / sqrtf((float)power);
#pragma unroll 2
    for (int i = lane; i < n; i += KERN_WARP)
        x[i] *= scale;
    __syncwarp();
}

static __device__ __forceinline__ uint8_t *store_page_of(const struct kern_cuda_kv *kv,
                                                         int sequence, int position, bool value)
{
    const int32_t *table = kv->tables + (size_t)sequence * kv->table_stride;
    return (value ? kv->v : kv->k) + (size_t)table[position / kv->block_tokens] * kv->block_stride;
}

#endif
