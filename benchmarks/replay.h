/* Made-up conversations of many users, and one run through them in one of several ways. */
#ifndef BENCHMARKS_REPLAY_H
#define BENCHMARKS_REPLAY_H

#include <infer/infer.h>

#define TRACE_TURNS_MAX 6

/* What the trace is like. Times are in seconds and can be scaled when it is run. */
struct trace_config {
    uint64_t seed;
    int32_t n_users, n_tenants;
    int32_t n_turns;        /* at most TRACE_TURNS_MAX; 1 to so many for each user */
    int32_t system_tokens;  /* of a tenant's system prompt, about */
    int32_t message_tokens; /* of a message at most; most are short */
    int32_t answer_tokens;  /* likewise */
    double span_s;          /* in which users arrive */
    double think_s;         /* mean, from an answer to the next message */
    int32_t burst;          /* users who arrive together; 1: each by himself (Poisson) */
    int32_t n_vocab, n_context;
};

struct trace_turn {
    infer_token *message;
    int32_t n_message, n_answer;
    double think_s; /* after the answer before */
};

struct trace_user {
    int32_t tenant;
    double arrival_s;
    struct trace_turn turns[TRACE_TURNS_MAX];
    int32_t n_turns;
};

struct trace {
    struct trace_config config;
    infer_token **systems; /* one a tenant */
    int32_t *n_systems;
    struct trace_user *users;
    int32_t n_requests;
};

/* The same for the same configuration, everywhere. Ends the program where memory is short. */
void trace_make(struct trace *trace, const struct trace_config *config);
void trace_free(struct trace *trace);

enum replay_way {
    REPLAY_LIBINFER = 0,  /* continuous batching, prefix cache */
    REPLAY_NO_PREFIX = 1, /* the same without the cache */
    REPLAY_STATIC = 2,    /* no cache; what waits becomes a batch, which runs until its last answer
                             has ended, and then the next */
    REPLAY_WAYS = 3
};

struct replay_options {
    infer_model *model;
    enum replay_way way;
    int32_t max_requests; /* in a step, or in a batch */
    int32_t step_tokens;
    uint64_t budget_bytes;
    int32_t in_order;  /* 1: no fair shares between tenants, who waits longest is next */
    double time_scale; /* of all times of the trace; 0: everything is due at once */
};

struct replay_record {
    int32_t user, turn;
    infer_token *tokens; /* prompt and answer */
    int32_t n_prompt, n_answer;
    int64_t n_cached;
    uint64_t due_ns, scheduled_ns, first_ns, end_ns;
    infer_finish finish;
};

struct replay_result {
    struct replay_record *records; /* one for each request, in the order of submit */
    int32_t n_records;
    double *gaps_ms; /* from token to token, in all requests */
    size_t n_gaps;
    int64_t n_prompt_tokens, n_cached_tokens, n_answer_tokens;
    uint64_t n_preempted, n_steps;
    double seconds;
};

/* Runs all requests of the trace to their ends in a session of its own. INFER_OK, or the first
 * failure. The result is freed in any case. */
infer_status replay_run(struct replay_result *out, const struct trace *trace,
                        const struct replay_options *options);
void replay_free(struct replay_result *result);

#endif
