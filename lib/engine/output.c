/* Sampling and reporting. */
#include "engine/output.h"

#include "engine/accept.h"
#include "engine/scheduler.h"
#include "engine/trace.h"
#include "sample/chain.h"

#include <math.h>
#include <string.h>

static void end_request(struct infer_session *s, struct infer_request *r, infer_finish finish,
                        infer_status status)
{
    for (int32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].request == r)
            s->parts[i].request = NULL;
    for (int32_t i = 0; i < s->n_outputs; i++)
        if (s->outputs[i].request == r)
            s->outputs[i].request = NULL;
    accept_settle(r);
    pthread_mutex_lock(&s->line->lock);
    scheduler_end(s, r, finish, status);
    pthread_mutex_unlock(&s->line->lock);
}

/* What a grammar forbids has no part in the probabilities, which is said of a token that it forbids
 * too; behind such a token nothing has a probability. */
static infer_status mask_score(struct infer_request *r, infer_token token, float *logits,
                               int32_t n_vocab, int *allowed)
{
    struct sample_row row = {.x = logits, .n = n_vocab};
    struct sample_mask mask = {.n_tokens = grammar_matcher_tokens(&r->matcher)};
    *allowed = 0;
    if (r->outside)
        return INFER_OK;
    infer_status st = grammar_matcher_mask(&r->matcher, &mask.bits, &mask.n_allowed);
    if (st != INFER_OK)
        return st;
    *allowed = (size_t)token < mask.n_tokens && mask.bits[token / 64] >> (token % 64) & 1;
    r->outside = !*allowed;
    if (!*allowed)
        return INFER_OK;
    sample_row_mask(&row, &mask, NULL, 0);
    return text_tokenizer_is_end(r->decoder.tokenizer, token)
               ? INFER_OK
               : grammar_matcher_push_token(&r->matcher, token);
}

_Static_assert(sizeof(struct sample_candidate) == sizeof(infer_top_logprob) &&
                   offsetof(struct sample_candidate, logprob) ==
                       offsetof(infer_top_logprob, logprob),
               "the public record is written as the internal one");

/* What may follow a beam. */
static infer_status mask_beam(struct infer_request *r, struct sample_mask *mask)
{
    int accepts, more;
    infer_status st = grammar_matcher_look(&r->matcher, &accepts, &more);
    if (st != INFER_OK)
        return st;
    r->is_whole = accepts && !more && r->matcher.no_ends;
    mask->n_tokens = grammar_matcher_tokens(&r->matcher);
    return r->is_whole ? INFER_OK
                       : grammar_matcher_mask(&r->matcher, &mask->bits, &mask->n_allowed);
}

/* The highest logits; the softmax that follows gives what is to be taken from them, which a mask
 * does not change: beams are ranked by what the model says. */
static infer_status top_of_prompt(struct infer_request *r, int32_t at, const float *logits,
                                  int32_t n_vocab)
{
    infer_top_logprob *top = r->prompt_top + (size_t)(at - r->score_from) * (size_t)r->n_prompt_top;
    const int is_beam = r->score_from && r->matcher.grammar;
    struct sample_mask mask = {0};
    infer_status st = is_beam ? mask_beam(r, &mask) : INFER_OK;
    if (st == INFER_OK && !r->is_whole)
        sample_logprobs_top((struct sample_candidate *)top, BASE_MIN(r->n_prompt_top, n_vocab),
                            logits, n_vocab, is_beam ? &mask : NULL, 0);
    return st;
}

static infer_status no_numbers(int32_t position)
{
    return base_error(INFER_ERR_INVALID,
                      "the model's logits after prompt token %d are not numbers: its weights are "
                      "damaged",
                      position);
}

/* The softmax of two logits. */
static infer_status score_beside(struct infer_request *r, int32_t position, const float *logits)
{
    const int32_t next = position + 1;
    const double apart = (double)logits[r->rival] - (double)logits[r->prompt[next]];
    if (isnan(apart))
        return no_numbers(position);
    r->prompt_logprobs[next] =
        (float)(apart > 0 ? -apart - log1p(exp(-apart)) : -log1p(exp(apart)));
    r->n_prompt_scored = next;
    return INFER_OK;
}

