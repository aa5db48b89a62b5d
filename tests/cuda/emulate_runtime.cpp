/* The CUDA runtime over the host's memory, for programs whose kernels are emulated: the device,
 * errors and memory. */
#include "cuda/emulate_card.h"

#include <dlfcn.h>

#define POISON_BYTES_MAX ((size_t)8 << 20) /* what is longer is pages that nobody may touch */

/* Outlives every destructor that may still free memory. */
card &the_card(void)
{
    static card *one = new card;
    return *one;
}

thread_local static cudaError_t last_error = cudaSuccess;

cudaError_t said(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

namespace
{
const allocation *find(card &c, const void *p, uintptr_t *begin)
{
    auto after = c.memory.upper_bound((uintptr_t)p);
    if (after == c.memory.begin())
        return nullptr;
    --after;
    if ((uintptr_t)p >= after->first + after->second.bytes && (uintptr_t)p != after->first)
        return nullptr;
    *begin = after->first;
    return &after->second;
}

/* Whether [p, p + bytes) lies on the side that it is said to. */
bool lies(card &c, const void *p, size_t bytes, bool device)
{
    uintptr_t begin = 0;
    const allocation *a = find(c, p, &begin);
    if (!a || a->host)
        return !device;
    return device && bytes <= begin + a->bytes - (uintptr_t)p;
}

bool is_pinned(card &c, const void *p)
{
    uintptr_t begin = 0;
    const allocation *a = find(c, p, &begin);
    return a && a->host;
}

cudaError_t allocate(card &c, void **p, size_t bytes, bool host)
{
    *p = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if (!host && bytes > c.total - std::min(c.used, c.total))
        return cudaErrorMemoryAllocation;
    if (posix_memalign(p, 256, bytes) != 0) {
        *p = nullptr;
        return cudaErrorMemoryAllocation;
    }
    if (bytes <= POISON_BYTES_MAX)
        memset(*p, 0xff, bytes);
    c.memory[(uintptr_t)*p] = {bytes, host, false};
    if (!host)
        c.used += bytes;
    return cudaSuccess;
}

cudaError_t release(card &c, void *p, bool host)
{
    if (!p)
        return cudaSuccess;
    auto found = c.memory.find((uintptr_t)p);
    if (found == c.memory.end() || found->second.host != host || found->second.registered)
        return cudaErrorInvalidValue;
    run_card(c);
    if (!host)
        c.used -= found->second.bytes;
    c.memory.erase(found);
    free(p);
    return cudaSuccess;
}

cudaError_t copy(card &c, void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                 cudaStream_t stream)
{
    if (bytes == 0)
        return cudaSuccess;
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyDefault &&
        (!lies(c, dst, bytes, to_device) || !lies(c, src, bytes, from_device)))
        return cudaErrorInvalidValue;
    CUstream_st *s = stream_of(stream);
    const bool captured = knows(s) && s->captured;
    /* Pageable memory is staged: read before the call returns, or written before it does. */
    if (!captured && lies(c, src, bytes, false) && !is_pinned(c, src)) {
        const unsigned char *from = (const unsigned char *)src;
        auto staged = std::make_shared<std::vector<unsigned char>>(from, from + bytes);
        return issue(stream, [dst, staged] { memcpy(dst, staged->data(), staged->size()); });
    }
    cudaError_t error = issue(stream, [dst, src, bytes] { memmove(dst, src, bytes); });
    if (error == cudaSuccess && !captured && lies(c, dst, bytes, false) && !is_pinned(c, dst))
        run_all(s);
    return error;
}
} // namespace

extern "C" {

void emulated_fail_after(long n, cudaError_t error)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    c.fail_at = n > 0 ? c.calls + n : 0;
    c.fail_with = error;
}

void emulated_reset(void)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    c.fail_at = 0;
    c.lost = last_error = cudaSuccess;
}

long emulated_calls(void)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    return c.calls;
}

void emulated_set_memory(size_t bytes)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    c.total = bytes;
}

void emulated_set_processors(int n)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    c.processors = n;
}

size_t emulated_memory_used(void)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    return c.used;
}

/* ----------------------------------------------------------------- device */

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *ordinal)
{
    *ordinal = 0;
    return cudaSuccess;
}

