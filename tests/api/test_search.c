/* Beam search against a plain one over the logits of whole prompts, and best-of against samples
 * taken one by one. */
#include "support/engine.h"

#include <math.h>

#define LENGTH_MAX 24
#define WIDTH_MAX  8
#define PROMPT     "Once upon a time"

struct plain_beam {
    infer_token tokens[100];
    size_t n; /* behind the prompt */
    double logprob, score;
};

struct plain_search {
    struct engine *e;
    infer_token prompt[60];
    size_t n_prompt;
    int width, length_max, min_tokens, ignore_eos;
    double penalty;
    infer_early_stopping early;
    const infer_grammar *grammar; /* WORDS, or NULL */
    struct plain_beam done[WIDTH_MAX + 1];
    int n_done;
};

struct next {
    double logprob;
    int beam;
    infer_token token;
};

static int by_rank(const void *x, const void *y)
{
    const struct next *a = x, *b = y;
    if (a->logprob != b->logprob)
        return a->logprob > b->logprob ? -1 : 1;
    return a->beam != b->beam ? a->beam - b->beam : a->token - b->token;
}

static int32_t n_vocab_of(const struct engine *e)
{
    infer_model_info info = {.struct_size = sizeof info};
    infer_model_get_info(e->model, &info);
    return info.n_vocab;
}

/* All tokens that may follow all beams, best first. */
static struct next *all_next(struct plain_search *s, const struct plain_beam *beams, int n_beams,
                             int32_t n_vocab)
{
    struct next *out = malloc((size_t)n_beams * (size_t)n_vocab * sizeof *out);
    for (int b = 0; b < n_beams; b++) {
        infer_token all[200];
        memcpy(all, s->prompt, s->n_prompt * sizeof *all);
        memcpy(all + s->n_prompt, beams[b].tokens, beams[b].n * sizeof *all);
        float *logits = engine_logits(s->e, all, s->n_prompt + beams[b].n);
        double high = -INFINITY, sum = 0;
        for (int32_t i = 0; i < n_vocab; i++)
            high = fmax(high, (double)logits[i]);
        for (int32_t i = 0; i < n_vocab; i++)
            sum += exp((double)logits[i] - high);
        for (int32_t i = 0; i < n_vocab; i++)
            out[b * n_vocab + i] =
                (struct next){beams[b].logprob + (double)logits[i] - high - log(sum), b, i};
        free(logits);
    }
    qsort(out, (size_t)n_beams * (size_t)n_vocab, sizeof *out, by_rank);
    return out;
}

/* Up to four words, of two to four letters each. */
#define WORDS "[a-z]{2,4}( [a-z]{2,4}){0,3}"

/* By hand, whether a text begins one that matches, *ends: whether it may end, *goes_on: or not. */
static int is_words(const char *text, int *ends, int *goes_on)
{
    int letters = 0, words = 1;
    for (; *text; text++) {
        if (*text >= 'a' && *text <= 'z' && letters < 4)
            letters++;
        else if (*text == ' ' && letters >= 2 && words < 4)
            words++, letters = 0;
        else
            return 0;
    }
    *ends = letters >= 2;
    *goes_on = letters < 4 || words < 4;
    return 1;
}

/* The beam's text, and a token's behind it; 0 if that is none of the grammar's. */
static int allows(const struct plain_search *s, const struct plain_beam *b, infer_token token,
                  int *ends, int *goes_on)
{
    const infer_tokenizer *t = infer_model_tokenizer(s->e->model);
    char text[4096];
    size_t at = 0, n;
    for (size_t i = 0; i <= b->n; i++) {
        infer_token next = i < b->n ? b->tokens[i] : token;
        if (next < 0)
            break;
        n = sizeof text - 1 - at;
        assert_ok(infer_tokenizer_piece(t, next, text + at, &n));
        if (!n || infer_tokenizer_is_end(t, next))
            return 0;
        at += n;
    }
    text[at] = 0;
    return strlen(text) == at && is_words(text, ends, goes_on);
}

