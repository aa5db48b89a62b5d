/* Reading JSON (RFC 8259): a text is checked once as a whole, then walked in place. A value is its
 * piece of the text, so that what is for the library (a schema, messages) goes there as it was
 * written. Strict: UTF-8, whole surrogate pairs, bounded depth, nothing behind the value. */
#ifndef INFER_JSON_IN_H
#define INFER_JSON_IN_H

#include "buffer.h"

#include <stddef.h>
#include <stdint.h>

#define JSON_IN_DEPTH 256

enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT };

struct json_value {
    enum json_kind kind;
    const char *text; /* with its quotes or brackets */
    size_t size;
};

/* Checks a text that a 0 byte follows. Returns 0, or -1 with the place and reason in `error`. */
int json_in_check(struct json_value *out, const char *text, size_t size, char *error,
                  size_t error_size);

/* The elements or members of a checked value, in order. */
struct json_walk {
    const char *at;
    int is_object;
};

struct json_walk json_walk_begin(const struct json_value *container);
/* Returns 0 at the end. `key` is set in objects alone. */
int json_walk_next(struct json_walk *walk, struct json_value *key, struct json_value *value);

/* Typed reads of checked values; each returns 0, or -1 where the value is of another kind or
 * beyond the type's range. */
int json_in_text(const struct json_value *value, struct buffer *out); /* appends, unescaped */
int json_in_bool(const struct json_value *value, int32_t *out);
int json_in_i64(const struct json_value *value, int64_t *out); /* also 3.0 and 3e2 */
int json_in_u64(const struct json_value *value, uint64_t *out);
int json_in_f64(const struct json_value *value, double *out);

#endif
