/* What preempted sequences had, on its way into the swap store: at once, or beside the steps. */
#include "cache/swap.h"

#include "base/error.h"
#include "base/hash.h"

#include <string.h>

/* ------------------------------------------------------------- holding blocks */

static int is_partial(const struct cache_blocks *b, int32_t g)
{
    return cache_group_is_partial(&b->config.groups[g]);
}

static int is_state(const struct cache_blocks *b, int32_t g)
{
    return cache_group_is_state(&b->config.groups[g]);
}

/* Whether a block is held with its node. */
static int is_in_node(const struct cache_blocks *b, const struct cache_swap_job *j,
                      const struct cache_swap_place *p)
{
    return !is_partial(b, p->group) && p->block < j->n_nodes;
}

static int32_t *id_at(const struct cache_blocks *b, const struct cache_swap_job *j,
                      const struct cache_swap_place *p)
{
    return &j->ids[p->group][is_state(b, p->group) ? 0 : p->block];
}

static void step(struct cache_swap_place *p)
{
    *p = (struct cache_swap_place){p->group + 1, p->block, 0};
}

static void hold(struct cache_blocks *b, struct cache_swap_job *j)
{
    struct cache_swap_place p = j->released;
    pthread_mutex_lock(&b->lock);
    for (; j->n_held < j->n_nodes; j->n_held++) {
        cache_node_hold(b, j->nodes[j->n_held]);
        b->prefix->nodes[j->nodes[j->n_held]].leaving++;
    }
    for (; cache_swap_seek(b, &j->stream, &p); step(&p)) {
        if (!is_in_node(b, j, &p))
            cache_block_hold(b, p.group, *id_at(b, j, &p));
        b->n_leaving[p.group]++;
    }
    pthread_mutex_unlock(&b->lock);
}

/* Gives back what lies before `to`, which is no place before; NULL: all. Nodes go from the last one
 * on. */
static void release(struct cache_blocks *b, struct cache_swap_job *j,
                    const struct cache_swap_place *to)
{
    struct cache_swap_place *p = &j->released, end = to ? *to : j->released;
    int left;
    if (to)
        cache_swap_seek(b, &j->stream, &end);
    pthread_mutex_lock(&b->lock);
    for (; (left = cache_swap_seek(b, &j->stream, p)); step(p)) {
        if (to && p->group == end.group && p->block == end.block)
            break;
        if (is_in_node(b, j, p))
            continue;
        cache_block_drop(b, p->group, *id_at(b, j, p));
        b->n_leaving[p->group]--;
    }
    while (j->n_held > (left ? p->block + (p->block < INT32_MAX) : 0)) {
        const int32_t node = j->nodes[--j->n_held];
        b->prefix->nodes[node].leaving--;
        cache_node_drop(b, node);
        for (int32_t g = 0; g < b->config.n_groups; g++)
            b->n_leaving[g] -= !is_partial(b, g) && j->n_held >= j->first[g];
    }
    pthread_cond_broadcast(&b->left);
    pthread_mutex_unlock(&b->lock);
}

/* ------------------------------------------------------------------- writing */

static void begin_piece(struct cache_swap *s, int32_t i)
{
    struct cache_swap_job *j = &s->job;
    struct cache_swap_piece *piece = &s->out[i];
    cache_swap_fill(s, piece, &j->stream);
    j->behind[i] = j->stream.place;
    j->is_released[i] = 0;
    infer_status st = device_fetch_begin(&piece->fetch, &s->blocks->memory, piece->ranges,
                                         j->status == INFER_OK ? piece->n_ranges : 0);
    j->status = j->status == INFER_OK ? st : j->status;
}

/* Its pages with their checksums, once all of it is there. */
static void end_piece(struct cache_swap *s, int32_t i)
{
    struct cache_swap_job *j = &s->job;
    struct cache_swap_piece *piece = &s->out[i];
    infer_status st = device_fetch_end(&piece->fetch);
    int32_t page = piece->page;
    j->status = j->status == INFER_OK ? st : j->status;
    for (size_t at = 0; at < piece->bytes && j->status == INFER_OK; at += CACHE_SWAP_PAGE) {
        const size_t size = BASE_MIN(piece->bytes - at, CACHE_SWAP_PAGE);
        const uint8_t *data = cache_swap_data(s, piece, (int32_t)(at / CACHE_SWAP_PAGE), page);
        s->sums[page] = base_hash64(data, size, (uint64_t)page);
        if (s->file.path) {
            s->file.at = (uint64_t)page * CACHE_SWAP_PAGE;
            j->status = base_output_write(&s->file, data, size);
        }
        page = s->next[page];
    }
}

static infer_status finish(struct cache_swap *s)
{
    const infer_status st = s->job.status;
    if (st == INFER_OK) {
        s->n_out++;
        s->out_bytes += s->job.bytes;
    } else {
        s->n_failed++;
    }
    return st;
}

static infer_status write_now(struct cache_swap *s)
{
    do {
        begin_piece(s, 0);
        end_piece(s, 0);
    } while (s->out[0].bytes && s->job.status == INFER_OK);
    return finish(s);
}

