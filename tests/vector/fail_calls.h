/* Calls of the system that fail on demand: the linker puts these in the place of the real ones
 * (--wrap), for errors that no folder of a test can be made to give. */
#ifndef TESTS_VECTOR_FAIL_CALLS_H
#define TESTS_VECTOR_FAIL_CALLS_H

#include <stdint.h>

enum {
    FAIL_WRITE = 1,
    FAIL_READ = 2,
    FAIL_CUT = 4,
    FAIL_FLUSH = 8,
    FAIL_RENAME = 16,
    FAIL_LINK = 32,
    FAIL_COPY = 64,
    FAIL_ALL = 127
};

/* From now on the call with number `at` (from 1) of these kinds gives `error`, and with `for_good`
 * all later ones too. 0: none fails. */
void fail_calls(int kinds, int at, int error, int for_good);
/* Calls of the kind since then, or of all kinds that were asked for. */
int fail_calls_count(int kind);
/* The calls since then in their order, a letter each: write, read, cut, flush, move, link, p for a
 * copy. At most 255; one thread. */
const char *fail_calls_trace(void);
/* Makes flushes take their time, as a disk does; 0: as long as they take; negative: none, for tests
 * of much else. */
void fail_calls_slow(int microseconds);

#endif
