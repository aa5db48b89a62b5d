/* Public request options to an engine request. */
#ifndef LIB_SUBMIT_H
#define LIB_SUBMIT_H

#include "engine/session.h"

#include <infer/session.h>

/* `options` is a full struct, already copied. */
infer_status submit_request(infer_request **out, infer_session *session,
                            const infer_request_options *options);

infer_status submit_fork(infer_request **out, infer_request *source,
                         const infer_fork_options *options);

#endif
