/* What an NVIDIA GPU has beside the common table. */
#ifndef DEVICE_CUDA_DEVICE_H
#define DEVICE_CUDA_DEVICE_H

#include "device/device.h"

struct kern_cuda;

/* The launchers that this GPU can run; NULL for another kind of device. */
const struct kern_cuda *device_cuda_kernels(const struct infer_device *device);

/* Launchers need the device's context: enter, launch, leave. `stream` receives
 * the cudaStream_t in which all work of this device follows in order. The
 * thread's own CUDA context, if the host uses one, is put back by leave. */
infer_status device_cuda_enter(struct infer_device *device, void **stream);
void device_cuda_leave(struct infer_device *device);

/* A launcher's answer as a status with a sentence; `what` names the kernel. */
infer_status device_cuda_check(const struct infer_device *device, int32_t launched,
                               const char *what);

#endif
