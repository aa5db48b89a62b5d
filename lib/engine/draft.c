/* Which requests draft, how much, and from what. */
#include "engine/draft.h"

#include "engine/accept.h"
#include "engine/draft_model.h"

#define NGRAM_MIN_DEFAULT 2
#define NGRAM_MAX_DEFAULT 5

static infer_status resolve(struct infer_request *r, const struct request_config *c)
{
    const struct infer_session *s = r->session;
    infer_speculation kind = c->speculation;
    if (c->logits_fn) /* it may go by the tokens that the host has taken so far */
        kind = INFER_SPECULATION_OFF;
    if (kind == INFER_SPECULATION_DEFAULT)
        kind = s->draft.model ? INFER_SPECULATION_DRAFT : INFER_SPECULATION_OFF;
    if (kind == INFER_SPECULATION_DRAFT && !s->draft.model)
        return base_error(INFER_ERR_INVALID,
                          "speculation by a draft model, and the session has none");
    if (kind != INFER_SPECULATION_OFF && model_kv_state_bytes(s->model))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "speculation with a model of the architecture %s: its recurrent state "
                          "cannot take tokens back",
                          s->model->arch_name);
    r->draft.kind = kind;
    return INFER_OK;
}

static infer_status init_ngram(struct infer_request *r, const struct request_config *c)
{
    int32_t min = c->ngram_min, max = c->ngram_max;
    if (!min)
        min = max ? BASE_MIN(max, NGRAM_MIN_DEFAULT) : NGRAM_MIN_DEFAULT;
    if (!max)
        max = BASE_MAX(min, NGRAM_MAX_DEFAULT);
    return ngram_init(&r->draft.ngram, &r->alloc, min, max, r->limit);
}

infer_status draft_init(struct infer_request *r, const struct request_config *c)
{
    struct request_draft *d = &r->draft;
    infer_status st = resolve(r, c);
    if (st != INFER_OK || d->kind == INFER_SPECULATION_OFF || r->prefill_only)
        return st; /* max stays 0: no drafts */
    d->max = c->max_draft_tokens ? c->max_draft_tokens : DRAFT_TOKENS;
    d->tokens = base_new(&r->alloc, (size_t)d->max, sizeof *d->tokens);
    if (!d->tokens)
        return INFER_ERR_NO_MEMORY;
    return d->kind == INFER_SPECULATION_NGRAM ? init_ngram(r, c) : draft_model_join(r, c);
}

void draft_release(struct infer_request *r)
{
    ngram_release(&r->draft.ngram, &r->alloc);
    cache_table_release(&r->draft.table);
    base_free(&r->alloc, r->draft.tokens);
}

void draft_drop(struct infer_request *r)
{
    cache_table_clear(&r->draft.table);
    r->draft.n_computed = 0;
}

static infer_token token_at(const void *sequence, int32_t position)
{
    return request_token_at(sequence, position);
}

/* Drafts that can be of use: the last token of an answer needs no row. */
static int32_t most(const struct infer_request *r)
{
    int64_t n = BASE_MIN(r->draft.max, r->limit - request_length(r) - 1);
    if (r->max_tokens)
        n = BASE_MIN(n, r->max_tokens - (int64_t)r->tokens.size - 1);
    return (int32_t)BASE_MAX(n, 0);
}

/* What follows an end token is never looked at. */
static void cut(struct infer_request *r)
{
    for (int32_t i = 0; !r->ignore_eos && i < r->draft.n; i++)
        if (text_tokenizer_is_end(r->decoder.tokenizer, r->draft.tokens[i]))
            r->draft.n = i;
}

/* Drafts get blocks last, and never another request's. */
static void reserve(struct infer_request *r)
{
    int32_t length = request_length(r), n = length + r->draft.n;
    if (cache_table_reserve(&r->table, n) != INFER_OK)
        r->draft.n = cache_table_reach(&r->table, n) - length;
}

/* Whether the matcher, which moves on, takes a draft, and goes on behind it: an answer's last token
 * needs no row. */
static int may_follow(struct infer_request *r, infer_token token)
{
    const struct text_tokenizer *t = r->decoder.tokenizer;
    int accepts, more;
    return !text_tokenizer_is_end(t, token) && text_tokenizer_piece_view(t, token, 0).size > 0 &&
           grammar_matcher_push_token(&r->matcher, token) == INFER_OK &&
           grammar_matcher_look(&r->matcher, &accepts, &more) == INFER_OK && more;
}

