/* The one piece of global state: where the host wants messages to go. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/types.h"

/* Levels as in <infer/log.h>. Cheap when nobody listens. */
void base_log(int32_t level, const char *fmt, ...) BASE_PRINTF(2, 3);
void base_log_set(void (*fn)(int32_t level, const char *text, void *user_data), void *user_data,
                  int32_t level);

#endif
