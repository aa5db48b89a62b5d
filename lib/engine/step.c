/* One step: pick requests, build a flat batch, compute, sample, report. */
#include "engine/step.h"

#include "base/clock.h"
#include "engine/adapt.h"
#include "engine/batch.h"
#include "engine/draft.h"
#include "engine/output.h"
#include "engine/prefix.h"
#include "engine/scheduler.h"

infer_status engine_step(struct infer_session *s)
{
    uint64_t start = base_clock_ns();
    pthread_mutex_lock(&s->lock);
    adapt_begin_step(s);
    scheduler_reap(s);
    scheduler_pick(s);
    pthread_mutex_unlock(&s->lock);
    if (!s->n_parts)
        return INFER_AGAIN;

    draft_run(s);
    prefix_copy(s);
    batch_build(s);
    uint64_t computing = base_clock_ns();
    model_forward(&s->ws, &s->batch);
    prefix_keep(s);
    for (int32_t first = 0, n; (first = output_next(s, first)) < s->n_outputs; first += n) {
        n = BASE_MIN(s->n_outputs - first, s->ws.max_outputs);
        model_head(&s->ws, s->output_rows + first, n, s->logits);
        output_run(s, first, n);
    }
    draft_finish(s, base_clock_ns() - computing);

    pthread_mutex_lock(&s->lock);
    scheduler_finish(s);
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    s->stats.n_steps++;
    s->stats.step_ns += base_clock_ns() - start;
    return INFER_OK;
}
