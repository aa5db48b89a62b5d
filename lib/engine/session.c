/* Life of a session, and what is asked of it. */
#include "engine/session.h"

#include "engine/adapt.h"
#include "engine/ahead.h"
#include "engine/draft_model.h"
#include "engine/embed.h"
#include "engine/pick.h"
#include "engine/prefix.h"
#include "engine/scheduler.h"
#include "engine/trace.h"
#include "model/encode.h"

#include <string.h>

static infer_status alloc_step(struct infer_session *s)
{
    size_t n = (size_t)s->max_requests, rows = (size_t)s->step_tokens;
    const struct base_alloc *a = &s->alloc;
    s->running = base_new(a, n, sizeof *s->running);
    s->parts = base_new(a, n, sizeof *s->parts);
    s->seqs = base_new(a, n, sizeof *s->seqs);
    s->tables = base_new(a, n * CACHE_GROUPS_MAX, sizeof *s->tables);
    s->tokens = base_new(a, rows, sizeof *s->tokens);
    s->outputs = base_new(a, rows, sizeof *s->outputs);
    s->output_rows = base_new(a, rows, sizeof *s->output_rows);
    s->turns = base_new(a, n, sizeof *s->turns);
    s->adapt.parts = base_new(a, n, sizeof *s->adapt.parts);
    s->adapt.runs = base_new(a, n, sizeof *s->adapt.runs);
    s->adapt.scales = base_new(a, rows, sizeof *s->adapt.scales);
    s->encode.folds = base_new(a, n, sizeof *s->encode.folds);
    if (!s->adapt.parts || !s->adapt.runs || !s->adapt.scales || !s->encode.folds)
        return INFER_ERR_NO_MEMORY;
    if (!s->running || !s->parts || !s->seqs || !s->tables || !s->tokens || !s->outputs ||
        !s->output_rows || !s->turns)
        return INFER_ERR_NO_MEMORY;
    return INFER_OK;
}

static int32_t outputs_at_once(const struct infer_model *model, int32_t step_tokens)
{
    int32_t most =
        model->device->kind == DEVICE_CUDA ? SESSION_OUTPUTS_MAX_GPU : SESSION_OUTPUTS_MAX;
    return BASE_MIN(step_tokens, most);
}

static struct model_workspace_config workspace_config(const struct infer_model *model,
                                                      int32_t step_tokens, int32_t max_requests)
{
    return (struct model_workspace_config){.max_rows = step_tokens,
                                           .max_outputs = outputs_at_once(model, step_tokens),
                                           .max_seqs = BASE_MIN(max_requests, step_tokens),
                                           .max_tokens = model->hp.n_context};
}

int32_t session_step_tokens(const struct infer_model *model)
{
    const int gpu = model->device->kind == DEVICE_CUDA;
    if (model_is_encoder(model))
        return gpu ? SESSION_STEP_TOKENS_ENCODER_GPU : SESSION_STEP_TOKENS_ENCODER;
    return gpu ? SESSION_STEP_TOKENS_GPU : SESSION_STEP_TOKENS;
}

int32_t session_max_requests(const struct infer_model *model)
{
    return model_is_encoder(model) ? SESSION_MAX_REQUESTS_ENCODER : SESSION_MAX_REQUESTS;
}

int32_t session_context(const struct infer_model *model, int32_t wanted)
{
    const int32_t n = model->hp.n_context, most = model->pooling.max_tokens;
    if (wanted)
        return BASE_MIN(wanted, n);
    return model_is_encoder(model) && most > 0 ? BASE_MIN(most, n) : n;
}

uint64_t session_workspace_bytes(const struct infer_model *model, int32_t step_tokens,
                                 infer_numerics numerics)
{
    if (model_is_encoder(model))
        return model_encoder_bytes(model, BASE_MAX(step_tokens, session_context(model, 0)));
    struct model_workspace_config c = workspace_config(model, step_tokens, SESSION_MAX_REQUESTS);
    c.invariant = numerics == INFER_NUMERICS_INVARIANT;
    c.fast = numerics == INFER_NUMERICS_FAST;
    return model_workspace_bytes(model, &c);
}

