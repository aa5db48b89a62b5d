/* Which steps are launched early, and what becomes of them.
 *
 * What a row in flight writes for a request that has ended by then is written into a block that may
 * be another's already. That is safe because whoever has the block now fills it later, and reads it
 * later still. Steps, forks and resizing are launched into one stream; copies between blocks and
 * the host (swap store, tiers, snapshots) go through two of their own, but each of them begins
 * behind an event that is recorded in the steps' stream when it is asked for (follow_steps() in
 * lib/device/cuda_copies.c): behind the step in flight, since whoever asks was given the block
 * after that was launched. And the steps from then on wait for what is copied in. It is safe for
 * the prefix cache because only full blocks of positions that count are kept, and a row in flight
 * is at a position behind them.
 *
 * It is not safe for recurrent state: there is one of a sequence, and a row in flight has moved it
 * on by the time that the request is forked, saved or swapped out, or that a launch which failed
 * midway is tried again. Models that have any launch no step early. */
#include "engine/ahead.h"

#include "engine/output.h"
#include "engine/pick.h"

/* Steps in a row without looking whether one of those that wait can begin: what they wait for may
 * be freed by another session. */
#define AHEAD_IN_A_ROW 8

infer_status ahead_init(struct infer_session *s)
{
    struct engine_ahead *a = &s->ahead;
    const size_t n = (size_t)s->max_requests;
    a->off = s->model->device->kind != DEVICE_CUDA || model_kv_state_bytes(s->model);
    if (s->model->device->kind != DEVICE_CUDA)
        return INFER_OK;
    a->rows = base_new(&s->alloc, n, sizeof *a->rows);
    a->source = base_new(&s->alloc, n, sizeof *a->source);
    a->picks = base_new(&s->alloc, n, sizeof *a->picks);
    return a->rows && a->source && a->picks ? INFER_OK : INFER_ERR_NO_MEMORY;
}

void ahead_release(struct infer_session *s)
{
    base_free(&s->alloc, s->ahead.rows);
    base_free(&s->alloc, s->ahead.source);
    base_free(&s->alloc, s->ahead.picks);
}

/* What is asked of a step's rows, if it is anything but the highest logits. */
static const struct model_pick *asked(const struct engine_ahead *a, int32_t n)
{
    int32_t i = 0;
    while (i < n && pick_is_best(&a->picks[i]))
        i++;
    return i < n ? a->picks : NULL;
}

void ahead_choose(struct infer_session *s)
{
    const int32_t n = s->batch.n_rows;
    struct engine_ahead *a = &s->ahead;
    s->batch.chooses = 0;
    if (s->model->device->kind != DEVICE_CUDA || n != s->n_parts || n != s->n_outputs ||
        s->batch.n_runs)
        return;
    for (int32_t i = 0; i < n; i++)
        if (!pick_by_step(s, s->outputs[i].request, s->outputs[i].position, &a->picks[i]))
            return;
    s->batch.chooses = 1;
    s->batch.picks = asked(a, n);
}

void ahead_forget(struct infer_session *s, struct infer_request *r)
{
    struct engine_ahead *a = &s->ahead;
    if (!r->row_ahead)
        return;
    a->rows[r->row_ahead - 1].request = NULL;
    a->n_live--;
    r->row_ahead = 0;
}

int ahead_take(struct infer_session *s, uint64_t now)
{
    struct engine_ahead *a = &s->ahead;
    if (!a->n_live)
        return 0;
    s->n_parts = 0;
    s->n_outputs = a->n_rows;
    for (int32_t i = 0; i < a->n_rows; i++) {
        struct infer_request *r = a->rows[i].request;
        s->outputs[i] = a->rows[i];
        s->output_rows[i] = i;
        if (!r)
            continue;
        r->row_ahead = 0;
        r->n_computed = a->rows[i].position + 1;
        r->served_ns = now;
        r->flow->served += QUEUE_OUTPUT_WEIGHT;
        s->parts[s->n_parts++] = (struct engine_part){r, 1};
    }
    s->n_decodes = s->n_rows = s->n_parts;
    s->step = a->step;
    a->n_live = 0;
    a->n_in_a_row++;
    a->n_taken++;
    return 1;
}

