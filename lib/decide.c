/* Public: <infer/score.h>, decisions. */
#include "engine/session.h"
#include "handle.h"

#include <infer/score.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SCALE_MAX 100

/* Ways to write the labels; label i has the ways i, i + n, i + 2 n ... */
struct ballot {
    struct base_alloc alloc;
    struct base_arena arena;
    infer_continuation *ways;
    infer_score *scores;
    size_t *sizes; /* bytes of each label alone */
    size_t n, n_ways;
};

static int ends_in_space(const char *prompt)
{
    size_t n = strlen(prompt);
    return !n || strchr(" \t\n\r", prompt[n - 1]) != NULL;
}

static infer_status add(struct ballot *b, size_t way, const char *space, const char *label,
                        const char *ending)
{
    size_t n_space = strlen(space), n_label = strlen(label), n_ending = strlen(ending);
    char *text = base_arena_new(&b->arena, n_space + n_label + n_ending + 1, 1);
    if (!text)
        return INFER_ERR_NO_MEMORY;
    memcpy(text, space, n_space);
    memcpy(text + n_space, label, n_label);
    memcpy(text + n_space + n_label, ending, n_ending);
    b->ways[way].text = text;
    b->sizes[way] = n_space + n_label;
    return INFER_OK;
}

static infer_status make_room(struct ballot *b, size_t n, size_t n_ways)
{
    b->n = n;
    b->n_ways = n_ways;
    b->ways = base_arena_new(&b->arena, n_ways, sizeof *b->ways);
    b->scores = base_arena_new(&b->arena, n_ways, sizeof *b->scores);
    b->sizes = base_arena_new(&b->arena, n_ways, sizeof *b->sizes);
    return b->ways && b->scores && b->sizes ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static infer_status add_given(struct ballot *b, const char *const *labels, size_t n,
                              const char *ending)
{
    infer_status st = make_room(b, n, n);
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        if (!labels[i] || !labels[i][0])
            return base_error(INFER_ERR_INVALID, "labels[%zu] is empty", i);
        st = add(b, i, "", labels[i], ending);
    }
    return st;
}

static infer_status add_built_in(struct ballot *b, int32_t scale, const char *space,
                                 const char *ending)
{
    static const char *const yes_no[] = {"yes", "no", "Yes", "No"};
    size_t n = scale ? (size_t)scale : 2, n_ways = scale ? n : BASE_COUNT(yes_no);
    infer_status st = make_room(b, n, n_ways);
    for (size_t i = 0; i < n_ways && st == INFER_OK; i++) {
        char number[24];
        snprintf(number, sizeof number, "%zu", i + 1);
        st = add(b, i, space, scale ? number : yes_no[i], ending);
    }
    return st;
}

static double weight_of(const struct ballot *b, size_t way, infer_decide_by by)
{
    double logprob = b->scores[way].logprob;
    if (by == INFER_DECIDE_BY_TOKEN)
        return logprob / (double)b->scores[way].n_tokens;
    return by == INFER_DECIDE_BY_BYTE ? logprob / (double)b->sizes[way] : logprob;
}

/* log(exp(a) + exp(b)), also of -infinity. */
static double log_add(double a, double b)
{
    double high = a > b ? a : b;
    return high == -INFINITY ? high : high + log(exp(a - high) + exp(b - high));
}

static infer_status count(struct ballot *b, infer_decide_by by, int32_t scale, double *shares,
                          infer_decision *out)
{
    double total = -INFINITY;
    double *weights = base_arena_new(&b->arena, b->n, sizeof *weights);
    if (!weights)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < b->n; i++)
        weights[i] = -INFINITY;
    out->logprob = -INFINITY;
    for (size_t way = 0; way < b->n_ways; way++) {
        double weight = weight_of(b, way, by);
        weights[way % b->n] = log_add(weights[way % b->n], weight);
        total = log_add(total, weight);
        out->logprob = log_add(out->logprob, b->scores[way].logprob);
    }
    if (total == -INFINITY)
        return base_error(INFER_ERR_INVALID, "none of the labels is possible");
    for (size_t i = 0; i < b->n; i++) {
        double share = exp(weights[i] - total);
        if (weights[i] > weights[out->choice])
            out->choice = (int32_t)i;
        out->mean += scale ? (double)(i + 1) * share : 0;
        if (shares)
            shares[i] = share;
    }
    out->probability = exp(weights[out->choice] - total);
    return INFER_OK;
}

static infer_status check(const infer_decide_options *o, const char *const *labels, size_t n)
{
    if (!!labels != !!n || n > INT32_MAX)
        return base_error(INFER_ERR_INVALID, "%zu labels are said to be there, and labels is %s", n,
                          labels ? "not NULL" : "NULL");
    if (o->scale < 0 || o->scale == 1 || o->scale > SCALE_MAX || (o->scale && n))
        return base_error(INFER_ERR_INVALID, "scale is %d, expected 2 to %d without labels, or 0",
                          o->scale, SCALE_MAX);
    if (o->by < INFER_DECIDE_BY_SUM || o->by > INFER_DECIDE_BY_BYTE)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_decide_by %d is not known", o->by);
    return INFER_OK;
}

static infer_status prepare(struct ballot *b, const char *prompt, const infer_decide_options *o,
                            const char *const *labels, size_t n)
{
    const char *ending = o->ending ? o->ending : o->scale > 9 ? "\n" : "";
    if (n)
        return add_given(b, labels, n, ending);
    return add_built_in(b, o->scale, prompt && !ends_in_space(prompt) ? " " : "", ending);
}

infer_status infer_session_decide(infer_decision *out, double *shares, infer_session *session,
                                  const char *prompt, const char *const *labels, size_t n_labels,
                                  const infer_decide_options *options)
{
    REQUIRE(out);
    REQUIRE(session);
    infer_decide_options o;
    infer_decision full = {0};
    infer_status st = base_info_check(out, "infer_decision");
    if (st == INFER_OK)
        st = base_options_copy(&o, sizeof o, options, "infer_decide_options");
    if (st == INFER_OK)
        st = check(&o, labels, n_labels);
    if (st != INFER_OK)
        return st;
    struct ballot b = {.alloc = session->alloc};
    base_arena_init(&b.arena, &b.alloc);
    st = prepare(&b, prompt, &o, labels, n_labels);
    if (st == INFER_OK)
        st = infer_session_score(b.scores, session, prompt, b.ways, b.n_ways, o.request);
    if (st == INFER_OK)
        st = count(&b, n_labels ? o.by : INFER_DECIDE_BY_SUM, o.scale, shares, &full);
    base_arena_release(&b.arena);
    return st == INFER_OK ? base_info_copy(out, &full, sizeof full, "infer_decision") : st;
}
