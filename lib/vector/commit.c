/* Commits: parts take the place of others, on the disk first and then for readers.
 *
 * What is true at any moment is what the manifest names: segments, the rows of them that are
 * deleted, and the logs from its first one on, which tell of the rest. A commit therefore writes
 * the deleted rows of all its segments into a file. Among these may be some that only a log of a
 * later record explains: that log is on the disk before the manifest is. */
#include "base/error.h"
#include "vector/state.h"

#include <string.h>

struct deleted_entry {
    uint64_t file, first_word;
    uint32_t n_rows, n_dead;
};

/* --------------------------------------------------------- what is deleted */

struct deleted {
    struct deleted_entry *entries;
    uint64_t *words;
    int32_t n;
    size_t n_words;
};

static void release_deleted(struct deleted *d, const struct base_alloc *a)
{
    base_free(a, d->entries);
    base_free(a, d->words);
}

/* With `writer`. */
static infer_status copy_deleted(struct deleted *d, const struct base_alloc *a,
                                 const struct index_parts *parts)
{
    *d = (struct deleted){0};
    for (int32_t i = 0; i < parts->n; i++)
        if (parts->part[i]->file)
            d->n_words += ((size_t)parts->part[i]->n_rows + 63) / 64;
    d->entries = base_new(a, (size_t)parts->n, sizeof *d->entries);
    d->words = base_new_raw(a, d->n_words, sizeof *d->words);
    if (!d->entries || !d->words)
        return INFER_ERR_NO_MEMORY;
    size_t at = 0;
    for (int32_t i = 0; i < parts->n; i++) {
        const struct vector_part *part = parts->part[i];
        if (!part->file)
            continue;
        d->entries[d->n++] =
            (struct deleted_entry){part->file, at, (uint32_t)part->n_rows, (uint32_t)part->n_dead};
        for (size_t w = 0; w < ((size_t)part->n_rows + 63) / 64; w++)
            d->words[at++] = atomic_load_explicit(&part->dead->words[w], memory_order_relaxed);
    }
    return INFER_OK;
}

static infer_status write_deleted(const struct infer_index *index, const struct deleted *d,
                                  uint64_t number)
{
    char path[INDEX_PATH_MAX];
    struct vector_file_writer *writer = NULL;
    infer_status st = index_path(index, "segment", number, path);
    if (st == INFER_OK)
        st = vector_file_create(&writer, &index->alloc, path, "deleted");
    if (st == INFER_OK)
        st = vector_file_section(writer, "segments", d->entries, (size_t)d->n * sizeof *d->entries);
    if (st == INFER_OK)
        st = vector_file_section(writer, "bits", d->words, d->n_words * sizeof *d->words);
    if (st == INFER_OK)
        return vector_file_finish(&writer);
    vector_file_abandon(&writer);
    return st;
}

static infer_status apply_deleted(struct vector_part *part, const struct vector_file *file,
                                  const struct deleted_entry *entries, size_t n,
                                  const uint64_t *words, size_t n_words)
{
    const size_t needed = ((size_t)part->n_rows + 63) / 64;
    for (size_t i = 0; i < n; i++) {
        if (entries[i].file != part->file)
            continue;
        if (entries[i].n_rows != (uint32_t)part->n_rows || entries[i].first_word > n_words ||
            n_words - entries[i].first_word < needed)
            break;
        for (int32_t row = 0; row < part->n_rows; row++)
            if (words[entries[i].first_word + (size_t)row / 64] >> row % 64 & 1)
                vector_part_kill(part, row);
        return INFER_OK;
    }
    return base_error(INFER_ERR_FORMAT, "%s is damaged: it does not fit segment %llu",
                      vector_file_path(file), (unsigned long long)part->file);
}

