/* Beam search as Hugging Face transformers documents it: of the candidates of all beams the best
 * `width` go on; those that end are answers if they are among these. */
#include "engine/beam.h"

#include <math.h>
#include <string.h>

struct beam {
    struct infer_request *request; /* computed, with the likeliest next tokens */
    infer_token *tokens;           /* prompt, answer, and room for one more */
    double logprob;
    int32_t n_children;
};

struct candidate {
    double logprob;
    int32_t beam;
    infer_token token;
};

struct search {
    struct infer_session *session;
    const struct beam_config *config;
    struct base_alloc alloc;
    const struct text_tokenizer *tokenizer;
    struct beam beams[2][BEAM_WIDTH_MAX]; /* of this length and of the next */
    int32_t now, n_beams;
    int32_t length, max_length; /* tokens of the answers so far, and at most */
    int32_t n_top;              /* candidates of each beam */
    int32_t n_ends;             /* tokens that end an answer */
    struct candidate *candidates;
    struct beam_answer *answers; /* best first */
    size_t n_answers;
};

static int is_end(const struct search *x, infer_token token)
{
    return !x->config->ignore_eos && text_tokenizer_is_end(x->tokenizer, token);
}

/* Every beam must have `width` candidates that go on, however many end. */
static int32_t count_top(struct search *x)
{
    int32_t n_vocab = x->session->model->hp.n_vocab;
    x->n_ends = 0;
    for (infer_token i = 0; i < n_vocab; i++)
        x->n_ends += is_end(x, i);
    return BASE_MIN(x->config->width + x->n_ends, n_vocab);
}

static infer_status begin(struct search *x)
{
    const struct beam_config *c = x->config;
    int32_t limit = BASE_MIN(x->session->n_context, kv_cache_capacity(x->session->kv));
    if (c->n_prompt >= limit)
        return base_error(INFER_ERR_LIMIT,
                          "the prompt has %d tokens and the context or KV cache holds %d, the "
                          "answer included",
                          c->n_prompt, limit);
    x->max_length = limit - c->n_prompt;
    if (c->max_tokens && c->max_tokens < x->max_length)
        x->max_length = (int32_t)c->max_tokens;
    x->n_top = count_top(x);
    size_t room = (size_t)c->n_prompt + (size_t)x->max_length + 1;
    x->candidates =
        base_new_raw(&x->alloc, (size_t)c->width * (size_t)x->n_top, sizeof *x->candidates);
    if (!x->candidates)
        return INFER_ERR_NO_MEMORY;
    for (int k = 0; k < 2; k++)
        for (int32_t i = 0; i < c->width; i++) {
            x->beams[k][i].tokens = base_new(&x->alloc, room, sizeof(infer_token));
            if (!x->beams[k][i].tokens)
                return INFER_ERR_NO_MEMORY;
        }
    memcpy(x->beams[0][0].tokens, c->prompt, (size_t)c->n_prompt * sizeof *c->prompt);
    return INFER_OK;
}

/* The beam's tokens and one that stands for what is to come: it is scored, and so are the others
 * in its place. */
static infer_status submit(struct search *x, struct beam *b, struct infer_request *parent)
{
    struct request_config config = *x->config->base;
    int32_t n = x->config->n_prompt + x->length;
    b->tokens[n] = 0;
    config.prompt = b->tokens;
    config.n_prompt = (size_t)n + 1;
    config.prefill_only = 1;
    config.prompt_logprobs = 1;
    config.score_from = n;
    config.n_prompt_top = x->n_top;
    config.n_heirs = INT32_MAX; /* not known yet */
    config.source = parent;
    config.ignore_eos = !x->n_ends || x->length < x->config->min_tokens;
    config.said = parent && config.grammar ? &parent->matcher : NULL;
    return session_submit(&b->request, x->session, &config);
}

static void drop(struct beam *b)
{
    if (b->request)
        session_drop(b->request);
    b->request = NULL;
}

/* By rank; of equals the better beam first, then the lower token. */
static int is_better(struct candidate a, struct candidate b)
{
    if (a.logprob != b.logprob)
        return a.logprob > b.logprob;
    return a.beam != b.beam ? a.beam < b.beam : a.token < b.token;
}

/* Puts `item` into a heap of n whose root is the worst. */
static void sift_down(struct candidate *heap, int32_t n, struct candidate item)
{
    int32_t i = 0;
    for (int32_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && is_better(heap[child], heap[child + 1]))
            child++;
        if (!is_better(item, heap[child]))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = item;
}

