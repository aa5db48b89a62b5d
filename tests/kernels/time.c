/* Timing of one kernel call: median of samples, warm and with swept caches. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    SAMPLES_WARM = 31,
    SAMPLES_COLD = 11,
    SAMPLES_REF = 5,
    SAMPLE_NS = 200000,    /* a warm sample repeats the call for about this long */
    SLOW_NS = 300000000,   /* one sample of a call as slow as this says enough */
    SWEEP_BYTES = 96 << 20 /* larger than the last-level caches of its day */
};

/* Of the thread's own processor time: what other programs do costs no time of
 * ours, though it may cost cache. */
static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double time_calls(const struct infer_kernels *kernels, check_call_fn *call, void *arg,
                         int repeat)
{
    const double start = now_ns();

    for (int i = 0; i < repeat; i++) {
        call(kernels, arg);
    }
    return (now_ns() - start) / repeat;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *samples, int n)
{
    qsort(samples, (size_t)n, sizeof(*samples), by_value);
    return samples[n / 2];
}

static double time_warm(const struct infer_kernels *kernels, check_call_fn *call, void *arg,
                        int n_samples)
{
    double samples[SAMPLES_WARM];
    const double once = time_calls(kernels, call, arg, 1);
    const int repeat = once >= SAMPLE_NS ? 1 : (int)(SAMPLE_NS / (once + 1.0)) + 1;

    if (once >= SLOW_NS) {
        return once;
    }
    for (int i = 0; i < n_samples; i++) {
        samples[i] = time_calls(kernels, call, arg, repeat);
    }
    return median(samples, n_samples);
}

/* Line by line: memset() would go past the caches. */
static void sweep_caches(volatile char *sweep)
{
    for (size_t i = 0; i < SWEEP_BYTES; i += 64) {
        sweep[i]++;
    }
}

static double time_cold(const struct infer_kernels *kernels, check_call_fn *call, void *arg)
{
    double samples[SAMPLES_COLD];
    volatile char *sweep = calloc(SWEEP_BYTES, 1);

    if (!sweep) {
        abort();
    }
    for (int i = 0; i < SAMPLES_COLD; i++) {
        sweep_caches(sweep);
        samples[i] = time_calls(kernels, call, arg, 1);
    }
    free((void *)(uintptr_t)sweep);
    return median(samples, SAMPLES_COLD);
}

void check_time(struct check *c, const char *label, check_call_fn *call, void *arg,
                struct check_work work)
{
    const char *rate = strcmp(work.unit, "B") == 0 ? "GB/s" : "GFLOP/s";
    const int is_ref = c->dut == c->ref;
    const double ref = time_warm(c->ref, call, arg, SAMPLES_REF);
    const double warm = is_ref ? ref : time_warm(c->dut, call, arg, SAMPLES_WARM);

    printf("%-10s %-18s %-34s %12.0f ns %8.2f %-7s %7.2fx ref", c->level, c->entry, label, warm,
           work.amount / warm, rate, ref / warm);
    if (work.cold && !is_ref) {
        const double cold = time_cold(c->dut, call, arg);

        printf("  cold %12.0f ns %8.2f %s", cold, work.amount / cold, rate);
    }
    printf("\n");
    fflush(stdout);
}
