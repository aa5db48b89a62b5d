/* How much memory is left. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include "base/types.h"

/* Bytes that can be had without swapping: the least that the machine (MemAvailable) and the control
 * groups of this process, of version 2 or 1, its own and all above it, leave, 1 at least; 0 where
 * nothing is known. `root` is where sys and proc lie: "" is the machine itself. */
uint64_t base_memory_available(const char *root);

#endif
