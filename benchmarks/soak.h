/* What the soak's clients and its set-up share. */
#ifndef BENCHMARKS_SOAK_H
#define BENCHMARKS_SOAK_H

#include <infer/infer.h>

#include <pthread.h>
#include <stdatomic.h>

#define N_THREADS  16
#define N_FAMILIES 60 /* at most */
#define N_MEMBERS  4  /* of a family: one prompt, seeds of their own */
#define N_GRAMMARS 3
#define N_ADAPTERS 2
#define MAX_PROMPT 112
#define MAX_TOKENS 40
#define N_BLOCKS   30
#define ONE_IN     250 /* allocations that are refused */
#define SESSIONS   2   /* one with a thread of its own, one that its clients step */
struct soak_memory {
    _Atomic int64_t n_live, bytes_live, bytes_peak;
    _Atomic uint64_t n_calls, n_refused;
    _Atomic uint32_t one_in; /* 0: none is refused */
};

extern struct soak_memory memory;
struct answer { /* as it is alone, twice as long as anybody asks: forks go on from within */
    infer_token tokens[2 * MAX_TOKENS];
    float logprobs[2 * MAX_TOKENS];
    char text[2 * MAX_TOKENS * 32];
    int32_t n;
    infer_finish finish;
};

struct family {
    infer_token prompt[MAX_PROMPT];
    size_t n_prompt;
    int64_t max_tokens;
    int32_t grammar, adapter; /* -1: none */
    infer_speculation speculation;
    float temperature;
    const char *name_space;
    struct answer answers[N_MEMBERS];
};

struct soak {
    infer_device *device;
    infer_model *model;
    infer_kv_cache *cache;
    infer_session *sessions[SESSIONS];
    infer_grammar *grammars[N_GRAMMARS];
    infer_adapter *adapters[N_ADAPTERS];
    struct family families[N_FAMILIES];
    uint32_t n_families;
    int32_t n_threads; /* of the device */
    uint64_t seed;
    int32_t n_vocab;
    double end_s;
    _Atomic int stop;
    /* What each client waits for, for others to cancel. */
    pthread_mutex_t board_lock;
    infer_request *board[N_THREADS];
    _Atomic uint64_t progress;
    _Atomic uint64_t n_begun, n_whole, n_cut, n_tokens, n_cancelled, n_expired, n_failed, n_busy,
        n_no_memory, n_retried, n_forks, n_late_forks, n_dropped, n_pinned, n_wrong;
};

extern struct soak soak;
_Noreturn void soak_die(const char *format, ...);
void soak_need(infer_status st);          /* INFER_OK, or the end */
void soak_wrong(const char *format, ...); /* counts, and says what */
uint32_t soak_draw(uint64_t *state, uint32_t n);

infer_request_options soak_options(const struct family *f, const infer_sampling *sampling);
infer_sampling soak_sampling(const struct family *f, int member);

/* Makes all that `soak` points to, with the answers alone. */
void soak_set_up(const char *path);
/* Once no client runs: blocks and memory are back. */
void soak_take_down(void);

#endif
