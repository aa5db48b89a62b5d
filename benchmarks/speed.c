/* Measures on command, for a driver that runs cells of several engines in turns.
 *   speed MODEL [--threads N] [--kv f32|f16|bf16|q8|q4] [--step N] [--disable-cpu MASK]
 *         [--pack auto|off|on] [--fast]
 * Commands, one a line; each is answered by one line of JSON with "value", or with "error":
 *   prefill N        tokens/s of a prompt of N tokens
 *   decode DEPTH N   tokens/s of N tokens behind a prompt of DEPTH
 *   batch SEQS N     tokens/s in all of SEQS requests, N tokens each behind prompts of 64
 *   load             seconds from open to the first token of a prompt of one
 *   memory           bytes of peak resident memory; those now in anonymous pages and of files
 * The session of decode and batch stays until another shape is asked for: the same command again
 * finds its prompts in the prefix cache and costs little beside what it measures.
 * benchmarks/peer_llama.py speaks the same for others. */
#include <infer/infer.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_SEQS = 1024, MAX_TOKENS = 1 << 20, BATCH_PROMPT = 64, WARM_TOKENS = 64, BLOCK = 16 };

struct speed {
    const char *path;
    infer_device_options device_options;
    infer_kv_type kv_type;
    infer_pack pack;
    int32_t step_tokens, fast;
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *session;
    infer_request *requests[MAX_SEQS];
    int64_t session_seqs, session_tokens; /* what the session has room for */
    int32_t n_vocab, n_context;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- answers --- */

/* Prints an error and returns 0, as all functions here do that failed. */
static int fail(const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("{\"error\": \"");
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\')
            putchar('\\');
        putchar((unsigned char)*p < ' ' ? ' ' : *p);
    }
    printf("\"}\n");
    return 0;
}

static int fail_library(void)
{
    return fail("%s", infer_last_error());
}

static void answer(double value, const char *unit)
{
    printf("{\"value\": %.9g, \"unit\": \"%s\"}\n", value, unit);
}

/* --- model and session --- */

static void close_session(struct speed *s)
{
    for (size_t i = 0; i < MAX_SEQS; i++)
        infer_request_destroy(&s->requests[i]);
    infer_session_destroy(&s->session);
    infer_kv_cache_destroy(&s->cache);
    s->session_seqs = s->session_tokens = 0;
}

static int open_model(struct speed *s)
{
    infer_model_options options = {.struct_size = sizeof options};
    infer_model_info info = {.struct_size = sizeof info};
    options.device = s->device;
    options.kv_type = s->kv_type;
    options.pack = s->pack;
    if (infer_model_load(&s->model, s->path, &options) != INFER_OK ||
        infer_model_get_info(s->model, &info) != INFER_OK)
        return fail_library();
    s->n_vocab = info.n_vocab;
    s->n_context = info.n_context;
    return 1;
}

/* A session with room for `seqs` requests of `tokens` each; the one that is there, if it has. */
static int open_session(struct speed *s, int64_t seqs, int64_t tokens)
{
    infer_model_info info = {.struct_size = sizeof info};
    infer_kv_cache_options cache = {.struct_size = sizeof cache};
    infer_session_options options = {.struct_size = sizeof options};
    if (s->session && s->session_seqs == seqs && s->session_tokens == tokens)
        return 1;
    close_session(s);
    if (tokens > s->n_context)
        return fail("%lld tokens are more than the model's context of %d", (long long)tokens,
                    (int)s->n_context);
    if (infer_model_get_info(s->model, &info) != INFER_OK)
        return fail_library();
    cache.block_tokens = BLOCK;
    cache.budget_bytes = (uint64_t)seqs * (uint64_t)(tokens + 2 * BLOCK) * info.kv_bytes_per_token;
    options.n_context = (int32_t)tokens;
    options.max_requests = (int32_t)seqs;
    options.step_tokens = s->step_tokens;
    options.numerics = s->fast ? INFER_NUMERICS_FAST : INFER_NUMERICS_STABLE;
    if (infer_kv_cache_create(&s->cache, s->model, &cache) != INFER_OK)
        return fail_library();
    options.kv_cache = s->cache;
    if (infer_session_create(&s->session, s->model, &options) != INFER_OK)
        return fail_library();
    s->session_seqs = seqs;
    s->session_tokens = tokens;
    return 1;
}

