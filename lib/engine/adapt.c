/* Memory and order of requests with adapters. A session that never sees one has none of it: the
 * first request of a larger rank allocates when it is submitted, and the next step takes that
 * over, so that no step allocates. */
#include "engine/adapt.h"

#include <string.h>

/* Ranks are planned in such units, so that a few small adapters do not each allocate. */
#define RANK_UNIT 16

infer_status adapt_reserve(struct infer_session *s, const struct infer_adapter *adapter)
{
    struct device_buffer memory;
    if (!adapter)
        return INFER_OK;
    int32_t rank = BASE_ALIGN_UP(adapter->max_rank, RANK_UNIT);
    pthread_mutex_lock(&s->line->lock);
    int enough = s->adapt.rank >= rank;
    pthread_mutex_unlock(&s->line->lock);
    if (enough)
        return INFER_OK;
    infer_status st =
        device_buffer_alloc(s->model->device, DEVICE_WORKSPACE,
                            model_workspace_adapt_bytes(&s->ws, s->max_requests, rank), &memory);
    if (st != INFER_OK)
        return st;
    pthread_mutex_lock(&s->line->lock);
    if (s->adapt.rank < rank) { /* nobody was faster */
        struct device_buffer unused = s->adapt.spare;
        s->adapt.spare = memory;
        s->adapt.rank = rank;
        memory = unused;
    }
    pthread_mutex_unlock(&s->line->lock);
    device_buffer_free(&memory);
    return INFER_OK;
}

void adapt_begin_step(struct infer_session *s)
{
    if (!s->adapt.spare.data)
        return;
    device_buffer_free(&s->adapt.memory);
    s->adapt.memory = s->adapt.spare;
    s->adapt.spare = (struct device_buffer){0};
    model_workspace_adapt(&s->ws, s->max_requests, s->adapt.rank, s->adapt.memory.data);
}

void adapt_release(struct infer_session *s)
{
    device_buffer_free(&s->adapt.memory);
    device_buffer_free(&s->adapt.spare);
    base_free(&s->alloc, s->adapt.parts);
    base_free(&s->alloc, s->adapt.runs);
    base_free(&s->alloc, s->adapt.scales);
}

/* ------------------------------------------------------------------- order */

static uintptr_t key_of(const struct engine_part *p)
{
    return (uintptr_t)p->request->adapter;
}

static void merge(struct engine_part *to, const struct engine_part *from, int32_t begin,
                  int32_t middle, int32_t end)
{
    for (int32_t i = begin, a = begin, b = middle; i < end; i++)
        to[i] = a < middle && (b >= end || key_of(&from[a]) <= key_of(&from[b])) ? from[a++]
                                                                                 : from[b++];
}

/* A merge sort, for it keeps the order of arrival and needs no more than an array. */
void adapt_group(struct infer_session *s)
{
    struct engine_part *from = s->parts, *to = s->adapt.parts;
    int32_t n = s->n_parts, mixed = 0;
    for (int32_t i = 1; i < n; i++)
        mixed |= key_of(&s->parts[i - 1]) > key_of(&s->parts[i]);
    for (int32_t width = 1; mixed && width < n; width *= 2) {
        for (int32_t at = 0; at < n; at += 2 * width)
            merge(to, from, at, BASE_MIN(at + width, n), BASE_MIN(at + 2 * width, n));
        struct engine_part *done = to;
        to = from;
        from = done;
    }
    s->parts = from;
    s->adapt.parts = to;
}

void adapt_add_rows(struct infer_session *s, const struct infer_request *r, int32_t n_rows)
{
    struct model_batch_run *runs = s->adapt.runs;
    int32_t n = s->batch.n_runs;
    if (!r->adapter)
        return;
    for (int32_t i = 0; i < n_rows; i++)
        s->adapt.scales[s->batch.n_rows + i] = r->adapter_scale;
    if (n && runs[n - 1].adapter == r->adapter)
        runs[n - 1].n_rows += n_rows;
    else
        runs[s->batch.n_runs++] = (struct model_batch_run){r->adapter, s->batch.n_rows, n_rows};
    s->batch.runs = runs;
    s->batch.scales = s->adapt.scales;
}
