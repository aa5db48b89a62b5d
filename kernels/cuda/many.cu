/* Products of many rows: which kernel for which type and number of rows. */
#include "kernels/cuda/many_float.cuh"

typedef many_shape<1, 8, 8, 1, 3> many_64;
typedef many_shape<2, 8, 4, 2, 4> many_128;

template <typename Format>
static int32_t launch_16_bits(const struct kern_cuda_many_args *args, void *stream)
{
    const int32_t rows = many_rows_each(args);
    if (rows <= 16)
        return many_launch<Format, many_16, 3>(args, stream);
    if (rows <= 32)
        return many_launch<Format, many_32, 3>(args, stream);
    if (rows <= 64)
        return many_launch<Format, many_64, 2>(args, stream);
    return many_launch<Format, many_128, 1>(args, stream);
}

static int32_t launch_f32(const struct kern_cuda_many_args *args, void *stream)
{
    if (many_rows_each(args) <= 16)
        return many_launch<many_f32, many_16, 3>(args, stream);
    return many_launch<many_f32, many_32, 3>(args, stream);
}

extern "C" int32_t kern_cuda_many_rows(infer_dtype type)
{
    switch (type) {
    case INFER_DTYPE_F32:
        return KERN_CUDA_ROWS_F32;
    case INFER_DTYPE_F16:
    case INFER_DTYPE_BF16:
    case INFER_DTYPE_F8_E4M3: /* no kernel here: they become BF16 first */
    case INFER_DTYPE_F8_E5M2:
    case INFER_DTYPE_F8_128:
        return KERN_CUDA_ROWS_BF16;
    default:
        return KERN_CUDA_ROWS_Q8;
    }
}

extern "C" size_t kern_cuda_many_scratch(int32_t n, int32_t k, int32_t m)
{
    const size_t sizes[] = {many_scratch_most<many_16>(n, k, m),
                            many_scratch_most<many_32>(n, k, m),
                            many_scratch_most<many_64>(n, k, m),
                            many_scratch_most<many_128>(n, k, m), many_quant_scratch(n, k, m)};
    size_t most = 0;
    for (size_t i = 0; i < BASE_COUNT(sizes); i++)
        most = BASE_MAX(most, sizes[i]);
    return most;
}

extern "C" int32_t kern_cuda_product_many(const struct kern_cuda_many_args *args, void *stream)
{
    if (args->m <= 0 || args->w.n <= 0)
        return 0;
    switch (args->w.type) {
    case INFER_DTYPE_F32:
        return launch_f32(args, stream);
    case INFER_DTYPE_F16:
        return launch_16_bits<many_16_bits<true>>(args, stream);
    case INFER_DTYPE_BF16:
        return launch_16_bits<many_16_bits<false>>(args, stream);
    case INFER_DTYPE_F8_128:
        return many_f8_launch(args, stream);
    default:
        return many_quant_launch(args, stream);
    }
}
