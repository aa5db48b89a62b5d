/* Several sequences that begin alike, scored from some token on: what they have in common is
 * computed once. */
#ifndef ENGINE_SCORE_H
#define ENGINE_SCORE_H

#include "engine/session.h"

struct score_item {
    const infer_token *tokens; /* the whole sequence */
    int32_t n_tokens;
    int32_t from;             /* the first token scored, at least 1 */
    float *logprobs;          /* n_tokens - from of them are written */
    const infer_token *rival; /* as in struct request_config */
    int32_t is_greedy;
};

/* Scores `n` items whose first n_shared tokens are the same; n_shared is below each item's `from`.
 * `base` says all but the tokens: adapter, name space, grammar (whose text begins at `from`).
 * Waits for the result as session_next() does. The first failure is returned. */
infer_status score_run(struct infer_session *s, const struct request_config *base,
                       struct score_item *items, size_t n, int32_t n_shared);

#endif
