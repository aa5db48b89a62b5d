/* Sending and collecting the requests of one call. */
#include "engine/flight.h"

#include "engine/trace.h"

/* Requests from n_done up to n_sent are in flight. */
struct sending {
    const struct flight *f;
    struct infer_request *common; /* NULL: nothing is shared, or no longer */
    struct infer_request **requests;
    size_t n_sent, n_done;
    uint64_t until_ns; /* 0: no deadline */
};

static void drop(struct infer_request **r)
{
    if (*r)
        session_drop(*r);
    *r = NULL;
}

static infer_status too_late(const struct sending *c)
{
    return base_error(INFER_ERR_LIMIT, "deadline_ns passed during the %s: %zu of %zu were done",
                      c->f->what, c->n_done, c->f->n);
}

/* How each request begins. */
static infer_status prepare(const struct sending *c, size_t i, struct request_config *config)
{
    *config = *c->f->base;
    c->f->fill(c->f->data, i, config);
    config->prefill_only = 1;
    if (!c->until_ns)
        return INFER_OK;
    const uint64_t now = session_now(c->f->session);
    if (now >= c->until_ns)
        return too_late(c);
    config->deadline_ns = c->until_ns - now;
    return INFER_OK;
}

/* A failure here costs only time. */
static void begin_common(struct sending *c)
{
    struct request_config config;
    if (prepare(c, 0, &config) != INFER_OK)
        return;
    config.n_prompt = (size_t)c->f->n_shared;
    config.prompt_logprobs = config.score_from = 0;
    config.rival = NULL;
    config.grammar = NULL;
    config.embed = NULL;
    config.n_heirs = (int32_t)BASE_MIN(c->f->n, (size_t)INT32_MAX);
    if (session_submit(&c->common, c->f->session, &config) != INFER_OK)
        c->common = NULL;
}

static infer_status send(struct sending *c)
{
    struct request_config config;
    infer_status st = prepare(c, c->n_sent, &config);
    config.source = c->common;
    if (st == INFER_OK)
        st = session_submit(&c->requests[c->n_sent], c->f->session, &config);
    if (st == INFER_OK)
        c->n_sent++;
    return st;
}

static infer_status collect(struct sending *c)
{
    struct infer_request **r = &c->requests[c->n_done];
    infer_event event;
    infer_status st = session_next(*r, &event, 1);
    if (st < 0)
        return st;
    if (event.finish == INFER_FINISH_DEADLINE)
        return too_late(c);
    if (event.finish != INFER_FINISH_LENGTH)
        return base_error(INFER_ERR_CANCELLED, "the session was destroyed during the %s",
                          c->f->what);
    st = c->f->collect(c->f->data, c->n_done, *r);
    drop(r);
    c->n_done++;
    return st;
}

static infer_status advance(struct sending *c)
{
    size_t in_flight = c->n_sent - c->n_done;
    if (c->n_sent < c->f->n && in_flight < 2 * (size_t)c->f->session->max_requests) {
        infer_status st = send(c);
        if (st != INFER_ERR_BUSY || (!in_flight && !c->common))
            return st;
        if (!in_flight) { /* the queue has no room beside the common part */
            drop(&c->common);
            return INFER_OK;
        }
    }
    return collect(c);
}

infer_status flight_run(const struct flight *f)
{
    struct sending c = {.f = f};
    const struct base_alloc *a = &f->session->alloc;
    infer_status st = INFER_OK;
    if (f->base->deadline_ns) {
        const uint64_t now = session_now(f->session), left = f->base->deadline_ns;
        c.until_ns = left < UINT64_MAX - now ? now + left : UINT64_MAX;
    }
    c.requests = base_new(a, f->n, sizeof *c.requests);
    if (!c.requests)
        return INFER_ERR_NO_MEMORY;
    if (f->n > 1 && f->n_shared > 0)
        begin_common(&c);
    while (st == INFER_OK && c.n_done < f->n)
        st = advance(&c);
    for (size_t i = c.n_done; i < c.n_sent; i++)
        drop(&c.requests[i]);
    drop(&c.common);
    base_free(a, c.requests);
    return st;
}
