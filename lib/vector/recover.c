/* Opening: the segments that the manifest names, what is deleted of them, and the logs from its
 * first one on, whose rows are put into one part that grows. */
#include "base/error.h"
#include "vector/state.h"

#include <string.h>

#define LOGS_MAX    4096
#define REPLAY_ROWS 2048                /* vectors that are put into the graph together */
#define REPLAY_MOST (INT64_C(32) << 20) /* bytes of them */

struct replay {
    struct infer_index *index;
    struct vector_part *part;
    struct index_kill *kills;
    size_t n_kills, room_kills;
    float *vectors; /* rows that have an id, but no vector yet */
    int32_t n_waiting, room;
    uint8_t *record; /* the last one: the next may take it back */
    size_t record_size, record_room;
    uint32_t record_type;
    int32_t log_at, n_logs;
};

/* ------------------------------------------------------------------- applying */

static infer_status flush(struct replay *r)
{
    int32_t first;
    if (!r->n_waiting)
        return INFER_OK;
    infer_status st =
        vector_space_add(r->part->space, r->vectors, r->n_waiting, &first,
                         r->n_waiting > 1 ? index_pool(r->index, &r->index->write_pool) : NULL);
    if (st == INFER_OK)
        r->n_waiting = 0;
    return st;
}

static infer_status room_for_kills(struct replay *r, int32_t n)
{
    if (r->room_kills >= (size_t)n)
        return INFER_OK;
    base_free(&r->index->alloc, r->kills);
    r->room_kills = (size_t)n;
    r->kills = base_new_raw(&r->index->alloc, r->room_kills, sizeof *r->kills);
    if (!r->kills)
        r->room_kills = 0;
    return r->kills ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static infer_status check_metadata(const struct infer_index *index, const struct index_input *in)
{
    if (!in->metadata.size)
        return INFER_OK;
    if (in->metadata.size > VECTOR_META_MAX)
        return base_error(INFER_ERR_FORMAT, "a record of the log has too much metadata");
    return vector_meta_check(&index->alloc, in->metadata.data, in->metadata.size);
}

static infer_status upsert(struct replay *r, const struct index_input *inputs, int32_t n)
{
    struct infer_index *index = r->index;
    struct part_dead *grown = NULL;
    size_t ids = 0, spaces = 0;
    infer_status st = room_for_kills(r, n);
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        ids += inputs[i].id.size;
        spaces += inputs[i].space.size;
        st = check_metadata(index, &inputs[i]);
    }
    if (st == INFER_OK)
        st = vector_ids_reserve(r->part->ids, n, ids, spaces);
    for (int32_t i = 0; i < n && st == INFER_OK; i++) {
        st = vector_meta_add(r->part->meta, inputs[i].metadata.data, inputs[i].metadata.size);
        if (st == INFER_OK) {
            memcpy(r->vectors + (size_t)r->n_waiting * (size_t)index->traits.dims, inputs[i].vector,
                   (size_t)index->traits.dims * sizeof(float));
            if (++r->n_waiting == r->room)
                st = flush(r);
        }
    }
    if (st == INFER_OK)
        st = vector_part_reserve(r->part, r->part->n_rows + n, &grown);
    if (st != INFER_OK)
        return st;
    r->n_kills = 0;
    index_add_ids(index, r->part, inputs, n, r->kills, &r->n_kills);
    index_publish(index, r->part, r->part->n_rows + n, grown, r->kills, r->n_kills);
    return INFER_OK;
}

static infer_status delete (struct replay *r, struct base_view space, const struct base_view *ids,
                            int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        struct index_kill kill;
        kill.row = index_find_alive(r->index, space, ids[i], &kill.part);
        if (kill.row >= 0)
            index_publish(r->index, NULL, 0, NULL, &kill, 1);
    }
    return INFER_OK;
}

static infer_status apply(struct replay *r)
{
    const struct base_alloc *a = &r->index->alloc;
    struct index_input *inputs = NULL;
    struct base_view space, *ids = NULL;
    int32_t n = 0;
    infer_status st = INFER_OK;
    if (r->record_type == INDEX_RECORD_UPSERT) {
        st = index_read_upsert(a, r->record, r->record_size, r->index->traits.dims, &inputs, &n);
        if (st == INFER_OK)
            st = upsert(r, inputs, n);
        base_free(a, inputs);
    } else if (r->record_type == INDEX_RECORD_DELETE) {
        st = index_read_delete(a, r->record, r->record_size, &space, &ids, &n);
        if (st == INFER_OK)
            st = delete (r, space, ids, n);
        base_free(a, ids);
    }
    r->record_type = 0;
    return st;
}

/* A record is applied when the next one is there, which may take it back. */
static infer_status take_record(uint32_t type, const uint8_t *data, size_t size, void *user)
{
    struct replay *r = user;
    const struct base_alloc *a = &r->index->alloc;
    if (type == INDEX_RECORD_VOID) {
        r->record_type = 0;
        return INFER_OK;
    }
    if (type != INDEX_RECORD_UPSERT && type != INDEX_RECORD_DELETE)
        return base_error(INFER_ERR_FORMAT, "the log has a record of type %u, which is not known",
                          (unsigned)type);
    infer_status st = apply(r);
    if (st != INFER_OK)
        return st;
    if (size > r->record_room) {
        base_free(a, r->record);
        r->record_room = 0;
        r->record = base_new_raw(a, size, 1);
        if (!r->record)
            return INFER_ERR_NO_MEMORY;
        r->record_room = size;
    }
    memcpy(r->record, data, size);
    r->record_size = size;
    r->record_type = type;
    if (r->index->progress && r->n_logs &&
        r->index->progress((double)r->log_at / r->n_logs, "reading", r->index->user) != 0)
        return base_error(INFER_ERR_CANCELLED, "opening was cancelled");
    return INFER_OK;
}

