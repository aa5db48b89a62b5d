/* Preemption: keys and values go to the swap store, or are dropped and computed again later; tokens
 * stay, so that nothing of an answer changes. What the prefix cache still has then is found. */
#include "engine/preempt.h"

#include "engine/ahead.h"
#include "engine/draft.h"
#include "engine/prefix.h"
#include "engine/scheduler.h"
#include "engine/swap.h"
#include "engine/trace.h"

static int goes_before(const struct infer_request *a, const struct infer_request *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->serial < b->serial;
}

void running_insert(struct infer_session *s, struct infer_request *r)
{
    int32_t at = s->n_running++;
    for (; at > 0 && goes_before(r, s->running[at - 1]); at--)
        s->running[at] = s->running[at - 1];
    s->running[at] = r;
    s->stats.n_running = s->n_running;
}

int32_t running_find(const struct infer_session *s, const struct infer_request *r)
{
    int32_t low = 0, high = s->n_running - 1;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (goes_before(s->running[middle], r))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void running_remove(struct infer_session *s, int32_t at)
{
    for (; at + 1 < s->n_running; at++)
        s->running[at] = s->running[at + 1];
    s->stats.n_running = --s->n_running;
}

static void preempt(struct infer_session *s, int32_t at, uint64_t now)
{
    struct infer_request *r = s->running[at];
    running_remove(s, at);
    ahead_forget(s, r);
    s->ahead.settled = 0;
    swap_give_way(s, r);
    draft_drop(r);
    r->n_preempted++;
    r->state = REQUEST_WAITING;
    queue_push(&s->queue, r, now);
    s->stats.n_waiting = s->queue.n;
    s->stats.n_preempted++;
    trace_request(s, INFER_TRACE_PREEMPTED, r, now);
}

int preempt_waiting(struct infer_session *s, const struct infer_request *keep)
{
    struct infer_request *last = NULL;
    for (struct infer_request *r = s->queue.all; r; r = r->next_all)
        if (r->table.n_blocks && r != keep && (!last || r->serial > last->serial))
            last = r;
    if (last)
        swap_give_way(s, last);
    return last != NULL;
}

/* Who gives way: of those with the worst rank, from `first` on, the one with the fewest positions
 * to compute again; of equal ones the newest. -1: nobody has a rank beyond `rank`. */
static int32_t find_victim(const struct infer_session *s, int32_t first, int64_t rank)
{
    int32_t at = s->n_running - 1, best = -1;
    int64_t worst = at >= first ? s->running[at]->rank : 0;
    for (; at >= first && s->running[at]->rank == worst && worst > rank; at--)
        if (best < 0 || s->running[at]->n_computed < s->running[best]->n_computed)
            best = at;
    return best;
}

int32_t preempt_keeper(struct infer_session *s)
{
    for (int32_t at = s->n_keepers ? s->n_running : 0; at-- > 0;)
        if (request_only_keeps(s->running[at])) {
            scheduler_end(s, s->running[at], INFER_FINISH_LENGTH, INFER_OK);
            return at;
        }
    s->n_keepers = 0;
    return -1;
}

void preempt_all(struct infer_session *s, uint64_t now)
{
    while (preempt_keeper(s) >= 0)
        continue;
    while (s->n_running)
        preempt(s, s->n_running - 1, now);
    while (preempt_waiting(s, NULL))
        continue;
}

/* Makes room for what the request at *at knows, in windows for its first n_near tokens; *at moves
 * where others before it go. 0: it had to go itself. */
static int make_room(struct infer_session *s, int32_t *at, int32_t n_near, uint64_t now)
{
    struct infer_request *r = s->running[*at];
    while (cache_table_plan(&r->table, request_length(r), n_near) != INFER_OK) {
        if (preempt_waiting(s, NULL))
            continue;
        int32_t keeper = preempt_keeper(s);
        if (keeper >= 0) {
            *at -= keeper < *at;
            continue;
        }
        /* A single one waits too: then it is another session that holds the blocks. */
        int32_t victim = find_victim(s, s->n_running > 1, INT64_MIN);
        preempt(s, victim, now);
        if (victim == *at)
            return 0;
        *at -= victim < *at;
    }
    return 1;
}

void preempt_for_decodes(struct infer_session *s, uint64_t now)
{
    /* Prompts have their blocks, or wait for those in their windows; but the first goes on. Tokens
     * that a grammar forced are several and have none yet. Who only keeps blocks needs no more. */
    int is_first = 1;
    for (int32_t at = 0; at < s->n_running;) {
        const struct infer_request *r = s->running[at];
        int32_t pending = request_pending(r);
        int asks = pending == 1 || (pending > 1 && (is_first || r->tokens.size));
        is_first &= pending < 1;
        if (!asks || make_room(s, &at, r->n_computed + 1, now))
            at++;
    }
}

int preempt_can_help(const struct infer_session *s, const struct infer_request *r)
{
    struct cache_blocks *b = s->kv->blocks;
    int64_t held[CACHE_GROUPS_MAX] = {0};
    int32_t at = s->n_running;
    for (; at > 0 && s->running[at - 1]->rank > r->priority; at--) {
        const struct cache_table *t = &s->running[at - 1]->table;
        for (int32_t g = 0; g < b->config.n_groups; g++)
            held[g] += cache_table_has(t, g) - t->n_passed[g];
    }
    if (at == s->n_running)
        return 0;
    for (int32_t g = 0; g < b->config.n_groups; g++)
        if (cache_blocks_free(b, g) + held[g] < cache_blocks_wanted(b, g, request_length(r)))
            return 0;
    return 1;
}

int preempt_for(struct infer_session *s, const struct infer_request *r, uint64_t now)
{
    int32_t victim = find_victim(s, 0, r->priority);
    if (victim >= 0)
        preempt(s, victim, now);
    return victim >= 0;
}
