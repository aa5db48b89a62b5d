/* A trace of conversations in three ways: as libinfer serves it, without its prefix cache, and in
 * static batches on the same engine.
 *   replay MODEL [--users N] [--tenants N] [--turns N] [--system TOKENS] [--message TOKENS]
 *          [--answer TOKENS] [--span S] [--think S] [--burst N] [--batch N] [--mib N] [--rounds N]
 *          [--threads N] [--seed N] [--in-order 1]
 * Users arrive within the span, each by himself or in bursts; a turn is due a while after the
 * answer before it, and its prompt is all that was said. Times count from the moment when a turn
 * is due. The ways take turns, so that what else the machine does hits them alike; every round
 * begins with an empty cache. Tenants share fairly, but with --in-order. Prints medians over the
 * rounds, least and most. */
#include "replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 31

enum {
    HIT_RATE,
    TOKENS_S,
    SECONDS,
    TTFT_P50,
    TTFT_P99,
    ITL_P50,
    ITL_P99,
    E2E_P50,
    E2E_P99,
    PREEMPTIONS,
    N_METRICS
};

static const char *const metric_names[N_METRICS] = {
    "prompt tokens cached, %", "answer tokens/s",
    "whole trace, s",          "time to first token p50, ms",
    "time to first token p99", "from token to token p50, ms",
    "from token to token p99", "due to last token p50, ms",
    "due to last token p99",   "preemptions"};

static const char *const way_names[REPLAY_WAYS] = {"libinfer", "no prefix cache", "static batches"};

static _Noreturn void fail(void)
{
    fprintf(stderr, "%s\n", infer_last_error());
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. The value at or above a share of all. */
static double percentile(double *values, size_t n, double share)
{
    qsort(values, n, sizeof *values, compare);
    size_t at = (size_t)(share * (double)n);
    return n ? values[at < n ? at : n - 1] : 0;
}

static void measure(double out[N_METRICS], struct replay_result *r)
{
    size_t n = (size_t)r->n_records;
    double *ttft = calloc(n + 1, sizeof *ttft), *e2e = calloc(n + 1, sizeof *e2e);
    if (!ttft || !e2e)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        ttft[i] = (double)(r->records[i].first_ns - r->records[i].due_ns) * 1e-6;
        e2e[i] = (double)(r->records[i].end_ns - r->records[i].due_ns) * 1e-6;
    }
    out[HIT_RATE] = 100 * (double)r->n_cached_tokens / (double)r->n_prompt_tokens;
    out[TOKENS_S] = (double)r->n_answer_tokens / r->seconds;
    out[SECONDS] = r->seconds;
    out[TTFT_P50] = percentile(ttft, n, 0.5);
    out[TTFT_P99] = percentile(ttft, n, 0.99);
    out[ITL_P50] = percentile(r->gaps_ms, r->n_gaps, 0.5);
    out[ITL_P99] = percentile(r->gaps_ms, r->n_gaps, 0.99);
    out[E2E_P50] = percentile(e2e, n, 0.5);
    out[E2E_P99] = percentile(e2e, n, 0.99);
    out[PREEMPTIONS] = (double)r->n_preempted;
    free(ttft);
    free(e2e);
}

/* Answers and prompts of two runs, whatever their order. */
static void check_same(const struct trace *t, const struct replay_result *a,
                       const struct replay_result *b)
{
    const struct replay_record **place =
        calloc((size_t)t->config.n_users * TRACE_TURNS_MAX, sizeof *place);
    if (!place)
        exit(1);
    for (int32_t i = 0; i < a->n_records; i++)
        place[a->records[i].user * TRACE_TURNS_MAX + a->records[i].turn] = &a->records[i];
    for (int32_t i = 0; i < b->n_records; i++) {
        const struct replay_record *y = &b->records[i];
        const struct replay_record *x = place[y->user * TRACE_TURNS_MAX + y->turn];
        size_t n = (size_t)(y->n_prompt + y->n_answer) * sizeof *y->tokens;
        if (!x || x->n_prompt != y->n_prompt || x->n_answer != y->n_answer ||
            memcmp(x->tokens, y->tokens, n) != 0) {
            fprintf(stderr, "turn %d of user %d has another answer\n", y->turn, y->user);
            exit(1);
        }
    }
    free(place);
}

static void print_table(double values[REPLAY_WAYS][N_METRICS][ROUNDS_MAX], int rounds)
{
    printf("\n| median of %d rounds (least to most) | %s | %s | %s |\n|---|---|---|---|\n", rounds,
           way_names[0], way_names[1], way_names[2]);
    for (int m = 0; m < N_METRICS; m++) {
        printf("| %s |", metric_names[m]);
        for (int w = 0; w < REPLAY_WAYS; w++) {
            double *v = values[w][m];
            qsort(v, (size_t)rounds, sizeof *v, compare);
            printf(" %.1f (%.1f to %.1f) |", v[rounds / 2], v[0], v[rounds - 1]);
        }
        printf("\n");
    }
}