/* Best first, without memory of the C library's. */
static void sort(struct candidate *c, int32_t n)
{
    for (int32_t size = 1; size <= n; size++) { /* grows a heap: the new one rises */
        struct candidate item = c[size - 1];
        int32_t at = size - 1;
        for (; at > 0 && is_better(c[(at - 1) / 2], item); at = (at - 1) / 2)
            c[at] = c[(at - 1) / 2];
        c[at] = item;
    }
    for (int32_t left = n - 1; left > 0; left--) {
        struct candidate worst = c[0];
        sift_down(c, left, c[left]);
        c[left] = worst;
    }
}

/* What may follow each beam, best first. */
static int32_t rank(struct search *x)
{
    int may_end = x->length >= x->config->min_tokens;
    int32_t n = 0;
    for (int32_t i = 0; i < x->n_beams; i++) {
        const struct beam *b = &x->beams[x->now][i];
        for (int32_t k = 0; k < x->n_top; k++) {
            const infer_top_logprob *t = &b->request->prompt_top[k];
            if (t->token >= 0 && t->logprob > -INFINITY && (may_end || !is_end(x, t->token)))
                x->candidates[n++] =
                    (struct candidate){b->logprob + (double)t->logprob, i, t->token};
        }
    }
    sort(x->candidates, n);
    return n;
}

/* Keeps the best `width` answers. `n` tokens of them count for the length. */
static infer_status add_answer(struct search *x, const infer_token *tokens, int32_t n_tokens,
                               int32_t n, double logprob, infer_finish finish)
{
    struct beam_answer a = {.n_tokens = n_tokens, .finish = finish, .logprob = logprob};
    size_t width = (size_t)x->config->width, at = x->n_answers;
    a.score = logprob / pow(n, x->config->length_penalty);
    while (at > 0 && a.score > x->answers[at - 1].score)
        at--;
    if (at == width)
        return INFER_OK;
    a.tokens = base_new_raw(&x->alloc, (size_t)n_tokens, sizeof *a.tokens);
    if (!a.tokens)
        return INFER_ERR_NO_MEMORY;
    memcpy(a.tokens, tokens + x->config->n_prompt, (size_t)n_tokens * sizeof *a.tokens);
    if (x->n_answers == width)
        base_free(&x->alloc, x->answers[--x->n_answers].tokens);
    memmove(x->answers + at + 1, x->answers + at, (x->n_answers - at) * sizeof a);
    x->answers[at] = a;
    x->n_answers++;
    return INFER_OK;
}

/* Beams whose grammar is complete, where no token may end an answer. */
static infer_status take_whole(struct search *x)
{
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < x->n_beams && st == INFER_OK; i++) {
        const struct beam *b = &x->beams[x->now][i];
        if (b->request->is_whole)
            st = add_answer(x, b->tokens, x->length, BASE_MAX(x->length, 1), b->logprob,
                            INFER_FINISH_STOP);
    }
    return st;
}

/* The next beams, and answers that end here. */
static infer_status choose(struct search *x, int32_t *n_next)
{
    struct beam *from = x->beams[x->now], *to = x->beams[!x->now];
    int32_t n = rank(x), n_prompt = x->config->n_prompt;
    infer_status st = take_whole(x);
    *n_next = 0;
    for (int32_t i = 0; i < x->n_beams; i++)
        from[i].n_children = 0;
    for (int32_t i = 0; i < n && *n_next < x->config->width && st == INFER_OK; i++) {
        const struct candidate *c = &x->candidates[i];
        struct beam *parent = &from[c->beam];
        if (is_end(x, c->token)) {
            if (i < x->config->width)
                st = add_answer(x, parent->tokens, x->length, x->length + 1, c->logprob,
                                INFER_FINISH_STOP);
            continue;
        }
        struct beam *b = &to[(*n_next)++];
        memcpy(b->tokens, parent->tokens, (size_t)(n_prompt + x->length) * sizeof *b->tokens);
        b->tokens[n_prompt + x->length] = c->token;
        b->logprob = c->logprob;
        b->n_children = c->beam; /* whose child it is, until it has its own */
        parent->n_children++;
    }
    return st;
}

