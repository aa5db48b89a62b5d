/* Adapters in a session: memory for them, and their rows side by side. */
#ifndef ENGINE_ADAPT_H
#define ENGINE_ADAPT_H

#include "engine/session.h"

/* Makes sure, before a request is queued, that steps have memory for its adapter. Takes the
 * session's lock. */
infer_status adapt_reserve(struct infer_session *s, const struct infer_adapter *adapter);

/* Puts such memory to use; under the lock, between steps. */
void adapt_begin_step(struct infer_session *s);

/* Reorders s->parts so that requests of one adapter follow one another. */
void adapt_group(struct infer_session *s);

/* The rows of a part that joins s->batch. */
void adapt_add_rows(struct infer_session *s, const struct infer_request *r, int32_t n_rows);

void adapt_release(struct infer_session *s);

#endif
