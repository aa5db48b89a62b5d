/* The soak's allocator, requests and answers; its beginning and its end. */
#include "soak.h"

#include "support/gguf_builder.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct soak_memory memory;
struct soak soak = {.board_lock = PTHREAD_MUTEX_INITIALIZER};

_Noreturn void soak_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

void soak_need(infer_status st)
{
    if (st != INFER_OK)
        soak_die("%s", infer_last_error());
}

uint32_t soak_draw(uint64_t *state, uint32_t n)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u; /* splitmix64, Steele et al. 2014 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ (x >> 31)) >> 32) % n;
}
void soak_wrong(const char *format, ...)
{
    va_list args;
    atomic_fetch_add(&soak.n_wrong, 1);
    va_start(args, format);
    fputs("wrong: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}
/* ---------------------------------------------------------------------- memory */
struct head {
    void *start;
    size_t bytes;
};

static void *take(size_t bytes, size_t alignment, void *user_data)
{
    uint64_t state = atomic_fetch_add(&memory.n_calls, 1);
    size_t front = sizeof(struct head) > alignment ? sizeof(struct head) : alignment;
    char *start = NULL;
    (void)user_data;
    if (memory.one_in && soak_draw(&state, memory.one_in) == 0) {
        atomic_fetch_add(&memory.n_refused, 1);
        return NULL;
    }
    if (posix_memalign((void **)&start, front, front + bytes) != 0)
        return NULL;
    struct head *head = (struct head *)(void *)(start + front) - 1;
    *head = (struct head){start, bytes};
    atomic_fetch_add(&memory.n_live, 1);
    int64_t live = atomic_fetch_add(&memory.bytes_live, (int64_t)bytes) + (int64_t)bytes;
    if (live > memory.bytes_peak)
        memory.bytes_peak = live; /* about: two threads may race */
    return start + front;
}

static void give(void *ptr, void *user_data)
{
    struct head *head = (struct head *)ptr - 1;
    (void)user_data;
    atomic_fetch_sub(&memory.n_live, 1);
    atomic_fetch_sub(&memory.bytes_live, (int64_t)head->bytes);
    free(head->start);
}

static const infer_allocator allocator = {sizeof allocator, take, give, NULL};
/* --------------------------------------------------------------------- the plan */
static void make_family(struct family *f, int number, uint64_t *random)
{
    static const char *const names[] = {NULL, "red", "blue"};
    size_t shared = soak_draw(random, 80);
    f->n_prompt = 1 + soak_draw(random, MAX_PROMPT);
    for (size_t i = 0; i < f->n_prompt; i++) /* many begin alike */
        f->prompt[i] = (infer_token)(i < shared ? 3 + i * 11 % 500
                                                : soak_draw(random, (uint32_t)soak.n_vocab));
    f->max_tokens = 1 + soak_draw(random, MAX_TOKENS);
    f->grammar = number % 5 == 3 ? number % N_GRAMMARS : -1;
    f->adapter = number % 4 == 2 ? number / 4 % N_ADAPTERS : -1;
    f->speculation = INFER_SPECULATION_OFF;
    if (number % 3 == 1)
        f->speculation = number % 2 ? INFER_SPECULATION_NGRAM : INFER_SPECULATION_DRAFT;
    f->temperature = number % 2 ? 0.9f : 0;
    f->name_space = names[soak_draw(random, 3)];
}

infer_request_options soak_options(const struct family *f, const infer_sampling *sampling)
{
    return (infer_request_options){
        .struct_size = sizeof(infer_request_options),
        .tokens = f->prompt,
        .n_tokens = f->n_prompt,
        .sampling = sampling,
        .max_tokens = f->max_tokens,
        .ignore_eos = f->grammar < 0,
        .logprobs = 1,
        .want_logits = (f - soak.families) % 6 == 5, /* what steps allocate for */
        .grammar = f->grammar < 0 ? NULL : soak.grammars[f->grammar],
        .adapter = f->adapter < 0 ? NULL : soak.adapters[f->adapter],
        .cache_namespace = f->name_space,
        .speculation = INFER_SPECULATION_OFF,
    };
}

infer_sampling soak_sampling(const struct family *f, int member)
{
    return (infer_sampling){.struct_size = sizeof(infer_sampling),
                            .temperature = f->temperature,
                            .seed =
                                (uint64_t)(f - soak.families) * N_MEMBERS + (uint64_t)member + 1};
}

