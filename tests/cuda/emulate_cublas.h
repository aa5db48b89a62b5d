/* The emulated cuBLASLt (emulate_cublas.cpp). */
#ifndef TESTS_CUDA_EMULATE_CUBLAS_H
#define TESTS_CUDA_EMULATE_CUBLAS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What cublasLtGetVersion() says; 0: there is no library. 120901 at the start. */
void emulated_cublas_set_version(size_t version);

/* Products of E4M3 of fewer outputs have no kernel; 0 at the start. */
void emulated_cublas_set_least(int n);

/* Products so far, of BF16 and of E4M3. */
long emulated_cublas_products(int f8);

#ifdef __cplusplus
}
#endif

#endif
