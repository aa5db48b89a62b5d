/* The CUDA runtime over the host's memory: contexts, their loss, and calls that fail on order. */
#include "cuda/emulate_card.h"

#include <dlfcn.h>

#define POISON_BYTES_MAX ((size_t)8 << 20)

/* Outlives every destructor that may still free memory. */
card &the_card(void)
{
    static card *one = new card;
    return *one;
}

/* ---------------------------------------------------------------- the driver */

static int create_context(void **out)
{
    call now(false);
    if (now.error != cudaSuccess)
        return (int)now.error;
    context *made = new context;
    now.c.live.insert(made);
    *out = made;
    return cudaSuccess;
}

static int destroy_context(void *handle)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    if (!c.live.count((context *)handle))
        return cudaErrorDeviceUninitialized; /* in the driver's words: an invalid context */
    destroy(c, (context *)handle);
    return cudaSuccess;
}

static int is_live(void *handle)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    return c.live.count((context *)handle) != 0;
}

/* The stack of contexts is the driver's, as on a card; without an emulated one there is the primary
 * context alone. */
static void attach(card *c)
{
    typedef void attach_fn(int (*create)(void **), int (*destroy)(void *), int (*live)(void *));
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    attach_fn *attached = driver ? (attach_fn *)dlsym(driver, "emulated_attach") : nullptr;
    if (!attached)
        return;
    attached(create_context, destroy_context, is_live);
    c->driver_current = (int (*)(void **))dlsym(driver, "cuCtxGetCurrent");
}

card::card()
{
    long n = 0;
    int number = 0;
    const char *failing = getenv("EMULATED_FAIL_AFTER");
    if (failing && sscanf(failing, "%ld,%d", &n, &number) == 2) {
        fail_at = n;
        fail_with = (cudaError_t)number;
    }
    const char *first = getenv("EMULATED_ORDER");
    if (first && !strcmp(first, "eager"))
        order = EMULATED_EAGER;
    if (first && !strcmp(first, "newest"))
        order = EMULATED_NEWEST;
    if (first && !strcmp(first, "oldest"))
        order = EMULATED_OLDEST;
    if (first && !strncmp(first, "random", 6)) {
        order = EMULATED_RANDOM;
        random = first[6] == ':' ? strtoull(first + 7, nullptr, 10) : 1;
    }
    attach(this);
}

/* ------------------------------------------------------------------ contexts */

static context *said_by_driver(card &c)
{
    void *handle = nullptr;
    if (c.driver_current)
        c.driver_current(&handle);
    return (context *)handle;
}

context *current(card &c)
{
    context *ctx = said_by_driver(c);
    if (ctx)
        return c.live.count(ctx) ? ctx : nullptr;
    if (!c.primary) {
        c.primary = new context;
        c.live.insert(c.primary);
    }
    return c.primary;
}

/* Work of a lost context is never done, that of another one before it goes. What anybody still
 * holds of its memory, on either side, is poison. */
void destroy(card &c, context *ctx)
{
    run_context(*ctx);
    for (const std::shared_ptr<capture> &one : ctx->captures)
        delete one->graph;
    ctx->captures.clear();
    for (CUstream_st *s : ctx->streams)
        if (s != &ctx->null_stream)
            delete s;
    ctx->streams.clear();
    for (CUevent_st *event : ctx->events)
        delete event;
    ctx->events.clear();
    for (const auto &one : ctx->memory) {
        if (one.second.registered)
            continue;
        if (one.second.bytes <= POISON_BYTES_MAX)
            memset((void *)one.first, 0xff, one.second.bytes);
        free((void *)one.first);
        if (!one.second.host)
            c.used -= one.second.bytes;
    }
    ctx->memory.clear();
    c.live.erase(ctx);
    c.dead.push_back(ctx);
    if (c.primary == ctx)
        c.primary = nullptr;
}

/* -------------------------------------------------------------------- errors */

thread_local static cudaError_t last_error = cudaSuccess;

cudaError_t said(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

bool is_final(cudaError_t error)
{
    return error == cudaErrorLaunchFailure || error == cudaErrorIllegalAddress;
}

call::call(bool in_context)
    : c(the_card()), hold(c.lock), ctx(in_context ? current(c) : nullptr), error(cudaSuccess)
{
    if (in_context && !ctx)
        error = cudaErrorContextIsDestroyed;
    else if (in_context)
        error = ctx->lost;
    if (++c.calls == c.fail_at && error == cudaSuccess) {
        error = c.fail_with;
        if (ctx && is_final(error))
            ctx->lost = error;
    }
    said(error);
}

extern "C" {

void emulated_fail_after(long n, cudaError_t error)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    c.fail_at = n > 0 ? c.calls + n : 0;
    c.fail_with = error;
}

long emulated_calls(void)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    return c.calls;
}

int emulated_contexts(void)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    return (int)c.live.size();
}

int32_t emulated_lose(void *stream)
{
    call now;
    if (now.error != cudaSuccess)
        return (int32_t)now.error;
    context *ctx = now.ctx;
    return (int32_t)said(
        issue(*ctx, (cudaStream_t)stream, [ctx] { ctx->lost = cudaErrorIllegalAddress; }));
}

void emulated_set_order(enum emulated_order order, uint64_t seed)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    c.order = order;
    c.random = seed;
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

cudaError_t cudaDeviceReset(void)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    if (said_by_driver(c))
        return said(
            cudaErrorNotSupported); /* a context that another has made is not its to reset */
    if (c.primary)
        destroy(c, c.primary);
    last_error = cudaSuccess;
    return cudaSuccess;
}

/* That of a lost context is never forgotten. */
cudaError_t cudaGetLastError(void)
{
    card &c = the_card();
    std::lock_guard<std::recursive_mutex> hold(c.lock);
    context *ctx = said_by_driver(c);
    ctx = ctx ? ctx : c.primary;
    const cudaError_t error = last_error;
    last_error = ctx && c.live.count(ctx) ? ctx->lost : cudaSuccess;
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
    case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
    case cudaErrorContextIsDestroyed:
        return "cudaErrorContextIsDestroyed";
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
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    default:
        return cudaGetErrorName(error);
    }
}
}
