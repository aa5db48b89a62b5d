/* NVIDIA GPUs through the CUDA runtime, which is linked statically and loads
 * the driver at its first call: without a driver there are no GPUs, and a
 * program that asks for none never touches one. */
#include "device/cuda_device.h"

#include "base/error.h"
#include "base/log.h"
#include "device/backend.h"
#include "device/cuda_copies.h"
#include "kernels/cuda/cuda_kernels.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <infer/log.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define CAPABILITY_MIN 80

typedef CUresult device_get_fn(CUdevice *device, int ordinal);
typedef CUresult context_create_fn(CUcontext *context, unsigned flags, CUdevice device);
typedef CUresult context_push_fn(CUcontext context);
typedef CUresult context_pop_fn(CUcontext *context);

/* A context of our own is the driver's to make: the runtime knows only the one that it shares with
 * the host. So these come from the driver that the runtime has loaded, in the versions that each
 * since CUDA 4 has. */
#define DRIVER_FUNCTIONS(X)                                                                        \
    X(device_get_fn, device_get, "cuDeviceGet")                                                    \
    X(context_create_fn, context_create, "cuCtxCreate_v2")                                         \
    X(context_push_fn, context_destroy, "cuCtxDestroy_v2")                                         \
    X(context_push_fn, context_push, "cuCtxPushCurrent_v2")                                        \
    X(context_pop_fn, context_pop, "cuCtxPopCurrent_v2")

struct cuda {
    int ordinal;
    void *driver;         /* of dlopen */
    CUcontext context;    /* of this handle alone: memory, streams and errors end with it */
    _Atomic int32_t lost; /* the error that made it useless, or 0 */
    cudaStream_t stream;
    pthread_rwlock_t order;   /* held to write while the stream is captured: what other threads put
                                 into it then would be kept, and not done */
    _Atomic int32_t captured; /* by `owner` */
    pthread_t owner;
    struct kern_cuda kernels;
    struct cuda_copies *copies;
#define X(type, field, symbol) type *field;
    DRIVER_FUNCTIONS(X)
#undef X
};

/* Errors that stay with the context: whatever is called in it from then on says the same. Of one
 * that is missing here the runtime says it at each call. */
static int is_final(cudaError_t error)
{
    switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorContextIsDestroyed:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
        return 1;
    default:
        return 0;
    }
}

static infer_status check(const struct infer_device *device, cudaError_t error, const char *what)
{
    int32_t none = 0;
    if (error == cudaSuccess)
        return INFER_OK;
    cudaGetLastError(); /* the next check shall not see this one again */
    if (is_final(error))
        atomic_compare_exchange_strong(&((struct cuda *)device->impl)->lost, &none, (int32_t)error);
    return base_error(error == cudaErrorMemoryAllocation ? INFER_ERR_NO_MEMORY : INFER_ERR_DEVICE,
                      "%s on %s failed: %s (%s)", what, device->name, cudaGetErrorString(error),
                      cudaGetErrorName(error));
}

infer_status device_cuda_check(const struct infer_device *device, int32_t launched,
                               const char *what)
{
    return check(device, (cudaError_t)launched, what);
}

/* ---------------------------------------------------------------- context */

static int is_captured_here(const struct cuda *cuda)
{
    return atomic_load(&cuda->captured) && pthread_equal(cuda->owner, pthread_self());
}

infer_status device_cuda_push(const struct infer_device *device)
{
    CUresult result =
        ((struct cuda *)device->impl)->context_push(((struct cuda *)device->impl)->context);
    if (result == CUDA_SUCCESS)
        return INFER_OK;
    return base_error(INFER_ERR_DEVICE, "%s cannot be made current: driver error %d", device->name,
                      (int)result);
}

void device_cuda_pop(const struct infer_device *device)
{
    CUcontext popped;
    ((struct cuda *)device->impl)->context_pop(&popped);
}

struct cuda_copies *device_cuda_copies(const struct infer_device *device)
{
    return ((struct cuda *)device->impl)->copies;
}

/* The thread works on this device until leave; what the host's own CUDA code
 * had made current comes back then. Nobody comes in once the context is lost: no
 * call would do anything there, and all goes with it. */
static infer_status enter(const struct infer_device *device)
{
    struct cuda *cuda = device->impl;
    const int32_t lost = atomic_load(&cuda->lost);
    if (lost)
        return base_error(INFER_ERR_DEVICE,
                          "%s was lost (%s), expected that what is on it is destroyed and the "
                          "device created anew",
                          device->name, cudaGetErrorName((cudaError_t)lost));
    if (!is_captured_here(cuda))
        pthread_rwlock_rdlock(&cuda->order);
    infer_status st = device_cuda_push(device);
    if (st != INFER_OK && !is_captured_here(cuda))
        pthread_rwlock_unlock(&cuda->order);
    return st;
}

static void leave(const struct infer_device *device)
{
    struct cuda *cuda = device->impl;
    device_cuda_pop(device);
    if (!is_captured_here(cuda))
        pthread_rwlock_unlock(&cuda->order);
}

