/* Time. The library takes none into results but where a chat template asks for the date. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/types.h"

uint64_t base_clock_ns(void);  /* monotonic, for measuring */
int64_t base_clock_unix(void); /* seconds since 1970, UTC */

#endif