infer_status index_read_deleted(struct infer_index *index, uint64_t number)
{
    char path[INDEX_PATH_MAX];
    struct vector_file *file = NULL;
    const uint8_t *entries, *words;
    size_t entries_size, words_size;
    infer_status st = index_path(index, "segment", number, path);
    if (st == INFER_OK)
        st = vector_file_open(&file, &index->alloc, path, "deleted", 1);
    if (st == INFER_OK)
        st = vector_file_find(file, "segments", &entries, &entries_size);
    if (st == INFER_OK)
        st = vector_file_find(file, "bits", &words, &words_size);
    for (int32_t i = 0; st == INFER_OK && i < index->parts->n; i++)
        if (index->parts->part[i]->file)
            st = apply_deleted(index->parts->part[i], file, (const void *)entries,
                               entries_size / sizeof(struct deleted_entry), (const void *)words,
                               words_size / sizeof *words);
    vector_file_close(&file);
    return st;
}

/* ----------------------------------------------------------------- manifest */

infer_status index_manifest_make(struct index_manifest *m, const struct infer_index *index,
                                 const struct index_parts *parts, uint64_t deleted_file)
{
    int32_t n = 0;
    uint64_t *segments = m->segments =
        base_new(&index->alloc, (size_t)parts->n + 1, sizeof *segments);
    if (!segments)
        return INFER_ERR_NO_MEMORY;
    m->is = (struct vector_manifest){.traits = index->traits,
                                     .next_file = atomic_load(&index->next_file),
                                     .segments = segments,
                                     .fields = index->fields,
                                     .n_fields = index->n_fields};
    for (int32_t i = 0; i < parts->n; i++)
        if (parts->part[i]->file)
            segments[n++] = parts->part[i]->file;
        else if (!m->is.first_log)
            m->is.first_log = parts->part[i]->first_log;
    if (n)
        segments[n++] = deleted_file; /* the last one is no segment */
    m->is.n_segments = n;
    return INFER_OK;
}

infer_status index_commit_manifest(struct infer_index *index, const struct index_parts *parts,
                                   uint64_t deleted_file)
{
    struct index_manifest m = {0};
    infer_status st = index_manifest_make(&m, index, parts, deleted_file);
    if (st == INFER_OK)
        st = vector_folder_commit(index->folder, &m.is);
    base_free(&index->alloc, m.segments);
    return st;
}

/* Logs of parts in memory, and where they end. */
struct log_ends {
    struct vector_part **parts;
    uint64_t *ends;
    int32_t n;
};

static infer_status note_logs(struct log_ends *logs, const struct base_alloc *a,
                              const struct index_parts *parts)
{
    *logs = (struct log_ends){0};
    logs->parts = base_new(a, (size_t)parts->n, sizeof *logs->parts);
    logs->ends = base_new(a, (size_t)parts->n, sizeof *logs->ends);
    if (!logs->parts || !logs->ends)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < parts->n; i++)
        if (parts->part[i]->log) {
            logs->parts[logs->n] = parts->part[i]; /* the list holds it */
            logs->ends[logs->n++] = vector_log_size(parts->part[i]->log);
        }
    return INFER_OK;
}

static infer_status sync_logs(struct log_ends *logs, const struct base_alloc *a)
{
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < logs->n && st == INFER_OK; i++)
        st = vector_log_sync(logs->parts[i]->log, logs->ends[i]);
    base_free(a, logs->parts);
    base_free(a, logs->ends);
    return st;
}

/* ---------------------------------------------------------------- replacing */

static int32_t place_of(struct vector_part *const *old, int32_t n, const struct vector_part *part)
{
    for (int32_t i = 0; i < n; i++)
        if (old[i] == part)
            return i;
    return -1;
}

/* The list with `made` where the first of `old` was; where there is none, in front. */
static infer_status list_with(struct infer_index *index, struct vector_part *const *old, int32_t n,
                              struct vector_part *made, struct index_parts **out)
{
    const struct index_parts *now = index->parts;
    int32_t count = 0, put = !n;
    struct vector_part **list = base_new(&index->alloc, (size_t)now->n + 1, sizeof *list);
    if (!list)
        return INFER_ERR_NO_MEMORY;
    if (!n)
        list[count++] = made;
    for (int32_t i = 0; i < now->n; i++)
        if (place_of(old, n, now->part[i]) < 0) {
            list[count++] = now->part[i];
        } else if (!put++ && made) {
            list[count++] = made;
        }
    infer_status st = index_parts_make(out, &index->alloc, list, count);
    base_free(&index->alloc, list);
    return st;
}

