/* The CUDA runtime over the host's memory, for programs whose kernels are emulated: the device and
 * memory. */
#include "cuda/emulate_card.h"

#define POISON_BYTES_MAX ((size_t)8 << 20) /* what is longer is pages that nobody may touch */

namespace
{
struct place {
    context *owner; /* NULL: memory that the runtime did not give */
    const allocation *a;
    uintptr_t begin;
};

place find(card &c, const void *p)
{
    for (context *ctx : c.live) {
        auto after = ctx->memory.upper_bound((uintptr_t)p);
        if (after == ctx->memory.begin())
            continue;
        --after;
        if ((uintptr_t)p < after->first + after->second.bytes || (uintptr_t)p == after->first)
            return {ctx, &after->second, after->first};
    }
    return {nullptr, nullptr, 0};
}

/* Whether [p, p + bytes) lies on the side that it is said to, which on the card's is the context's
 * own memory. */
bool lies(const call &now, const void *p, size_t bytes, bool device)
{
    const place at = find(now.c, p);
    if (!at.owner || at.a->host)
        return !device;
    return device && at.owner == now.ctx && bytes <= at.begin + at.a->bytes - (uintptr_t)p;
}

bool is_pinned(card &c, const void *p)
{
    const place at = find(c, p);
    return at.owner && at.a->host;
}

cudaError_t allocate(const call &now, void **p, size_t bytes, bool host)
{
    card &c = now.c;
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
    now.ctx->memory[(uintptr_t)*p] = {bytes, host, false};
    if (!host)
        c.used += bytes;
    return cudaSuccess;
}

/* A call that fails on order frees all the same; a lost context keeps all until it is destroyed. */
cudaError_t release(const call &now, void *p, bool host)
{
    if (!p)
        return now.error;
    if (!now.ctx || now.ctx->lost)
        return now.error;
    auto found = now.ctx->memory.find((uintptr_t)p);
    if (found == now.ctx->memory.end() || found->second.host != host || found->second.registered)
        return said(cudaErrorInvalidValue);
    run_context(*now.ctx);
    if (now.ctx->lost)
        return now.end();
    if (!host)
        now.c.used -= found->second.bytes;
    now.ctx->memory.erase(found);
    free(p);
    return now.error;
}

cudaError_t copy(const call &now, void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                 cudaStream_t stream)
{
    context &ctx = *now.ctx;
    if (bytes == 0)
        return cudaSuccess;
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyDefault &&
        (!lies(now, dst, bytes, to_device) || !lies(now, src, bytes, from_device)))
        return cudaErrorInvalidValue;
    CUstream_st *s = stream_of(ctx, stream);
    const bool captured = knows(ctx, s) && s->captured;
    /* Pageable memory is staged: read before the call returns, or written before it does. */
    if (!captured && lies(now, src, bytes, false) && !is_pinned(now.c, src)) {
        const unsigned char *from = (const unsigned char *)src;
        auto staged = std::make_shared<std::vector<unsigned char>>(from, from + bytes);
        return issue(ctx, stream, [dst, staged] { memcpy(dst, staged->data(), staged->size()); });
    }
    cudaError_t error = issue(ctx, stream, [dst, src, bytes] { memmove(dst, src, bytes); });
    if (error == cudaSuccess && !captured && lies(now, dst, bytes, false) &&
        !is_pinned(now.c, dst)) {
        run_all(s);
        error = ctx.lost;
    }
    return error;
}
} // namespace

extern "C" {

/* ----------------------------------------------------------------- device */

cudaError_t cudaGetDeviceCount(int *n)
{
    the_card(); /* from here on the driver is initialised */
    *n = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *ordinal)
{
    *ordinal = 0;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int ordinal)
{
    call now(false);
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
    call now(false);
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
        now.error = said(unsafe(*now.ctx));
    if (now.error == cudaSuccess)
        run_context(*now.ctx);
    return now.end();
}

cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int)
{
    call now;
    return now.error;
}

/* ----------------------------------------------------------------- memory */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    call now;
    if (now.error == cudaSuccess)
        now.error = said(unsafe(*now.ctx));
    return now.error == cudaSuccess ? said(allocate(now, p, bytes, false)) : now.error;
}

cudaError_t cudaFree(void *p)
{
    call now;
    cudaError_t error = said(p && now.ctx ? unsafe(*now.ctx) : cudaSuccess);
    return error == cudaSuccess ? release(now, p, false) : error;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, 0);
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    call now;
    if (now.error == cudaSuccess)
        now.error = said(unsafe(*now.ctx));
    return now.error == cudaSuccess ? said(allocate(now, p, bytes, true)) : now.error;
}

cudaError_t cudaFreeHost(void *p)
{
    call now;
    return release(now, p, true);
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    if (!p || bytes == 0 || find(now.c, p).owner)
        return said(cudaErrorInvalidValue);
    now.ctx->memory[(uintptr_t)p] = {bytes, true, true};
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
    call now;
    if (now.error != cudaSuccess)
        return now.error;
    auto found = now.ctx->memory.find((uintptr_t)p);
    if (found == now.ctx->memory.end() || !found->second.registered)
        return said(cudaErrorInvalidValue);
    run_context(*now.ctx);
    now.ctx->memory.erase(found);
    return now.end();
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    call now;
    return now.error == cudaSuccess ? said(copy(now, dst, src, bytes, kind, stream)) : now.error;
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
        now.error = said(unsafe(*now.ctx));
    if (now.error == cudaSuccess)
        now.error = said(copy(now, dst, src, bytes, kind, nullptr));
    if (now.error == cudaSuccess)
        run_all(&now.ctx->null_stream);
    return now.end();
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    call now;
    if (now.error != cudaSuccess || bytes == 0)
        return now.error;
    if (!lies(now, p, bytes, true))
        return said(cudaErrorInvalidValue);
    return said(issue(*now.ctx, stream, [p, value, bytes] { memset(p, value, bytes); }));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}
}
