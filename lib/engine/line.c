/* Who steps, in which order, and when an older session leaves. */
#include "engine/line.h"

#include "base/error.h"
#include "engine/draft_model.h"
#include "engine/scheduler.h"
#include "engine/session.h"
#include "engine/step.h"
#include "engine/trace.h"
#include "model/encode.h"

#include <string.h>
#include <time.h>

/* How long to wait before trying again when another session holds the blocks. */
#define STALL_NS 1000000
/* How often a host's clock is looked at where a deadline may pass and nothing runs. */
#define CLOCK_NS 10000000

infer_status line_create(struct session_line **out, const struct base_alloc *a)
{
    struct session_line *line = base_new(a, 1, sizeof *line);
    if (!line)
        return INFER_ERR_NO_MEMORY;
    line->refs = 1;
    line->alloc = *a;
    pthread_mutex_init(&line->lock, NULL);
    pthread_mutex_init(&line->list_lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&line->changed, &attr);
    pthread_condattr_destroy(&attr);
    *out = line;
    return INFER_OK;
}

void line_release(struct session_line *line)
{
    if (atomic_fetch_sub(&line->refs, 1) != 1)
        return;
    struct base_alloc alloc = line->alloc;
    pthread_cond_destroy(&line->changed);
    pthread_mutex_destroy(&line->list_lock);
    pthread_mutex_destroy(&line->lock);
    base_free(&alloc, line);
}

/* -------------------------------------------------------------------- list */

void line_join(struct session_line *line, struct infer_session *s)
{
    pthread_mutex_lock(&line->lock);
    pthread_mutex_lock(&line->list_lock);
    s->older = line->newest;
    line->newest = session_retain(s);
    s->in_line = 1;
    pthread_mutex_unlock(&line->list_lock);
    pthread_cond_broadcast(&line->changed);
    pthread_mutex_unlock(&line->lock);
}

void line_rejoin(struct session_line *line, struct infer_session *s)
{
    if (s->in_line)
        return;
    pthread_mutex_lock(&line->list_lock);
    s->older = line->newest->older;
    line->newest->older = session_retain(s);
    s->in_line = 1;
    pthread_mutex_unlock(&line->list_lock);
}

static int has_work(const struct infer_session *s)
{
    return s->n_running || s->queue.n;
}

/* Takes out an older session without work, whose numbers stay; the reference is the caller's. One
 * at a time: once the lock is free a fork may bring it back, and what links it to others with it.
 */
static struct infer_session *take_idle(struct session_line *line)
{
    struct infer_session *s = NULL;
    /* Who occupies the line takes requests from list to list, and lets go of the lock between. */
    if (!line->newest || !line->newest->older || line->occupied)
        return NULL;
    pthread_mutex_lock(&line->list_lock);
    struct infer_session **at = &line->newest->older;
    while (*at && (has_work(*at) || (*at)->n_users || line->stepping == *at))
        at = &(*at)->older;
    if (*at) {
        s = *at;
        *at = s->older;
        s->older = NULL;
        s->in_line = 0;
        engine_stats_move(&line->past, &s->stats);
        if (line->turn == s)
            line->turn = NULL;
    }
    pthread_mutex_unlock(&line->list_lock);
    return s;
}

static void release_list(struct infer_session *s)
{
    for (struct infer_session *next; s; s = next) {
        next = s->older;
        s->older = NULL;
        session_release(s);
    }
}

void line_unlock(struct session_line *line)
{
    struct infer_session *gone;
    while ((gone = take_idle(line))) {
        pthread_mutex_unlock(&line->lock);
        session_release(gone);
        pthread_mutex_lock(&line->lock);
    }
    pthread_mutex_unlock(&line->lock);
}

struct infer_session *line_newest(struct session_line *line)
{
    pthread_mutex_lock(&line->list_lock);
    struct infer_session *s = session_retain(line->newest);
    pthread_mutex_unlock(&line->list_lock);
    return s;
}

void line_sum(struct session_line *line, struct line_totals *out)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&line->list_lock);
    engine_stats_add(&out->stats, &line->past);
    for (const struct infer_session *s = line->newest; s; s = s->older) {
        engine_stats_add(&out->stats, &s->stats);
        out->workspace_bytes += model_workspace_held(&s->ws) + draft_model_bytes(s->draft.model);
        if (s->encode.encoder)
            out->workspace_bytes += model_encoder_bytes(s->model, s->step_tokens);
        out->n_sessions++;
    }
    pthread_mutex_unlock(&line->list_lock);
}

int32_t line_waiting(struct session_line *line)
{
    int32_t n = 0;
    pthread_mutex_lock(&line->list_lock);
    for (const struct infer_session *s = line->newest; s; s = s->older)
        n += s->stats.n_waiting;
    pthread_mutex_unlock(&line->list_lock);
    return n;
}

int line_has_work(const struct session_line *line)
{
    const struct infer_session *s = line->newest;
    while (s && !has_work(s))
        s = s->older;
    return s != NULL;
}

/* ------------------------------------------------------------------- steps */

static int can_step(const struct infer_session *s)
{
    return has_work(s) && !model_is_evicted(s->model);
}

/* Who comes behind `s` in the circle; NULL: the newest does. */
static struct infer_session *next_in_turn(const struct session_line *line,
                                          const struct infer_session *s)
{
    return s && s->older ? s->older : line->newest;
}