/* With `writer`: what was deleted of the old parts since `made` was copied from them. */
static void carry_over(struct vector_part *const *old, int32_t n, uint64_t *const *gone,
                       struct vector_part *made)
{
    int32_t row = 0;
    for (int32_t p = 0; p < n; p++)
        for (int32_t i = 0; i < old[p]->n_rows && row < made->n_rows; i++) {
            if (gone && gone[p] && gone[p][i / 64] >> i % 64 & 1)
                continue;
            if (vector_part_is_dead(old[p]->dead, i))
                vector_part_kill(made, row);
            row++;
        }
}

/* With `commit`: the manifest of what will be. *deleted receives the file of deleted rows. */
static infer_status commit_files(struct infer_index *index, struct vector_part *const *old,
                                 int32_t n, uint64_t *const *gone, struct vector_part *made,
                                 uint64_t *deleted_file)
{
    struct index_parts *parts = NULL;
    struct deleted deleted = {0};
    struct log_ends logs = {0};
    pthread_mutex_lock(&index->writer);
    infer_status st = list_with(index, old, n, made, &parts);
    if (st == INFER_OK && made)
        carry_over(old, n, gone, made);
    if (st == INFER_OK)
        st = copy_deleted(&deleted, &index->alloc, parts);
    if (st == INFER_OK)
        st = note_logs(&logs, &index->alloc, parts);
    pthread_mutex_unlock(&index->writer);
    *deleted_file = atomic_fetch_add(&index->next_file, 1);
    if (st == INFER_OK && deleted.n)
        st = write_deleted(index, &deleted, *deleted_file);
    infer_status synced = sync_logs(&logs, &index->alloc);
    if (st == INFER_OK)
        st = synced;
    if (st == INFER_OK)
        st = index_commit_manifest(index, parts, *deleted_file);
    if (st != INFER_OK) { /* nothing happens where the manifest may name them all the same */
        vector_folder_drop(index->folder, "segment", *deleted_file);
        if (made)
            vector_folder_drop(index->folder, "segment", made->file);
    }
    release_deleted(&deleted, &index->alloc);
    index_parts_release(&parts);
    return st;
}

static infer_status show(struct infer_index *index, struct vector_part *const *old, int32_t n,
                         uint64_t *const *gone, struct vector_part *made)
{
    struct index_parts *parts = NULL;
    infer_status st;
    pthread_mutex_lock(&index->writer);
    st = list_with(index, old, n, made, &parts);
    if (st == INFER_OK) {
        if (made)
            carry_over(old, n, gone, made);
        index_parts_swap(index, parts);
    }
    pthread_mutex_unlock(&index->writer);
    return st;
}

infer_status index_replace(struct infer_index *index, struct vector_part *const *old, int32_t n,
                           uint64_t *const *gone, struct vector_part *made)
{
    uint64_t deleted = 0;
    infer_status st = INFER_OK;
    pthread_mutex_lock(&index->commit);
    for (int32_t i = 0; made && st == INFER_OK && i < index->n_fields; i++)
        st = vector_meta_add_field(made->meta, index->fields[i]);
    if (st == INFER_OK && index->folder)
        st = commit_files(index, old, n, gone, made, &deleted);
    /* From here on the disk has it; where memory is short for readers' list, that is tried again
     * by whoever opens the index next. */
    if (st == INFER_OK)
        st = show(index, old, n, gone, made);
    if (st == INFER_OK && index->folder) {
        for (int32_t i = 0; i < n; i++) {
            for (uint64_t log = old[i]->first_log; log && log <= old[i]->last_log; log++)
                vector_folder_drop(index->folder, "log", log);
            if (old[i]->file)
                vector_folder_drop(index->folder, "segment", old[i]->file);
        }
        if (index->deleted_file)
            vector_folder_drop(index->folder, "segment", index->deleted_file);
        index->deleted_file = deleted;
    }
    pthread_mutex_unlock(&index->commit);
    vector_part_release(&made);
    return st;
}