/* Makes the context current as the runtime does: in the driver, where there is one. */
cudaError_t cudaSetDevice(int ordinal)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    if (ordinal != 0)
        return said(cudaErrorInvalidDevice);
    typedef int set_current(void *context);
    static void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    set_current *set = driver ? (set_current *)dlsym(driver, "cuCtxSetCurrent") : nullptr;
    if (set)
        set(&now.c);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int ordinal)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    if (ordinal != 0)
        return said(cudaErrorInvalidDevice);
    memset((void *)properties, 0, sizeof *properties);
    strcpy(properties->name, "emulated GPU");
    properties->major = 9;
    properties->multiProcessorCount = now.c.processors;
    properties->totalGlobalMem = now.c.total;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->sharedMemPerBlock = 48 << 10;
    properties->sharedMemPerBlockOptin = 227 << 10;
    properties->sharedMemPerMultiprocessor = 228 << 10;
    properties->l2CacheSize = 50 << 20;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int ordinal)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    if (ordinal != 0)
        return said(cudaErrorInvalidDevice);
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = now.c.processors;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 9;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = 227 << 10;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = 228 << 10;
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = 50 << 20;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = 32;
        return cudaSuccess;
    default:
        fprintf(stderr, "emulation: device attribute %d is not known\n", (int)attribute);
        return said(cudaErrorInvalidValue);
    }
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    *total_bytes = now.c.total;
    *free_bytes = now.c.total - std::min(now.c.used, now.c.total);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    call now;
    if (now.error == cudaSuccess)
        now.error = said(unsafe(now.c));
    if (now.error == cudaSuccess)
        run_card(now.c);
    return now.error;
}

cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int)
{
    call now;
    return now.error;
}

/* ----------------------------------------------------------------- errors */

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = the_card().lost; /* this one is never forgotten */
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
        return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
        return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
        return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
        return "cudaErrorNotReady";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
        return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureUnjoined:
        return "cudaErrorStreamCaptureUnjoined";
    case cudaErrorStreamCaptureImplicit:
        return "cudaErrorStreamCaptureImplicit";
    case cudaErrorNotSupported:
        return "cudaErrorNotSupported";
    default:
        return "another error";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    default:
        return cudaGetErrorName(error);
    }
}

/* ----------------------------------------------------------------- memory */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    call now;
    if (now.error == cudaSuccess)
        now.error = said(unsafe(now.c));
    return now.error == cudaSuccess ? said(allocate(now.c, p, bytes, false)) : now.error;
}

cudaError_t cudaFree(void *p)
{
    call now;
    cudaError_t error = said(p ? unsafe(now.c) : cudaSuccess);
    if (error == cudaSuccess)
        error = said(release(now.c, p, false));
    return now.error == cudaSuccess ? error : now.error;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, 0);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    call now;
    if (now.error == cudaSuccess)
        now.error = said(unsafe(now.c));
    return now.error == cudaSuccess ? said(allocate(now.c, p, bytes, true)) : now.error;
}

cudaError_t cudaFreeHost(void *p)
{
    call now;
    cudaError_t error = said(release(now.c, p, true));
    return now.error == cudaSuccess ? error : now.error;
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    if (!p || bytes == 0 || now.c.memory.count((uintptr_t)p))
        return said(cudaErrorInvalidValue);
    now.c.memory[(uintptr_t)p] = {bytes, true, true};
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
    call now;
    auto found = now.c.memory.find((uintptr_t)p);
    if (found == now.c.memory.end() || !found->second.registered)
        return said(cudaErrorInvalidValue);
    run_card(now.c);
    now.c.memory.erase(found);
    return now.error;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    call now;
    return now.error == cudaSuccess ? said(copy(now.c, dst, src, bytes, kind, stream)) : now.error;
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch,
                              size_t bytes, size_t n, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    cudaError_t error = cudaSuccess;
    if (bytes > dst_pitch || bytes > src_pitch)
        return cudaErrorInvalidPitchValue;
    for (size_t i = 0; i < n && error == cudaSuccess; i++)
        error = cudaMemcpyAsync((char *)dst + i * dst_pitch, (const char *)src + i * src_pitch,
                                bytes, kind, stream);
    return error;
}

cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    call now;
    if (now.error == cudaSuccess)
        now.error = said(unsafe(now.c));
    if (now.error == cudaSuccess)
        now.error = said(copy(now.c, dst, src, bytes, kind, nullptr));
    if (now.error == cudaSuccess)
        run_all(&now.c.null_stream);
    return now.error;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    call now;
    if (now.error != cudaSuccess || bytes == 0)
        return now.error;
    if (!lies(now.c, p, bytes, true))
        return said(cudaErrorInvalidValue);
    return said(issue(stream, [p, value, bytes] { memset(p, value, bytes); }));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}
}
