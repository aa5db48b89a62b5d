/* What an NVIDIA GPU has beside the common table. A handle has a CUDA context of its own: memory of
 * the card, pinned memory, streams and events are good for this handle alone and until it goes,
 * which is when the last who holds it does. */
#ifndef DEVICE_CUDA_DEVICE_H
#define DEVICE_CUDA_DEVICE_H

#include "device/device.h"

struct kern_cuda;

/* The launchers that this GPU can run; NULL for another kind of device. */
const struct kern_cuda *device_cuda_kernels(const struct infer_device *device);

/* Launchers need the device's context: enter, launch, leave. `stream` receives
 * the cudaStream_t in which all work of this device follows in order. The
 * thread's own CUDA context, if the host uses one, is put back by leave. */
infer_status device_cuda_enter(struct infer_device *device, void **stream);
void device_cuda_leave(struct infer_device *device);

/* The same for what leaves the stream alone: a step may be captured meanwhile, and the context may
 * be lost, whose objects of the host are freed as ever. */
infer_status device_cuda_push(const struct infer_device *device);
void device_cuda_pop(const struct infer_device *device);

/* For capturing: nobody else is in, or comes in, until the end. */
void device_cuda_order_begin(struct infer_device *device);
void device_cuda_order_end(struct infer_device *device);

/* A launcher's answer as a status with a sentence; `what` names the kernel. */
infer_status device_cuda_check(const struct infer_device *device, int32_t launched,
                               const char *what);

/* Memory of the host that the card reads and writes by itself. NULL-safe. */
infer_status device_cuda_host_alloc(struct infer_device *device, size_t bytes, void **out);
void device_cuda_host_free(struct infer_device *device, void *memory);

/* Copies between such memory and the card's, in the order of the stream and without waiting: the
 * host's side must stay as it is until the work is done. */
infer_status device_cuda_copy_in(struct infer_device *device, void *dst, const void *src,
                                 size_t bytes);
infer_status device_cuda_copy_out(struct infer_device *device, void *dst, const void *src,
                                  size_t bytes);
/* The first `bytes` of each of n rows that start `pitch` bytes apart on both sides. */
infer_status device_cuda_copy_in_rows(struct infer_device *device, void *dst, const void *src,
                                      size_t pitch, size_t bytes, size_t n);

/* A place in the stream, to be waited for: what was put in before is done then, what follows may
 * not be. Recording it again moves it. Destroying is NULL-safe. */
infer_status device_cuda_event_create(struct infer_device *device, void **event);
infer_status device_cuda_event_record(struct infer_device *device, void *event);
infer_status device_cuda_event_wait(struct infer_device *device, void *event);
void device_cuda_event_destroy(struct infer_device *device, void *event);

/* Work between begin and end is not done but kept, to be done by each launch. Between them the
 * thread allocates nothing and waits for nothing, and other threads wait before they enter. Not
 * within enter and leave. On an error of begin there is no end; on one of end nothing is kept. */
infer_status device_cuda_capture_begin(struct infer_device *device);
infer_status device_cuda_capture_end(struct infer_device *device, void **graph);
infer_status device_cuda_graph_launch(struct infer_device *device, void *graph);
void device_cuda_graph_free(struct infer_device *device, void *graph); /* NULL-safe */

#endif
