/* Stop strings. */
#include "engine/stop.h"

#include "base/error.h"

#include <string.h>

infer_status engine_stop_init(struct engine_stop *stop, const struct base_alloc *a,
                              const char *const *strings, size_t n)
{
    *stop = (struct engine_stop){0};
    if (!n)
        return INFER_OK;
    stop->strings = base_new(a, n, sizeof *stop->strings);
    stop->sizes = base_new(a, n, sizeof *stop->sizes);
    if (!stop->strings || !stop->sizes) {
        engine_stop_release(stop, a);
        return INFER_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < n; i++) {
        infer_status st = INFER_OK;
        if (!strings[i] || !strings[i][0])
            st = base_error(INFER_ERR_INVALID, "stop[%zu] is empty", i);
        else if (!(stop->strings[i] = base_strdup(a, strings[i], strlen(strings[i]))))
            st = INFER_ERR_NO_MEMORY;
        if (st != INFER_OK) {
            engine_stop_release(stop, a);
            return st;
        }
        stop->sizes[i] = strlen(strings[i]);
        stop->n = i + 1;
    }
    return INFER_OK;
}

void engine_stop_release(struct engine_stop *stop, const struct base_alloc *a)
{
    for (size_t i = 0; i < stop->n; i++)
        base_free(a, stop->strings[i]);
    base_free(a, stop->strings);
    base_free(a, stop->sizes);
    *stop = (struct engine_stop){0};
}

/* Bytes at the end of the text that are the beginning of some stop string. */
static size_t held_back(const struct engine_stop *stop, const char *text, size_t size)
{
    size_t held = 0;
    for (size_t i = 0; i < stop->n; i++) {
        size_t n = BASE_MIN(stop->sizes[i] - 1, size);
        for (; n > held; n--)
            if (memcmp(text + size - n, stop->strings[i], n) == 0)
                held = n;
    }
    return held;
}

int engine_stop_scan(const struct engine_stop *stop, const char *text, size_t from, size_t size,
                     size_t *end)
{
    size_t first = SIZE_MAX;
    for (size_t i = 0; i < stop->n; i++) {
        const char *hit = memmem(text + from, size - from, stop->strings[i], stop->sizes[i]);
        if (hit)
            first = BASE_MIN(first, (size_t)(hit - text));
    }
    *end = first != SIZE_MAX ? first : size - held_back(stop, text + from, size - from);
    return first != SIZE_MAX;
}