/* ----------------------------------------------------------------- the thread */

static void free_lists(struct cache_swap *s)
{
    for (int32_t g = 0; g < CACHE_GROUPS_MAX; g++)
        base_free(&s->alloc, s->job.ids[g]);
    base_free(&s->alloc, s->job.nodes);
    memset(s->job.ids, 0, sizeof s->job.ids);
    s->job.nodes = NULL;
}

/* Copies of the table's lists, which is cleared soon. */
static int copy_lists(struct cache_swap *s, const struct cache_table *t, int32_t n_tokens)
{
    struct cache_swap_job *j = &s->job;
    const struct cache_blocks *b = s->blocks;
    int made = 1;
    for (int32_t g = 0; made && g < b->config.n_groups; g++) {
        size_t n = (size_t)cache_swap_count(b, g, n_tokens);
        j->ids[g] = base_new_raw(&s->alloc, n, sizeof **j->ids);
        if ((made = !!j->ids[g]))
            memcpy(j->ids[g], t->ids[g], n * sizeof **j->ids);
    }
    j->n_nodes = BASE_MIN(t->n_nodes, n_tokens / b->config.block_tokens);
    if (made && j->n_nodes) {
        j->nodes = base_new_raw(&s->alloc, (size_t)j->n_nodes, sizeof *j->nodes);
        if ((made = !!j->nodes))
            memcpy(j->nodes, t->nodes, (size_t)j->n_nodes * sizeof *j->nodes);
    }
    if (!made)
        free_lists(s);
    return made;
}

/* What pieces take is on its way when this returns, and may be overwritten by what follows. */
static void begin(struct cache_swap *s)
{
    struct cache_swap_job *j = &s->job;
    hold(s->blocks, j);
    for (int32_t i = 0; i < 2; i++)
        begin_piece(s, i);
    for (int32_t i = 0; i < 2 && j->status == INFER_OK; i++) {
        struct device_fetch *f = &s->out[i].fetch;
        if (device_fetch_launched(f) < s->out[i].n_ranges || device_fetch_order(f) != INFER_OK)
            break;
        release(s->blocks, j, &j->behind[i]);
        j->is_released[i] = 1;
    }
}

static void write_job(struct cache_swap *s)
{
    struct cache_swap_job *j = &s->job;
    for (int32_t i = 0; s->out[i].bytes; i = !i) {
        end_piece(s, i);
        if (!j->is_released[i])
            release(s->blocks, j, &j->behind[i]);
        begin_piece(s, i);
    }
    for (int32_t i = 0; i < 2; i++)
        device_fetch_end(&s->out[i].fetch);
    release(s->blocks, j, NULL);
    s->unwritten[j->page] = finish(s) != INFER_OK;
    free_lists(s);
}

static void *write_always(void *arg)
{
    struct cache_swap *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->closing || s->ready) {
        if (!s->ready) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        write_job(s);
        pthread_mutex_lock(&s->lock);
        s->busy = s->ready = 0;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

infer_status cache_swap_thread(struct cache_swap *s)
{
    int err = pthread_create(&s->thread, NULL, write_always, s);
    if (err)
        return base_error(INFER_ERR_LIMIT, "cannot start the swap store's thread: %s",
                          strerror(err));
    s->has_thread = 1;
    return INFER_OK;
}

/* ------------------------------------------------------------------------ out */

/* There is one job at a time. */
static void occupy(struct cache_swap *s, int32_t page)
{
    pthread_mutex_lock(&s->lock);
    while (s->busy)
        pthread_cond_wait(&s->changed, &s->lock);
    s->busy = 1;
    s->job = (struct cache_swap_job){.page = page};
    pthread_mutex_unlock(&s->lock);
}

static void hand_over(struct cache_swap *s, int ready)
{
    pthread_mutex_lock(&s->lock);
    s->busy = s->ready = ready;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

infer_status cache_swap_out(struct cache_swap *s, struct cache_table *table,
                            struct cache_swapped *w)
{
    const uint64_t n = BASE_DIV_UP(w->bytes, (uint64_t)CACHE_SWAP_PAGE);
    struct cache_swap_job *j = &s->job;
    infer_status st = INFER_OK;
    if (!n || n > (uint64_t)s->n_pages || !cache_swap_take(s, (int32_t)n, &w->page)) {
        s->n_full += n > 0;
        return INFER_ERR_LIMIT;
    }
    w->n_pages = (int32_t)n;
    cache_table_copy(table);
    occupy(s, w->page);
    j->bytes = w->bytes;
    memcpy(j->first, w->first, sizeof j->first);
    const int beside = s->has_thread && copy_lists(s, table, w->n_tokens);
    j->stream = cache_swap_stream(beside ? j->ids : table->ids, j->first, w->n_tokens, w->page);
    j->released = j->stream.place;
    if (beside)
        begin(s);
    else
        st = write_now(s);
    hand_over(s, beside);
    if (st != INFER_OK) {
        cache_swap_give(s, w->page, w->n_pages);
        w->n_pages = 0;
    }
    return st;
}
