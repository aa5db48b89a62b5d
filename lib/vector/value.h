/* The values that filters compare, and how: scalars of JSON, in an order over all kinds. */
#ifndef VECTOR_VALUE_H
#define VECTOR_VALUE_H

#include "base/json.h"

/* In the order in which a column keeps them. */
enum { VECTOR_NULL, VECTOR_FALSE, VECTOR_TRUE, VECTOR_NUMBER, VECTOR_STRING, VECTOR_KINDS };

/* A number is `real` + `rest` exactly: the nearest double, and what an int64 differs from it, which
 * is 512 at most. Pairs are in the order of the numbers, because rounding never swaps two. */
struct vector_value {
    int32_t kind;
    int32_t escaped; /* a string as it stands in JSON, with backslashes */
    double real;
    int32_t rest;
    struct base_view text;
};

/* 0 where it is no scalar. */
int vector_value_of(struct vector_value *out, const struct base_json *v);
/* From the text of a number, whatever it is: 0 where it is none, or beyond the range of a double.
 */
int vector_value_number(struct vector_value *out, const char *text, size_t size);

/* Below, at or above 0: by kind, then by value, strings by their bytes. `b` is not escaped. */
int vector_value_compare(const struct vector_value *a, const struct vector_value *b);
/* Is `a` a string that begins so? */
int vector_value_has_prefix(const struct vector_value *a, struct base_view prefix);

/* The bytes of a string that is written with escapes, as vector_value_compare() sees them: `out`
 * has room for raw.size, which is never exceeded. Returns how many. */
size_t vector_text_decode(char *out, struct base_view raw);
/* As memcmp(), the shorter one first; `b` is not escaped. */
int vector_text_compare(struct base_view a, int escaped, struct base_view b);

#endif
