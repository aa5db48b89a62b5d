/* A session's counters and histograms. Written with atomics as things happen and read without a
 * lock: a reader waits for no step. */
#ifndef ENGINE_STATS_H
#define ENGINE_STATS_H

#include "base/types.h"

#include <stdatomic.h>

/* Upper bounds: 1, 2.5, 5, 10 ... from 100 us to 1000 s, or 1, 2, 5, 10 ... tokens to a million. */
#define ENGINE_BOUNDS 22

enum engine_histogram_id {
    ENGINE_QUEUE_TIME, /* submitted to scheduled */
    ENGINE_FIRST_TOKEN_TIME,
    ENGINE_INTER_TOKEN_TIME,
    ENGINE_REQUEST_TIME,   /* submitted to finished */
    ENGINE_PREFILL_TIME,   /* scheduled to first token */
    ENGINE_DECODE_TIME,    /* first to last token */
    ENGINE_INFERENCE_TIME, /* scheduled to last token */
    ENGINE_STEP_TIME,
    ENGINE_TIMES, /* how many times there are; from here on counts */
    ENGINE_STEP_TOKENS = ENGINE_TIMES,
    ENGINE_STEP_REQUESTS,
    ENGINE_PROMPT_TOKENS,
    ENGINE_GENERATED_TOKENS,
    ENGINE_HISTOGRAMS
};

struct engine_histogram {
    _Atomic uint64_t counts[ENGINE_BOUNDS + 1]; /* not cumulative; the last is beyond all bounds */
    _Atomic uint64_t sum;                       /* nanoseconds or tokens */
};

#define ENGINE_FINISHES 8

/* Counters come first, each an _Atomic uint64_t (stats.c). */
struct engine_stats {
    _Atomic uint64_t n_steps, step_ns, n_submitted, n_finished, n_failed, n_cancelled, n_preempted;
    _Atomic uint64_t n_prompt_tokens, n_generated_tokens;
    _Atomic uint64_t n_cached_tokens, n_drafted_tokens, n_accepted_tokens;
    _Atomic uint64_t n_expired, n_refused, compute_ns, n_swapped;
    _Atomic uint64_t n_by_finish[ENGINE_FINISHES];
    struct engine_histogram histograms[ENGINE_HISTOGRAMS];
    _Atomic int32_t n_waiting, n_running; /* what is now */
};

/* Adds counters; moving makes them 0 where they were, and leaves out what is now, not ever. */
void engine_stats_add(struct engine_stats *to, const struct engine_stats *from);
void engine_stats_move(struct engine_stats *to, struct engine_stats *from);

/* The i-th bound of a histogram, in its unit: nanoseconds or tokens. */
uint64_t engine_bound(enum engine_histogram_id id, int32_t i);
void engine_observe(struct engine_stats *stats, enum engine_histogram_id id, uint64_t value);

#endif
