/* What the index of the prefix cache costs without a model: looking up, keeping and evicting the
 * blocks of prompts that have nothing in common, and of one that is there.
 *   prefix_index [TOKENS] [ROUNDS]
 * Prints nanoseconds a token: median, fastest and slowest. */
#include "cache/paged.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS_MAX 1000
#define BT         16

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_row(const char *name, double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    printf("%-28s %8.2f  (%.2f to %.2f) ns a token\n", name, values[n / 2], values[0],
           values[n - 1]);
}

static void get_tokens(const void *sequence, int32_t first, int32_t n, infer_token *out)
{
    for (int32_t i = 0; i < n; i++)
        out[i] = ((const infer_token *)sequence)[first + i];
}

/* The life of a prompt without its computing. */
static double run(struct cache_table *table, const infer_token *tokens, int32_t n)
{
    double begin = now_ns();
    int32_t found = cache_table_find(table, tokens, get_tokens, n - 1);
    if (cache_table_reserve(table, n) != INFER_OK)
        exit(1);
    for (int32_t at = found; at < n; at += 256) /* as steps do */
        cache_table_keep(table, tokens, get_tokens, BASE_MIN(at + 256, n));
    cache_table_clear(table);
    return (now_ns() - begin) / (double)n;
}

int main(int argc, char **argv)
{
    static double fresh[ROUNDS_MAX], plain[ROUNDS_MAX], found[ROUNDS_MAX];
    int32_t n = argc > 1 ? atoi(argv[1]) : 8192;
    int rounds = argc > 2 ? atoi(argv[2]) : 101;
    struct cache_config c = {.type = INFER_DTYPE_F16,
                             .block_tokens = BT,
                             .prefix = 1,
                             .n_groups = 1,
                             .groups = {{.n_layers = 1, .n_heads = 1, .k_slot = 2}}};
    struct infer_device *device = NULL;
    struct cache_blocks *blocks[2] = {NULL};
    struct cache_table tables[2];
    infer_token *tokens;
    if (n < BT || rounds < 1 || rounds > ROUNDS_MAX)
        return 2;
    tokens = calloc((size_t)n, sizeof *tokens);
    c.budget_bytes = cache_config_bytes(&c, (uint64_t)n * 2, 0);
    if (!tokens || device_create(&device, &(struct device_config){.n_threads = 1}) != INFER_OK)
        return 1;
    for (int i = 0; i < 2; i++, c.prefix = 0) /* with and without the index */
        if (cache_blocks_create(&blocks[i], &base_alloc_default, device, &c) != INFER_OK ||
            cache_table_init(&tables[i], blocks[i], n) != INFER_OK ||
            cache_table_share(&tables[i], &(struct cache_key){0}) != INFER_OK)
            return 1;
    for (int i = 0; i < rounds; i++) {
        for (int32_t k = 0; k < n; k++)
            tokens[k] = k * 7 + i;
        fresh[i] = run(&tables[0], tokens, n);
        found[i] = run(&tables[0], tokens, n);
        plain[i] = run(&tables[1], tokens, n);
    }
    printf("%d tokens, %llu blocks evicted\n", n, (unsigned long long)blocks[0]->prefix->n_evicted);
    print_row("nothing in common", fresh, rounds);
    print_row("all there", found, rounds);
    print_row("no prefix cache", plain, rounds);
    for (int i = 0; i < 2; i++) {
        cache_table_release(&tables[i]);
        cache_blocks_destroy(&blocks[i]);
    }
    device_release(&device);
    free(tokens);
    return 0;
}