static void add_done(struct plain_search *s, const struct plain_beam *b, size_t n, double logprob)
{
    struct plain_beam a = *b;
    int at = s->n_done;
    a.logprob = logprob;
    a.score = logprob / pow((double)n, s->penalty);
    while (at > 0 && a.score > s->done[at - 1].score)
        at--;
    memmove(s->done + at + 1, s->done + at, (size_t)(s->n_done - at) * sizeof a);
    s->done[at] = a;
    s->n_done += s->n_done < s->width;
}

static int stops(const struct plain_search *s, const struct plain_beam *best, size_t length)
{
    if (s->n_done < s->width)
        return 0;
    if (s->early == INFER_EARLY_STOPPING_FIRST)
        return 1;
    int far = s->early == INFER_EARLY_STOPPING_NEVER && s->penalty > 0;
    double n = far ? s->length_max : (double)length;
    return best->logprob / pow(n, s->penalty) <= s->done[s->width - 1].score;
}

static void plain_search(struct plain_search *s)
{
    static struct plain_beam beams[WIDTH_MAX], next[WIDTH_MAX];
    const infer_tokenizer *t = infer_model_tokenizer(s->e->model);
    int32_t n_vocab = n_vocab_of(s->e);
    int n_beams = 1;
    memset(beams, 0, sizeof beams);
    s->n_done = 0;
    for (int length = 0; length < s->length_max; length++) {
        struct next *c = all_next(s, beams, n_beams, n_vocab);
        int n_next = 0, rank = 0, ends = 1, goes_on = 1;
        for (int b = 0; s->grammar && b < n_beams; b++) {
            allows(s, &beams[b], -1, &ends, &goes_on);
            if (!goes_on && (s->ignore_eos || length < s->min_tokens))
                add_done(s, &beams[b], beams[b].n, beams[b].logprob);
        }
        for (int32_t i = 0; i < n_beams * n_vocab && n_next < s->width; i++) {
            struct plain_beam b = beams[c[i].beam];
            int end = !s->ignore_eos && infer_tokenizer_is_end(t, c[i].token);
            if (end && length < s->min_tokens)
                continue;
            if (s->grammar && !allows(s, &b, end ? -1 : c[i].token, &ends, &goes_on))
                continue;
            if (s->grammar && end && !ends)
                continue;
            if (end && rank++ < s->width)
                add_done(s, &b, b.n + 1, c[i].logprob);
            if (end)
                continue;
            rank++;
            b.tokens[b.n++] = c[i].token;
            b.logprob = c[i].logprob;
            next[n_next++] = b;
        }
        free(c);
        memcpy(beams, next, sizeof beams);
        n_beams = n_next;
        if (length + 1 == s->length_max)
            for (int i = 0; i < n_beams; i++)
                add_done(s, &beams[i], beams[i].n, beams[i].logprob);
        else if (!n_beams || stops(s, &beams[0], (size_t)length + 1))
            break;
    }
}

static infer_answers *beams_of(struct engine *e, const struct plain_search *s)
{
    infer_request_options r = {.struct_size = sizeof r, .tokens = s->prompt};
    infer_beam_options o = {.struct_size = sizeof o, .request = &r, .width = s->width};
    infer_answers *answers = NULL;
    r.n_tokens = s->n_prompt;
    r.max_tokens = s->length_max;
    r.min_tokens = s->min_tokens;
    r.ignore_eos = s->ignore_eos;
    r.grammar = s->grammar;
    o.length_penalty = (float)s->penalty;
    o.early_stopping = s->early;
    assert_ok(infer_session_beam_search(&answers, e->session, NULL, &o));
    return answers;
}

static void check_beams(struct engine *e, const struct plain_search *s)
{
    infer_answers *answers = beams_of(e, s);
    assert_int_equal(infer_answers_count(answers), s->n_done);
    for (int i = 0; i < s->n_done; i++) {
        infer_answer a = {.struct_size = sizeof a};
        assert_ok(infer_answers_at(answers, (size_t)i, &a));
        assert_int_equal(a.n_tokens, s->done[i].n);
        assert_memory_equal(a.tokens, s->done[i].tokens, a.n_tokens * sizeof *a.tokens);
        assert_true(fabs(a.logprob - s->done[i].logprob) < 1e-3);
        assert_true(fabs(a.score - s->done[i].score) < 1e-3);
        assert_true(a.finish == INFER_FINISH_STOP || a.finish == INFER_FINISH_LENGTH);
    }
    infer_answers_destroy(&answers);
    assert_null(answers);
}

