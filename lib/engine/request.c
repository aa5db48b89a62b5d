/* Life of a request, and what its consumer takes. */
#include "engine/request.h"

#include "base/hash.h"
#include "engine/adapt.h"
#include "engine/draft.h"
#include "engine/embed.h"
#include "engine/trace.h"

#include <math.h>
#include <string.h>

/* Longer answers, and longer tokens on average, grow by half when the room is full. */
#define REQUEST_ROOM_TOKENS 256
#define REQUEST_ROOM_BYTES  5

static infer_status check_length(const struct infer_session *s, const struct request_config *c)
{
    if (!c->n_prompt)
        return base_error(INFER_ERR_INVALID, "the prompt is empty");
    size_t context = (size_t)s->n_context, cache = (size_t)kv_cache_capacity(s->kv);
    /* Unless it is only scored, at least one more token must fit. */
    size_t need = c->n_prompt + (c->prefill_only ? 0 : 1);
    if (need > context)
        return base_error(INFER_ERR_LIMIT, "the prompt has %zu tokens and the context holds %zu%s",
                          c->n_prompt, context, c->prefill_only ? "" : ", the answer included");
    if (need > cache)
        return base_error(INFER_ERR_LIMIT,
                          "the prompt has %zu tokens and the whole KV cache holds %zu: raise "
                          "budget_bytes",
                          c->n_prompt, cache);
    int32_t n_vocab = s->model->hp.n_vocab;
    for (size_t i = 0; i < c->n_prompt; i++)
        if (c->prompt[i] < 0 || c->prompt[i] >= n_vocab)
            return base_error(INFER_ERR_INVALID,
                              "prompt token %zu is %d, the vocabulary has ids 0 to %d", i,
                              c->prompt[i], n_vocab - 1);
    return INFER_OK;
}

/* Whether the prompt ends in text, so that what follows continues it. */
static int continues_text(const struct infer_request *r, const struct text_tokenizer *tokenizer)
{
    const struct text_vocab *vocab = text_tokenizer_vocab(tokenizer);
    for (int32_t i = 0; i < r->n_prompt; i++)
        if (!vocab->types || vocab->types[r->prompt[i]] != TEXT_TOKEN_CONTROL)
            return 1;
    return 0;
}

static infer_status set_adapter(struct infer_request *r, const struct request_config *c)
{
    if (!c->adapter)
        return INFER_OK;
    if (c->adapter->model != r->session->model)
        return base_error(INFER_ERR_INVALID, "the adapter %s was loaded for another model",
                          c->adapter->path);
    r->adapter = model_lora_retain(c->adapter);
    r->adapter_scale = c->adapter_scale;
    r->adapter_key = model_lora_key(r->adapter, r->adapter_scale);
    return adapt_reserve(r->session, r->adapter);
}

static infer_status keep_sampling(struct infer_request *r, const struct sample_params *params)
{
    r->sampling = *params;
    r->sampling.bias = NULL;
    if (!params->n_bias)
        return INFER_OK;
    struct sample_bias *bias = base_new_raw(&r->alloc, params->n_bias, sizeof *bias);
    if (!bias)
        return INFER_ERR_NO_MEMORY;
    memcpy(bias, params->bias, params->n_bias * sizeof *bias);
    r->sampling.bias = bias;
    return INFER_OK;
}

static infer_status make_table(struct infer_request *r, const struct request_config *c)
{
    const struct cache_key key = {.name = c->cache_namespace,
                                  .n = c->cache_namespace ? strlen(c->cache_namespace) : 0,
                                  .adapter = r->adapter_key,
                                  .numerics = r->session->numerics};
    infer_status st = cache_table_init(&r->table, r->session->kv->blocks, r->limit);
    return st == INFER_OK ? cache_table_share(&r->table, &key) : st;
}

