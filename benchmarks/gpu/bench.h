/* Timing of device work, random data on the card and output, for the programs of this folder. */
#ifndef BENCHMARKS_GPU_BENCH_H
#define BENCHMARKS_GPU_BENCH_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_GB 1e9

/* Ends the program where a call of the runtime has failed. */
#define BENCH_MUST(call) bench_must((int32_t)(call), #call, __FILE__, __LINE__)
void bench_must(int32_t error, const char *call, const char *file, int line);

/* Puts piece i of the work into a stream: 0 or a cudaError_t. */
typedef int32_t bench_launch_fn(void *context, int32_t i, void *stream);

/* Microseconds of one piece: the median, least and most of the rounds. */
struct bench_time {
    double us, least, most;
};

/* Runs pieces 0 .. n - 1 once as they are, then captured into a graph that is replayed in rounds
 * of at least `round_ms`; device events around a round. An error of `launch` is returned. */
int32_t bench_graph(struct bench_time *time, bench_launch_fn *launch, void *context, int32_t n,
                    int32_t rounds, double round_ms);

/* Normal numbers of mean 0. The host makes a period of some megabytes that is not a power of two,
 * the card repeats it: what is read is never zero and repeats in no cache line pattern. */
enum { BENCH_F32, BENCH_F16, BENCH_BF16, BENCH_E4M3 };
void bench_normal(void *card, size_t bytes, int32_t type, float std, uint64_t seed);

/* The first `period` bytes repeated up to `bytes`. */
void bench_repeat(void *card, size_t period, size_t bytes);

/* A line of JSON for a cell into the file of --json, if there is one: its name, its time, bytes
 * and operations; 0 of either: not of interest. */
extern FILE *bench_json;
void bench_record(const char *cell, const struct bench_time *time, double bytes, double operations);

/* Bytes per second of a large copy, read and written bytes counted. `pool` of pool_bytes. */
double bench_copy_rate(void *pool, size_t pool_bytes, struct bench_time *time);

#ifdef __cplusplus
}
#endif

#endif
