/* Products of many rows with quantised weights. */
#include "kernels/cuda/many_quant.cuh"

/* Two blocks on a multiprocessor; where scales of 16 elements leave no registers for two, one with
 * more stages. */
typedef many_shape<1, 8, 8, 1, 2> many_quant_64;
typedef many_shape<1, 8, 8, 1, 4> many_halves_64;

/* Types of many models have a shape for 32 rows as well. */
template <typename Type, bool common>
static int32_t launch(const struct kern_cuda_many_args *args, void *stream)
{
    const int32_t rows = many_rows_each(args);
    if (rows <= 16)
        return many_launch<many_quant<Type>, many_16, 3>(args, stream);
    if constexpr (common)
        if (rows <= 32)
            return many_launch<many_quant<Type>, many_32, 2>(args, stream);
    if constexpr (Type::kind == MANY_HALVES)
        return many_launch<many_quant<Type>, many_halves_64, 1>(args, stream);
    else
        return many_launch<many_quant<Type>, many_quant_64, 2>(args, stream);
}

size_t many_quant_scratch(int32_t n, int32_t k, int32_t m)
{
    return many_scratch_most<many_quant_64>(n, k, m);
}

#define MANY_QUANT_TYPES(X)                                                                        \
    X(Q4_0, many_q4_0, true)                                                                       \
    X(Q4_1, many_q4_1, false)                                                                      \
    X(Q5_0, many_q5_0, false)                                                                      \
    X(Q5_1, many_q5_1, false)                                                                      \
    X(Q8_0, many_q8_0, true)                                                                       \
    X(IQ4_NL, many_iq4_nl, false)                                                                  \
    X(IQ4_XS, many_iq4_xs, false)                                                                  \
    X(MXFP4, many_mxfp4, true)                                                                     \
    X(Q4_K, many_q4_k, true)                                                                       \
    X(Q5_K, many_q5_k, true)                                                                       \
    X(Q6_K, many_q6_k, true)

int32_t many_quant_launch(const struct kern_cuda_many_args *args, void *stream)
{
    switch (args->w.type) {
#define CASE(dtype, type, common)                                                                  \
    case INFER_DTYPE_##dtype:                                                                      \
        return launch<type, common>(args, stream);
        MANY_QUANT_TYPES(CASE)
#undef CASE
    default:
        return many_other_launch(args, stream);
    }
}
