/* Writing: checked, appended to the log, applied to the part that grows, shown to readers in one
 * moment, and only then waited for until it is on the disk, beside other writers. */
#include "base/error.h"
#include "vector/filter.h"
#include "vector/state.h"
#include "vector/sums.h"

#include <math.h>
#include <string.h>

#define CALL_BYTES_MAX (INT64_C(1) << 30)
#define BLOCK_BYTES    (INT64_C(16) << 20) /* of vectors that are copied at a time */
#define POOL_ROWS      32                  /* fewer are not worth waking threads for */

static infer_status may_write(const struct infer_index *index)
{
    return index->read_only
               ? base_error(INFER_ERR_UNSUPPORTED, "the index was opened with read_only")
               : INFER_OK;
}

/* ----------------------------------------------------------------- publishing */

int32_t index_find_alive(const struct infer_index *index, struct base_view space,
                         struct base_view id, struct vector_part **part)
{
    for (int32_t i = index->parts->n - 1; i >= 0; i--) {
        struct vector_part *p = index->parts->part[i];
        const int32_t s = vector_ids_space(p->ids, space);
        const int32_t row = s < 0 ? -1 : vector_ids_find(p->ids, s, id, INT32_MAX);
        /* Rows behind n_rows are of the call that is asking: nothing has deleted them yet. */
        if (row >= 0 && (row >= p->n_rows || !vector_part_is_dead(p->dead, row))) {
            *part = p;
            return row;
        }
    }
    return -1;
}

size_t index_publish(struct infer_index *index, struct vector_part *part, int32_t n_rows,
                     struct part_dead *grown, const struct index_kill *kills, size_t n)
{
    size_t killed = 0;
    pthread_mutex_lock(&index->publish);
    if (part) {
        if (grown)
            part->dead = grown;
        vector_part_show(part, n_rows);
    }
    for (size_t i = 0; i < n; i++)
        killed += (size_t)vector_part_kill(kills[i].part, kills[i].row);
    index->version += killed > 0;
    pthread_mutex_unlock(&index->publish);
    return killed;
}

/* Parts of which much is deleted are for the thread in the background. */
static void poke_for(struct infer_index *index, const struct index_kill *kills, size_t n)
{
    const struct vector_part *before = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct vector_part *part = kills[i].part;
        if (part != before && part->fixed && part->n_dead > part->n_rows / INDEX_DEAD_SHARE) {
            index_poke(index);
            return;
        }
        before = part;
    }
}

/* Without `writer`: waits for the flush of what was appended up to `end`. The part is held so that
 * its log is there. */
static infer_status wait_for_disk(struct infer_index *index, struct vector_part *held, uint64_t end)
{
    infer_status st = INFER_OK;
    if (held->log && index->sync == INFER_INDEX_SYNC_CALL)
        st = vector_log_sync(held->log, end);
    vector_part_release(&held);
    return st;
}

/* -------------------------------------------------------------------- upserts */

static infer_status check_vector(const struct infer_index *index, const float *v, size_t i)
{
    const double sum = vector_sum_sizes(v, index->traits.dims);
    for (int32_t d = 0; !isfinite(sum) && d < index->traits.dims; d++)
        if (!isfinite(v[d]))
            return base_error(INFER_ERR_INVALID,
                              "record %zu: element %d of its vector is no number", i, d);
    if (sum == 0 && index->traits.metric == INFER_METRIC_COSINE)
        return base_error(
            INFER_ERR_INVALID,
            "record %zu: a vector of zeros has no direction, which the cosine compares", i);
    return INFER_OK;
}

static infer_status check_record(const struct infer_index *index, const infer_record *r, size_t i,
                                 struct index_input *in)
{
    if (!r->id || !r->vector || r->reserved[0] || r->reserved[1])
        return base_error(INFER_ERR_INVALID, "record %zu: id and vector are needed, reserved is 0",
                          i);
    const char *space = r->ns ? r->ns : "";
    in->id = (struct base_view){r->id, strnlen(r->id, VECTOR_NAME_MAX + 1)};
    in->space = (struct base_view){space, strnlen(space, VECTOR_NAME_MAX + 1)};
    in->vector = (const uint8_t *)r->vector;
    if (!in->id.size || in->id.size > VECTOR_NAME_MAX || in->space.size > VECTOR_NAME_MAX)
        return base_error(INFER_ERR_INVALID,
                          "record %zu: an id has 1 to %d bytes, a namespace up to %d", i,
                          VECTOR_NAME_MAX, VECTOR_NAME_MAX);
    infer_status st = check_vector(index, r->vector, i);
    if (st != INFER_OK || !r->metadata)
        return st;
    const size_t size =
        r->metadata_size ? r->metadata_size : strnlen(r->metadata, VECTOR_META_MAX + 1);
    in->metadata = (struct base_view){r->metadata, size};
    if (size > VECTOR_META_MAX)
        return base_error(INFER_ERR_LIMIT, "record %zu: its metadata is longer than %d bytes", i,
                          VECTOR_META_MAX);
    st = vector_meta_check(&index->alloc, r->metadata, size);
    return st == INFER_OK ? st : base_error_prefix(st, "record %zu: metadata", i);
}

