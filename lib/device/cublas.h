/* Products of large matrices by cuBLASLt, if the system has it: opened when asked for, never
 * linked. */
#ifndef DEVICE_CUBLAS_H
#define DEVICE_CUBLAS_H

#include "device/device.h"

struct device_cublas;

/* y[m][n] = x[m][k] . w[n][k]^T (+ y): w and x of BF16, y of F32, all in the device's memory, rows
 * on 16 bytes. With w_scales both are E4M3 in blocks of 128 along k, whose scales lie side by side
 * for all rows (w_scales[block * n + row], x_scales[block * m + row]), and their product is taken
 * times `scale`; m is a multiple of 4, n of 16 and k of 128. */
struct device_cublas_args {
    const void *w;
    size_t w_stride; /* elements, as all below */
    const void *x;
    size_t x_stride;
    float *y;
    size_t y_stride;
    int32_t m, n, k;
    int32_t accumulate;               /* y += */
    const float *w_scales, *x_scales; /* NULL: BF16 */
    float scale;
};

/* UNSUPPORTED where cuBLASLt is absent. Takes 32 MiB of the device. Not while its stream is
 * captured. */
infer_status device_cublas_create(struct infer_device *device, struct device_cublas **out);
void device_cublas_destroy(struct device_cublas **cublas); /* NULL-safe, sets NULL */

/* Whether products of E4M3 with such scales are to be had at all: cuBLASLt 12.9 or later, and a
 * card of Hopper's generation. */
int device_cublas_has_f8(const struct device_cublas *cublas);

/* Sets *offered to whether cuBLASLt has a kernel for the product; pointers are not followed. */
infer_status device_cublas_offers(struct device_cublas *cublas,
                                  const struct device_cublas_args *args, int32_t *offered);

/* Puts the product into the device's stream. For given shapes and strides it is the same kernel
 * each time; rows of calls of different m may differ in rounding. */
infer_status device_cublas_gemm(struct device_cublas *cublas,
                                const struct device_cublas_args *args);

#endif
