/* Saving and restoring requests. */
#include "engine/snapshot.h"

#include "engine/prefix.h"
#include "model/lora.h"

/* ------------------------------------------------------------------- saving */

/* Under the session's lock, with no step running: what changes is copied, what does not is held. */
static infer_status collect(struct infer_request *r, struct cache_snapshot_head *head,
                            struct base_str *body, struct cache_held *held)
{
    if (r->state == REQUEST_FINISHED)
        return base_error(INFER_ERR_INVALID,
                          "the request has ended: there is nothing to continue, and its prefix can "
                          "be saved");
    head->adapter = r->adapter_key;
    head->numerics = r->session->numerics;
    infer_status st = cache_snapshot_put_groups(body, r->table.blocks);
    if (st == INFER_OK)
        st = snapshot_put_request(body, r);
    return st == INFER_OK ? cache_held_table(held, &r->table, r->n_computed) : st;
}

infer_status snapshot_save_request(struct infer_request *r, const struct snapshot_target *to)
{
    struct infer_session *s = r->session;
    struct cache_snapshot_head head;
    struct cache_held held = {0};
    struct base_str body;
    snapshot_head(&head, s->kv, CACHE_SNAPSHOT_REQUEST);
    base_str_init(&body, &s->alloc, 0);
    kv_cache_enter(s->kv);
    session_visit(s);
    infer_status st = collect(r, &head, &body, &held);
    session_leave(s);
    if (st == INFER_OK)
        st = snapshot_write(to, &head, &body, &held);
    cache_held_release(&held);
    kv_cache_exit(s->kv);
    base_str_release(&body);
    return st;
}

/* ---------------------------------------------------------------- restoring */

/* What the request's configuration points to while it is made. */
struct lists {
    infer_token *tokens;
    struct sample_bias *bias;
    const char **stop;
};

static infer_status make_lists(struct lists *l, const struct base_alloc *a,
                               const struct snapshot_request *saved)
{
    struct cache_cursor tokens = saved->tokens, bias = saved->bias;
    size_t n_tokens = tokens.size / 4, n_bias = bias.size / 8;
    const char *stop = (const char *)saved->stop.data;
    l->tokens = base_new_raw(a, n_tokens, sizeof *l->tokens);
    l->bias = base_new_raw(a, n_bias, sizeof *l->bias);
    l->stop = base_new_raw(a, (size_t)saved->n_stop, sizeof *l->stop);
    if (!l->tokens || !l->bias || !l->stop)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n_tokens; i++)
        l->tokens[i] = (infer_token)cache_get_u32(&tokens);
    for (size_t i = 0; i < n_bias; i++) {
        l->bias[i].token = (infer_token)cache_get_u32(&bias);
        l->bias[i].bias = cache_get_f32(&bias);
    }
    for (int32_t i = 0; i < saved->n_stop; i++, stop += strlen(stop) + 1)
        l->stop[i] = stop;
    return INFER_OK;
}

static void free_lists(struct lists *l, const struct base_alloc *a)
{
    base_free(a, l->tokens);
    base_free(a, l->bias);
    base_free(a, (void *)(uintptr_t)l->stop);
}

static infer_status check_answer(const struct infer_session *s,
                                 const struct snapshot_request *saved, const infer_token *tokens,
                                 int32_t limit)
{
    const int32_t n_vocab = s->model->hp.n_vocab;
    const uint64_t n_kept =
        saved->config.want_logits ? (uint64_t)saved->n_tokens - saved->n_taken : 0;
    for (int32_t i = 0; i < saved->n_tokens; i++)
        if (tokens[saved->n_prompt + i] < 0 || tokens[saved->n_prompt + i] >= n_vocab)
            return base_error(
                INFER_ERR_FORMAT,
                "token %d of the snapshot's answer is %d, the vocabulary has ids 0 to "
                "%d",
                i, tokens[saved->n_prompt + i], n_vocab - 1);
    if (saved->logits.size != n_kept * (uint64_t)n_vocab * 4)
        return base_error(INFER_ERR_FORMAT, "the snapshot's logits are not of %d tokens", n_vocab);
    if (saved->n_tokens && saved->n_prompt + saved->n_tokens >= limit)
        return base_error(INFER_ERR_LIMIT,
                          "the request has %d tokens and this session's context holds %d",
                          saved->n_prompt + saved->n_tokens, limit);
    return INFER_OK;
}

