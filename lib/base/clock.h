/* Monotonic time, for measuring; never for results. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/types.h"

uint64_t base_clock_ns(void);

#endif
