/* What scheduling costs, beside the model's arithmetic.
 *   scheduler MODEL [STEPS]
 * Running: the time of steps in which N requests generate a token each, less what the model took
 * (compute_ns): picking, block tables, the batch, sampling, texts, statistics. Idle: what N more
 * requests in the queue add to a step. Whole: the processor time of a queue of N short requests
 * from first to last. Prints medians, fastest and slowest. Best with a tiny model. */
#include <infer/infer.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STEPS_MAX 2000
#define N_MAX     16384

struct bench {
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *session;
    infer_request *requests[N_MAX];
    int n;
};

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

static void print_row(const char *name, int n, double *us, int n_values)
{
    qsort(us, (size_t)n_values, sizeof *us, compare);
    printf("%-10s %5d  %9.1f us (%.1f to %.1f), %.3f us each\n", name, n, us[n_values / 2], us[0],
           us[n_values - 1], us[n_values / 2] / n);
}

static void open_session(struct bench *b, int32_t max_requests)
{
    infer_kv_cache_options k = {.struct_size = sizeof k, .budget_bytes = (uint64_t)1 << 30};
    infer_session_options s = {.struct_size = sizeof s,
                               .max_requests = max_requests,
                               .max_queue = N_MAX,
                               .step_tokens = max_requests + 512};
    if (infer_kv_cache_create(&b->cache, b->model, &k) != INFER_OK)
        fail();
    s.kv_cache = b->cache;
    if (infer_session_create(&b->session, b->model, &s) != INFER_OK)
        fail();
}

static void close_session(struct bench *b)
{
    for (int i = 0; i < b->n; i++)
        infer_request_destroy(&b->requests[i]);
    b->n = 0;
    infer_session_destroy(&b->session);
    infer_kv_cache_destroy(&b->cache);
}

static void submit(struct bench *b, int n, int32_t n_prompt, int64_t max_tokens, int32_t priority)
{
    static const char *const tenants[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    infer_token prompt[64];
    infer_sampling greedy = {.struct_size = sizeof greedy};
    for (int i = 0; i < n && b->n < N_MAX; i++) {
        for (int32_t k = 0; k < n_prompt; k++)
            prompt[k] = 3 + (i * 13 + k * 7) % 500;
        infer_request_options o = {.struct_size = sizeof o,
                                   .tokens = prompt,
                                   .n_tokens = (size_t)n_prompt,
                                   .sampling = &greedy,
                                   .max_tokens = max_tokens,
                                   .ignore_eos = 1,
                                   .priority = priority,
                                   .tenant = tenants[i % 8]};
        if (infer_session_submit(&b->requests[b->n++], b->session, &o) != INFER_OK)
            fail();
    }
}

/* Microseconds of one step, without the model. */
static double step(struct bench *b)
{
    infer_session_stats before = {.struct_size = sizeof before}, after = before;
    infer_session_get_stats(b->session, &before);
    if (infer_session_step(b->session) < 0)
        fail();
    infer_session_get_stats(b->session, &after);
    return (double)(after.step_ns - before.step_ns - (after.compute_ns - before.compute_ns)) * 1e-3;
}

static int32_t running(const struct bench *b)
{
    infer_session_stats stats = {.struct_size = sizeof stats};
    infer_session_get_stats(b->session, &stats);
    return stats.n_running;
}

static void measure_running(struct bench *b, int n, int steps)
{
    static double us[STEPS_MAX];
    open_session(b, n);
    submit(b, n, 4, 4 + steps + 20, 0);
    for (int i = 0; i < 12; i++)
        step(b);
    if (running(b) != n)
        fprintf(stderr, "only %d run\n", running(b));
    for (int i = 0; i < steps; i++)
        us[i] = step(b);
    print_row("running", n, us, steps);
    close_session(b);
}

/* One request runs, n wait behind it. */
static void measure_idle(struct bench *b, int n, int steps)
{
    static double us[STEPS_MAX];
    open_session(b, 1);
    submit(b, 1, 4, 4 + steps + 20, 0);
    step(b);
    submit(b, n, 4, 4, 0);
    for (int i = 0; i < 10; i++)
        step(b);
    for (int i = 0; i < steps; i++)
        us[i] = step(b);
    print_row("waiting", n, us, steps);
    close_session(b);
}

static void measure_whole(struct bench *b, int n)
{
    struct timespec t[2];
    infer_session_stats stats = {.struct_size = sizeof stats};
    open_session(b, 64);
    submit(b, n, 32, 8, 0);
    clock_gettime(CLOCK_MONOTONIC, &t[0]);
    while (infer_session_step(b->session) == INFER_OK)
        continue;
    clock_gettime(CLOCK_MONOTONIC, &t[1]);
    infer_session_get_stats(b->session, &stats);
    printf("%d requests of 32 + 8 tokens, 64 at once: %.1f ms in %d steps, of which outside of the "
           "model %.1f ms, %.1f us a request\n",
           n,
           (double)(t[1].tv_sec - t[0].tv_sec) * 1e3 + (double)(t[1].tv_nsec - t[0].tv_nsec) * 1e-6,
           (int)stats.n_steps, (double)(stats.step_ns - stats.compute_ns) * 1e-6,
           (double)(stats.step_ns - stats.compute_ns) * 1e-3 / n);
    close_session(b);
}

int main(int argc, char **argv)
{
    static struct bench b;
    int steps = argc > 2 ? atoi(argv[2]) : 101;
    if (argc < 2 || steps < 1 || steps > STEPS_MAX) {
        fprintf(stderr, "usage: scheduler MODEL [STEPS]\n");
        return 2;
    }
    infer_device_options d = {.struct_size = sizeof d, .n_threads = 1};
    infer_model_options m = {.struct_size = sizeof m};
    if (infer_device_create(&b.device, 0, &d) != INFER_OK)
        fail();
    m.device = b.device;
    if (infer_model_load(&b.model, argv[1], &m) != INFER_OK)
        fail();
    for (int n = 1; n <= 4096; n *= n == 1 ? 64 : 4)
        measure_running(&b, n, steps);
    for (int n = 1; n <= 16000; n = n == 1 ? 1000 : n * 4)
        measure_idle(&b, n, steps);
    measure_whole(&b, 4000);
    infer_model_destroy(&b.model);
    infer_device_destroy(&b.device);
    return 0;
}
