/* JSON Schema (draft 2020-12) to expressions. For json_schema*.c alone.
 *
 * Several schemas may hold for one value: "allOf", "$ref" beside other keywords, a property that
 * two of them describe. So the unit is a conjunction, a sorted set of schema objects. It is
 * expanded into alternatives ("anyOf", "oneOf" and "$ref" are followed), each again a set of
 * schema objects of which only the keywords of values are left to look at; and each
 * alternative is written type by type. Every conjunction that a value can stand under is one rule,
 * so that recursive schemas end. */
#ifndef SAMPLE_JSON_SCHEMA_H
#define SAMPLE_JSON_SCHEMA_H

#include "base/json.h"
#include "base/map.h"
#include "sample/regex_dfa.h"

struct schema_all {
    const struct base_json **data; /* rising addresses; `true` is left out */
    size_t n;
};

struct schema_alternatives {
    struct schema_all *data;
    size_t size, capacity;
};

struct schema {
    struct grammar_builder *b;
    struct base_alloc alloc;
    const struct base_json *root;
    int compact;
    struct base_map rules;        /* bytes of a conjunction's array to its rule */
    BASE_ARRAY(uint8_t) finished; /* of a rule */
    struct base_map patterns;     /* text of a pattern to its place in dfas */
    BASE_ARRAY(struct regex_dfa) dfas;
    uint32_t string; /* rule of any string */
    uint32_t character;
    int depth, expanding;
    size_t n_alternatives;
};

enum {
    SCHEMA_NULL = 1,
    SCHEMA_BOOLEAN = 2,
    SCHEMA_OBJECT = 4,
    SCHEMA_ARRAY = 8,
    SCHEMA_STRING = 16,
    SCHEMA_INTEGER = 32,
    SCHEMA_FRACTION = 64, /* numbers that are no integers */
    SCHEMA_ANY = 127
};

/* A failure at a schema: "at #/properties/x: ...". Returns the status, which the builder keeps. */
infer_status schema_fail(struct schema *s, const struct base_json *at, infer_status status,
                         const char *what, struct base_view name);
static inline int schema_failed(const struct schema *s)
{
    return s->b->status != INFER_OK;
}

/* json_schema_expand.c. Memory of all results is the arena's. */
void schema_add(struct schema *s, struct schema_all *all, const struct base_json *schema);
struct schema_alternatives schema_expand(struct schema *s, const struct schema_all *all);
/* SCHEMA_* that the types of an alternative leave. */
int schema_types(struct schema *s, const struct schema_all *alt);

/* json_schema_keywords.c: refuses by name what a schema may not say; once for each schema. */
void schema_check(struct schema *s, const struct base_json *schema);
/* A count (a keyword such as minLength) of all schemas: the highest or the lowest. */
uint32_t schema_highest(struct schema *s, const struct schema_all *alt, const char *keyword);
uint32_t schema_lowest(struct schema *s, const struct schema_all *alt, const char *keyword);

/* json_schema.c: a value under all of these; GRAMMAR_NEVER if there is none. */
const struct grammar_expr *schema_value(struct schema *s, const struct schema_all *all);
/* The same for one alternative, whose schemas are expanded already. */
const struct grammar_expr *schema_alternative(struct schema *s, const struct schema_all *alt);
const struct grammar_expr *schema_space(struct schema *s);
/* A JSON string with this text. */
const struct grammar_expr *schema_quoted(struct schema *s, struct base_view text);

/* The types, one file each. */
const struct grammar_expr *schema_string(struct schema *s, const struct schema_all *alt);
const struct grammar_expr *schema_number(struct schema *s, const struct schema_all *alt, int types);
const struct grammar_expr *schema_array(struct schema *s, const struct schema_all *alt);
const struct grammar_expr *schema_object(struct schema *s, const struct schema_all *alt);

/* What the keywords of strings allow; *any is 1 where that is everything. */
infer_status schema_string_dfa(struct schema *s, const struct schema_all *alt,
                               struct regex_dfa *out, int *any);
int schema_string_matches(struct schema *s, const struct schema_all *alt, struct base_view text);
/* A pattern of "pattern" or "patternProperties". */
infer_status schema_pattern(struct schema *s, const struct base_json *at, struct base_view pattern,
                            struct regex_dfa *out);
/* The expression of a known format, or NULL. */
const char *schema_format(struct base_view name);

/* json_schema_match.c: whether a value matches, for "enum" and names. */
int schema_matches_all(struct schema *s, const struct schema_all *all, const struct base_json *v);
int schema_matches(struct schema *s, const struct schema_all *alt, const struct base_json *v);
int schema_same_value(const struct base_json *x, const struct base_json *y);

/* json_schema_number.c: whether v lies in the bounds and is a multiple. */
int schema_number_matches(struct schema *s, const struct schema_all *alt,
                          const struct base_json *v);

/* json_schema_object.c: the schemas for the member `key` under an alternative. */
struct schema_all schema_member(struct schema *s, const struct schema_all *alt,
                                struct base_view key);
/* json_schema_array.c: for element i. */
struct schema_all schema_element(struct schema *s, const struct schema_all *alt, size_t i);

#endif
