/* Statistics of a session. */
#include "metrics.h"

#include "engine/draft_model.h"

void metrics_snapshot(const struct infer_session *s, infer_session_stats *out)
{
    const struct engine_stats *from = &s->stats;
    *out = (infer_session_stats){
        .struct_size = sizeof *out,
        .n_steps = from->n_steps,
        .step_ns = from->step_ns,
        .n_submitted = from->n_submitted,
        .n_finished = from->n_finished,
        .n_failed = from->n_failed,
        .n_cancelled = from->n_cancelled,
        .n_preempted = from->n_preempted,
        .n_prompt_tokens = from->n_prompt_tokens,
        .n_generated_tokens = from->n_generated_tokens,
        .workspace_bytes = s->scratch.buffer.bytes + draft_model_bytes(s->draft.model),
        .n_waiting = from->n_waiting,
        .n_running = from->n_running,
        .n_cached_tokens = from->n_cached_tokens,
        .n_drafted_tokens = from->n_drafted_tokens,
        .n_accepted_tokens = from->n_accepted_tokens,
    };
}

struct metric {
    const char *name, *type, *help;
    double value;
};

infer_status metrics_render(const struct infer_session *s, struct base_str *out)
{
    infer_session_stats t;
    metrics_snapshot(s, &t);
    const struct cache_blocks *b = s->kv->blocks;
    double blocks = (double)cache_blocks_count(b);
    const struct metric metrics[] = {
        {"infer_steps_total", "counter", "Steps run", (double)t.n_steps},
        {"infer_step_seconds_total", "counter", "Time spent in steps", (double)t.step_ns * 1e-9},
        {"infer_requests_submitted_total", "counter", "Requests queued", (double)t.n_submitted},
        {"infer_requests_finished_total", "counter", "Requests completed", (double)t.n_finished},
        {"infer_requests_failed_total", "counter", "Requests that failed", (double)t.n_failed},
        {"infer_requests_cancelled_total", "counter", "Requests cancelled", (double)t.n_cancelled},
        {"infer_preemptions_total", "counter", "Requests computed again for want of KV blocks",
         (double)t.n_preempted},
        {"infer_prompt_tokens_total", "counter", "Prompt tokens computed",
         (double)t.n_prompt_tokens},
        {"infer_generated_tokens_total", "counter", "Tokens generated",
         (double)t.n_generated_tokens},
        {"infer_requests_waiting", "gauge", "Requests in the queue", t.n_waiting},
        {"infer_requests_running", "gauge", "Requests in the batch", t.n_running},
        {"infer_kv_cache_usage_ratio", "gauge", "Share of KV blocks in use",
         (double)atomic_load(&b->n_used) / blocks},
        {"infer_kv_cache_bytes", "gauge", "Budget of the KV cache", (double)b->memory.bytes},
        {"infer_cached_prompt_tokens_total", "counter", "Prompt tokens that needed no computing",
         (double)t.n_cached_tokens},
        {"infer_prefix_cache_queries_total", "counter", "Prompt tokens looked up in the KV cache",
         b->prefix ? (double)b->prefix->n_looked_up : 0},
        {"infer_prefix_cache_hits_total", "counter", "Prompt tokens found in the KV cache",
         b->prefix ? (double)b->prefix->n_hit : 0},
        {"infer_draft_tokens_total", "counter", "Tokens drafted by speculation",
         (double)t.n_drafted_tokens},
        {"infer_accepted_draft_tokens_total", "counter", "Drafted tokens that were right",
         (double)t.n_accepted_tokens},
    };
    infer_status st = INFER_OK;
    for (size_t i = 0; i < BASE_COUNT(metrics) && st == INFER_OK; i++) {
        const struct metric *m = &metrics[i];
        st = base_str_appendf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", m->name, m->help,
                              m->name, m->type, m->name, m->value);
    }
    return st;
}
