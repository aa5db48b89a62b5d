/* Which keywords a schema may have. What is not in this table is refused by its name: a keyword
 * that is passed over would be a promise that is not kept. */
#include "sample/json_schema.h"

#include "base/str.h"

#include <string.h>

enum {
    APPLIES,   /* has its place in the other files */
    SAYS,      /* describes and does not constrain */
    ROOT_ONLY, /* the same, at the root */
    REFUSED,
};

static const struct {
    const char *name;
    int what;
} keywords[] = {
    {"$ref", APPLIES},
    {"$defs", SAYS},
    {"definitions", SAYS},
    {"$schema", ROOT_ONLY},
    {"$id", ROOT_ONLY},
    {"$anchor", SAYS},
    {"$comment", SAYS},
    {"title", SAYS},
    {"description", SAYS},
    {"default", SAYS},
    {"examples", SAYS},
    {"deprecated", SAYS},
    {"readOnly", SAYS},
    {"writeOnly", SAYS},
    {"contentEncoding", SAYS},
    {"contentMediaType", SAYS},
    {"contentSchema", SAYS},
    {"discriminator", SAYS}, /* of OpenAPI: repeats what "oneOf" says */
    {"type", APPLIES},
    {"enum", APPLIES},
    {"const", APPLIES},
    {"allOf", APPLIES},
    {"anyOf", APPLIES},
    {"oneOf", APPLIES},
    {"properties", APPLIES},
    {"required", APPLIES},
    {"additionalProperties", APPLIES},
    {"patternProperties", APPLIES},
    {"propertyNames", APPLIES},
    {"minProperties", APPLIES},
    {"maxProperties", APPLIES},
    {"items", APPLIES},
    {"prefixItems", APPLIES},
    {"minItems", APPLIES},
    {"maxItems", APPLIES},
    {"uniqueItems", APPLIES},
    {"minLength", APPLIES},
    {"maxLength", APPLIES},
    {"pattern", APPLIES},
    {"format", APPLIES},
    {"minimum", APPLIES},
    {"maximum", APPLIES},
    {"exclusiveMinimum", APPLIES},
    {"exclusiveMaximum", APPLIES},
    {"multipleOf", APPLIES},
    {"not", REFUSED},
    {"if", REFUSED},
    {"then", REFUSED},
    {"else", REFUSED},
    {"contains", REFUSED},
    {"minContains", REFUSED},
    {"maxContains", REFUSED},
    {"dependentRequired", REFUSED},
    {"dependentSchemas", REFUSED},
    {"unevaluatedItems", REFUSED},
    {"unevaluatedProperties", REFUSED},
    {"$dynamicRef", REFUSED},
    {"$dynamicAnchor", REFUSED},
    {"$vocabulary", REFUSED},
};

static int what_is(struct base_view name)
{
    for (size_t i = 0; i < BASE_COUNT(keywords); i++)
        if (base_view_equal(name, keywords[i].name))
            return keywords[i].what;
    return name.size > 2 && memcmp(name.data, "x-", 2) == 0 ? SAYS : REFUSED;
}

/* Drafts whose keywords, as far as they are taken here, mean the same. */
static void check_draft(struct schema *s, const struct base_json *schema)
{
    static const char *const known[] = {
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/schema",
    };
    struct base_view uri;
    const struct base_json *v = base_json_get(schema, "$schema");
    if (!v)
        return;
    if (!base_json_string(v, &uri)) {
        schema_fail(s, schema, INFER_ERR_FORMAT, "\"$schema\" is no string", (struct base_view){0});
        return;
    }
    if (uri.size && uri.data[uri.size - 1] == '#')
        uri.size--;
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (base_view_equal(uri, known[i]))
            return;
    schema_fail(s, schema, INFER_ERR_UNSUPPORTED, "\"$schema\" is another language: ", uri);
}

void schema_check(struct schema *s, const struct base_json *schema)
{
    check_draft(s, schema);
    for (uint32_t i = 0; i < schema->n && !schema_failed(s); i++) {
        struct base_view name = schema->as.member[i].key;
        int what = what_is(name);
        if (what == REFUSED)
            schema_fail(s, schema, INFER_ERR_UNSUPPORTED, "this keyword is not supported: ", name);
        else if (what == ROOT_ONLY && schema != s->root)
            schema_fail(s, schema, INFER_ERR_UNSUPPORTED,
                        "a schema inside of another may not have ", name);
    }
}

/* ------------------------------------------------------------------ counts */

static int count_of(struct schema *s, const struct base_json *schema, const char *keyword,
                    uint32_t *out)
{
    const struct base_json *v = base_json_get(schema, keyword);
    int64_t n;
    if (!v)
        return 0;
    if (!base_json_i64(v, &n) || n < 0) {
        schema_fail(s, schema, INFER_ERR_FORMAT,
                    "no count: ", (struct base_view){keyword, strlen(keyword)});
        return 0;
    }
    *out = n < GRAMMAR_UNBOUNDED ? (uint32_t)n : GRAMMAR_UNBOUNDED;
    return 1;
}

uint32_t schema_highest(struct schema *s, const struct schema_all *alt, const char *keyword)
{
    uint32_t highest = 0, n;
    for (size_t i = 0; i < alt->n; i++)
        if (count_of(s, alt->data[i], keyword, &n))
            highest = BASE_MAX(highest, n);
    return highest;
}

uint32_t schema_lowest(struct schema *s, const struct schema_all *alt, const char *keyword)
{
    uint32_t lowest = GRAMMAR_UNBOUNDED, n;
    for (size_t i = 0; i < alt->n; i++)
        if (count_of(s, alt->data[i], keyword, &n))
            lowest = BASE_MIN(lowest, n);
    return lowest;
}
