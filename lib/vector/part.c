/* Parts: what is made, opened, written and counted of one. */
#include "vector/part.h"

#include "base/error.h"

#include <string.h>

static struct part_dead *dead_create(const struct base_alloc *a, int64_t n_words)
{
    const size_t n = (size_t)BASE_MIN(n_words, INT32_MAX / 64);
    struct part_dead *dead = base_new(a, 1, sizeof *dead + n * sizeof dead->words[0]);
    if (dead)
        dead->n_words = (int32_t)n;
    return dead;
}

static void dead_destroy(const struct base_alloc *a, struct part_dead *dead)
{
    for (struct part_dead *before; dead; dead = before) {
        before = dead->before;
        base_free(a, dead);
    }
}

infer_status vector_part_make(struct vector_part **out, const struct base_alloc *a,
                              struct vector_space *space, struct vector_meta *meta,
                              struct vector_ids *ids, struct vector_file *mapped)
{
    struct vector_part *part = base_new(a, 1, sizeof *part);
    if (part) {
        *part = (struct vector_part){.alloc = *a,
                                     .mapped = mapped,
                                     .space = space,
                                     .meta = meta,
                                     .ids = ids,
                                     .n_rows = vector_ids_size(ids)};
        atomic_init(&part->refs, 1);
        part->dead = dead_create(a, ((int64_t)part->n_rows + 63) / 64 + 1);
        if (part->dead) {
            *out = part;
            return INFER_OK;
        }
        vector_part_release(&part);
        return INFER_ERR_NO_MEMORY;
    }
    vector_space_destroy(&space);
    vector_meta_destroy(&meta);
    vector_ids_destroy(&ids);
    vector_file_close(&mapped);
    return INFER_ERR_NO_MEMORY;
}

infer_status vector_part_open(struct vector_part **out, const struct vector_space_config *config,
                              const char *path, uint64_t number, uint64_t verify_bytes)
{
    struct vector_file *file = NULL;
    struct vector_space *space = NULL;
    struct vector_meta *meta = NULL;
    struct vector_ids *ids = NULL;
    infer_status st = vector_file_open(&file, config->alloc, path, "segment", 0);
    if (st == INFER_OK && vector_file_size(file) <= verify_bytes)
        st = vector_file_verify(file);
    if (st == INFER_OK)
        st = vector_ids_open(&ids, config->alloc, file);
    if (st == INFER_OK)
        st = vector_space_open(&space, config, file);
    if (st == INFER_OK)
        st = vector_meta_open(&meta, config->alloc, file);
    if (st == INFER_OK && (vector_space_size(space) < vector_ids_size(ids) ||
                           vector_meta_size(meta) < vector_ids_size(ids)))
        st = base_error(INFER_ERR_FORMAT,
                        "%s is damaged: it has %d ids, %d vectors and metadata "
                        "of %d records",
                        path, vector_ids_size(ids), vector_space_size(space),
                        vector_meta_size(meta));
    if (st != INFER_OK) {
        vector_space_destroy(&space);
        vector_meta_destroy(&meta);
        vector_ids_destroy(&ids);
        vector_file_close(&file);
        return st;
    }
    st = vector_part_make(out, config->alloc, space, meta, ids, file);
    if (st == INFER_OK) {
        (*out)->file = number;
        (*out)->fixed = 1;
    }
    return st;
}

struct vector_part *vector_part_retain(struct vector_part *part)
{
    atomic_fetch_add_explicit(&part->refs, 1, memory_order_relaxed);
    return part;
}

void vector_part_release(struct vector_part **part)
{
    struct vector_part *p = *part;
    *part = NULL;
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) > 1)
        return;
    vector_log_close(&p->log);
    vector_space_destroy(&p->space);
    vector_meta_destroy(&p->meta);
    vector_ids_destroy(&p->ids);
    vector_file_close(&p->mapped);
    dead_destroy(&p->alloc, p->dead);
    base_free(&p->alloc, p->old_logs);
    base_free(&p->alloc, p);
}

/* -------------------------------------------------------------- deleted rows */

infer_status vector_part_reserve(struct vector_part *part, int32_t n_rows, struct part_dead **grown)
{
    const int64_t needed = ((int64_t)n_rows + 63) / 64;
    *grown = NULL;
    if (part->dead->n_words >= needed)
        return INFER_OK;
    struct part_dead *dead = dead_create(&part->alloc, 2 * needed);
    if (!dead)
        return INFER_ERR_NO_MEMORY;
    for (int32_t i = 0; i < part->dead->n_words; i++)
        atomic_init(&dead->words[i],
                    atomic_load_explicit(&part->dead->words[i], memory_order_relaxed));
    dead->before = part->dead;
    *grown = dead;
    return INFER_OK;
}

int32_t vector_part_kill(struct vector_part *part, int32_t row)
{
    const uint64_t bit = UINT64_C(1) << row % 64;
    _Atomic uint64_t *word = &part->dead->words[row / 64];
    if (atomic_load_explicit(word, memory_order_relaxed) & bit)
        return 0;
    atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
    atomic_fetch_sub_explicit(vector_ids_alive(part->ids, vector_ids_space_of(part->ids, row)), 1,
                              memory_order_relaxed);
    part->n_dead++;
    return 1;
}

void vector_part_show(struct vector_part *part, int32_t n_rows)
{
    for (; part->n_rows < n_rows; part->n_rows++)
        atomic_fetch_add_explicit(
            vector_ids_alive(part->ids, vector_ids_space_of(part->ids, part->n_rows)), 1,
            memory_order_relaxed);
}

/* --------------------------------------------------------------------- files */

infer_status vector_part_write(const struct vector_part *part, int32_t n_rows, const char *path,
                               const char *const *fields, int32_t n_fields)
{
    const struct base_alloc *a = &part->alloc;
    const struct vector_ids_source from = {part->ids, NULL, n_rows};
    const struct vector_meta_source meta = {part->meta, NULL, n_rows};
    struct vector_file_writer *writer = NULL;
    struct vector_ids *ids = NULL;
    infer_status st = vector_ids_merge(&ids, a, &from, 1);
    if (st == INFER_OK)
        st = vector_file_create(&writer, a, path, "segment");
    if (st == INFER_OK)
        st = vector_ids_write(ids, writer);
    if (st == INFER_OK)
        st = vector_meta_write(&meta, 1, a, fields, n_fields, writer);
    if (st == INFER_OK)
        st = vector_space_write(part->space, writer);
    vector_ids_destroy(&ids);
    if (st == INFER_OK)
        return vector_file_finish(&writer);
    vector_file_abandon(&writer);
    return st;
}
