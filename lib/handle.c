/* Caller's buffers. */
#include "handle.h"

#include <string.h>

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
