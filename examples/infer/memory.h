/* How much memory a program may still take. */
#ifndef INFER_MEMORY_H
#define INFER_MEMORY_H

#include <stdint.h>

/* Bytes that Linux says are available, and no more than the control groups of this process leave;
 * UINT64_MAX where nothing says. */
uint64_t memory_available(void);

#endif
