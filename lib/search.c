/* Public: <infer/search.h>. */
#include "engine/beam.h"
#include "handle.h"
#include "submit.h"

#include <infer/search.h>
#include <math.h>
#include <string.h>

#define DEFAULT_N   4
#define SAMPLES_MAX 256

struct infer_answers {
    struct base_alloc alloc;
    struct infer_session *session; /* a reference: the allocator is the session's */
    struct answer {
        struct beam_answer found;
        struct base_str text;
    } * items;
    size_t n;
};

static infer_status make_answers(infer_answers **out, struct infer_session *s, size_t n)
{
    infer_answers *a = base_new(&s->alloc, 1, sizeof *a);
    if (!a)
        return INFER_ERR_NO_MEMORY;
    a->alloc = s->alloc;
    a->items = base_new(&s->alloc, n, sizeof *a->items);
    if (!a->items) {
        base_free(&s->alloc, a);
        return INFER_ERR_NO_MEMORY;
    }
    a->session = session_retain(s);
    for (size_t i = 0; i < n; i++)
        base_str_init(&a->items[i].text, &a->alloc, 0);
    a->n = n;
    *out = a;
    return INFER_OK;
}

void infer_answers_destroy(infer_answers **answers)
{
    infer_answers *a = answers ? *answers : NULL;
    if (!a)
        return;
    struct base_alloc alloc = a->alloc;
    struct infer_session *session = a->session;
    for (size_t i = 0; i < a->n; i++) {
        base_free(&alloc, a->items[i].found.tokens);
        base_str_release(&a->items[i].text);
    }
    base_free(&alloc, a->items);
    base_free(&alloc, a);
    session_release(session);
    *answers = NULL;
}

size_t infer_answers_count(const infer_answers *answers)
{
    return answers ? answers->n : 0;
}

infer_status infer_answers_at(const infer_answers *answers, size_t i, infer_answer *answer)
{
    REQUIRE(answers);
    if (i >= answers->n)
        return base_error(INFER_ERR_INVALID, "answer %zu of %zu", i, answers->n);
    const struct answer *a = &answers->items[i];
    infer_answer full = {.text = a->text.data ? a->text.data : "",
                         .text_size = a->text.size,
                         .tokens = a->found.tokens,
                         .n_tokens = (size_t)a->found.n_tokens,
                         .logprob = a->found.logprob,
                         .score = a->found.score,
                         .finish = a->found.finish};
    return base_info_copy(answer, &full, sizeof full, "infer_answer");
}

/* The request's options with the prompt, from wherever it comes. */
static infer_status take_request(infer_request_options *o, const infer_request_options *given,
                                 const char *prompt)
{
    infer_status st = base_options_copy(o, sizeof *o, given, "infer_request_options");
    if (st != INFER_OK)
        return st;
    if (prompt && o->prompt)
        return base_error(INFER_ERR_INVALID, "both prompt and options.prompt are given");
    if (prompt)
        o->prompt = prompt;
    return submit_check(o);
}

/* -------------------------------------------------------------------- best of */

/* Takes all events of one sample. */
static infer_status drain(struct infer_request *r, struct answer *a, float length_penalty)
{
    infer_event event;
    infer_status st;
    while ((st = session_next(r, &event, 1)) == INFER_OK)
        if ((st = base_str_append(&a->text, event.text, event.text_size)) != INFER_OK)
            return st;
    if (st != INFER_DONE)
        return st;
    if (r->finish == INFER_FINISH_DEADLINE)
        return base_error(INFER_ERR_LIMIT, "deadline_ns passed during the generation");
    if (r->finish == INFER_FINISH_CANCELLED)
        return base_error(INFER_ERR_CANCELLED, "the session was destroyed during the generation");
    size_t n = r->tokens.size;
    a->found.tokens = base_new_raw(&r->alloc, n, sizeof *a->found.tokens);
    if (!a->found.tokens)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        a->found.tokens[i] = r->tokens.data[i].token;
    a->found.n_tokens = (int32_t)n;
    a->found.finish = r->finish;
    a->found.logprob = r->logprob_sum;
    /* An answer without tokens says nothing, and would be the likeliest. */
    a->found.score = n ? r->logprob_sum / pow((double)n, (double)length_penalty) : -INFINITY;
    return INFER_OK;
}

static void sort(infer_answers *a)
{
    for (size_t i = 1; i < a->n; i++)
        for (size_t k = i; k > 0 && a->items[k].found.score > a->items[k - 1].found.score; k--) {
            struct answer other = a->items[k];
            a->items[k] = a->items[k - 1];
            a->items[k - 1] = other;
        }
}

static infer_status sample(infer_answers *a, const infer_request_options *o, float length_penalty)
{
    const infer_fork_options none = {.struct_size = sizeof none};
    struct infer_request *requests[SAMPLES_MAX] = {NULL};
    infer_status st = submit_request(&requests[0], a->session, o);
    for (size_t i = 1; i < a->n && st == INFER_OK; i++)
        st = submit_fork(&requests[i], requests[0], &none);
    for (size_t i = 0; i < a->n && st == INFER_OK; i++)
        st = drain(requests[i], &a->items[i], length_penalty);
    for (size_t i = 0; i < a->n; i++)
        if (requests[i])
            session_drop(requests[i]);
    return st;
}

