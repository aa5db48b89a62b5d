/* The part of libcuda.so.1 that lib/device/cuda.c opens: a stack of contexts for each thread. */
#include <cuda.h>

#define DEPTH_MAX 64

static _Thread_local CUcontext stack[DEPTH_MAX];
static _Thread_local int depth;

/* cuda.h spells some of them with the suffix of their version. */
CUresult cuCtxGetCurrent(CUcontext *context)
{
    *context = depth > 0 ? stack[depth - 1] : NULL;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    if (depth == 0)
        depth = 1;
    stack[depth - 1] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context)
{
    if (depth == DEPTH_MAX || !context)
        return CUDA_ERROR_INVALID_VALUE;
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
