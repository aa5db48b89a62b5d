/* Memory of a device: ranges are checked here, once for all kinds, and the
 * byte budget is kept. */
#include "base/error.h"
#include "device/device.h"

static infer_status take(const struct infer_device *device, _Atomic uint64_t *used, uint64_t budget,
                         size_t bytes, const char *what)
{
    uint64_t before = atomic_load_explicit(used, memory_order_relaxed);
    budget = budget ? budget : UINT64_MAX;
    do {
        if (bytes > budget - before)
            return base_error(INFER_ERR_LIMIT,
                              "a buffer of %zu bytes on %s passes the budget of %llu bytes%s, of "
                              "which %llu are used",
                              bytes, device->name, (unsigned long long)budget, what,
                              (unsigned long long)before);
    } while (!atomic_compare_exchange_weak_explicit(used, &before, before + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return INFER_OK;
}

static void give(_Atomic uint64_t *used, size_t bytes)
{
    atomic_fetch_sub_explicit(used, bytes, memory_order_relaxed);
}

static infer_status take_both(struct infer_device *device, enum device_purpose purpose,
                              size_t bytes)
{
    static const char *const names[] = {" for weights", " for KV caches", " for steps",
                                        " for indexes"};
    infer_status st = take(device, &device->used_bytes, device->budget_bytes, bytes, "");
    if (st != INFER_OK)
        return st;
    st = take(device, &device->used[purpose], device->budgets[purpose], bytes, names[purpose]);
    if (st != INFER_OK)
        give(&device->used_bytes, bytes);
    return st;
}

static void give_both(struct infer_device *device, enum device_purpose purpose, size_t bytes)
{
    give(&device->used[purpose], bytes);
    give(&device->used_bytes, bytes);
}

static infer_status check_range(const struct device_buffer *buffer, size_t offset, size_t bytes)
{
    if (offset <= buffer->bytes && bytes <= buffer->bytes - offset)
        return INFER_OK;
    return base_error(INFER_ERR_INVALID,
                      "bytes %zu to %zu + %zu lie outside a device buffer of %zu bytes", offset,
                      offset, bytes, buffer->bytes);
}

infer_status device_buffer_alloc(struct infer_device *device, enum device_purpose purpose,
                                 size_t bytes, struct device_buffer *out)
{
    infer_status st = take_both(device, purpose, bytes);
    if (st != INFER_OK)
        return st;
    st = device->ops->buffer_alloc(device, bytes, out);
    if (st == INFER_OK)
        out->purpose = purpose;
    else
        give_both(device, purpose, bytes);
    return st;
}

void device_buffer_free(struct device_buffer *buffer)
{
    if (!buffer || !buffer->data)
        return;
    buffer->device->ops->buffer_free(buffer);
    give_both(buffer->device, buffer->purpose, buffer->bytes);
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

/* ------------------------------------------------------------------------ lists */

static infer_status check_ranges(const struct device_buffer *buffer,
                                 const struct device_range *ranges, int32_t n)
{
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < n && st == INFER_OK; i++)
        st = check_range(buffer, ranges[i].at, ranges[i].bytes);
    return st;
}

infer_status device_fetch_begin(struct device_fetch *f, const struct device_buffer *from,
                                const struct device_range *ranges, int32_t n)
{
    *f = (struct device_fetch){.from = from, .ranges = ranges, .n = n};
    infer_status st = check_ranges(from, ranges, n);
    if (st != INFER_OK || !n) {
        f->n = 0;
        return st;
    }
    st = from->device->ops->fetch_begin(f);
    if (st != INFER_OK)
        f->n = f->launched.i; /* the rest is not tried again */
    return st;
}

int32_t device_fetch_launched(const struct device_fetch *f)
{
    return f->launched.i;
}

infer_status device_fetch_order(struct device_fetch *f)
{
    return f->n ? f->from->device->ops->fetch_order(f) : INFER_OK;
}

infer_status device_fetch_end(struct device_fetch *f)
{
    infer_status st = f->n || f->n_pieces ? f->from->device->ops->fetch_end(f) : INFER_OK;
    f->n = 0;
    return st;
}

infer_status device_buffer_put(struct device_buffer *to, const struct device_range *ranges,
                               int32_t n)
{
    infer_status st = check_ranges(to, ranges, n);
    return st == INFER_OK && n ? to->device->ops->put(to, ranges, n) : st;
}
