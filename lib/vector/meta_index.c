/* The list of indexed fields: who holds it, and how it follows the rows. */
#include "vector/meta_index.h"

#include "base/error.h"

#include <string.h>

#define PATH_BYTES_MAX 1024

void vector_meta_index_drop(struct vector_meta_index **index)
{
    struct vector_meta_index *x = *index;
    *index = NULL;
    if (!x || atomic_fetch_sub_explicit(&x->n_holders, 1, memory_order_acq_rel) != 1)
        return;
    struct base_alloc a = x->alloc;
    for (int32_t i = 0; i < x->n; i++)
        vector_column_stack_release(&x->fields[i].stack);
    base_free(&a, x);
}

const struct vector_meta_field *vector_meta_index_field(const struct vector_meta_index *index,
                                                        struct base_view path)
{
    for (int32_t i = 0; i < index->n; i++) {
        const struct vector_meta_field *f = &index->fields[i];
        if (f->path.size == path.size && memcmp(f->path.data, path.data, path.size) == 0)
            return f;
    }
    return NULL;
}

uint64_t vector_meta_index_bytes(const struct vector_meta_index *index)
{
    uint64_t bytes = sizeof *index + (size_t)index->n * sizeof index->fields[0];
    for (int32_t i = 0; i < index->n; i++)
        for (int32_t j = 0; j < index->fields[i].stack.n; j++)
            bytes += sizeof(struct vector_column) + index->fields[i].stack.columns[j]->bytes;
    return bytes;
}

struct vector_meta_index *vector_meta_index_copy(const struct vector_meta_index *index,
                                                 const struct base_alloc *a, int32_t extra)
{
    const int32_t n = index ? index->n : 0;
    struct vector_meta_index *x =
        base_new(a, 1, sizeof *x + (size_t)(n + extra) * sizeof x->fields[0]);
    if (!x)
        return NULL;
    x->alloc = *a;
    x->n_holders = 1;
    x->end = index ? index->end : 0;
    for (x->n = 0; x->n < n; x->n++) {
        x->fields[x->n] = index->fields[x->n];
        for (int32_t j = 0; j < x->fields[x->n].stack.n; j++)
            vector_column_hold(x->fields[x->n].stack.columns[j]);
    }
    return x;
}

/* ------------------------------------------------------------------ building */

infer_status vector_meta_builder_init(struct vector_meta_builder *b, const struct base_alloc *a,
                                      const struct base_view *paths, int32_t n)
{
    *b = (struct vector_meta_builder){.alloc = *a};
    infer_status st = vector_paths_create(&b->paths, a, paths, n);
    if (st == INFER_OK && !(b->fields = base_new(a, (size_t)n, sizeof *b->fields)))
        st = INFER_ERR_NO_MEMORY;
    if (st != INFER_OK) {
        vector_meta_builder_release(b);
        return st;
    }
    for (b->n = 0; b->n < n; b->n++)
        vector_column_builder_init(&b->fields[b->n], a, 0);
    return INFER_OK;
}

void vector_meta_builder_release(struct vector_meta_builder *b)
{
    for (int32_t i = 0; i < b->n; i++)
        vector_column_builder_release(&b->fields[i]);
    base_free(&b->alloc, b->fields);
    vector_paths_destroy(&b->paths);
    *b = (struct vector_meta_builder){.alloc = b->alloc};
}

infer_status vector_meta_builder_add(struct vector_meta_builder *b, int32_t row, const char *json,
                                     size_t size)
{
    struct vector_found_value found[VECTOR_FIELDS_MAX];
    infer_status st = vector_paths_find(b->paths, json, size, found);
    for (int32_t i = 0; i < b->n && st == INFER_OK; i++)
        if (row >= b->fields[i].begin)
            st = vector_column_builder_add(&b->fields[i], row, &found[i]);
    return st;
}

static int32_t field_end(const struct vector_meta_field *field)
{
    return field->stack.n ? field->stack.columns[field->stack.n - 1]->end : 0;
}

infer_status vector_meta_index_extend(struct vector_meta_index *index,
                                      const struct vector_meta *meta, int32_t end)
{
    struct base_view paths[VECTOR_FIELDS_MAX];
    struct vector_meta_builder b;
    int32_t begin = end;
    for (int32_t i = 0; i < index->n; i++)
        paths[i] = index->fields[i].path;
    infer_status st = vector_meta_builder_init(&b, &index->alloc, paths, index->n);
    if (st != INFER_OK)
        return st;
    for (int32_t i = 0; i < index->n; i++) {
        b.fields[i].begin = field_end(&index->fields[i]);
        begin = BASE_MIN(begin, b.fields[i].begin);
    }
    for (int32_t row = begin; row < end && st == INFER_OK; row++) {
        const char *json;
        size_t size;
        st = vector_meta_text(meta, row, &json, &size);
        if (st == INFER_OK)
            st = vector_meta_builder_add(&b, row, json, size);
    }
    for (int32_t i = 0; i < index->n && st == INFER_OK; i++) {
        struct vector_column *column;
        if (field_end(&index->fields[i]) == end)
            continue;
        st = vector_column_builder_finish(&b.fields[i], end, &column);
        if (st == INFER_OK)
            st = vector_column_stack_push(&index->fields[i].stack, &index->alloc, column);
    }
    vector_meta_builder_release(&b);
    if (st == INFER_OK)
        index->end = end;
    return st;
}

infer_status vector_meta_check_path(const char *path)
{
    size_t n = strlen(path), names = 1;
    for (size_t i = 0; i < n; i++)
        names += path[i] == '.';
    if (!n || n > PATH_BYTES_MAX || names > VECTOR_NAMES_MAX)
        return base_error(INFER_ERR_INVALID,
                          "a field's path of %zu bytes and %zu names; 1 to %d bytes and at most %d "
                          "names joined by dots are expected",
                          n, names, PATH_BYTES_MAX, VECTOR_NAMES_MAX);
    return INFER_OK;
}
