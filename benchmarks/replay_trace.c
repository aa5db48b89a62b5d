/* Conversations by seed: tenants with system prompts, users with turns. */
#include "replay.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void *alloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "no memory for the trace\n");
        exit(1);
    }
    return p;
}

/* splitmix64, Steele et al. 2014; (0, 1). */
static double draw(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return ((double)(x >> 11) + 0.5) * 0x1p-53;
}

static int32_t draw_up_to(uint64_t *state, int32_t n)
{
    return (int32_t)(draw(state) * n);
}

/* Two of three are short: up to a fifth of the longest. */
static int32_t draw_length(uint64_t *state, int32_t most)
{
    int32_t bound = draw(state) < 2.0 / 3 ? most / 5 : most;
    return 1 + draw_up_to(state, bound > 1 ? bound : 1);
}

static double draw_exponential(uint64_t *state, double mean)
{
    return -mean * log(draw(state));
}

static infer_token *draw_tokens(uint64_t *state, int32_t n, int32_t n_vocab)
{
    infer_token *tokens = alloc((size_t)n, sizeof *tokens);
    for (int32_t i = 0; i < n; i++)
        tokens[i] = 3 + draw_up_to(state, n_vocab - 3);
    return tokens;
}

/* Turns end where the context would be full. */
static void make_turns(struct trace *t, struct trace_user *u, uint64_t *random)
{
    const struct trace_config *c = &t->config;
    int32_t n_tokens = t->n_systems[u->tenant], wanted = 1 + draw_up_to(random, c->n_turns);
    while (u->n_turns < wanted) {
        struct trace_turn turn = {.n_message = draw_length(random, c->message_tokens),
                                  .n_answer = draw_length(random, c->answer_tokens),
                                  .think_s = draw_exponential(random, c->think_s)};
        n_tokens += turn.n_message + turn.n_answer;
        if (n_tokens >= c->n_context)
            break;
        turn.message = draw_tokens(random, turn.n_message, c->n_vocab);
        u->turns[u->n_turns++] = turn;
    }
}

void trace_make(struct trace *t, const struct trace_config *config)
{
    uint64_t random = config->seed;
    double now = 0;
    *t = (struct trace){.config = *config};
    const struct trace_config *c = &t->config;
    t->systems = alloc((size_t)c->n_tenants, sizeof *t->systems);
    t->n_systems = alloc((size_t)c->n_tenants, sizeof *t->n_systems);
    t->users = alloc((size_t)c->n_users, sizeof *t->users);
    for (int32_t i = 0; i < c->n_tenants; i++) {
        t->n_systems[i] = c->system_tokens / 2 + 1 + draw_up_to(&random, c->system_tokens);
        t->systems[i] = draw_tokens(&random, t->n_systems[i], c->n_vocab);
    }
    for (int32_t i = 0; i < c->n_users; i++) {
        struct trace_user *u = &t->users[i];
        if (i % c->burst == 0)
            now += draw_exponential(&random, c->span_s / c->n_users * c->burst);
        u->arrival_s = now;
        /* Half of all users are the first tenant's. */
        u->tenant = draw(&random) < 0.5 ? 0 : draw_up_to(&random, c->n_tenants);
        make_turns(t, u, &random);
        t->n_requests += u->n_turns;
    }
}

void trace_free(struct trace *t)
{
    for (int32_t i = 0; i < t->config.n_tenants; i++)
        free(t->systems[i]);
    for (int32_t i = 0; i < t->config.n_users; i++)
        for (int32_t k = 0; k < t->users[i].n_turns; k++)
            free(t->users[i].turns[k].message);
    free(t->systems);
    free(t->n_systems);
    free(t->users);
    *t = (struct trace){.n_requests = 0};
}