static infer_status score_prompt(struct infer_session *s, struct infer_request *r, int32_t position,
                                 float *logits)
{
    int32_t next = position + 1, allowed = 1;
    infer_status st = INFER_OK;
    if (r->score_from && r->matcher.grammar && !r->n_prompt_top) {
        st = mask_score(r, r->prompt[next], logits, s->model->hp.n_vocab, &allowed);
        if (st != INFER_OK)
            return st;
    }
    if (r->score_from && r->is_greedy) {
        const struct sample_row row = {.x = logits, .n = s->model->hp.n_vocab};
        r->is_greedy = allowed && sample_row_argmax(&row) == r->prompt[next];
    }
    if (r->rival >= 0 && next == r->n_prompt - 1)
        return score_beside(r, position, logits);
    if (r->n_prompt_top && (st = top_of_prompt(r, next, logits, s->model->hp.n_vocab)) != INFER_OK)
        return st;
    float logit = logits[r->prompt[next]];
    float lse = s->model->device->kernels.unary.softmax(logits, logits, 1.0f, s->model->hp.n_vocab);
    if (isnan(lse) || isnan(logit))
        return no_numbers(position);
    for (int32_t i = 0; i < r->n_prompt_top; i++)
        r->prompt_top[(size_t)(next - r->score_from) * (size_t)r->n_prompt_top + (size_t)i]
            .logprob -= lse;
    r->prompt_logprobs[next] = allowed ? logit - lse : -INFINITY;
    r->n_prompt_scored = next;
    return INFER_OK;
}

static infer_status keep_logits(struct infer_request *r, const float *logits, int32_t n_vocab,
                                struct request_logits **out)
{
    *out = base_new_raw(&r->alloc, 1, sizeof **out + (size_t)n_vocab * sizeof *logits);
    if (!*out)
        return INFER_ERR_NO_MEMORY;
    (*out)->next = NULL;
    memcpy((*out)->values, logits, (size_t)n_vocab * sizeof *logits);
    return INFER_OK;
}

/* Why the request ends with its next token, whatever that is, or NONE. */
static infer_finish limit_of(const struct infer_request *r)
{
    if (r->max_tokens && (int64_t)r->tokens.size + 1 >= r->max_tokens)
        return INFER_FINISH_LENGTH;
    if (request_length(r) + 1 >= r->limit)
        return INFER_FINISH_CONTEXT;
    return INFER_FINISH_NONE;
}

/* Why the request ends with this token, or NONE. An end token is not part of the answer. */
static infer_finish finish_of(const struct infer_request *r, infer_token token)
{
    if (!r->ignore_eos && text_tokenizer_is_end(r->decoder.tokenizer, token))
        return INFER_FINISH_STOP;
    return limit_of(r);
}

int output_is_last(const struct infer_request *r)
{
    return limit_of(r) != INFER_FINISH_NONE;
}

/* Appends the token's text and releases what cannot become a stop string. */
static infer_status push_text(struct infer_request *r, infer_token token, infer_finish *finish)
{
    infer_status st = text_decoder_push(&r->decoder, token, &r->text);
    if (st != INFER_OK || !r->text.data)
        return st;
    size_t end = r->text.size;
    if ((int64_t)r->tokens.size + 1 >= r->min_tokens &&
        engine_stop_scan(&r->stop, r->text.data, r->released, r->text.size, &end)) {
        r->text.size = end;
        r->text.data[end] = 0;
        *finish = INFER_FINISH_STOP;
    }
    r->released = end;
    return INFER_OK;
}

static infer_status push_top(struct infer_request *r, const struct sample_result *result)
{
    infer_status st = base_array_reserve(&r->alloc, &r->top, (size_t)r->n_top);
    if (st != INFER_OK)
        return st;
    for (int32_t i = 0; i < r->n_top; i++) {
        infer_top_logprob *out = &r->top.data[r->top.size++];
        if (i < result->n_top)
            *out = (infer_top_logprob){result->top[i].token, result->top[i].logprob};
        else /* fewer tokens than asked for */
            *out = (infer_top_logprob){-1, -INFINITY};
    }
    return INFER_OK;
}

/* A grammar moves on by the token; where nothing may follow, the answer is whole. */
static infer_status push_grammar(struct infer_request *r, infer_token token, infer_finish *finish)
{
    int accepts, more;
    if (!r->matcher.grammar)
        return INFER_OK;
    infer_status st = grammar_matcher_push_token(&r->matcher, token);
    if (st == INFER_OK)
        st = grammar_matcher_look(&r->matcher, &accepts, &more);
    if (st == INFER_OK && accepts && !more)
        *finish = INFER_FINISH_STOP;
    return st;
}