void device_cuda_order_begin(struct infer_device *device)
{
    struct cuda *cuda = device->impl;
    pthread_rwlock_wrlock(&cuda->order);
    cuda->owner = pthread_self();
    atomic_store(&cuda->captured, 1);
}

void device_cuda_order_end(struct infer_device *device)
{
    struct cuda *cuda = device->impl;
    atomic_store(&cuda->captured, 0);
    pthread_rwlock_unlock(&cuda->order);
}

infer_status device_cuda_enter(struct infer_device *device, void **stream)
{
    infer_status st = enter(device);
    if (st == INFER_OK)
        *stream = ((struct cuda *)device->impl)->stream;
    return st;
}

void device_cuda_leave(struct infer_device *device)
{
    leave(device);
}

const struct kern_cuda *device_cuda_kernels(const struct infer_device *device)
{
    return device->kind == DEVICE_CUDA ? &((const struct cuda *)device->impl)->kernels : NULL;
}

/* ----------------------------------------------------------------- memory */

static infer_status buffer_alloc(struct infer_device *device, size_t bytes,
                                 struct device_buffer *out)
{
    void *data = NULL;
    infer_status st = enter(device);
    if (st != INFER_OK)
        return st;
    char what[64];
    snprintf(what, sizeof what, "an allocation of %zu bytes", bytes);
    cudaError_t error = cudaMalloc(&data, BASE_MAX(bytes, (size_t)1));
    if (error == cudaErrorInvalidValue) /* a size that no card has */
        error = cudaErrorMemoryAllocation;
    st = check(device, error, what);
    leave(device);
    if (st == INFER_OK)
        *out = (struct device_buffer){.device = device, .data = data, .bytes = bytes};
    return st;
}

static void buffer_free(struct device_buffer *buffer)
{
    struct infer_device *device = buffer->device;
    if (enter(device) != INFER_OK) /* it goes with the context */
        return;
    if (cudaFree(buffer->data) != cudaSuccess)
        cudaGetLastError();
    leave(device);
}

static infer_status move(struct infer_device *device, void *dst, const void *src, size_t bytes,
                         enum cudaMemcpyKind kind, int wait)
{
    cudaStream_t stream = ((struct cuda *)device->impl)->stream;
    infer_status st = enter(device);
    if (st != INFER_OK)
        return st;
    cudaError_t error = cudaMemcpyAsync(dst, src, bytes, kind, stream);
    if (error == cudaSuccess && wait)
        error = cudaStreamSynchronize(stream);
    st = check(device, error, "a copy");
    leave(device);
    return st;
}

static infer_status upload(struct device_buffer *dst, size_t offset, const void *src, size_t bytes)
{
    return move(dst->device, (char *)dst->data + offset, src, bytes, cudaMemcpyHostToDevice, 1);
}

static infer_status download(void *dst, const struct device_buffer *src, size_t offset,
                             size_t bytes)
{
    return move(src->device, dst, (const char *)src->data + offset, bytes, cudaMemcpyDeviceToHost,
                1);
}

static infer_status copy(struct device_buffer *dst, size_t dst_offset,
                         const struct device_buffer *src, size_t src_offset, size_t bytes)
{
    return move(dst->device, (char *)dst->data + dst_offset, (const char *)src->data + src_offset,
                bytes, cudaMemcpyDeviceToDevice, 0);
}

static infer_status fill(struct device_buffer *dst, size_t offset, uint8_t value, size_t bytes)
{
    struct infer_device *device = dst->device;
    infer_status st = enter(device);
    if (st != INFER_OK)
        return st;
    st = check(device,
               cudaMemsetAsync((char *)dst->data + offset, value, bytes,
                               ((struct cuda *)device->impl)->stream),
               "a fill");
    leave(device);
    return st;
}

static infer_status finish(struct infer_device *device)
{
    infer_status st = enter(device);
    if (st != INFER_OK)
        return st;
    st = check(device, cudaStreamSynchronize(((struct cuda *)device->impl)->stream), "the work");
    leave(device);
    return st;
}

static infer_status memory(const struct infer_device *device, uint64_t *total, uint64_t *free)
{
    size_t free_bytes = 0, total_bytes = 0;
    infer_status st = enter(device);
    if (st != INFER_OK)
        return st;
    st = check(device, cudaMemGetInfo(&free_bytes, &total_bytes), "a look at the memory");
    leave(device);
    if (st == INFER_OK) {
        *total = total_bytes;
        *free = free_bytes;
    }
    return st;
}

/* ------------------------------------------------------------ open, close */

/* The last who held the device: nobody else is in it. What a lost context does not give back one by
 * one, it gives back with itself. */