static void set_prompt(struct plain_search *s, struct engine *e, const char *question)
{
    infer_message message = {.role = "user", .content = question};
    infer_request_options o = {.struct_size = sizeof o, .messages = &message, .n_messages = 1};
    infer_request *request = NULL;
    o.prefill_only = 1;
    assert_ok(infer_session_submit(&request, e->session, &o));
    const infer_token *tokens = infer_request_prompt(request, &s->n_prompt);
    assert_true(s->n_prompt <= 60);
    memcpy(s->prompt, tokens, s->n_prompt * sizeof *tokens);
    infer_request_destroy(&request);
}

static void test_beams(void **state)
{
    static const struct {
        int width, length, min_tokens, ignore_eos;
        double penalty;
        infer_early_stopping early;
    } cases[] = {
        {1, 12, 0, 0, 0, 0}, {2, 16, 0, 0, 1, 0},  {3, 20, 0, 0, 1, 1},   {4, 20, 0, 0, 1, 2},
        {5, 12, 0, 0, 0, 0}, {3, 14, 0, 0, -1, 2}, {8, 10, 0, 0, 0.5, 0}, {3, 16, 9, 0, 1, 0},
        {3, 10, 0, 1, 1, 0}, {2, 1, 0, 0, 1, 0},   {4, 24, 0, 0, 2, 0},
    };
    static const char *const questions[] = {"What day comes after Monday?", "Where is Oslo?"};
    struct engine e;
    int n_ended = 0, n_cut = 0;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 2});
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        struct plain_search s = {.e = &e};
        size_t k = i / 2;
        set_prompt(&s, &e, questions[i % 2]);
        s.width = cases[k].width;
        s.length_max = cases[k].length;
        s.min_tokens = cases[k].min_tokens;
        s.ignore_eos = cases[k].ignore_eos;
        s.penalty = cases[k].penalty;
        s.early = cases[k].early;
        plain_search(&s);
        for (int a = 0; a < s.n_done; a++) {
            n_cut += s.done[a].n == (size_t)s.length_max;
            n_ended += s.done[a].n < (size_t)s.length_max;
        }
        check_beams(&e, &s);
    }
    assert_true(n_ended > 10 && n_cut > 10); /* both kinds were seen */
    engine_close(&e);
}

static infer_grammar *make_grammar(infer_grammar_kind kind, const char *text,
                                   const char *const *choices, size_t n)
{
    infer_grammar_options o = {.struct_size = sizeof o, .kind = kind, .text = text};
    infer_grammar *grammar = NULL;
    o.choices = choices;
    o.n_choices = n;
    assert_ok(infer_grammar_create(&grammar, &o));
    return grammar;
}

static void test_grammar(void **state)
{
    static const struct {
        int width, length, min_tokens, ignore_eos;
        double penalty;
        infer_early_stopping early;
    } cases[] = {
        {1, 20, 0, 0, 0, 0}, {2, 16, 0, 0, 1, 0}, {3, 24, 0, 0, 1, 1}, {4, 24, 0, 0, 1, 2},
        {5, 3, 0, 0, 0, 0},  {8, 24, 0, 1, 0, 2}, {4, 24, 9, 0, 1, 0}, {8, 24, 14, 0, 0, 2},
    };
    struct engine e;
    int n_ended = 0, n_cut = 0;
    (void)state;
    infer_grammar *words = make_grammar(INFER_GRAMMAR_REGEX, WORDS, NULL, 0);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 2});
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct plain_search s = {.e = &e, .grammar = words};
        set_prompt(&s, &e, k % 2 ? "Where is Oslo?" : "Tell me a story about a kite.");
        s.width = cases[k].width;
        s.length_max = cases[k].length;
        s.min_tokens = cases[k].min_tokens;
        s.ignore_eos = cases[k].ignore_eos;
        s.penalty = cases[k].penalty;
        s.early = cases[k].early;
        plain_search(&s);
        assert_true(s.n_done > 0);
        for (int a = 0; a < s.n_done; a++) {
            n_cut += s.done[a].n == (size_t)s.length_max;
            n_ended += s.done[a].n < (size_t)s.length_max;
        }
        check_beams(&e, &s);
    }
    assert_true(n_ended > 8 && n_cut > 3);
    infer_grammar_destroy(&words);
    engine_close(&e);
}

