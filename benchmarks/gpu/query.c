/* What a short text costs an encoder on a GPU: its vector, launched kernel by kernel and replayed
 * from a graph, in turns, so that what the card itself does in the meantime is seen.
 *
 *     query [--json FILE] MODEL [tokens]      microseconds, medians of 200; 16 tokens
 *
 * Launches: until all is on its way. Vector: until it has come back. */
#include "base/clock.h"
#include "base/error.h"
#include "model/encode.h"
#include "model/gpu/gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS     200
#define WARM       10
#define TOKENS_MAX 512

struct bench {
    struct infer_device *device;
    struct infer_model *model;
    struct model_gpu_encoder *encoder;
    infer_token tokens[TOKENS_MAX];
    int32_t offsets[2];
    float *vector;
    FILE *json;
};

static infer_status open_all(struct bench *b, const char *path)
{
    const struct device_config device = {.index = 1};
    infer_status st = device_create(&b->device, &device);
    const struct model_load_config load = {
        .alloc = &base_alloc_default, .device = b->device, .kv_type = (infer_dtype)-1};
    if (st == INFER_OK)
        st = model_load(&b->model, path, &load);
    if (st == INFER_OK && !model_is_encoder(b->model))
        st = base_error(INFER_ERR_UNSUPPORTED, "%s is no encoder", path);
    if (st == INFER_OK && b->offsets[1] > b->model->hp.n_context)
        st = base_error(INFER_ERR_LIMIT, "%d tokens, the model's context is %d", b->offsets[1],
                        b->model->hp.n_context);
    if (st != INFER_OK)
        return st;
    for (int32_t i = 0; i < b->offsets[1]; i++)
        b->tokens[i] = (i * 31 + 7) % b->model->hp.n_vocab;
    b->vector = calloc((size_t)b->model->hp.n_embd, sizeof *b->vector);
    if (!b->vector)
        return INFER_ERR_NO_MEMORY;
    return model_gpu_encoder_create(&b->encoder, b->model, TOKENS_MAX, 0, 0);
}

static void close_all(struct bench *b)
{
    model_gpu_encoder_destroy(&b->encoder);
    model_release(&b->model);
    device_release(&b->device);
    free(b->vector);
    if (b->json)
        fclose(b->json);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print(struct bench *b, const char *name, const char *what, uint64_t took[ROUNDS])
{
    qsort(took, ROUNDS, sizeof *took, by_value);
    const double us = (double)took[ROUNDS / 2] / 1e3, least = (double)took[ROUNDS / 10] / 1e3;
    const double most = (double)took[ROUNDS - ROUNDS / 10 - 1] / 1e3;
    printf("  %-10s %-10s %8.1f us (%.1f to %.1f)\n", name, what, us, least, most);
    if (b->json)
        fprintf(b->json, "{\"cell\":\"query %d %s %s\",\"us\":%.3f,\"least\":%.3f,\"most\":%.3f}\n",
                b->offsets[1], name, what, us, least, most);
}

static infer_status measure(struct bench *b, const char *name, uint32_t ways)
{
    static uint64_t launched[ROUNDS], took[ROUNDS];
    const struct model_encode_batch batch = {b->tokens, NULL, b->offsets, 1};
    b->model->gpu->ways = ways;
    for (int32_t i = -WARM; i < ROUNDS; i++) {
        const struct model_fold fold = {
            .vector = b->vector, .n_rows = b->offsets[1], .kind = MODEL_POOLING_MEAN};
        memset(b->vector, 0, (size_t)b->model->hp.n_embd * sizeof *b->vector);
        const uint64_t begin = base_clock_ns();
        infer_status st = model_gpu_encode(b->encoder, &batch);
        const uint64_t launch = base_clock_ns() - begin;
        if (st == INFER_OK)
            st = model_gpu_encoder_fold(b->encoder, &fold, 1);
        if (st != INFER_OK)
            return st;
        if (i >= 0) {
            launched[i] = launch;
            took[i] = base_clock_ns() - begin;
        }
    }
    print(b, name, "launches", launched);
    print(b, name, "vector", took);
    return INFER_OK;
}

int main(int argc, char **argv)
{
    static struct bench b;
    const int json = argc > 2 && strcmp(argv[1], "--json") == 0 ? 2 : 0;
    const int n = argc > json + 2 ? atoi(argv[json + 2]) : 16;
    if (argc < json + 2 || n < 1 || n > TOKENS_MAX) {
        fprintf(stderr, "usage: query [--json FILE] MODEL [1 to %d tokens]\n", TOKENS_MAX);
        return 2;
    }
    b.offsets[1] = n;
    b.json = json ? fopen(argv[2], "a") : NULL;
    infer_status st = open_all(&b, argv[json + 1]);
    if (st == INFER_OK)
        printf("%s: %d tokens\n", argv[json + 1], n);
    for (int i = 0; i < 4 && st == INFER_OK; i++)
        st = measure(&b, i % 2 ? "graph" : "walked",
                     i % 2 ? GPU_WAYS_DEFAULT : GPU_WAYS_DEFAULT | GPU_WAY_WALKED);
    if (st != INFER_OK)
        fprintf(stderr, "query: %s\n", base_error_text());
    close_all(&b);
    return st != INFER_OK;
}
