/* Time and memory of loading a model whose file is in the page cache, of evicting its weights and
 * of restoring them.
 *   load MODEL [ROUNDS]
 * Prints medians; private memory is what /proc/self/smaps_rollup calls so. */
#include <infer/infer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS_MAX 1000

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Sums of lines of /proc/self/smaps_rollup in KiB; -1 where the kernel does not say. */
static long memory_kib(const char *const *names)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long sum = 0;
    if (!f)
        return -1;
    while (fgets(line, sizeof line, f))
        for (const char *const *name = names; *name; name++)
            if (strncmp(line, *name, strlen(*name)) == 0)
                sum += strtol(line + strlen(*name), NULL, 10);
    fclose(f);
    return sum;
}

/* Pages that only this process holds. */
static long private_kib(void)
{
    return memory_kib((const char *const[]){"Private_Dirty:", "Private_Hugetlb:", NULL});
}

static long resident_kib(void)
{
    return memory_kib((const char *const[]){"Rss:", NULL});
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, double *ms, int n)
{
    qsort(ms, (size_t)n, sizeof *ms, compare);
    printf("%s: median %.2f ms, fastest %.2f, slowest %.2f of %d", what, ms[n / 2], ms[0],
           ms[n - 1], n);
}

static infer_status time_load(infer_model **out, const char *path, double *ms, int rounds)
{
    long before = private_kib(), with_model = 0;
    infer_status st = INFER_OK;
    for (int i = 0; i < rounds && st == INFER_OK; i++) {
        infer_model_destroy(out);
        double start = now_ms();
        st = infer_model_load(out, path, NULL);
        ms[i] = now_ms() - start;
        if (i == 0)
            with_model = private_kib();
    }
    print("load", ms, rounds);
    printf("; private memory +%.1f MiB\n", (double)(with_model - before) / 1024);
    return st;
}

/* Every page is read before each eviction, so that there is something to give back. */
static infer_status time_life(infer_model *model, double *ms, int rounds, int read_now)
{
    static double evict_ms[ROUNDS_MAX];
    infer_model_restore_options o = {.struct_size = sizeof o, .read_weights = 1};
    long full = 0, empty = 0;
    infer_status st = infer_model_evict(model);
    if (st == INFER_OK)
        st = infer_model_restore(model, &o);
    for (int i = 0; i < rounds && st == INFER_OK; i++) {
        full = resident_kib();
        double start = now_ms();
        st = infer_model_evict(model);
        evict_ms[i] = now_ms() - start;
        empty = resident_kib();
        o.read_weights = read_now;
        start = now_ms();
        if (st == INFER_OK)
            st = infer_model_restore(model, &o);
        ms[i] = now_ms() - start;
        o.read_weights = 1;
        if (!read_now && st == INFER_OK && (st = infer_model_evict(model)) == INFER_OK)
            st = infer_model_restore(model, &o);
    }
    print("evict", evict_ms, rounds);
    printf("; resident %.1f to %.1f MiB\n", (double)full / 1024, (double)empty / 1024);
    print(read_now ? "restore, read" : "restore", ms, rounds);
    printf("\n");
    return st;
}

int main(int argc, char **argv)
{
    static double ms[ROUNDS_MAX];
    int rounds = argc > 2 ? atoi(argv[2]) : 21;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: load MODEL [ROUNDS]\n");
        return 2;
    }
    infer_model *model = NULL;
    infer_status st = time_load(&model, argv[1], ms, rounds);
    if (st == INFER_OK)
        st = time_life(model, ms, rounds, 0);
    if (st == INFER_OK)
        st = time_life(model, ms, rounds, 1);
    if (st != INFER_OK)
        fprintf(stderr, "%s\n", infer_last_error());
    infer_model_destroy(&model);
    return st != INFER_OK;
}
