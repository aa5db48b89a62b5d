/* Preemption by computing again against preemption by swap.
 *   swap MODEL PROMPT ANSWER REQUESTS ROUNDS [FOLDER]
 * So many requests at once, of so many tokens of prompt and answer, in a cache for two fifths of
 * them; no two begin alike. Each round runs them with the swap store off, always and as measured
 * costs choose, in turns, with and without the prefix cache. Prints wall and processor time for an
 * answer, medians with fastest and slowest, and of the last round what happened. FOLDER: where the
 * store's file is; without it the store is in memory. */
#include <infer/infer.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS_MAX   101
#define REQUESTS_MAX 256
#define PROMPT_MAX   8192

enum { OFF, ALWAYS, AUTO, N_MODES };

static const char *const names[N_MODES] = {"off", "always", "auto"};

struct bench {
    infer_device *device;
    infer_model *model;
    const char *folder;
    int n_prompt, n_answer, n_requests;
    int32_t n_vocab;
};

struct row {
    double wall[ROUNDS_MAX], cpu[ROUNDS_MAX];
    infer_session_stats stats;
    infer_kv_cache_stats kv;
};

static _Noreturn void fail(void)
{
    fprintf(stderr, "%s\n", infer_last_error());
    exit(1);
}

static double now_ms(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint64_t budget(const struct bench *b)
{
    infer_kv_cache_options o = {.struct_size = sizeof o, .budget_bytes = (uint64_t)64 << 20};
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_kv_cache *cache = NULL;
    if (infer_kv_cache_create(&cache, b->model, &o) != INFER_OK)
        fail();
    infer_kv_cache_get_stats(cache, &kv);
    infer_kv_cache_destroy(&cache);
    int per_request = (b->n_prompt + b->n_answer + 15) / 16;
    return kv.block_bytes * (uint64_t)(per_request * b->n_requests * 2 / 5 + 1);
}

static infer_request *submit(const struct bench *b, infer_session *session, int i)
{
    static infer_token prompt[PROMPT_MAX];
    infer_sampling greedy = {.struct_size = sizeof greedy};
    infer_request *request = NULL;
    for (int k = 0; k < b->n_prompt; k++)
        prompt[k] = (infer_token)((k * 7 + i * 131 + k / 16 * i) % (b->n_vocab - 300) + 300);
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = prompt,
                               .n_tokens = (size_t)b->n_prompt,
                               .sampling = &greedy,
                               .max_tokens = b->n_answer,
                               .ignore_eos = 1};
    if (infer_session_submit(&request, session, &o) != INFER_OK)
        fail();
    return request;
}

static void run(const struct bench *b, int mode, int no_prefixes, struct row *row, int round)
{
    infer_kv_cache_options o = {.struct_size = sizeof o,
                                .budget_bytes = budget(b),
                                .disable_prefix_cache = no_prefixes,
                                .swap_dir = mode == OFF ? NULL : b->folder,
                                .swap_bytes = mode == OFF ? 0 : (uint64_t)1 << 30,
                                .swap_always = mode == ALWAYS};
    infer_session_options s = {.struct_size = sizeof s};
    infer_session *session = NULL;
    infer_request *requests[REQUESTS_MAX];
    if (infer_kv_cache_create(&s.kv_cache, b->model, &o) != INFER_OK ||
        infer_session_create(&session, b->model, &s) != INFER_OK)
        fail();
    double wall = now_ms(CLOCK_MONOTONIC), cpu = now_ms(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < b->n_requests; i++)
        requests[i] = submit(b, session, i);
    while (infer_session_step(session) == INFER_OK)
        continue;
    row->wall[round] = (now_ms(CLOCK_MONOTONIC) - wall) / b->n_requests;
    row->cpu[round] = (now_ms(CLOCK_PROCESS_CPUTIME_ID) - cpu) / b->n_requests;
    for (int i = 0; i < b->n_requests; i++)
        infer_request_destroy(&requests[i]);
    row->stats.struct_size = sizeof row->stats;
    row->kv.struct_size = sizeof row->kv;
    infer_session_get_stats(session, &row->stats);
    infer_kv_cache_get_stats(s.kv_cache, &row->kv);
    infer_session_destroy(&session);
    infer_kv_cache_destroy(&s.kv_cache);
}

static void print_row(struct row *r, const char *prefixes, const char *mode, int rounds)
{
    qsort(r->wall, (size_t)rounds, sizeof *r->wall, compare);
    qsort(r->cpu, (size_t)rounds, sizeof *r->cpu, compare);
    printf(
        "%-11s %-6s  %7.1f (%.1f to %.1f)  %7.1f (%.1f to %.1f)  %4d %4d %4d  %7d  %6.1f %6.1f\n",
        prefixes, mode, r->wall[rounds / 2], r->wall[0], r->wall[rounds - 1], r->cpu[rounds / 2],
        r->cpu[0], r->cpu[rounds - 1], (int)r->stats.n_preempted, (int)r->kv.n_swapped_out,
        (int)r->kv.n_swapped_in, (int)r->stats.n_prompt_tokens,
        (double)r->kv.swapped_out_bytes / 1048576, (double)r->kv.swapped_in_bytes / 1048576);
}

int main(int argc, char **argv)
{
    static struct row rows[2][N_MODES];
    struct bench b = {.folder = argc > 6 ? argv[6] : NULL};
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    infer_model_options m = {.struct_size = sizeof m};
    infer_model_info info = {.struct_size = sizeof info};
    int rounds = argc > 5 ? atoi(argv[5]) : 0;
    b.n_prompt = argc > 5 ? atoi(argv[2]) : 0;
    b.n_answer = argc > 5 ? atoi(argv[3]) : 0;
    b.n_requests = argc > 5 ? atoi(argv[4]) : 0;
    if (rounds < 1 || rounds > ROUNDS_MAX || b.n_prompt < 1 || b.n_prompt > PROMPT_MAX ||
        b.n_answer < 1 || b.n_requests < 1 || b.n_requests > REQUESTS_MAX) {
        fprintf(stderr, "usage: swap MODEL PROMPT ANSWER REQUESTS ROUNDS [FOLDER]\n");
        return 2;
    }
    if (infer_device_create(&b.device, 0, &d) != INFER_OK)
        fail();
    m.device = b.device;
    if (infer_model_load(&b.model, argv[1], &m) != INFER_OK)
        fail();
    infer_model_get_info(b.model, &info);
    b.n_vocab = (int32_t)info.n_vocab;
    if (b.n_vocab <= 300)
        return 2;
    for (int round = 0; round < rounds; round++)
        for (int off = 0; off < 2; off++)
            for (int mode = 0; mode < N_MODES; mode++)
                run(&b, (mode + round) % N_MODES, off, &rows[off][(mode + round) % N_MODES], round);
    printf("prefixes    swap    wall ms an answer  processor ms an answer  preempted, out, back  "
           "prompt tokens  MiB out, back\n");
    for (int off = 0; off < 2; off++)
        for (int mode = 0; mode < N_MODES; mode++)
            print_row(&rows[off][mode], off ? "not kept" : "kept", names[mode], rounds);
    infer_model_destroy(&b.model);
    infer_device_destroy(&b.device);
    return 0;
}
