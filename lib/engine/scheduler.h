/* Who runs in a step. All functions are called under the session's lock by the
 * thread that may change the lists (the stepping one, or any if none steps). */
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H

#include "engine/session.h"

/* Queues a new request, or gives the reason why not. */
infer_status scheduler_add(struct infer_session *s, struct infer_request *r);

/* Why a request has to end whatever it has so far: CANCELLED, DEADLINE or NONE. */
infer_finish scheduler_over(const struct infer_request *r, uint64_t now);

/* Ends requests that were cancelled or are past their deadline. */
void scheduler_reap(struct infer_session *s, uint64_t now);

/* Fills s->parts within the step's token budget: running decodes first, then prompts in chunks,
 * then waiting requests that fit; reserves their blocks. When blocks run out, or a request of
 * better priority wants in, others give theirs back and are computed again later. */
void scheduler_pick(struct infer_session *s, uint64_t now);

/* Ends prefill-only requests. */
void scheduler_finish(struct infer_session *s);

/* Ends a request: out of the lists, blocks back, reason kept. status < 0 keeps
 * the thread's sentence. The session's reference is dropped. */
void scheduler_end(struct infer_session *s, struct infer_request *r, infer_finish finish,
                   infer_status status);

#endif
