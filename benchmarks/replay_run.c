/* One run through a trace: who is due is submitted, steps run, events are taken as they come. */
#include "replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A user, while the trace runs. */
struct talk {
    infer_token *tokens; /* all that was said so far */
    int32_t n, turn;
    double due_s; /* of the next turn */
    int waiting;  /* it was due and has not been submitted */
    uint64_t due_ns;
};

struct flight {
    infer_request *r;
    struct replay_record *record;
    uint64_t last_ns;
};

struct run {
    const struct trace *trace;
    const struct replay_options *options;
    struct replay_result *result;
    infer_kv_cache *cache;
    infer_session *session;
    struct talk *talks;
    struct flight *flights; /* a place for each user */
    int32_t n_flights, n_ended;
    int32_t *queue; /* of the static way: users in the order in which they were due */
    int32_t n_queue;
    size_t gaps_capacity;
    uint64_t begin_ns;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *alloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "no memory for the run\n");
        exit(1);
    }
    return p;
}

static infer_status submit(struct run *run, int32_t user)
{
    static const char *const names[] = {"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"};
    const struct trace *trace = run->trace;
    const struct trace_user *u = &trace->users[user];
    struct talk *talk = &run->talks[user];
    const struct trace_turn *turn = &u->turns[talk->turn];
    struct flight *f = &run->flights[user];
    infer_sampling greedy = {.struct_size = sizeof greedy};
    memcpy(talk->tokens + talk->n, turn->message, (size_t)turn->n_message * sizeof *turn->message);
    talk->n += turn->n_message;
    infer_request_options o = {.struct_size = sizeof o,
                               .tokens = talk->tokens,
                               .n_tokens = (size_t)talk->n,
                               .sampling = &greedy,
                               .max_tokens = turn->n_answer,
                               .ignore_eos = 1,
                               .cache_namespace = names[u->tenant % 8],
                               .tenant = run->options->in_order ? "all" : NULL};
    f->record = &run->result->records[run->result->n_records++];
    *f->record = (struct replay_record){
        .user = user, .turn = talk->turn, .n_prompt = talk->n, .due_ns = talk->due_ns};
    f->record->tokens = alloc((size_t)(talk->n + turn->n_answer), sizeof *f->record->tokens);
    memcpy(f->record->tokens, talk->tokens, (size_t)talk->n * sizeof *talk->tokens);
    talk->waiting = 0;
    run->n_flights++;
    return infer_session_submit(&f->r, run->session, &o);
}

static void add_gap(struct run *run, double ms)
{
    struct replay_result *result = run->result;
    if (result->n_gaps == run->gaps_capacity) {
        run->gaps_capacity = run->gaps_capacity ? 2 * run->gaps_capacity : 4096;
        result->gaps_ms = realloc(result->gaps_ms, run->gaps_capacity * sizeof(double));
        if (!result->gaps_ms)
            exit(1);
    }
    result->gaps_ms[result->n_gaps++] = ms;
}

/* The answer is said; the next turn is due when its user has thought. */
static infer_status finish(struct run *run, int32_t user, const infer_event *event)
{
    struct flight *f = &run->flights[user];
    struct talk *talk = &run->talks[user];
    const struct trace_user *u = &run->trace->users[user];
    infer_request_info info = {.struct_size = sizeof info};
    infer_status st = infer_request_get_info(f->r, &info);
    f->record->finish = event->finish;
    f->record->end_ns = f->last_ns;
    f->record->n_cached = info.n_cached_tokens;
    f->record->scheduled_ns = info.scheduled_ns;
    infer_request_destroy(&f->r);
    run->n_flights--;
    run->n_ended++;
    if (++talk->turn < u->n_turns)
        talk->due_s = (double)(f->last_ns - run->begin_ns) * 1e-9 +
                      u->turns[talk->turn].think_s * run->options->time_scale;
    return st;
}

static infer_status take_events(struct run *run, int32_t user)
{
    struct flight *f = &run->flights[user];
    struct talk *talk = &run->talks[user];
    infer_event event = {.struct_size = sizeof event};
    infer_status st;
    while (f->r && (st = infer_request_poll(f->r, &event)) != INFER_AGAIN) {
        if (st == INFER_OK && event.type == INFER_EVENT_FINISH)
            st = finish(run, user, &event);
        else if (st == INFER_OK) {
            struct replay_record *record = f->record;
            record->tokens[record->n_prompt + record->n_answer++] = event.token;
            talk->tokens[talk->n++] = event.token;
            if (record->first_ns)
                add_gap(run, (double)(event.time_ns - f->last_ns) * 1e-6);
            else
                record->first_ns = event.time_ns;
            f->last_ns = event.time_ns;
        }
        if (st != INFER_OK)
            return st;
    }
    return INFER_OK;
}

