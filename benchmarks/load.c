/* Time and private memory of loading a model whose file is in the page cache.
 *   load MODEL [ROUNDS]
 * Prints medians; memory is what /proc/self/smaps_rollup calls private. */
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

/* Pages that only this process holds, in KiB; -1 where the kernel does not say. */
static long private_kib(void)
{
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long sum = 0, kib;
    if (!f)
        return -1;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "Private_Dirty: %ld", &kib) == 1 ||
            sscanf(line, "Private_Hugetlb: %ld", &kib) == 1)
            sum += kib;
    fclose(f);
    return sum;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static double ms[ROUNDS_MAX];
    int rounds = argc > 2 ? atoi(argv[2]) : 21;
    long before = private_kib(), with_model = 0;
    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: load MODEL [ROUNDS]\n");
        return 2;
    }
    for (int i = 0; i < rounds; i++) {
        infer_model *model = NULL;
        double start = now_ms();
        if (infer_model_load(&model, argv[1], NULL) != INFER_OK) {
            fprintf(stderr, "%s\n", infer_last_error());
            return 1;
        }
        ms[i] = now_ms() - start;
        if (i == 0)
            with_model = private_kib();
        infer_model_destroy(&model);
    }
    qsort(ms, (size_t)rounds, sizeof *ms, compare);
    printf("load: median %.2f ms, fastest %.2f, slowest %.2f of %d; private memory +%.1f MiB\n",
           ms[rounds / 2], ms[0], ms[rounds - 1], rounds, (double)(with_model - before) / 1024);
    return 0;
}
