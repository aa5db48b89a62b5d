/* Devices by number: the CPU, then the GPUs; creation and references. */
#include "base/error.h"
#include "base/thread.h"
#include "device/backend.h"

#include <string.h>

int32_t device_count(void)
{
    return 1 + device_cuda_count();
}

infer_status device_create(struct infer_device **out, const struct device_config *config)
{
    /* Counting loads the GPU driver: not unless a GPU is asked for. */
    const int32_t last = config->index > 0 ? device_count() - 1 : 0;
    if (config->index < 0 || config->index > last)
        return base_error(INFER_ERR_INVALID, "device %d does not exist, expected 0 (CPU) to %d",
                          config->index, device_count() - 1);
    const struct base_alloc *a = config->alloc ? config->alloc : &base_alloc_default;
    struct infer_device *device = base_new(a, 1, sizeof *device);
    if (!device)
        return INFER_ERR_NO_MEMORY;
    device->alloc = *a;
    device->index = config->index;
    device->budget_bytes = config->budget_bytes;
    memcpy(device->budgets, config->budgets, sizeof device->budgets);
    atomic_init(&device->refs, 1);
    atomic_init(&device->used_bytes, 0);
    for (int i = 0; i < DEVICE_PURPOSES; i++)
        atomic_init(&device->used[i], 0);
    infer_status st = config->index == 0 ? device_cpu_open(device, config)
                                         : device_cuda_open(device, config->index - 1);
    if (st != INFER_OK) {
        base_free(a, device);
        return st;
    }
    *out = device;
    return INFER_OK;
}

struct infer_device *device_retain(struct infer_device *device)
{
    atomic_fetch_add_explicit(&device->refs, 1, memory_order_relaxed);
    return device;
}

void device_release(struct infer_device **device_ptr)
{
    struct infer_device *device = *device_ptr;
    *device_ptr = NULL;
    if (!device || atomic_fetch_sub_explicit(&device->refs, 1, memory_order_acq_rel) != 1)
        return;
    device->ops->destroy(device);
    const struct base_alloc a = device->alloc;
    base_free(&a, device);
}

infer_status device_describe(const struct infer_device *device, struct device_description *out)
{
    struct device_description d = {
        .name = device->name,
        .used_bytes = atomic_load_explicit(&device->used_bytes, memory_order_relaxed),
        .kind = device->kind,
        .index = device->index,
        .n_threads = device->pool ? base_pool_threads(device->pool) : 0,
        .compute_capability = device->compute_capability,
    };
    for (int i = 0; i < DEVICE_PURPOSES; i++)
        d.used[i] = atomic_load_explicit(&device->used[i], memory_order_relaxed);
    infer_status st = device->ops->memory(device, &d.total_bytes, &d.free_bytes);
    if (st == INFER_OK)
        *out = d;
    return st;
}
