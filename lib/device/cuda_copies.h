/* Lists of ranges between a GPU and the host by its copy engines, beside the stream that computes:
 * pinned pieces in turn, on a stream for each direction. What `struct device_ops` says of fetches
 * and of put. Safe from any thread. */
#ifndef DEVICE_CUDA_COPIES_H
#define DEVICE_CUDA_COPIES_H

#include "device/device.h"

/* Pinned memory of a device, allocated when something is moved for the first time: one that is
 * filled while one is emptied, for two who move at the same time. */
#define CUDA_COPIES_PIECES      4
#define CUDA_COPIES_PIECE_BYTES ((size_t)4 << 20)

struct cuda_copies;

infer_status cuda_copies_create(struct cuda_copies **out, const struct base_alloc *a);
/* With the device's context current, when nobody moves anything. NULL-safe, sets NULL. */
void cuda_copies_destroy(struct cuda_copies **copies);

/* Those of a GPU. */
struct cuda_copies *device_cuda_copies(const struct infer_device *device);
infer_status cuda_copies_fetch_begin(struct device_fetch *fetch);
infer_status cuda_copies_fetch_order(struct device_fetch *fetch);
infer_status cuda_copies_fetch_end(struct device_fetch *fetch);
infer_status cuda_copies_put(struct device_buffer *to, const struct device_range *ranges,
                             int32_t n);

#endif
