/* infer bench: loading, prefill and decoding speed, and peak memory. Prompts are
 * random tokens, new ones for every measurement; medians over the repetitions. */
#include "command.h"
#include "host.h"
#include "json_out.h"
#include "terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define MAX_BATCH 1024

struct bench {
    struct host host;
    int64_t prompt, gen, depth, batch, repeat;
    int prompt_given, as_json;
    uint64_t random;
    int32_t n_vocab;
    infer_token *tokens; /* the prompt of one request */
    infer_kv_cache *cache;
    infer_request *requests[MAX_BATCH];
    double *load_ms, *prefill_tps, *decode_tps; /* `repeat` of each */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/* xorshift64* (Vigna, arXiv:1402.6246): repeatable, and no text repeats. */
static infer_token random_token(struct bench *bench)
{
    bench->random ^= bench->random >> 12;
    bench->random ^= bench->random << 25;
    bench->random ^= bench->random >> 27;
    return (infer_token)((bench->random * 0x2545f4914f6cdd1dU >> 33) % (uint64_t)bench->n_vocab);
}

static int submit_all(struct bench *bench, int64_t n_tokens, int prefill_only)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options};
    options.tokens = bench->tokens;
    options.n_tokens = (size_t)n_tokens;
    options.prefill_only = prefill_only;
    options.ignore_eos = 1;
    options.sampling = &greedy;
    speculate_request(&bench->host.speculate, &options);
    for (int64_t i = 0; i < bench->batch; i++) {
        for (int64_t j = 0; j < n_tokens; j++)
            bench->tokens[j] = random_token(bench);
        if (infer_session_submit(&bench->requests[i], bench->host.session, &options) != INFER_OK)
            return host_failed();
    }
    return STATUS_OK;
}

static void destroy_all(struct bench *bench)
{
    for (size_t i = 0; i < MAX_BATCH; i++)
        infer_request_destroy(&bench->requests[i]);
}

static int measure_prefill(struct bench *bench, double *tps)
{
    infer_event event = {.struct_size = sizeof event};
    double begin;
    if (submit_all(bench, bench->prompt, 1) != STATUS_OK)
        return STATUS_FAILED;
    begin = now();
    for (int64_t i = 0; i < bench->batch; i++) {
        infer_status status;
        do
            status = infer_request_next(bench->requests[i], &event);
        while (status == INFER_OK);
        if (status != INFER_DONE)
            return host_failed();
    }
    *tps = (double)(bench->batch * bench->prompt) / (now() - begin);
    destroy_all(bench);
    return STATUS_OK;
}

/* One step, then counts the tokens that came. Returns the number of requests
 * without a token so far in *n_silent. */
static int step(struct bench *bench, int64_t *counts, int64_t *n_tokens, int64_t *n_silent)
{
    infer_event event = {.struct_size = sizeof event};
    if (infer_session_step(bench->host.session) < 0)
        return host_failed();
    *n_silent = 0;
    for (int64_t i = 0; i < bench->batch; i++) {
        infer_status status;
        while ((status = infer_request_poll(bench->requests[i], &event)) == INFER_OK) {
            if (event.type == INFER_EVENT_FINISH) {
                terminal_error("the context is full before --gen tokens were generated");
                return STATUS_FAILED;
            }
            counts[i]++;
            ++*n_tokens;
        }
        if (status < 0)
            return host_failed();
        *n_silent += counts[i] == 0;
    }
    return STATUS_OK;
}

/* The clock starts when every request has its first token, so that prefill is
 * not in the figure, and stops before any request ends, so that all take part. */
static int measure_decode(struct bench *bench, double *tps)
{
    int64_t counts[MAX_BATCH] = {0};
    int64_t n_silent = bench->batch;
    int64_t n_tokens = 0;
    double begin;
    if (submit_all(bench, bench->depth > 0 ? bench->depth : 1, 0) != STATUS_OK)
        return STATUS_FAILED;
    while (n_silent > 0)
        if (step(bench, counts, &n_tokens, &n_silent) != STATUS_OK)
            return STATUS_FAILED;
    n_tokens = 0;
    begin = now();
    while (n_tokens < bench->gen * bench->batch)
        if (step(bench, counts, &n_tokens, &n_silent) != STATUS_OK)
            return STATUS_FAILED;
    *tps = (double)n_tokens / (now() - begin);
    destroy_all(bench);
    return STATUS_OK;
}

