/* JSON texts as trees in an arena. Parsing is strict RFC 8259 over valid UTF-8, bounded in
 * depth, and keeps the order of members; duplicate keys are an error, because two readers
 * of one file must not see two values. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/alloc.h"

enum {
    BASE_JSON_NULL,
    BASE_JSON_FALSE,
    BASE_JSON_TRUE,
    BASE_JSON_INT,  /* a number without fraction and exponent that fits int64 */
    BASE_JSON_REAL, /* any other number */
    BASE_JSON_STRING,
    BASE_JSON_ARRAY,
    BASE_JSON_OBJECT
};

#define BASE_JSON_MAX_DEPTH 256

struct base_json {
    int32_t type;
    uint32_t n; /* elements or members */
    union {
        int64_t integer;
        double real; /* of BASE_JSON_REAL */
        struct base_view text;
        const struct base_json *items;         /* array: n values */
        const struct base_json_member *member; /* object: n members in file order */
    } as;
};

struct base_json_member {
    struct base_view key;
    struct base_json value;
};

/* `*out` and all under it live in the arena; `text` may be freed. FORMAT with line and column
 * ("line 3, column 7: ..."), LIMIT (depth), NO_MEMORY. Memory is bounded by a constant times
 * the text's size. */
infer_status base_json_parse(const struct base_json **out, struct base_arena *arena,
                             const char *text, size_t size);

/* What parsing makes of one number, for those who look into a text that was parsed before; `text`
 * follows the grammar of numbers. 0: beyond the range of a double. */
int base_json_number(struct base_json *out, const char *text, size_t size);

/* Member of an object, or NULL (also where `v` is NULL or no object), so that look-ups chain.
 * Linear for small objects, so walk big ones (a vocabulary) by index. */
const struct base_json *base_json_get(const struct base_json *v, const char *key);
/* "a.b.c" through nested objects. */
const struct base_json *base_json_path(const struct base_json *v, const char *path);
const struct base_json *base_json_at(const struct base_json *v, size_t i); /* array element */

/* Typed reads; 0 and untouched `out` where v is NULL or of another type. Integers are taken from
 * BASE_JSON_INT and from a BASE_JSON_REAL of integral value; reals from both. */
int base_json_i64(const struct base_json *v, int64_t *out);
int base_json_f64(const struct base_json *v, double *out);
int base_json_bool(const struct base_json *v, int32_t *out);
int base_json_string(const struct base_json *v, struct base_view *out);
int base_json_is(const struct base_json *v, int32_t type);

#endif
