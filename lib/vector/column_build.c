/* Building columns: postings are sorted some thousands at a time, and the columns of them merged in
 * doublings. */
#include "vector/column.h"

#include "base/error.h"

#include <string.h>

#define BATCH_POSTINGS 8192 /* sorted at once */
#define INSERTION_MAX  8    /* shorter pieces are sorted in place */

/* ------------------------------------------------------------------ sorting */

static int compare_postings(const struct vector_posting *a, const struct vector_posting *b)
{
    int order = vector_value_compare(&a->value, &b->value);
    return order ? order : (a->row > b->row) - (a->row < b->row);
}

static void merge_postings(const struct vector_posting *a, size_t n_a,
                           const struct vector_posting *b, size_t n_b, struct vector_posting *out)
{
    while (n_a && n_b) {
        if (compare_postings(a, b) <= 0)
            *out++ = *a++, n_a--;
        else
            *out++ = *b++, n_b--;
    }
    memcpy(out, n_a ? a : b, (n_a ? n_a : n_b) * sizeof *out);
}

/* Sorts by merging; the result lies in either array. */
static struct vector_posting *sort_postings(struct vector_posting *p, struct vector_posting *other,
                                            size_t n)
{
    for (size_t begin = 0; begin < n; begin += INSERTION_MAX) {
        size_t end = BASE_MIN(begin + INSERTION_MAX, n);
        for (size_t i = begin + 1; i < end; i++) {
            struct vector_posting moved = p[i];
            size_t j = i;
            for (; j > begin && compare_postings(&moved, &p[j - 1]) < 0; j--)
                p[j] = p[j - 1];
            p[j] = moved;
        }
    }
    for (size_t width = INSERTION_MAX; width < n; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            size_t middle = BASE_MIN(begin + width, n), end = BASE_MIN(begin + 2 * width, n);
            merge_postings(p + begin, middle - begin, p + middle, end - middle, other + begin);
        }
        struct vector_posting *sorted = other;
        other = p;
        p = sorted;
    }
    return p;
}

/* ------------------------------------------------------------------ a column of postings */

/* A value behind those that are there. Kinds that it has passed are closed. */
static void add_value(struct vector_column *c, uint64_t *n_values, const struct vector_value *v)
{
    uint64_t i = (*n_values)++;
    if (v->kind == VECTOR_NUMBER) {
        uint64_t j = i - c->first[VECTOR_NUMBER];
        c->reals[j] = v->real;
        c->rests[j] = (int16_t)v->rest;
    } else if (v->kind == VECTOR_STRING) {
        if (v->text.size)
            memcpy(c->text + c->text_bytes, v->text.data, v->text.size);
        c->text_bytes += v->text.size;
        c->text_ends[i - c->first[VECTOR_STRING]] = c->text_bytes;
    }
}

static void fill(struct vector_column *c, const struct vector_posting *p, size_t n)
{
    uint64_t n_values = 0;
    int32_t kind = 0;
    for (size_t i = 0; i < n; i++) {
        int is_new = !i || vector_value_compare(&p[i - 1].value, &p[i].value) != 0;
        if (!is_new && p[i - 1].row == p[i].row)
            continue; /* an array that has a value twice */
        if (is_new) {
            while (kind < p[i].value.kind)
                c->first[++kind] = n_values;
            add_value(c, &n_values, &p[i].value);
        }
        c->rows[c->n_places++] = p[i].row;
        c->starts[n_values] = c->n_places;
    }
    while (kind < VECTOR_KINDS)
        c->first[++kind] = n_values;
}

static struct vector_column_room measure(const struct vector_posting *p, size_t n)
{
    struct vector_column_room room = {.n_places = n};
    for (size_t i = 0; i < n; i++) {
        if (i && vector_value_compare(&p[i - 1].value, &p[i].value) == 0)
            continue;
        room.n_values++;
        room.n_numbers += p[i].value.kind == VECTOR_NUMBER;
        room.n_texts += p[i].value.kind == VECTOR_STRING;
        room.text_bytes += p[i].value.kind == VECTOR_STRING ? p[i].value.text.size : 0;
    }
    return room;
}

/* Before they are sorted: they came by rows. */
static int any_row_twice(const struct vector_posting *p, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (p[i].row == p[i - 1].row)
            return 1;
    return 0;
}

