/* Growable arrays: any struct with `T *data; size_t size, capacity;`. */
#ifndef BASE_ARRAY_H
#define BASE_ARRAY_H

#include "base/alloc.h"

#define BASE_ARRAY(T)                                                                              \
    struct {                                                                                       \
        T *data;                                                                                   \
        size_t size, capacity;                                                                     \
    }

/* Makes room for `extra` more elements. INFER_OK or INFER_ERR_NO_MEMORY; on
 * failure the array is unchanged. */
#define base_array_reserve(a, arr, extra)                                                          \
    base_array_grow((a), (void **)&(arr)->data, (arr)->size, &(arr)->capacity,                     \
                    sizeof(*(arr)->data), (extra))

/* Appends one value; evaluates to a status. */
#define base_array_push(a, arr, value)                                                             \
    (base_array_reserve((a), (arr), 1) != INFER_OK                                                 \
         ? INFER_ERR_NO_MEMORY                                                                     \
         : ((arr)->data[(arr)->size++] = (value), INFER_OK))

#define base_array_release(a, arr)                                                                 \
    (base_free((a), (arr)->data), (arr)->data = NULL, (arr)->size = (arr)->capacity = 0)

infer_status base_array_grow(const struct base_alloc *a, void **data, size_t size, size_t *capacity,
                             size_t element_bytes, size_t extra);

#endif
