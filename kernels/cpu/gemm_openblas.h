/* Large products through a BLAS library, which the caller has opened.
 *
 * Of float weights, and faster than kern_gemm_fn for large m where that lacks
 * wide vectors (kern_gemm.sgemm_rows); but NOT batch-invariant: a BLAS chooses its order of
 * addition by the shape of the call, so a row's bits depend on its neighbours and on the range of
 * columns. */
#ifndef KERNELS_CPU_GEMM_OPENBLAS_H
#define KERNELS_CPU_GEMM_OPENBLAS_H

#include "kernels/kernels.h"

/* cblas_sgemm of a BLAS with 32-bit integers; its enumerations are ints here. */
typedef void kern_sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                           const float *a, int lda, const float *b, int ldb, float beta, float *c,
                           int ldc);

/* Bytes of scratch one call needs (each thread its own); aligned as floats. */
size_t kern_gemm_blas_scratch(int32_t k);

/* Columns n_begin .. n_end - 1 of args (kernels.h), for weights of any type that
 * quant->dequant has. x is always float rows here; x_stride is a multiple of 4;
 * strides in elements fit an int32_t; k >= 1; w is not packed. */
void kern_gemm_blas(const struct kern_gemm_args *args, infer_dtype type,
                    const struct kern_quant *quant, kern_sgemm_fn *sgemm, float *scratch,
                    int32_t n_begin, int32_t n_end);

#endif