/* Prompts differ from `seed` to `seed` from their first token on, and are always the same. */
static int submit(struct speed *s, int64_t slot, int64_t n_tokens, uint64_t seed, int prefill_only)
{
    static const infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request_options options = {.struct_size = sizeof options};
    infer_token *tokens = calloc((size_t)n_tokens, sizeof *tokens);
    infer_status status;
    if (!tokens)
        return fail("no memory for %lld tokens", (long long)n_tokens);
    uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15U;
    for (int64_t i = 0; i < n_tokens; i++) { /* xorshift64* (Vigna, arXiv:1402.6246) */
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        tokens[i] = (infer_token)((x * 0x2545f4914f6cdd1dU >> 33) % (uint64_t)s->n_vocab);
    }
    options.tokens = tokens;
    options.n_tokens = (size_t)n_tokens;
    options.prefill_only = prefill_only;
    options.ignore_eos = 1;
    options.sampling = &greedy;
    status = infer_session_submit(&s->requests[slot], s->session, &options);
    free(tokens);
    return status == INFER_OK ? 1 : fail_library();
}

/* One step. Adds the tokens that came to counts[seqs] and *n_tokens. */
static int step(struct speed *s, int64_t seqs, int64_t *counts, int64_t *n_tokens)
{
    infer_event event = {.struct_size = sizeof event};
    if (infer_session_step(s->session) < 0)
        return fail_library();
    for (int64_t i = 0; i < seqs; i++) {
        infer_status status;
        while ((status = infer_request_poll(s->requests[i], &event)) == INFER_OK) {
            if (event.type == INFER_EVENT_FINISH)
                return fail("request %lld ended early", (long long)i);
            counts[i]++;
            ++*n_tokens;
        }
        if (status < 0)
            return fail_library();
    }
    return 1;
}

/* --- commands --- */

static int prefill(struct speed *s, int64_t n, uint64_t seed, double *seconds)
{
    infer_event event = {.struct_size = sizeof event};
    infer_status status;
    if (!submit(s, 0, n, seed, 1))
        return 0;
    double begin = now();
    do
        status = infer_request_next(s->requests[0], &event);
    while (status == INFER_OK);
    *seconds = now() - begin;
    infer_request_destroy(&s->requests[0]);
    return status == INFER_DONE ? 1 : fail_library();
}

/* A new session, so that nothing of the prompt is cached; what it allocated is touched by a short
 * prompt first. */
static int command_prefill(struct speed *s, int64_t n)
{
    double seconds;
    close_session(s);
    if (!open_session(s, 1, n + WARM_TOKENS) || !prefill(s, WARM_TOKENS, 1, &seconds) ||
        !prefill(s, n, 0, &seconds))
        return 0;
    answer((double)n / seconds, "tokens/s");
    return 1;
}

/* The clock starts when every request has its first tokens, so that prefill is not in the figure,
 * and stops before any request ends, so that all take part. */
static int decode(struct speed *s, int64_t seqs, int64_t depth, int64_t n)
{
    int64_t counts[MAX_SEQS] = {0}, n_tokens = 0, least = 0;
    int64_t prompt = depth ? depth : 1;
    /* Prompts that are computed one behind the other begin to answer one behind the other. */
    int64_t ahead = seqs * prompt / s->step_tokens + 2;
    if (!open_session(s, seqs, prompt + n + ahead + BLOCK))
        return 0;
    for (int64_t i = 0; i < seqs; i++)
        if (!submit(s, i, prompt, (uint64_t)i, 0))
            return 0;
    while (least < 2) {
        if (!step(s, seqs, counts, &n_tokens))
            return 0;
        least = counts[0];
        for (int64_t i = 1; i < seqs; i++)
            least = counts[i] < least ? counts[i] : least;
    }
    n_tokens = 0;
    double begin = now();
    while (n_tokens < n * seqs)
        if (!step(s, seqs, counts, &n_tokens))
            return 0;
    double seconds = now() - begin;
    for (int64_t i = 0; i < seqs; i++)
        infer_request_destroy(&s->requests[i]);
    answer((double)n_tokens / seconds, "tokens/s");
    return 1;
}

static int command_load(struct speed *s)
{
    int64_t count = 0, n_tokens = 0;
    close_session(s);
    infer_model_destroy(&s->model);
    double begin = now();
    if (!open_model(s) || !open_session(s, 1, 2 * BLOCK) || !submit(s, 0, 1, 0, 0))
        return 0;
    while (!n_tokens)
        if (!step(s, 1, &count, &n_tokens))
            return 0;
    answer(now() - begin, "s");
    return 1;
}

static int command_memory(void)
{
    char line[256];
    unsigned long long peak = 0, anonymous = 0, file = 0, kib;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) {
        if (sscanf(line, "VmHWM: %llu", &kib) == 1)
            peak = kib * 1024;
        if (sscanf(line, "RssAnon: %llu", &kib) == 1)
            anonymous = kib * 1024;
        if (sscanf(line, "RssFile: %llu", &kib) == 1)
            file = kib * 1024;
    }
    if (!status || fclose(status) != 0 || !peak)
        return fail("/proc/self/status: no VmHWM");
    printf("{\"value\": %llu, \"unit\": \"B\", \"anonymous\": %llu, \"file\": %llu}\n", peak,
           anonymous, file);
    return 1;
}

