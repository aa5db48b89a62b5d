/* What an index is asked for now and then: fields, checks, copies. */
#include "base/error.h"
#include "vector/state.h"

#include <string.h>

/* --------------------------------------------------------------------- fields */

static int32_t has_field(const struct infer_index *index, const char *path)
{
    for (int32_t i = 0; i < index->n_fields; i++)
        if (strcmp(index->fields[i], path) == 0)
            return 1;
    return 0;
}

/* With `commit`: the parts that grow, or will be written, under the writers' lock; the fixed ones,
 * which may be large, without. */
static infer_status index_field(struct infer_index *index, const char *path)
{
    struct index_view view;
    infer_status st = INFER_OK;
    pthread_mutex_lock(&index->writer);
    for (int32_t i = 0; i < index->parts->n && st == INFER_OK; i++)
        if (!index->parts->part[i]->fixed)
            st = vector_meta_add_field(index->parts->part[i]->meta, path);
    if (st == INFER_OK)
        index->fields[index->n_fields++] = path; /* of parts that begin from now on */
    if (st == INFER_OK)
        st = index_view_begin(&view, index, 0);
    pthread_mutex_unlock(&index->writer);
    if (st != INFER_OK)
        return st;
    for (int32_t i = 0; i < view.n && st == INFER_OK; i++)
        if (view.parts->part[i]->fixed)
            st = vector_meta_add_field(view.parts->part[i]->meta, path);
    index_view_end(&view);
    return st;
}

/* With `commit`. */
static infer_status commit_fields(struct infer_index *index)
{
    struct index_view view;
    infer_status st = index_view_begin(&view, index, 0);
    if (st == INFER_OK) {
        st = index_commit_manifest(index, view.parts, index->deleted_file);
        index_view_end(&view);
    }
    return st;
}

infer_status vector_index_add_field(struct infer_index *index, const char *path)
{
    infer_status st = INFER_OK;
    if (index->read_only)
        return base_error(INFER_ERR_UNSUPPORTED, "the index was opened with read_only");
    pthread_mutex_lock(&index->commit);
    const int32_t n = index->n_fields;
    if (has_field(index, path)) {
        pthread_mutex_unlock(&index->commit);
        return INFER_OK;
    }
    if (n == VECTOR_FIELDS_MAX)
        st = base_error(INFER_ERR_LIMIT, "the index has %d fields already, as many as it may", n);
    pthread_mutex_lock(&index->publish);
    char *copy = base_arena_strdup(&index->texts, path, strlen(path));
    pthread_mutex_unlock(&index->publish);
    if (st == INFER_OK)
        st = copy ? index_field(index, copy) : INFER_ERR_NO_MEMORY;
    if (st == INFER_OK && index->folder)
        st = commit_fields(index);
    pthread_mutex_lock(&index->writer);
    if (st != INFER_OK)
        index->n_fields = n;
    pthread_mutex_unlock(&index->writer);
    pthread_mutex_lock(&index->publish);
    for (int32_t i = 0; st == INFER_OK && index->folder && i < index->parts->n; i++)
        index->parts->part[i]->stale = index->parts->part[i]->fixed;
    pthread_mutex_unlock(&index->publish);
    pthread_mutex_unlock(&index->commit);
    if (st == INFER_OK)
        index_poke(index);
    return st;
}

/* --------------------------------------------------------------------- checks */

static infer_status verify_part(const struct vector_part *part)
{
    infer_status st = INFER_OK;
    if (part->mapped)
        st = vector_file_verify(part->mapped);
    if (st == INFER_OK && part->mapped)
        st = vector_ids_verify(part->ids);
    if (st == INFER_OK && part->log)
        st = vector_log_verify(part->log);
    return st;
}

static infer_status verify_deleted(struct infer_index *index)
{
    char path[INDEX_PATH_MAX];
    struct vector_file *file = NULL;
    if (!index->deleted_file)
        return INFER_OK;
    infer_status st = index_path(index, "segment", index->deleted_file, path);
    if (st == INFER_OK)
        st = vector_file_open(&file, &index->alloc, path, "deleted", 1);
    vector_file_close(&file);
    return st;
}