infer_status infer_session_best_of(infer_answers **out, infer_session *session, const char *prompt,
                                   const infer_best_of_options *options)
{
    REQUIRE(out);
    REQUIRE(session);
    infer_best_of_options o;
    infer_request_options request;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_best_of_options");
    if (st == INFER_OK)
        st = take_request(&request, o.request, prompt);
    if (st != INFER_OK)
        return st;
    if (o.n_samples < 0 || o.n_samples > SAMPLES_MAX || !isfinite(o.length_penalty))
        return base_error(INFER_ERR_INVALID,
                          "n_samples is %d and length_penalty %g, expected 0 to %d and a number",
                          o.n_samples, (double)o.length_penalty, SAMPLES_MAX);
    if (request.prefill_only)
        return base_error(INFER_ERR_UNSUPPORTED, "best-of takes no prefill_only");
    request.logprobs = 1;
    infer_answers *a = NULL;
    struct infer_session *s = session_current(session);
    st = make_answers(&a, s, o.n_samples ? (size_t)o.n_samples : DEFAULT_N);
    if (st == INFER_OK)
        st = sample(a, &request, o.length_penalty);
    session_done(s);
    if (st != INFER_OK) {
        infer_answers_destroy(&a);
        return st;
    }
    sort(a);
    *out = a;
    return INFER_OK;
}

/* ---------------------------------------------------------------- beam search */

static infer_status check_beam(const infer_beam_options *o, const infer_request_options *r)
{
    const struct {
        const char *name;
        int given;
    } others[] = {
        {"sampling", r->sampling != NULL},
        {"stop", r->n_stop > 0},
        {"logits_fn", r->logits_fn != NULL},
        {"prefill_only", r->prefill_only},
        {"logprobs", r->logprobs || r->n_top_logprobs},
        {"want_logits", r->want_logits},
        {"prompt_logprobs", r->prompt_logprobs},
        {"show_special", r->show_special},
        {"deadline_ns", r->deadline_ns > 0},
    };
    if (o->width < 0 || o->width > BEAM_WIDTH_MAX || !isfinite(o->length_penalty))
        return base_error(INFER_ERR_INVALID,
                          "width is %d and length_penalty %g, expected 0 to %d and a number",
                          o->width, (double)o->length_penalty, BEAM_WIDTH_MAX);
    if (o->early_stopping < BEAM_STOP_HEURISTIC || o->early_stopping > BEAM_STOP_NEVER)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_early_stopping %d is not known",
                          o->early_stopping);
    for (size_t i = 0; i < BASE_COUNT(others); i++)
        if (others[i].given)
            return base_error(INFER_ERR_UNSUPPORTED, "a beam search takes no %s", others[i].name);
    return INFER_OK;
}

static infer_status write_texts(infer_answers *a)
{
    const struct text_tokenizer *t = model_vocab_tokenizer(a->session->model->vocab);
    infer_status st = INFER_OK;
    for (size_t i = 0; i < a->n && st == INFER_OK; i++) {
        struct answer *item = &a->items[i];
        struct text_decoder decoder;
        text_decoder_init(&decoder, t, 0, 1);
        for (int32_t k = 0; k < item->found.n_tokens && st == INFER_OK; k++)
            st = text_decoder_push(&decoder, item->found.tokens[k], &item->text);
        if (st == INFER_OK)
            st = text_decoder_finish(&decoder, &item->text);
    }
    return st;
}

static infer_status run_beams(infer_answers **out, struct infer_session *s,
                              const infer_beam_options *o, const infer_request_options *r,
                              const text_tokens *prompt)
{
    const struct request_config base = {
        .sampling = {.top_p = 1, .repetition_penalty = 1, .penalty_last_n = -1, .no_logprobs = 1},
        .adapter = (struct infer_adapter *)(uintptr_t)r->adapter,
        .adapter_scale = r->adapter_scale != 0 ? r->adapter_scale : 1,
        .cache_namespace = r->cache_namespace,
        .tenant = r->tenant,
        .priority = r->priority,
        .grammar = (struct infer_grammar *)r->grammar, /* to count references */
    };
    const struct beam_config config = {.base = &base,
                                       .prompt = prompt->data,
                                       .n_prompt = (int32_t)BASE_MIN(prompt->size, INT32_MAX / 2),
                                       .width = o->width ? o->width : DEFAULT_N,
                                       .min_tokens = r->min_tokens,
                                       .max_tokens = r->max_tokens,
                                       .ignore_eos = r->ignore_eos,
                                       .early_stopping = o->early_stopping,
                                       .length_penalty = (double)o->length_penalty};
    struct beam_answer found[BEAM_WIDTH_MAX];
    size_t n = 0;
    infer_answers *a = NULL;
    infer_status st = beam_run(s, &config, found, &n);
    if (st != INFER_OK)
        return st;
    st = make_answers(&a, s, n);
    for (size_t i = 0; i < n; i++)
        if (a)
            a->items[i].found = found[i];
        else
            base_free(&s->alloc, found[i].tokens);
    if (st == INFER_OK)
        st = write_texts(a);
    if (st == INFER_OK)
        *out = a;
    else
        infer_answers_destroy(&a);
    return st;
}

infer_status infer_session_beam_search(infer_answers **out, infer_session *session,
                                       const char *prompt, const infer_beam_options *options)
{
    REQUIRE(out);
    REQUIRE(session);
    infer_beam_options o;
    infer_request_options request;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_beam_options");
    if (st == INFER_OK)
        st = take_request(&request, o.request, prompt);
    if (st == INFER_OK)
        st = check_beam(&o, &request);
    if (st != INFER_OK)
        return st;
    text_tokens own = {0};
    text_tokens tokens = {(infer_token *)(uintptr_t)request.tokens, request.n_tokens, 0};
    struct infer_session *s = session_current(session);
    if (!request.tokens)
        st = submit_encode(s, &request, &own);
    if (st == INFER_OK && !(request.tokens ? tokens.size : own.size))
        st = base_error(INFER_ERR_INVALID, "the prompt is empty");
    if (st == INFER_OK)
        st = run_beams(out, s, &o, &request, request.tokens ? &tokens : &own);
    base_array_release(&s->alloc, &own);
    session_done(s);
    return st;
}