struct arguments {
    struct trace_config trace;
    int64_t batch, mib, rounds, threads, in_order;
};

static int parse(struct arguments *a, int argc, char **argv)
{
    struct {
        const char *name;
        int32_t *whole;
        int64_t *large;
        double *number;
    } rows[] = {
        {"--users", &a->trace.n_users, NULL, NULL},
        {"--tenants", &a->trace.n_tenants, NULL, NULL},
        {"--turns", &a->trace.n_turns, NULL, NULL},
        {"--system", &a->trace.system_tokens, NULL, NULL},
        {"--message", &a->trace.message_tokens, NULL, NULL},
        {"--answer", &a->trace.answer_tokens, NULL, NULL},
        {"--burst", &a->trace.burst, NULL, NULL},
        {"--span", NULL, NULL, &a->trace.span_s},
        {"--think", NULL, NULL, &a->trace.think_s},
        {"--batch", NULL, &a->batch, NULL},
        {"--mib", NULL, &a->mib, NULL},
        {"--rounds", NULL, &a->rounds, NULL},
        {"--in-order", NULL, &a->in_order, NULL},
        {"--threads", NULL, &a->threads, NULL},
        {"--seed", NULL, (int64_t *)&a->trace.seed, NULL},
    };
    size_t n_rows = sizeof rows / sizeof *rows, k;
    for (int i = 2; i + 1 < argc; i += 2) {
        double value = atof(argv[i + 1]);
        for (k = 0; k < n_rows && strcmp(argv[i], rows[k].name) != 0; k++)
            continue;
        if (k == n_rows || value <= 0)
            return 0;
        if (rows[k].whole)
            *rows[k].whole = (int32_t)value;
        else if (rows[k].large)
            *rows[k].large = (int64_t)value;
        else
            *rows[k].number = value;
    }
    return argc > 1 && argc % 2 == 0 && a->rounds <= ROUNDS_MAX && a->trace.n_tenants <= 8 &&
           a->trace.n_turns <= TRACE_TURNS_MAX;
}

int main(int argc, char **argv)
{
    static double values[REPLAY_WAYS][N_METRICS][ROUNDS_MAX];
    struct arguments a = {.trace = {.seed = 1,
                                    .n_users = 24,
                                    .n_tenants = 4,
                                    .n_turns = 4,
                                    .system_tokens = 120,
                                    .message_tokens = 60,
                                    .answer_tokens = 60,
                                    .span_s = 10,
                                    .think_s = 1,
                                    .burst = 1},
                          .batch = 8,
                          .mib = 64,
                          .rounds = 5,
                          .threads = 1};
    infer_device *device = NULL;
    infer_model *model = NULL;
    infer_model_info info = {.struct_size = sizeof info};
    struct trace trace;
    if (!parse(&a, argc, argv)) {
        fprintf(stderr, "usage: replay MODEL [--NAME VALUE ...], see the top of replay.c\n");
        return 2;
    }
    infer_device_options d = {.struct_size = sizeof d, .n_threads = (int32_t)a.threads};
    infer_model_options m = {.struct_size = sizeof m};
    if (infer_device_create(&device, 0, &d) != INFER_OK)
        fail();
    m.device = device;
    if (infer_model_load(&model, argv[1], &m) != INFER_OK ||
        infer_model_get_info(model, &info) != INFER_OK)
        fail();
    a.trace.n_vocab = info.n_vocab;
    a.trace.n_context = info.n_context;
    trace_make(&trace, &a.trace);
    for (int round = 0; round < (int)a.rounds; round++) {
        struct replay_result results[REPLAY_WAYS];
        for (int k = 0; k < REPLAY_WAYS; k++) {
            int way = (round + k) % REPLAY_WAYS;
            struct replay_options o = {.model = model,
                                       .way = (enum replay_way)way,
                                       .max_requests = (int32_t)a.batch,
                                       .budget_bytes = (uint64_t)a.mib << 20,
                                       .in_order = a.in_order != 0,
                                       .time_scale = 1};
            double now[N_METRICS];
            if (replay_run(&results[way], &trace, &o) != INFER_OK)
                fail();
            measure(now, &results[way]);
            for (int i = 0; i < N_METRICS; i++)
                values[way][i][round] = now[i];
            fprintf(stderr, "round %d, %s: %.1f s\n", round + 1, way_names[way], now[SECONDS]);
        }
        if (!round)
            printf("%d users of %d tenants, %d requests, %lld prompt and %lld answer tokens\n",
                   (int)trace.config.n_users, (int)trace.config.n_tenants, (int)trace.n_requests,
                   (long long)results[0].n_prompt_tokens, (long long)results[0].n_answer_tokens);
        check_same(&trace, &results[0], &results[1]);
        check_same(&trace, &results[0], &results[2]);
        for (int way = 0; way < REPLAY_WAYS; way++)
            replay_free(&results[way]);
    }
    print_table(values, (int)a.rounds);
    trace_free(&trace);
    infer_model_destroy(&model);
    infer_device_destroy(&device);
    return 0;
}
