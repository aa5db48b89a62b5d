/* Continuous batching with chunked prefill (Yu et al., Orca, OSDI 2022; Agrawal
 * et al., Sarathi-Serve, arXiv:2403.02310): one token budget a step, decodes first. */
#include "engine/scheduler.h"

#include "base/clock.h"
#include "engine/prefix.h"

#include <stdio.h>

void scheduler_add(struct infer_session *s, struct infer_request *r)
{
    r->serial = s->next_serial++;
    r->state = REQUEST_WAITING;
    r->next = NULL;
    *s->waiting_tail = r;
    s->waiting_tail = &r->next;
    s->stats.n_waiting = ++s->n_waiting;
}

static void waiting_remove(struct infer_session *s, struct infer_request *r)
{
    struct infer_request **at = &s->waiting;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (!*at)
        s->waiting_tail = at;
    r->next = NULL;
    s->stats.n_waiting = --s->n_waiting;
}

static void waiting_push_front(struct infer_session *s, struct infer_request *r)
{
    r->next = s->waiting;
    if (!s->waiting)
        s->waiting_tail = &r->next;
    s->waiting = r;
    r->state = REQUEST_WAITING;
    s->stats.n_waiting = ++s->n_waiting;
}

static void running_remove(struct infer_session *s, struct infer_request *r)
{
    int32_t i = 0;
    while (s->running[i] != r)
        i++;
    for (; i + 1 < s->n_running; i++)
        s->running[i] = s->running[i + 1];
    s->stats.n_running = --s->n_running;
}

void scheduler_end(struct infer_session *s, struct infer_request *r, infer_finish finish,
                   infer_status status)
{
    if (r->state == REQUEST_WAITING)
        waiting_remove(s, r);
    else
        running_remove(s, r);
    cache_table_clear(&r->table);
    prefix_leave_source(r);
    /* To keep blocks no longer is not to give up. */
    if (r->is_kept && finish == INFER_FINISH_CANCELLED)
        finish = INFER_FINISH_LENGTH;
    r->state = REQUEST_FINISHED;
    r->finish = finish;
    r->status = status;
    if (status < 0)
        snprintf(r->error, sizeof r->error, "%s", base_error_text());
    if (finish == INFER_FINISH_ERROR)
        s->stats.n_failed++;
    else if (finish == INFER_FINISH_CANCELLED)
        s->stats.n_cancelled++;
    else
        s->stats.n_finished++;
    request_release(r);
}

void scheduler_reap(struct infer_session *s)
{
    for (struct infer_request *r = s->waiting, *next; r; r = next) {
        next = r->next;
        if (atomic_load(&r->cancelled))
            scheduler_end(s, r, INFER_FINISH_CANCELLED, INFER_OK);
    }
    for (int32_t i = s->n_running; i-- > 0;)
        if (atomic_load(&s->running[i]->cancelled))
            scheduler_end(s, s->running[i], INFER_FINISH_CANCELLED, INFER_OK);
}

/* Positions that are not in the cache yet. */
static int32_t pending(const struct infer_request *r)
{
    return request_needed(r) - r->n_computed;
}

/* Whether it has nothing more to do than to keep its blocks for others. */
static int only_keeps(const struct infer_request *r)
{
    return r->keeps && r->n_computed == request_needed(r);
}

/* Room for others: the newest request that only keeps blocks ends. Its heirs find in the prefix
 * cache what is still there. */
static int stop_keeping(struct infer_session *s)
{
    for (int32_t i = s->n_running; i-- > 0;)
        if (only_keeps(s->running[i])) {
            scheduler_end(s, s->running[i], INFER_FINISH_LENGTH, INFER_OK);
            return 1;
        }
    return 0;
}

/* Back to the front of the queue; its tokens stay, their keys and values are computed again. */
static void preempt(struct infer_session *s, struct infer_request *r)
{
    running_remove(s, r);
    cache_table_clear(&r->table);
    r->n_computed = 0;
    waiting_push_front(s, r);
    s->stats.n_preempted++;
}

