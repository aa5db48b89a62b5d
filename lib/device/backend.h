/* What a kind of device gives to the registry. */
#ifndef DEVICE_BACKEND_H
#define DEVICE_BACKEND_H

#include "device/device.h"

/* Each fills what is its own of a device whose allocator, index and budget are
 * set: ops, kernels, pool, name, impl. On failure nothing is left to destroy. */
infer_status device_cpu_open(struct infer_device *device, const struct device_config *config);
infer_status device_cuda_open(struct infer_device *device, int32_t ordinal);

/* GPUs that the driver shows; 0 without a driver or in a build without CUDA. */
int32_t device_cuda_count(void);

#endif
