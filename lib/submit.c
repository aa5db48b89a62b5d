/* Prompt in its three forms, sampling with its defaults, limits checked. */
#include "submit.h"

#include "engine/draft.h"
#include "handle.h"
#include "render.h"

#include <math.h>
#include <string.h>

#define TOP_LOGPROBS_MAX 64
#define STOP_MAX         256

static infer_status check_float(const char *name, float value, float min, float max)
{
    if (!(value >= min && value <= max))
        return base_error(INFER_ERR_INVALID, "sampling.%s is %g, expected %g to %g", name,
                          (double)value, (double)min, (double)max);
    return INFER_OK;
}

static infer_status check_bias(const infer_sampling *s, int32_t n_vocab)
{
    if (s->n_logit_bias && !s->logit_bias)
        return base_error(INFER_ERR_INVALID, "sampling.logit_bias is NULL");
    for (size_t i = 0; i < s->n_logit_bias; i++) {
        const infer_logit_bias *b = &s->logit_bias[i];
        if (b->token < 0 || b->token >= n_vocab)
            return base_error(
                INFER_ERR_INVALID,
                "sampling.logit_bias[%zu].token is %d, the vocabulary has ids 0 to %d", i, b->token,
                n_vocab - 1);
        if (isnan(b->bias) || b->bias == INFINITY)
            return base_error(INFER_ERR_INVALID, "sampling.logit_bias[%zu].bias is %g", i,
                              (double)b->bias);
    }
    return INFER_OK;
}

/* The largest penalties and temperatures anybody could mean. */
#define PENALTY_MAX     100.0f
#define TEMPERATURE_MAX 1000.0f

static infer_status check_sampling(const infer_sampling *s, int32_t n_vocab)
{
    infer_status st = check_float("temperature", s->temperature, 0, TEMPERATURE_MAX);
    if (st == INFER_OK)
        st = check_float("top_p", s->top_p, 0, 1);
    if (st == INFER_OK)
        st = check_float("min_p", s->min_p, 0, 1);
    if (st == INFER_OK)
        st = check_float("repetition_penalty", s->repetition_penalty, 0, PENALTY_MAX);
    if (st == INFER_OK)
        st = check_float("frequency_penalty", s->frequency_penalty, -PENALTY_MAX, PENALTY_MAX);
    if (st == INFER_OK)
        st = check_float("presence_penalty", s->presence_penalty, -PENALTY_MAX, PENALTY_MAX);
    if (st == INFER_OK && (s->top_k < 0 || s->penalty_last_n < 0))
        st = base_error(INFER_ERR_INVALID,
                        "sampling.top_k is %d and penalty_last_n %d, expected 0 "
                        "or more",
                        s->top_k, s->penalty_last_n);
    return st == INFER_OK ? check_bias(s, n_vocab) : st;
}

static infer_status get_sampling(const infer_model *model, const infer_sampling *given,
                                 infer_sampling *out)
{
    infer_status st;
    if (given) {
        st = base_options_copy(out, sizeof *out, given, "infer_sampling");
    } else {
        out->struct_size = sizeof *out;
        st = infer_model_sampling(model, out);
    }
    return st == INFER_OK ? check_sampling(out, model->hp.n_vocab) : st;
}

_Static_assert(sizeof(struct sample_bias) == sizeof(infer_logit_bias) &&
                   offsetof(struct sample_bias, bias) == offsetof(infer_logit_bias, bias),
               "the public record is read as the internal one");

static struct sample_params sample_params_of(const infer_sampling *s,
                                             const infer_request_options *o)
{
    return (struct sample_params){
        .temperature = s->temperature,
        .top_k = s->top_k,
        .top_p = s->top_p > 0 ? s->top_p : 1,
        .min_p = s->min_p,
        .repetition_penalty = s->repetition_penalty > 0 ? s->repetition_penalty : 1,
        .frequency_penalty = s->frequency_penalty,
        .presence_penalty = s->presence_penalty,
        .penalty_last_n = s->penalty_last_n ? s->penalty_last_n : -1,
        .seed = s->seed,
        .bias = (const struct sample_bias *)s->logit_bias,
        .n_bias = s->n_logit_bias,
        .n_top_logprobs = o->n_top_logprobs,
        .no_logprobs = !o->logprobs && !o->n_top_logprobs,
        .masked = o->grammar != NULL,
    };
}