static infer_status start(struct infer_session *s, const struct session_config *config)
{
    infer_status st = alloc_step(s);
    if (st == INFER_OK && config->model_name) {
        s->model_name = base_strdup(&s->alloc, config->model_name, strlen(config->model_name));
        st = s->model_name ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    if (st == INFER_OK && model_is_encoder(s->model))
        return embed_open(s);
    s->ws.fast = s->numerics == INFER_NUMERICS_FAST;
    if (st == INFER_OK && s->ws.fast && s->model->device->kind == DEVICE_CPU &&
        s->model->device->kernels.gemm.sgemm_rows)
        st = device_openblas(&s->ws.sgemm);
    struct model_workspace_config workspace =
        workspace_config(s->model, s->step_tokens, s->max_requests);
    workspace.max_tokens = s->n_context;
    workspace.invariant = s->numerics == INFER_NUMERICS_INVARIANT;
    workspace.fast = s->ws.fast;
    if (st == INFER_OK)
        st = model_workspace_open(&s->ws, s->model, &workspace);
    if (st == INFER_OK)
        st = pick_open(s);
    if (st == INFER_OK)
        st = ahead_init(s);
    if (st == INFER_OK && config->draft)
        st = draft_model_create(&s->draft.model, s, config->draft);
    return st;
}

/* The weights of a model are back. */
static void wake(void *data)
{
    struct session_line *line = data;
    pthread_mutex_lock(&line->lock);
    pthread_cond_broadcast(&line->changed);
    pthread_mutex_unlock(&line->lock);
}

/* Into the line that is there, or one of its own. */
static infer_status join(struct infer_session *s, const struct session_config *config)
{
    infer_status st = INFER_OK;
    if (config->line) {
        s->line = config->line;
        atomic_fetch_add(&s->line->refs, 1);
    } else {
        st = line_create(&s->line, &s->alloc);
    }
    if (st != INFER_OK)
        return st;
    s->watch = (struct model_watch){.restored = wake, .data = s->line};
    model_watch(s->model, &s->watch);
    return INFER_OK;
}

/* On the CPU the stable numerics are invariant. */
static infer_numerics numerics_of(const struct infer_model *model, infer_numerics asked)
{
    const int is_same = asked == INFER_NUMERICS_INVARIANT && model->device->kind == DEVICE_CPU;
    return is_same ? INFER_NUMERICS_STABLE : asked;
}

infer_status session_create(struct infer_session **out, struct infer_model *model,
                            const struct session_config *config)
{
    struct infer_session *s = base_new(config->alloc, 1, sizeof *s);
    if (!s)
        return INFER_ERR_NO_MEMORY;
    s->refs = 1;
    s->alloc = *config->alloc;
    s->model = model_retain(model);
    s->kv = kv_cache_retain(config->kv);
    s->n_context = config->n_context;
    s->n_context_asked = config->n_context_asked;
    s->max_requests = config->max_requests;
    s->max_queue = config->max_queue;
    /* An encoder computes a text in one step. */
    s->step_tokens =
        model_is_encoder(model) ? BASE_MAX(config->step_tokens, s->n_context) : config->step_tokens;
    s->numerics_asked = config->numerics;
    s->numerics = numerics_of(model, config->numerics);
    queue_init(&s->queue, &s->alloc, config->priority_age_ns);
    s->clock = config->clock;
    s->clock_data = config->clock_data;
    s->trace = config->trace;
    s->trace_data = config->trace_data;
    s->target_itl_ns = config->target_itl_ns;
    s->max_queue_tokens = config->max_queue_tokens;
    s->max_tenant_queue = config->max_tenant_queue;
    s->metrics_names = config->metrics_names;
    infer_status st = join(s, config);
    if (st == INFER_OK)
        st = start(s, config);
    if (st != INFER_OK) {
        session_release(s);
        return st;
    }
    s->is_handle = !config->line;
    kv_cache_join(s->kv, s); /* before anybody can ask it for something */
    line_join(s->line, s);
    if (!config->line && config->worker_thread)
        st = line_start_worker(s->line);
    if (st != INFER_OK)
        session_close(s);
    else
        *out = s;
    session_release(s); /* the line has its own */
    return st;
}

struct infer_session *session_retain(struct infer_session *session)
{
    atomic_fetch_add(&session->refs, 1);
    return session;
}

/* What it needs its model for; a handle is more than that. */
static void release_parts(struct infer_session *s)
{
    kv_cache_leave(s->kv, s);
    if (s->line)
        model_unwatch(s->model, &s->watch);
    model_workspace_close(&s->ws);
    ahead_release(s);
    embed_close(s);
    adapt_release(s);
    draft_model_destroy(&s->draft.model);
    base_free(&s->alloc, s->running);
    base_free(&s->alloc, s->parts);
    base_free(&s->alloc, s->seqs);
    base_free(&s->alloc, s->tables);
    base_free(&s->alloc, s->tokens);
    base_free(&s->alloc, s->outputs);
    base_free(&s->alloc, s->output_rows);
    pick_close(s);
    base_free(&s->alloc, s->turns);
    base_free(&s->alloc, s->model_name);
    queue_release(&s->queue);
    kv_cache_release(&s->kv);
    model_release(&s->model);
}

static void free_session(struct infer_session *s)
{
    struct base_alloc alloc = s->alloc;
    if (s->line)
        line_release(s->line);
    base_free(&alloc, s);
}

void session_release(struct infer_session *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    release_parts(s);
    int is_handle = 0;
    if (s->line) {
        pthread_mutex_lock(&s->line->lock);
        s->is_empty = 1;
        is_handle = s->is_handle;
        pthread_mutex_unlock(&s->line->lock);
    }
    if (!is_handle)
        free_session(s);
}

void session_close(struct infer_session *s)
{
    line_close(s->line);
    pthread_mutex_lock(&s->line->lock);
    int is_empty = s->is_empty;
    s->is_handle = 0;
    pthread_mutex_unlock(&s->line->lock);
    if (is_empty)
        free_session(s);
}

infer_status session_swap(struct infer_session *handle, struct infer_model *model,
                          const struct session_swap *swap)
{
    struct infer_session *old = line_newest(handle->line), *s;
    const struct session_config config = {
        .alloc = &old->alloc,
        .line = old->line,
        .kv = swap->kv,
        .draft = swap->draft,
        .n_context = swap->n_context,
        .n_context_asked = swap->n_context_asked,
        .max_requests = old->max_requests,
        .max_queue = old->max_queue,
        .step_tokens = old->step_tokens,
        .numerics = old->numerics_asked,
        .clock = old->clock,
        .clock_data = old->clock_data,
        .trace = old->trace,
        .trace_data = old->trace_data,
        .target_itl_ns = old->target_itl_ns,
        .priority_age_ns = old->queue.age_ns,
        .max_queue_tokens = old->max_queue_tokens,
        .max_tenant_queue = old->max_tenant_queue,
        .metrics_names = old->metrics_names,
        .model_name = swap->model_name ? swap->model_name : old->model_name,
    };
    infer_status st = session_create(&s, model, &config);
    session_release(old);
    if (st != INFER_OK)
        return st;
    pthread_mutex_lock(&handle->line->lock);
    line_unlock(handle->line); /* the old one may have nothing to do */
    return INFER_OK;
}

struct infer_session *session_current(struct infer_session *handle)
{
    struct session_line *line = handle->line;
    pthread_mutex_lock(&line->lock);
    struct infer_session *s = session_retain(line->newest);
    s->n_users++;
    pthread_mutex_unlock(&line->lock);
    return s;
}

void session_done(struct infer_session *s)
{
    pthread_mutex_lock(&s->line->lock);
    s->n_users--;
    line_unlock(s->line);
    session_release(s);
}

void session_visit(struct infer_session *s)
{
    struct session_line *line = s->line;
    pthread_mutex_lock(&line->lock);
    line->n_visitors++;
    while (line->stepping)
        pthread_cond_wait(&line->changed, &line->lock);
}

void session_leave(struct infer_session *s)
{
    s->line->n_visitors--;
    pthread_cond_broadcast(&s->line->changed);
    pthread_mutex_unlock(&s->line->lock);
}

infer_status session_has_room(struct infer_session *s)
{
    int32_t n = line_waiting(s->line);
    if (n < s->max_queue)
        return INFER_OK;
    s->stats.n_refused++;
    return base_error(INFER_ERR_BUSY, "%d requests are waiting, the queue is full", n);
}

/* Those that wait for an older model count too. */
static infer_status add(struct infer_session *s, struct infer_request *r)
{
    int32_t n = line_waiting(s->line);
    if (s->line->closing)
        return base_error(INFER_ERR_INVALID, "the session is being destroyed");
    if (n >= s->max_queue)
        return base_error(INFER_ERR_BUSY, "%d requests are waiting, the queue is full", n);
    return scheduler_add(s, r);
}

infer_status session_queue(struct infer_session *s, struct infer_request *r)
{
    pthread_mutex_lock(&s->line->lock);
    infer_status st = add(s, r);
    if (st == INFER_OK) {
        atomic_fetch_add(&r->refs, 1); /* the session's, until the request has ended */
        if (r->source)
            r->source->n_followers++;
        line_rejoin(s->line, s);
        pthread_cond_broadcast(&s->line->changed);
        s->stats.n_submitted++; /* while it is in its line */
    } else if (st == INFER_ERR_BUSY) {
        s->stats.n_refused++;
    }
    pthread_mutex_unlock(&s->line->lock);
    if (st != INFER_OK)
        request_release(r);
    return st;
}

infer_status session_submit(struct infer_request **out, struct infer_session *s,
                            const struct request_config *config)
{
    struct infer_request *r = NULL;
    kv_cache_enter(s->kv);
    infer_status st = request_create(&r, s, config);
    if (st == INFER_OK) {
        prefix_fetch(r);
        st = session_queue(s, r);
    }
    kv_cache_exit(s->kv);
    if (st == INFER_OK)
        *out = r;
    return st;
}

infer_status session_fork(struct infer_request **out, struct infer_request *source,
                          const struct fork_config *config)
{
    struct infer_request *r = NULL;
    kv_cache_enter(source->session->kv);
    infer_status st = request_fork(&r, source, config);
    if (st == INFER_OK)
        st = session_queue(source->session, r);
    kv_cache_exit(source->session->kv);
    if (st == INFER_OK)
        *out = r;
    return st;
}

/* Cancelled requests and those past their deadline end here when no step would do it. */
static void end_if_over(struct infer_session *s, struct infer_request *r)
{
    if (s->line->stepping || r->state == REQUEST_FINISHED)
        return;
    infer_finish finish = scheduler_over(r, r->deadline_ns ? session_now(s) : 0);
    if (finish != INFER_FINISH_NONE)
        scheduler_end(s, r, finish, INFER_OK);
}

/* Steps, or sleeps until somebody who does has done something. */
static void advance(const struct infer_request *r, int until_kept)
{
    struct session_line *line = r->session->line;
    if (line->stepping || line->has_worker)
        pthread_cond_wait(&line->changed, &line->lock);
    else if (line_step(line) == INFER_AGAIN && r->state != REQUEST_FINISHED &&
             !(until_kept && r->is_kept))
        line_rest(line);
}

infer_status session_next(struct infer_request *r, infer_event *event, int wait)
{
    struct infer_session *s = r->session;
    infer_status st;
    pthread_mutex_lock(&s->line->lock);
    for (;;) {
        end_if_over(s, r);
        st = request_take(r, event);
        if (st != INFER_AGAIN || !wait)
            break;
        advance(r, 0);
    }
    line_unlock(s->line);
    return st;
}

infer_status session_wait_kept(struct infer_request *r)
{
    struct infer_session *s = r->session;
    infer_status st = INFER_OK;
    pthread_mutex_lock(&s->line->lock);
    while (!r->is_kept && r->state != REQUEST_FINISHED)
        advance(r, 1);
    if (r->status < 0) {
        base_error_restore(r->error);
        st = r->status;
    } else if (r->finish == INFER_FINISH_DEADLINE) {
        st = base_error(INFER_ERR_LIMIT, "deadline_ns passed during the search");
    } else if (!r->is_kept) {
        st = base_error(INFER_ERR_CANCELLED, "the session was destroyed during the search");
    }
    pthread_mutex_unlock(&s->line->lock);
    return st;
}

void session_set_heirs(struct infer_request *r, int32_t n)
{
    pthread_mutex_lock(&r->session->line->lock);
    r->n_heirs = n;
    pthread_mutex_unlock(&r->session->line->lock);
}

void session_cancel(struct infer_request *r)
{
    struct session_line *line = r->session->line;
    atomic_store(&r->cancelled, 1);
    atomic_fetch_add(&r->session->n_cancels, 1);
    pthread_mutex_lock(&line->lock);
    end_if_over(r->session, r);
    pthread_cond_broadcast(&line->changed);
    line_unlock(line);
}

void session_drop(struct infer_request *r)
{
    session_cancel(r);
    request_release(r);
}

infer_status session_step(struct infer_session *handle)
{
    struct session_line *line = handle->line;
    infer_status st = INFER_DONE;
    pthread_mutex_lock(&line->lock);
    while (line->occupied) /* it is no other step, and over soon */
        pthread_cond_wait(&line->changed, &line->lock);
    if (line->stepping || line->has_worker)
        st = base_error(INFER_ERR_BUSY, "%s",
                        line->has_worker ? "the session steps on its own thread"
                                         : "another thread is stepping");
    else if (line_has_work(line)) {
        st = line_step(line);
        if (st == INFER_AGAIN)
            line_reap(line);
        if (!line_has_work(line))
            st = INFER_DONE;
    }
    line_unlock(line);
    return st;
}
