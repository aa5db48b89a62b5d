/* Public: <infer/device.h>. */
#include "device/device.h"

#include "base/thread.h"
#include "handle.h"

#include <infer/device.h>

/* More threads than any machine has processors is a mistake, not a wish. */
#define THREADS_MAX 4096

int32_t infer_device_count(void)
{
    return device_count();
}

infer_status infer_device_create(infer_device **out, int32_t index,
                                 const infer_device_options *options)
{
    REQUIRE(out);
    infer_device_options o;
    struct base_alloc alloc;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_device_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &base_alloc_default);
    if (st != INFER_OK)
        return st;
    if (o.n_threads < 0 || o.n_threads > THREADS_MAX)
        return base_error(INFER_ERR_INVALID, "n_threads is %d, expected 0 to %d", o.n_threads,
                          THREADS_MAX);
    if (o.pin_threads < 0 || o.pin_threads > 1 || o.reserved)
        return base_error(INFER_ERR_INVALID,
                          "pin_threads is %d, reserved %u, expected 0 or 1 and 0", o.pin_threads,
                          (unsigned)o.reserved);
    struct device_config config = {.index = index,
                                   .n_threads = o.n_threads,
                                   .pin_threads = o.pin_threads,
                                   .disabled_cpu_flags = o.disable_cpu_features,
                                   .budget_bytes = o.budget_bytes,
                                   .budgets = {[DEVICE_WEIGHTS] = o.weights_budget_bytes,
                                               [DEVICE_KV] = o.kv_budget_bytes,
                                               [DEVICE_WORKSPACE] = o.workspace_budget_bytes,
                                               [DEVICE_INDEX] = o.index_budget_bytes},
                                   .alloc = &alloc};
    return device_create(out, &config);
}

void infer_device_destroy(infer_device **device)
{
    if (device)
        device_release(device);
}

infer_status infer_device_get_info(const infer_device *device, infer_device_info *info)
{
    REQUIRE(device);
    struct device_description d;
    infer_status st = device_describe(device, &d);
    if (st != INFER_OK)
        return st;
    infer_device_info full = {
        .name = d.name,
        .kernels = device->kernels.name ? device->kernels.name : "",
        .total_bytes = d.total_bytes,
        .free_bytes = d.free_bytes,
        .kind = d.kind,
        .index = d.index,
        .n_threads = d.n_threads,
        .compute_capability = d.compute_capability,
        .used_bytes = d.used_bytes,
        .weights_bytes = d.used[DEVICE_WEIGHTS],
        .kv_bytes = d.used[DEVICE_KV],
        .workspace_bytes = d.used[DEVICE_WORKSPACE],
        .index_bytes = d.used[DEVICE_INDEX],
    };
    return base_info_copy(info, &full, sizeof full, "infer_device_info");
}
