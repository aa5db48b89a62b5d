/* Public: <infer/session.h>. */
#include "engine/session.h"

#include "attach.h"
#include "handle.h"
#include "metrics.h"
#include "submit.h"

#include <infer/session.h>
#include <string.h>

#define STEP_TOKENS_MAX 65536
#define REQUESTS_MAX    16384

static infer_status check_range(const char *name, int32_t value, int32_t max)
{
    if (value < 0 || value > max)
        return base_error(INFER_ERR_INVALID, "%s is %d, expected 0 to %d", name, value, max);
    return INFER_OK;
}

static infer_status check_options(const infer_session_options *o, const infer_model *model)
{
    const struct attach what = {o->kv_cache, o->draft_model, o->n_context};
    infer_status st = check_range("n_context", o->n_context, INT32_MAX);
    if (st == INFER_OK)
        st = check_range("max_requests", o->max_requests, REQUESTS_MAX);
    if (st == INFER_OK)
        st = check_range("max_queue", o->max_queue, INT32_MAX);
    if (st == INFER_OK)
        st = check_range("step_tokens", o->step_tokens, STEP_TOKENS_MAX);
    if (st == INFER_OK)
        st = check_range("max_tenant_queue", o->max_tenant_queue, INT32_MAX);
    if (st != INFER_OK)
        return st;
    if (o->numerics < INFER_NUMERICS_STABLE || o->numerics > INFER_NUMERICS_INVARIANT)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_numerics %d is not known", o->numerics);
    if (o->metrics_names != INFER_METRICS_INFER && o->metrics_names != INFER_METRICS_VLLM)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_metrics_names %d is not known",
                          o->metrics_names);
    return attach_check(model, &what);
}

static int32_t or_default(int32_t value, int32_t fallback)
{
    return value ? value : fallback;
}

infer_status infer_session_create(infer_session **out, infer_model *model,
                                  const infer_session_options *options)
{
    REQUIRE(out);
    REQUIRE(model);
    infer_session_options o;
    struct base_alloc alloc;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_session_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &model->alloc);
    if (st == INFER_OK)
        st = check_options(&o, model);
    if (st != INFER_OK)
        return st;
    struct session_config config = {
        .alloc = &alloc,
        .n_context = session_context(model, o.n_context),
        .n_context_asked = o.n_context,
        .max_queue = or_default(o.max_queue, SESSION_MAX_QUEUE),
        .step_tokens = or_default(o.step_tokens, session_step_tokens(model)),
        .worker_thread = o.worker_thread,
        .numerics = o.numerics,
        .clock = o.clock,
        .clock_data = o.clock_data,
        .trace = o.trace,
        .trace_data = o.trace_data,
        .target_itl_ns = o.target_itl_ns,
        .priority_age_ns = o.priority_age_ns ? o.priority_age_ns : SESSION_AGE_NS,
        .max_queue_tokens = o.max_queue_tokens,
        .max_tenant_queue = o.max_tenant_queue,
        .metrics_names = o.metrics_names,
        .model_name = o.model_name,
        .draft = o.draft_model,
    };
    /* A step needs a token for each running request. */
    config.max_requests =
        BASE_MIN(or_default(o.max_requests, session_max_requests(model)), config.step_tokens);
    st = attach_cache(&config.kv, model, o.kv_cache, &alloc);
    if (st != INFER_OK)
        return st;
    st = session_create(out, model, &config);
    kv_cache_release(&config.kv);
    return st;
}

void infer_session_destroy(infer_session **session)
{
    if (!session || !*session)
        return;
    session_close(*session);
    *session = NULL;
}

infer_status infer_session_submit(infer_request **out, infer_session *session,
                                  const infer_request_options *options)
{
    REQUIRE(out);
    REQUIRE(session);
    infer_request_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_request_options");
    if (st != INFER_OK)
        return st;
    struct infer_session *s = session_current(session);
    st = submit_request(out, s, &o);
    session_done(s);
    return st;
}

/* Takes events until the end; hands out text as it comes. */
static infer_status stream(infer_request *request, infer_text_fn text, void *user_data)
{
    infer_event event;
    infer_status st = session_next(request, &event, 1);
    int stopped = 0;
    for (; st == INFER_OK; st = session_next(request, &event, 1)) {
        if (!stopped && text && event.text_size && text(event.text, event.text_size, user_data)) {
            stopped = 1;
            session_cancel(request);
        }
    }
    if (stopped)
        return base_error(INFER_ERR_CANCELLED, "the text callback stopped the generation");
    return st == INFER_DONE ? INFER_OK : st;
}

infer_status infer_session_generate(infer_session *session, const char *prompt,
                                    const infer_request_options *options, infer_text_fn text,
                                    void *user_data)
{
    REQUIRE(session);
    infer_request_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_request_options");
    if (st != INFER_OK)
        return st;
    if (prompt && o.prompt)
        return base_error(INFER_ERR_INVALID, "both prompt and options.prompt are given");
    if (prompt)
        o.prompt = prompt;
    infer_request *request = NULL;
    struct infer_session *s = session_current(session);
    st = submit_request(&request, s, &o);
    session_done(s);
    if (st != INFER_OK)
        return st;
    st = stream(request, text, user_data);
    /* The end of a session under a running call is not a complete answer. */
    if (st == INFER_OK && request->finish == INFER_FINISH_CANCELLED)
        st = base_error(INFER_ERR_CANCELLED, "the session was destroyed during the generation");
    if (st == INFER_OK && request->finish == INFER_FINISH_DEADLINE)
        st = base_error(INFER_ERR_LIMIT, "the deadline passed after %zu tokens",
                        request->tokens.size);
    session_drop(request);
    return st;
}

infer_status infer_session_step(infer_session *session)
{
    REQUIRE(session);
    return session_step(session);
}

infer_status infer_session_get_stats(const infer_session *session, infer_session_stats *stats)
{
    REQUIRE(session);
    infer_session_stats full;
    struct infer_session *s = line_newest(session->line);
    metrics_snapshot(s, &full);
    session_release(s);
    return base_info_copy(stats, &full, sizeof full, "infer_session_stats");
}

infer_status infer_session_metrics(const infer_session *session, char *text, size_t *size)
{
    REQUIRE(session);
    REQUIRE(size);
    struct base_str out;
    struct infer_session *s = line_newest(session->line);
    base_str_init(&out, &s->alloc, 0);
    infer_status st = metrics_render(s, &out);
    session_release(s);
    if (st == INFER_OK)
        st = handle_fill_text(text, size, out.data, out.size);
    base_str_release(&out);
    return st;
}
