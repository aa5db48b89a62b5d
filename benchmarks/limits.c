/* What the machine gives at most: bytes read a second and multiply-adds a second.
 *   limits [--threads N] [--level avx2|avx512|default] [--mib N]
 * Prints one line of JSON. Reading: every thread sums a buffer of its own (N MiB, default 512), in
 * 1, 4 or 8 streams side by side. Arithmetic: twelve chains in registers a thread. Both the best of
 * several trials, since what else runs can only take away; 8-bit products by dpbusd where the level
 * has it, else by maddubs, maddwd and an addition, and null where the level has no instruction. */
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_THREADS = 256, PASSES = 5, TRIALS = 7, CHAINS = 12, ROUNDS = 4 << 20, PAGE = 4096 };

enum level { AVX2, AVX512, AVX512_VNNI };

struct rate {
    const char *name;
    double operations; /* of one instruction's step in one chain */
    void (*run)(int64_t rounds);
};

struct job {
    const struct rate *rate; /* NULL: reading */
    const uint8_t *buffer;
    size_t bytes;
    int streams;
    enum level level;
    pthread_barrier_t *start;
    double begin, end; /* seconds */
};

/* What the compiler must believe to be used. */
static volatile uint64_t sink;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* --- reading --- */

/* All streams advance together by a cache line each. */
__attribute__((target("avx512f"))) static void read_512(const uint8_t *p, size_t bytes, int streams)
{
    size_t part = bytes / (size_t)streams;
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (size_t i = 0; i < part; i += 128)
        for (int s = 0; s < streams; s++) {
            const uint8_t *q = p + (size_t)s * part + i;
            sum[0] = _mm512_xor_si512(sum[0], _mm512_load_si512((const void *)q));
            sum[1] = _mm512_xor_si512(sum[1], _mm512_load_si512((const void *)(q + 64)));
        }
    sink += (uint64_t)_mm512_reduce_add_epi64(_mm512_xor_si512(sum[0], sum[1]));
}

__attribute__((target("avx2"))) static void read_256(const uint8_t *p, size_t bytes, int streams)
{
    size_t part = bytes / (size_t)streams;
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (size_t i = 0; i < part; i += 128)
        for (int s = 0; s < streams; s++) {
            const __m256i *q = (const __m256i *)(const void *)(p + (size_t)s * part + i);
            sum[0] = _mm256_xor_si256(sum[0], _mm256_xor_si256(q[0], q[1]));
            sum[1] = _mm256_xor_si256(sum[1], _mm256_xor_si256(q[2], q[3]));
        }
    sink += (uint64_t)_mm256_extract_epi64(_mm256_xor_si256(sum[0], sum[1]), 0);
}

/* --- arithmetic --- */

/* A loop over twelve independent chains `c = STEP(c)`, which the empty asm keeps in registers and
 * keeps the compiler from folding. */
#define EACH(do)                                                                                   \
    do                                                                                             \
    (0) do(1) do(2) do(3) do(4) do(5) do(6) do(7) do(8) do(9) do(10) do(11)
#define DEFINE_RATE(name, features, vector, zero, step)                                            \
    __attribute__((target(features))) static void name(int64_t rounds)                             \
    {                                                                                              \
        vector EACH(DECLARE) a = zero, b = zero;                                                   \
        EACH(CLEAR)                                                                                \
        __asm__ volatile("" : "+v"(a), "+v"(b));                                                   \
        for (int64_t i = 0; i < rounds; i++) {                                                     \
            EACH(step)                                                                             \
            EACH(KEEP)                                                                             \
        }                                                                                          \
        (void)a, (void)b;                                                                          \
    }
#define DECLARE(i) c##i,
#define KEEP(i)    __asm__ volatile("" : "+v"(c##i));

#define CLEAR(i) c##i = _mm256_setzero_ps();
#define STEP(i)  c##i = _mm256_fmadd_ps(a, b, c##i);
DEFINE_RATE(f32_256, "avx2,fma", __m256, _mm256_setzero_ps(), STEP)
#undef STEP
#undef CLEAR

#define CLEAR(i) c##i = _mm512_setzero_ps();
#define STEP(i)  c##i = _mm512_fmadd_ps(a, b, c##i);
DEFINE_RATE(f32_512, "avx512f", __m512, _mm512_setzero_ps(), STEP)
#undef STEP
#undef CLEAR

/* The products are formed anew in each step, so that none leaves the loop. */
#define CLEAR(i) c##i = _mm256_setzero_si256();
#define STEP(i)                                                                                    \
    __asm__ volatile("" : "+v"(a));                                                                \
    c##i = _mm256_add_epi32(c##i, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), b));
DEFINE_RATE(int8_256, "avx2", __m256i, _mm256_setzero_si256(), STEP)
#undef STEP
#undef CLEAR

#define CLEAR(i) c##i = _mm512_setzero_si512();
#define STEP(i)                                                                                    \
    __asm__ volatile("" : "+v"(a));                                                                \
    c##i = _mm512_add_epi32(c##i, _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), b));
DEFINE_RATE(int8_512, "avx512f,avx512bw", __m512i, _mm512_setzero_si512(), STEP)
#undef STEP

#define STEP(i) c##i = _mm512_dpbusd_epi32(c##i, a, b);
DEFINE_RATE(int8_vnni, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), STEP)
#undef STEP
#undef CLEAR

#define CLEAR(i) c##i = _mm512_setzero_ps();
#define STEP(i)  c##i = _mm512_dpbf16_ps(c##i, (__m512bh)a, (__m512bh)b);
DEFINE_RATE(bf16_dot, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), STEP)
#undef STEP
#undef CLEAR

