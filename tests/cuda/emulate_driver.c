/* The part of libcuda.so.1 that lib/device/cuda.c opens: a stack of contexts for each thread. The
 * contexts are those of emulate_context.cpp, which says how they are made. */
#include <cuda.h>

#define DEPTH_MAX 64

static _Thread_local CUcontext stack[DEPTH_MAX];
static _Thread_local int depth;

static int (*make)(void **context), (*drop)(void *context), (*lives)(void *context);

void emulated_attach(int (*create)(void **), int (*destroy)(void *), int (*live)(void *));
CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device);

void emulated_attach(int (*create)(void **), int (*destroy)(void *), int (*live)(void *))
{
    make = create;
    drop = destroy;
    lives = live;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    if (!make)
        return CUDA_ERROR_NOT_INITIALIZED;
    *device = ordinal;
    return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

/* cuda.h spells some of them with the suffix of their version. */
CUresult cuCtxGetCurrent(CUcontext *context)
{
    *context = depth > 0 ? stack[depth - 1] : NULL;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context)
{
    if (depth == DEPTH_MAX || !context)
        return CUDA_ERROR_INVALID_VALUE;
    if (!lives(context))
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context)
{
    if (depth == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    *context = stack[--depth];
    return CUDA_SUCCESS;
}

/* It is current to the thread then. */
CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device)
{
    void *made = NULL;
    (void)flags;
    if (!make)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (device != 0 || depth == DEPTH_MAX)
        return CUDA_ERROR_INVALID_DEVICE;
    const int error = make(&made); /* numbers are those of the runtime */
    if (error)
        return (CUresult)error;
    *context = stack[depth++] = made;
    return CUDA_SUCCESS;
}

/* Other threads keep it on their stacks, and are told when they use it. */
CUresult cuCtxDestroy(CUcontext context)
{
    const int error = drop ? drop(context) : CUDA_ERROR_NOT_INITIALIZED;
    if (!error && depth > 0 && stack[depth - 1] == context)
        depth--;
    return (CUresult)error;
}
