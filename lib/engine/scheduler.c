/* Continuous batching with chunked prefill (Yu et al., Orca, OSDI 2022; Agrawal
 * et al., Sarathi-Serve, arXiv:2403.02310): one token budget a step, decodes first. */
#include "engine/scheduler.h"

#include "engine/ahead.h"
#include "engine/draft.h"
#include "engine/preempt.h"
#include "engine/prefix.h"
#include "engine/swap.h"
#include "engine/trace.h"

#include <stdio.h>

/* Prompts go on by so much in every step, whatever the target of inter-token latency. */
#define CHUNK_MIN 8

infer_status scheduler_add(struct infer_session *s, struct infer_request *r)
{
    struct engine_queue *q = &s->queue;
    uint64_t tokens = q->n_tokens + (uint64_t)r->n_prompt;
    if (q->n >= s->max_queue)
        return base_error(INFER_ERR_BUSY, "%d requests are waiting, the queue is full", q->n);
    if (s->max_queue_tokens && q->n && tokens > s->max_queue_tokens)
        return base_error(INFER_ERR_BUSY,
                          "%llu prompt tokens are waiting, the queue has no room for %d more",
                          (unsigned long long)q->n_tokens, r->n_prompt);
    if (s->max_tenant_queue && queue_waiting(q, r) >= s->max_tenant_queue)
        return base_error(INFER_ERR_BUSY, "%d requests of this tenant are waiting",
                          s->max_tenant_queue);
    r->serial = s->line->next_serial + 1;
    r->state = REQUEST_WAITING;
    r->rank = r->priority;
    infer_status st = queue_join(q, r, r->submit_ns);
    if (st != INFER_OK)
        return st;
    s->line->next_serial++;
    s->ahead.settled = 0;
    s->stats.n_waiting = q->n;
    if (r->deadline_ns && (!s->next_deadline_ns || r->deadline_ns < s->next_deadline_ns))
        s->next_deadline_ns = r->deadline_ns;
    trace_request(s, INFER_TRACE_SUBMITTED, r, r->submit_ns);
    return INFER_OK;
}

static void waiting_remove(struct infer_session *s, struct infer_request *r)
{
    queue_remove(&s->queue, r);
    s->stats.n_waiting = s->queue.n;
}

static void observe_end(struct infer_session *s, const struct infer_request *r)
{
    struct engine_stats *t = &s->stats;
    atomic_fetch_add(&t->n_by_finish[r->finish], 1);
    engine_observe(t, ENGINE_REQUEST_TIME, r->finish_ns - r->submit_ns);
    engine_observe(t, ENGINE_PROMPT_TOKENS, (uint64_t)r->n_prompt);
    engine_observe(t, ENGINE_GENERATED_TOKENS, r->tokens.size);
    if (!r->first_ns)
        return;
    engine_observe(t, ENGINE_PREFILL_TIME, r->first_ns - r->start_ns);
    engine_observe(t, ENGINE_DECODE_TIME, r->last_ns - r->first_ns);
    engine_observe(t, ENGINE_INFERENCE_TIME, r->last_ns - r->start_ns);
}

static void count_end(struct engine_stats *t, infer_finish finish)
{
    if (finish == INFER_FINISH_ERROR)
        t->n_failed++;
    else if (finish == INFER_FINISH_CANCELLED)
        t->n_cancelled++;
    else if (finish == INFER_FINISH_DEADLINE)
        t->n_expired++;
    else
        t->n_finished++;
}

void scheduler_end(struct infer_session *s, struct infer_request *r, infer_finish finish,
                   infer_status status)
{
    if (r->state == REQUEST_WAITING)
        waiting_remove(s, r);
    else
        running_remove(s, running_find(s, r));
    ahead_forget(s, r);
    s->ahead.settled = 0;
    queue_leave(&s->queue, r);
    cache_table_clear(&r->table);
    swap_forget(s, r);
    draft_drop(r);
    prefix_leave_source(r);
    /* To keep blocks no longer is not to give up. */
    if (r->is_kept && finish == INFER_FINISH_CANCELLED)
        finish = INFER_FINISH_LENGTH;
    r->state = REQUEST_FINISHED;
    r->finish = finish;
    r->status = status;
    r->finish_ns = session_now(s);
    if (status < 0)
        snprintf(r->error, sizeof r->error, "%s", base_error_text());
    count_end(&s->stats, finish);
    observe_end(s, r);
    trace_request(s, INFER_TRACE_FINISHED, r, r->finish_ns);
    request_release(r);
}

