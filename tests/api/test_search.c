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
        int n_next = 0, rank = 0;
        for (int32_t i = 0; i < n_beams * n_vocab && n_next < s->width; i++) {
            struct plain_beam b = beams[c[i].beam];
            int end = !s->ignore_eos && infer_tokenizer_is_end(t, c[i].token);
            if (end && length < s->min_tokens)
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

/* The same answers, bit for bit, on every kind of session; nothing stays behind. */
static void test_sessions(void **state)
{
    static const struct engine_setup setups[] = {
        {.n_threads = 1},
        {.n_threads = 2, .step_tokens = 3},
        {.n_threads = 1, .max_requests = 1},
        {.n_threads = 1, .max_requests = 2, .disable_prefix_cache = 1},
        {.n_threads = 2, .worker_thread = 1},
        {.n_threads = 1, .kv_budget_bytes = 1}, /* below: hardly two sequences */
    };
    struct plain_search s = {.width = 4, .length_max = 20, .penalty = 1};
    infer_answer first[4];
    infer_answers *reference = NULL;
    struct engine e, keep;
    (void)state;
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
        cmocka_unit_test(test_beams),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_best_of),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