static infer_status check_speculation(const infer_request_options *o)
{
    int32_t min = o->ngram_min, max = o->ngram_max;
    if (o->speculation < INFER_SPECULATION_DEFAULT || o->speculation > INFER_SPECULATION_DRAFT)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_speculation %d is not known",
                          o->speculation);
    if (o->max_draft_tokens < 0 || o->max_draft_tokens > DRAFT_TOKENS_MAX)
        return base_error(INFER_ERR_INVALID, "max_draft_tokens is %d, expected 0 to %d",
                          o->max_draft_tokens, DRAFT_TOKENS_MAX);
    if (min < 0 || min > NGRAM_MAX || max < 0 || max > NGRAM_MAX || (max && min > max))
        return base_error(INFER_ERR_INVALID,
                          "ngram_min is %d and ngram_max %d, expected 0 to %d, the first not above "
                          "the second",
                          min, max, NGRAM_MAX);
    return INFER_OK;
}

infer_status submit_check(const infer_request_options *o)
{
    int forms = !!o->prompt + !!o->tokens + (o->messages || o->context);
    if (forms != 1)
        return base_error(INFER_ERR_INVALID,
                          "exactly one of prompt, tokens and messages or context must be given, "
                          "not %d",
                          forms);
    if (o->max_tokens < 0)
        return base_error(INFER_ERR_INVALID, "max_tokens is %lld", (long long)o->max_tokens);
    if (o->min_tokens < 0 || (o->max_tokens && o->min_tokens > o->max_tokens))
        return base_error(INFER_ERR_INVALID, "min_tokens is %lld, expected 0 to max_tokens",
                          (long long)o->min_tokens);
    if (o->n_prompt_top_logprobs < 0 || o->n_prompt_top_logprobs > TOP_LOGPROBS_MAX)
        return base_error(INFER_ERR_INVALID, "n_prompt_top_logprobs is %d, expected 0 to %d",
                          o->n_prompt_top_logprobs, TOP_LOGPROBS_MAX);
    if (o->n_top_logprobs < 0 || o->n_top_logprobs > TOP_LOGPROBS_MAX)
        return base_error(INFER_ERR_INVALID, "n_top_logprobs is %d, expected 0 to %d",
                          o->n_top_logprobs, TOP_LOGPROBS_MAX);
    if (o->reserved)
        return base_error(INFER_ERR_INVALID, "infer_request_options.reserved is %u, not 0",
                          (unsigned)o->reserved);
    if (!isfinite(o->adapter_scale))
        return base_error(INFER_ERR_INVALID, "adapter_scale is %g", (double)o->adapter_scale);
    if (o->n_stop > STOP_MAX || (o->n_stop && !o->stop))
        return base_error(INFER_ERR_INVALID, "n_stop is %zu, expected at most %d strings",
                          o->n_stop, STOP_MAX);
    return check_speculation(o);
}

infer_status submit_render(const infer_session *s, const infer_request_options *o,
                           struct base_str *text)
{
    struct render_chat what = {.messages = o->messages, .n_messages = o->n_messages, .guard = 1};
    if (o->context) {
        what.json = o->context;
        what.json_size = o->context_size ? o->context_size : strlen(o->context);
    }
    return render_chat(s->model, &what, text);
}

/* A rendered template carries its own special tokens, BOS included where it writes one. */
infer_status submit_encode_rendered(const infer_session *s, const struct base_str *text,
                                    text_tokens *out)
{
    const struct text_tokenizer *t = model_vocab_tokenizer(s->model->vocab);
    const struct text_vocab *v = model_vocab_text(s->model->vocab);
    infer_status st = text_tokenizer_encode(t, &s->alloc, text->data, text->size,
                                            TEXT_ENCODE_SPECIAL | TEXT_ENCODE_GUARDED, out);
    if (st != INFER_OK || !v->add_bos || v->bos < 0 || (out->size && out->data[0] == v->bos))
        return st;
    st = base_array_reserve(&s->alloc, out, 1);
    if (st != INFER_OK)
        return st;
    if (out->size)
        memmove(out->data + 1, out->data, out->size * sizeof *out->data);
    out->data[0] = v->bos;
    out->size++;
    return INFER_OK;
}