static int load(struct bench *bench)
{
    infer_model_info info = {.struct_size = sizeof info};
    for (int64_t i = 0; i < bench->repeat; i++) {
        double begin = now();
        infer_model_destroy(&bench->host.model);
        if (host_open(&bench->host, 0) != STATUS_OK)
            return STATUS_FAILED;
        bench->load_ms[i] = 1e3 * (now() - begin);
    }
    if (infer_model_get_info(bench->host.model, &info) != INFER_OK)
        return host_failed();
    bench->n_vocab = info.n_vocab;
    if (!bench->prompt_given && bench->prompt > info.n_context)
        bench->prompt = info.n_context;
    return STATUS_OK;
}

/* A session whose cache holds all requests at their longest, in whole blocks. */
static int open_session(struct bench *bench)
{
    infer_model_info info = {.struct_size = sizeof info};
    infer_kv_cache_options options = {.struct_size = sizeof options};
    int64_t longest = bench->depth + 2 * bench->gen + 64;
    if (infer_model_get_info(bench->host.model, &info) != INFER_OK)
        return host_failed();
    if (longest < bench->prompt)
        longest = bench->prompt;
    if (longest > info.n_context)
        longest = info.n_context;
    options.block_tokens = 16;
    options.disable_prefix_cache = 1; /* all is computed */
    options.budget_bytes =
        (uint64_t)bench->batch * (uint64_t)(longest + 16) * info.kv_bytes_per_token;
    if (infer_kv_cache_create(&bench->cache, bench->host.model, &options) != INFER_OK)
        return host_failed();
    return host_open_session(&bench->host, bench->cache);
}

static int allocate(struct bench *bench)
{
    size_t n = (size_t)bench->repeat;
    int64_t longest = bench->prompt > bench->depth ? bench->prompt : bench->depth;
    bench->load_ms = calloc(n, sizeof(double));
    bench->prefill_tps = calloc(n, sizeof(double));
    bench->decode_tps = calloc(n, sizeof(double));
    bench->tokens = calloc((size_t)longest + 1, sizeof *bench->tokens);
    if (bench->load_ms && bench->prefill_tps && bench->decode_tps && bench->tokens)
        return STATUS_OK;
    terminal_error("no memory for %lld repetitions", (long long)bench->repeat);
    return STATUS_FAILED;
}

static int measure(struct bench *bench)
{
    struct terminal_bar bar = {0};
    int status = STATUS_OK;
    for (int64_t i = 0; i < bench->repeat && status == STATUS_OK; i++) {
        status = measure_prefill(bench, &bench->prefill_tps[i]);
        if (status == STATUS_OK)
            status = measure_decode(bench, &bench->decode_tps[i]);
        terminal_progress((double)(i + 1) / (double)bench->repeat, "measuring", &bar);
    }
    terminal_bar_clear(&bar);
    return status;
}

