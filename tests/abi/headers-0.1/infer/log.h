/**
 * @file log.h
 * Where the library's messages go. It never prints: without a sink, messages
 * are dropped.
 */
#ifndef INFER_LOG_H
#define INFER_LOG_H

#include <infer/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t infer_log_level;

enum {
    INFER_LOG_ERROR = 0, /**< something failed that the caller may not see as a status */
    INFER_LOG_WARN = 1,  /**< the result may not be what the user expects */
    INFER_LOG_INFO = 2,  /**< what was chosen: kernels, devices, cache sizes */
    INFER_LOG_DEBUG = 3
};

/** Receives one message without a final newline; must not call back into the handle it is about. */
typedef void (*infer_log_fn)(infer_log_level level, const char *text, void *user_data);

/**
 * Sets the process-wide sink, the only global state of the library.
 * @param fn     NULL drops all messages (the default)
 * @param level  messages above this level are dropped before they are formatted
 * Thread-safety: safe. A message in flight may still reach the previous sink.
 * Since: 0.1
 */
INFER_API void infer_log_set(infer_log_fn fn, void *user_data, infer_log_level level);

#ifdef __cplusplus
}
#endif

#endif
