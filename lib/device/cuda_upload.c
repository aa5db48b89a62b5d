/* Pinned pieces in turn, each filled by all threads and fetched by the copy engine. */
#include "device/cuda_upload.h"

#include "base/error.h"
#include "base/thread.h"
#include "device/cuda_device.h"

#include <cuda_runtime_api.h>
#include <string.h>

#define PIECES      4
#define PIECE_BYTES ((size_t)16 << 20)
/* Reading memory and writing it pinned takes several processors to keep up with the bus. */
#define THREADS_MAX 8
#define GRAIN_BYTES ((size_t)64 << 10)

struct device_upload {
    struct infer_device *device;
    struct base_alloc alloc;
    struct base_pool *pool;
    uint8_t *pinned;
    cudaEvent_t fetched[PIECES];
    int32_t n_events;
    int32_t next;
    int32_t in_use[PIECES];
};

static infer_status check(const struct device_upload *u, cudaError_t error)
{
    return device_cuda_check(u->device, (int32_t)error, "an upload");
}

static infer_status make_events(struct device_upload *u)
{
    void *stream;
    infer_status st = device_cuda_enter(u->device, &stream);
    if (st != INFER_OK)
        return st;
    for (; u->n_events < PIECES && st == INFER_OK; u->n_events += st == INFER_OK)
        st = check(u, cudaEventCreateWithFlags(&u->fetched[u->n_events], cudaEventDisableTiming));
    device_cuda_leave(u->device);
    return st;
}

infer_status device_upload_create(struct device_upload **out, struct infer_device *device)
{
    struct device_upload *u = base_new(&device->alloc, 1, sizeof *u);
    void *pinned = NULL;
    if (!u)
        return INFER_ERR_NO_MEMORY;
    u->device = device;
    u->alloc = device->alloc;
    infer_status st =
        base_pool_create(&u->pool, &u->alloc, BASE_MIN(base_cpu_count(), THREADS_MAX), NULL);
    if (st == INFER_OK)
        st = device_cuda_host_alloc(device, PIECES * PIECE_BYTES, &pinned);
    u->pinned = pinned;
    if (st == INFER_OK)
        st = make_events(u);
    if (st != INFER_OK)
        device_upload_destroy(&u);
    else
        *out = u;
    return st;
}

struct fill_job {
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
};

static void run_fill(void *arg, int32_t begin, int32_t end, int32_t thread)
{
    const struct fill_job *job = arg;
    size_t at = (size_t)begin * GRAIN_BYTES, to = BASE_MIN((size_t)end * GRAIN_BYTES, job->bytes);
    BASE_UNUSED(thread);
    memcpy(job->to + at, job->from + at, to - at);
}

static infer_status put_piece(struct device_upload *u, uint8_t *dst, const uint8_t *src,
                              size_t bytes)
{
    int32_t i = u->next;
    struct fill_job job = {u->pinned + (size_t)i * PIECE_BYTES, src, bytes};
    void *stream;
    infer_status st = device_cuda_enter(u->device, &stream);
    if (st != INFER_OK)
        return st;
    if (u->in_use[i])
        st = check(u, cudaEventSynchronize(u->fetched[i]));
    if (st == INFER_OK) {
        base_pool_run(u->pool, run_fill, &job, (int32_t)BASE_DIV_UP(bytes, GRAIN_BYTES), 1);
        st = check(u, cudaMemcpyAsync(dst, job.to, bytes, cudaMemcpyHostToDevice, stream));
    }
    if (st == INFER_OK)
        st = check(u, cudaEventRecord(u->fetched[i], stream));
    device_cuda_leave(u->device);
    u->in_use[i] = 1;
    u->next = (i + 1) % PIECES;
    return st;
}

infer_status device_upload_put(struct device_upload *u, void *dst, const void *src, size_t bytes)
{
    infer_status st = INFER_OK;
    for (size_t at = 0; at < bytes && st == INFER_OK; at += PIECE_BYTES)
        st = put_piece(u, (uint8_t *)dst + at, (const uint8_t *)src + at,
                       BASE_MIN(PIECE_BYTES, bytes - at));
    return st;
}

infer_status device_upload_destroy(struct device_upload **upload)
{
    struct device_upload *u = *upload;
    void *stream;
    *upload = NULL;
    if (!u)
        return INFER_OK;
    struct base_alloc alloc = u->alloc;
    infer_status st = u->device->ops->sync(u->device);
    if (device_cuda_enter(u->device, &stream) == INFER_OK) {
        for (int32_t i = 0; i < u->n_events; i++)
            if (cudaEventDestroy(u->fetched[i]) != cudaSuccess)
                cudaGetLastError();
        device_cuda_leave(u->device);
    }
    device_cuda_host_free(u->device, u->pinned);
    base_pool_destroy(&u->pool);
    base_free(&alloc, u);
    return st;
}