static int print_results(struct bench *bench)
{
    infer_device_info device = {.struct_size = sizeof device};
    infer_session_stats stats = {.struct_size = sizeof stats};
    struct rusage usage;
    struct json_out json = {0};
    size_t n = (size_t)bench->repeat;
    double load_ms = median(bench->load_ms, n);
    double prefill = median(bench->prefill_tps, n);
    double decode = median(bench->decode_tps, n);
    uint64_t peak;
    if (infer_device_get_info(bench->host.device, &device) != INFER_OK ||
        infer_session_get_stats(bench->host.session, &stats) != INFER_OK)
        return host_failed();
    getrusage(RUSAGE_SELF, &usage);
    peak = (uint64_t)usage.ru_maxrss * 1024; /* Linux counts KiB */
    if (!bench->as_json) {
        printf("load      %10.2f ms\n", load_ms);
        printf("prefill   %10.1f tokens/s  (%lld x %lld tokens)\n", prefill,
               (long long)bench->batch, (long long)bench->prompt);
        printf("decode    %10.1f tokens/s  (%lld x %lld tokens after %lld)\n", decode,
               (long long)bench->batch, (long long)bench->gen, (long long)bench->depth);
        if (stats.n_drafted_tokens)
            printf("drafted   %10llu tokens, %llu right\n",
                   (unsigned long long)stats.n_drafted_tokens,
                   (unsigned long long)stats.n_accepted_tokens);
        printf("peak RSS  %10.1f MiB\n", (double)peak / (1 << 20));
        printf("kernels   %10s, %d threads\n", device.kernels, (int)device.n_threads);
        return STATUS_OK;
    }
    json_open(&json, NULL, '{');
    json_double(&json, "load_ms", load_ms);
    json_double(&json, "prefill_tps", prefill);
    json_double(&json, "decode_tps", decode);
    json_int(&json, "threads", device.n_threads);
    json_uint(&json, "peak_rss_bytes", peak);
    json_string(&json, "kernels", device.kernels);
    if (stats.n_drafted_tokens) {
        json_uint(&json, "drafted_tokens", stats.n_drafted_tokens);
        json_uint(&json, "accepted_tokens", stats.n_accepted_tokens);
    }
    json_close(&json, '}');
    return json_print(&json);
}

static int work(struct bench *bench)
{
    int status;
    if (bench->batch > MAX_BATCH)
        return args_wrong("bench", "--batch is %lld, expected at most %d", (long long)bench->batch,
                          MAX_BATCH);
    status = speculate_check(&bench->host.speculate, "bench");
    if (status == STATUS_OK)
        status = allocate(bench);
    if (status == STATUS_OK)
        status = load(bench);
    if (status == STATUS_OK)
        status = open_session(bench);
    if (status == STATUS_OK)
        status = measure(bench);
    return status == STATUS_OK ? print_results(bench) : status;
}

int command_bench(int argc, char **argv)
{
    static struct bench bench = {
        .prompt = 512, .gen = 64, .batch = 1, .repeat = 5, .random = 0x9e3779b97f4a7c15U};
    const struct args_option options[] = {
        HOST_RUN_OPTIONS(bench.host),
        {.name = "--prompt",
         .value = "N",
         .help = "tokens to prefill (default: 512)",
         .kind = ARGS_COUNT,
         .target = &bench.prompt,
         .min = 1,
         .given = &bench.prompt_given},
        ARGS_ROW_MIN(ARGS_COUNT, "--gen", "N", bench.gen, 1, "tokens to decode (default: 64)"),
        ARGS_ROW(ARGS_COUNT, "--depth", "N", bench.depth,
                 "tokens in the context before decoding (default: 0)"),
        ARGS_ROW_MIN(ARGS_COUNT, "--batch", "N", bench.batch, 1, "requests at once (default: 1)"),
        SPECULATE_OPTIONS(bench.host.speculate),
        ARGS_ROW_MIN(ARGS_COUNT, "--repeat", "N", bench.repeat, 1, "measurements (default: 5)"),
        ARGS_ROW(ARGS_FLAG, "--json", NULL, bench.as_json,
                 "{\"load_ms\":x,\"prefill_tps\":x,\"decode_tps\":x,...}"),
    };
    const struct args_command command = {
        "bench", "Measures loading, prefill and decoding with random prompts; prints medians.",
        options, sizeof options / sizeof options[0]};
    enum args_result parsed = args_parse(&command, argc, argv);
    int status;
    if (parsed != ARGS_GO)
        return parsed == ARGS_HELP ? STATUS_OK : STATUS_USAGE;
    status = work(&bench);
    destroy_all(&bench);
    host_close(&bench.host);
    infer_kv_cache_destroy(&bench.cache);
    free(bench.tokens);
    free(bench.load_ms);
    free(bench.prefill_tps);
    free(bench.decode_tps);
    return status;
}
