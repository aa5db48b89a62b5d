/* Public: <infer/score.h>, scoring. */
#include "continuation.h"
#include "handle.h"
#include "submit.h"

#include <infer/score.h>
#include <string.h>

/* Room for the results of all items, in one piece. */
static infer_status give_room(struct continuation_set *set, float **room,
                              const infer_continuation *c)
{
    size_t total = 0;
    for (size_t i = 0; i < set->n; i++) {
        size_t n = (size_t)(set->items[i].n_tokens - set->items[i].from);
        if (c[i].logprobs && c[i].n_logprobs < n)
            return base_error(INFER_ERR_LIMIT,
                              "continuations[%zu].logprobs holds %zu values, %zu are needed", i,
                              c[i].n_logprobs, n);
        total += n;
    }
    *room = base_new_raw(&set->alloc, total, sizeof **room);
    if (!*room)
        return INFER_ERR_NO_MEMORY;
    float *at = *room;
    for (size_t i = 0; i < set->n; i++) {
        set->items[i].logprobs = at;
        at += set->items[i].n_tokens - set->items[i].from;
    }
    return INFER_OK;
}

static void report(infer_score *scores, const struct continuation_set *set,
                   const infer_continuation *c)
{
    for (size_t i = 0; i < set->n; i++) {
        const struct score_item *item = &set->items[i];
        int32_t n = item->n_tokens - item->from;
        infer_score score = {.n_tokens = n, .is_greedy = item->is_greedy};
        if (c[i].text)
            score.n_bytes = (int64_t)(c[i].text_size ? c[i].text_size : strlen(c[i].text));
        for (int32_t k = 0; k < n; k++)
            score.logprob += (double)item->logprobs[k];
        if (c[i].logprobs)
            memcpy(c[i].logprobs, item->logprobs, (size_t)n * sizeof *item->logprobs);
        scores[i] = score;
    }
}

static infer_status score(infer_score *scores, infer_session *s, const infer_request_options *o,
                          const infer_continuation *c, size_t n)
{
    struct continuation_set set;
    float *room = NULL;
    infer_status st = continuation_encode(&set, s, o, c, n);
    if (st != INFER_OK)
        return st;
    const struct request_config config = {
        .sampling = {.top_p = 1, .repetition_penalty = 1, .penalty_last_n = -1, .no_logprobs = 1},
        .adapter = (struct infer_adapter *)(uintptr_t)o->adapter,
        .adapter_scale = o->adapter_scale != 0 ? o->adapter_scale : 1,
        .cache_namespace = o->cache_namespace,
        .tenant = o->tenant,
        .priority = o->priority,
        .deadline_ns = o->deadline_ns,
        .grammar = (struct infer_grammar *)o->grammar, /* to count references */
    };
    st = give_room(&set, &room, c);
    if (st == INFER_OK)
        st = score_run(s, &config, set.items, n, set.n_common);
    if (st == INFER_OK)
        report(scores, &set, c);
    base_free(&s->alloc, room);
    continuation_release(&set);
    return st;
}

infer_status infer_session_score(infer_score *scores, infer_session *session, const char *prompt,
                                 const infer_continuation *continuations, size_t n,
                                 const infer_request_options *options)
{
    REQUIRE(scores);
    REQUIRE(session);
    REQUIRE(continuations);
    infer_request_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_request_options");
    if (st != INFER_OK)
        return st;
    if (prompt && o.prompt)
        return base_error(INFER_ERR_INVALID, "both prompt and options.prompt are given");
    if (prompt)
        o.prompt = prompt;
    st = submit_check(&o);
    if (st == INFER_OK && !n)
        st = base_error(INFER_ERR_INVALID, "there are no continuations to score");
    if (st != INFER_OK)
        return st;
    struct infer_session *s = session_current(session);
    st = score(scores, s, &o, continuations, n);
    session_done(s);
    return st;
}
