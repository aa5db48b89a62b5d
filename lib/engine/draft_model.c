/* Drafts by a small model. */
#include "engine/draft_model.h"

#include "base/clock.h"
#include "model/encode.h"

#include <string.h>

struct draft_model {
    struct base_alloc alloc;
    struct infer_model *model;
    struct infer_kv_cache *kv;
    struct model_workspace ws;
    int32_t step_tokens, max_requests;
    /* one pass: */
    struct model_batch batch;
    infer_token *tokens;          /* step_tokens */
    struct model_batch_seq *seqs; /* max_requests, as what follows */
    const int32_t **tables;       /* CACHE_GROUPS_MAX for each */
    struct infer_request **who;   /* whose next token is wanted, */
    int32_t *rows;                /* from which row */
    int32_t n_who;
};

/* ------------------------------------------------------------------ create */

static int same_text(struct base_view a, struct base_view b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

static infer_status check_vocabulary(const struct infer_model *model,
                                     const struct infer_model *draft)
{
    const struct text_vocab *a = model_vocab_text(model->vocab);
    const struct text_vocab *b = model_vocab_text(draft->vocab);
    if (model->hp.n_vocab != draft->hp.n_vocab || a->n_tokens != b->n_tokens)
        return base_error(INFER_ERR_INVALID,
                          "the draft model has %d tokens and the model %d: they must have the same "
                          "vocabulary",
                          draft->hp.n_vocab, model->hp.n_vocab);
    for (size_t i = 0; i < a->n_tokens; i++)
        if (!same_text(a->tokens[i], b->tokens[i]))
            return base_error(INFER_ERR_INVALID,
                              "token %zu is \"%.*s\" in the draft model and \"%.*s\" in the model: "
                              "they must have the same vocabulary",
                              i, (int)BASE_MIN(b->tokens[i].size, 64), b->tokens[i].data,
                              (int)BASE_MIN(a->tokens[i].size, 64), a->tokens[i].data);
    return INFER_OK;
}

infer_status draft_model_check(const struct infer_model *model, const struct infer_model *draft)
{
    if (!draft->arch)
        return base_error(INFER_ERR_INVALID, "the draft model %s was loaded with vocabulary_only",
                          draft->path);
    if (model_is_encoder(model) || model_is_encoder(draft))
        return base_error(INFER_ERR_UNSUPPORTED, "%s is an encoder, and drafts are for generation",
                          model_is_encoder(model) ? model->path : draft->path);
    if (model_kv_state_bytes(model) || model_kv_state_bytes(draft))
        return base_error(INFER_ERR_UNSUPPORTED,
                          "speculation with a model of the architecture %s: its recurrent state "
                          "cannot take tokens back",
                          model_kv_state_bytes(model) ? model->arch_name : draft->arch_name);
    return check_vocabulary(model, draft);
}

/* As many tokens as the session's cache has. */
static infer_status make_cache(struct draft_model *m, const struct infer_session *s)
{
    const struct cache_config *theirs = &s->kv->blocks->config;
    struct kv_cache_config c = {.alloc = &m->alloc,
                                .type = model_kv_default_type(m->model),
                                .block_tokens = theirs->block_tokens,
                                .disable_prefix = !theirs->prefix};
    uint64_t tokens = ((uint64_t)s->kv->n_spans + 1) * (uint64_t)c.block_tokens;
    c.budget_bytes = tokens * model_kv_token_bytes(m->model, c.type);
    return kv_cache_create(&m->kv, m->model, &c);
}

static infer_status alloc_pass(struct draft_model *m)
{
    size_t n = (size_t)m->max_requests;
    m->tokens = base_new(&m->alloc, (size_t)m->step_tokens, sizeof *m->tokens);
    m->seqs = base_new(&m->alloc, n, sizeof *m->seqs);
    m->tables = base_new(&m->alloc, n * CACHE_GROUPS_MAX, sizeof *m->tables);
    m->who = base_new(&m->alloc, n, sizeof *m->who);
    m->rows = base_new(&m->alloc, n, sizeof *m->rows);
    return m->tokens && m->seqs && m->tables && m->who && m->rows ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static infer_status open_workspace(struct draft_model *m)
{
    const struct model_workspace_config c = {.max_rows = m->step_tokens,
                                             .max_outputs =
                                                 BASE_MIN(m->max_requests, SESSION_OUTPUTS_MAX),
                                             .max_seqs = m->max_requests,
                                             .max_tokens = m->model->hp.n_context};
    return model_workspace_open(&m->ws, m->model, &c);
}

infer_status draft_model_create(struct draft_model **out, const struct infer_session *s,
                                struct infer_model *model)
{
    struct draft_model *m = base_new(&s->alloc, 1, sizeof *m);
    if (!m)
        return INFER_ERR_NO_MEMORY;
    m->alloc = s->alloc;
    m->model = model_retain(model);
    m->step_tokens = s->step_tokens;
    m->max_requests = s->max_requests;
    infer_status st = make_cache(m, s);
    if (st == INFER_OK)
        st = alloc_pass(m);
    if (st == INFER_OK)
        st = open_workspace(m);
    if (st != INFER_OK)
        draft_model_destroy(&m);
    else
        *out = m;
    return st;
}

void draft_model_destroy(struct draft_model **model)
{
    struct draft_model *m = *model;
    *model = NULL;
    if (!m)
        return;
    struct base_alloc alloc = m->alloc;
    model_workspace_close(&m->ws);
    base_free(&alloc, m->tokens);
    base_free(&alloc, m->seqs);
    base_free(&alloc, m->tables);
    base_free(&alloc, m->who);
    base_free(&alloc, m->rows);
    kv_cache_release(&m->kv);
    model_release(&m->model);
    base_free(&alloc, m);
}

uint64_t draft_model_bytes(const struct draft_model *m)
{
    return m ? model_workspace_held(&m->ws) : 0;
}

infer_status draft_model_join(struct infer_request *r, const struct request_config *c)
{
    const struct draft_model *m = r->session->draft.model;
    const struct cache_key key = {.name = c->cache_namespace,
                                  .n = c->cache_namespace ? strlen(c->cache_namespace) : 0};
    infer_status st = cache_table_init(&r->draft.table, m->kv->blocks,
                                       BASE_MIN(r->limit, m->model->hp.n_context));
    return st == INFER_OK ? cache_table_share(&r->draft.table, &key) : st;
}

/* -------------------------------------------------------------------- pass */

static void get_tokens(const void *sequence, int32_t first, int32_t n, infer_token *out)
{
    const struct infer_request *r = sequence;
    for (int32_t i = 0; i < n; i++)
        out[i] = request_token_at(r, first + i);
}

static void begin_pass(struct draft_model *m)
{
    m->n_who = 0;
    m->batch = (struct model_batch){.tokens = m->tokens, .seqs = m->seqs, .kv = m->kv->views};
}

/* The next n positions of a request. Behind the last token, or draft, a draft is wanted. */
static void add_rows(struct draft_model *m, struct infer_request *r, int32_t n)
{
    struct request_draft *d = &r->draft;
    int32_t length = request_length(r), at = m->batch.n_seqs++;
    const int32_t **tables = m->tables + (size_t)at * CACHE_GROUPS_MAX;
    for (int32_t g = 0; g < CACHE_GROUPS_MAX; g++)
        tables[g] = d->table.ids[g];
    m->seqs[at] = (struct model_batch_seq){
        .blocks = tables, .first_pos = d->n_computed, .row = m->batch.n_rows, .n_rows = n};
    for (int32_t i = 0; i < n; i++) {
        int32_t position = d->n_computed + i;
        m->tokens[m->batch.n_rows++] =
            position < length ? request_token_at(r, position) : d->tokens[position - length];
    }
    d->n_computed += n;
    if (d->n_computed < length + d->n)
        return;
    m->who[m->n_who] = r;
    m->rows[m->n_who++] = m->batch.n_rows - 1;
}

/* What the grammar allows behind the drafts so far, which its matcher has read. */
static infer_status constrain(struct infer_request *r)
{
    const uint64_t *mask;
    size_t n;
    if (!r->matcher.grammar)
        return INFER_OK;
    r->matcher.no_ends = r->ignore_eos || (int64_t)r->tokens.size + r->draft.n < r->min_tokens;
    infer_status st = grammar_matcher_mask(&r->matcher, &mask, &n);
    if (st == INFER_OK)
        sampler_set_mask(r->sampler, mask, grammar_matcher_tokens(&r->matcher), n);
    return st;
}

/* DONE with the answer's last token, whose row nobody needs. */
static infer_status move_on(struct infer_request *r, infer_token token)
{
    int accepts, more = 1;
    infer_status st = INFER_OK;
    if (!r->matcher.grammar)
        return INFER_OK;
    if (text_tokenizer_is_end(r->decoder.tokenizer, token))
        return INFER_DONE;
    st = grammar_matcher_push_token(&r->matcher, token);
    if (st == INFER_OK)
        st = grammar_matcher_look(&r->matcher, &accepts, &more);
    return st == INFER_OK && !more ? INFER_DONE : st;
}

/* A draft that cannot be made, for its logits are no numbers, is not made: whether the answer
 * fails is for the model itself to say. */
static void guess(struct infer_request *r, float *logits)
{
    struct request_draft *d = &r->draft;
    infer_token token;
    infer_status st = constrain(r);
    if (st == INFER_OK)
        st = sampler_guess(r->sampler, logits, (uint64_t)(request_length(r) + d->n), d->tokens,
                           d->n, &token);
    if (st == INFER_OK)
        st = move_on(r, token);
    if (st != INFER_OK)
        d->wanted = d->n;
    else
        d->tokens[d->n++] = token;
}

static infer_status compute(struct draft_model *m)
{
    size_t n_vocab = (size_t)m->model->hp.n_vocab;
    infer_status st = model_forward(&m->ws, &m->batch);
    for (int32_t first = 0; first < m->n_who && st == INFER_OK; first += m->ws.max_outputs) {
        int32_t n = BASE_MIN(m->n_who - first, m->ws.max_outputs);
        st = model_head(&m->ws, m->rows + first, n, NULL);
        for (int32_t i = 0; i < n && st == INFER_OK; i++)
            guess(m->who[first + i], m->ws.logits + (size_t)i * n_vocab);
    }
    return st == INFER_OK ? model_finish(&m->ws) : st;
}

/* A device that fails drafts nothing: whether the answer fails is for the model itself to say. */
static void run_pass(struct draft_model *m)
{
    if (compute(m) == INFER_OK)
        return;
    for (int32_t i = 0; i < m->n_who; i++)
        m->who[i]->draft.wanted = m->who[i]->draft.n;
}

/* How many of the next tokens have blocks, at most n; where these are all that are known, drafts
 * have theirs too. Without any the request does not draft, and holds nothing. */
static int32_t prepare(const struct draft_model *m, struct infer_request *r, int32_t n)
{
    struct request_draft *d = &r->draft;
    int32_t length = request_length(r);
    int32_t context = d->table.capacity * m->kv->blocks->config.block_tokens;
    context = BASE_MIN(context, m->model->hp.n_context);
    d->wanted = BASE_MIN(d->wanted, context - length + 1);
    if (d->wanted < 1)
        return 0;
    if (!d->table.n_blocks)
        d->n_computed = cache_table_find(&d->table, r, get_tokens, length - 1);
    cache_table_slide(&d->table, d->n_computed);
    int32_t all = length + d->wanted - 1;
    n = BASE_MIN(n, length - d->n_computed);
    if (cache_table_plan(&d->table, all, d->n_computed + 1) != INFER_OK) {
        cache_table_clear(&d->table);
        d->n_computed = 0;
        return 0;
    }
    n = cache_table_reach(&d->table, d->n_computed + n) - d->n_computed;
    if (d->n_computed + n == length)
        d->wanted = BASE_MIN(d->wanted, cache_table_reach(&d->table, all) - length + 1);
    return n;
}

/* What requests have that the model has not seen. */
static void catch_up(struct infer_session *s)
{
    struct draft_model *m = s->draft.model;
    int32_t budget = m->step_tokens;
    begin_pass(m);
    for (int32_t i = 0; i < s->n_parts; i++) {
        struct infer_request *r = s->parts[i].request;
        if (!r->draft.wanted)
            continue;
        int32_t n = prepare(m, r, budget);
        if (n < 1)
            r->draft.wanted = 0;
        else
            add_rows(m, r, n);
        budget -= n;
    }
    if (m->batch.n_rows)
        run_pass(m);
    for (int32_t i = 0; i < s->n_parts; i++) {
        struct infer_request *r = s->parts[i].request;
        if (r->draft.wanted)
            cache_table_keep(&r->draft.table, r, get_tokens, r->draft.n_computed);
        if (!r->draft.n)
            r->draft.wanted = 0; /* not there yet */
    }
}

static void run_passes(struct infer_session *s)
{
    struct draft_model *m = s->draft.model;
    uint64_t start;
    catch_up(s);
    for (;;) {
        begin_pass(m);
        start = base_clock_ns();
        for (int32_t i = 0; i < s->n_parts; i++) {
            struct infer_request *r = s->parts[i].request;
            if (r->draft.n < r->draft.wanted)
                add_rows(m, r, 1);
        }
        if (!m->batch.n_rows)
            return;
        run_pass(m);
        draft_pace_observe_draft(&s->draft.pace, m->batch.n_rows, base_clock_ns() - start);
    }
}

/* A model that is evicted drafts nothing; what it has missed it computes when it is back. */
void draft_model_run(struct infer_session *s)
{
    struct infer_model *model = s->draft.model->model;
    if (model_enter(model)) {
        run_passes(s);
        model_leave(model);
        return;
    }
    for (int32_t i = 0; i < s->n_parts; i++)
        s->parts[i].request->draft.wanted = 0;
}