static infer_status run_step(struct infer_session *s)
{
    struct session_line *line = s->line;
    infer_status st = INFER_AGAIN;
    line->stepping = line->turn = s;
    pthread_mutex_unlock(&line->lock);
    if (model_enter(s->model)) {
        st = engine_step(s);
        model_leave(s->model);
    }
    pthread_mutex_lock(&line->lock);
    line->stepping = NULL;
    pthread_cond_broadcast(&line->changed);
    /* Else who steps in a loop never lets go of the lock. */
    while (line->n_visitors && !line->stepping)
        pthread_cond_wait(&line->changed, &line->lock);
    return st;
}

infer_status line_step(struct session_line *line)
{
    int32_t n = 0;
    for (const struct infer_session *s = line->newest; s; s = s->older)
        n++;
    struct infer_session *s = line->turn;
    while (n-- > 0 && !line->stepping && line->newest) {
        s = next_in_turn(line, s);
        if (!can_step(s))
            continue;
        infer_status st = run_step(s);
        if (st != INFER_AGAIN)
            return st;
        s = line->turn; /* NULL: it has left meanwhile */
    }
    return INFER_AGAIN;
}

int32_t line_reap(struct session_line *line)
{
    int32_t n = 0;
    if (line->stepping)
        return 0;
    for (struct infer_session *s = line->newest; s; s = s->older) {
        if (!has_work(s) || !model_is_evicted(s->model))
            continue;
        n += s->n_running + s->queue.n;
        scheduler_reap(s, session_now(s));
        n -= s->n_running + s->queue.n;
    }
    if (n)
        pthread_cond_broadcast(&line->changed);
    return n;
}

/* When to look again; 0: when something changes. */
static uint64_t sleep_ns(const struct session_line *line)
{
    uint64_t least = UINT64_MAX;
    for (const struct infer_session *s = line->newest; s; s = s->older) {
        uint64_t ns = STALL_NS;
        if (!has_work(s) || (model_is_evicted(s->model) && !s->next_deadline_ns))
            continue;
        if (model_is_evicted(s->model)) {
            uint64_t now = session_now(s), at = s->next_deadline_ns;
            ns = s->clock ? CLOCK_NS : at > now ? at - now : 1;
        }
        least = BASE_MIN(least, ns);
    }
    return least < UINT64_MAX ? least : 0;
}

void line_rest(struct session_line *line)
{
    struct timespec t;
    if (line_reap(line))
        return;
    uint64_t ns = line->stepping ? 0 : sleep_ns(line);
    if (!ns) {
        pthread_cond_wait(&line->changed, &line->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &t);
    ns = BASE_MIN(ns, (uint64_t)INT32_MAX * 1000000000u) + (uint64_t)t.tv_nsec;
    t.tv_sec += (time_t)(ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    pthread_cond_timedwait(&line->changed, &line->lock, &t);
}

void line_occupy(struct session_line *line, const void *who)
{
    pthread_mutex_lock(&line->lock);
    line->n_visitors++;
    while (line->stepping)
        pthread_cond_wait(&line->changed, &line->lock);
    line->n_visitors--;
    line->stepping = who;
    line->occupied = 1;
    pthread_mutex_unlock(&line->lock);
}

void line_vacate(struct session_line *line)
{
    pthread_mutex_lock(&line->lock);
    line->stepping = NULL;
    line->occupied = 0;
    pthread_cond_broadcast(&line->changed);
    pthread_mutex_unlock(&line->lock);
}

static void *work(void *arg)
{
    struct session_line *line = arg;
    pthread_mutex_lock(&line->lock);
    while (!line->closing) {
        if (!line_has_work(line))
            pthread_cond_wait(&line->changed, &line->lock);
        else if (line_step(line) == INFER_AGAIN && line_has_work(line) && !line->closing)
            line_rest(line);
        if (line->newest && line->newest->older) {
            line_unlock(line);
            pthread_mutex_lock(&line->lock);
        }
    }
    pthread_mutex_unlock(&line->lock);
    return NULL;
}

infer_status line_start_worker(struct session_line *line)
{
    int err = pthread_create(&line->worker, NULL, work, line);
    if (err)
        return base_error(INFER_ERR_LIMIT, "cannot start the session's thread: %s", strerror(err));
    pthread_mutex_lock(&line->lock);
    line->has_worker = 1;
    pthread_mutex_unlock(&line->lock);
    return INFER_OK;
}

static void cancel_all(struct infer_session *s)
{
    while (s->queue.all)
        scheduler_end(s, s->queue.all, INFER_FINISH_CANCELLED, INFER_OK);
    while (s->n_running)
        scheduler_end(s, s->running[s->n_running - 1], INFER_FINISH_CANCELLED, INFER_OK);
}

void line_close(struct session_line *line)
{
    pthread_mutex_lock(&line->lock);
    line->closing = 1;
    pthread_cond_broadcast(&line->changed);
    while (line->stepping)
        pthread_cond_wait(&line->changed, &line->lock);
    for (struct infer_session *s = line->newest; s; s = s->older)
        cancel_all(s);
    pthread_cond_broadcast(&line->changed);
    int has_worker = line->has_worker;
    pthread_mutex_unlock(&line->lock);
    if (has_worker)
        pthread_join(line->worker, NULL);
    pthread_mutex_lock(&line->lock);
    pthread_mutex_lock(&line->list_lock);
    struct infer_session *all = line->newest;
    line->newest = line->turn = NULL;
    pthread_mutex_unlock(&line->list_lock);
    pthread_mutex_unlock(&line->lock);
    release_list(all);
}
