/* The waiting requests: by priority, by what their tenants got, by arrival. */
#include "engine/queue.h"

#include "base/hash.h"
#include "engine/prefix.h"
#include "engine/request.h"

#include <string.h>

void queue_init(struct engine_queue *q, const struct base_alloc *a, uint64_t age_ns)
{
    *q = (struct engine_queue){.alloc = *a, .age_ns = age_ns};
}

static const char *tenant_of(const struct infer_request *r)
{
    return r->tenant ? r->tenant : "";
}

static uint32_t bucket_of(const char *tenant, size_t n, int32_t priority)
{
    return (uint32_t)((base_hash64(tenant, n, 0) ^ (uint32_t)priority) % QUEUE_BUCKETS);
}

static struct engine_flow *find_flow(const struct engine_queue *q, const struct infer_request *r)
{
    const char *tenant = tenant_of(r);
    size_t n = strlen(tenant);
    struct engine_flow *f = q->buckets[bucket_of(tenant, n, r->priority)];
    while (f && (f->in->priority != r->priority || f->n != n || memcmp(f->tenant, tenant, n) != 0))
        f = f->next;
    return f;
}

int32_t queue_waiting(const struct engine_queue *q, const struct infer_request *r)
{
    const struct engine_flow *f = find_flow(q, r);
    return f ? f->n_waiting : 0;
}

/* ------------------------------------------------------------ flows and classes */

static struct engine_class *get_class(struct engine_queue *q, int32_t priority)
{
    struct engine_class **at = &q->classes;
    while (*at && (*at)->priority < priority)
        at = &(*at)->next;
    if (*at && (*at)->priority == priority)
        return *at;
    struct engine_class *c = base_new(&q->alloc, 1, sizeof *c);
    if (!c)
        return NULL;
    c->priority = priority;
    c->next = *at;
    *at = c;
    return c;
}

static void drop_class_if_empty(struct engine_queue *q, struct engine_class *c)
{
    struct engine_class **at = &q->classes;
    if (c->flows)
        return;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    base_free(&q->alloc, c);
}

static void drop_flow(struct engine_queue *q, struct engine_flow *f)
{
    struct engine_flow **at = &q->buckets[f->bucket];
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    for (at = &f->in->flows; *at != f;)
        at = &(*at)->next_in_class;
    *at = f->next_in_class;
    drop_class_if_empty(q, f->in);
    base_free(&q->alloc, f);
}

static void drop_idle(struct engine_queue *q)
{
    for (uint32_t i = 0; i < QUEUE_BUCKETS; i++)
        for (struct engine_flow *f = q->buckets[i], *next; f; f = next) {
            next = f->next;
            if (!f->n_requests)
                drop_flow(q, f);
        }
    q->n_idle = 0;
}

void queue_release(struct engine_queue *q)
{
    drop_idle(q);
}

static struct engine_flow *make_flow(struct engine_queue *q, const struct infer_request *r)
{
    const char *tenant = tenant_of(r);
    size_t n = strlen(tenant);
    struct engine_class *c = get_class(q, r->priority);
    struct engine_flow *f = c ? base_new(&q->alloc, 1, sizeof *f + n) : NULL;
    if (!f) {
        if (c)
            drop_class_if_empty(q, c);
        return NULL;
    }
    memcpy(f->tenant, tenant, n);
    f->n = n;
    f->in = c;
    f->bucket = bucket_of(tenant, n, r->priority);
    f->next = q->buckets[f->bucket];
    q->buckets[f->bucket] = f;
    f->next_in_class = c->flows;
    c->flows = f;
    return f;
}

/* ---------------------------------------------------------------- in and out */

infer_status queue_join(struct engine_queue *q, struct infer_request *r, uint64_t now)
{
    struct engine_flow *f = find_flow(q, r);
    if (f)
        q->n_idle -= !f->n_requests;
    else
        f = make_flow(q, r);
    if (!f)
        return INFER_ERR_NO_MEMORY;
    /* Whoever did not wait has no claim for the time it was away. */
    if (!f->n_waiting)
        f->served = BASE_MAX(f->served, f->in->floor);
    f->n_requests++;
    q->n_requests++;
    r->flow = f;
    queue_push(q, r, now);
    return INFER_OK;
}