static void add_part(struct infer_session *s, struct infer_request *r, int32_t n_rows,
                     int32_t *budget)
{
    s->parts[s->n_parts++] = (struct engine_part){r, n_rows};
    *budget -= n_rows;
}

/* Makes room for one more token of running[i]: newer requests give way, at last it does itself. */
static int reserve_decode(struct infer_session *s, int32_t i)
{
    struct infer_request *r = s->running[i];
    while (cache_table_reserve(&r->table, request_length(r)) != INFER_OK) {
        if (stop_keeping(s))
            continue;
        struct infer_request *newest = s->running[s->n_running - 1];
        preempt(s, newest);
        if (newest == r)
            return 0;
    }
    return 1;
}

static void pick_decodes(struct infer_session *s, int32_t *budget)
{
    /* n_running shrinks when newer requests are preempted. */
    for (int32_t i = 0; i<s->n_running && * budget> 0; i++) {
        struct infer_request *r = s->running[i];
        int32_t n = pending(r);
        if (n == 1 && reserve_decode(s, i))
            add_part(s, r, 1, budget);
        else if (n > 1 && r->tokens.size) /* forced by a grammar: computed as prompts are */
            reserve_decode(s, i);
    }
}

static void pick_prefills(struct infer_session *s, int32_t *budget)
{
    for (int32_t i = 0; i<s->n_running && * budget> 0; i++) {
        int32_t n = pending(s->running[i]);
        if (n > 1)
            add_part(s, s->running[i], prefix_chunk(s->running[i], BASE_MIN(n, *budget)), budget);
    }
}

/* Blocks for all known tokens are taken at once, so that a prefill never runs dry midway. */
static void admit(struct infer_session *s, int32_t *budget)
{
    for (struct infer_request *r = s->waiting, *next; r; r = next) {
        next = r->next;
        if (*budget <= 0)
            return;
        if (prefix_must_wait(r))
            continue;
        if (s->n_running >= s->max_requests && !stop_keeping(s))
            return;
        while (prefix_begin(s, r) != INFER_OK)
            if (!stop_keeping(s))
                return;
        waiting_remove(s, r);
        r->state = REQUEST_RUNNING;
        if (!r->start_ns)
            r->start_ns = base_clock_ns();
        /* Keep the order of arrival: a preempted request comes back before newer ones. */
        int32_t at = s->n_running++;
        for (; at > 0 && s->running[at - 1]->serial > r->serial; at--)
            s->running[at] = s->running[at - 1];
        s->running[at] = r;
        s->stats.n_running = s->n_running;
        add_part(s, r, prefix_chunk(r, BASE_MIN(pending(r), *budget)), budget);
    }
}

void scheduler_pick(struct infer_session *s)
{
    int32_t budget = s->step_tokens;
    s->n_parts = 0;
    for (int32_t i = 0; i < s->n_running; i++) /* before anybody asks for blocks */
        cache_table_slide(&s->running[i]->table, s->running[i]->n_computed);
    pick_decodes(s, &budget);
    pick_prefills(s, &budget);
    admit(s, &budget);
}

void scheduler_finish(struct infer_session *s)
{
    for (int32_t i = 0; i < s->n_parts; i++) {
        struct infer_request *r = s->parts[i].request;
        if (!r) /* ended while its output was handled */
            continue;
        if (r->prefill_only && !r->keeps && r->n_computed == request_needed(r)) {
            r->first_ns = r->last_ns = base_clock_ns();
            scheduler_end(s, r, INFER_FINISH_LENGTH, INFER_OK);
        }
    }
    for (int32_t i = s->n_running; i-- > 0;) {
        struct infer_request *r = s->running[i];
        r->is_kept = only_keeps(r);
        if (r->is_kept && r->n_heirs <= 0)
            scheduler_end(s, r, INFER_FINISH_LENGTH, INFER_OK);
    }
}
