/* Builds without CUDA: the same functions, and no GPU. */
#include "base/error.h"
#include "device/backend.h"
#include "device/cublas.h"
#include "device/cuda_device.h"
#include "device/cuda_upload.h"

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

infer_status device_cuda_host_alloc(struct infer_device *device, size_t bytes, void **out)
{
    BASE_UNUSED(device);
    BASE_UNUSED(bytes);
    BASE_UNUSED(out);
    return unsupported();
}

void device_cuda_host_free(struct infer_device *device, void *memory)
{
    BASE_UNUSED(device);
    BASE_UNUSED(memory);
}

infer_status device_cuda_copy_in(struct infer_device *device, void *dst, const void *src,
                                 size_t bytes)
{
    BASE_UNUSED(device);
    BASE_UNUSED(dst);
    BASE_UNUSED(src);
    BASE_UNUSED(bytes);
    return unsupported();
}

infer_status device_cuda_copy_out(struct infer_device *device, void *dst, const void *src,
                                  size_t bytes)
{
    BASE_UNUSED(device);
    BASE_UNUSED(dst);
    BASE_UNUSED(src);
    BASE_UNUSED(bytes);
    return unsupported();
}

infer_status device_cuda_copy_in_rows(struct infer_device *device, void *dst, const void *src,
                                      size_t pitch, size_t bytes, size_t n)
{
    BASE_UNUSED(device);
    BASE_UNUSED(dst);
    BASE_UNUSED(src);
    BASE_UNUSED(pitch);
    BASE_UNUSED(bytes);
    BASE_UNUSED(n);
    return unsupported();
}

infer_status device_cuda_event_create(struct infer_device *device, void **event)
{
    BASE_UNUSED(device);
    BASE_UNUSED(event);
    return unsupported();
}

infer_status device_cuda_event_record(struct infer_device *device, void *event)
{
    BASE_UNUSED(device);
    BASE_UNUSED(event);
    return unsupported();
}

infer_status device_cuda_event_wait(struct infer_device *device, void *event)
{
    BASE_UNUSED(device);
    BASE_UNUSED(event);
    return unsupported();
}

void device_cuda_event_destroy(struct infer_device *device, void *event)
{
    BASE_UNUSED(device);
    BASE_UNUSED(event);
}

infer_status device_cuda_capture_begin(struct infer_device *device)
{
    BASE_UNUSED(device);
    return unsupported();
}

infer_status device_cuda_capture_end(struct infer_device *device, void **graph)
{
    BASE_UNUSED(device);
    BASE_UNUSED(graph);
    return unsupported();
}

infer_status device_cuda_graph_launch(struct infer_device *device, void *graph)
{
    BASE_UNUSED(device);
    BASE_UNUSED(graph);
    return unsupported();
}

void device_cuda_graph_free(struct infer_device *device, void *graph)
{
    BASE_UNUSED(device);
    BASE_UNUSED(graph);
}

infer_status device_upload_create(struct device_upload **out, struct infer_device *device)
{
    BASE_UNUSED(out);
    BASE_UNUSED(device);
    return unsupported();
}

infer_status device_upload_put(struct device_upload *upload, void *dst, const void *src,
                               size_t bytes)
{
    BASE_UNUSED(upload);
    BASE_UNUSED(dst);
    BASE_UNUSED(src);
    BASE_UNUSED(bytes);
    return unsupported();
}

infer_status device_upload_destroy(struct device_upload **upload)
{
    BASE_UNUSED(upload);
    return INFER_OK;
}

infer_status device_cublas_create(struct infer_device *device, struct device_cublas **out)
{
    BASE_UNUSED(device);
    BASE_UNUSED(out);
    return unsupported();
}

void device_cublas_destroy(struct device_cublas **cublas)
{
    BASE_UNUSED(cublas);
}

int device_cublas_has_f8(const struct device_cublas *cublas)
{
    BASE_UNUSED(cublas);
    return 0;
}

infer_status device_cublas_offers(struct device_cublas *cublas,
                                  const struct device_cublas_args *args, int32_t *offered)
{
    BASE_UNUSED(cublas);
    BASE_UNUSED(args);
    *offered = 0;
    return unsupported();
}

infer_status device_cublas_gemm(struct device_cublas *cublas, const struct device_cublas_args *args)
{
    BASE_UNUSED(cublas);
    BASE_UNUSED(args);
    return unsupported();
}