static infer_status take_records(const struct infer_index *index, const infer_record *records,
                                 size_t n, struct index_input **out)
{
    const size_t vector_bytes = (size_t)index->traits.dims * sizeof(float);
    if (n > CALL_BYTES_MAX / vector_bytes)
        return base_error(INFER_ERR_LIMIT, "%zu records are more than one call takes, 1 GiB", n);
    struct index_input *inputs = base_new(&index->alloc, n, sizeof *inputs);
    infer_status st = inputs ? INFER_OK : INFER_ERR_NO_MEMORY;
    size_t bytes = n * vector_bytes;
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        st = check_record(index, &records[i], i, &inputs[i]);
        bytes += inputs[i].metadata.size + inputs[i].id.size + inputs[i].space.size + 16;
        if (st == INFER_OK && bytes > CALL_BYTES_MAX)
            st = base_error(INFER_ERR_LIMIT, "record %zu: one call takes at most 1 GiB", i);
    }
    if (st == INFER_OK)
        *out = inputs;
    else
        base_free(&index->alloc, inputs);
    return st;
}

int32_t index_is_full(const struct infer_index *index)
{
    const struct vector_part *part = index_growing(index);
    const int32_t times = index->bulk ? INDEX_BULK_FACTOR : 1;
    int32_t frozen = 0;
    if (part->n_rows / times < index->freeze_rows &&
        (!part->log || vector_log_size(part->log) / (uint64_t)times < INDEX_FREEZE_BYTES ||
         !part->n_rows))
        return 0;
    for (int32_t i = 0; i < index->parts->n - 1; i++)
        frozen += !index->parts->part[i]->fixed;
    return index->background && frozen < INDEX_FROZEN_MAX;
}

/* The part to write to, with room for what comes. */
static infer_status prepare(struct infer_index *index, const struct index_input *inputs, int32_t n,
                            struct vector_part **out, struct part_dead **grown)
{
    struct vector_part *part = index_growing(index);
    const int32_t sealed = part->sealed || part->n_rows > INT32_MAX / 2 - n;
    size_t ids = 0, spaces = 0;
    index->bulk = n >= INDEX_BULK_ROWS;
    if (sealed || index_is_full(index)) {
        infer_status st = index_rotate(index);
        if (st != INFER_OK && sealed)
            return st;
        if (st != INFER_OK)
            index_fail(index, st); /* the part that is there goes on */
        else
            index_poke(index);
        part = index_growing(index);
    }
    for (int32_t i = 0; i < n; i++) {
        ids += inputs[i].id.size;
        spaces += inputs[i].space.size;
    }
    infer_status st = vector_ids_reserve(part->ids, n, ids, spaces);
    if (st == INFER_OK)
        st = vector_part_reserve(part, part->n_rows + n, grown);
    *out = part;
    return st;
}

infer_status index_add_vectors(struct infer_index *index, struct vector_part *part,
                               const struct index_input *inputs, int32_t n)
{
    const size_t bytes = (size_t)index->traits.dims * sizeof(float);
    struct base_pool *pool = n >= POOL_ROWS ? index_pool(index, &index->write_pool) : NULL;
    int32_t first, together = (uintptr_t)inputs[0].vector % sizeof(float) == 0;
    for (int32_t i = 1; i < n && together; i++)
        together = inputs[i].vector == inputs[0].vector + (size_t)i * bytes;
    if (together)
        return vector_space_add(part->space, (const float *)(const void *)inputs[0].vector, n,
                                &first, pool);
    const int32_t step = (int32_t)BASE_MAX(1, BASE_MIN(n, BLOCK_BYTES / (int64_t)bytes));
    char *block = base_new_pages(&index->alloc, (size_t)step * bytes);
    infer_status st = block ? INFER_OK : INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < n && st == INFER_OK; i += step) {
        const int32_t some = BASE_MIN(step, n - i);
        for (int32_t k = 0; k < some; k++)
            memcpy(block + (size_t)k * bytes, inputs[i + k].vector, bytes);
        st = vector_space_add(part->space, (const float *)(const void *)block, some, &first, pool);
    }
    base_free_pages(&index->alloc, block, (size_t)step * bytes);
    return st;
}

