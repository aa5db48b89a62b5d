/* Products of large matrices by cuBLASLt, if the system has it: opened when asked for, never
 * linked. */
#ifndef DEVICE_CUBLAS_H
#define DEVICE_CUBLAS_H

#include "device/device.h"

struct device_cublas;

/* y[m][n] = x[m][k] . w[n][k]^T (+ y): w and x of BF16, y of F32, all in the device's memory, rows
 * on 16 bytes. */
struct device_cublas_args {
    const void *w;
    size_t w_stride; /* elements, as all below */
    const void *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    int32_t m, n, k;
    int32_t accumulate; /* y += */
};

/* UNSUPPORTED where cuBLASLt is absent. Takes 32 MiB of the device. Not while its stream is
 * captured. */
infer_status device_cublas_create(struct infer_device *device, struct device_cublas **out);
void device_cublas_destroy(struct device_cublas **cublas); /* NULL-safe, sets NULL */

/* Puts the product into the device's stream. For given shapes and strides it is the same kernel
 * each time; rows of calls of different m may differ in rounding. */
infer_status device_cublas_gemm(struct device_cublas *cublas,
                                const struct device_cublas_args *args);

#endif
