/* What a lane adds to its sums for one unit of a row of weights, by the form of the weights:
 * integers, floats, or floats with scales. */
#ifndef KERNELS_CUDA_FEW_UNIT_CUH
#define KERNELS_CUDA_FEW_UNIT_CUH

#include "kernels/cuda/few_x.cuh"

static __device__ __forceinline__ int few_dot_16(const uint32_t q[4], uint4 x, int sum)
{
    sum = __dp4a((int)q[0], (int)x.x, sum);
    sum = __dp4a((int)q[1], (int)x.y, sum);
    sum = __dp4a((int)q[2], (int)x.z, sum);
    return __dp4a((int)q[3], (int)x.w, sum);
}

/* sums[i] += unit of w . unit `unit` of x row i */
template <typename Read, int M>
static __device__ __forceinline__ void few_add_quant(float sums[M], const kern_unit &w,
                                                     const unsigned char *shared, int n_units,
                                                     int unit, int m)
{
    const size_t row_bytes = few_x_bytes<Read>(n_units);
#pragma unroll
    for (int i = 0; i < M; i++) {
        if (M > 1 && i >= m)
            continue;
        const unsigned char *row = shared + i * row_bytes;
        const uint4 *x = (const uint4 *)row;
        const struct few_block *blocks =
            (const struct few_block *)(row + (size_t)n_units * Read::groups * 16);
        if constexpr (Read::one_scale) {
            const struct few_block block = blocks[unit];
            int sum = few_dot_16(w.q, x[unit], -Read::bias * block.sum);
            sum = few_dot_16(w.q + 4, x[n_units + unit], sum);
            sums[i] = fmaf(w.scale[0] * block.d, (float)sum, sums[i]);
            if (Read::mins)
                sums[i] = fmaf(w.min[0] * block.d, (float)block.sum, sums[i]);
        } else {
#pragma unroll
            for (int g = 0; g < Read::groups; g++) {
                const int group = Read::group(unit, g);
                const struct few_block block = blocks[group / 2];
                const int of_x = group % 2 ? block.sum >> 16 : (int)(int16_t)block.sum;
                const int sum = few_dot_16(w.q + 4 * g, x[g * n_units + unit], -Read::bias * of_x);
                sums[i] = fmaf(w.scale[g] * block.d, (float)sum, sums[i]);
                if (Read::mins)
                    sums[i] = fmaf(w.min[g] * block.d, (float)of_x, sums[i]);
            }
        }
    }
}

template <typename Read, int M>
static __device__ __forceinline__ void few_add_float(float sums[M], const float w[Read::elements],
                                                     const unsigned char *shared, int n_units,
                                                     int unit, int m)
{
    const size_t row_bytes = few_x_bytes<Read>(n_units);
#pragma unroll
    for (int i = 0; i < M; i++) {
        if (M > 1 && i >= m)
            continue;
        const float4 *x = (const float4 *)(shared + i * row_bytes);
#pragma unroll
        for (int e = 0; e < Read::elements; e += 4) {
            const float4 v = x[e / 4 * n_units + unit];
            sums[i] = fmaf(w[e], v.x, sums[i]);
            sums[i] = fmaf(w[e + 1], v.y, sums[i]);
            sums[i] = fmaf(w[e + 2], v.z, sums[i]);
            sums[i] = fmaf(w[e + 3], v.w, sums[i]);
        }
    }
}

/* The same where numbers have a scale: four at a time, so that they take few registers. */
template <typename Read, int M>
static __device__ __forceinline__ void few_add_scaled(float sums[M], const typename Read::raw &raw,
                                                      const unsigned char *shared, int n_units,
                                                      int unit, int m)
{
    const size_t row_bytes = few_x_bytes<Read>(n_units);
    float parts[M] = {};
#pragma unroll
    for (int j = 0; j < Read::elements / 4; j++) {
        float w[4];
        Read::decode_4(w, raw, j);
#pragma unroll
        for (int i = 0; i < M; i++) {
            if (M > 2 && i >= m) /* kernels for one row and for two get as many */
                continue;
            const float4 v = ((const float4 *)(shared + i * row_bytes))[j * n_units + unit];
            parts[i] = fmaf(w[0], v.x, parts[i]);
            parts[i] = fmaf(w[1], v.y, parts[i]);
            parts[i] = fmaf(w[2], v.z, parts[i]);
            parts[i] = fmaf(w[3], v.w, parts[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < M; i++)
        sums[i] += Read::scale(parts[i], raw);
}

/* Unit `own` of a chunk, unit `unit` of the row. */
template <typename Type, int M>
static __device__ __forceinline__ void few_add(float sums[M], const unsigned char *chunk, int own,
                                               const unsigned char *shared, int n_units, int unit,
                                               int m)
{
    const kern_near body = {chunk}, side = {chunk + Type::body};
    const typename Type::raw raw = Type::load(body, side, own);
    if constexpr (Type::quant) {
        kern_unit w;
        Type::decode(w, raw, own);
        few_add_quant<Type, M>(sums, w, shared, n_units, unit, m);
    } else if constexpr (Type::scaled) {
        few_add_scaled<Type, M>(sums, raw, shared, n_units, unit, m);
    } else {
        float w[Type::elements];
        Type::decode(w, raw);
        few_add_float<Type, M>(sums, w, shared, n_units, unit, m);
    }
}

#endif