static infer_status encode_chat(const infer_session *s, const infer_request_options *o,
                                text_tokens *out)
{
    struct base_str text;
    base_str_init(&text, &s->alloc, 0);
    infer_status st = submit_render(s, o, &text);
    if (st == INFER_OK)
        st = submit_encode_rendered(s, &text, out);
    base_str_release(&text);
    return st;
}

infer_status submit_encode(const infer_session *s, const infer_request_options *o, text_tokens *out)
{
    if (o->messages || o->context)
        return encode_chat(s, o, out);
    size_t size = o->prompt_size ? o->prompt_size : strlen(o->prompt);
    if (!size)
        return base_error(INFER_ERR_INVALID, "the prompt is empty");
    uint32_t flags = TEXT_ENCODE_ADD | (o->parse_special ? (uint32_t)TEXT_ENCODE_SPECIAL : 0);
    return text_tokenizer_encode(model_vocab_tokenizer(s->model->vocab), &s->alloc, o->prompt, size,
                                 flags, out);
}

infer_status submit_request(infer_request **out, infer_session *s, const infer_request_options *o)
{
    infer_sampling sampling;
    text_tokens tokens = {0};
    infer_status st = submit_check(o);
    if (st == INFER_OK)
        st = session_has_room(s);
    if (st == INFER_OK)
        st = get_sampling(s->model, o->sampling, &sampling);
    if (st == INFER_OK && !o->tokens)
        st = submit_encode(s, o, &tokens);
    if (st == INFER_OK) {
        struct request_config config = {
            .prompt = o->tokens ? o->tokens : tokens.data,
            .n_prompt = o->tokens ? o->n_tokens : tokens.size,
            .sampling = sample_params_of(&sampling, o),
            .stop = o->stop,
            .n_stop = o->n_stop,
            .max_tokens = o->max_tokens,
            .prefill_only = o->prefill_only,
            .ignore_eos = o->ignore_eos,
            .logprobs = o->logprobs,
            .n_top_logprobs = o->n_top_logprobs,
            .prompt_logprobs = o->prompt_logprobs || o->n_prompt_top_logprobs,
            .want_logits = o->want_logits,
            .adapter = (struct infer_adapter *)(uintptr_t)o->adapter,
            .adapter_scale = o->adapter_scale != 0 ? o->adapter_scale : 1,
            .cache_namespace = o->cache_namespace,
            .grammar = (struct infer_grammar *)o->grammar, /* to count references */
            .disable_jump_ahead = o->disable_jump_ahead,
            .logits_fn = o->logits_fn,
            .logits_user_data = o->logits_user_data,
            .min_tokens = o->min_tokens,
            .n_prompt_top = o->n_prompt_top_logprobs,
            .show_special = o->show_special != 0,
            .tenant = o->tenant,
            .priority = o->priority,
            .deadline_ns = o->deadline_ns,
            .speculation = o->speculation,
            .max_draft_tokens = o->max_draft_tokens,
            .ngram_min = o->ngram_min,
            .ngram_max = o->ngram_max,
        };
        st = session_submit(out, s, &config);
    }
    base_array_release(&s->alloc, &tokens);
    return st;
}

infer_status submit_fork(infer_request **out, infer_request *source, const infer_fork_options *o)
{
    struct fork_config config = {.max_tokens = o->max_tokens, .seed = o->seed};
    struct sample_params params;
    if (o->max_tokens < 0)
        return base_error(INFER_ERR_INVALID, "max_tokens is %lld", (long long)o->max_tokens);
    if (o->sampling) {
        infer_sampling sampling;
        const infer_request_options none = {0};
        infer_status st = get_sampling(source->session->model, o->sampling, &sampling);
        if (st != INFER_OK)
            return st;
        params = sample_params_of(&sampling, &none);
        config.sampling = &params;
    }
    return session_fork(out, source, &config);
}
