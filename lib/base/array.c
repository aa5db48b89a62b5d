/* Growing by half, with every size checked for overflow. */
#include "base/array.h"

#include "base/error.h"

#include <string.h>

infer_status base_array_grow(const struct base_alloc *a, void **data, size_t size, size_t *capacity,
                             size_t element_bytes, size_t extra)
{
    if (extra <= *capacity - size)
        return INFER_OK;
    if (extra > SIZE_MAX / 4 || size > SIZE_MAX / 4)
        return base_error(INFER_ERR_NO_MEMORY, "an array of %zu + %zu elements overflows", size,
                          extra);
    size_t wanted = BASE_MAX(BASE_MAX(size + extra, size + size / 2), (size_t)8);
    void *bigger = base_new_raw(a, wanted, element_bytes);
    if (!bigger)
        return INFER_ERR_NO_MEMORY;
    if (size)
        memcpy(bigger, *data, size * element_bytes);
    base_free(a, *data);
    *data = bigger;
    *capacity = wanted;
    return INFER_OK;
}