/* The grammar, and where a fork's answer stands in it. */
static infer_status make_matcher(struct infer_request *r, const struct request_config *c)
{
    const struct text_tokenizer *tokenizer = model_vocab_tokenizer(r->session->model->vocab);
    int accepts, more;
    r->n_unbound = r->n_prompt - c->n_said;
    if (!c->grammar || (r->prefill_only && !r->score_from))
        return INFER_OK;
    infer_status st = grammar_matcher_init(&r->matcher, &r->alloc, c->grammar, tokenizer);
    r->matcher.no_ends = c->ignore_eos;
    for (int32_t i = r->n_unbound; i < r->n_prompt && st == INFER_OK; i++)
        st = grammar_matcher_replay(&r->matcher, r->prompt[i]);
    if (st == INFER_OK && c->said)
        st = grammar_matcher_copy(&r->matcher, c->said);
    if (st == INFER_OK && c->said)
        st = grammar_matcher_replay(&r->matcher, r->prompt[r->score_from - 1]);
    if (st == INFER_OK && c->n_said)
        st = grammar_matcher_look(&r->matcher, &accepts, &more);
    if (st == INFER_OK && c->n_said && accepts && !more)
        return base_error(INFER_ERR_INVALID, "nothing may follow the answer under its grammar");
    return st;
}

/* Every token but end tokens, for a generation that must not end yet. */
static infer_status make_no_ends(struct infer_request *r)
{
    const struct text_tokenizer *tokenizer = model_vocab_tokenizer(r->session->model->vocab);
    int32_t n_vocab = r->session->model->hp.n_vocab;
    r->no_ends = base_new(&r->alloc, ((size_t)n_vocab + 63) / 64, sizeof *r->no_ends);
    if (!r->no_ends)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n_vocab; i++) {
        if (text_tokenizer_is_end(tokenizer, i))
            continue;
        r->no_ends[i / 64] |= (uint64_t)1 << (i % 64);
        r->n_no_ends++;
    }
    return INFER_OK;
}

static infer_status make_prompt_top(struct infer_request *r)
{
    size_t n = (size_t)(r->n_prompt - r->score_from) * (size_t)r->n_prompt_top;
    r->prompt_top = base_new_raw(&r->alloc, n, sizeof *r->prompt_top);
    if (!r->prompt_top)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        r->prompt_top[i] = (infer_top_logprob){-1, -INFINITY};
    return INFER_OK;
}

