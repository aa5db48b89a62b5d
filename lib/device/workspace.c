/* Scratch memory of one step: one growable buffer and a mark. */
#include "device/workspace.h"

#include "base/error.h"

void device_workspace_init(struct device_workspace *ws, struct infer_device *device)
{
    *ws = (struct device_workspace){.device = device};
}

void device_workspace_release(struct device_workspace *ws)
{
    device_buffer_free(&ws->buffer);
    ws->used = 0;
}

infer_status device_workspace_reserve(struct device_workspace *ws, size_t bytes)
{
    if (bytes > ws->buffer.bytes) {
        struct device_buffer larger;
        infer_status st = device_buffer_alloc(ws->device, DEVICE_WORKSPACE, bytes, &larger);
        if (st != INFER_OK)
            return st;
        device_buffer_free(&ws->buffer);
        ws->buffer = larger;
    }
    ws->used = 0;
    return INFER_OK;
}

void *device_workspace_take(struct device_workspace *ws, size_t bytes)
{
    const size_t left = ws->buffer.bytes - ws->used;
    if (bytes > left) {
        base_error(INFER_ERR_INTERNAL,
                   "a step takes %zu bytes of scratch memory, its plan left %zu", bytes, left);
        return NULL;
    }
    void *p = (char *)ws->buffer.data + ws->used;
    ws->used += BASE_MIN(device_workspace_need(bytes), left);
    return p;
}
