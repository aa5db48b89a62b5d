/* An index as a whole: opening, closing, and what it says of itself. */
#include "base/error.h"
#include "vector/card.h"
#include "vector/state.h"

#include <string.h>

/* -------------------------------------------------------------------- opening */

static void init_locks(struct infer_index *index)
{
    pthread_condattr_t clock;
    pthread_mutex_init(&index->work, NULL);
    pthread_mutex_init(&index->commit, NULL);
    pthread_mutex_init(&index->writer, NULL);
    pthread_mutex_init(&index->publish, NULL);
    pthread_mutex_init(&index->pools, NULL);
    pthread_mutex_init(&index->wake, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&index->wake_cond, &clock);
    pthread_condattr_destroy(&clock);
}

static void destroy_locks(struct infer_index *index)
{
    pthread_mutex_destroy(&index->work);
    pthread_mutex_destroy(&index->commit);
    pthread_mutex_destroy(&index->writer);
    pthread_mutex_destroy(&index->publish);
    pthread_mutex_destroy(&index->pools);
    pthread_mutex_destroy(&index->wake);
    pthread_cond_destroy(&index->wake_cond);
}

static infer_status take_traits(struct infer_index *index, const struct vector_traits *t)
{
    const char *model = t->model ? t->model : "", *pooling = t->pooling ? t->pooling : "";
    index->traits = *t;
    index->traits.model = base_arena_strdup(&index->texts, model, strlen(model));
    index->traits.pooling = base_arena_strdup(&index->texts, pooling, strlen(pooling));
    index->space.shape = (struct vector_shape){t->dims, t->metric, t->type};
    index->space.degree = t->degree;
    index->space.effort = t->effort;
    return index->traits.model && index->traits.pooling ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static int32_t differ(const char *there, const char *given)
{
    return *there && given && *given && strcmp(there, given) != 0;
}

/* Where both name a model, all of the stamp must agree; of a length of 1 the cosine knows nothing.
 */
static infer_status check_stamp(const struct vector_traits *there,
                                const struct vector_traits *given)
{
    if (differ(there->model, given->model) ||
        (*there->model && given->model && *given->model && differ(there->pooling, given->pooling)))
        return base_error(INFER_ERR_INVALID,
                          "the index is of the embedding model %s, pooling \"%s\", not of %s, "
                          "pooling \"%s\"",
                          there->model, there->pooling, given->model,
                          given->pooling ? given->pooling : "");
    if (*there->model && given->model && *given->model && there->metric != INFER_METRIC_COSINE &&
        there->normalized != given->normalized)
        return base_error(INFER_ERR_INVALID, "the index is of vectors that are%s normalized",
                          there->normalized ? "" : " not");
    return INFER_OK;
}

/* Whether what is there is what the caller describes; dims 0 describes nothing. */
static infer_status check_traits(const struct vector_traits *there,
                                 const struct vector_traits *given)
{
    if (there->dims < 1 || there->dims > VECTOR_DIMS_MAX || there->metric < INFER_METRIC_COSINE ||
        there->metric > INFER_METRIC_L2 || there->type < INFER_INDEX_F32 ||
        there->type > INFER_INDEX_BINARY || there->degree < 4 || there->degree > 128 ||
        there->effort < 8 || there->effort > 4096)
        return base_error(INFER_ERR_FORMAT,
                          "the manifest describes no index: %d dims, metric %d, "
                          "type %d, degree %d, effort %d",
                          there->dims, there->metric, there->type, there->degree, there->effort);
    if (given->dims && (given->dims != there->dims || given->metric != there->metric ||
                        given->type != there->type))
        return base_error(INFER_ERR_INVALID,
                          "the index has %d dims, metric %d and type %d, expected %d, %d and %d",
                          there->dims, there->metric, there->type, given->dims, given->metric,
                          given->type);
    return check_stamp(there, given);
}

static infer_status open_folder(struct infer_index *index, const struct vector_index_config *c)
{
    const struct vector_manifest *manifest = NULL;
    const struct vector_manifest made = {
        .traits = c->traits, .generation = 1, .next_file = 2, .first_log = 1};
    /* Without dims none can be made. */
    infer_status st = vector_folder_open(&index->folder, &index->alloc, c->path, c->read_only,
                                         c->must_exist || !c->traits.dims, &made, &manifest);
    if (st == INFER_OK)
        st = check_traits(&manifest->traits, &c->traits);
    if (st == INFER_OK)
        st = take_traits(index, &manifest->traits);
    return st == INFER_OK ? vector_folder_load(index->folder, index_load, index) : st;
}

static infer_status open_memory(struct infer_index *index, const struct vector_index_config *c)
{
    struct vector_part *part = NULL;
    infer_status st = take_traits(index, &c->traits);
    if (st == INFER_OK)
        st = check_traits(&index->traits, &c->traits);
    if (st == INFER_OK)
        st = index_growing_create(&part, index);
    if (st == INFER_OK)
        st = index_parts_make(&index->parts, &index->alloc, &part, 1);
    vector_part_release(&part);
    return st;
}

infer_status vector_index_open(struct infer_index **out, const struct vector_index_config *c)
{
    struct infer_index *index = base_new(c->alloc, 1, sizeof *index);
    if (!index)
        return INFER_ERR_NO_MEMORY;
    index->alloc = *c->alloc;
    index->sync = c->sync;
    index->read_only = c->read_only;
    index->n_threads = c->n_threads;
    index->progress = c->progress;
    index->user = c->user;
    index->freeze_rows = c->freeze_rows ? c->freeze_rows : INDEX_FREEZE_ROWS;
    index->background = !c->read_only && !c->no_background;
    index->keep_rows = c->keep_rows ? c->keep_rows : INDEX_KEEP_ROWS;
    kern_init_cpu(&index->kernels, kern_cpu_flags());
    index->space = (struct vector_space_config){.alloc = &index->alloc,
                                                .kernels = &index->kernels,
                                                .no_graph = c->no_graph,
                                                .seed = INDEX_SEED};
    atomic_init(&index->next_file, 2);
    base_arena_init(&index->texts, &index->alloc);
    init_locks(index);
    infer_status st = vector_card_create(&index->card, &index->alloc, c->device, c->device_rows);
    index->space.card = index->card;
    if (st == INFER_OK)
        st = c->path ? open_folder(index, c) : open_memory(index, c);
    for (int32_t i = 0; st == INFER_OK && i < index->parts->n; i++)
        if (index->parts->part[i]->fixed)
            vector_card_keep(index->parts->part[i]->space);
    if (st == INFER_OK && index->background)
        st = index_worker_start(index);
    if (st != INFER_OK) {
        index->read_only = 1; /* what is half open is not written */
        vector_index_close(&index);
        return st;
    }
    *out = index;
    return INFER_OK;
}

void vector_index_close(struct infer_index **out)
{
    struct infer_index *index = *out;
    *out = NULL;
    if (!index)
        return;
    index_worker_stop(index);
    if (!index->read_only && index->folder) {
        /* What fails here is in the log. */
        pthread_mutex_lock(&index->work);
        (void)index_flush(index, index_growing(index)->n_rows >= index->keep_rows);
        pthread_mutex_unlock(&index->work);
    }
    index_parts_release(&index->parts);
    vector_card_destroy(&index->card);
    vector_folder_close(&index->folder);
    for (int32_t i = 0; i < index->n_scratches; i++)
        vector_scratch_destroy(&index->scratches[i]);
    base_pool_destroy(&index->query_pool);
    base_pool_destroy(&index->write_pool);
    base_pool_destroy(&index->work_pool);
    destroy_locks(index);
    base_arena_release(&index->texts);
    const struct base_alloc a = index->alloc;
    base_free(&a, index);
}

/* --------------------------------------------------------------- what it says */

/* Namespaces with a record, over all parts. */
static infer_status count_spaces(const struct infer_index *index, int32_t *n)
{
    struct vector_names *names = NULL;
    infer_status st = vector_names_create(&names, &index->alloc);
    *n = 0;
    for (int32_t p = 0; p < index->parts->n && st == INFER_OK; p++) {
        const struct vector_ids *ids = index->parts->part[p]->ids;
        for (int32_t s = 0; s < vector_ids_spaces(ids) && st == INFER_OK; s++) {
            const struct base_view name = vector_ids_space_name(ids, s);
            if (atomic_load(vector_ids_alive(ids, s)) <= 0 ||
                vector_names_find(names, 0, name, INT32_MAX) >= 0)
                continue;
            st = vector_names_reserve(names, 1, name.size);
            if (st == INFER_OK)
                *n = vector_names_add(names, 0, name) + 1;
        }
    }
    vector_names_destroy(&names);
    return st;
}

static void count_part(struct vector_counts *c, const struct vector_part *part)
{
    c->n_records += (uint64_t)(part->n_rows - part->n_dead);
    c->n_deleted += (uint64_t)part->n_dead;
    c->memory_bytes += vector_space_bytes(part->space) + vector_meta_bytes(part->meta) +
                       vector_ids_bytes(part->ids) +
                       (uint64_t)part->dead->n_words * sizeof(uint64_t);
    if (part->mapped) {
        c->mapped_bytes += vector_file_size(part->mapped);
        c->file_bytes += vector_file_size(part->mapped);
    }
    c->device_bytes += vector_card_bytes(part->space);
    if (vector_card_bytes(part->space))
        c->n_on_device += (uint64_t)(part->n_rows - part->n_dead);
    if (part->log) {
        c->log_bytes += vector_log_size(part->log);
        c->file_bytes += vector_log_size(part->log);
    }
}

infer_status vector_index_counts(struct infer_index *index, struct vector_counts *out)
{
    struct vector_counts c = {.traits = index->traits,
                              .read_only = index->read_only,
                              .n_queries = atomic_load(&index->n_queries),
                              .n_upserts = atomic_load(&index->n_upserts),
                              .n_deletes = atomic_load(&index->n_deletes),
                              .n_compactions = atomic_load(&index->n_compactions),
                              .memory_bytes = sizeof *index,
                              .device_failure = vector_card_failure(index->card)};
    pthread_mutex_lock(&index->writer);
    for (int32_t i = 0; i < index->parts->n; i++)
        count_part(&c, index->parts->part[i]);
    c.n_parts = index->parts->n;
    infer_status st = count_spaces(index, &c.n_spaces);
    pthread_mutex_lock(&index->publish);
    c.failure = index->failure;
    pthread_mutex_unlock(&index->publish);
    pthread_mutex_unlock(&index->writer);
    if (st == INFER_OK)
        *out = c;
    return st;
}

const struct base_alloc *vector_index_alloc(const struct infer_index *index)
{
    return &index->alloc;
}

infer_status vector_index_check_stamp(const struct infer_index *index,
                                      const struct vector_traits *given)
{
    return check_stamp(&index->traits, given);
}
