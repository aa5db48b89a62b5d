/* Pinned memory, copies that do not wait, events, and work that is kept to be done again. */
#include "device/cuda_device.h"

#include "base/error.h"

#include <cuda_runtime_api.h>

infer_status device_cuda_host_alloc(struct infer_device *device, size_t bytes, void **out)
{
    void *stream;
    infer_status st = device_cuda_enter(device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(device, (int32_t)cudaMallocHost(out, bytes ? bytes : 1),
                           "an allocation of pinned memory");
    device_cuda_leave(device);
    return st;
}

void device_cuda_host_free(struct infer_device *device, void *memory)
{
    void *stream;
    if (!memory || device_cuda_enter(device, &stream) != INFER_OK)
        return;
    if (cudaFreeHost(memory) != cudaSuccess)
        cudaGetLastError();
    device_cuda_leave(device);
}

static infer_status copy(struct infer_device *device, void *dst, const void *src, size_t bytes,
                         enum cudaMemcpyKind kind)
{
    void *stream;
    infer_status st = device_cuda_enter(device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(device, (int32_t)cudaMemcpyAsync(dst, src, bytes, kind, stream),
                           "a copy");
    device_cuda_leave(device);
    return st;
}

infer_status device_cuda_copy_in(struct infer_device *device, void *dst, const void *src,
                                 size_t bytes)
{
    return copy(device, dst, src, bytes, cudaMemcpyHostToDevice);
}

infer_status device_cuda_copy_out(struct infer_device *device, void *dst, const void *src,
                                  size_t bytes)
{
    return copy(device, dst, src, bytes, cudaMemcpyDeviceToHost);
}

infer_status device_cuda_copy_in_rows(struct infer_device *device, void *dst, const void *src,
                                      size_t pitch, size_t bytes, size_t n)
{
    void *stream;
    infer_status st = device_cuda_enter(device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(device,
                           (int32_t)cudaMemcpy2DAsync(dst, pitch, src, pitch, bytes, n,
                                                      cudaMemcpyHostToDevice, stream),
                           "a copy");
    device_cuda_leave(device);
    return st;
}

/* ------------------------------------------------------------------ events */

infer_status device_cuda_event_create(struct infer_device *device, void **event)
{
    void *stream;
    cudaEvent_t made = NULL;
    infer_status st = device_cuda_enter(device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(device, (int32_t)cudaEventCreateWithFlags(&made, cudaEventDisableTiming),
                           "making an event");
    device_cuda_leave(device);
    *event = st == INFER_OK ? made : NULL;
    return st;
}

infer_status device_cuda_event_record(struct infer_device *device, void *event)
{
    void *stream;
    infer_status st = device_cuda_enter(device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(device, (int32_t)cudaEventRecord(event, stream), "recording an event");
    device_cuda_leave(device);
    return st;
}

infer_status device_cuda_event_wait(struct infer_device *device, void *event)
{
    void *stream;
    infer_status st = device_cuda_enter(device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(device, (int32_t)cudaEventSynchronize(event), "the work");
    device_cuda_leave(device);
    return st;
}

void device_cuda_event_destroy(struct infer_device *device, void *event)
{
    void *stream;
    if (!event || device_cuda_enter(device, &stream) != INFER_OK)
        return;
    if (cudaEventDestroy(event) != cudaSuccess)
        cudaGetLastError();
    device_cuda_leave(device);
}

/* ------------------------------------------------------------------ graphs */

infer_status device_cuda_capture_begin(struct infer_device *device)
{
    void *stream;
    device_cuda_order_begin(device);
    infer_status st = device_cuda_enter(device, &stream);
    if (st == INFER_OK) {
        st = device_cuda_check(
            device, (int32_t)cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
            "capturing a step");
        device_cuda_leave(device);
    }
    if (st != INFER_OK)
        device_cuda_order_end(device);
    return st;
}

static infer_status end_capture(struct infer_device *device, void **out)
{
    void *stream;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    *out = NULL;
    infer_status st = device_cuda_enter(device, &stream);
    if (st != INFER_OK)
        return st;
    cudaError_t error = cudaStreamEndCapture(stream, &graph);
    if (error == cudaSuccess)
        error = cudaGraphInstantiate(&exec, graph, 0);
    if (graph && cudaGraphDestroy(graph) != cudaSuccess)
        cudaGetLastError();
    st = device_cuda_check(device, (int32_t)error, "capturing a step");
    device_cuda_leave(device);
    *out = exec;
    return st;
}

infer_status device_cuda_capture_end(struct infer_device *device, void **graph)
{
    infer_status st = end_capture(device, graph);
    device_cuda_order_end(device);
    return st;
}

infer_status device_cuda_graph_launch(struct infer_device *device, void *graph)
{
    void *stream;
    infer_status st = device_cuda_enter(device, &stream);
    if (st != INFER_OK)
        return st;
    st = device_cuda_check(device, (int32_t)cudaGraphLaunch(graph, stream), "a captured step");
    device_cuda_leave(device);
    return st;
}

void device_cuda_graph_free(struct infer_device *device, void *graph)
{
    if (!graph ||
        device_cuda_push(device) != INFER_OK) /* of a lost context too: it is the host's */
        return;
    if (cudaGraphExecDestroy(graph) != cudaSuccess)
        cudaGetLastError();
    device_cuda_pop(device);
}
