/* One sentence per thread. The function that detects a failure writes it;
 * callers above pass the status through untouched. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "base/types.h"

#define BASE_ERROR_MAX 1024

/* Stores the sentence for this thread and returns `status`, so that the
 * detector can write `return base_error(INFER_ERR_FORMAT, "...", ...)`. */
infer_status base_error(infer_status status, const char *fmt, ...) BASE_PRINTF(2, 3);

/* Puts "prefix: " before the current sentence (a file name, a tensor) and
 * returns `status`. For the one layer that knows the name. */
infer_status base_error_prefix(infer_status status, const char *fmt, ...) BASE_PRINTF(2, 3);

const char *base_error_text(void);

/* Makes `text` this thread's sentence, for a failure that happened elsewhere. */
void base_error_restore(const char *text);

#endif
