/* Statistics of a session. */
#include "metrics.h"

#include <stdio.h>

void metrics_snapshot(const struct infer_session *s, infer_session_stats *out)
{
    struct line_totals totals;
    const struct engine_stats *from = &totals.stats;
    line_sum(s->line, &totals);
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
        .workspace_bytes = totals.workspace_bytes,
        .n_waiting = from->n_waiting,
        .n_running = from->n_running,
        .n_cached_tokens = from->n_cached_tokens,
        .n_expired = from->n_expired,
        .n_refused = from->n_refused,
        .compute_ns = from->compute_ns,
        .n_drafted_tokens = from->n_drafted_tokens,
        .n_accepted_tokens = from->n_accepted_tokens,
        .n_models = totals.n_sessions,
        .model_evicted = model_is_evicted(s->model),
        .n_swapped = from->n_swapped,
    };
}

/* Where the text grows, and what each line of it needs. */
struct page {
    struct line_totals totals;
    struct base_str *out;
    struct base_str labels; /* "name=\"value\",..." or "" */
    int vllm;
    infer_status st;
};

struct metric {
    const char *name, *vllm, *type, *help; /* vllm NULL: it has none such */
    double value;
};

static void head(struct page *p, const char *name, const char *type, const char *help)
{
    if (p->st == INFER_OK)
        p->st = base_str_appendf(p->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* One sample: `suffix` and one more label may be "". */
static void sample(struct page *p, const char *name, const char *suffix, const char *label,
                   double value)
{
    const char *labels = p->labels.data ? p->labels.data : "";
    const char *comma = *labels && *label ? "," : "";
    if (p->st != INFER_OK)
        return;
    p->st = *labels || *label ? base_str_appendf(p->out, "%s%s{%s%s%s} %.17g\n", name, suffix,
                                                 labels, comma, label, value)
                              : base_str_appendf(p->out, "%s%s %.17g\n", name, suffix, value);
}

static const char *name_of(const struct page *p, const char *name, const char *vllm)
{
    return p->vllm && vllm ? vllm : name;
}

/* Backslash, quote and newline are escaped, as the format demands. */
static infer_status put_value(struct base_str *out, const char *text)
{
    infer_status st = INFER_OK;
    for (; *text && st == INFER_OK; text++) {
        if (*text == '\\' || *text == '"' || *text == '\n')
            st = base_str_put(out, '\\');
        if (st == INFER_OK)
            st = base_str_put(out, *text == '\n' ? 'n' : *text);
    }
    return st;
}

static infer_status make_labels(struct page *p, const struct infer_session *s)
{
    const char *model = s->model_name ? s->model_name : p->vllm ? s->model->path : NULL;
    if (!model)
        return INFER_OK;
    infer_status st = base_str_appendf(&p->labels, "model_name=\"");
    if (st == INFER_OK)
        st = put_value(&p->labels, model);
    if (st == INFER_OK)
        st = base_str_appendf(&p->labels, p->vllm ? "\",engine=\"0\"" : "\"");
    return st;
}

static void render_list(struct page *p, const struct metric *metrics, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct metric *m = &metrics[i];
        const char *name = name_of(p, m->name, m->vllm);
        head(p, name, m->type, m->help);
        sample(p, name, "", "", m->value);
    }
}

static void render_values(struct page *p, const struct infer_session *s)
{
    infer_session_stats t;
    metrics_snapshot(s, &t);
    const struct kv_cache_counts kv = kv_cache_counts(s->kv);
    double used = (double)atomic_load(&s->kv->blocks->n_used) / (double)BASE_MAX(kv.n_blocks, 1);
    const struct metric metrics[] = {
        {"infer_steps_total", NULL, "counter", "Steps run", (double)t.n_steps},
        {"infer_step_seconds_total", NULL, "counter", "Time in steps", (double)t.step_ns * 1e-9},
        {"infer_compute_seconds_total", NULL, "counter", "Time of steps in the model",
         (double)t.compute_ns * 1e-9},
        {"infer_requests_submitted_total", NULL, "counter", "Requests queued",
         (double)t.n_submitted},
        {"infer_requests_refused_total", NULL, "counter", "Requests the queue had no room for",
         (double)t.n_refused},
        {"infer_requests_finished_total", NULL, "counter", "Requests completed",
         (double)t.n_finished},
        {"infer_requests_failed_total", NULL, "counter", "Requests that failed",
         (double)t.n_failed},
        {"infer_requests_cancelled_total", NULL, "counter", "Requests cancelled",
         (double)t.n_cancelled},
        {"infer_requests_expired_total", NULL, "counter", "Requests ended by their deadline",
         (double)t.n_expired},
        {"infer_preemptions_total", "vllm:num_preemptions_total", "counter",
         "Requests that gave their KV blocks to others", (double)t.n_preempted},
        {"infer_prompt_tokens_total", NULL, "counter", "Prompt tokens computed",
         (double)t.n_prompt_tokens},
        {"infer_generated_tokens_total", "vllm:generation_tokens_total", "counter",
         "Tokens generated", (double)t.n_generated_tokens},
        {"infer_requests_waiting", "vllm:num_requests_waiting", "gauge", "Requests in the queue",
         t.n_waiting},
        {"infer_requests_running", "vllm:num_requests_running", "gauge", "Requests in the batch",
         t.n_running},
        {"infer_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc", "gauge",
         "Share of KV blocks in use, 0 to 1", used},
        {"infer_kv_cache_bytes", NULL, "gauge", "Budget of the KV cache", (double)kv.bytes},
        {"infer_cached_prompt_tokens_total", NULL, "counter",
         "Prompt tokens that needed no computing", (double)t.n_cached_tokens},
        {"infer_prefix_cache_queries_total", "vllm:prefix_cache_queries_total", "counter",
         "Prompt tokens looked up in the KV cache", (double)kv.n_looked_up},
        {"infer_prefix_cache_hits_total", "vllm:prefix_cache_hits_total", "counter",
         "Prompt tokens found in the KV cache", (double)kv.n_hit},
        {"infer_draft_tokens_total", "vllm:spec_decode_num_draft_tokens_total", "counter",
         "Tokens drafted by speculation", (double)t.n_drafted_tokens},
        {"infer_accepted_draft_tokens_total", "vllm:spec_decode_num_accepted_tokens_total",
         "counter", "Drafted tokens that were right", (double)t.n_accepted_tokens},
        {"infer_models", NULL, "gauge", "Models behind the session, those that were swapped too",
         t.n_models},
        {"infer_model_evicted", NULL, "gauge", "1 while the weights are evicted", t.model_evicted},
    };
    render_list(p, metrics, BASE_COUNT(metrics));
}

/* All 0 where there is no store. */
static void render_swap(struct page *p, const struct infer_session *s)
{
    const struct cache_swap *w = s->kv->swap;
    const struct metric metrics[] = {
        {"infer_swaps_total", NULL, "counter", "Requests whose KV blocks went to the swap store",
         (double)p->totals.stats.n_swapped},
        {"infer_swapped_out_bytes_total", NULL, "counter", "Bytes written to the swap store",
         w ? (double)w->out_bytes : 0},
        {"infer_swapped_in_bytes_total", NULL, "counter", "Bytes read back from it",
         w ? (double)w->in_bytes : 0},
        {"infer_swap_failures_total", NULL, "counter",
         "Requests that the swap store had no room for, or could not write or bring back",
         w ? (double)(w->n_full + w->n_failed + w->n_damaged + w->n_lost) : 0},
        {"infer_swap_usage_ratio", NULL, "gauge", "Share of the swap store in use, 0 to 1",
         w ? 1 - (double)w->n_free / w->n_pages : 0},
    };
    render_list(p, metrics, BASE_COUNT(metrics));
}

/* What vLLM counts in another way than we do. */
static void render_vllm_values(struct page *p, const struct infer_session *s)
{
    const struct cache_blocks *b = s->kv->blocks;
    char config[96];
    infer_session_stats t;
    metrics_snapshot(s, &t);
    head(p, "vllm:prompt_tokens_total", "counter", "Prompt tokens computed or found");
    sample(p, "vllm:prompt_tokens_total", "", "", (double)(t.n_prompt_tokens + t.n_cached_tokens));
    snprintf(config, sizeof config, "block_size=\"%d\",num_gpu_blocks=\"%lld\"",
             b->config.block_tokens, (long long)kv_cache_counts(s->kv).n_blocks);
    head(p, "vllm:cache_config_info", "gauge", "Shape of the KV cache");
    sample(p, "vllm:cache_config_info", "", config, 1);
}

static void render_finishes(struct page *p)
{
    /* By infer_finish; vLLM calls both limits of length the same. */
    static const char *const names[] = {NULL,        "stop",  "length",   "context",
                                        "cancelled", "error", "deadline", NULL};
    const _Atomic uint64_t *n = p->totals.stats.n_by_finish;
    const char *name = name_of(p, "infer_requests_ended_total", "vllm:request_success_total");
    char label[48];
    head(p, name, "counter", "Requests that ended, by reason");
    for (int32_t i = INFER_FINISH_STOP; i <= INFER_FINISH_DEADLINE; i++) {
        uint64_t value = n[i];
        const char *reason = names[i];
        if (p->vllm && i == INFER_FINISH_CONTEXT)
            continue;
        if (p->vllm && i == INFER_FINISH_LENGTH)
            value += n[INFER_FINISH_CONTEXT];
        if (p->vllm && i == INFER_FINISH_CANCELLED)
            reason = "abort";
        snprintf(label, sizeof label, "finished_reason=\"%s\"", reason);
        sample(p, name, "", label, (double)value);
    }
}

struct histogram_name {
    const char *name, *vllm, *help;
};

static const struct histogram_name histograms[ENGINE_HISTOGRAMS] = {
    [ENGINE_QUEUE_TIME] = {"infer_queue_seconds", "vllm:request_queue_time_seconds",
                           "From submit to the first step"},
    [ENGINE_FIRST_TOKEN_TIME] = {"infer_time_to_first_token_seconds",
                                 "vllm:time_to_first_token_seconds",
                                 "From submit to the first token"},
    [ENGINE_INTER_TOKEN_TIME] = {"infer_inter_token_latency_seconds",
                                 "vllm:inter_token_latency_seconds", "From token to token"},
    [ENGINE_REQUEST_TIME] = {"infer_request_seconds", "vllm:e2e_request_latency_seconds",
                             "From submit to the end"},
    [ENGINE_PREFILL_TIME] = {"infer_prefill_seconds", "vllm:request_prefill_time_seconds",
                             "From the first step to the first token"},
    [ENGINE_DECODE_TIME] = {"infer_decode_seconds", "vllm:request_decode_time_seconds",
                            "From the first token to the last"},
    [ENGINE_INFERENCE_TIME] = {"infer_inference_seconds", "vllm:request_inference_time_seconds",
                               "From the first step to the last token"},
    [ENGINE_STEP_TIME] = {"infer_step_seconds", NULL, "Time of a step"},
    [ENGINE_STEP_TOKENS] = {"infer_step_tokens", "vllm:iteration_tokens_total",
                            "Tokens computed in a step"},
    [ENGINE_STEP_REQUESTS] = {"infer_step_requests", NULL, "Requests in a step"},
    [ENGINE_PROMPT_TOKENS] = {"infer_request_prompt_tokens", "vllm:request_prompt_tokens",
                              "Prompt tokens of a request"},
    [ENGINE_GENERATED_TOKENS] = {"infer_request_generated_tokens", "vllm:request_generation_tokens",
                                 "Tokens generated for a request"},
};

/* The count is the sum of the buckets as they were read, so that both always agree. */
static void render_histogram(struct page *p, int32_t id)
{
    const struct engine_histogram *h = &p->totals.stats.histograms[id];
    const char *name = name_of(p, histograms[id].name, histograms[id].vllm);
    double unit = id < ENGINE_TIMES ? 1e-9 : 1;
    uint64_t n = 0;
    char label[48];
    head(p, name, "histogram", histograms[id].help);
    for (int32_t i = 0; i <= ENGINE_BOUNDS; i++) {
        n += h->counts[i];
        if (i < ENGINE_BOUNDS)
            snprintf(label, sizeof label, "le=\"%.6g\"", (double)engine_bound(id, i) * unit);
        else
            snprintf(label, sizeof label, "le=\"+Inf\"");
        sample(p, name, "_bucket", label, (double)n);
    }
    sample(p, name, "_sum", "", (double)h->sum * unit);
    sample(p, name, "_count", "", (double)n);
}

infer_status metrics_render(const struct infer_session *s, struct base_str *out)
{
    struct page p = {.out = out, .vllm = s->metrics_names == INFER_METRICS_VLLM};
    base_str_init(&p.labels, &s->alloc, 0);
    line_sum(s->line, &p.totals);
    p.st = make_labels(&p, s);
    render_values(&p, s);
    render_swap(&p, s);
    if (p.vllm)
        render_vllm_values(&p, s);
    render_finishes(&p);
    for (int32_t id = 0; id < ENGINE_HISTOGRAMS; id++)
        render_histogram(&p, id);
    base_str_release(&p.labels);
    return p.st;
}
