/* Life of a session, and who runs its steps. */
#include "engine/session.h"

#include "engine/adapt.h"
#include "engine/draft_model.h"
#include "engine/prefix.h"
#include "engine/scheduler.h"
#include "engine/step.h"
#include "engine/trace.h"

#include <string.h>
#include <time.h>

/* How long to wait before trying again when another session holds the blocks. */
#define STALL_NS 1000000

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
    if (!s->adapt.parts || !s->adapt.runs || !s->adapt.scales)
        return INFER_ERR_NO_MEMORY;
    if (!s->running || !s->parts || !s->seqs || !s->tables || !s->tokens || !s->outputs ||
        !s->output_rows || !s->turns)
        return INFER_ERR_NO_MEMORY;
    return INFER_OK;
}

static int32_t outputs_at_once(int32_t step_tokens)
{
    return BASE_MIN(step_tokens, SESSION_OUTPUTS_MAX);
}

static infer_status alloc_workspace(struct infer_session *s)
{
    int32_t outputs = outputs_at_once(s->step_tokens);
    size_t ws = model_workspace_init(&s->ws, s->model, s->step_tokens, outputs, NULL);
    size_t logits = (size_t)outputs * (size_t)s->model->hp.n_vocab * sizeof(float);
    infer_status st = device_workspace_reserve(&s->scratch, ws + logits);
    if (st != INFER_OK)
        return st;
    model_workspace_init(&s->ws, s->model, s->step_tokens, outputs, &s->scratch);
    s->logits = device_workspace_take(&s->scratch, logits);
    return INFER_OK;
}

uint64_t session_workspace_bytes(const struct infer_model *model, int32_t step_tokens)
{
    struct model_workspace ws = {0};
    int32_t outputs = outputs_at_once(step_tokens);
    return model_workspace_init(&ws, model, step_tokens, outputs, NULL) +
           (uint64_t)outputs * (uint64_t)model->hp.n_vocab * sizeof(float);
}

static int has_work(const struct infer_session *s)
{
    return s->n_running || s->queue.n;
}

/* Runs one step; called and returns under the lock, with nobody else stepping. */
static infer_status run_step(struct infer_session *s)
{
    s->stepping = 1;
    pthread_mutex_unlock(&s->lock);
    infer_status st = engine_step(s);
    pthread_mutex_lock(&s->lock);
    s->stepping = 0;
    pthread_cond_broadcast(&s->changed);
    while (s->n_visitors && !s->stepping) /* else who steps in a loop never lets go of the lock */
        pthread_cond_wait(&s->changed, &s->lock);
    return st;
}

void session_visit(struct infer_session *s)
{
    pthread_mutex_lock(&s->lock);
    s->n_visitors++;
    while (s->stepping)
        pthread_cond_wait(&s->changed, &s->lock);
}

void session_leave(struct infer_session *s)
{
    s->n_visitors--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void wait_a_little(struct infer_session *s)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += STALL_NS;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&s->changed, &s->lock, &t);
}

