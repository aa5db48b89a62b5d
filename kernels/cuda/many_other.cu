/* Products of many rows with rarer quantised weights: their blocks are unpacked on the way into
 * shared memory, which costs more work for each weight than many_quant.cuh, but any reader of
 * blocks will do. */
#include "kernels/cuda/block_iq.cuh"
#include "kernels/cuda/block_k.cuh"
#include "kernels/cuda/many_quant.cuh"

/* A chunk: 256 signed codes, 16 scales, and 16 minima where the type has them. */
template <typename Reader> struct many_unpacked {
    static constexpr bool has_least = Reader::mins;
    static constexpr int kind = has_least           ? MANY_BOTH
                                : Reader::one_scale ? MANY_PLAIN
                                                    : MANY_HALVES;
    static constexpr int w_row = 256 + 64 + (has_least ? 64 : 0) + 16;
    static constexpr int w_pieces = MANY_CHUNK / 16 / Reader::groups;

    static __device__ __forceinline__ void
    copy_w(unsigned char *dst, const struct kern_cuda_matrix *w, size_t row, int at, int piece)
    {
        const int unit = at * w_pieces + piece;
        kern_unit u = {};
        if (unit * 16 * Reader::groups >= w->k)
            return;
        Reader::decode(
            u, Reader::load(w->body + row * w->body_stride, w->side + row * w->side_stride, unit),
            unit);
#pragma unroll
        for (int j = 0; j < Reader::groups; j++) {
            const int group = Reader::group(piece, j), own = Reader::one_scale ? 0 : j;
            uint32_t *q = u.q + 4 * j;
#pragma unroll
            for (int i = 0; i < 4; i++)
                q[i] = Reader::bias ? many_centred<Reader::bias>(q[i]) : q[i];
            *(uint4 *)(dst + group * 16) = make_uint4(q[0], q[1], q[2], q[3]);
            *(float *)(dst + 256 + group * 4) = u.scale[own];
            if (has_least)
                *(float *)(dst + 320 + group * 4) = u.min[own];
        }
    }

    static __device__ __forceinline__ void codes(uint32_t q[2], const unsigned char *row, int block,
                                                 int t)
    {
        q[0] = many_word(row + block * 32 + t * 4);
        q[1] = many_word(row + block * 32 + 16 + t * 4);
    }

    static __device__ __forceinline__ float2 scales(const unsigned char *row, int block, int)
    {
        return *(const float2 *)(row + 256 + block * 8);
    }

    static __device__ __forceinline__ float2 least(const unsigned char *row, int block)
    {
        return *(const float2 *)(row + 320 + block * 8);
    }
};

/* Two stages: weights do not wait in them while they are on their way. One shape for all numbers of
 * rows: to unpack a block costs more than rows of x that are not there. */
typedef many_shape<1, 4, 4, 1, 2> many_other_32;

template <typename Reader>
static int32_t launch(const struct kern_cuda_many_args *args, void *stream)
{
    return many_launch<many_quant<many_unpacked<Reader>>, many_other_32, 3>(args, stream);
}

#define MANY_OTHER_TYPES(X)                                                                        \
    X(Q2_K)                                                                                        \
    X(Q3_K)                                                                                        \
    X(IQ3_XXS)                                                                                     \
    X(IQ3_S)                                                                                       \
    X(IQ2_XXS)                                                                                     \
    X(IQ2_XS)                                                                                      \
    X(IQ2_S)                                                                                       \
    X(IQ1_S)                                                                                       \
    X(IQ1_M)                                                                                       \
    X(TQ1_0)                                                                                       \
    X(TQ2_0)                                                                                       \
    X(NVFP4)

int32_t many_other_launch(const struct kern_cuda_many_args *args, void *stream)
{
    switch (args->w.type) {
#define CASE(dtype)                                                                                \
    case INFER_DTYPE_##dtype:                                                                      \
        return launch<kern_read_##dtype>(args, stream);
        MANY_OTHER_TYPES(CASE)
#undef CASE
    default:
        return (int32_t)cudaErrorNotSupported;
    }
}