static const struct rate f32_rates[] = {{"f32", 16, f32_256}, {"f32", 32, f32_512}};
static const struct rate int8_rates[] = {
    {"int8", 64, int8_256}, {"int8", 128, int8_512}, {"int8", 128, int8_vnni}};
static const struct rate bf16_rate = {"bf16", 64, bf16_dot};

/* --- threads --- */

static void *work(void *data)
{
    struct job *job = data;
    pthread_barrier_wait(job->start);
    job->begin = now();
    if (job->rate)
        job->rate->run(ROUNDS);
    else if (job->level == AVX2)
        read_256(job->buffer, job->bytes, job->streams);
    else
        read_512(job->buffer, job->bytes, job->streams);
    job->end = now();
    return NULL;
}

/* Seconds from the first thread's begin to the last one's end, by their own clocks: who started
 * them may be told late that they began. */
static double run_all(struct job *jobs, int n_threads)
{
    pthread_t threads[MAX_THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)n_threads);
    for (int i = 0; i < n_threads; i++) {
        jobs[i].start = &start;
        if (pthread_create(&threads[i], NULL, work, &jobs[i]) != 0) {
            fprintf(stderr, "limits: thread %d of %d does not start\n", i + 1, n_threads);
            exit(1);
        }
    }
    double begin = INFINITY, end = 0;
    for (int i = 0; i < n_threads; i++) {
        pthread_join(threads[i], NULL);
        begin = fmin(begin, jobs[i].begin);
        end = fmax(end, jobs[i].end);
    }
    pthread_barrier_destroy(&start);
    return end - begin;
}

/* GB/s, the best pass. */
static double read_rate(struct job *jobs, int n_threads, int streams)
{
    double best = 0;
    for (int i = 0; i < n_threads; i++) {
        jobs[i].rate = NULL;
        jobs[i].streams = streams;
    }
    for (int pass = 0; pass < PASSES; pass++) {
        double found = (double)jobs[0].bytes * n_threads * 1e-9 / run_all(jobs, n_threads);
        best = found > best ? found : best;
    }
    return best;
}

/* Operations a second in billions, a multiply-add counting as two: the best trial. */
static double compute_rate(struct job *jobs, int n_threads, const struct rate *rate)
{
    double best = 0;
    for (int i = 0; i < n_threads; i++)
        jobs[i].rate = rate;
    for (int trial = 0; trial < TRIALS; trial++) {
        double operations = rate->operations * CHAINS * (double)ROUNDS * n_threads;
        double found = operations * 1e-9 / run_all(jobs, n_threads);
        best = found > best ? found : best;
    }
    return best;
}

/* --- arguments --- */

static const char *const level_names[] = {"avx2", "avx512", "avx512vnni"};

/* The strongest level that the processor has, at most `wanted`; -1: not even AVX2. */
static int level_within(enum level wanted)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return -1;
    if (wanted == AVX2 || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw"))
        return AVX2;
    if (wanted == AVX512 || !__builtin_cpu_supports("avx512vnni"))
        return AVX512;
    return AVX512_VNNI;
}

static int usage(void)
{
    fprintf(stderr, "usage: limits [--threads N] [--level avx2|avx512|default] [--mib N]\n");
    return 2;
}

static int number(const char *text, long max, long *out)
{
    char *end;
    *out = strtol(text, &end, 10);
    return *text && !*end && *out >= 1 && *out <= max;
}

static void print_all(struct job *jobs, int n_threads, enum level level)
{
    static const int streams[] = {1, 4, 8};
    printf("{\"threads\": %d, \"level\": \"%s\", \"read_gbs\": {", n_threads, level_names[level]);
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        printf("%s\"%d\": %.2f", i ? ", " : "", streams[i], read_rate(jobs, n_threads, streams[i]));
    printf("}, \"f32_gflops\": %.1f", compute_rate(jobs, n_threads, &f32_rates[level != AVX2]));
    printf(", \"int8_gops\": %.1f", compute_rate(jobs, n_threads, &int8_rates[level]));
    if (level == AVX512_VNNI && __builtin_cpu_supports("avx512bf16"))
        printf(", \"bf16_gflops\": %.1f}\n", compute_rate(jobs, n_threads, &bf16_rate));
    else
        printf(", \"bf16_gflops\": null}\n");
}

int main(int argc, char **argv)
{
    static struct job jobs[MAX_THREADS];
    long n_threads = 2, mib = 512;
    enum level wanted = AVX512_VNNI;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--level") == 0 && strcmp(value, "avx2") == 0)
            wanted = AVX2;
        else if (strcmp(argv[i], "--level") == 0 && strcmp(value, "avx512") == 0)
            wanted = AVX512;
        else if (!(strcmp(argv[i], "--level") == 0 && strcmp(value, "default") == 0) &&
                 !(strcmp(argv[i], "--threads") == 0 && number(value, MAX_THREADS, &n_threads)) &&
                 !(strcmp(argv[i], "--mib") == 0 && number(value, 1 << 16, &mib)))
            return usage();
    }
    int level = level_within(wanted);
    if (level < 0) {
        fprintf(stderr, "limits: the processor has no AVX2\n");
        return 1;
    }
    size_t bytes = (size_t)mib << 20;
    uint8_t *memory = aligned_alloc(PAGE, bytes * (size_t)n_threads);
    if (!memory) {
        fprintf(stderr, "limits: no memory for %ld buffers of %ld MiB\n", n_threads, mib);
        return 1;
    }
    memset(memory, 1, bytes * (size_t)n_threads); /* pages of their own, not the one of zeros */
    for (long i = 0; i < n_threads; i++)
        jobs[i] = (struct job){
            .buffer = memory + bytes * (size_t)i, .bytes = bytes, .level = (enum level)level};
    print_all(jobs, (int)n_threads, (enum level)level);
    free(memory);
    return 0;
}
