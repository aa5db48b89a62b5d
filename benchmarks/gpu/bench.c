/* The functions of bench.h. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 32

FILE *bench_json;

void bench_must(int32_t error, const char *call, const char *file, int line)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, call, cudaGetErrorString((cudaError_t)error));
    exit(1);
}

/* --- time --- */

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double replay(cudaGraphExec_t graph, int32_t times, cudaStream_t stream,
                     cudaEvent_t const events[2])
{
    float ms;
    BENCH_MUST(cudaEventRecord(events[0], stream));
    for (int32_t i = 0; i < times; i++)
        BENCH_MUST(cudaGraphLaunch(graph, stream));
    BENCH_MUST(cudaEventRecord(events[1], stream));
    BENCH_MUST(cudaEventSynchronize(events[1]));
    BENCH_MUST(cudaEventElapsedTime(&ms, events[0], events[1]));
    return (double)ms;
}

static void measure(struct bench_time *time, cudaGraphExec_t graph, int32_t n, int32_t rounds,
                    double round_ms, cudaStream_t stream)
{
    cudaEvent_t events[2];
    double us[ROUNDS_MAX];
    for (int i = 0; i < 2; i++)
        BENCH_MUST(cudaEventCreate(&events[i]));
    replay(graph, 1, stream, events);
    double once = replay(graph, 1, stream, events);
    int32_t times = once > 0 ? 1 + (int32_t)fmin(round_ms / once, 1000) : 1000;
    replay(graph, times, stream, events);
    for (int32_t i = 0; i < rounds; i++)
        us[i] = 1e3 * replay(graph, times, stream, events) / ((double)times * n);
    qsort(us, (size_t)rounds, sizeof *us, order);
    *time = (struct bench_time){us[rounds / 2], us[0], us[rounds - 1]};
    for (int i = 0; i < 2; i++)
        BENCH_MUST(cudaEventDestroy(events[i]));
}

static int32_t launch_all(bench_launch_fn *launch, void *context, int32_t n, cudaStream_t stream)
{
    int32_t error = 0;
    for (int32_t i = 0; i < n && !error; i++)
        error = launch(context, i, stream);
    return error;
}

int32_t bench_graph(struct bench_time *time, bench_launch_fn *launch, void *context, int32_t n,
                    int32_t rounds, double round_ms)
{
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    BENCH_MUST(cudaDeviceSynchronize()); /* data are filled without waiting */
    BENCH_MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    int32_t error = launch_all(launch, context, n, stream);
    BENCH_MUST(cudaStreamSynchronize(stream));
    if (!error) {
        BENCH_MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        error = launch_all(launch, context, n, stream);
        BENCH_MUST(cudaStreamEndCapture(stream, &graph));
        BENCH_MUST(cudaGraphInstantiate(&exec, graph, 0));
        measure(time, exec, n, rounds < ROUNDS_MAX ? rounds : ROUNDS_MAX, round_ms, stream);
        BENCH_MUST(cudaGraphExecDestroy(exec));
        BENCH_MUST(cudaGraphDestroy(graph));
    }
    BENCH_MUST(cudaStreamDestroy(stream));
    return error;
}

/* --- data --- */

static uint64_t next(uint64_t *state)
{
    /* splitmix64, Steele et al. 2014 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Box and Muller; the angle's other number is not used. */
static float normal(uint64_t *state)
{
    uint64_t bits = next(state);
    float radius = ((float)(bits >> 40) + 0.5f) * 0x1p-24f;
    float angle = (float)(bits & 0xffffff) * (6.2831853f * 0x1p-24f);
    return sqrtf(-2.0f * logf(radius)) * cosf(angle);
}

/* To nearest for finite numbers that are no subnormals of the type; those become zero. */
static uint32_t narrowed(float value, int exponent_bits, int mantissa_bits)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    int cut = 23 - mantissa_bits, bias = (1 << (exponent_bits - 1)) - 1;
    uint32_t sign = bits >> 31 << (exponent_bits + mantissa_bits);
    uint32_t magnitude = (bits & 0x7fffffff) + (1u << (cut - 1));
    if ((int32_t)(magnitude >> 23) - 127 + bias <= 0)
        return sign;
    return sign | (magnitude - (uint32_t)(127 - bias) * (1u << 23)) >> cut;
}

static size_t put(uint8_t *out, int32_t type, float value)
{
    uint16_t half;
    switch (type) {
    case BENCH_F32:
        memcpy(out, &value, sizeof value);
        return sizeof value;
    case BENCH_E4M3:
        *out = (uint8_t)narrowed(value, 4, 3);
        return 1;
    default:
        half = (uint16_t)(type == BENCH_F16 ? narrowed(value, 5, 10) : narrowed(value, 8, 7));
        memcpy(out, &half, sizeof half);
        return sizeof half;
    }
}

void bench_repeat(void *card, size_t period, size_t bytes)
{
    for (size_t done = period; done < bytes; done *= 2)
        BENCH_MUST(cudaMemcpy((char *)card + done, card, done < bytes - done ? done : bytes - done,
                              cudaMemcpyDeviceToDevice));
}

void bench_normal(void *card, size_t bytes, int32_t type, float std, uint64_t seed)
{
    size_t period = 4000016, at = 0;
    uint8_t *host = malloc(period);
    if (!host)
        bench_must((int32_t)cudaErrorMemoryAllocation, "malloc", __FILE__, __LINE__);
    while (at < period)
        at += put(host + at, type, std * normal(&seed));
    BENCH_MUST(cudaMemcpy(card, host, bytes < period ? bytes : period, cudaMemcpyHostToDevice));
    bench_repeat(card, period, bytes);
    free(host);
}

/* --- output --- */

void bench_record(const char *cell, const struct bench_time *time, double bytes, double operations)
{
    if (!bench_json)
        return;
    fprintf(bench_json, "{\"cell\":\"%s\",\"us\":%.3f,\"least\":%.3f,\"most\":%.3f", cell, time->us,
            time->least, time->most);
    if (bytes > 0)
        fprintf(bench_json, ",\"gbs\":%.1f", bytes / time->us * 1e-3);
    if (operations > 0)
        fprintf(bench_json, ",\"tflops\":%.2f", operations / time->us * 1e-6);
    fprintf(bench_json, "}\n");
    fflush(bench_json);
}

/* --- the copy --- */

struct copy {
    char *pool;
    size_t half;
};

static int32_t launch_copy(void *context, int32_t i, void *stream)
{
    const struct copy *c = context;
    size_t to = i & 1 ? 0 : c->half;
    return (int32_t)cudaMemcpyAsync(c->pool + to, c->pool + (c->half - to), c->half,
                                    cudaMemcpyDeviceToDevice, (cudaStream_t)stream);
}

double bench_copy_rate(void *pool, size_t pool_bytes, struct bench_time *time)
{
    struct copy copy = {pool, pool_bytes / 2 & ~(size_t)4095};
    BENCH_MUST(bench_graph(time, launch_copy, &copy, 2, 7, 5));
    return 2e6 * (double)copy.half / time->us;
}