infer_finish scheduler_over(const struct infer_request *r, uint64_t now)
{
    if (atomic_load(&r->cancelled))
        return INFER_FINISH_CANCELLED;
    return r->deadline_ns && now >= r->deadline_ns ? INFER_FINISH_DEADLINE : INFER_FINISH_NONE;
}

/* 1: it has ended. */
static int reap(struct infer_session *s, struct infer_request *r, uint64_t now)
{
    infer_finish finish = scheduler_over(r, now);
    if (finish != INFER_FINISH_NONE)
        scheduler_end(s, r, finish, INFER_OK);
    else if (r->deadline_ns && (!s->next_deadline_ns || r->deadline_ns < s->next_deadline_ns))
        s->next_deadline_ns = r->deadline_ns;
    return finish != INFER_FINISH_NONE;
}

/* Looks at all requests only when one of them is known to be over: waiting costs nothing. */
void scheduler_reap(struct infer_session *s, uint64_t now)
{
    int asked = atomic_exchange(&s->n_cancels, 0) != 0;
    if (!asked && (!s->next_deadline_ns || now < s->next_deadline_ns))
        return;
    s->next_deadline_ns = 0;
    for (struct infer_request *r = s->queue.all, *next; r; r = next) {
        next = r->next_all;
        reap(s, r, now);
    }
    for (int32_t i = s->n_running; i-- > 0;)
        reap(s, s->running[i], now);
}

static void add_part(struct infer_session *s, struct infer_request *r, int32_t n_rows, uint64_t now,
                     int32_t *budget)
{
    s->parts[s->n_parts++] = (struct engine_part){r, n_rows};
    s->n_rows += n_rows;
    r->served_ns = now;
    *budget -= n_rows;
}

static void pick_decodes(struct infer_session *s, uint64_t now, int32_t *budget)
{
    for (int32_t i = 0; i<s->n_running && * budget> 0; i++) {
        struct infer_request *r = s->running[i];
        if (request_pending(r) != 1)
            continue;
        add_part(s, r, 1, now, budget);
        r->flow->served += QUEUE_OUTPUT_WEIGHT;
    }
    s->n_decodes = s->n_parts;
}

/* ---------------------------------------------------------------------- prompts */

/* Who of two running prompts goes on first: the better level, the flow that got less, the older.
 * Levels better with the time since a prompt last went on, so that all of them do. */
static int goes_first(const struct engine_turn *a, const struct engine_turn *b)
{
    const struct infer_request *r = a->request, *other = b->request;
    if (a->level != b->level)
        return a->level < b->level;
    if (r->flow->served != other->flow->served)
        return r->flow->served < other->flow->served;
    return r->serial < other->serial;
}

static void sift_down(struct engine_turn *turns, int32_t n, int32_t at)
{
    for (int32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && goes_first(&turns[child + 1], &turns[child]))
            child++;
        if (!goes_first(&turns[child], &turns[at]))
            return;
        struct engine_turn t = turns[at];
        turns[at] = turns[child];
        turns[child] = t;
    }
}

/* As much of a prompt as there is budget, and there are blocks for; perhaps nothing in this step.
 * An encoder's are computed whole. */
static void add_chunk(struct infer_session *s, struct infer_request *r, uint64_t now,
                      int32_t *budget)
{
    if (s->encode.encoder && request_pending(r) > *budget)
        return;
    int32_t n = prefix_chunk(r, BASE_MIN(request_pending(r), *budget));
    n = cache_table_reach(&r->table, r->n_computed + n) - r->n_computed;
    if (n > 0)
        add_part(s, r, n, now, budget);
}

/* Where all fit, in the order they run; else by turns, taken from a heap. */
static void pick_prefills(struct infer_session *s, uint64_t now, int32_t *budget)
{
    int64_t total = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_running; i++) {
        struct infer_request *r = s->running[i];
        int32_t pending = request_pending(r);
        if (pending < 2)
            continue;
        total += pending;
        s->turns[n++] =
            (struct engine_turn){r, r->rank - queue_aged(r->served_ns, now, s->queue.age_ns)};
    }
    if (total <= *budget) {
        for (int32_t i = 0; i < n; i++)
            add_chunk(s, s->turns[i].request, now, budget);
        return;
    }
    for (int32_t i = n / 2; i-- > 0;)
        sift_down(s->turns, n, i);
    while (n > 0 && *budget > 0) {
        add_chunk(s, s->turns[0].request, now, budget);
        s->turns[0] = s->turns[--n];
        sift_down(s->turns, n, 0);
    }
}

