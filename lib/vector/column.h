/* The index of one field over some rows: every value that occurs, in order, with the rows that have
 * it. A column never changes once it is built; it lies in memory, or in a mapped file.
 *
 * The values of a range, or of a prefix, are neighbours, and so are their rows: any of $eq, $lt,
 * $prefix is two binary searches and one walk over rows that sets bits. */
#ifndef VECTOR_COLUMN_H
#define VECTOR_COLUMN_H

#include "base/array.h"
#include "vector/file.h"
#include "vector/paths.h"

#include <stdatomic.h>

struct vector_column {
    struct base_alloc alloc;
    _Atomic int32_t n_holders;
    int32_t begin, end;               /* rows that it knows all about */
    int32_t many;                     /* some row has several values (of an array) */
    int32_t n_present;                /* rows that have the field at all */
    uint64_t first[VECTOR_KINDS + 1]; /* values of kind k are first[k] .. first[k + 1] */
    uint64_t n_places;                /* rows over all values */
    uint64_t text_bytes;
    size_t bytes;        /* of the block */
    uint64_t *present;   /* bits; bit 0 is row begin & ~63 */
    uint64_t *starts;    /* where the rows of value i begin in `rows`, and the end */
    uint64_t *text_ends; /* of string j in `text` */
    double *reals;       /* of number j, and its rest */
    int32_t *rows;       /* ascending within a value */
    int16_t *rests;
    char *text;
};

void vector_column_hold(struct vector_column *c);
void vector_column_drop(struct vector_column **c); /* NULL-safe; frees with the last holder */

/* What it costs to walk over: which of two is the larger. */
uint64_t vector_column_weight(const struct vector_column *c);

/* ------------------------------------------------------------------ looking up */

/* Values begin .. end. */
struct vector_span {
    uint64_t begin, end;
};

/* All look-ups return 0 where the column's file is damaged. */

/* The place of the first value of v's kind that is not below v (`after`: that is above). */
int vector_column_seek(const struct vector_column *c, const struct vector_value *v, int after,
                       uint64_t *at);
int vector_column_find(const struct vector_column *c, const struct vector_value *v,
                       struct vector_span *span); /* of one value, or empty */
int vector_column_find_prefix(const struct vector_column *c, struct base_view prefix,
                              struct vector_span *span);
/* How many rows the values of a span have in all. */
int vector_column_count(const struct vector_column *c, struct vector_span span, uint64_t *n);
/* Sets the bits of a span's rows below n_rows; `clean`: those of its rows are 0 so far. */
int vector_column_set(const struct vector_column *c, struct vector_span span, int32_t n_rows,
                      int clean, uint64_t *bits);
void vector_column_set_present(const struct vector_column *c, int32_t n_rows, uint64_t *bits);

/* ------------------------------------------------------------------ building */

struct vector_posting {
    struct vector_value value;
    int32_t row;
};

/* Columns one behind the other, each at least twice the next: what is added is merged with its
 * neighbours of like size, so that every row is merged log n times. */
struct vector_column_stack {
    struct vector_column *columns[64];
    int32_t n;
};

/* Takes `column` over, also where it fails. Columns of the stack are replaced, not changed. */
infer_status vector_column_stack_push(struct vector_column_stack *stack, const struct base_alloc *a,
                                      struct vector_column *column);
void vector_column_stack_release(struct vector_column_stack *stack);

struct vector_column_builder {
    struct base_alloc alloc;
    int32_t begin; /* of the rows that were not put on the stack yet */
    BASE_ARRAY(struct vector_posting) postings;
    BASE_ARRAY(int32_t) present;
    struct base_arena decoded; /* strings that were escaped */
    struct vector_column_stack stack;
};

void vector_column_builder_init(struct vector_column_builder *b, const struct base_alloc *a,
                                int32_t begin);
void vector_column_builder_release(struct vector_column_builder *b);
/* Rows ascend; the text stays where it is until the column is finished. FORMAT: damaged text. */
infer_status vector_column_builder_add(struct vector_column_builder *b, int32_t row,
                                       const struct vector_found_value *found);
infer_status vector_column_builder_finish(struct vector_column_builder *b, int32_t end,
                                          struct vector_column **out);

/* Of rows begin .. a.end and b.begin .. end, where a.end is b.begin. */
infer_status vector_column_merge(struct vector_column **out, const struct base_alloc *alloc,
                                 const struct vector_column *a, const struct vector_column *b);
/* An empty one with room for so much, all counts 0. */
struct vector_column_room {
    uint64_t n_values, n_numbers, n_texts, n_places, text_bytes;
};
struct vector_column *vector_column_new(const struct base_alloc *a, int32_t begin, int32_t end,
                                        const struct vector_column_room *room);

/* ------------------------------------------------------------------ in a file */

/* As the section `name`, of rows from 0 on. */
infer_status vector_column_write(const struct vector_column *c, struct vector_file_writer *w,
                                 const char *name);
/* Mapped: the file outlives it. */
infer_status vector_column_open(struct vector_column **out, const struct base_alloc *a,
                                const struct vector_file *file, const char *name, int32_t n_rows);

#endif
