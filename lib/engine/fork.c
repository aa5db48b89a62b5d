/* Forks: a request whose prompt is all that another one has said so far. */
#include "engine/session.h"

/* The source's tokens, as a new array; takes its lock. */
static infer_status copy_tokens(struct infer_request *source, infer_token **out, size_t *n,
                                uint64_t *number)
{
    struct infer_session *s = source->session;
    infer_token *tokens;
    pthread_mutex_lock(&s->line->lock);
    int32_t length = request_length(source);
    tokens = base_new_raw(&s->alloc, (size_t)length, sizeof *tokens);
    for (int32_t i = 0; tokens && i < length; i++)
        tokens[i] = request_token_at(source, i);
    *number = tokens ? ++source->n_forks : 0;
    pthread_mutex_unlock(&s->line->lock);
    *out = tokens;
    *n = (size_t)length;
    return tokens ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static struct sample_params sampling_of(const struct infer_request *source,
                                        const struct fork_config *c, uint64_t number)
{
    struct sample_params p = c->sampling ? *c->sampling : source->sampling;
    p.n_top_logprobs = source->sampling.n_top_logprobs;
    p.no_logprobs = source->sampling.no_logprobs;
    p.masked = source->sampling.masked;
    if (c->seed)
        p.seed = c->seed;
    else if (!c->sampling)
        p.seed += number;
    return p;
}

infer_status request_fork(struct infer_request **out, struct infer_request *source,
                          const struct fork_config *c)
{
    const struct cache_root *root = source->table.root;
    infer_token *tokens;
    uint64_t number;
    struct request_config config = {
        .stop = (const char *const *)source->stop.strings,
        .n_stop = source->stop.n,
        .max_tokens = c->max_tokens ? c->max_tokens : source->max_tokens,
        .ignore_eos = source->ignore_eos,
        .logprobs = source->logprobs,
        .n_top_logprobs = source->n_top,
        .want_logits = source->want_logits,
        .cache_namespace = root ? root->name : NULL,
        .grammar = source->matcher.grammar,
        .disable_jump_ahead = !source->jump_ahead,
        .logits_fn = source->logits_fn,
        .logits_user_data = source->logits_user_data,
        .adapter = source->adapter,
        .adapter_scale = source->adapter_scale,
        .source = source,
        .show_special = source->decoder.special,
        .tenant = source->tenant,
        .priority = source->priority,
        .deadline_ns = source->time_limit_ns,
        .speculation = source->draft.kind,
        .max_draft_tokens = source->draft.max,
        .ngram_min = source->draft.ngram.min,
        .ngram_max = source->draft.ngram.max,
    };
    infer_status st = copy_tokens(source, &tokens, &config.n_prompt, &number);
    if (st != INFER_OK)
        return st;
    config.prompt = tokens;
    int64_t said = (int64_t)config.n_prompt - source->n_prompt;
    config.min_tokens = BASE_MAX(source->min_tokens - said, 0);
    config.n_said = (int32_t)config.n_prompt - source->n_unbound;
    config.sampling = sampling_of(source, c, number);
    st = request_create(out, source->session, &config);
    base_free(&source->session->alloc, tokens);
    return st;
}
