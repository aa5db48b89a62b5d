/* What other quantisers make of the rows of quantize.c; made by make_quantize_golden.py with
 * gguf 0.19, the ggml of llama-cpp-python 0.3.36, and PyTorch's float8_e4m3fn (F8_128). */
#ifndef TESTS_KERNELS_QUANTIZE_GOLDEN_H
#define TESTS_KERNELS_QUANTIZE_GOLDEN_H

#include "base/types.h"

/* FNV-1a of all blocks. */
static const struct {
    infer_dtype dtype;
    uint64_t hash;
} quantize_hashes[] = {
    {INFER_DTYPE_Q8_0, UINT64_C(0x7473870522a67f29)},
    {INFER_DTYPE_Q4_0, UINT64_C(0x97b0fe983eaec8b0)},
    {INFER_DTYPE_Q4_1, UINT64_C(0xe5b6a29d5bca238c)},
    {INFER_DTYPE_Q5_0, UINT64_C(0x65fed576be48c51d)},
    {INFER_DTYPE_Q5_1, UINT64_C(0xef03e605d2805560)},
    {INFER_DTYPE_TQ1_0, UINT64_C(0xa34093480ee4bc24)},
    {INFER_DTYPE_TQ2_0, UINT64_C(0x4c6a9cfc85b30b61)},
    {INFER_DTYPE_MXFP4, UINT64_C(0x46368699a26f3e09)},
    {INFER_DTYPE_F8_128, UINT64_C(0x4ea4a8d7026fab17)},
};

/* Root of the mean squared error. */
static const struct {
    infer_dtype dtype;
    double error;
} quantize_errors[] = {
    {INFER_DTYPE_Q2_K, 0.020731057},   {INFER_DTYPE_Q3_K, 0.011504680},
    {INFER_DTYPE_Q4_K, 0.004951922},   {INFER_DTYPE_Q5_K, 0.002488988},
    {INFER_DTYPE_Q6_K, 0.001356604},   {INFER_DTYPE_IQ4_NL, 0.005960788},
    {INFER_DTYPE_IQ4_XS, 0.006008111}, {INFER_DTYPE_NVFP4, 0.008177240},
};

#endif
