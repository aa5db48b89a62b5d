/* Arrays: the first elements by position, the others by "items", counted. */
#include "sample/json_schema.h"

#include <string.h>

#define PREFIX_MAX 4096

static size_t prefix_size(struct schema *s, const struct base_json *schema)
{
    const struct base_json *prefix = base_json_get(schema, "prefixItems");
    if (!prefix)
        return 0;
    if (prefix->type != BASE_JSON_ARRAY || prefix->n > PREFIX_MAX) {
        schema_fail(s, schema, INFER_ERR_FORMAT, "\"prefixItems\" is no array of schemas",
                    (struct base_view){0});
        return 0;
    }
    return prefix->n;
}

struct schema_all schema_element(struct schema *s, const struct schema_all *alt, size_t i)
{
    struct schema_all out = {0};
    for (size_t k = 0; k < alt->n; k++) {
        const struct base_json *items = base_json_get(alt->data[k], "items");
        if (i < prefix_size(s, alt->data[k]))
            schema_add(s, &out, base_json_at(base_json_get(alt->data[k], "prefixItems"), i));
        else if (items && items->type == BASE_JSON_ARRAY)
            schema_fail(s, alt->data[k], INFER_ERR_UNSUPPORTED,
                        "an array of \"items\" is called \"prefixItems\" since 2020-12",
                        (struct base_view){0});
        else if (items)
            schema_add(s, &out, items);
    }
    return out;
}

static void check_unique(struct schema *s, const struct schema_all *alt, uint32_t max)
{
    for (size_t i = 0; i < alt->n; i++)
        if (base_json_is(base_json_get(alt->data[i], "uniqueItems"), BASE_JSON_TRUE) && max > 1)
            schema_fail(s, alt->data[i], INFER_ERR_UNSUPPORTED, "\"uniqueItems\" is not supported",
                        (struct base_view){0});
}

/* Elements from `first` on, of which `min` must and `max` may come; `comma` where others stand in
 * front of them. */
static const struct grammar_expr *rest(struct schema *s, const struct grammar_expr *element,
                                       uint32_t min, uint32_t max, int comma)
{
    struct grammar_builder *b = s->b;
    const struct grammar_expr *next =
        grammar_seq(b, GRAMMAR_ITEMS(grammar_text(b, ","), schema_space(s), element));
    if (comma)
        return grammar_repeat(b, next, min, max);
    if (max == 0)
        return grammar_empty(b);
    const struct grammar_expr *some = grammar_seq(
        b, GRAMMAR_ITEMS(element, grammar_repeat(b, next, min ? min - 1 : 0,
                                                 max == GRAMMAR_UNBOUNDED ? max : max - 1)));
    return min ? some : grammar_repeat(b, some, 0, 1);
}

/* Built from behind: what follows element i - 1. */
static const struct grammar_expr *elements(struct schema *s, const struct schema_all *alt,
                                           size_t prefix, uint32_t min, uint32_t max)
{
    struct grammar_builder *b = s->b;
    struct schema_all others = schema_element(s, alt, prefix);
    uint32_t done = (uint32_t)prefix;
    const struct grammar_expr *element = max > done ? schema_value(s, &others) : grammar_never(b);
    const struct grammar_expr *tail =
        max < done ? grammar_empty(b)
                   : rest(s, element, min > done ? min - done : 0,
                          max == GRAMMAR_UNBOUNDED ? max : max - done, done > 0);
    for (uint32_t i = BASE_MIN(done, max); i-- > 0 && !schema_failed(s);) {
        struct schema_all at = schema_element(s, alt, i);
        const struct grammar_expr *one = grammar_seq(
            b, GRAMMAR_ITEMS(i ? grammar_text(b, ",") : grammar_empty(b),
                             i ? schema_space(s) : grammar_empty(b), schema_value(s, &at), tail));
        tail = i < min ? one : grammar_repeat(b, one, 0, 1);
    }
    return tail;
}

const struct grammar_expr *schema_array(struct schema *s, const struct schema_all *alt)
{
    struct grammar_builder *b = s->b;
    uint32_t min = schema_highest(s, alt, "minItems"), max = schema_lowest(s, alt, "maxItems");
    size_t prefix = 0;
    for (size_t i = 0; i < alt->n; i++)
        prefix = BASE_MAX(prefix, prefix_size(s, alt->data[i]));
    check_unique(s, alt, max);
    if (schema_failed(s) || min > max)
        return grammar_never(b);
    const struct grammar_expr *all = elements(s, alt, prefix, min, max);
    if (all->kind == GRAMMAR_NEVER)
        return all;
    return grammar_seq(b, GRAMMAR_ITEMS(grammar_text(b, "["), schema_space(s), all, schema_space(s),
                                        grammar_text(b, "]")));
}
