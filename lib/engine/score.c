/* Scoring: one request for the common beginning, which keeps its blocks, and one for each item. */
#include "engine/score.h"

#include <string.h>

/* Handles of the items, those from n_done up to n_sent in flight. */
struct scoring {
    struct infer_session *session;
    const struct request_config *base;
    struct infer_request *common; /* NULL: nothing is shared, or no longer */
    struct infer_request **requests;
    size_t n_sent, n_done;
};

static void drop(struct infer_request **r)
{
    if (*r)
        session_drop(*r);
    *r = NULL;
}

/* A failure here costs only time. */
static void begin_common(struct scoring *c, const struct score_item *items, size_t n,
                         int32_t n_shared)
{
    struct request_config config = *c->base;
    config.prompt = items[0].tokens;
    config.n_prompt = (size_t)n_shared;
    config.prefill_only = 1;
    config.grammar = NULL;
    config.n_heirs = (int32_t)BASE_MIN(n, (size_t)INT32_MAX);
    if (session_submit(&c->common, c->session, &config) != INFER_OK)
        c->common = NULL;
}

static infer_status send(struct scoring *c, const struct score_item *item)
{
    struct request_config config = *c->base;
    config.prompt = item->tokens;
    config.n_prompt = (size_t)item->n_tokens;
    config.prefill_only = 1;
    config.prompt_logprobs = 1;
    config.score_from = item->from;
    config.source = c->common;
    infer_status st = session_submit(&c->requests[c->n_sent], c->session, &config);
    if (st == INFER_OK)
        c->n_sent++;
    return st;
}

static infer_status collect(struct scoring *c, struct score_item *item)
{
    struct infer_request *r = c->requests[c->n_done];
    infer_event event;
    infer_status st = session_next(r, &event, 1);
    if (st < 0)
        return st;
    if (event.finish == INFER_FINISH_DEADLINE)
        return base_error(INFER_ERR_LIMIT, "deadline_ns passed during the scoring");
    if (event.finish != INFER_FINISH_LENGTH)
        return base_error(INFER_ERR_CANCELLED, "the session was destroyed during the scoring");
    memcpy(item->logprobs, r->prompt_logprobs + item->from,
           (size_t)(item->n_tokens - item->from) * sizeof *item->logprobs);
    item->is_greedy = r->is_greedy;
    drop(&c->requests[c->n_done++]);
    return INFER_OK;
}

/* Sends as many as run at once, and as many again to wait; the rest as these end. */
static infer_status advance(struct scoring *c, struct score_item *items, size_t n)
{
    size_t in_flight = c->n_sent - c->n_done;
    if (c->n_sent < n && in_flight < 2 * (size_t)c->session->max_requests) {
        infer_status st = send(c, &items[c->n_sent]);
        if (st != INFER_ERR_BUSY || (!in_flight && !c->common))
            return st;
        if (!in_flight) { /* the queue has no room beside the common part */
            drop(&c->common);
            return INFER_OK;
        }
    }
    return collect(c, &items[c->n_done]);
}

infer_status score_run(struct infer_session *s, const struct request_config *base,
                       struct score_item *items, size_t n, int32_t n_shared)
{
    struct scoring c = {.session = s, .base = base};
    infer_status st = INFER_OK;
    c.requests = base_new(&s->alloc, n, sizeof *c.requests);
    if (!c.requests)
        return INFER_ERR_NO_MEMORY;
    if (n > 1 && n_shared > 0)
        begin_common(&c, items, n, n_shared);
    while (st == INFER_OK && c.n_done < n)
        st = advance(&c, items, n);
    for (size_t i = c.n_done; i < c.n_sent; i++)
        drop(&c.requests[i]);
    drop(&c.common);
    base_free(&s->alloc, c.requests);
    return st;
}
