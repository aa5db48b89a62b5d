/* Caller's buffers and KV types. */
#include "handle.h"

#include <string.h>

static const infer_dtype kv_types[] = {
    [INFER_KV_F32] = INFER_DTYPE_F32,   [INFER_KV_F16] = INFER_DTYPE_F16,
    [INFER_KV_BF16] = INFER_DTYPE_BF16, [INFER_KV_Q8] = INFER_DTYPE_Q8_0,
    [INFER_KV_Q4] = INFER_DTYPE_Q4_1,   [INFER_KV_F8] = INFER_DTYPE_F8_E4M3,
};

infer_status handle_kv_type(infer_dtype *out, infer_kv_type type, infer_dtype fallback)
{
    if (type < 0 || (size_t)type >= BASE_COUNT(kv_types))
        return base_error(INFER_ERR_UNSUPPORTED, "infer_kv_type %d is not known", type);
    *out = type == INFER_KV_DEFAULT ? fallback : kv_types[type];
    return INFER_OK;
}

infer_kv_type handle_kv_type_of(infer_dtype type)
{
    for (infer_kv_type t = INFER_KV_F32; (size_t)t < BASE_COUNT(kv_types); t++)
        if (kv_types[t] == type)
            return t;
    return INFER_KV_DEFAULT;
}

infer_status handle_fill(void *buffer, size_t *n, const void *data, size_t count,
                         size_t element_bytes)
{
    size_t capacity = *n;
    *n = count;
    if (!buffer)
        return INFER_OK;
    if (capacity < count)
        return base_error(INFER_ERR_LIMIT, "the buffer holds %zu elements, %zu are needed",
                          capacity, count);
    if (count)
        memcpy(buffer, data, count * element_bytes);
    return INFER_OK;
}

infer_status handle_fill_text(char *buffer, size_t *n, const char *text, size_t size)
{
    size_t capacity = *n;
    infer_status st = handle_fill(buffer, n, text, size, 1);
    if (st == INFER_OK && buffer && capacity > size)
        buffer[size] = 0;
    return st;
}
