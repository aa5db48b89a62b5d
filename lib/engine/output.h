/* From logits to what the host sees: tokens, text, scores, the end. */
#ifndef ENGINE_OUTPUT_H
#define ENGINE_OUTPUT_H

#include "engine/session.h"

/* Handles outputs first .. first + n - 1, whose tokens are in `picks` (NULL: none is) or whose
 * logits are in s->ws.logits. A failure ends its own request and nothing else. */
void output_run(struct infer_session *s, int32_t first, int32_t n, const struct model_pick *picks);

/* The step could not be computed: ends all its requests. */
void output_fail(struct infer_session *s, infer_status status);

/* Whether the next token is the request's last, whatever it is. */
int output_is_last(const struct infer_request *r);

/* The first output from there on that is still of meaning; n_outputs if there is none. */
int32_t output_next(const struct infer_session *s, int32_t first);

#endif