/* Where the answer so far stands in its grammar. */
static infer_status fill_matcher(struct infer_request *r, const infer_token *tokens, int32_t n)
{
    infer_status st = INFER_OK;
    for (int32_t i = 0; r->matcher.grammar && i < n && st == INFER_OK; i++)
        st = grammar_matcher_replay(&r->matcher, tokens[i]);
    if (st == INFER_ERR_INVALID)
        st = base_error(INFER_ERR_FORMAT,
                        "the snapshot's answer does not match its grammar: it was forged");
    return st;
}

static infer_status fill_tokens(struct infer_request *r, const struct snapshot_request *saved,
                                const infer_token *tokens)
{
    struct cache_cursor reported = saved->reported, top = saved->top;
    infer_status st = base_array_reserve(&r->alloc, &r->tokens, (size_t)saved->n_tokens);
    if (st == INFER_OK)
        st = base_array_reserve(&r->alloc, &r->top, top.size / 8);
    if (st == INFER_OK && r->sampler)
        st = sampler_replay(r->sampler, tokens, (size_t)saved->n_tokens);
    if (st == INFER_OK)
        st = fill_matcher(r, tokens, saved->n_tokens);
    for (int32_t i = 0; st == INFER_OK && i < saved->n_tokens; i++) {
        float logprob = cache_get_f32(&reported);
        size_t end = (size_t)cache_get_u64(&reported);
        r->tokens.data[r->tokens.size++] =
            (struct request_token){.token = tokens[i], .logprob = logprob, .text_end = end};
    }
    for (size_t n = top.size / 8; st == INFER_OK && n > 0; n--) {
        infer_token token = (infer_token)cache_get_u32(&top);
        r->top.data[r->top.size++] = (infer_top_logprob){token, cache_get_f32(&top)};
    }
    return st;
}

static infer_status fill_logits(struct infer_request *r, const struct snapshot_request *saved)
{
    struct cache_cursor from = saved->logits;
    const int32_t n_vocab = r->session->model->hp.n_vocab;
    while (from.at < from.size) {
        struct request_logits *l =
            base_new_raw(&r->alloc, 1, sizeof *l + (size_t)n_vocab * sizeof *l->values);
        if (!l)
            return INFER_ERR_NO_MEMORY;
        l->next = NULL;
        for (int32_t i = 0; i < n_vocab; i++)
            l->values[i] = cache_get_f32(&from);
        *r->logits_tail = l;
        r->logits_tail = &l->next;
    }
    return INFER_OK;
}

static infer_status fill(struct infer_request *r, const struct snapshot_request *saved,
                         const infer_token *tokens)
{
    struct cache_cursor scored = saved->prompt_logprobs;
    infer_status st = fill_tokens(r, saved, tokens + saved->n_prompt);
    if (st == INFER_OK)
        st = fill_logits(r, saved);
    if (st == INFER_OK)
        st = base_str_append(&r->text, (const char *)saved->text.data, saved->text.size);
    for (int32_t i = 0; scored.size && i < r->n_prompt; i++)
        r->prompt_logprobs[i] = cache_get_f32(&scored);
    r->released = (size_t)saved->released;
    r->n_prompt_scored = saved->n_scored;
    r->n_taken = (size_t)saved->n_taken;
    r->n_forks = saved->n_forks;
    r->n_cached = saved->n_cached;
    r->logprob_sum = saved->logprob_sum;
    r->decoder.at_start = saved->at_start != 0;
    r->decoder.n_pending = saved->n_pending;
    memcpy(r->decoder.pending, saved->pending, sizeof saved->pending);
    return st;
}

/* With blocks of its own it waits for its turn; where there are none left it is computed again,
 * to the same bits. */
static infer_status bring_blocks(struct infer_request *r, const struct cache_snapshot *s,
                                 int32_t n_computed)
{
    if (!n_computed || cache_table_leap(&r->table, n_computed) != INFER_OK)
        return INFER_OK;
    infer_status st = snapshot_load_blocks(*s, &r->table, 0, r->table.n_blocks, n_computed);
    if (st != INFER_OK)
        return st;
    r->n_computed = n_computed;
    prefix_keep_of(r);
    return INFER_OK;
}

