/* Scratch memory of one step: reserved before it, handed out by a moving mark,
 * so that nothing is allocated while a step runs. One user at a time. */
#ifndef DEVICE_WORKSPACE_H
#define DEVICE_WORKSPACE_H

#include "device/device.h"

struct device_workspace {
    struct infer_device *device; /* not a reference */
    struct device_buffer buffer;
    size_t used; /* may be put back to an earlier value: what was taken since is free */
};

/* What a take of `bytes` uses up: plans add these. */
static inline size_t device_workspace_need(size_t bytes)
{
    return BASE_ALIGN_UP(bytes, (size_t)BASE_CACHE_LINE);
}

void device_workspace_init(struct device_workspace *ws, struct infer_device *device);
void device_workspace_release(struct device_workspace *ws);

/* Begins a step: everything taken before is free, and `bytes` can be taken.
 * Grows the buffer where it is too small; on failure the old one stays. */
infer_status device_workspace_reserve(struct device_workspace *ws, size_t bytes);

/* Memory aligned to BASE_CACHE_LINE, on the device, valid until the next
 * reserve. NULL (INTERNAL) beyond what was reserved: the plan was wrong. */
void *device_workspace_take(struct device_workspace *ws, size_t bytes);

#endif