/* ------------------------------------------------------------------ launching */

/* Whether what it needs of the next step is the row behind its last one, whatever this step's token
 * is, if it goes on at all. */
static int goes_by_rows(const struct infer_request *r)
{
    return r->draft.kind == INFER_SPECULATION_OFF && !r->adapter;
}

/* All that compute anything are in this step: nobody is in the midst of a prompt. */
static int all_decode(const struct infer_session *s)
{
    for (int32_t i = 0; i < s->n_running; i++)
        if (request_pending(s->running[i]) > 0)
            return 0;
    return 1;
}

/* Nobody who waits could begin in the next step, as far as is known. */
static int nobody_begins(const struct infer_session *s)
{
    return !s->queue.n || (s->ahead.settled && s->ahead.n_in_a_row < AHEAD_IN_A_ROW);
}

/* The rows of the next step: of those that do not end with this one for certain. Blocks are taken
 * as far as there are any, and nobody gives way for them. */
static int add_rows(struct infer_session *s)
{
    struct engine_ahead *a = &s->ahead;
    a->n_rows = 0;
    for (int32_t i = 0; i < s->n_outputs; i++) {
        struct infer_request *r = s->outputs[i].request;
        if (!r)
            continue;
        if (!goes_by_rows(r) || (output_is_last(r) && s->queue.n))
            return 0;
        if (output_is_last(r))
            continue;
        const int32_t position = s->outputs[i].position + 1;
        if (!pick_by_step(s, r, position, &a->picks[a->n_rows]))
            return 0;
        cache_table_slide(&r->table, position);
        if (cache_table_plan(&r->table, position + 1, position + 1) != INFER_OK)
            return 0;
        a->source[a->n_rows] = i;
        a->rows[a->n_rows++] = (struct engine_output){r, position};
    }
    return a->n_rows > 0;
}

static void build(struct infer_session *s, struct model_batch *batch)
{
    const struct engine_ahead *a = &s->ahead;
    *batch = (struct model_batch){.n_rows = a->n_rows,
                                  .n_seqs = a->n_rows,
                                  .tokens = s->tokens,
                                  .seqs = s->seqs,
                                  .kv = s->kv->views,
                                  .chooses = 1,
                                  .picks = asked(a, a->n_rows),
                                  .source = a->source};
    for (int32_t i = 0; i < a->n_rows; i++) {
        const struct cache_table *table = &a->rows[i].request->table;
        const int32_t **ids = s->tables + (size_t)i * CACHE_GROUPS_MAX;
        for (int32_t g = 0; g < CACHE_GROUPS_MAX; g++)
            ids[g] = table->ids[g];
        s->tokens[i] = 0;
        s->seqs[i] = (struct model_batch_seq){
            .blocks = ids, .first_pos = a->rows[i].position, .row = i, .n_rows = 1};
    }
}

int ahead_launch(struct infer_session *s)
{
    struct engine_ahead *a = &s->ahead;
    struct model_batch batch;
    if (a->off)
        return 0;
    pthread_mutex_lock(&s->line->lock);
    int goes = !s->line->closing && !model_is_evicted(s->model) && nobody_begins(s) &&
               all_decode(s) && add_rows(s);
    pthread_mutex_unlock(&s->line->lock);
    if (!goes)
        return 0;
    build(s, &batch);
    /* A failure is found again by the step itself when its turn comes, and told then. */
    if (model_forward(&s->ws, &batch) != INFER_OK)
        return 1;
    a->step = model_step(&s->ws);
    pthread_mutex_lock(&s->line->lock);
    for (int32_t i = 0; i < a->n_rows; i++)
        a->rows[i].request->row_ahead = i + 1;
    a->n_live = a->n_rows;
    pthread_mutex_unlock(&s->line->lock);
    return 1;
}