static infer_status set_tenant(struct infer_request *r, const struct request_config *c)
{
    const char *tenant = c->tenant ? c->tenant : c->cache_namespace;
    r->priority = c->priority;
    r->time_limit_ns = c->deadline_ns;
    if (!tenant || !*tenant)
        return INFER_OK;
    r->tenant = base_strdup(&r->alloc, tenant, strlen(tenant));
    return r->tenant ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static infer_status make_parts(struct infer_request *r, const struct request_config *c)
{
    struct infer_session *s = r->session;
    const struct infer_kernels *kernels = &s->model->device->kernels;
    r->prompt = base_new_raw(&r->alloc, c->n_prompt, sizeof *r->prompt);
    if (!r->prompt)
        return INFER_ERR_NO_MEMORY;
    memcpy(r->prompt, c->prompt, c->n_prompt * sizeof *r->prompt);
    r->n_prompt = (int32_t)c->n_prompt;
    if (c->prompt_logprobs) {
        r->prompt_logprobs = base_new(&r->alloc, c->n_prompt, sizeof *r->prompt_logprobs);
        if (!r->prompt_logprobs)
            return INFER_ERR_NO_MEMORY;
    }
    if (r->n_top) {
        r->out_top = base_new(&r->alloc, (size_t)r->n_top, sizeof *r->out_top);
        if (!r->out_top)
            return INFER_ERR_NO_MEMORY;
    }
    infer_status st = embed_init(r, c->embed);
    if (st == INFER_OK)
        st = engine_stop_init(&r->stop, &r->alloc, c->stop, c->n_stop);
    if (st == INFER_OK && r->n_prompt_top)
        st = make_prompt_top(r);
    if (st == INFER_OK && r->min_tokens > 0 && !r->ignore_eos && !c->grammar)
        st = make_no_ends(r);
    if (st == INFER_OK && !r->prefill_only) {
        struct sample_params sampling = c->sampling;
        sampling.described = s->ws.gpu != NULL;
        st = sampler_create(&r->sampler, &r->alloc, kernels, &sampling, s->model->hp.n_vocab);
        if (st == INFER_OK)
            st = sampler_accept(r->sampler, r->prompt, c->n_prompt);
    }
    if (st == INFER_OK)
        st = make_matcher(r, c);
    if (st == INFER_OK)
        st = keep_sampling(r, &c->sampling);
    return st == INFER_OK ? make_table(r, c) : st;
}

/* Room for what is reported of an answer of usual length, so that steps ask for none. */
static infer_status make_room(struct infer_request *r)
{
    int64_t n = BASE_MIN(r->limit - r->n_prompt, REQUEST_ROOM_TOKENS);
    if (r->max_tokens)
        n = BASE_MIN(n, r->max_tokens);
    if (r->prefill_only || n < 1)
        return INFER_OK;
    infer_status st = base_array_reserve(&r->alloc, &r->tokens, (size_t)n);
    if (st == INFER_OK && r->n_top)
        st = base_array_reserve(&r->alloc, &r->top, (size_t)n * (size_t)r->n_top);
    return st == INFER_OK ? base_str_reserve(&r->text, (size_t)n * REQUEST_ROOM_BYTES) : st;
}

infer_status request_create(struct infer_request **out, struct infer_session *session,
                            const struct request_config *c)
{
    infer_status st = check_length(session, c);
    if (st != INFER_OK)
        return st;
    struct infer_request *r = base_new(&session->alloc, 1, sizeof *r);
    if (!r)
        return INFER_ERR_NO_MEMORY;
    r->refs = 1;
    r->alloc = session->alloc;
    r->session = session_retain(session);
    r->limit = BASE_MIN(session->n_context, kv_cache_capacity(session->kv));
    r->max_tokens = c->max_tokens;
    r->prefill_only = c->prefill_only;
    r->ignore_eos = c->ignore_eos;
    r->logprobs = c->logprobs;
    r->n_top = c->n_top_logprobs;
    r->want_logits = c->want_logits;
    r->jump_ahead = c->grammar && !c->disable_jump_ahead && !c->logprobs && !c->n_top_logprobs &&
                    !c->want_logits && !c->logits_fn;
    r->logits_fn = c->logits_fn;
    r->logits_user_data = c->logits_user_data;
    r->logits_tail = &r->logits;
    r->min_tokens = c->min_tokens;
    r->n_prompt_top = c->n_prompt_top;
    r->score_from = c->score_from;
    r->rival = c->rival ? *c->rival : -1;
    r->n_prompt_scored = c->score_from ? c->score_from - 1 : 0;
    r->is_greedy = 1;
    r->keeps = c->n_heirs > 0;
    r->n_heirs = c->n_heirs;
    base_str_init(&r->text, &r->alloc, 0);
    base_str_init(&r->out_text, &r->alloc, 0);
    st = set_adapter(r, c);
    if (st == INFER_OK)
        st = set_tenant(r, c);
    if (st == INFER_OK)
        st = make_parts(r, c);
    if (st == INFER_OK)
        st = draft_init(r, c);
    if (st == INFER_OK)
        st = make_room(r);
    if (st != INFER_OK) {
        request_release(r);
        return st;
    }
    const struct text_tokenizer *tokenizer = model_vocab_tokenizer(session->model->vocab);
    /* A grammar sees every byte of the text, a space in front too. */
    text_decoder_init(&r->decoder, tokenizer, c->show_special,
                      c->grammar || continues_text(r, tokenizer));
    r->source = c->source;
    if (c->source)
        atomic_fetch_add(&c->source->refs, 1);
    r->submit_ns = session_now(session);
    if (r->time_limit_ns) /* saturates: so far away is never */
        r->deadline_ns = r->time_limit_ns < UINT64_MAX - r->submit_ns
                             ? r->submit_ns + r->time_limit_ns
                             : UINT64_MAX;
    *out = r;
    return INFER_OK;
}

static void free_logits(struct infer_request *r)
{
    base_free(&r->alloc, r->out_logits);
    while (r->logits) {
        struct request_logits *next = r->logits->next;
        base_free(&r->alloc, r->logits);
        r->logits = next;
    }
}

void request_release(struct infer_request *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    struct infer_session *session = r->session;
    struct base_alloc alloc = r->alloc;
    if (r->source)
        request_release(r->source);
    free_logits(r);
    cache_table_release(&r->table);
    draft_release(r);
    embed_release(r);
    model_lora_release(&r->adapter);
    base_free(&alloc, (void *)(uintptr_t)r->sampling.bias);
    sampler_destroy(&r->sampler);
    grammar_matcher_release(&r->matcher);
    engine_stop_release(&r->stop, &alloc);
    base_array_release(&alloc, &r->tokens);
    base_array_release(&alloc, &r->top);
    base_str_release(&r->text);
    base_str_release(&r->out_text);
    base_free(&alloc, r->out_top);
    base_free(&alloc, r->prompt_logprobs);
    base_free(&alloc, r->prompt_top);
    base_free(&alloc, r->no_ends);
    base_free(&alloc, r->tenant);
    base_free(&alloc, r->prompt);
    base_free(&alloc, r);
    session_release(session);
}

/* Copies aside what the event points to: the arrays may grow while the host reads it. */
static infer_status take_text(struct infer_request *r, size_t begin, size_t end, infer_event *event)
{
    base_str_clear(&r->out_text);
    infer_status st =
        base_str_append(&r->out_text, end > begin ? r->text.data + begin : "", end - begin);
    if (st != INFER_OK)
        return st;
    event->text = r->out_text.data;
    event->text_size = r->out_text.size;
    return INFER_OK;
}

static void take_logits(struct infer_request *r, infer_event *event)
{
    base_free(&r->alloc, r->out_logits);
    r->out_logits = r->logits;
    if (!r->logits)
        return;
    r->logits = r->logits->next;
    if (!r->logits)
        r->logits_tail = &r->logits;
    event->logits = r->out_logits->values;
    event->n_logits = (size_t)r->session->model->hp.n_vocab;
}

static infer_status take_finish(struct infer_request *r, size_t begin, infer_event *event)
{
    if (r->status < 0) {
        base_error_restore(r->error);
        return r->status;
    }
    if (r->finish_taken)
        return INFER_DONE;
    infer_status st = take_text(r, begin, r->text.size, event);
    if (st != INFER_OK)
        return st;
    event->type = INFER_EVENT_FINISH;
    event->token = -1;
    event->finish = r->finish;
    event->time_ns = r->finish_ns;
    r->finish_taken = 1;
    return INFER_OK;
}

infer_status request_take(struct infer_request *r, infer_event *event)
{
    memset(event, 0, sizeof *event);
    size_t begin = r->n_taken ? r->tokens.data[r->n_taken - 1].text_end : 0;
    if (r->n_taken == r->tokens.size)
        return r->state == REQUEST_FINISHED ? take_finish(r, begin, event) : INFER_AGAIN;
    const struct request_token *t = &r->tokens.data[r->n_taken];
    infer_status st = take_text(r, begin, t->text_end, event);
    if (st != INFER_OK)
        return st;
    event->type = INFER_EVENT_TOKEN;
    event->token = t->token;
    event->logprob = t->logprob;
    event->time_ns = t->time_ns;
    if (r->n_top) {
        memcpy(r->out_top, r->top.data + r->n_taken * (size_t)r->n_top,
               (size_t)r->n_top * sizeof *r->out_top);
        event->top = r->out_top;
        event->n_top = (size_t)r->n_top;
    }
    if (r->want_logits)
        take_logits(r, event);
    r->n_taken++;
    return INFER_OK;
}