infer_status vector_index_verify(struct infer_index *index)
{
    struct index_view view;
    infer_status st = index_view_begin(&view, index, 0);
    if (st != INFER_OK)
        return st;
    for (int32_t i = 0; i < view.n && st == INFER_OK; i++)
        st = verify_part(view.parts->part[i]);
    index_view_end(&view);
    if (st != INFER_OK || !index->folder)
        return st;
    pthread_mutex_lock(&index->commit);
    st = vector_folder_verify(index->folder);
    if (st == INFER_OK && !index->read_only)
        st = verify_deleted(index);
    pthread_mutex_unlock(&index->commit);
    return st;
}

/* --------------------------------------------------------------------- copies */

struct copied {
    uint64_t *numbers, *bytes;
    int32_t n;
};

/* With `writer`: the logs of all parts in memory, up to here. */
static infer_status note_logs(struct copied *logs, const struct base_alloc *a,
                              const struct index_parts *parts)
{
    size_t room = 0;
    for (int32_t i = 0; i < parts->n; i++)
        room += 1 + (size_t)parts->part[i]->n_old_logs;
    logs->n = 0;
    logs->numbers = base_new(a, room, sizeof *logs->numbers);
    logs->bytes = base_new(a, room, sizeof *logs->bytes);
    if (!logs->numbers || !logs->bytes)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < parts->n; i++) {
        const struct vector_part *part = parts->part[i];
        for (int32_t k = 0; k < part->n_old_logs; k++) {
            logs->numbers[logs->n] = part->old_logs[k].number;
            logs->bytes[logs->n++] = part->old_logs[k].bytes;
        }
        if (part->log) {
            logs->numbers[logs->n] = part->last_log;
            logs->bytes[logs->n++] = vector_log_size(part->log);
        }
    }
    return INFER_OK;
}

static infer_status copy_folder(struct infer_index *index, const char *to)
{
    struct index_manifest m = {0};
    struct copied logs = {0};
    pthread_mutex_lock(&index->commit); /* nothing is removed meanwhile */
    pthread_mutex_lock(&index->writer);
    infer_status st = index_manifest_make(&m, index, index->parts, index->deleted_file);
    if (st == INFER_OK)
        st = note_logs(&logs, &index->alloc, index->parts);
    pthread_mutex_unlock(&index->writer);
    if (st == INFER_OK)
        st = vector_folder_copy(index->folder, to, &m.is, logs.numbers, logs.bytes, logs.n);
    pthread_mutex_unlock(&index->commit);
    base_free(&index->alloc, m.segments);
    base_free(&index->alloc, logs.numbers);
    base_free(&index->alloc, logs.bytes);
    return st;
}

/* An index in memory becomes one segment of a folder. */
static infer_status write_folder(struct infer_index *index, const char *to)
{
    const struct vector_index_config config = {.alloc = &index->alloc,
                                               .path = to,
                                               .traits = index->traits,
                                               .n_threads = index->n_threads,
                                               .no_background = 1};
    struct infer_index *copy = NULL;
    struct index_view view;
    infer_status st = vector_index_open(&copy, &config);
    if (st != INFER_OK)
        return st;
    pthread_mutex_lock(&index->commit);
    for (int32_t i = 0; i < index->n_fields && st == INFER_OK; i++)
        st = vector_index_add_field(copy, index->fields[i]);
    pthread_mutex_unlock(&index->commit);
    if (st == INFER_OK && (copy->parts->n > 1 || index_growing(copy)->n_rows))
        st = base_error(INFER_ERR_INVALID, "%s is there and holds an index", to);
    if (st == INFER_OK)
        st = index_view_begin(&view, index, 1);
    if (st == INFER_OK) {
        st = index_copy_into(copy, &view, index->progress, index->user);
        index_view_end(&view);
    }
    vector_index_close(&copy);
    return st;
}

infer_status vector_index_snapshot(struct infer_index *index, const char *path)
{
    return index->folder ? copy_folder(index, path) : write_folder(index, path);
}