static void destroy(struct infer_device *device)
{
    struct cuda *cuda = device->impl;
    if (!cuda)
        return;
    const int entered = cuda->context && device_cuda_push(device) == INFER_OK;
    cuda_copies_destroy(&cuda->copies);
    if (entered) {
        if (cuda->stream && cudaStreamDestroy(cuda->stream) != cudaSuccess)
            cudaGetLastError();
        device_cuda_pop(device);
    }
    if (cuda->context)
        cuda->context_destroy(cuda->context);
    if (cuda->driver)
        dlclose(cuda->driver);
    pthread_rwlock_destroy(&cuda->order);
    base_free(&device->alloc, cuda);
    device->impl = NULL;
}

static const struct device_ops cuda_ops = {
    .buffer_alloc = buffer_alloc,
    .buffer_free = buffer_free,
    .upload = upload,
    .download = download,
    .copy = copy,
    .fill = fill,
    .sync = finish,
    .fetch_begin = cuda_copies_fetch_begin,
    .fetch_order = cuda_copies_fetch_order,
    .fetch_end = cuda_copies_fetch_end,
    .put = cuda_copies_put,
    .piece_bytes = CUDA_COPIES_PIECE_BYTES,
    .memory = memory,
    .destroy = destroy,
};

/* A driver too old for this runtime is as good as none, but worth a word. */
int32_t device_cuda_count(void)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);
    if (error == cudaSuccess)
        return n;
    cudaGetLastError();
    if (error != cudaErrorNoDevice)
        base_log(INFER_LOG_INFO, "no GPU is used: %s", cudaGetErrorString(error));
    return 0;
}

static infer_status open_driver(struct infer_device *device)
{
    struct cuda *cuda = device->impl;
    cuda->driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!cuda->driver)
        return base_error(INFER_ERR_DEVICE, "the driver of %s cannot be opened: %s", device->name,
                          dlerror());
    const struct {
        const char *symbol;
        void *field;
    } functions[] = {
#define X(type, field, symbol) {symbol, &cuda->field},
        DRIVER_FUNCTIONS(X)
#undef X
    };
    for (size_t i = 0; i < BASE_COUNT(functions); i++) {
        void *symbol = dlsym(cuda->driver, functions[i].symbol);
        if (!symbol)
            return base_error(INFER_ERR_DEVICE, "the driver of %s has no %s", device->name,
                              functions[i].symbol);
        memcpy(functions[i].field, &symbol, sizeof symbol);
    }
    return INFER_OK;
}

static infer_status read_properties(struct infer_device *device)
{
    const struct cuda *cuda = device->impl;
    struct cudaDeviceProp properties;
    infer_status st = check(device, cudaGetDeviceProperties(&properties, cuda->ordinal),
                            "a look at the properties");
    if (st != INFER_OK)
        return st;
    snprintf(device->name, sizeof device->name, "%.127s", properties.name);
    device->compute_capability = properties.major * 10 + properties.minor;
    if (device->compute_capability < CAPABILITY_MIN)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "%s has compute capability %d.%d, expected %d.%d or later", device->name,
                          properties.major, properties.minor, CAPABILITY_MIN / 10,
                          CAPABILITY_MIN % 10);
    return INFER_OK;
}

/* Not the primary context, which the host's own CUDA code shares: that cannot be thrown away when a
 * kernel has failed, since its memory is not all ours. */
static infer_status open_context(struct infer_device *device)
{
    struct cuda *cuda = device->impl;
    CUdevice number = 0;
    CUresult result = cuda->device_get(&number, cuda->ordinal);
    if (result == CUDA_SUCCESS)
        result = cuda->context_create(&cuda->context, CU_CTX_SCHED_AUTO, number);
    if (result != CUDA_SUCCESS) {
        cuda->context = NULL;
        return base_error(result == CUDA_ERROR_OUT_OF_MEMORY ? INFER_ERR_NO_MEMORY
                                                             : INFER_ERR_DEVICE,
                          "%s gave no context: driver error %d", device->name, (int)result);
    }
    infer_status st = check(device, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
                            "making a stream");
    device_cuda_pop(device);
    return st;
}

infer_status device_cuda_open(struct infer_device *device, int32_t ordinal)
{
    struct cuda *cuda = base_new(&device->alloc, 1, sizeof *cuda);
    if (!cuda)
        return INFER_ERR_NO_MEMORY;
    cuda->ordinal = ordinal;
    pthread_rwlock_init(&cuda->order, NULL);
    device->impl = cuda;
    device->kind = DEVICE_CUDA;
    device->ops = &cuda_ops;
    snprintf(device->name, sizeof device->name, "GPU %d", ordinal);
    infer_status st = read_properties(device);
    if (st == INFER_OK)
        st = open_driver(device);
    if (st == INFER_OK)
        st = open_context(device);
    if (st == INFER_OK)
        st = cuda_copies_create(&cuda->copies, &device->alloc);
    if (st != INFER_OK) {
        destroy(device);
        return st;
    }
    kern_cuda_init(&cuda->kernels, device->compute_capability);
    /* Loading and sampling work on the host. */
    kern_init_cpu(&device->kernels, kern_cpu_flags());
    device->kernels.name = "cuda";
    return INFER_OK;
}
