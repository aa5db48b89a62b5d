/**
 * @file error.h
 * What went wrong, in words, and which version and features are at hand.
 */
#ifndef INFER_ERROR_H
#define INFER_ERROR_H

#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The sentence of the last error on the calling thread: what was wrong, where
 * (file, offset, tensor, field), what was expected. One line of UTF-8 without
 * a final period, or "" if nothing has failed yet.
 *
 * @return never NULL; valid until the next failing call on this thread.
 * Thread-safety: safe; each thread has its own sentence.
 * Since: 0.1
 */
INFER_API const char *infer_last_error(void);

/**
 * Name of a status code, such as "INFER_ERR_FORMAT".
 * @return never NULL; "unknown status" for values this library does not know.
 * Thread-safety: safe. Since: 0.1
 */
INFER_API const char *infer_status_name(infer_status status);

/**
 * Whether the same call may succeed later without a change by the caller
 * (memory, queue, input/output or device trouble).
 * @return 1 if a retry can help, else 0.
 * Thread-safety: safe. Since: 0.1
 */
INFER_API int32_t infer_status_retryable(infer_status status);

/**
 * Version of the library that is running; compare with INFER_VERSION.
 * Thread-safety: safe. Since: 0.1
 */
INFER_API uint32_t infer_version(void);

/**
 * Whether this build has a feature: "cuda", "openblas", "avx2", "avx512",
 * "neon", "gguf". Query it instead of compiling conditionally.
 * @return 1 if built in (a GPU may still be absent: see infer_device_count), else 0.
 * Thread-safety: safe. Since: 0.1
 */
INFER_API int32_t infer_has(const char *feature);

#ifdef __cplusplus
}
#endif

#endif