/* Submits who is due. Gives back in how many seconds the next one is; negative: nobody. */
static double submit_due(struct run *run, infer_status *st)
{
    double now = (double)(now_ns() - run->begin_ns) * 1e-9, next = -1;
    int is_static = run->options->way == REPLAY_STATIC;
    for (int32_t i = 0; i < run->trace->config.n_users && *st == INFER_OK; i++) {
        struct talk *talk = &run->talks[i];
        if (run->flights[i].r || talk->waiting || talk->turn >= run->trace->users[i].n_turns)
            continue;
        if (talk->due_s > now) {
            next = next < 0 || talk->due_s - now < next ? talk->due_s - now : next;
            continue;
        }
        talk->due_ns = run->begin_ns + (uint64_t)(talk->due_s * 1e9);
        if (is_static) {
            talk->waiting = 1;
            run->queue[run->n_queue++] = i;
        } else {
            *st = submit(run, i);
        }
    }
    if (!is_static || run->n_flights)
        return next;
    /* A batch has ended: those who waited longest are the next. */
    int32_t n =
        run->n_queue < run->options->max_requests ? run->n_queue : run->options->max_requests;
    for (int32_t i = 0; i < n && *st == INFER_OK; i++)
        *st = submit(run, run->queue[i]);
    run->n_queue -= n;
    memmove(run->queue, run->queue + n, (size_t)run->n_queue * sizeof *run->queue);
    return next;
}

static infer_status run_all(struct run *run)
{
    infer_status st = INFER_OK;
    run->begin_ns = now_ns();
    while (run->n_ended < run->trace->n_requests && st == INFER_OK) {
        double next = submit_due(run, &st);
        if (st == INFER_OK && !run->n_flights && next > 0) {
            struct timespec t = {(time_t)next, (long)((next - (double)(time_t)next) * 1e9)};
            nanosleep(&t, NULL);
            continue;
        }
        infer_status step = st == INFER_OK ? infer_session_step(run->session) : st;
        if (step < 0)
            st = step;
        for (int32_t i = 0; i < run->trace->config.n_users && st == INFER_OK; i++)
            if (run->flights[i].r)
                st = take_events(run, i);
    }
    run->result->seconds = (double)(now_ns() - run->begin_ns) * 1e-9;
    return st;
}

static infer_status open_run(struct run *run)
{
    const struct replay_options *o = run->options;
    infer_kv_cache_options k = {.struct_size = sizeof k,
                                .budget_bytes = o->budget_bytes,
                                .disable_prefix_cache = o->way != REPLAY_LIBINFER};
    infer_session_options s = {.struct_size = sizeof s,
                               .max_requests = o->max_requests,
                               .step_tokens = o->step_tokens,
                               .max_queue = run->trace->config.n_users + 1};
    infer_status st = infer_kv_cache_create(&run->cache, o->model, &k);
    s.kv_cache = run->cache;
    return st == INFER_OK ? infer_session_create(&run->session, o->model, &s) : st;
}

static void sum_up(struct run *run)
{
    struct replay_result *result = run->result;
    infer_session_stats stats = {.struct_size = sizeof stats};
    if (infer_session_get_stats(run->session, &stats) == INFER_OK) {
        result->n_preempted = stats.n_preempted;
        result->n_steps = stats.n_steps;
    }
    for (int32_t i = 0; i < result->n_records; i++) {
        result->n_prompt_tokens += result->records[i].n_prompt;
        result->n_cached_tokens += result->records[i].n_cached;
        result->n_answer_tokens += result->records[i].n_answer;
    }
}

infer_status replay_run(struct replay_result *out, const struct trace *trace,
                        const struct replay_options *options)
{
    size_t users = (size_t)trace->config.n_users;
    struct run run = {.trace = trace, .options = options, .result = out};
    *out = (struct replay_result){.seconds = 0};
    out->records = alloc((size_t)trace->n_requests, sizeof *out->records);
    run.talks = alloc(users, sizeof *run.talks);
    run.flights = alloc(users, sizeof *run.flights);
    run.queue = alloc(users, sizeof *run.queue);
    for (size_t i = 0; i < users; i++) {
        int32_t tenant = trace->users[i].tenant;
        struct talk *talk = &run.talks[i];
        talk->tokens = alloc((size_t)trace->config.n_context, sizeof *talk->tokens);
        talk->n = trace->n_systems[tenant];
        memcpy(talk->tokens, trace->systems[tenant], (size_t)talk->n * sizeof *talk->tokens);
        talk->due_s = trace->users[i].arrival_s * options->time_scale;
    }
    infer_status st = open_run(&run);
    if (st == INFER_OK)
        st = run_all(&run);
    if (run.session)
        sum_up(&run);
    for (size_t i = 0; i < users; i++) {
        infer_request_destroy(&run.flights[i].r);
        free(run.talks[i].tokens);
    }
    infer_session_destroy(&run.session);
    infer_kv_cache_destroy(&run.cache);
    free(run.queue);
    free(run.flights);
    free(run.talks);
    return st;
}

void replay_free(struct replay_result *result)
{
    for (int32_t i = 0; i < result->n_records; i++)
        free(result->records[i].tokens);
    free(result->records);
    free(result->gaps_ms);
    *result = (struct replay_result){.seconds = 0};
}
