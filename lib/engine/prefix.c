/* Prefixes of requests: found, kept, shared with forks. */
#include "engine/prefix.h"

#include "engine/swap.h"

/* States are not kept behind fewer blocks of a prompt. */
#define STOP_BLOCKS 2

static void get_tokens(const void *sequence, int32_t first, int32_t n, infer_token *out)
{
    const struct infer_request *r = sequence;
    for (int32_t i = 0; i < n; i++)
        out[i] = request_token_at(r, first + i);
}

/* Positions that may come from the cache: not the last one, whose logits are wanted, nor those
 * of the prompt that are still to be scored or to become part of a vector. */
static int32_t skippable(const struct infer_request *r)
{
    int32_t n = request_length(r) - 1;
    int scored = !r->prompt_logprobs || r->n_prompt_scored >= r->n_prompt - 1;
    if (request_embed_is(&r->embed))
        return BASE_MIN(n, r->embed.next);
    return scored ? n : BASE_MIN(n, r->n_prompt_scored);
}

/* How many of them its source will have. */
static int32_t shareable(const struct infer_request *r)
{
    return r->source->keeps ? BASE_MIN(skippable(r), request_needed(r->source)) : skippable(r);
}

int prefix_must_wait(const struct infer_request *r)
{
    const struct infer_request *from = r->source;
    return from && from->state != REQUEST_FINISHED && from->n_computed < shareable(r);
}

/* Where a state is kept on the way through the tokens that are known: behind the last full block of
 * the prompt, from where its like go on, and where prompts are seen to part: behind what was
 * computed for somebody before, whose state is not there. */
static int is_stop(const struct infer_request *r, int32_t position)
{
    const int32_t step = r->table.blocks->config.block_tokens;
    return position >= STOP_BLOCKS * step &&
           (position == (r->n_prompt - 1) / step * step || position == r->table.n_matched * step);
}

static int32_t next_stop(const struct infer_request *r)
{
    const int32_t step = r->table.blocks->config.block_tokens;
    const int32_t last = (r->n_prompt - 1) / step * step, matched = r->table.n_matched * step;
    /* Short prompts are computed sooner than found. */
    const int32_t least = STOP_BLOCKS * step;
    int32_t stop = matched > r->n_computed && matched >= least ? matched : last;
    return r->table.root && stop >= least ? stop : 0;
}

int32_t prefix_chunk(const struct infer_request *r, int32_t n)
{
    int32_t left = r->n_prompt - 1 - r->n_computed, stop;
    if (!cache_has_state(r->table.blocks))
        return n;
    if (r->n_followers && !r->keeps && left > 0)
        n = BASE_MIN(n, left);
    stop = next_stop(r) - r->n_computed;
    return stop > 0 ? BASE_MIN(n, stop) : n;
}

/* What the source has computed of the same tokens; 0 where it has nothing or has gone. A
 * recurrent state helps only while it stands exactly there. */
static infer_status share_source(struct infer_request *r, int32_t *n_shared)
{
    const struct infer_request *from = r->source;
    int32_t n = from ? shareable(r) : 0;
    *n_shared = 0;
    if (!from || from->n_computed < n || n < 1 || from->state == REQUEST_FINISHED)
        return INFER_OK;
    if (cache_has_state(r->table.blocks) && from->n_computed != n)
        return INFER_OK;
    if (!cache_table_reaches(&from->table, n))
        return INFER_OK;
    infer_status st = cache_table_fork(&r->table, &from->table, n);
    if (st == INFER_OK)
        *n_shared = n;
    return st;
}

static void count(struct infer_session *s, struct infer_request *r)
{
    struct cache_prefix *p = s->kv->blocks->prefix;
    s->stats.n_cached_tokens += (uint64_t)r->n_cached;
    if (!p)
        return;
    atomic_fetch_add(&p->n_looked_up, (uint64_t)request_length(r));
    atomic_fetch_add(&p->n_hit, (uint64_t)r->n_cached);
}

/* Positions whose blocks a request that has n takes when it begins: for all known tokens but in
 * windows, which slide with what is computed. No more than a window spans, of which it may have
 * found all but the last: a cache that holds a window holds this. */
static int32_t near(const struct infer_request *r, int32_t n)
{
    const struct cache_blocks *b = r->table.blocks;
    int32_t tokens = request_length(r);
    for (int32_t g = 0; g < b->config.n_groups; g++) {
        int32_t window = b->config.groups[g].window;
        int32_t end = cache_part_first(b, g, n) + cache_window_blocks(&b->config, window);
        if (window)
            tokens = BASE_MIN(tokens, end * b->config.block_tokens);
    }
    return BASE_MAX(tokens, n + 1);
}

infer_status prefix_begin(struct infer_session *s, struct infer_request *r)
{
    int32_t n = r->table.n_blocks ? r->n_computed : 0; /* restored or fetched */
    infer_status st = n ? INFER_OK : share_source(r, &n);
    if (st == INFER_OK && !n)
        n = cache_table_find(&r->table, r, get_tokens, skippable(r));
    const int32_t waiting = swap_waiting(r, n);
    if (st == INFER_OK && waiting)
        st = cache_table_leap(&r->table, waiting);
    if (st == INFER_OK)
        st = cache_table_plan(&r->table, request_length(r), near(r, BASE_MAX(n, waiting)));
    if (st != INFER_OK) {
        swap_give_way(s, r); /* a restored one has something to lose */
        return st;
    }
    if (swap_return(s, r, &n) != INFER_OK) { /* then it is computed again */
        prefix_give_back(r);
        return prefix_begin(s, r);
    }
    r->n_computed = n;
    prefix_leave_source(r);
    if (!r->start_ns) { /* not when it comes back after a preemption */
        r->n_cached = n;
        count(s, r);
    }
    return INFER_OK;
}

void prefix_give_back(struct infer_request *r)
{
    cache_table_clear(&r->table);
    r->n_computed = 0;
}

void prefix_fetch(struct infer_request *r)
{
    const struct cache_root *root = r->table.root;
    struct cache_tier *tier = r->table.blocks->tier;
    if (!tier || !root)
        return;
    const struct cache_key key = {root->name, root->n, root->adapter, root->numerics};
    int32_t n = skippable(r);
    if (n > 0)
        r->n_computed = cache_tier_fetch(tier, &r->table, &key, r->prompt, n);
}

void prefix_copy(struct infer_session *s)
{
    /* Also of those that have begun and are not in this step: a source moves on. */
    for (int32_t i = 0; i < s->n_running; i++)
        cache_table_copy(&s->running[i]->table);
}

void prefix_keep(struct infer_session *s)
{
    for (int32_t i = 0; i < s->n_parts; i++)
        prefix_keep_of(s->parts[i].request);
}

void prefix_keep_of(struct infer_request *r)
{
    cache_table_keep(&r->table, r, get_tokens, r->n_computed);
    if (!cache_has_state(r->table.blocks))
        return;
    int answering = r->n_computed >= r->n_prompt;
    if (answering || is_stop(r, r->n_computed))
        cache_table_checkpoint(&r->table, r->n_computed, answering);
}

void prefix_leave_source(struct infer_request *r)
{
    struct infer_request *source = r->source;
    r->source = NULL;
    if (!source)
        return;
    source->n_followers--;
    source->n_heirs--;
    request_release(source);
}