/* The log-probability of an answer's tokens and an end behind them, as the model gives it: of the
 * ends the one that comes nearest to `wanted`. */
static double score_of(struct engine *e, const infer_token *tokens, size_t n, double wanted)
{
    const infer_tokenizer *t = infer_model_tokenizer(e->model);
    infer_token with_end[64];
    double best = -1e9;
    memcpy(with_end, tokens, n * sizeof *tokens);
    for (infer_token end = 0; end < n_vocab_of(e); end++) {
        infer_continuation c = {.tokens = with_end, .n_tokens = n + 1};
        infer_score score;
        if (!infer_tokenizer_is_end(t, end))
            continue;
        with_end[n] = end;
        assert_ok(infer_session_score(&score, e->session, PROMPT, &c, 1, NULL));
        if (fabs(score.logprob - wanted) < fabs(best - wanted))
            best = score.logprob;
    }
    return best;
}

/* With texts that are forced for the most part: answers are choices, worth what the model says. */
static void test_choices(void **state)
{
    static const char *const choices[] = {" there was a girl named Clara.",
                                          " there was a boy, who had a kite.",
                                          " in Oslo, it rained", "no"};
    struct engine e;
    infer_answers *answers = NULL;
    (void)state;
    infer_grammar *grammar = make_grammar(INFER_GRAMMAR_CHOICE, NULL, choices, 4);
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 2});
    infer_request_options r = {.struct_size = sizeof r, .prompt = PROMPT, .grammar = grammar};
    infer_beam_options o = {.struct_size = sizeof o, .request = &r, .width = 8};
    o.early_stopping = INFER_EARLY_STOPPING_NEVER;
    assert_ok(infer_session_beam_search(&answers, e.session, NULL, &o));
    assert_true(infer_answers_count(answers) >= 4);
    double first = 0;
    for (size_t i = 0; i < infer_answers_count(answers); i++) {
        infer_answer a = {.struct_size = sizeof a};
        int known = 0;
        assert_ok(infer_answers_at(answers, i, &a));
        for (int k = 0; k < 4; k++)
            known += strcmp(a.text, choices[k]) == 0;
        if (known != 1 || a.finish != INFER_FINISH_STOP)
            fail_msg("\"%s\", finish %d", a.text, (int)a.finish);
        assert_true(fabs(a.logprob - score_of(&e, a.tokens, a.n_tokens, a.logprob)) < 1e-3);
        first = i ? first : a.logprob;
    }
    for (int k = 0; k < 4; k++) { /* none that could have been said is likelier */
        infer_encode_options plain = {.struct_size = sizeof plain, .disable_bos_eos = 1};
        infer_token tokens[64];
        size_t n = 64;
        assert_ok(infer_tokenizer_encode(infer_model_tokenizer(e.model), choices[k],
                                         strlen(choices[k]), &plain, tokens, &n));
        assert_true(score_of(&e, tokens, n, 0) <= first + 1e-3);
    }
    infer_answers_destroy(&answers);
    infer_grammar_destroy(&grammar);
    engine_close(&e);
}

/* The same answers, bit for bit, on every kind of session; nothing stays behind. With a grammar as
 * well as without. */