/* When a token came, for the request and for the session. */
static void observe_token(struct infer_request *r, uint64_t now)
{
    struct infer_session *s = r->session;
    if (r->first_ns) {
        engine_observe(&s->stats, ENGINE_INTER_TOKEN_TIME, now - r->last_ns);
    } else {
        r->first_ns = now;
        engine_observe(&s->stats, ENGINE_FIRST_TOKEN_TIME, now - r->submit_ns);
        trace_request(s, INFER_TRACE_FIRST_TOKEN, r, now);
    }
    r->last_ns = now;
}

/* Under the lock: the consumer may be reading. */
static infer_status push_token(struct infer_request *r, const struct sample_result *result,
                               infer_finish *finish)
{
    infer_status st = base_array_reserve(&r->alloc, &r->tokens, 1);
    if (st == INFER_OK)
        st = push_text(r, result->token, finish);
    if (st == INFER_OK && r->n_top)
        st = push_top(r, result);
    if (st != INFER_OK)
        return st;
    uint64_t now = session_now(r->session);
    r->tokens.data[r->tokens.size++] =
        (struct request_token){result->token, r->logprobs ? result->logprob : 0, r->released, now};
    r->logprob_sum += r->logprobs ? (double)result->logprob : 0;
    observe_token(r, now);
    return INFER_OK;
}

/* What a finished text still holds back: half characters become U+FFFD. */
static infer_status flush_text(struct infer_request *r)
{
    infer_status st = text_decoder_finish(&r->decoder, &r->text);
    r->released = r->text.size;
    return st;
}

static infer_status report(struct infer_session *s, struct infer_request *r,
                           const struct sample_result *result, struct request_logits *logits,
                           infer_finish *finish)
{
    int is_end = !r->ignore_eos && text_tokenizer_is_end(r->decoder.tokenizer, result->token);
    int by_text = 0;
    infer_status st = is_end ? INFER_OK : push_grammar(r, result->token, finish);
    pthread_mutex_lock(&s->line->lock);
    if (!is_end && st == INFER_OK) {
        infer_finish stopped = INFER_FINISH_NONE;
        st = push_token(r, result, &stopped);
        by_text = stopped == INFER_FINISH_STOP;
        if (by_text)
            *finish = stopped;
    }
    if (st == INFER_OK && logits && !is_end) {
        *r->logits_tail = logits;
        r->logits_tail = &logits->next;
    } else {
        base_free(&r->alloc, logits);
    }
    if (st == INFER_OK && *finish != INFER_FINISH_NONE && !by_text)
        st = flush_text(r);
    pthread_mutex_unlock(&s->line->lock);
    return st;
}

/* What only one text can follow is not asked of the model: its tokens are taken at once, and
 * computed together in the next step. */
static infer_status take_forced(struct infer_session *s, struct infer_request *r,
                                infer_finish *finish)
{
    infer_status st = INFER_OK;
    while (r->jump_ahead && st == INFER_OK && *finish == INFER_FINISH_NONE) {
        struct sample_result result = {0};
        st = grammar_matcher_forced(&r->matcher, &result.token);
        if (st != INFER_OK || result.token < 0)
            break;
        *finish = finish_of(r, result.token);
        sampler_force(r->sampler, result.token);
        s->stats.n_generated_tokens++;
        st = report(s, r, &result, NULL, finish);
    }
    return st;
}

/* The host's own changes, then the grammar's mask. */
static infer_status constrain(struct infer_session *s, struct infer_request *r, float *logits)
{
    const uint64_t *mask;
    size_t n;
    int may_end = (int64_t)r->tokens.size >= r->min_tokens;
    if (r->logits_fn && r->logits_fn(logits, s->model->hp.n_vocab, r->logits_user_data))
        return base_error(INFER_ERR_CANCELLED, "the logits callback ended the request");
    if (!may_end && r->no_ends)
        sampler_set_mask(r->sampler, r->no_ends, (size_t)s->model->hp.n_vocab, r->n_no_ends);
    if (!r->matcher.grammar)
        return INFER_OK;
    r->matcher.no_ends = r->ignore_eos || !may_end;
    infer_status st = grammar_matcher_mask(&r->matcher, &mask, &n);
    if (st == INFER_OK)
        sampler_set_mask(r->sampler, mask, grammar_matcher_tokens(&r->matcher), n);
    return st;
}

