/* Public: <infer/log.h>. */
#include "base/log.h"

#include <infer/log.h>

void infer_log_set(infer_log_fn fn, void *user_data, infer_log_level level)
{
    base_log_set(fn, user_data, level);
}