static void check_sessions(const infer_grammar *grammar)
{
    static const struct engine_setup setups[] = {
        {.n_threads = 1},
        {.n_threads = 2, .step_tokens = 3},
        {.n_threads = 1, .max_requests = 1},
        {.n_threads = 1, .max_requests = 2, .disable_prefix_cache = 1},
        {.n_threads = 2, .worker_thread = 1},
        {.n_threads = 1, .kv_budget_bytes = 1}, /* below: hardly two sequences */
    };
    struct plain_search s = {.width = 4, .length_max = 20, .penalty = 1, .grammar = grammar};
    infer_answer first[4];
    infer_answers *reference = NULL;
    struct engine e, keep;
    engine_open(&keep, test_source(TINY_MODEL), &setups[0]);
    set_prompt(&s, &keep, "Tell me a story about Clara and a white kite.");
    reference = beams_of(&keep, &s);
    size_t n = infer_answers_count(reference);
    for (size_t i = 0; i < n; i++) {
        first[i].struct_size = sizeof first[i];
        assert_ok(infer_answers_at(reference, i, &first[i]));
    }
    for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
        struct engine_setup setup = setups[k];
        infer_kv_cache_stats kv = {.struct_size = sizeof kv};
        assert_ok(infer_kv_cache_get_stats(keep.cache, &kv));
        if (setup.kv_budget_bytes)
            setup.kv_budget_bytes = kv.block_bytes * 7;
        engine_open(&e, test_source(TINY_MODEL), &setup);
        infer_answers *answers = beams_of(&e, &s);
        assert_int_equal(infer_answers_count(answers), n);
        for (size_t i = 0; i < n; i++) {
            infer_answer a = {.struct_size = sizeof a};
            assert_ok(infer_answers_at(answers, i, &a));
            assert_true(a.score == first[i].score && a.logprob == first[i].logprob);
            assert_string_equal(a.text, first[i].text);
            assert_int_equal(a.text_size, strlen(a.text));
        }
        infer_session_destroy(&e.session); /* answers outlive it */
        infer_answers_destroy(&answers);
        assert_ok(infer_kv_cache_get_stats(e.cache, &kv));
        assert_int_equal(kv.n_blocks_used, 0);
        engine_close(&e);
    }
    infer_answers_destroy(&reference);
    engine_close(&keep);
}

static void test_sessions(void **state)
{
    (void)state;
    infer_grammar *words = make_grammar(INFER_GRAMMAR_REGEX, WORDS, NULL, 0);
    check_sessions(NULL);
    check_sessions(words);
    infer_grammar_destroy(&words);
}

static void test_best_of(void **state)
{
    struct engine e;
    infer_sampling sampling = {.struct_size = sizeof sampling, .temperature = 1, .seed = 5};
    infer_request_options r = {.struct_size = sizeof r, .sampling = &sampling, .max_tokens = 12};
    infer_best_of_options o = {.struct_size = sizeof o, .request = &r, .n_samples = 5};
    (void)state;
    engine_open(&e, test_source(TINY_MODEL), &(struct engine_setup){.n_threads = 2});
    for (int penalty = 0; penalty < 2; penalty++) {
        infer_answers *answers = NULL;
        infer_answer a = {.struct_size = sizeof a};
        double last = INFINITY;
        int found = 0;
        o.length_penalty = (float)penalty;
        sampling.seed = 5;
        assert_ok(infer_session_best_of(&answers, e.session, PROMPT, &o));
        assert_int_equal(infer_answers_count(answers), 5);
        for (uint64_t seed = 5; seed < 10; seed++) { /* forks have the seeds that follow */
            infer_request *request = NULL;
            struct engine_answer alone;
            double sum = 0;
            sampling.seed = seed;
            r.prompt = PROMPT;
            r.logprobs = 1;
            assert_ok(infer_session_submit(&request, e.session, &r));
            engine_collect(request, &alone);
            for (size_t i = 0; i < alone.n; i++)
                sum += (double)alone.logprobs[i];
            for (size_t i = 0; i < 5; i++) {
                assert_ok(infer_answers_at(answers, i, &a));
                if (strcmp(a.text, alone.text) != 0 || a.n_tokens != alone.n)
                    continue;
                assert_memory_equal(a.tokens, alone.tokens, alone.n * sizeof *a.tokens);
                assert_true(fabs(a.logprob - sum) < 1e-9);
                assert_true(fabs(a.score - (penalty ? sum / (double)alone.n : sum)) < 1e-9);
                assert_int_equal(a.finish, alone.finish);
                found++;
                break;
            }
            engine_answer_free(&alone);
        }
        r.prompt = NULL;
        r.logprobs = 0;
        assert_int_equal(found, 5);
        for (size_t i = 0; i < 5; i++) {
            assert_ok(infer_answers_at(answers, i, &a));
            assert_true(a.score <= last);
            last = a.score;
        }
        assert_int_equal(infer_answers_at(answers, 5, &a), INFER_ERR_INVALID);
        infer_answers_destroy(&answers);
    }
    engine_close(&e);
}

