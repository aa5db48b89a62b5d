/* Sets of Unicode characters as sorted ranges; surrogates are in none. */
#ifndef SAMPLE_CHARSET_H
#define SAMPLE_CHARSET_H

#include "base/array.h"

#define CHARSET_LAST 0x10FFFFu

struct charset_range {
    uint32_t lo, hi;
};

struct charset {
    struct charset_range *data;
    size_t size, capacity;
};

/* Memory is the allocator's; released by charset_release. All give INFER_OK or NO_MEMORY. */
infer_status charset_add(struct charset *s, const struct base_alloc *a, uint32_t lo, uint32_t hi);
infer_status charset_add_all(struct charset *s, const struct base_alloc *a,
                             const struct charset *other);
/* Sorted, joined, without surrogates: needed before the set is used. */
void charset_finish(struct charset *s);
/* What is not in a finished set; the result is finished. */
infer_status charset_invert(struct charset *s, const struct base_alloc *a);
int charset_has(const struct charset *s, uint32_t cp);
void charset_release(struct charset *s, const struct base_alloc *a);

#endif
