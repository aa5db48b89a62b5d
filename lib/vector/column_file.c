/* Columns as sections of a file: a head of 16 numbers, then the arrays as they are in memory. */
#include "vector/column.h"

#include "base/error.h"

#include <string.h>

#define FORMAT 1
#define HEAD   16 /* numbers of 64 bits */

enum { AT_FORMAT, AT_ROWS, AT_MANY, AT_PRESENT, AT_PLACES, AT_TEXT_BYTES, AT_FIRST };

struct array {
    void *pointer; /* to the array's */
    uint64_t n, bytes;
};

/* In the order of the file, where each is aligned because those before are. */
static int arrays_of(struct vector_column *c, struct array out[7])
{
    const uint64_t *first = c->first;
    const uint64_t n_numbers = first[VECTOR_NUMBER + 1] - first[VECTOR_NUMBER];
    const uint64_t n_texts = first[VECTOR_STRING + 1] - first[VECTOR_STRING];
    const struct array all[7] = {
        {&c->present, ((uint64_t)c->end + 63) / 64, 8},
        {&c->starts, first[VECTOR_KINDS] + 1, 8},
        {&c->text_ends, n_texts, 8},
        {&c->reals, n_numbers, 8},
        {&c->rows, c->n_places, sizeof *c->rows},
        {&c->rests, n_numbers, sizeof *c->rests},
        {&c->text, c->text_bytes, 1},
    };
    memcpy(out, all, sizeof all);
    return 7;
}

static infer_status append(struct vector_file_writer *w, const struct array *array)
{
    const void *data;
    memcpy(&data, array->pointer, sizeof data);
    return vector_file_append(w, data, (size_t)(array->n * array->bytes));
}

infer_status vector_column_write(const struct vector_column *column, struct vector_file_writer *w,
                                 const char *name)
{
    struct vector_column c = *column;
    struct array arrays[7];
    uint64_t head[HEAD] = {FORMAT,     (uint64_t)c.end, (uint64_t)c.many, (uint64_t)c.n_present,
                           c.n_places, c.text_bytes};
    memcpy(head + AT_FIRST, c.first, sizeof c.first);
    infer_status st = vector_file_begin(w, name, 64);
    if (st == INFER_OK)
        st = vector_file_append(w, head, sizeof head);
    int n = arrays_of(&c, arrays);
    for (int i = 0; i < n && st == INFER_OK; i++)
        st = append(w, &arrays[i]);
    return st;
}

static int head_is_sound(const uint64_t *head, int32_t n_rows, size_t size)
{
    const uint64_t *first = head + AT_FIRST;
    if (head[AT_ROWS] != (uint64_t)n_rows || head[AT_MANY] > 1 ||
        head[AT_PRESENT] > (uint64_t)n_rows || head[AT_PLACES] > size ||
        head[AT_TEXT_BYTES] > size || first[0] || first[VECTOR_KINDS] > size)
        return 0;
    for (int32_t kind = 0; kind < VECTOR_KINDS; kind++)
        if (first[kind] > first[kind + 1] ||
            (kind < VECTOR_NUMBER && first[kind + 1] - first[kind] > 1))
            return 0;
    return 1;
}

/* Points the arrays into the section, which they must fill exactly. */
static int place_arrays(struct vector_column *c, const uint8_t *data, size_t size)
{
    struct array arrays[7];
    uint64_t at = HEAD * 8;
    int n = arrays_of(c, arrays);
    for (int i = 0; i < n; i++) {
        if (at > size || arrays[i].n > (size - at) / arrays[i].bytes)
            return 0;
        const void *place = data + at;
        memcpy(arrays[i].pointer, &place, sizeof place);
        at += arrays[i].n * arrays[i].bytes;
    }
    return at == size && c->starts[0] == 0 && c->starts[c->first[VECTOR_KINDS]] == c->n_places;
}

infer_status vector_column_open(struct vector_column **out, const struct base_alloc *a,
                                const struct vector_file *file, const char *name, int32_t n_rows)
{
    const uint8_t *data;
    size_t size;
    infer_status st = vector_file_find(file, name, &data, &size);
    if (st != INFER_OK)
        return st == INFER_ERR_NOT_FOUND ? base_error(INFER_ERR_FORMAT,
                                                      "%s has no section \"%s\", which its list of "
                                                      "fields names",
                                                      vector_file_path(file), name)
                                         : st;
    const uint64_t *head = (const uint64_t *)(const void *)data;
    if (size < HEAD * 8 || head[AT_FORMAT] != FORMAT || !head_is_sound(head, n_rows, size))
        return base_error(INFER_ERR_FORMAT,
                          "the head of section \"%s\" of %s is no index of a field over %d rows",
                          name, vector_file_path(file), n_rows);
    struct vector_column *c = base_new(a, 1, sizeof *c);
    if (!c)
        return INFER_ERR_NO_MEMORY;
    c->alloc = *a;
    c->n_holders = 1;
    c->end = n_rows;
    c->many = (int32_t)head[AT_MANY];
    c->n_present = (int32_t)head[AT_PRESENT];
    c->n_places = head[AT_PLACES];
    c->text_bytes = head[AT_TEXT_BYTES];
    memcpy(c->first, head + AT_FIRST, sizeof c->first);
    if (!place_arrays(c, data, size)) {
        vector_column_drop(&c);
        return base_error(INFER_ERR_FORMAT,
                          "section \"%s\" of %s has %zu bytes, which is not what its head says",
                          name, vector_file_path(file), size);
    }
    *out = c;
    return INFER_OK;
}
