/* Memory of a device: ranges are checked here, once for all kinds, and the
 * byte budget is kept. */
#include "base/error.h"
#include "device/backend.h"

infer_status device_budget_take(struct infer_device *device, size_t bytes)
{
    const uint64_t budget = device->budget_bytes ? device->budget_bytes : UINT64_MAX;
    uint64_t used = atomic_load_explicit(&device->used_bytes, memory_order_relaxed);
    do {
        if (bytes > budget - used)
            return base_error(INFER_ERR_LIMIT,
                              "a buffer of %zu bytes on %s passes the budget of %llu bytes, of "
                              "which %llu are used",
                              bytes, device->name, (unsigned long long)budget,
                              (unsigned long long)used);
    } while (!atomic_compare_exchange_weak_explicit(&device->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return INFER_OK;
}

void device_budget_give(struct infer_device *device, size_t bytes)
{
    atomic_fetch_sub_explicit(&device->used_bytes, bytes, memory_order_relaxed);
}

static infer_status check_range(const struct device_buffer *buffer, size_t offset, size_t bytes)
{
    if (offset <= buffer->bytes && bytes <= buffer->bytes - offset)
        return INFER_OK;
    return base_error(INFER_ERR_INVALID,
                      "bytes %zu to %zu + %zu lie outside a device buffer of %zu bytes", offset,
                      offset, bytes, buffer->bytes);
}

infer_status device_buffer_alloc(struct infer_device *device, size_t bytes,
                                 struct device_buffer *out)
{
    return device->ops->buffer_alloc(device, bytes, out);
}

void device_buffer_free(struct device_buffer *buffer)
{
    if (!buffer || !buffer->data)
        return;
    buffer->device->ops->buffer_free(buffer);
    *buffer = (struct device_buffer){0};
}

infer_status device_buffer_upload(struct device_buffer *dst, size_t offset, const void *src,
                                  size_t bytes)
{
    infer_status st = check_range(dst, offset, bytes);
    if (st != INFER_OK || bytes == 0)
        return st;
    return dst->device->ops->upload(dst, offset, src, bytes);
}

infer_status device_buffer_download(void *dst, const struct device_buffer *src, size_t offset,
                                    size_t bytes)
{
    infer_status st = check_range(src, offset, bytes);
    if (st != INFER_OK || bytes == 0)
        return st;
    return src->device->ops->download(dst, src, offset, bytes);
}

infer_status device_buffer_copy(struct device_buffer *dst, size_t dst_offset,
                                const struct device_buffer *src, size_t src_offset, size_t bytes)
{
    infer_status st = check_range(dst, dst_offset, bytes);
    if (st == INFER_OK)
        st = check_range(src, src_offset, bytes);
    if (st != INFER_OK || bytes == 0)
        return st;
    if (dst->device != src->device)
        return base_error(INFER_ERR_INVALID, "a copy from %s to %s, expected one device",
                          src->device->name, dst->device->name);
    if (dst->data == src->data && dst_offset < src_offset + bytes &&
        src_offset < dst_offset + bytes)
        return base_error(INFER_ERR_INVALID,
                          "a copy of %zu bytes from %zu to %zu within one buffer overlaps", bytes,
                          src_offset, dst_offset);
    return dst->device->ops->copy(dst, dst_offset, src, src_offset, bytes);
}

infer_status device_buffer_fill(struct device_buffer *dst, size_t offset, uint8_t value,
                                size_t bytes)
{
    infer_status st = check_range(dst, offset, bytes);
    if (st != INFER_OK || bytes == 0)
        return st;
    return dst->device->ops->fill(dst, offset, value, bytes);
}
