/* Where the time of a decode step on a GPU goes: the forward pass launched and waited for, then
 * with the head and the highest logit, with a token drawn (top-k 40, top-p 0.95), and with all
 * logits brought back; then with tokens that the step chooses itself, and with the next step
 * launched before they are read.
 *
 *     step [--mega] MODEL [sequences [depth]]      microseconds, medians of 60 steps
 *     step --ways MODEL [sequences [depth]]        the forward pass alone, in each way of it
 *
 * --mega: a step of one sequence is one launch (lib/model/gpu/mega.c). --ways goes twice through
 * all ways, so that what the card itself does in the meantime is seen. */
#include "base/clock.h"
#include "base/error.h"
#include "engine/kv_cache.h"
#include "model/forward.h"
#include "model/gpu/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS    60
#define SEQS_MAX 256
#define WARM     4

/* What is measured one after the other at most: each goes deeper into the sequences. */
#define N_MEASURES 24

struct bench {
    struct infer_device *device;
    struct infer_model *model;
    struct infer_kv_cache *kv;
    struct model_workspace ws;
    struct cache_table tables[SEQS_MAX];
    const int32_t *ids[SEQS_MAX][CACHE_GROUPS_MAX];
    struct model_batch_seq seqs[SEQS_MAX];
    infer_token tokens[SEQS_MAX];
    int32_t rows[SEQS_MAX];
    struct model_pick picks[SEQS_MAX];
    uint64_t in_flight; /* 0: none */
    int32_t n, depth;
};

static int fail(void)
{
    fprintf(stderr, "step: %s\n", base_error_text());
    return 1;
}

static infer_status open_all(struct bench *b, const char *path)
{
    const struct device_config device = {.index = 1};
    infer_status st = device_create(&b->device, &device);
    const struct model_load_config load = {
        .alloc = &base_alloc_default, .device = b->device, .kv_type = (infer_dtype)-1};
    if (st == INFER_OK)
        st = model_load(&b->model, path, &load);
    if (st != INFER_OK)
        return st;
    int32_t length = b->depth + (STEPS + WARM) * N_MEASURES + 64;
    infer_dtype type = model_kv_default_type(b->model);
    const struct kv_cache_config kv = {
        .alloc = &base_alloc_default,
        .type = type,
        .block_tokens = KV_CACHE_BLOCK_TOKENS,
        .budget_bytes = kv_cache_budget_for(b->model, type, b->n, length),
    };
    st = kv_cache_create(&b->kv, b->model, &kv);
    const struct model_workspace_config ws = {
        .max_rows = b->n, .max_outputs = b->n, .max_seqs = b->n, .max_tokens = length};
    if (st == INFER_OK)
        st = model_workspace_open(&b->ws, b->model, &ws);
    for (int32_t i = 0; i < b->n && st == INFER_OK; i++) {
        st = cache_table_init(&b->tables[i], b->kv->blocks, length);
        if (st == INFER_OK)
            st = cache_table_reserve(&b->tables[i], length);
        for (int32_t g = 0; g < CACHE_GROUPS_MAX; g++)
            b->ids[i][g] = b->tables[i].ids[g];
        b->rows[i] = i;
    }
    return st;
}

enum way { FORWARD, BEST, SAMPLED, LOGITS, CHOSEN, AHEAD, AHEAD_DRAWN };

static struct model_pick *picks_of(struct bench *b, enum way way)
{
    for (int32_t i = 0; i < b->n; i++)
        b->picks[i] =
            (struct model_pick){.want = MODEL_WANT_TOKEN,
                                .temperature = way == SAMPLED || way == AHEAD_DRAWN ? 0.8f : 0,
                                .top_k = 40,
                                .top_p = 0.95f,
                                .repetition = 1,
                                .seed = (uint64_t)i,
                                .position = (uint64_t)b->depth};
    return way == LOGITS ? NULL : b->picks;
}

