/* What speculation costs and gains.
 *   speculation MODEL [ROUNDS [TOKENS [THREADS]]]
 * The model's greedy answers are known from plain runs, so that made-up drafts can be right as
 * often as wanted: what a step of so many rows costs, and tokens a second by how many drafts are
 * right. Then n-grams on prompts whose answers repeat, quote or do neither. All ways in turns,
 * in processor time where there is one thread (the default), else by the clock on the wall;
 * medians, slowest and fastest. */
#include "engine/session.h"

#include <infer/infer.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS_MAX 100
#define TOKENS_MAX 1024

struct bench {
    infer_device *device;
    infer_model *model;
    infer_session *session;
    const char *prompt;
    infer_token answer[TOKENS_MAX];
    int64_t n_tokens;
    uint64_t random;
    double right; /* chance of a made-up draft */
    clockid_t clock;
};

/* One way to run, and what came of it. */
struct way {
    const char *name;
    infer_speculation kind;
    int32_t max, fixed, made_up;
    double right;
    double tokens_s[ROUNDS_MAX], step_ms[ROUNDS_MAX];
    int64_t n_drafted, n_accepted;
};

static void fail(void)
{
    fprintf(stderr, "%s\n", infer_last_error());
    exit(1);
}

static double now(const struct bench *b)
{
    struct timespec t;
    clock_gettime(b->clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double chance(struct bench *b)
{
    b->random = b->random * 6364136223846793005u + 1442695040888963407u;
    return (double)(b->random >> 40) / (double)(1 << 24);
}

static int32_t make_up(void *data, const struct infer_request *r, infer_token *out, int32_t n)
{
    struct bench *b = data;
    for (int32_t i = 0; i < n; i++) {
        infer_token token = b->answer[r->tokens.size + (size_t)i];
        out[i] = chance(b) < b->right ? token : token ? token - 1 : 1;
    }
    return n;
}

static void run(struct bench *b, struct way *w, int round)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options o = {.struct_size = sizeof o};
    infer_session_stats before = {.struct_size = sizeof before}, after = before;
    infer_request_info info = {.struct_size = sizeof info};
    double begin;
    infer_event event = {.struct_size = sizeof event};
    infer_request *request = NULL;
    int64_t n = 0;
    o.prompt = b->prompt;
    o.sampling = &greedy;
    o.ignore_eos = 1;
    o.max_tokens = b->n_tokens;
    o.speculation = w->kind;
    o.max_draft_tokens = w->max;
    b->right = w->right;
    b->session->draft.hook = w->made_up ? make_up : NULL;
    b->session->draft.hook_data = b;
    b->session->draft.fixed = w->fixed;
    if (infer_session_submit(&request, b->session, &o) != INFER_OK ||
        infer_request_next(request, &event) != INFER_OK ||
        infer_session_get_stats(b->session, &before) != INFER_OK)
        fail();
    begin = now(b);
    do {
        if (event.type == INFER_EVENT_TOKEN && w->kind == INFER_SPECULATION_OFF)
            b->answer[n] = event.token;
        else if (event.type == INFER_EVENT_TOKEN && b->answer[n] != event.token)
            fprintf(stderr, "token %d is another\n", (int)n);
        n += event.type == INFER_EVENT_TOKEN;
    } while (infer_request_next(request, &event) == INFER_OK);
    begin = now(b) - begin;
    infer_session_get_stats(b->session, &after);
    infer_request_get_info(request, &info);
    infer_request_destroy(&request);
    w->tokens_s[round] = (double)(n - 1) / begin;
    w->step_ms[round] = begin * 1e3 / (double)(after.n_steps - before.n_steps);
    w->n_drafted += info.n_drafted_tokens;
    w->n_accepted += info.n_accepted_tokens;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(struct bench *b, struct way *ways, size_t n_ways, int rounds)
{
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < n_ways; i++)
            run(b, &ways[i], round);
    for (size_t i = 0; i < n_ways; i++) {
        struct way *w = &ways[i];
        size_t n = (size_t)rounds;
        qsort(w->tokens_s, n, sizeof(double), compare);
        qsort(w->step_ms, n, sizeof(double), compare);
        printf("| %s | %.2f (%.2f to %.2f) | %.1f (%.1f to %.1f) | %.2f |", w->name,
               w->step_ms[n / 2], w->step_ms[0], w->step_ms[n - 1], w->tokens_s[n / 2],
               w->tokens_s[0], w->tokens_s[n - 1], w->tokens_s[n / 2] / ways[0].tokens_s[n / 2]);
        if (w->n_drafted)
            printf(" %.0f of %.0f |\n", (double)w->n_accepted / rounds,
                   (double)w->n_drafted / rounds);
        else
            printf(" |\n");
    }
}

static void costs(struct bench *b, int rounds)
{
    static struct way ways[] = {
        {.name = "plain", .kind = INFER_SPECULATION_OFF},
        {"2 rows, none right", INFER_SPECULATION_NGRAM, 1, 1, 1, 0, {0}, {0}, 0, 0},
        {"3 rows, none right", INFER_SPECULATION_NGRAM, 2, 1, 1, 0, {0}, {0}, 0, 0},
        {"5 rows, none right", INFER_SPECULATION_NGRAM, 4, 1, 1, 0, {0}, {0}, 0, 0},
        {"9 rows, none right", INFER_SPECULATION_NGRAM, 8, 1, 1, 0, {0}, {0}, 0, 0},
        {"paced, 0 % right", INFER_SPECULATION_NGRAM, 0, 0, 1, 0, {0}, {0}, 0, 0},
        {"paced, 50 % right", INFER_SPECULATION_NGRAM, 0, 0, 1, 0.5, {0}, {0}, 0, 0},
        {"paced, 70 % right", INFER_SPECULATION_NGRAM, 0, 0, 1, 0.7, {0}, {0}, 0, 0},
        {"always 4, 70 % right", INFER_SPECULATION_NGRAM, 4, 1, 1, 0.7, {0}, {0}, 0, 0},
        {"paced, 90 % right", INFER_SPECULATION_NGRAM, 0, 0, 1, 0.9, {0}, {0}, 0, 0},
        {"paced, all right", INFER_SPECULATION_NGRAM, 0, 0, 1, 1, {0}, {0}, 0, 0},
    };
    b->prompt = "Once upon a time";
    puts("| made-up drafts | ms a step | tokens/s | x plain | accepted |\n|---|---|---|---|---|");
    measure(b, ways, sizeof ways / sizeof *ways, rounds);
}

static void texts(struct bench *b, int rounds)
{
    static const struct {
        const char *name, *prompt;
    } cases[] = {
        {"JSON over a list",
         "{\"apple\": 1, \"pear\": 2, \"plum\": 3}\n{\"apple\": 1, \"pear\": 2, \"plum\": 3}\n"
         "{\"apple\": 1, \"pear\""},
        {"a list, copied", "red green blue white black red green blue white black red green"},
        {"free text", "Once upon a time there was"},
        {"a question", "What is the capital of France?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct way ways[] = {{.name = "plain", .kind = INFER_SPECULATION_OFF},
                             {.name = "n-grams", .kind = INFER_SPECULATION_NGRAM}};
        b->prompt = cases[i].prompt;
        printf("\n%s\n\n| | ms a step | tokens/s | x plain | accepted |\n|---|---|---|---|---|\n",
               cases[i].name);
        measure(b, ways, 2, rounds);
    }
}

int main(int argc, char **argv)
{
    static struct bench b = {.random = 1};
    infer_device_options device = {.struct_size = sizeof device};
    infer_model_options model = {.struct_size = sizeof model};
    infer_session_options session = {.struct_size = sizeof session, .n_context = 1024 + 64};
    infer_model_info info = {.struct_size = sizeof info};
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    b.n_tokens = argc > 3 ? atoi(argv[3]) : 64;
    device.n_threads = argc > 4 ? atoi(argv[4]) : 1;
    b.clock = device.n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || b.n_tokens < 2 ||
        b.n_tokens > TOKENS_MAX) {
        fprintf(stderr, "usage: speculation MODEL [ROUNDS [TOKENS [THREADS]]]\n");
        return 2;
    }
    if (infer_device_create(&b.device, 0, &device) != INFER_OK)
        fail();
    model.device = b.device;
    if (infer_model_load(&b.model, argv[1], &model) != INFER_OK ||
        infer_model_get_info(b.model, &info) != INFER_OK)
        fail();
    if (session.n_context > info.n_context)
        session.n_context = info.n_context;
    if (infer_session_create(&b.session, b.model, &session) != INFER_OK)
        fail();
    costs(&b, rounds);
    texts(&b, rounds);
    infer_session_destroy(&b.session);
    infer_model_destroy(&b.model);
    infer_device_destroy(&b.device);
    return 0;
}
