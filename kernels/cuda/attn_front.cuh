/* What attention of one row a sequence does in front, where nobody has done it for it: the row's
 * queries are normed and rotated in shared memory, and its key and value go into the cache, by the
 * block that reads the last keys. A step has a kernel less for it in each layer. */
#ifndef KERNELS_CUDA_ATTN_FRONT_CUH
#define KERNELS_CUDA_ATTN_FRONT_CUH

#include "kernels/cuda/attn.cuh"
#include "kernels/cuda/store.cuh"

/* Of shared memory: queries, key, value, and cosines and sines. */
#define ATTN_FRONT_FLOATS(d) ((ATTN_QUERIES_FEW + 3) * (d))

/* Where vector v lies: the queries in order, the key, the value, then what rotates them. */
static __device__ __forceinline__ const float *attn_front_source(const struct attn_params &p,
                                                                 const struct attn_work &w, int v,
                                                                 int n_stored, int d)
{
    const struct kern_cuda_store_args &s = p.store;
    const size_t row = (size_t)w.seq.row, head = (size_t)w.head_kv;
    if (v < w.n)
        return s.q + row * s.q_stride + (head * p.group + v) * d;
    if (v >= w.n + n_stored)
        return s.cs + row * s.cs_stride;
    return v > w.n && s.v ? s.v + row * s.v_stride + head * d : s.k + row * s.k_stride + head * d;
}

/* A vector as store.cu shapes it, by a warp. */
static __device__ __forceinline__ void attn_front_vector(const struct attn_params &p,
                                                         const struct attn_work &w, float *x,
                                                         const float *cs, int v, int d)
{
    const struct kern_cuda_store_args &s = p.store;
    const bool query = v<w.n, value = v> w.n;
    const int position = w.seq.first_pos, tokens = p.a.kv.block_tokens;
    const int each = query ? s.q_norm_each : s.k_norm_each;
    const int head = query ? w.head_kv * p.group + v : w.head_kv;
    const float *norm = value ? NULL : query ? s.q_norm : s.k_norm;
    const bool normed = norm != NULL;
    if (norm && each)
        norm += (size_t)head * d;
    if (value ? s.v_norm : normed && !s.norm_late)
        store_norm_one(x, norm, d, s.norm_layer, s.eps);
    if (!value && s.cs)
        store_rope(x, cs, s.n_rot, s.rope_pairs);
    if (!value && ((normed && s.norm_late) || s.unit))
        store_norm_one(x, norm, d, s.norm_layer, s.eps);
    if (query && s.grow_scale > 0.0f)
        store_grow(&s, x, d, position);
    if (!value && s.rotated)
        store_hadamard(x, d);
    if (query)
        return;
    const size_t slot = (size_t)(w.head_kv * tokens + position % tokens);
    uint8_t *page =
        (value ? p.a.kv.v : p.a.kv.k) + (size_t)w.blocks[position / tokens] * p.a.kv.block_stride;
    store_narrow(page + slot * (value ? p.a.kv.v_slot : p.a.kv.k_slot), x, d, p.a.kv.type);
}

/* All threads of the block; queries are at x + v * d behind it. All loads are on their way before
 * the first is waited for. */
template <int d>
static __device__ void attn_front(const struct attn_params &p, const struct attn_work &w, float *x)
{
    const struct kern_cuda_store_args &s = p.store;
    const bool stores = s.k && w.split == w.n_active - 1;
    const int n_stored = !stores ? 0 : p.a.kv.v != p.a.kv.k ? 2 : 1, n = w.n + n_stored;
    const int total = n * d + (s.cs ? s.n_rot : 0), step = blockDim.x * 4;
    constexpr int batch = 2;
    for (int first = threadIdx.x * 4; first < total; first += step * batch) {
        float4 all[batch];
#pragma unroll
        for (int b = 0; b < batch; b++) {
            const int i = first + b * step, v = min(i / d, n);
            if (i < total)
                all[b] = *(const float4 *)(attn_front_source(p, w, v, n_stored, d) + (i - v * d));
        }
#pragma unroll
        for (int b = 0; b < batch; b++)
            if (first + b * step < total)
                *(float4 *)(x + first + b * step) = all[b];
    }
    __syncthreads();
    for (int v = threadIdx.x / KERN_WARP; v < n; v += blockDim.x / KERN_WARP)
        attn_front_vector(p, w, x + v * d, x + n * d, v, d);
    __syncthreads();
}

#endif