static void answer_alone(infer_session *plain, struct family *f, int member)
{
    struct answer *a = &f->answers[member];
    infer_sampling sampling = soak_sampling(f, member);
    infer_request_options o = soak_options(f, &sampling);
    infer_request *r = NULL;
    infer_event event = {.struct_size = sizeof event};
    infer_status st;
    o.max_tokens = 2 * f->max_tokens;
    soak_need(infer_session_submit(&r, plain, &o));
    while ((st = infer_request_next(r, &event)) == INFER_OK)
        if (event.type == INFER_EVENT_TOKEN) {
            a->tokens[a->n] = event.token;
            a->logprobs[a->n++] = event.logprob;
            strncat(a->text, event.text, sizeof a->text - 1 - strlen(a->text));
        } else {
            a->finish = event.finish;
        }
    soak_need(st == INFER_DONE ? INFER_OK : st);
    infer_request_destroy(&r);
}
/* ------------------------------------------------------------- set up, take down */

/* A random adapter for the queries and the output of every layer. */
static void make_adapter(int number)
{
    enum { RANK = 4 };
    const infer_adapter_options options = {.struct_size = sizeof options, .allocator = &allocator};
    char path[] = "/tmp/soak-adapter-XXXXXX", name[96];
    infer_model_info info = {.struct_size = sizeof info};
    struct gguf_builder *g = gguf_builder_new();
    uint64_t random = 77 + (uint64_t)number;
    static const char *const matrices[] = {"attn_q", "attn_output"};
    soak_need(infer_model_get_info(soak.model, &info));
    uint64_t width = (uint64_t)info.n_embedding,
             out[] = {(uint64_t)info.n_heads * (uint64_t)info.head_dim, width};
    uint64_t in[] = {width, out[0]};
    gguf_builder_string(g, "general.architecture", info.architecture);
    gguf_builder_string(g, "general.type", "adapter");
    gguf_builder_string(g, "adapter.type", "lora");
    gguf_builder_float(g, "adapter.lora.alpha", GGUF_F32, 8);
    for (int32_t layer = 0; layer < info.n_layers; layer++)
        for (int m = 0; m < 2; m++)
            for (int side = 0; side < 2; side++) {
                uint64_t dims[2] = {side ? RANK : in[m], side ? out[m] : RANK};
                size_t n = (size_t)(dims[0] * dims[1]);
                float *values = malloc(n * sizeof *values);
                for (size_t i = 0; values && i < n; i++)
                    values[i] = (float)soak_draw(&random, 2001) * 5e-5f - 0.05f;
                snprintf(name, sizeof name, "blk.%d.%s.weight.lora_%c", layer, matrices[m],
                         side ? 'b' : 'a');
                gguf_builder_tensor(g, name, INFER_DTYPE_F32, 2, dims, values, n * sizeof *values);
                free(values);
            }
    close(mkstemp(path));
    gguf_builder_write(g, path);
    gguf_builder_free(g);
    soak_need(infer_adapter_load(&soak.adapters[number], soak.model, path, &options));
    unlink(path);
}

static void make_grammars(void)
{
    static const char *const choices[] = {"yes, of course", "yes, perhaps", "no"};
    const infer_grammar_options options[N_GRAMMARS] = {
        {.struct_size = sizeof *options,
         .kind = INFER_GRAMMAR_JSON_SCHEMA,
         .text = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":"
                 "{\"type\":\"integer\"}},\"required\":[\"name\",\"age\"]}"},
        {.struct_size = sizeof *options,
         .kind = INFER_GRAMMAR_REGEX,
         .text = "[a-z]{3,9}( [a-z]+)*"},
        {.struct_size = sizeof *options,
         .kind = INFER_GRAMMAR_CHOICE,
         .choices = choices,
         .n_choices = 3}};
    for (int i = 0; i < N_GRAMMARS; i++) {
        infer_grammar_options o = options[i];
        o.allocator = &allocator;
        soak_need(infer_grammar_create(&soak.grammars[i], &o));
    }
}

