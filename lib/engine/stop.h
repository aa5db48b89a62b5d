/* Stop strings over streamed text: what may become one is held back. */
#ifndef ENGINE_STOP_H
#define ENGINE_STOP_H

#include "base/alloc.h"

struct engine_stop {
    char **strings; /* 0-terminated copies */
    size_t *sizes;
    size_t n;
};

/* Copies the strings; empty ones are INVALID. */
infer_status engine_stop_init(struct engine_stop *stop, const struct base_alloc *a,
                              const char *const *strings, size_t n);
void engine_stop_release(struct engine_stop *stop, const struct base_alloc *a);

/* Looks at text[from .. size): everything before `from` was released earlier.
 * Returns 1 and the start of the first stop string in *end, or 0 and in *end
 * up to where the text can be released. */
int engine_stop_scan(const struct engine_stop *stop, const char *text, size_t from, size_t size,
                     size_t *end);

#endif
