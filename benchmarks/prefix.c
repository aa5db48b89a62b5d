/* What the prefix cache costs and what it saves.
 *   prefix MODEL [PROMPT_TOKENS] [ROUNDS]
 * Costs: prompts that have nothing in common, with the cache on and off in turns, in a budget that
 * must evict all the time, in processor time of one thread. Saves: the time to the first token of a
 * prompt whose all but the last 16 tokens were computed before. Prints medians, fastest and
 * slowest. */
#include <infer/infer.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS_MAX 1000
#define ANSWER     16

struct bench {
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache[2]; /* with a prefix cache, and without */
    infer_session *session[2];
    infer_token *prompt;
    size_t n;
    int32_t n_vocab;
    uint64_t random;
};

static double now_ms(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_row(const char *name, double *values, int n, const char *unit)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    printf("%-44s %10.3f  (%.3f to %.3f) %s\n", name, values[n / 2], values[0], values[n - 1],
           unit);
}

static void draw(struct bench *b, size_t from)
{
    for (size_t i = from; i < b->n; i++) {
        b->random = b->random * 6364136223846793005u + 1442695040888963407u;
        b->prompt[i] = (infer_token)((b->random >> 33) % (uint64_t)b->n_vocab);
    }
}

static void fail(void)
{
    fprintf(stderr, "%s\n", infer_last_error());
    exit(1);
}

static int open_session(struct bench *b, int off)
{
    infer_model_info info = {.struct_size = sizeof info};
    infer_kv_cache_options c = {.struct_size = sizeof c, .disable_prefix_cache = off};
    infer_session_options s = {.struct_size = sizeof s};
    if (infer_model_get_info(b->model, &info) != INFER_OK)
        return 0;
    b->n_vocab = info.n_vocab;
    if (!b->n || b->n + ANSWER > (size_t)info.n_context)
        b->n = (size_t)info.n_context - ANSWER;
    c.budget_bytes = (b->n + ANSWER + 64) * info.kv_bytes_per_token; /* hardly one request */
    if (infer_kv_cache_create(&b->cache[off], b->model, &c) != INFER_OK)
        return 0;
    s.kv_cache = b->cache[off];
    return infer_session_create(&b->session[off], b->model, &s) == INFER_OK;
}

/* Milliseconds of processor time, and to the first token. */
static double run(struct bench *b, int off, double *first, int64_t *cached)
{
    infer_request_options o = {.struct_size = sizeof o, .tokens = b->prompt, .n_tokens = b->n};
    infer_request_info info = {.struct_size = sizeof info};
    infer_event event = {.struct_size = sizeof event};
    infer_request *request = NULL;
    double begin = now_ms(CLOCK_MONOTONIC), cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID);
    o.max_tokens = ANSWER;
    o.ignore_eos = 1;
    if (infer_session_submit(&request, b->session[off], &o) != INFER_OK ||
        infer_request_next(request, &event) != INFER_OK)
        fail();
    *first = now_ms(CLOCK_MONOTONIC) - begin;
    while (infer_request_next(request, &event) == INFER_OK)
        continue;
    cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (infer_request_get_info(request, &info) != INFER_OK)
        fail();
    *cached = info.n_cached_tokens;
    infer_request_destroy(&request);
    return cpu;
}

/* Both ways in turns, so that what else the machine does hits them alike. */
static void measure_cost(struct bench *b, int rounds)
{
    static double ms[2][ROUNDS_MAX], ratio[ROUNDS_MAX];
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    for (int i = 0; i < rounds; i++) {
        double first;
        int64_t cached;
        for (int k = 0; k < 2; k++) {
            int off = (i + k) % 2;
            draw(b, 0);
            ms[off][i] = run(b, off, &first, &cached);
        }
        ratio[i] = 100 * (ms[0][i] / ms[1][i] - 1);
    }
    infer_kv_cache_get_stats(b->cache[0], &kv);
    printf("%zu + %d tokens, nothing in common; %llu of %llu tokens found, %llu blocks evicted\n",
           b->n, ANSWER, (unsigned long long)kv.n_prefix_hits,
           (unsigned long long)kv.n_prefix_queries, (unsigned long long)kv.n_evicted);
    print_row("  cache on", ms[0], rounds, "ms");
    print_row("  cache off", ms[1], rounds, "ms");
    print_row("  difference of a pair", ratio, rounds, "%");
}

static void measure_gain(struct bench *b, int rounds)
{
    static double ms[2][ROUNDS_MAX];
    int64_t cached = 0;
    double first;
    draw(b, 0);
    run(b, 0, &first, &cached);
    for (int i = 0; i < rounds; i++)
        for (int off = 0; off < 2; off++) {
            draw(b, b->n > 16 ? b->n - 16 : 0);
            run(b, off, &ms[off][i], &cached);
            if (!off && !i)
                printf("%zu tokens, %lld of them cached: to the first token\n", b->n,
                       (long long)cached);
        }
    print_row("  cache on", ms[0], rounds, "ms");
    print_row("  cache off", ms[1], rounds, "ms");
}

int main(int argc, char **argv)
{
    struct bench b = {.n = argc > 2 ? strtoul(argv[2], NULL, 10) : 512, .random = 1};
    int rounds = argc > 3 ? atoi(argv[3]) : 21;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: prefix MODEL [PROMPT_TOKENS] [ROUNDS]\n");
        return 2;
    }
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    infer_model_options m = {.struct_size = sizeof m};
    if (infer_device_create(&b.device, 0, &d) != INFER_OK)
        fail();
    m.device = b.device;
    if (infer_model_load(&b.model, argv[1], &m) != INFER_OK || !open_session(&b, 0) ||
        !open_session(&b, 1))
        fail();
    b.prompt = calloc(b.n, sizeof *b.prompt);
    if (!b.prompt)
        return 1;
    measure_cost(&b, rounds);
    measure_gain(&b, rounds);
    for (int off = 0; off < 2; off++) {
        infer_session_destroy(&b.session[off]);
        infer_kv_cache_destroy(&b.cache[off]);
    }
    infer_model_destroy(&b.model);
    infer_device_destroy(&b.device);
    free(b.prompt);
    return 0;
}
