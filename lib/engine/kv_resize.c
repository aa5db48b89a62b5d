/* Another budget for a KV cache that sessions use: everybody gives way, and what is kept moves. */
#include "engine/kv_cache.h"

#include "base/error.h"
#include "engine/preempt.h"
#include "engine/scheduler.h"
#include "engine/trace.h"

/* Lines of the cache's sessions, each once, in the order of their addresses: whoever occupies
 * several does so in this order. */
struct lines {
    struct session_line **at;
    size_t n;
};

static infer_status collect(struct lines *l, const struct infer_kv_cache *kv)
{
    size_t n = 0;
    for (const struct infer_session *s = kv->sessions; s; s = s->next_in_cache)
        n++;
    *l = (struct lines){.at = base_new_raw(&kv->alloc, n, sizeof *l->at)};
    if (!l->at)
        return INFER_ERR_NO_MEMORY;
    for (const struct infer_session *s = kv->sessions; s; s = s->next_in_cache) {
        size_t i = 0;
        while (i < l->n && (uintptr_t)l->at[i] < (uintptr_t)s->line)
            i++;
        if (i < l->n && l->at[i] == s->line)
            continue;
        for (size_t k = l->n++; k > i; k--)
            l->at[k] = l->at[k - 1];
        l->at[i] = s->line;
    }
    return INFER_OK;
}

static void give_way(struct infer_session *s)
{
    pthread_mutex_lock(&s->line->lock);
    preempt_all(s, session_now(s));
    pthread_mutex_unlock(&s->line->lock);
}

/* Requests that will never fit again end, and no answer grows beyond what fits. */
static void fit(struct infer_session *s)
{
    const int32_t capacity = kv_cache_capacity(s->kv);
    pthread_mutex_lock(&s->line->lock);
    for (struct infer_request *r = s->queue.all, *next; r; r = next) {
        next = r->next_all;
        r->limit = BASE_MIN(r->limit, capacity);
        int32_t needed = request_length(r) + !r->prefill_only;
        if (needed <= capacity)
            continue;
        base_error(INFER_ERR_LIMIT,
                   "the request needs room for %d tokens, and the KV cache was resized to %d",
                   needed, capacity);
        scheduler_end(s, r, INFER_FINISH_ERROR, INFER_ERR_LIMIT);
    }
    pthread_mutex_unlock(&s->line->lock);
}

static infer_status resize(struct infer_kv_cache *kv, uint64_t budget_bytes)
{
    for (struct infer_session *s = kv->sessions; s; s = s->next_in_cache)
        give_way(s);
    cache_swap_settle(kv->swap);
    infer_status st = cache_blocks_resize(kv->blocks, budget_bytes);
    if (st != INFER_OK)
        return st;
    kv_cache_fit(kv);
    for (struct infer_session *s = kv->sessions; s; s = s->next_in_cache)
        fit(s);
    return INFER_OK;
}

infer_status kv_cache_resize(struct infer_kv_cache *kv, uint64_t budget_bytes)
{
    struct lines lines;
    pthread_rwlock_wrlock(&kv->moving);
    pthread_mutex_lock(&kv->lock);
    infer_status st = collect(&lines, kv);
    for (size_t i = 0; i < lines.n; i++)
        line_occupy(lines.at[i], kv);
    if (st == INFER_OK)
        st = resize(kv, budget_bytes);
    for (size_t i = lines.n; i-- > 0;)
        line_vacate(lines.at[i]);
    base_free(&kv->alloc, lines.at);
    pthread_mutex_unlock(&kv->lock);
    pthread_rwlock_unlock(&kv->moving);
    return st;
}