/* Whether the device has chosen, or has found that there is nothing to choose (pick_chosen()). */
static int is_chosen(const struct model_pick *pick)
{
    return pick->token >= 0 || pick->want == MODEL_WANT_TOKEN;
}

/* The token that the device has chosen already. */
static infer_status take_chosen(struct infer_session *s, struct infer_request *r,
                                const struct model_pick *pick, infer_finish *finish)
{
    const struct sample_result result = {.token = pick->token,
                                         .logprob = pick->logprob,
                                         .top = (const struct sample_candidate *)pick->top,
                                         .n_top = pick->n_top_found};
    if (pick->token < 0)
        return base_error(INFER_ERR_INVALID, "the model gave logits of which none is the highest "
                                             "number: its weights or its input are broken");
    *finish = finish_of(r, pick->token);
    sampler_force(r->sampler, pick->token);
    s->stats.n_generated_tokens++;
    infer_status st = report(s, r, &result, NULL, finish);
    return st == INFER_OK ? take_forced(s, r, finish) : st;
}

static infer_status sample(struct infer_session *s, struct infer_request *r, int32_t position,
                           float *logits, infer_finish *finish)
{
    struct sample_result result;
    struct request_logits *kept = NULL;
    infer_status st = INFER_OK;
    if (r->want_logits)
        st = keep_logits(r, logits, s->model->hp.n_vocab, &kept);
    if (st == INFER_OK)
        st = constrain(s, r, logits);
    if (st == INFER_OK)
        st = sampler_run(r->sampler, logits, (uint64_t)position + 1, r->logprobs || r->n_top,
                         &result);
    if (st != INFER_OK) {
        base_free(&r->alloc, kept);
        return st;
    }
    *finish = finish_of(r, result.token);
    s->stats.n_generated_tokens++;
    st = report(s, r, &result, kept, finish);
    return st == INFER_OK ? take_forced(s, r, finish) : st;
}

/* Rows before this position: of wrong drafts they mean nothing, of forced tokens nobody asks. */
static void drop_rows(struct infer_session *s, int32_t first, const struct infer_request *r,
                      int32_t position)
{
    for (int32_t i = first; i < s->n_outputs && s->outputs[i].request == r; i++)
        if (s->outputs[i].position < position)
            s->outputs[i].request = NULL;
}

int32_t output_next(const struct infer_session *s, int32_t first)
{
    while (first < s->n_outputs && !s->outputs[first].request)
        first++;
    return first;
}

void output_fail(struct infer_session *s, infer_status status)
{
    for (int32_t i = 0; i < s->n_parts; i++)
        if (s->parts[i].request)
            end_request(s, s->parts[i].request, INFER_FINISH_ERROR, status);
}

void output_run(struct infer_session *s, int32_t first, int32_t n, const struct model_pick *picks)
{
    for (int32_t i = 0; i < n; i++) {
        struct infer_request *r = s->outputs[first + i].request;
        int32_t position = s->outputs[first + i].position;
        const size_t at = (size_t)i * (size_t)s->model->hp.n_vocab;
        float *logits = s->ws.logits ? s->ws.logits + at : NULL; /* no head has run yet */
        infer_finish finish = INFER_FINISH_NONE;
        if (!r) /* ended by an earlier row, or not the answer's next token */
            continue;
        size_t before = r->tokens.size;
        infer_status st = position + 1 < request_length(r) ? score_prompt(s, r, position, logits)
                          : picks && is_chosen(&picks[i])  ? take_chosen(s, r, &picks[i], &finish)
                                                          : sample(s, r, position, logits, &finish);
        int goes_on = st == INFER_OK && r->draft.n && accept_next(r, r->tokens.size - before);
        if (st != INFER_OK)
            end_request(s, r, INFER_FINISH_ERROR, st);
        else if (finish != INFER_FINISH_NONE)
            end_request(s, r, finish, INFER_OK);
        else if (r->draft.n)
            drop_rows(s, first + i + 1, r, goes_on ? request_length(r) - 1 : INT32_MAX);
    }
}