void soak_set_up(const char *path)
{
    infer_device_options d = {
        .struct_size = sizeof d, .n_threads = soak.n_threads, .allocator = &allocator};
    infer_model_options m = {.struct_size = sizeof m};
    infer_model_info info = {.struct_size = sizeof info};
    infer_kv_cache_options k = {.struct_size = sizeof k};
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    infer_session *plain = NULL;
    soak_need(infer_device_create(&soak.device, 0, &d));
    m.device = soak.device;
    soak_need(infer_model_load(&soak.model, path, &m));
    soak_need(infer_model_get_info(soak.model, &info));
    soak.n_vocab = info.n_vocab;
    make_grammars();
    for (int i = 0; i < N_ADAPTERS; i++)
        make_adapter(i);

    k.disable_prefix_cache = 1;
    soak_need(infer_kv_cache_create(&soak.cache, soak.model, &k));
    soak_need(infer_kv_cache_get_stats(soak.cache, &kv));
    infer_session_options o = {.struct_size = sizeof o, .kv_cache = soak.cache};
    soak_need(infer_session_create(&plain, soak.model, &o));
    uint64_t random = soak.seed;
    for (int i = 0; i < (int)soak.n_families; i++) {
        make_family(&soak.families[i], i, &random);
        for (int member = 0; member < N_MEMBERS; member++)
            answer_alone(plain, &soak.families[i], member);
    }
    infer_session_destroy(&plain);
    infer_kv_cache_destroy(&soak.cache);

    k = (infer_kv_cache_options){.struct_size = sizeof k, .allocator = &allocator};
    k.swap_bytes = 4 * kv.block_bytes; /* of what is preempted, some */
    k.swap_always = 1;
    k.budget_bytes = kv.block_bytes * N_BLOCKS;
    soak_need(infer_kv_cache_create(&soak.cache, soak.model, &k));
    for (int i = 0; i < SESSIONS; i++) {
        o = (infer_session_options){.struct_size = sizeof o,
                                    .kv_cache = soak.cache,
                                    .allocator = &allocator,
                                    .max_requests = 8,
                                    .max_queue = 10,
                                    .step_tokens = 48,
                                    .priority_age_ns = 50000000,
                                    .worker_thread = i == 0,
                                    .draft_model = i == 0 ? soak.model : NULL,
                                    .target_itl_ns = i == 0 ? 5000000 : 0};
        soak_need(infer_session_create(&soak.sessions[i], soak.model, &o));
    }
}

/* What is still in flight was cancelled by its end; blocks and memory are back after it. */
void soak_take_down(void)
{
    infer_kv_cache_stats kv = {.struct_size = sizeof kv};
    for (int i = 0; i < 500; i++) { /* the worker ends what was destroyed last */
        soak_need(infer_kv_cache_get_stats(soak.cache, &kv));
        if (!kv.n_blocks_used)
            break;
        infer_session_step(soak.sessions[1]);
        usleep(10000);
    }
    if (kv.n_blocks_used)
        soak_wrong("%llu blocks are in use", (unsigned long long)kv.n_blocks_used);
    uint64_t n_preempted = 0, n_cached = 0, n_drafted = 0, n_accepted = 0, n_steps = 0;
    for (int i = 0; i < SESSIONS; i++) {
        infer_session_stats stats = {.struct_size = sizeof stats};
        soak_need(infer_session_get_stats(soak.sessions[i], &stats));
        n_preempted += stats.n_preempted;
        n_cached += stats.n_cached_tokens;
        n_drafted += stats.n_drafted_tokens;
        n_accepted += stats.n_accepted_tokens;
        n_steps += stats.n_steps;
        if (stats.n_running || stats.n_waiting)
            soak_wrong("session %d has requests left", i);
        if (stats.n_submitted !=
            stats.n_finished + stats.n_cancelled + stats.n_expired + stats.n_failed)
            soak_wrong("session %d lost requests", i);
        infer_session_destroy(&soak.sessions[i]);
    }
    printf("%llu steps, %llu preemptions, %llu prompt tokens cached, %llu blocks evicted, "
           "%llu of %llu drafts accepted\n",
           (unsigned long long)n_steps, (unsigned long long)n_preempted,
           (unsigned long long)n_cached, (unsigned long long)kv.n_evicted,
           (unsigned long long)n_accepted, (unsigned long long)n_drafted);
    printf("%llu preempted requests swapped out, %llu in, %llu found no room\n",
           (unsigned long long)kv.n_swapped_out, (unsigned long long)kv.n_swapped_in,
           (unsigned long long)kv.n_swap_full);
    if (kv.swap_used_bytes)
        soak_wrong("%llu bytes of swap are in use", (unsigned long long)kv.swap_used_bytes);
    infer_kv_cache_destroy(&soak.cache);
    for (int i = 0; i < N_GRAMMARS; i++)
        infer_grammar_destroy(&soak.grammars[i]);
    for (int i = 0; i < N_ADAPTERS; i++)
        infer_adapter_destroy(&soak.adapters[i]);
    infer_model_destroy(&soak.model);
    infer_device_destroy(&soak.device);
    if (memory.n_live || memory.bytes_live)
        soak_wrong("%lld pieces of memory, %lld bytes, are not back", (long long)memory.n_live,
                   (long long)memory.bytes_live);
}