/* Drafts end where the grammar forbids them, and what it forces is a draft that is right if those
 * before it are; at most n. */
static void fit_grammar(struct infer_request *r, int32_t n)
{
    struct request_draft *d = &r->draft;
    int32_t length = 0, n_found = d->n;
    infer_token forced;
    d->n = 0;
    if (grammar_matcher_mark(&r->matcher) != INFER_OK)
        return;
    for (; length < n && grammar_matcher_forced(&r->matcher, &forced) == INFER_OK; length++) {
        if (forced >= 0 && (length >= n_found || d->tokens[length] != forced)) {
            d->tokens[length] = forced;
            n_found = 0; /* the rest is of another text */
        } else if (length >= n_found && forced < 0) {
            break;
        }
        if (!may_follow(r, d->tokens[length]))
            break;
    }
    d->n = length;
    grammar_matcher_back(&r->matcher);
}

static void make(struct infer_session *s, struct infer_request *r, int32_t n)
{
    struct request_draft *d = &r->draft;
    const int by_model = !s->draft.hook && d->kind == INFER_SPECULATION_DRAFT;
    if (s->draft.hook)
        d->n = s->draft.hook(s->draft.hook_data, r, d->tokens, n);
    else if (!by_model)
        d->n = ngram_draft(&d->ngram, r, token_at, request_length(r), d->tokens, n);
    if (!by_model && r->matcher.grammar)
        fit_grammar(r, n);
    else if (by_model && (!r->matcher.grammar || grammar_matcher_mark(&r->matcher) == INFER_OK))
        d->wanted = n;
}

/* Tokens that a grammar forced are computed beside the last one that was chosen. */
static int decodes(const struct engine_part *p)
{
    const struct infer_request *r = p->request;
    return r->draft.kind != INFER_SPECULATION_OFF &&
           p->n_rows == request_length(r) - r->n_computed &&
           (p->n_rows == 1 || (r->jump_ahead && r->tokens.size));
}

/* Lengths by the pace of the session; n-grams are found at once. */
static int plan(struct infer_session *s, int32_t spare)
{
    struct draft_pace_plan plan = {&s->draft.pace, s->step_tokens - spare, s->n_parts, 0};
    int any = 0;
    for (int32_t i = 0; i < s->n_parts; i++) {
        struct infer_request *r = s->parts[i].request;
        double cost = r->draft.kind == INFER_SPECULATION_DRAFT ? s->draft.pace.draft_ns : 0;
        r->draft.n = r->draft.wanted = 0;
        if (!decodes(&s->parts[i]))
            continue;
        int32_t n = BASE_MIN(most(r), spare);
        if (!s->draft.fixed)
            n = draft_pace_choose(&plan, &r->draft.record, cost, n);
        if (!n)
            continue;
        make(s, r, n);
        spare -= BASE_MAX(r->draft.n, r->draft.wanted);
        any = 1;
    }
    return any;
}

void draft_run(struct infer_session *s)
{
    int32_t spare = s->step_tokens, any = 0;
    s->draft.n_rows = 0;
    for (int32_t i = 0; i < s->n_parts; i++) {
        spare -= s->parts[i].n_rows;
        any |= s->parts[i].request->draft.kind != INFER_SPECULATION_OFF;
    }
    if (!any || !plan(s, spare))
        return;
    if (s->draft.model && !s->draft.hook)
        draft_model_run(s);
    for (int32_t i = 0; i < s->n_parts; i++) {
        struct infer_request *r = s->parts[i].request;
        grammar_matcher_back(&r->matcher); /* of drafts by the model */
        cut(r);
        if (!r->draft.n)
            continue;
        reserve(r);
        s->parts[i].n_rows += r->draft.n;
        s->draft.n_rows += r->draft.n;
    }
}

void draft_finish(struct infer_session *s, uint64_t ns)
{
    /* Prompts cost another price a row. */
    if (s->batch.n_rows - s->draft.n_rows == s->n_parts)
        draft_pace_observe(&s->draft.pace, s->batch.n_rows, ns);
    for (int32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].request && s->parts[i].request->draft.kind != INFER_SPECULATION_OFF)
            accept_settle(s->parts[i].request);
}
