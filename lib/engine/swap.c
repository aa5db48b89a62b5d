/* Preemption by swap: blocks are copied out of the cache and back, to the same bits. */
#include "engine/swap.h"

#include "engine/prefix.h"
#include "engine/trace.h"

static int pays(struct infer_session *s, const struct cache_swapped *w)
{
    const int32_t step = s->kv->blocks->config.block_tokens;
    const struct swap_loss loss = {.n_tokens = w->n_tokens - w->n_shared * step,
                                   .n_left = (w->n_nodes - w->n_shared) * step,
                                   .bytes = w->bytes,
                                   .token_ns = pace_token_ns(&s->pace)};
    return w->bytes && (s->kv->swap_always || swap_cost_pays(&s->swap_cost, &loss));
}

static void write_out(struct infer_session *s, struct infer_request *r)
{
    uint64_t begin = session_now(s);
    pthread_mutex_unlock(&s->line->lock);
    infer_status st = cache_swap_out(s->kv->swap, &r->table, &r->swapped);
    pthread_mutex_lock(&s->line->lock);
    uint64_t ns = session_now(s) - begin;
    s->swap_ns += ns;
    if (st != INFER_OK)
        return;
    swap_cost_wrote(&s->swap_cost, r->swapped.bytes, ns);
    r->n_swapped++;
    s->stats.n_swapped++;
}

void swap_give_way(struct infer_session *s, struct infer_request *r)
{
    if (s->kv->swap && r->n_computed > 0 && !r->swapped.n_pages) {
        cache_table_slide(&r->table, r->n_computed);
        cache_swap_plan(&r->swapped, &r->table, r->n_computed);
        if (pays(s, &r->swapped))
            write_out(s, r);
    }
    prefix_give_back(r);
}

static infer_status read_back(struct infer_session *s, struct infer_request *r, int32_t n_found)
{
    uint64_t begin = session_now(s);
    pthread_mutex_unlock(&s->line->lock);
    infer_status st = cache_swap_in(s->kv->swap, &r->table, n_found, &r->swapped);
    pthread_mutex_lock(&s->line->lock);
    uint64_t ns = session_now(s) - begin;
    s->swap_ns += ns;
    if (st == INFER_OK)
        swap_cost_read(&s->swap_cost, cache_swap_in_bytes(s->kv->swap, n_found, &r->swapped), ns);
    return st;
}

int32_t swap_waiting(const struct infer_request *r, int32_t n_found)
{
    return r->swapped.n_pages && n_found < r->swapped.n_tokens ? r->swapped.n_tokens : 0;
}

infer_status swap_return(struct infer_session *s, struct infer_request *r, int32_t *n_found)
{
    const struct cache_swapped *w = &r->swapped;
    const int32_t step = s->kv->blocks->config.block_tokens;
    infer_status st = INFER_OK;
    if (!w->n_tokens)
        return INFER_OK;
    int32_t n_left = (w->n_nodes - w->n_shared) * step, n = *n_found - w->n_shared * step;
    swap_cost_found(&s->swap_cost, BASE_MIN(BASE_MAX(n, 0), n_left), n_left);
    if (swap_waiting(r, *n_found))
        st = read_back(s, r, *n_found);
    if (st == INFER_OK && swap_waiting(r, *n_found)) {
        r->n_computed = *n_found = w->n_tokens;
        prefix_keep_of(r);
    }
    swap_forget(s, r);
    return st;
}

void swap_forget(struct infer_session *s, struct infer_request *r)
{
    if (s->kv->swap)
        cache_swap_drop(s->kv->swap, &r->swapped);
}