/* Makes a column of what was added, of rows up to `end`. */
static infer_status flush(struct vector_column_builder *b, int32_t end)
{
    const size_t n = b->postings.size;
    struct vector_posting *sorted = b->postings.data, *other = NULL;
    int many = any_row_twice(sorted, n);
    if (n > INSERTION_MAX && !(other = base_new_pages(&b->alloc, n * sizeof *other)))
        return INFER_ERR_NO_MEMORY;
    sorted = sort_postings(sorted, other, n);
    const struct vector_column_room room = measure(sorted, n);
    struct vector_column *c = vector_column_new(&b->alloc, b->begin, end, &room);
    if (c) {
        fill(c, sorted, n);
        c->many = many;
        c->n_present = (int32_t)b->present.size;
        for (size_t i = 0; i < b->present.size; i++) {
            uint32_t at = (uint32_t)(b->present.data[i] - b->begin / 64 * 64);
            c->present[at / 64] |= UINT64_C(1) << (at % 64);
        }
    }
    base_free_pages(&b->alloc, other, n * sizeof *other);
    if (!c)
        return INFER_ERR_NO_MEMORY;
    b->begin = end;
    b->postings.size = 0;
    b->present.size = 0;
    base_arena_release(&b->decoded);
    return vector_column_stack_push(&b->stack, &b->alloc, c);
}

void vector_column_builder_init(struct vector_column_builder *b, const struct base_alloc *a,
                                int32_t begin)
{
    *b = (struct vector_column_builder){.alloc = *a, .begin = begin};
    base_arena_init(&b->decoded, a);
}

void vector_column_builder_release(struct vector_column_builder *b)
{
    base_array_release(&b->alloc, &b->postings);
    base_array_release(&b->alloc, &b->present);
    base_arena_release(&b->decoded);
    vector_column_stack_release(&b->stack);
}

static infer_status add_posting(struct vector_column_builder *b, int32_t row,
                                const struct vector_found_value *found)
{
    struct vector_posting p = {.row = row};
    int is_scalar = vector_found_scalar(found, &p.value);
    if (is_scalar < 0)
        return base_error(INFER_ERR_FORMAT, "\"%.*s\" in the metadata is no number of JSON",
                          (int)BASE_MIN(found->size, 64U), found->data);
    if (!is_scalar)
        return INFER_OK;
    if (p.value.escaped) {
        char *text = base_arena_new(&b->decoded, p.value.text.size, 1);
        if (!text)
            return INFER_ERR_NO_MEMORY;
        p.value.text = (struct base_view){text, vector_text_decode(text, p.value.text)};
        p.value.escaped = 0;
    }
    return base_array_push(&b->alloc, &b->postings, p);
}

infer_status vector_column_builder_add(struct vector_column_builder *b, int32_t row,
                                       const struct vector_found_value *found)
{
    if (found->type == VECTOR_FOUND_NOTHING)
        return INFER_OK;
    infer_status st = base_array_push(&b->alloc, &b->present, row);
    if (st != INFER_OK)
        return st;
    if (found->type == VECTOR_FOUND_ARRAY) {
        struct vector_found_value element;
        const char *at = NULL;
        int more;
        while ((more = vector_found_element(found, &at, &element)) > 0)
            if ((st = add_posting(b, row, &element)) != INFER_OK)
                return st;
        if (more < 0)
            return base_error(INFER_ERR_FORMAT, "an array in the metadata is no JSON");
    } else if ((st = add_posting(b, row, found)) != INFER_OK) {
        return st;
    }
    return b->postings.size >= BATCH_POSTINGS ? flush(b, row + 1) : INFER_OK;
}

infer_status vector_column_builder_finish(struct vector_column_builder *b, int32_t end,
                                          struct vector_column **out)
{
    struct vector_column_stack *s = &b->stack;
    infer_status st = b->begin < end || !s->n ? flush(b, end) : INFER_OK;
    while (st == INFER_OK && s->n > 1) {
        struct vector_column *merged;
        st = vector_column_merge(&merged, &b->alloc, s->columns[s->n - 2], s->columns[s->n - 1]);
        if (st == INFER_OK) {
            vector_column_drop(&s->columns[--s->n]);
            vector_column_drop(&s->columns[s->n - 1]);
            s->columns[s->n - 1] = merged;
        }
    }
    if (st == INFER_OK)
        *out = s->columns[--s->n];
    return st;
}