static infer_status run_step(struct bench *b, enum way way, uint64_t *launched)
{
    struct model_batch batch = {.n_rows = b->n,
                                .n_seqs = b->n,
                                .tokens = b->tokens,
                                .seqs = b->seqs,
                                .kv = b->kv->views,
                                .chooses = way >= CHOSEN,
                                .picks = way == AHEAD_DRAWN ? picks_of(b, way) : NULL,
                                .source = way >= AHEAD && b->in_flight ? b->rows : NULL};
    for (int32_t i = 0; i < b->n; i++) {
        b->tokens[i] = (b->depth * 7 + i * 31) % 1000;
        b->seqs[i] = (struct model_batch_seq){b->ids[i], b->depth, i, 1};
    }
    b->depth++;
    uint64_t begin = base_clock_ns();
    infer_status st = model_forward(&b->ws, &batch);
    *launched = base_clock_ns() - begin;
    if (way >= CHOSEN) {
        const uint64_t launched_step = model_step(&b->ws);
        const uint64_t step = way >= AHEAD ? b->in_flight : launched_step;
        b->in_flight = launched_step;
        return st == INFER_OK && step ? model_chosen(&b->ws, step) : st;
    }
    if (st == INFER_OK && way != FORWARD)
        st = model_head(&b->ws, b->rows, b->n, picks_of(b, way));
    return st == INFER_OK ? model_finish(&b->ws) : st;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static infer_status measure(struct bench *b, enum way way, const char *name)
{
    uint64_t took[STEPS], launched[STEPS];
    b->in_flight = 0;
    for (int32_t i = -WARM; i < STEPS; i++) {
        uint64_t begin = base_clock_ns(), launch;
        infer_status st = run_step(b, way, &launch);
        if (st != INFER_OK)
            return st;
        if (i >= 0) {
            took[i] = base_clock_ns() - begin;
            launched[i] = launch;
        }
    }
    if (model_finish(&b->ws) != INFER_OK)
        return INFER_ERR_DEVICE;
    qsort(took, STEPS, sizeof *took, by_value);
    qsort(launched, STEPS, sizeof *launched, by_value);
    printf("  %-14s %8.1f us (%.1f to %.1f), of which the launch %.1f\n", name,
           (double)took[STEPS / 2] / 1e3, (double)took[STEPS / 10] / 1e3,
           (double)took[STEPS - STEPS / 10 - 1] / 1e3, (double)launched[STEPS / 2] / 1e3);
    return INFER_OK;
}

static const struct {
    const char *name;
    uint32_t ways;
} all_ways[] = {
    {"default", GPU_WAYS_DEFAULT},
    {"nothing of it", 0},
    {"walked", GPU_WAYS_DEFAULT | GPU_WAY_WALKED},
    {"front", GPU_WAY_FRONT},
    {"beside", GPU_WAY_BESIDE},
    {"and once", GPU_WAYS_DEFAULT | GPU_WAY_ONCE},
    {"and ahead", GPU_WAYS_DEFAULT | GPU_WAY_AHEAD},
    {"both", GPU_WAYS_DEFAULT | GPU_WAY_AHEAD | GPU_WAY_ONCE},
    {"mega", GPU_WAYS_DEFAULT | GPU_WAY_MEGA},
    {"mega, once", GPU_WAYS_DEFAULT | GPU_WAY_MEGA | GPU_WAY_ONCE},
    {"mega, ahead", GPU_WAYS_DEFAULT | GPU_WAY_MEGA | GPU_WAY_AHEAD},
    {"mega, both", GPU_WAYS_DEFAULT | GPU_WAY_MEGA | GPU_WAY_AHEAD | GPU_WAY_ONCE},
};

static infer_status measure_all(struct bench *b, int ways)
{
    static const char *const names[] = {"forward",     "and best",       "and sampled",
                                        "and logits",  "and its choice", "launched early",
                                        "early, drawn"};
    infer_status st = INFER_OK;
    if (!ways) {
        for (int32_t way = FORWARD; way <= AHEAD_DRAWN && st == INFER_OK; way++)
            st = measure(b, (enum way)way, names[way]);
        return st;
    }
    for (size_t i = 0; i < 2 * BASE_COUNT(all_ways) && st == INFER_OK; i++) {
        b->model->gpu->ways = all_ways[i % BASE_COUNT(all_ways)].ways;
        st = measure(b, FORWARD, all_ways[i % BASE_COUNT(all_ways)].name);
    }
    return st;
}

int main(int argc, char **argv)
{
    static struct bench b;
    int ways = argc > 1 && strcmp(argv[1], "--ways") == 0;
    int mega = argc > 1 && strcmp(argv[1], "--mega") == 0;
    argc -= ways || mega;
    argv += ways || mega;
    if (argc < 2) {
        fprintf(stderr, "usage: step [--mega | --ways] MODEL [sequences [depth]]\n");
        return 2;
    }
    b.n = argc > 2 ? atoi(argv[2]) : 1;
    b.depth = argc > 3 ? atoi(argv[3]) : 0;
    if (b.n < 1 || b.n > SEQS_MAX || b.depth < 0) {
        fprintf(stderr, "step: 1 to %d sequences\n", SEQS_MAX);
        return 2;
    }
    if (open_all(&b, argv[1]) != INFER_OK)
        return fail();
    printf("%s: %d sequences from position %d\n", argv[1], b.n, b.depth);
    if (mega)
        b.model->gpu->ways |= GPU_WAY_MEGA;
    if (measure_all(&b, ways) != INFER_OK)
        return fail();
    for (int32_t i = 0; i < b.n; i++)
        cache_table_release(&b.tables[i]);
    model_workspace_close(&b.ws);
    kv_cache_release(&b.kv);
    model_release(&b.model);
    device_release(&b.device);
    return 0;
}