/* Whether a running beam could still replace an answer. */
static int goes_on(const struct search *x, int32_t n_next)
{
    const struct beam_config *c = x->config;
    if (!n_next || x->length + 1 >= x->max_length)
        return 0;
    if (x->n_answers < (size_t)c->width)
        return 1;
    if (c->early_stopping == BEAM_STOP_FIRST)
        return 0;
    int32_t n = c->early_stopping == BEAM_STOP_NEVER && c->length_penalty > 0 ? x->max_length
                                                                              : x->length + 1;
    double best = x->beams[!x->now][0].logprob / pow(n, c->length_penalty);
    return best > x->answers[x->n_answers - 1].score;
}

/* Children begin with their parents' blocks, which stay until all have. */
static infer_status descend(struct search *x, int32_t n_next)
{
    struct beam *from = x->beams[x->now], *to = x->beams[!x->now];
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < x->n_beams; i++)
        session_set_heirs(from[i].request, from[i].n_children);
    x->length++;
    for (int32_t i = 0; i < n_next && st == INFER_OK; i++)
        st = submit(x, &to[i], from[to[i].n_children].request);
    for (int32_t i = 0; i < n_next && st == INFER_OK; i++)
        st = session_wait_kept(to[i].request);
    for (int32_t i = 0; i < x->n_beams; i++)
        drop(&from[i]);
    x->now = !x->now;
    x->n_beams = n_next;
    return st;
}

/* Whether a beam's last token makes its text complete under the grammar. */
static infer_status complete(struct search *x, const struct beam *b, infer_finish *finish)
{
    struct infer_request *parent = x->beams[x->now][b->n_children].request;
    struct grammar_matcher *m = &parent->matcher;
    int accepts, more = 1;
    if (!m->grammar)
        return INFER_OK;
    infer_status st = grammar_matcher_mark(m);
    if (st == INFER_OK)
        st = grammar_matcher_replay(m, b->tokens[x->config->n_prompt + x->length]);
    if (st == INFER_OK)
        st = grammar_matcher_look(m, &accepts, &more);
    grammar_matcher_back(m);
    if (st == INFER_OK && !more)
        *finish = INFER_FINISH_STOP;
    return st;
}

/* What still runs at the end is an answer that was cut. */
static infer_status take_running(struct search *x, int32_t n_next)
{
    infer_status st = INFER_OK;
    int by_limit = x->config->max_tokens && x->max_length == x->config->max_tokens;
    if (x->length + 1 < x->max_length)
        return INFER_OK;
    for (int32_t i = 0; i < n_next && st == INFER_OK; i++) {
        const struct beam *b = &x->beams[!x->now][i];
        infer_finish finish = by_limit ? INFER_FINISH_LENGTH : INFER_FINISH_CONTEXT;
        st = complete(x, b, &finish);
        if (st == INFER_OK)
            st = add_answer(x, b->tokens, x->length + 1, x->length + 1, b->logprob, finish);
    }
    return st;
}

static infer_status search(struct search *x)
{
    infer_status st = submit(x, &x->beams[0][0], NULL);
    x->n_beams = 1;
    if (st == INFER_OK)
        st = session_wait_kept(x->beams[0][0].request);
    while (st == INFER_OK) {
        int32_t n_next;
        st = choose(x, &n_next);
        if (st == INFER_OK && !goes_on(x, n_next))
            return take_running(x, n_next);
        if (st == INFER_OK)
            st = descend(x, n_next);
    }
    return st;
}

infer_status beam_run(struct infer_session *s, const struct beam_config *config,
                      struct beam_answer *out, size_t *n)
{
    struct search *x = base_new(&s->alloc, 1, sizeof *x);
    if (!x)
        return INFER_ERR_NO_MEMORY;
    x->session = s;
    x->config = config;
    x->alloc = s->alloc;
    x->tokenizer = model_vocab_tokenizer(s->model->vocab);
    x->answers = out;
    infer_status st = begin(x);
    if (st == INFER_OK)
        st = search(x);
    for (int k = 0; k < 2; k++)
        for (int32_t i = 0; i < config->width; i++) {
            drop(&x->beams[k][i]);
            base_free(&x->alloc, x->beams[k][i].tokens);
        }
    for (size_t i = 0; i < x->n_answers && st != INFER_OK; i++)
        base_free(&x->alloc, out[i].tokens);
    *n = x->n_answers;
    base_free(&x->alloc, x->candidates);
    base_free(&x->alloc, x);
    return st;
}
