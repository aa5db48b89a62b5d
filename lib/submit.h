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

/* The text of a conversation, parts of strangers guarded, and its tokens. */
infer_status submit_render(const infer_session *session, const infer_request_options *options,
                           struct base_str *text);
infer_status submit_encode_rendered(const infer_session *session, const struct base_str *text,
                                    text_tokens *out);

/* Appends the tokens of a prompt that is text or a conversation. */
infer_status submit_encode(const infer_session *session, const infer_request_options *options,
                           text_tokens *out);

/* Checks what every use of a prompt needs: one form of it, numbers in range. */
infer_status submit_check(const infer_request_options *options);

#endif
