/* Records of the log: a write each, as it was asked for. Numbers are little-endian. */
#include "base/error.h"
#include "vector/state.h"

#include <string.h>

#define HEAD_BYTES   8 /* count, dims */
#define RECORD_BYTES 8 /* length of the namespace, of the id, 2 unused, of the metadata */

static void put_u32(uint8_t *out, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_u32(const uint8_t *in)
{
    return in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

struct reader {
    const uint8_t *data;
    size_t size, at;
    int32_t failed;
};

static const uint8_t *take(struct reader *r, size_t n)
{
    static const uint8_t zeros[RECORD_BYTES];
    if (r->failed || n > r->size - r->at) {
        r->failed = 1;
        return zeros;
    }
    const uint8_t *p = r->data + r->at;
    r->at += n;
    return p;
}

static struct base_view take_view(struct reader *r, size_t n)
{
    const uint8_t *p = take(r, n);
    return (struct base_view){(const char *)p, r->failed ? 0 : n};
}

static infer_status no_record(void)
{
    return base_error(INFER_ERR_FORMAT, "a record of the log does not say what it should");
}

/* -------------------------------------------------------------------- upserts */

infer_status index_log_upsert(struct vector_log *log, const struct base_alloc *a,
                              const struct index_input *inputs, int32_t n, int32_t dims,
                              uint64_t *end)
{
    size_t small = HEAD_BYTES;
    for (int32_t i = 0; i < n; i++)
        small += RECORD_BYTES + inputs[i].space.size + inputs[i].id.size;
    const size_t parts_bytes = (3 * (size_t)n + 1) * sizeof(struct vector_log_part);
    uint8_t *bytes = base_new_pages(a, small);
    struct vector_log_part *parts = base_new_pages(a, parts_bytes);
    infer_status st = INFER_ERR_NO_MEMORY;
    if (bytes && parts) {
        uint8_t *p = bytes;
        int32_t n_parts = 0;
        put_u32(p, (uint32_t)n);
        put_u32(p + 4, (uint32_t)dims);
        parts[n_parts++] = (struct vector_log_part){p, HEAD_BYTES};
        p += HEAD_BYTES;
        for (int32_t i = 0; i < n; i++) {
            const struct index_input *in = &inputs[i];
            uint8_t *begin = p;
            memset(p, 0, RECORD_BYTES);
            p[0] = (uint8_t)in->space.size;
            p[1] = (uint8_t)in->id.size;
            put_u32(p + 4, (uint32_t)in->metadata.size);
            p += RECORD_BYTES;
            if (in->space.size)
                memcpy(p, in->space.data, in->space.size);
            p += in->space.size;
            memcpy(p, in->id.data, in->id.size);
            p += in->id.size;
            parts[n_parts++] = (struct vector_log_part){begin, (size_t)(p - begin)};
            if (in->metadata.size)
                parts[n_parts++] = (struct vector_log_part){in->metadata.data, in->metadata.size};
            parts[n_parts++] = (struct vector_log_part){in->vector, (size_t)dims * sizeof(float)};
        }
        st = vector_log_append(log, INDEX_RECORD_UPSERT, parts, n_parts, end);
    }
    base_free_pages(a, parts, parts_bytes);
    base_free_pages(a, bytes, small);
    return st;
}

infer_status index_read_upsert(const struct base_alloc *a, const uint8_t *data, size_t size,
                               int32_t dims, struct index_input **inputs, int32_t *n)
{
    struct reader r = {.data = data, .size = size};
    const uint32_t count = get_u32(take(&r, 4));
    const uint32_t width = get_u32(take(&r, 4));
    const size_t least = RECORD_BYTES + 1 + (size_t)dims * sizeof(float);
    if (r.failed || width != (uint32_t)dims || !count || count > (size - r.at) / least)
        return no_record();
    struct index_input *in = base_new(a, count, sizeof *in);
    if (!in)
        return INFER_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *head = take(&r, RECORD_BYTES);
        in[i].space = take_view(&r, head[0]);
        in[i].id = take_view(&r, head[1]);
        in[i].metadata = take_view(&r, get_u32(head + 4));
        in[i].vector = take(&r, (size_t)dims * sizeof(float));
        if (!in[i].id.size)
            r.failed = 1;
    }
    if (r.failed || r.at != size) {
        base_free(a, in);
        return no_record();
    }
    *inputs = in;
    *n = (int32_t)count;
    return INFER_OK;
}

/* -------------------------------------------------------------------- deletes */

infer_status index_log_delete(struct vector_log *log, const struct base_alloc *a,
                              struct base_view space, const struct base_view *ids, int32_t n,
                              uint64_t *end)
{
    size_t size = 4 + 1 + space.size;
    for (int32_t i = 0; i < n; i++)
        size += 1 + ids[i].size;
    uint8_t *bytes = base_new_raw(a, size, 1);
    if (!bytes)
        return INFER_ERR_NO_MEMORY;
    uint8_t *p = bytes;
    put_u32(p, (uint32_t)n);
    p[4] = (uint8_t)space.size;
    p += 5;
    if (space.size)
        memcpy(p, space.data, space.size);
    p += space.size;
    for (int32_t i = 0; i < n; i++) {
        *p++ = (uint8_t)ids[i].size;
        memcpy(p, ids[i].data, ids[i].size);
        p += ids[i].size;
    }
    const struct vector_log_part part = {bytes, size};
    infer_status st = vector_log_append(log, INDEX_RECORD_DELETE, &part, 1, end);
    base_free(a, bytes);
    return st;
}

infer_status index_read_delete(const struct base_alloc *a, const uint8_t *data, size_t size,
                               struct base_view *space, struct base_view **ids, int32_t *n)
{
    struct reader r = {.data = data, .size = size};
    const uint32_t count = get_u32(take(&r, 4));
    *space = take_view(&r, *take(&r, 1));
    if (r.failed || count > (size - r.at) / 2)
        return no_record();
    struct base_view *list = base_new(a, count, sizeof *list);
    if (!list)
        return INFER_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        list[i] = take_view(&r, *take(&r, 1));
    if (r.failed || r.at != size) {
        base_free(a, list);
        return no_record();
    }
    *ids = list;
    *n = (int32_t)count;
    return INFER_OK;
}
