/* What is known of a JSON text before it is parsed. Only json.c includes this. */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include "base/json.h"

/* Commas directly inside each array and object, in the order in which they open, so that
 * the parser can allocate each at its full size at once. */
struct json_counts {
    uint32_t *commas;
    size_t n, capacity;
};

/* Checks what the parser below does not: legal UTF-8, whole surrogate pairs and depth; and
 * counts. Texts that are no JSON may pass. `counts` is released by the caller. */
infer_status json_scan(struct json_counts *counts, const struct base_alloc *a, const char *text,
                       size_t size);

/* The sentence "line 3, column 7: ..." for byte `at`; columns count bytes from 1. */
infer_status json_error_at(infer_status status, const char *text, size_t size, size_t at,
                           const char *what);

#endif