static infer_status make_request(struct infer_request **out, struct infer_session *s,
                                 const struct cache_snapshot *snapshot,
                                 struct snapshot_request *saved, const struct snapshot_owner *owner)
{
    struct lists lists = {NULL, NULL, NULL};
    struct infer_request *r = NULL;
    infer_status st = make_lists(&lists, &s->alloc, saved);
    if (st == INFER_OK) {
        struct request_config *c = &saved->config;
        c->prompt = lists.tokens;
        c->n_prompt = (size_t)saved->n_prompt;
        c->sampling.bias = lists.bias;
        c->sampling.n_bias = saved->bias.size / 8;
        c->stop = lists.stop;
        c->n_stop = (size_t)saved->n_stop;
        c->adapter = owner->adapter;
        c->adapter_scale = owner->adapter_scale;
        c->cache_namespace = owner->cache_namespace;
        c->grammar = saved->has_grammar ? owner->grammar : NULL;
        c->sampling.masked = saved->has_grammar;
        c->logits_fn = saved->has_logits_fn ? owner->logits_fn : NULL;
        c->logits_user_data = owner->logits_user_data;
        if (c->speculation == INFER_SPECULATION_DRAFT) /* where there is a draft model here, too */
            c->speculation = INFER_SPECULATION_DEFAULT;
        st = request_create(&r, s, c);
    }
    if (st == INFER_OK)
        st = check_answer(s, saved, lists.tokens, r->limit);
    if (st == INFER_OK)
        st = fill(r, saved, lists.tokens);
    if (st == INFER_OK)
        st = bring_blocks(r, snapshot, saved->n_computed);
    free_lists(&lists, &s->alloc);
    if (st != INFER_OK && r)
        request_release(r);
    else
        *out = r;
    return st;
}

/* What a prompt that is only computed was given is of no meaning, and was not kept. */
static infer_status check_owner(const struct snapshot_request *saved,
                                const struct snapshot_owner *owner)
{
    const struct infer_grammar *g = owner->grammar;
    const int unused = saved->config.prefill_only;
    if (saved->has_grammar && !g)
        return base_error(INFER_ERR_INVALID,
                          "the snapshot was made with a grammar, which must be given");
    if (g && (saved->has_grammar
                  ? g->digest.low != saved->grammar.low || g->digest.high != saved->grammar.high
                  : !unused))
        return base_error(INFER_ERR_INVALID, "the snapshot was made with %s grammar",
                          saved->has_grammar ? "another" : "no");
    if (saved->has_logits_fn != (owner->logits_fn != NULL) && !unused)
        return base_error(INFER_ERR_INVALID, "the snapshot was made with %s",
                          saved->has_logits_fn ? "a logits callback, which must be given"
                                               : "no logits callback");
    return INFER_OK;
}

infer_status snapshot_restore_request(struct infer_request **out, struct infer_session *s,
                                      const void *data, size_t size,
                                      const struct snapshot_owner *owner)
{
    struct cache_snapshot snapshot;
    struct snapshot_request saved;
    struct infer_request *r = NULL;
    uint64_t adapter = owner->adapter ? model_lora_key(owner->adapter, owner->adapter_scale) : 0;
    infer_status st = snapshot_open(&snapshot, s->kv, CACHE_SNAPSHOT_REQUEST, data, size, adapter);
    if (st == INFER_OK && snapshot.head.numerics != s->numerics)
        st = base_error(INFER_ERR_INVALID, "the snapshot was made with other numerics than the "
                                           "session has");
    if (st == INFER_OK)
        st = snapshot_get_request(&saved, &snapshot);
    if (st == INFER_OK)
        st = check_owner(&saved, owner);
    if (st == INFER_OK)
        st = snapshot_check_blocks(snapshot, s->kv->blocks, saved.n_computed);
    kv_cache_enter(s->kv);
    if (st == INFER_OK)
        st = make_request(&r, s, &snapshot, &saved, owner);
    if (st == INFER_OK)
        st = session_queue(s, r);
    kv_cache_exit(s->kv);
    if (st == INFER_OK)
        *out = r;
    return st;
}