/* --------------------------------------------------------------------- files */

static infer_status open_segments(struct infer_index *index, const struct vector_manifest *m,
                                  struct vector_part **list, int32_t *n)
{
    char path[INDEX_PATH_MAX];
    infer_status st = INFER_OK;
    for (int32_t i = 0; i + 1 < m->n_segments && st == INFER_OK; i++) {
        st = index_path(index, "segment", m->segments[i], path);
        if (st == INFER_OK)
            st =
                vector_part_open(&list[i], &index->space, path, m->segments[i], INDEX_VERIFY_BYTES);
        if (st == INFER_OK)
            *n = i + 1;
        for (int32_t f = 0; f < index->n_fields && st == INFER_OK; f++)
            st = vector_meta_add_field(list[i]->meta, index->fields[f]);
    }
    return st;
}

static infer_status replay_logs(struct replay *r, const struct vector_manifest *m)
{
    struct infer_index *index = r->index;
    char path[INDEX_PATH_MAX];
    uint64_t *numbers = base_new(&index->alloc, LOGS_MAX, sizeof *numbers);
    infer_status st = numbers ? vector_folder_logs(index->folder, numbers, &r->n_logs, LOGS_MAX)
                              : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK && !r->n_logs)
        numbers[r->n_logs++] = m->first_log;
    if (st == INFER_OK) {
        r->part->old_logs = base_new(&index->alloc, (size_t)r->n_logs, sizeof(struct part_log));
        st = r->part->old_logs ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    for (r->log_at = 0; r->log_at < r->n_logs && st == INFER_OK; r->log_at++) {
        struct vector_log *log = NULL;
        const uint64_t number = numbers[r->log_at];
        st = index_path(index, "log", number, path);
        if (st == INFER_OK)
            st = vector_log_open(&log, &index->alloc, path, index->read_only, take_record, r);
        if (st == INFER_OK)
            st = apply(r);
        if (st == INFER_OK && r->log_at + 1 < r->n_logs)
            r->part->old_logs[r->part->n_old_logs++] =
                (struct part_log){number, vector_log_size(log)};
        if (st == INFER_OK && r->log_at + 1 == r->n_logs) { /* it goes on */
            r->part->log = log;
            log = NULL;
        }
        vector_log_close(&log);
        r->part->last_log = number;
        if (r->log_at == 0)
            r->part->first_log = BASE_MIN(number, m->first_log);
        if (number >= atomic_load(&index->next_file))
            atomic_store(&index->next_file, number + 1);
    }
    if (st == INFER_OK)
        st = flush(r);
    base_free(&index->alloc, numbers);
    return st;
}

static infer_status replay(struct infer_index *index, const struct vector_manifest *m)
{
    const int64_t bytes = (int64_t)index->traits.dims * (int64_t)sizeof(float);
    struct replay r = {.index = index, .part = index_growing(index)};
    r.room = (int32_t)BASE_MAX(1, BASE_MIN(REPLAY_ROWS, REPLAY_MOST / bytes));
    r.vectors = base_new_raw(&index->alloc, (size_t)r.room, (size_t)bytes);
    infer_status st = r.vectors ? replay_logs(&r, m) : INFER_ERR_NO_MEMORY;
    base_free(&index->alloc, r.vectors);
    base_free(&index->alloc, r.kills);
    base_free(&index->alloc, r.record);
    return st;
}

static infer_status take_fields(struct infer_index *index, const struct vector_manifest *m)
{
    if (m->n_fields > VECTOR_FIELDS_MAX)
        return base_error(INFER_ERR_FORMAT, "the manifest names %d fields, at most %d", m->n_fields,
                          VECTOR_FIELDS_MAX);
    for (index->n_fields = 0; index->n_fields < m->n_fields; index->n_fields++) {
        const char *name = m->fields[index->n_fields];
        index->fields[index->n_fields] = base_arena_strdup(&index->texts, name, strlen(name));
        if (!index->fields[index->n_fields])
            return INFER_ERR_NO_MEMORY;
    }
    return INFER_OK;
}

infer_status index_load(const struct vector_manifest *m, void *user)
{
    struct infer_index *index = user;
    struct index_parts *parts = NULL;
    int32_t n = 0;
    struct vector_part **list = base_new(&index->alloc, (size_t)m->n_segments + 1, sizeof *list);
    if (!list)
        return INFER_ERR_NO_MEMORY;
    infer_status st = take_fields(index, m);
    if (st == INFER_OK)
        st = open_segments(index, m, list, &n);
    if (st == INFER_OK)
        st = index_growing_create(&list[n], index);
    if (st == INFER_OK)
        st = index_parts_make(&parts, &index->alloc, list, n + 1);
    for (int32_t i = 0; i <= n; i++)
        vector_part_release(&list[i]);
    base_free(&index->alloc, list);
    if (st != INFER_OK)
        return st;
    index_parts_swap(index, parts);
    if (atomic_load(&index->next_file) < m->next_file)
        atomic_store(&index->next_file, m->next_file);
    index->deleted_file = m->n_segments ? m->segments[m->n_segments - 1] : 0;
    if (m->n_segments)
        st = index_read_deleted(index, index->deleted_file);
    return st == INFER_OK ? replay(index, m) : st;
}