void index_add_ids(struct infer_index *index, struct vector_part *part,
                   const struct index_input *inputs, int32_t n, struct index_kill *kills,
                   size_t *n_kills)
{
    for (int32_t i = 0; i < n; i++) {
        struct index_kill *kill = &kills[*n_kills];
        kill->row = index_find_alive(index, inputs[i].space, inputs[i].id, &kill->part);
        *n_kills += kill->row >= 0;
        vector_ids_add(part->ids, inputs[i].space, inputs[i].id);
    }
}

/* What cannot be applied is taken back in the log too. The part is sealed: its vectors and its
 * metadata may count different rows by now. */
static infer_status take_back(struct infer_index *index, struct vector_part *part, infer_status st)
{
    char why[BASE_ERROR_MAX];
    uint64_t end;
    strncpy(why, base_error_text(), sizeof why - 1);
    why[sizeof why - 1] = 0;
    part->sealed = 1;
    if (part->log && vector_log_append(part->log, INDEX_RECORD_VOID, NULL, 0, &end) != INFER_OK)
        index_fail(index,
                   base_error(INFER_ERR_IO, "a write that failed could not be taken back "
                                            "from the log: it will be there at the next opening"));
    base_error_restore(why);
    return st;
}

static infer_status write_inputs(struct infer_index *index, const struct index_input *inputs,
                                 int32_t n, struct vector_part **held, uint64_t *end)
{
    struct vector_part *part = NULL;
    struct part_dead *grown = NULL;
    size_t n_kills = 0;
    struct index_kill *kills = base_new_raw(&index->alloc, (size_t)n, sizeof *kills);
    infer_status st = kills ? prepare(index, inputs, n, &part, &grown) : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK && part->log)
        st = index_log_upsert(part->log, &index->alloc, inputs, n, index->traits.dims, end);
    if (st == INFER_OK) {
        for (int32_t i = 0; i < n && st == INFER_OK; i++)
            st = vector_meta_add(part->meta, inputs[i].metadata.data, inputs[i].metadata.size);
        if (st == INFER_OK)
            st = index_add_vectors(index, part, inputs, n);
        if (st != INFER_OK)
            st = take_back(index, part, st);
    }
    if (st == INFER_OK) {
        index_add_ids(index, part, inputs, n, kills, &n_kills);
        index_publish(index, part, part->n_rows + n, grown, kills, n_kills);
        grown = NULL;
        poke_for(index, kills, n_kills);
        *held = vector_part_retain(part);
    }
    base_free(&index->alloc, grown);
    base_free(&index->alloc, kills);
    return st;
}

infer_status vector_index_upsert(struct infer_index *index, const infer_record *records, size_t n)
{
    struct index_input *inputs = NULL;
    struct vector_part *held = NULL;
    uint64_t end = 0;
    infer_status st = may_write(index);
    if (st != INFER_OK || !n)
        return st;
    st = take_records(index, records, n, &inputs);
    if (st != INFER_OK)
        return st;
    pthread_mutex_lock(&index->writer);
    st = write_inputs(index, inputs, (int32_t)n, &held, &end);
    pthread_mutex_unlock(&index->writer);
    base_free(&index->alloc, inputs);
    if (st != INFER_OK)
        return st;
    atomic_fetch_add_explicit(&index->n_upserts, n, memory_order_relaxed);
    return wait_for_disk(index, held, end);
}

/* -------------------------------------------------------------------- deletes */

struct doomed {
    struct index_kill *kills;
    struct base_view *ids;
    size_t n;
};

/* With `writer`: logs and deletes. */
static infer_status kill_all(struct infer_index *index, struct base_view space,
                             const struct doomed *d, size_t *n_deleted, struct vector_part **held,
                             uint64_t *end)
{
    struct vector_part *part = index_growing(index);
    infer_status st = INFER_OK;
    if (!d->n)
        return INFER_OK;
    if (part->log)
        st = index_log_delete(part->log, &index->alloc, space, d->ids, (int32_t)d->n, end);
    if (st != INFER_OK)
        return st;
    *n_deleted = index_publish(index, NULL, 0, NULL, d->kills, d->n);
    atomic_fetch_add_explicit(&index->n_deletes, *n_deleted, memory_order_relaxed);
    poke_for(index, d->kills, d->n);
    *held = vector_part_retain(part);
    return INFER_OK;
}

