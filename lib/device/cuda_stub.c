/* Builds without CUDA: the same functions, and no GPU. */
#include "base/error.h"
#include "device/backend.h"
#include "device/cuda_device.h"

static infer_status unsupported(void)
{
    return base_error(INFER_ERR_UNSUPPORTED, "this build of libinfer has no CUDA");
}

int32_t device_cuda_count(void)
{
    return 0;
}

infer_status device_cuda_open(struct infer_device *device, int32_t ordinal)
{
    BASE_UNUSED(device);
    BASE_UNUSED(ordinal);
    return unsupported();
}

const struct kern_cuda *device_cuda_kernels(const struct infer_device *device)
{
    BASE_UNUSED(device);
    return NULL;
}

infer_status device_cuda_enter(struct infer_device *device, void **stream)
{
    BASE_UNUSED(device);
    BASE_UNUSED(stream);
    return unsupported();
}

void device_cuda_leave(struct infer_device *device)
{
    BASE_UNUSED(device);
}

infer_status device_cuda_check(const struct infer_device *device, int32_t launched,
                               const char *what)
{
    BASE_UNUSED(device);
    BASE_UNUSED(launched);
    BASE_UNUSED(what);
    return unsupported();
}
