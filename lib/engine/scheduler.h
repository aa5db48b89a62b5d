/* Who runs in a step. All functions are called under the session's lock by the
 * thread that may change the lists (the stepping one, or any if none steps). */
#ifndef ENGINE_SCHEDULER_H
#define ENGINE_SCHEDULER_H

#include "engine/session.h"

/* Queues a new request. */
void scheduler_add(struct infer_session *s, struct infer_request *r);

/* Ends requests that were cancelled. */
void scheduler_reap(struct infer_session *s);

/* Fills s->parts within the step's token budget: running decodes first, then
 * prompts in chunks, then waiting requests that fit; reserves their blocks. When blocks run
 * out, the newest request gives its own back and is computed again later. */
void scheduler_pick(struct infer_session *s);

/* Counts what the step computed; ends prefill-only requests. */
void scheduler_finish(struct infer_session *s);

/* Ends a request: out of the lists, blocks back, reason kept. status < 0 keeps
 * the thread's sentence. The session's reference is dropped. */
void scheduler_end(struct infer_session *s, struct infer_request *r, infer_finish finish,
                   infer_status status);

#endif