static void assert_refused(struct engine *e, const infer_beam_options *o, infer_status status,
                           const char *why)
{
    infer_answers *answers = NULL;
    infer_status st = infer_session_beam_search(&answers, e->session, NULL, o);
    if (st != status || !strstr(infer_last_error(), why))
        fail_msg("gave %d (%s), expected %s", (int)st, infer_last_error(), why);
    assert_null(answers);
}

static void test_refusals(void **state)
{
    static const char *const stop[] = {"x"};
    struct engine e;
    infer_sampling sampling = {.struct_size = sizeof sampling};
    infer_token wrong = 1 << 30, tokens[64] = {300};
    infer_request_options r = {.struct_size = sizeof r, .prompt = "x"};
    infer_beam_options o = {.struct_size = sizeof o, .request = &r, .width = 65};
    infer_best_of_options b = {.struct_size = sizeof b, .n_samples = 257};
    infer_answers *answers = NULL;
    (void)state;
    engine_open(&e, test_source(TINY_MODEL),
                &(struct engine_setup){.n_threads = 1, .n_context = 64});
    assert_refused(&e, &o, INFER_ERR_INVALID, "width is 65");
    o.width = 2;
    o.early_stopping = 3;
    assert_refused(&e, &o, INFER_ERR_UNSUPPORTED, "infer_early_stopping 3");
    o.early_stopping = 0;
    o.length_penalty = NAN;
    assert_refused(&e, &o, INFER_ERR_INVALID, "length_penalty");
    o.length_penalty = 0;
    r.sampling = &sampling;
    assert_refused(&e, &o, INFER_ERR_UNSUPPORTED, "takes no sampling");
    r.sampling = NULL;
    r.stop = stop;
    r.n_stop = 1;
    assert_refused(&e, &o, INFER_ERR_UNSUPPORTED, "takes no stop");
    r.n_stop = 0;
    r.prompt = NULL;
    assert_refused(&e, &o, INFER_ERR_INVALID, "exactly one of");
    r.tokens = &wrong;
    r.n_tokens = 1;
    assert_refused(&e, &o, INFER_ERR_INVALID, "vocabulary has ids");
    r.n_tokens = 0;
    assert_refused(&e, &o, INFER_ERR_INVALID, "prompt is empty");
    r.tokens = tokens;
    r.n_tokens = 64;
    assert_refused(&e, &o, INFER_ERR_LIMIT, "holds 64");
    r.n_tokens = 60; /* up to the end of the context */
    r.ignore_eos = 1;
    assert_ok(infer_session_beam_search(&answers, e.session, NULL, &o));
    infer_answer a = {.struct_size = sizeof a};
    assert_ok(infer_answers_at(answers, 0, &a));
    assert_int_equal(a.n_tokens, 4);
    assert_int_equal(a.finish, INFER_FINISH_CONTEXT);
    infer_answers_destroy(&answers);
    assert_int_equal(infer_session_best_of(&answers, e.session, "x", &b), INFER_ERR_INVALID);
    b.n_samples = 0;
    r = (infer_request_options){.struct_size = sizeof r, .prefill_only = 1};
    b.request = &r;
    assert_int_equal(infer_session_best_of(&answers, e.session, "x", &b), INFER_ERR_UNSUPPORTED);
    assert_int_equal(infer_answers_count(NULL), 0);
    assert_int_equal(infer_answers_at(NULL, 0, &a), INFER_ERR_INVALID);
    infer_answers_destroy(NULL);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_beams),   cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_choices), cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_best_of), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
