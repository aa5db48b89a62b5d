/* One step: pick requests, build a flat batch, compute, sample, report. */
#include "engine/step.h"

#include "engine/adapt.h"
#include "engine/ahead.h"
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

static infer_status launch(struct infer_session *s)
{
    if (s->encode.encoder)
        return embed_encode(s);
    ahead_choose(s);
    infer_status st = model_forward(&s->ws, &s->batch);
    s->step = model_step(&s->ws);
    return st == INFER_OK ? embed_take(s) : st;
}

/* Heads of rows that nobody has chosen tokens for, and what is said of them. */
static infer_status run_heads(struct infer_session *s, uint64_t *computed)
{
    for (int32_t first = 0, n; (first = output_next(s, first)) < s->n_outputs; first += n) {
        n = BASE_MIN(s->n_outputs - first, s->ws.max_outputs);
        uint64_t begin = session_now(s);
        struct model_pick *picks = pick_rows(s, first, n);
        infer_status st = model_head(&s->ws, s->output_rows + first, n, picks);
        *computed += session_now(s) - begin;
        if (st != INFER_OK)
            return st;
        output_run(s, first, n, picks);
    }
    uint64_t begin = session_now(s);
    infer_status st = model_finish(&s->ws);
    *computed += session_now(s) - begin;
    return st;
}

static int all_chosen(const struct infer_session *s)
{
    int32_t i = 0;
    while (i < s->n_outputs && (s->ws.chosen.tokens[i] >= 0 || !s->outputs[i].request))
        i++;
    return i == s->n_outputs;
}

/* The tokens that the device chose, while it goes on with the next ones. */
static infer_status take_chosen(struct infer_session *s, uint64_t *computed)
{
    uint64_t begin = session_now(s);
    int is_ahead = ahead_launch(s);
    infer_status st = model_chosen(&s->ws, s->step);
    *computed += session_now(s) - begin;
    if (st != INFER_OK)
        return st;
    /* What is wrong with a row that has no highest number is for the sampler to say, as long as
     * its logits are there. */
    if (!is_ahead && !all_chosen(s))
        return run_heads(s, computed);
    for (int32_t first = 0, n; first < s->n_outputs; first += n) {
        n = BASE_MIN(s->n_outputs - first, s->ws.max_outputs);
        output_run(s, first, n, pick_chosen(s, first, n));
    }
    return INFER_OK;
}

/* The model's part of a step, and what is said of its logits. `computed` is what the model took. */
static infer_status compute(struct infer_session *s, int taken, uint64_t *computed)
{
    uint64_t begin = session_now(s);
    infer_status st = taken ? INFER_OK : launch(s);
    *computed += session_now(s) - begin;
    if (st != INFER_OK || s->encode.encoder)
        return st;
    prefix_keep(s);
    return taken || s->batch.chooses ? take_chosen(s, computed) : run_heads(s, computed);
}

static void prepare(struct infer_session *s)
{
    draft_run(s);
    prefix_copy(s);
    batch_build(s);
    s->n_rows = s->batch.n_rows; /* drafts too */
}

infer_status engine_step(struct infer_session *s)
{
    uint64_t start = session_now(s), computed = 0, computing;
    pthread_mutex_lock(&s->line->lock);
    adapt_begin_step(s);
    s->swap_ns = 0;
    scheduler_reap(s, start);
    int taken = ahead_take(s, start);
    if (!taken)
        scheduler_pick(s, start);
    pthread_mutex_unlock(&s->line->lock);
    if (!s->n_parts)
        return INFER_AGAIN;

    trace_step(s, INFER_TRACE_STEP_BEGIN, start);
    if (!taken)
        prepare(s);
    computing = session_now(s);
    infer_status st = compute(s, taken, &computed);
    if (st != INFER_OK)
        output_fail(s, st);
    if (!taken)
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
