/* The session's clock, and what it tells the host as it happens. */
#ifndef ENGINE_TRACE_H
#define ENGINE_TRACE_H

#include "engine/session.h"

/* Monotonic; 0 means "never" in what is kept of it. */
static inline uint64_t session_now(const struct infer_session *s)
{
    uint64_t now = s->clock ? s->clock(s->clock_data) : base_clock_ns();
    return now ? now : 1;
}

/* Something happened to a request; under the session's lock. */
static inline void trace_request(const struct infer_session *s, infer_trace_type type,
                                 const struct infer_request *r, uint64_t now)
{
    if (!s->trace)
        return;
    infer_trace_event event = {.struct_size = sizeof event,
                               .time_ns = now,
                               .request_id = r->serial,
                               .step = s->line->n_steps,
                               .type = type,
                               .finish = r->finish,
                               .n_tokens = request_length(r)};
    if (type == INFER_TRACE_PREEMPTED && r->swapped.n_pages)
        event.n_swapped_tokens = r->swapped.n_tokens;
    s->trace(&event, s->trace_data);
}

/* A step begins or ends; on its thread, without the lock. */
void trace_step(const struct infer_session *s, infer_trace_type type, uint64_t now);

#endif