static void *worker(void *arg)
{
    struct infer_session *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->closing) {
        if (!has_work(s))
            pthread_cond_wait(&s->changed, &s->lock);
        else if (run_step(s) == INFER_AGAIN && has_work(s))
            wait_a_little(s);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static infer_status start(struct infer_session *s, const struct session_config *config)
{
    infer_status st = alloc_step(s);
    if (st == INFER_OK && config->model_name) {
        s->model_name = base_strdup(&s->alloc, config->model_name, strlen(config->model_name));
        st = s->model_name ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    if (st == INFER_OK && config->fast)
        st = device_openblas(&s->ws.sgemm);
    if (st == INFER_OK)
        st = alloc_workspace(s);
    if (st == INFER_OK && config->draft)
        st = draft_model_create(&s->draft.model, s, config->draft);
    if (st != INFER_OK || !config->worker_thread)
        return st;
    int err = pthread_create(&s->worker, NULL, worker, s);
    if (err)
        return base_error(INFER_ERR_LIMIT, "cannot start the session's thread: %s", strerror(err));
    s->has_worker = 1;
    return INFER_OK;
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
    device_workspace_init(&s->scratch, model->device);
    s->kv = kv_cache_retain(config->kv);
    s->n_context = config->n_context;
    s->max_requests = config->max_requests;
    s->max_queue = config->max_queue;
    s->step_tokens = config->step_tokens;
    s->fast = config->fast;
    queue_init(&s->queue, &s->alloc, config->priority_age_ns);
    s->clock = config->clock;
    s->clock_data = config->clock_data;
    s->trace = config->trace;
    s->trace_data = config->trace_data;
    s->target_itl_ns = config->target_itl_ns;
    s->max_queue_tokens = config->max_queue_tokens;
    s->max_tenant_queue = config->max_tenant_queue;
    s->metrics_names = config->metrics_names;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    infer_status st = start(s, config);
    if (st != INFER_OK)
        session_release(s);
    else
        *out = s;
    return st;
}

struct infer_session *session_retain(struct infer_session *session)
{
    atomic_fetch_add(&session->refs, 1);
    return session;
}

void session_release(struct infer_session *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    struct base_alloc alloc = s->alloc;
    device_workspace_release(&s->scratch);
    adapt_release(s);
    draft_model_destroy(&s->draft.model);
    base_free(&alloc, s->running);
    base_free(&alloc, s->parts);
    base_free(&alloc, s->seqs);
    base_free(&alloc, s->tables);
    base_free(&alloc, s->tokens);
    base_free(&alloc, s->outputs);
    base_free(&alloc, s->output_rows);
    base_free(&alloc, s->turns);
    base_free(&alloc, s->model_name);
    queue_release(&s->queue);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    kv_cache_release(&s->kv);
    model_release(&s->model);
    base_free(&alloc, s);
}

void session_close(struct infer_session *s)
{
    pthread_mutex_lock(&s->lock);
    s->closing = 1;
    pthread_cond_broadcast(&s->changed);
    while (s->stepping)
        pthread_cond_wait(&s->changed, &s->lock);
    while (s->queue.all)
        scheduler_end(s, s->queue.all, INFER_FINISH_CANCELLED, INFER_OK);
    while (s->n_running)
        scheduler_end(s, s->running[s->n_running - 1], INFER_FINISH_CANCELLED, INFER_OK);
    pthread_cond_broadcast(&s->changed);
    int has_worker = s->has_worker;
    pthread_mutex_unlock(&s->lock);
    if (has_worker)
        pthread_join(s->worker, NULL);
    session_release(s);
}

infer_status session_has_room(struct infer_session *s)
{
    int32_t n = s->stats.n_waiting;
    if (n < s->max_queue)
        return INFER_OK;
    s->stats.n_refused++;
    return base_error(INFER_ERR_BUSY, "%d requests are waiting, the queue is full", n);
}

infer_status session_queue(struct infer_session *s, struct infer_request *r)
{
    infer_status st = INFER_OK;
    pthread_mutex_lock(&s->lock);
    if (s->closing)
        st = base_error(INFER_ERR_INVALID, "the session is being destroyed");
    else
        st = scheduler_add(s, r);
    if (st == INFER_OK) {
        atomic_fetch_add(&r->refs, 1); /* the session's, until the request has ended */
        if (r->source)
            r->source->n_followers++;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    if (st == INFER_OK)
        s->stats.n_submitted++;
    else if (st == INFER_ERR_BUSY)
        s->stats.n_refused++;
    if (st != INFER_OK)
        request_release(r);
    return st;
}

infer_status session_submit(struct infer_request **out, struct infer_session *s,
                            const struct request_config *config)
{
    struct infer_request *r = NULL;
    infer_status st = request_create(&r, s, config);
    if (st == INFER_OK) {
        prefix_fetch(r);
        st = session_queue(s, r);
    }
    if (st == INFER_OK)
        *out = r;
    return st;
}

infer_status session_fork(struct infer_request **out, struct infer_request *source,
                          const struct fork_config *config)
{
    struct infer_request *r = NULL;
    infer_status st = request_fork(&r, source, config);
    if (st == INFER_OK)
        st = session_queue(source->session, r);
    if (st == INFER_OK)
        *out = r;
    return st;
}

/* Cancelled requests and those past their deadline end here when no step would do it. */
static void end_if_over(struct infer_session *s, struct infer_request *r)
{
    if (s->stepping || r->state == REQUEST_FINISHED)
        return;
    infer_finish finish = scheduler_over(r, r->deadline_ns ? session_now(s) : 0);
    if (finish != INFER_FINISH_NONE)
        scheduler_end(s, r, finish, INFER_OK);
}

infer_status session_next(struct infer_request *r, infer_event *event, int wait)
{
    struct infer_session *s = r->session;
    infer_status st;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        end_if_over(s, r);
        st = request_take(r, event);
        if (st != INFER_AGAIN || !wait)
            break;
        if (s->stepping || s->has_worker)
            pthread_cond_wait(&s->changed, &s->lock);
        else if (run_step(s) == INFER_AGAIN && r->state != REQUEST_FINISHED)
            wait_a_little(s);
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

infer_status session_wait_kept(struct infer_request *r)
{
    struct infer_session *s = r->session;
    infer_status st = INFER_OK;
    pthread_mutex_lock(&s->lock);
    while (!r->is_kept && r->state != REQUEST_FINISHED) {
        if (s->stepping || s->has_worker)
            pthread_cond_wait(&s->changed, &s->lock);
        else if (run_step(s) == INFER_AGAIN && r->state != REQUEST_FINISHED && !r->is_kept)
            wait_a_little(s);
    }
    if (r->status < 0) {
        base_error_restore(r->error);
        st = r->status;
    } else if (r->finish == INFER_FINISH_DEADLINE) {
        st = base_error(INFER_ERR_LIMIT, "deadline_ns passed during the search");
    } else if (!r->is_kept) {
        st = base_error(INFER_ERR_CANCELLED, "the session was destroyed during the search");
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}

void session_set_heirs(struct infer_request *r, int32_t n)
{
    pthread_mutex_lock(&r->session->lock);
    r->n_heirs = n;
    pthread_mutex_unlock(&r->session->lock);
}

void session_cancel(struct infer_request *r)
{
    atomic_store(&r->cancelled, 1);
    atomic_fetch_add(&r->session->n_cancels, 1);
    pthread_mutex_lock(&r->session->lock);
    end_if_over(r->session, r);
    pthread_cond_broadcast(&r->session->changed);
    pthread_mutex_unlock(&r->session->lock);
}

void session_drop(struct infer_request *r)
{
    session_cancel(r);
    request_release(r);
}

infer_status session_step(struct infer_session *s)
{
    infer_status st = INFER_DONE;
    pthread_mutex_lock(&s->lock);
    if (s->stepping || s->has_worker)
        st = base_error(INFER_ERR_BUSY, "%s",
                        s->has_worker ? "the session steps on its own thread"
                                      : "another thread is stepping");
    else if (has_work(s)) {
        st = run_step(s);
        if (!has_work(s))
            st = INFER_DONE;
    }
    pthread_mutex_unlock(&s->lock);
    return st;
}
