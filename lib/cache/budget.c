/* How a budget of bytes is parted among the groups of a KV cache. */
#include "cache/blocks.h"

#include "base/error.h"

#include <string.h>

#define BLOCKS_MAX ((uint64_t)INT32_MAX / 2)

static size_t layer_bytes(const struct cache_config *c, const struct cache_group *g,
                          size_t *k_bytes)
{
    size_t slots = (size_t)g->n_heads * (size_t)c->block_tokens;
    *k_bytes = slots * g->k_slot;
    if (cache_group_is_state(g))
        return BASE_ALIGN_UP(g->state_bytes, (size_t)BASE_CACHE_LINE);
    return *k_bytes + slots * g->v_slot;
}

size_t cache_group_bytes(const struct cache_config *c, struct cache_group *g)
{
    g->layer_bytes = layer_bytes(c, g, &g->k_bytes);
    return BASE_ALIGN_UP((size_t)g->n_layers * g->layer_bytes, (size_t)BASE_CACHE_LINE);
}

static uint64_t block_bytes(const struct cache_config *c, int32_t g)
{
    struct cache_group group = c->groups[g];
    return cache_group_bytes(c, &group);
}

static uint64_t saturating_product(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX / 16
                                                  : BASE_MIN(product, UINT64_MAX / 16);
}

/* Blocks of a group of positions that one sequence of n blocks holds at once. */
static uint64_t held_blocks(const struct cache_config *c, int32_t g, uint64_t n)
{
    int32_t window = c->groups[g].window;
    return window ? BASE_MIN(n, (uint64_t)cache_window_blocks(c, window)) : n;
}

/* Bytes of the positions of one sequence of n blocks. */
static uint64_t positions_bytes(const struct cache_config *c, uint64_t n)
{
    uint64_t sum = 0;
    for (int32_t g = 0; g < c->n_groups; g++)
        if (!cache_group_is_state(&c->groups[g]))
            sum += saturating_product(held_blocks(c, g, n), block_bytes(c, g));
    return BASE_MIN(sum, UINT64_MAX / 16);
}

static uint64_t states_bytes(const struct cache_config *c)
{
    uint64_t sum = 0;
    for (int32_t g = 0; g < c->n_groups; g++)
        if (cache_group_is_state(&c->groups[g]))
            sum += block_bytes(c, g);
    return sum;
}

static uint64_t sequence_blocks(const struct cache_config *c)
{
    return (uint64_t)BASE_DIV_UP(BASE_MAX(c->sequence_tokens, 1), c->block_tokens);
}

/* Windows of so many sequences fit at least, however long one of them can be. */
#define SEQUENCES_MIN 4

uint64_t cache_config_bytes(const struct cache_config *c, uint64_t n_tokens, uint64_t n_states)
{
    uint64_t n = BASE_DIV_UP(n_tokens, (uint64_t)c->block_tokens);
    uint64_t length = BASE_MAX(BASE_MIN(sequence_blocks(c), n / SEQUENCES_MIN), 1);
    return saturating_product(n / length, positions_bytes(c, length)) +
           positions_bytes(c, n % length) + saturating_product(n_states, states_bytes(c));
}

/* Blocks of the longest sequence whose positions take at most so many bytes. */
static uint64_t longest(const struct cache_config *c, uint64_t bytes, uint64_t most)
{
    uint64_t low = 0;
    while (low < most) {
        uint64_t middle = low + (most - low + 1) / 2;
        if (positions_bytes(c, middle) <= bytes)
            low = middle;
        else
            most = middle - 1;
    }
    return low;
}

/* Whether a sequence takes more bytes the longer it is. */
static int grows_for_ever(const struct cache_config *c)
{
    for (int32_t g = 0; g < c->n_groups; g++)
        if (!cache_group_is_partial(&c->groups[g]))
            return 1;
    return 0;
}

infer_status cache_config_part(const struct cache_config *c, int32_t n_blocks[CACHE_GROUPS_MAX],
                               int32_t *n_spans)
{
    const uint64_t budget = c->budget_bytes;
    const uint64_t states = states_bytes(c), least = states + positions_bytes(c, 1);
    const uint64_t copies = c->prefix ? 2 : 1; /* of the state of a sequence */
    uint64_t length = sequence_blocks(c);
    memset(n_blocks, 0, CACHE_GROUPS_MAX * sizeof *n_blocks);
    *n_spans = 0;
    if (!budget || !c->n_groups)
        return INFER_OK;
    if (!least)
        return base_error(INFER_ERR_LIMIT, "the KV cache has nothing to hold");
    if (budget < least)
        return base_error(INFER_ERR_LIMIT,
                          "the KV cache's budget of %llu bytes is below one block of %llu bytes",
                          (unsigned long long)budget, (unsigned long long)least);
    uint64_t n_sequences = budget / (positions_bytes(c, length) + copies * states);
    uint64_t n_states = copies * n_sequences;
    if (!n_states)
        n_states = budget >= least + (copies - 1) * states ? copies : 1;
    uint64_t left = budget - n_states * states;
    if (left / SEQUENCES_MIN < positions_bytes(c, length)) {
        length = longest(c, left / SEQUENCES_MIN, length);
        n_sequences = SEQUENCES_MIN;
    } else if (positions_bytes(c, length)) {
        n_sequences = left / positions_bytes(c, length);
    }
    left -= n_sequences * positions_bytes(c, length);
    uint64_t rest = longest(c, left, grows_for_ever(c) ? BLOCKS_MAX : sequence_blocks(c));
    for (int32_t g = 0; g < c->n_groups; g++) {
        uint64_t n = n_sequences * held_blocks(c, g, length) + held_blocks(c, g, rest);
        n = cache_group_is_state(&c->groups[g]) ? n_states : n;
        n_blocks[g] = (int32_t)BASE_MIN(n, BLOCKS_MAX);
    }
    *n_spans = (int32_t)BASE_MIN(n_sequences * length + rest, BLOCKS_MAX);
    return INFER_OK;
}
