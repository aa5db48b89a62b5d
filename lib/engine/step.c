/* One step: pick requests, build a flat batch, compute, sample, report. */
#include "engine/step.h"

#include "engine/adapt.h"
#include "engine/batch.h"
#include "engine/draft.h"
#include "engine/embed.h"
#include "engine/output.h"
#include "engine/pick.h"
#include "engine/prefix.h"
#include "engine/scheduler.h"
#include "engine/trace.h"

void trace_step(const struct infer_session *s, infer_trace_type type, uint64_t now)
{
    if (!s->trace)
        return;
    infer_trace_event event = {.struct_size = sizeof event,
                               .time_ns = now,
                               .step = s->line->n_steps,
                               .type = type,
                               .n_requests = s->n_parts,
                               .n_decodes = s->n_decodes,
                               .n_tokens = s->n_rows};
    s->trace(&event, s->trace_data);
}

static void observe(struct infer_session *s, int32_t n_parts, uint64_t start, uint64_t end)
{
    /* What moving a preempted request took is no part of what tokens cost. */
    pace_learn(&s->pace, s->n_rows, end - start - BASE_MIN(s->swap_ns, end - start));
    s->stats.n_steps++;
    s->line->n_steps++;
    s->stats.step_ns += end - start;
    engine_observe(&s->stats, ENGINE_STEP_TIME, end - start);
    engine_observe(&s->stats, ENGINE_STEP_TOKENS, (uint64_t)s->n_rows);
    engine_observe(&s->stats, ENGINE_STEP_REQUESTS, (uint64_t)n_parts);
}

/* The model's part of a step, and what is said of its logits. `computed` is what the model took. */
static infer_status compute(struct infer_session *s, uint64_t *computed)
{
    uint64_t begin = session_now(s);
    infer_status st = s->encode.encoder ? embed_encode(s) : model_forward(&s->ws, &s->batch);
    if (st == INFER_OK && !s->encode.encoder)
        st = embed_take(s);
    *computed += session_now(s) - begin;
    if (st != INFER_OK || s->encode.encoder)
        return st;
    prefix_keep(s);
    for (int32_t first = 0, n; (first = output_next(s, first)) < s->n_outputs; first += n) {
        n = BASE_MIN(s->n_outputs - first, s->ws.max_outputs);
        begin = session_now(s);
        struct model_pick *picks = pick_rows(s, first, n);
        st = model_head(&s->ws, s->output_rows + first, n, picks);
        *computed += session_now(s) - begin;
        if (st != INFER_OK)
            return st;
        output_run(s, first, n, picks);
    }
    begin = session_now(s);
    st = model_finish(&s->ws);
    *computed += session_now(s) - begin;
    return st;
}

infer_status engine_step(struct infer_session *s)
{
    uint64_t start = session_now(s), computed = 0, computing;
    pthread_mutex_lock(&s->line->lock);
    adapt_begin_step(s);
    s->swap_ns = 0;
    scheduler_reap(s, start);
    scheduler_pick(s, start);
    pthread_mutex_unlock(&s->line->lock);
    if (!s->n_parts)
        return INFER_AGAIN;

    trace_step(s, INFER_TRACE_STEP_BEGIN, start);
    draft_run(s);
    prefix_copy(s);
    batch_build(s);
    s->n_rows = s->batch.n_rows; /* drafts too */
    computing = session_now(s);
    infer_status st = compute(s, &computed);
    if (st != INFER_OK)
        output_fail(s, st);
    draft_finish(s, session_now(s) - computing);

    pthread_mutex_lock(&s->line->lock);
    scheduler_finish(s);
    pthread_cond_broadcast(&s->line->changed);
    pthread_mutex_unlock(&s->line->lock);
    uint64_t end = session_now(s);
    s->stats.compute_ns += computed;
    observe(s, s->n_parts, start, end);
    trace_step(s, INFER_TRACE_STEP_END, end);
    return INFER_OK;
}