/* ------------------------------------------------------------------ merging */

static struct vector_value value_at(const struct vector_column *c, int32_t kind, uint64_t i)
{
    struct vector_value v = {.kind = kind};
    uint64_t j = i - c->first[kind];
    if (kind == VECTOR_NUMBER) {
        v.real = c->reals[j];
        v.rest = c->rests[j];
    } else if (kind == VECTOR_STRING) {
        uint64_t begin = j ? c->text_ends[j - 1] : 0;
        v.text = (struct base_view){c->text + begin, (size_t)(c->text_ends[j] - begin)};
    }
    return v;
}

static void copy_rows(struct vector_column *out, const struct vector_column *from, uint64_t i)
{
    uint64_t n = from->starts[i + 1] - from->starts[i];
    memcpy(out->rows + out->n_places, from->rows + from->starts[i], n * sizeof *out->rows);
    out->n_places += n;
}

static void merge_kind(struct vector_column *out, uint64_t *n_values, int32_t kind,
                       const struct vector_column *a, const struct vector_column *b)
{
    uint64_t i = a->first[kind], j = b->first[kind];
    const uint64_t end_a = a->first[kind + 1], end_b = b->first[kind + 1];
    while (i < end_a || j < end_b) {
        struct vector_value x, y;
        int order = i == end_a ? 1 : -1;
        if (i < end_a)
            x = value_at(a, kind, i);
        if (j < end_b)
            y = value_at(b, kind, j);
        if (i < end_a && j < end_b)
            order = vector_value_compare(&x, &y);
        add_value(out, n_values, order <= 0 ? &x : &y);
        if (order <= 0)
            copy_rows(out, a, i++);
        if (order >= 0)
            copy_rows(out, b, j++);
        out->starts[*n_values] = out->n_places;
    }
}

static void merge_present(struct vector_column *out, const struct vector_column *c)
{
    const int32_t from = c->begin / 64, words = (c->end + 63) / 64 - from;
    uint64_t *to = out->present + (from - out->begin / 64);
    for (int32_t i = 0; i < words; i++)
        to[i] |= c->present[i];
}

infer_status vector_column_merge(struct vector_column **out, const struct base_alloc *alloc,
                                 const struct vector_column *a, const struct vector_column *b)
{
    const struct vector_column *both[2] = {a, b};
    struct vector_column_room room = {0};
    for (int i = 0; i < 2; i++) {
        const uint64_t *first = both[i]->first;
        room.n_values += first[VECTOR_KINDS];
        room.n_numbers += first[VECTOR_NUMBER + 1] - first[VECTOR_NUMBER];
        room.n_texts += first[VECTOR_STRING + 1] - first[VECTOR_STRING];
        room.n_places += both[i]->n_places;
        room.text_bytes += both[i]->text_bytes;
    }
    struct vector_column *c = vector_column_new(alloc, a->begin, b->end, &room);
    if (!c)
        return INFER_ERR_NO_MEMORY;
    uint64_t n_values = 0;
    for (int32_t kind = 0; kind < VECTOR_KINDS; kind++) {
        c->first[kind] = n_values;
        merge_kind(c, &n_values, kind, a, b);
    }
    c->first[VECTOR_KINDS] = n_values;
    c->many = a->many || b->many;
    c->n_present = a->n_present + b->n_present;
    merge_present(c, a);
    merge_present(c, b);
    *out = c;
    return INFER_OK;
}

void vector_column_stack_release(struct vector_column_stack *stack)
{
    while (stack->n)
        vector_column_drop(&stack->columns[--stack->n]);
}

infer_status vector_column_stack_push(struct vector_column_stack *stack, const struct base_alloc *a,
                                      struct vector_column *column)
{
    while (stack->n &&
           vector_column_weight(stack->columns[stack->n - 1]) < 2 * vector_column_weight(column)) {
        struct vector_column *merged;
        infer_status st = vector_column_merge(&merged, a, stack->columns[stack->n - 1], column);
        if (st != INFER_OK) {
            vector_column_drop(&column);
            return st;
        }
        vector_column_drop(&column);
        vector_column_drop(&stack->columns[--stack->n]);
        column = merged;
    }
    stack->columns[stack->n++] = column; /* each is twice the next: 64 are never reached */
    return INFER_OK;
}