void queue_push(struct engine_queue *q, struct infer_request *r, uint64_t now)
{
    struct engine_flow *f = r->flow;
    struct infer_request *before = f->last, *after = NULL;
    /* New ones join at the end; who comes back is among the first. */
    if (before && before->serial > r->serial) {
        for (after = f->first; after->serial < r->serial;)
            after = after->next;
        before = after->prev;
    }
    r->prev = before;
    r->next = after;
    *(before ? &before->next : &f->first) = r;
    *(after ? &after->prev : &f->last) = r;
    r->next_all = q->all;
    r->prev_all = NULL;
    if (q->all)
        q->all->prev_all = r;
    q->all = r;
    f->n_waiting++;
    if (!f->in->n_waiting++)
        f->in->since_ns = now;
    q->n++;
    q->n_tokens += (uint64_t)r->n_prompt;
}

void queue_remove(struct engine_queue *q, struct infer_request *r)
{
    struct engine_flow *f = r->flow;
    *(r->prev ? &r->prev->next : &f->first) = r->next;
    *(r->next ? &r->next->prev : &f->last) = r->prev;
    *(r->prev_all ? &r->prev_all->next_all : &q->all) = r->next_all;
    if (r->next_all)
        r->next_all->prev_all = r->prev_all;
    r->next = r->prev = r->next_all = r->prev_all = NULL;
    f->n_waiting--;
    f->in->n_waiting--;
    q->n--;
    q->n_tokens -= (uint64_t)r->n_prompt;
}

void queue_leave(struct engine_queue *q, struct infer_request *r)
{
    struct engine_flow *f = r->flow;
    r->flow = NULL;
    q->n_requests--;
    if (--f->n_requests)
        return;
    q->n_idle++;
    if (!q->n_requests || q->n_idle > QUEUE_IDLE_MAX)
        drop_idle(q);
    else if (f->served <= f->in->floor) { /* nothing that a new flow would not begin with */
        drop_flow(q, f);
        q->n_idle--;
    }
}

/* ------------------------------------------------------------------- who is next */

struct candidate {
    struct infer_request *request;
    int64_t level;
};

/* What was preempted comes first at its level: it has begun, and its flow has paid. */
static int is_better(const struct candidate *a, const struct candidate *b)
{
    if (!b->request || a->level != b->level)
        return !b->request || a->level < b->level;
    int again = a->request->start_ns != 0, other = b->request->start_ns != 0;
    if (again != other)
        return again;
    const struct engine_flow *f = a->request->flow, *g = b->request->flow;
    if (!again && f->in == g->in && f->served != g->served)
        return f->served < g->served;
    if (f->in != g->in)
        return f->in->priority < g->in->priority;
    return a->request->serial < b->request->serial;
}

struct infer_request *queue_best(const struct engine_queue *q, uint64_t now, int64_t *level)
{
    struct candidate best = {NULL, 0};
    for (const struct engine_class *c = q->classes; c; c = c->next) {
        if (!c->n_waiting)
            continue;
        int64_t aged = c->priority - queue_aged(c->since_ns, now, q->age_ns);
        for (const struct engine_flow *f = c->flows; f; f = f->next_in_class) {
            struct infer_request *r = f->first;
            while (r && prefix_must_wait(r))
                r = r->next;
            if (!r)
                continue;
            struct candidate one = {r, r->start_ns ? BASE_MIN(aged, r->rank) : aged};
            if (is_better(&one, &best))
                best = one;
        }
    }
    *level = best.level;
    return best.request;
}

int64_t queue_priority(const struct engine_queue *q)
{
    const struct engine_class *c = q->classes;
    while (c && !c->n_waiting)
        c = c->next;
    return c ? c->priority : INT64_MAX;
}

void queue_served(struct infer_request *r, uint64_t cost, uint64_t now)
{
    struct engine_flow *f = r->flow;
    f->in->since_ns = now;
    f->in->floor = BASE_MAX(f->in->floor, f->served);
    f->served += cost;
}