static int obey(struct speed *s, const char *line)
{
    char name[16] = "";
    long long a = 0, b = 0;
    int n = sscanf(line, "%15s %lld %lld", name, &a, &b);
    if (a < 0 || b < 0 || a > MAX_TOKENS || b > MAX_TOKENS)
        return fail("numbers are 0 to %d", MAX_TOKENS);
    if (strcmp(name, "prefill") == 0 && n == 2 && a > 0)
        return command_prefill(s, a);
    if (strcmp(name, "decode") == 0 && n == 3 && b > 0)
        return decode(s, 1, a, b);
    if (strcmp(name, "batch") == 0 && n == 3 && a > 0 && a <= MAX_SEQS && b > 0)
        return decode(s, a, BATCH_PROMPT, b);
    if (strcmp(name, "load") == 0 && n == 1)
        return command_load(s);
    if (strcmp(name, "memory") == 0 && n == 1)
        return command_memory();
    return fail("expected: prefill N, decode DEPTH N, batch SEQS N, load, memory");
}

/* --- arguments --- */

static int set_number(const char *value, long min, long max, long *out)
{
    char *end;
    errno = 0;
    *out = strtol(value, &end, 0);
    return *value && !*end && !errno && *out >= min && *out <= max;
}

/* The place of `value` in a list that NULL ends; -1: not there. */
static int place(const char *value, const char *const *list)
{
    for (int i = 0; list[i]; i++)
        if (strcmp(value, list[i]) == 0)
            return i;
    return -1;
}

static int set_option(struct speed *s, const char *name, const char *value)
{
    static const char *const kv[] = {"default", "f32", "f16", "bf16", "q8", "q4", NULL};
    static const char *const pack[] = {"auto", "off", "on", NULL};
    long n;
    if (strcmp(name, "--threads") == 0 && set_number(value, 1, 1024, &n))
        s->device_options.n_threads = (int32_t)n;
    else if (strcmp(name, "--step") == 0 && set_number(value, 1, 65536, &n))
        s->step_tokens = (int32_t)n;
    else if (strcmp(name, "--disable-cpu") == 0 && set_number(value, 0, UINT32_MAX, &n))
        s->device_options.disable_cpu_features = (uint32_t)n;
    else if (strcmp(name, "--kv") == 0 && place(value, kv) >= 0)
        s->kv_type = place(value, kv);
    else if (strcmp(name, "--pack") == 0 && place(value, pack) >= 0)
        s->pack = place(value, pack);
    else
        return 0;
    return 1;
}

static int parse(struct speed *s, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--fast") == 0)
            s->fast = 1;
        else if (argv[i][0] != '-' && !s->path)
            s->path = argv[i];
        else if (i + 1 == argc || !set_option(s, argv[i], argv[i + 1]))
            return 0;
        else
            i++;
    }
    return s->path != NULL;
}

int main(int argc, char **argv)
{
    static struct speed s = {.device_options = {.struct_size = sizeof s.device_options},
                             .kv_type = INFER_KV_F16,
                             .step_tokens = 512};
    infer_device_info info = {.struct_size = sizeof info};
    char line[256];
    if (!parse(&s, argc, argv)) {
        fprintf(stderr, "usage: speed MODEL [--threads N] [--kv default|f32|f16|bf16|q8|q4] "
                        "[--step N] [--disable-cpu MASK] [--pack auto|off|on] [--fast]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (infer_device_create(&s.device, 0, &s.device_options) != INFER_OK ||
        infer_device_get_info(s.device, &info) != INFER_OK) {
        fail_library();
        return 1;
    }
    if (!open_model(&s))
        return 1;
    printf(
        "{\"engine\": \"libinfer\", \"version\": \"%d.%d%s%s\", \"kernels\": \"%s\", \"threads\": "
        "%d}\n",
        INFER_VERSION_MAJOR, INFER_VERSION_MINOR, s.fast ? ", FAST numerics" : "",
        s.pack == INFER_PACK_OFF ? ", weights as they are" : "", info.kernels, (int)info.n_threads);
    while (fgets(line, sizeof line, stdin))
        if (!obey(&s, line))
            close_session(&s); /* its requests are in no state to go on from */
    close_session(&s);
    infer_model_destroy(&s.model);
    infer_device_destroy(&s.device);
    return 0;
}
