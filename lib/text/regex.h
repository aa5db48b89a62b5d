/* Regular expressions over UTF-8 texts: PCRE2 with an allocator, bounds and machine code. */
#ifndef TEXT_REGEX_H
#define TEXT_REGEX_H

#include "base/alloc.h"

struct text_regex; /* immutable, shared between threads */

/* UTF and UCP are on. `steps` bounds the work of one search: patterns of a file that nobody
 * looked at get few, so that a hostile one ends in an error instead of a hang.
 * FORMAT names the pattern and the place in it. */
#define TEXT_REGEX_TRUSTED UINT32_C(1000000000)
#define TEXT_REGEX_FOREIGN UINT32_C(10000000)
infer_status text_regex_create(struct text_regex **out, const struct base_alloc *a,
                               struct base_view pattern, uint32_t steps);
void text_regex_destroy(struct text_regex **regex); /* NULL-safe, sets NULL */
size_t text_regex_bytes(const struct text_regex *regex);

/* What searches need, made once per call. Must not move between init and release. */
struct text_matcher {
    struct base_alloc alloc;
    void *context, *match; /* PCRE2 */
};

infer_status text_matcher_init(struct text_matcher *m, const struct base_alloc *a);
void text_matcher_release(struct text_matcher *m); /* also of a zeroed one */

/* The first match at or after `start` in valid UTF-8; where there is none or an empty one,
 * *from == *to == size. LIMIT where it took too many steps, NO_MEMORY. */
infer_status text_regex_search(const struct text_regex *regex, struct text_matcher *m,
                               const char *text, size_t size, size_t start, size_t *from,
                               size_t *to);

#endif
