/* Columns: memory, and looking values up. Numbers that may come from a file are checked here. */
#include "vector/column.h"

#include <string.h>

static uint64_t n_words(int32_t begin, int32_t end)
{
    return ((uint64_t)end + 63) / 64 - (uint64_t)begin / 64;
}

struct vector_column *vector_column_new(const struct base_alloc *a, int32_t begin, int32_t end,
                                        const struct vector_column_room *room)
{
    const size_t words = n_words(begin, end);
    const size_t longs = words + room->n_values + 1 + room->n_texts + room->n_numbers;
    const size_t bytes = longs * 8 + room->n_places * sizeof(int32_t) +
                         room->n_numbers * sizeof(int16_t) + room->text_bytes;
    struct vector_column *c = base_new_raw(a, 1, sizeof *c + bytes);
    if (!c)
        return NULL;
    *c = (struct vector_column){.alloc = *a, .n_holders = 1, .begin = begin, .end = end};
    c->bytes = bytes;
    c->present = (uint64_t *)(c + 1);
    memset(c->present, 0, words * 8);
    c->starts = c->present + words;
    c->starts[0] = 0;
    c->text_ends = c->starts + room->n_values + 1;
    c->reals = (double *)(c->text_ends + room->n_texts);
    c->rows = (int32_t *)(c->reals + room->n_numbers);
    c->rests = (int16_t *)(c->rows + room->n_places);
    c->text = (char *)(c->rests + room->n_numbers);
    return c;
}

void vector_column_hold(struct vector_column *c)
{
    atomic_fetch_add_explicit(&c->n_holders, 1, memory_order_relaxed);
}

void vector_column_drop(struct vector_column **column)
{
    struct vector_column *c = *column;
    *column = NULL;
    if (c && atomic_fetch_sub_explicit(&c->n_holders, 1, memory_order_acq_rel) == 1) {
        struct base_alloc a = c->alloc;
        base_free(&a, c);
    }
}

uint64_t vector_column_weight(const struct vector_column *c)
{
    return c->n_places + c->text_bytes / 8 + (uint64_t)(c->end - c->begin);
}

static int text_at(const struct vector_column *c, uint64_t i, struct base_view *out)
{
    uint64_t j = i - c->first[VECTOR_STRING];
    uint64_t begin = j ? c->text_ends[j - 1] : 0, end = c->text_ends[j];
    if (begin > end || end > c->text_bytes)
        return 0;
    *out = (struct base_view){c->text + begin, (size_t)(end - begin)};
    return 1;
}

/* Value i against v, of the same kind: -1, 0, 1; 2: damage. */
static int compare_at(const struct vector_column *c, uint64_t i, const struct vector_value *v)
{
    if (v->kind == VECTOR_STRING) {
        struct base_view text;
        if (!text_at(c, i, &text))
            return 2;
        int order = vector_text_compare(text, 0, v->text);
        return (order > 0) - (order < 0);
    }
    if (v->kind != VECTOR_NUMBER)
        return 0;
    uint64_t j = i - c->first[VECTOR_NUMBER];
    if (c->reals[j] != v->real)
        return c->reals[j] < v->real ? -1 : 1;
    return (c->rests[j] > v->rest) - (c->rests[j] < v->rest);
}

int vector_column_seek(const struct vector_column *c, const struct vector_value *v, int after,
                       uint64_t *at)
{
    uint64_t low = c->first[v->kind], high = c->first[v->kind + 1];
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = compare_at(c, middle, v);
        if (order == 2)
            return 0;
        if (order < 0 || (after && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    *at = low;
    return 1;
}

int vector_column_find(const struct vector_column *c, const struct vector_value *v,
                       struct vector_span *span)
{
    uint64_t at;
    if (!vector_column_seek(c, v, 0, &at))
        return 0;
    int order = at < c->first[v->kind + 1] ? compare_at(c, at, v) : 1;
    *span = (struct vector_span){at, at + (order == 0)};
    return order != 2;
}

int vector_column_find_prefix(const struct vector_column *c, struct base_view prefix,
                              struct vector_span *span)
{
    const struct vector_value v = {.kind = VECTOR_STRING, .text = prefix};
    uint64_t low, high = c->first[VECTOR_STRING + 1];
    if (!vector_column_seek(c, &v, 0, &low))
        return 0;
    span->begin = low;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct base_view text;
        if (!text_at(c, middle, &text))
            return 0;
        if (text.size >= prefix.size &&
            (!prefix.size || memcmp(text.data, prefix.data, prefix.size) == 0))
            low = middle + 1;
        else
            high = middle;
    }
    span->end = low;
    return 1;
}

int vector_column_count(const struct vector_column *c, struct vector_span span, uint64_t *n)
{
    *n = 0;
    if (span.begin >= span.end)
        return 1;
    uint64_t begin = c->starts[span.begin], end = c->starts[span.end];
    *n = end - begin;
    return begin <= end && end <= c->n_places;
}

void vector_column_set_present(const struct vector_column *c, int32_t n_rows, uint64_t *bits)
{
    const uint64_t from = (uint64_t)c->begin / 64;
    const uint64_t end = (uint64_t)BASE_MIN(c->end, n_rows);
    if (end <= (uint64_t)c->begin)
        return;
    for (uint64_t w = from; w < (end + 63) / 64; w++) {
        uint64_t word = c->present[w - from];
        if (w == from)
            word &= UINT64_MAX << (c->begin % 64);
        if (end % 64 && w == end / 64)
            word &= (UINT64_C(1) << (end % 64)) - 1;
        bits[w] |= word;
    }
}

/* Sets or clears. Rows from n_rows on came after the reader; the others lie within the column. */
static int walk(const struct vector_column *c, uint64_t begin, uint64_t end, int32_t n_rows,
                int clear, uint64_t *bits)
{
    const uint32_t limit = (uint32_t)BASE_MIN(n_rows, c->end), below = (uint32_t)c->begin;
    uint32_t stray = 0;
    for (uint64_t i = begin; i < end; i++) {
        uint32_t row = (uint32_t)c->rows[i];
        if (row < limit) {
            uint64_t bit = UINT64_C(1) << (row % 64);
            bits[row / 64] = clear ? bits[row / 64] & ~bit : bits[row / 64] | bit;
        }
        stray |= (row < below) | (row >= (uint32_t)c->end);
    }
    return !stray;
}

int vector_column_set(const struct vector_column *c, struct vector_span span, int32_t n_rows,
                      int clean, uint64_t *bits)
{
    uint64_t n;
    if (!vector_column_count(c, span, &n))
        return 0;
    if (!n)
        return 1;
    const uint64_t begin = c->starts[span.begin], end = begin + n;
    /* Where every row that has the field has one value, what is left out is quicker to clear than
     * most is to set. */
    if (clean && !c->many && c->n_places == (uint64_t)c->n_present && n > c->n_places / 2) {
        vector_column_set_present(c, n_rows, bits);
        return walk(c, 0, begin, n_rows, 1, bits) && walk(c, end, c->n_places, n_rows, 1, bits);
    }
    return walk(c, begin, end, n_rows, 0, bits);
}