/* -------------------------------------------------------------------- admission */

/* A waiting request that has its blocks joins the running ones. */
static void begin(struct infer_session *s, struct infer_request *r, int64_t level, uint64_t now)
{
    waiting_remove(s, r);
    queue_served(r, r->start_ns ? 0 : QUEUE_PROMPT_WEIGHT * (uint64_t)request_pending(r), now);
    r->state = REQUEST_RUNNING;
    r->rank = BASE_MIN((int64_t)r->rank, level);
    r->served_ns = now;
    if (!r->start_ns) {
        r->start_ns = now;
        engine_observe(&s->stats, ENGINE_QUEUE_TIME, now > r->submit_ns ? now - r->submit_ns : 0);
    }
    running_insert(s, r);
    trace_request(s, INFER_TRACE_SCHEDULED, r, now);
}

/* Who has a better priority than somebody who runs need not wait for room. */
static void admit_urgent(struct infer_session *s, uint64_t now)
{
    int64_t level;
    struct infer_request *r;
    while (s->n_running && s->running[s->n_running - 1]->rank > queue_priority(&s->queue) &&
           (r = queue_best(&s->queue, now, &level)) && preempt_can_help(s, r)) {
        while (s->n_running >= s->max_requests || prefix_begin(s, r) != INFER_OK)
            if (!preempt_waiting(s, r) && !preempt_for(s, r, now))
                return;
        begin(s, r, level, now);
    }
}

/* Blocks for all known tokens are taken at once but in windows, so that a prefill never runs dry
 * midway. */
static void admit(struct infer_session *s, uint64_t now, int32_t *budget)
{
    int64_t level;
    struct infer_request *r;
    while (*budget > 0 && (s->n_running < s->max_requests || s->n_keepers) &&
           (r = queue_best(&s->queue, now, &level))) {
        while (s->n_running >= s->max_requests || prefix_begin(s, r) != INFER_OK)
            if (!(s->n_running < s->max_requests && preempt_waiting(s, r)) && preempt_keeper(s) < 0)
                return;
        begin(s, r, level, now);
        add_chunk(s, r, now, budget);
    }
}

/* What is left of a step for prompts: less where tokens would come too slowly for those that are
 * being generated. */
static int32_t prefill_budget(const struct infer_session *s, int32_t budget)
{
    if (!s->target_itl_ns || !s->n_decodes)
        return budget;
    int32_t tokens = pace_tokens(&s->pace, s->target_itl_ns);
    tokens = tokens > s->n_decodes ? tokens - s->n_decodes : 0;
    return BASE_MIN(budget, BASE_MAX(tokens, CHUNK_MIN));
}

void scheduler_pick(struct infer_session *s, uint64_t now)
{
    int32_t budget = s->step_tokens;
    s->n_parts = s->n_rows = 0;
    for (int32_t i = 0; i < s->n_running; i++) /* before anybody asks for blocks */
        cache_table_slide(&s->running[i]->table, s->running[i]->n_computed);
    admit_urgent(s, now);
    preempt_for_decodes(s, now);
    pick_decodes(s, now, &budget);
    budget = prefill_budget(s, budget);
    pick_prefills(s, now, &budget);
    admit(s, now, &budget);
    s->ahead.settled = 1;
    s->ahead.n_in_a_row = 0;
}

/* Those that have what they keep say so, and end when all their heirs have begun. */
static void finish_keepers(struct infer_session *s)
{
    s->n_keepers = 0;
    for (int32_t i = s->n_running; i-- > 0;) {
        struct infer_request *r = s->running[i];
        r->is_kept = request_only_keeps(r);
        s->n_keepers += r->is_kept;
        if (r->is_kept && r->n_heirs <= 0)
            scheduler_end(s, r, INFER_FINISH_LENGTH, INFER_OK);
    }
}

void scheduler_finish(struct infer_session *s)
{
    for (int32_t i = 0; i < s->n_parts; i++) {
        struct infer_request *r = s->parts[i].request;
        if (!r) /* ended while its output was handled */
            continue;
        if (r->prefill_only && !r->keeps && r->n_computed == request_needed(r)) {
            r->first_ns = r->last_ns = session_now(s);
            scheduler_end(s, r, INFER_FINISH_LENGTH, INFER_OK);
        }
    }
    finish_keepers(s);
}
