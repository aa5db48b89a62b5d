/* An allocator that counts, and refuses on demand: for limits, leaks and out-of-memory paths. */
#ifndef TESTS_SUPPORT_TEST_ALLOC_H
#define TESTS_SUPPORT_TEST_ALLOC_H

#include "base/alloc.h"

struct test_alloc {
    struct base_alloc alloc; /* hand out &t.alloc */
    size_t live_bytes, peak_bytes, live_blocks;
    size_t n_calls;
    size_t fail_at;     /* the call with this number (from 1) gives NULL; 0: none */
    size_t limit_bytes; /* more than this alive at once gives NULL; 0: no limit */
};

/* Not thread-safe. `t` must stay where it is while blocks live. */
void test_alloc_init(struct test_alloc *t);

#endif
