/* Tokens of a prompt with each of its continuations, and where scoring begins. */
#ifndef LIB_CONTINUATION_H
#define LIB_CONTINUATION_H

#include "engine/score.h"

#include <infer/score.h>

struct continuation_set {
    struct base_alloc alloc;
    text_tokens tokens; /* of all sequences in a row */
    struct score_item *items;
    size_t n;
    int32_t n_common; /* leading tokens that all have, before any that is scored */
};

/* The items have their tokens, but no room for results. `options` is a full struct with the
 * prompt. */
infer_status continuation_encode(struct continuation_set *set, const infer_session *session,
                                 const infer_request_options *options,
                                 const infer_continuation *continuations, size_t n);
void continuation_release(struct continuation_set *set);

#endif