static infer_status make_doomed(struct doomed *d, const struct base_alloc *a, size_t n)
{
    d->n = 0;
    d->kills = base_new_raw(a, n, sizeof *d->kills);
    d->ids = base_new_raw(a, n, sizeof *d->ids);
    return d->kills && d->ids ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static void release_doomed(struct doomed *d, const struct base_alloc *a)
{
    base_free(a, d->kills);
    base_free(a, d->ids);
}

infer_status vector_index_delete(struct infer_index *index, struct base_view space,
                                 const char *const *ids, size_t n, size_t *n_deleted)
{
    struct doomed d = {0};
    struct vector_part *held = NULL;
    uint64_t end = 0;
    size_t killed = 0;
    infer_status st = may_write(index);
    if (st == INFER_OK && n > INT32_MAX / 2)
        st = base_error(INFER_ERR_LIMIT, "%zu ids are more than one call takes", n);
    if (st == INFER_OK)
        st = make_doomed(&d, &index->alloc, n);
    if (st == INFER_OK) {
        pthread_mutex_lock(&index->writer);
        for (size_t i = 0; i < n; i++) {
            const struct base_view id = {ids[i], strnlen(ids[i], VECTOR_NAME_MAX + 1)};
            struct index_kill *kill = &d.kills[d.n];
            if (id.size > VECTOR_NAME_MAX)
                continue; /* no record has it */
            kill->row = index_find_alive(index, space, id, &kill->part);
            if (kill->row >= 0)
                d.ids[d.n++] = id;
        }
        st = kill_all(index, space, &d, &killed, &held, &end);
        pthread_mutex_unlock(&index->writer);
    }
    release_doomed(&d, &index->alloc);
    if (st == INFER_OK && held)
        st = wait_for_disk(index, held, end);
    if (st == INFER_OK && n_deleted)
        *n_deleted = killed;
    return st;
}

/* Rows of a part that are alive and that namespace and filter leave. */
static infer_status doom_part(struct doomed *d, const struct index_seen *seen,
                              const struct base_alloc *a, struct base_view space,
                              const struct vector_filter *filter)
{
    struct index_allowed allowed;
    struct doomed more = {0};
    infer_status st = index_allowed_find(&allowed, seen, a, &space, filter, 0);
    if (st == INFER_OK && allowed.rows.n_set)
        st = make_doomed(&more, a, d->n + (size_t)allowed.rows.n_set);
    if (st == INFER_OK && allowed.rows.n_set) {
        memcpy(more.kills, d->kills, d->n * sizeof *d->kills);
        memcpy(more.ids, d->ids, d->n * sizeof *d->ids);
        more.n = d->n;
        for (int32_t row = 0; row < seen->n_rows && st == INFER_OK; row++) {
            const uint64_t *bits = allowed.rows.bits;
            if ((bits && !(bits[row / 64] >> row % 64 & 1)) || !index_seen_alive(seen, row))
                continue;
            more.kills[more.n] = (struct index_kill){seen->part, row};
            st = vector_ids_get(seen->part->ids, row, &more.ids[more.n++]);
        }
        struct doomed before = *d;
        *d = more;
        more = before;
    }
    release_doomed(&more, a);
    index_allowed_release(&allowed, a);
    return st;
}

infer_status vector_index_delete_where(struct infer_index *index, struct base_view space,
                                       const char *filter, size_t *n_deleted)
{
    struct vector_filter *parsed = NULL;
    struct vector_part *held = NULL;
    struct index_view view;
    struct doomed d = {0};
    uint64_t end = 0;
    size_t killed = 0;
    infer_status st = may_write(index);
    if (st == INFER_OK && filter)
        st = vector_filter_parse(&parsed, &index->alloc, filter, strlen(filter));
    if (st == INFER_OK)
        st = make_doomed(&d, &index->alloc, 0);
    if (st == INFER_OK) {
        pthread_mutex_lock(&index->writer);
        st = index_view_begin(&view, index, 0);
        if (st == INFER_OK) {
            for (int32_t i = 0; i < view.n && st == INFER_OK; i++)
                st = doom_part(&d, &view.seen[i], &index->alloc, space, parsed);
            if (st == INFER_OK)
                st = kill_all(index, space, &d, &killed, &held, &end);
            index_view_end(&view);
        }
        pthread_mutex_unlock(&index->writer);
    }
    release_doomed(&d, &index->alloc);
    vector_filter_destroy(&parsed);
    if (st == INFER_OK && held)
        st = wait_for_disk(index, held, end);
    if (st == INFER_OK && n_deleted)
        *n_deleted = killed;
    return st;
}
