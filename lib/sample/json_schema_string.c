/* Strings: lengths, patterns, formats. */
#include "sample/json_schema.h"

#include "base/str.h"

#include "base/error.h"

#include <string.h>

#define DATE                                                                                       \
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"      \
    "02-(0[1-9]|1[0-9]|2[0-8]))|([0-9]{2}(0[48]|[2468][048]|[13579][26])|"                         \
    "([02468][048]|[13579][26])00)-02-29)"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define BYTE  "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4  BYTE "(\\." BYTE "){3}"
#define HEX4  "[0-9a-fA-F]{1,4}"
#define LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
#define ATOM  "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "[Tt]" TIME},
    {"duration", "P([0-9]+W|([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)"
                 "(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))?|"
                 "T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))"},
    {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
    {"ipv4", IPV4},
    {"ipv6", "((" HEX4 ":){7}" HEX4 "|(" HEX4 ":){6}" IPV4 "|::(" HEX4 ":){0,5}" HEX4 "|::(" HEX4
             ":){0,5}" IPV4 "|(" HEX4 ":){1,7}:|(" HEX4 ":){1,6}:" HEX4 "|(" HEX4 ":){1,5}(:" HEX4
             "){2}|(" HEX4 ":){1,4}(:" HEX4 "){3}|(" HEX4 ":){1,3}(:" HEX4 "){4}|(" HEX4
             ":){1,2}(:" HEX4 "){5}|" HEX4 ":(:" HEX4 "){6}|(" HEX4 ":){1,5}:" IPV4 "|(" HEX4
             ":){1,4}:" HEX4 ":" IPV4 "|(" HEX4 ":){1,3}(:" HEX4 "){2}:" IPV4 "|(" HEX4
             ":){1,2}(:" HEX4 "){3}:" IPV4 "|" HEX4 ":(:" HEX4 "){4}:" IPV4 "|::)"},
    {"hostname", "[a-zA-Z0-9]([a-zA-Z0-9]|-[a-zA-Z0-9]){0,30}(\\.[a-zA-Z0-9]([a-zA-Z0-9]|"
                 "-[a-zA-Z0-9]){0,30}){0,3}"},
    {"email", ATOM "(\\." ATOM ")*@" LABEL "(\\." LABEL ")*"},
    {"json-pointer", "(/([^/~]|~[01])*)*"},
    {"relative-json-pointer", "(0|[1-9][0-9]*)(#|(/([^/~]|~[01])*)*)"},
    {"uri", "[a-zA-Z][a-zA-Z0-9+.-]*:(//([a-zA-Z0-9._~!$&'()*+,;=:-]+@)?[a-zA-Z0-9._~-]+(:[0-9]*)?"
            "(/([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})*)*|"
            "(/?[a-zA-Z0-9._~!$&'()*+,;=:@-]+(/([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})*)*)?)"
            "(\\?([a-zA-Z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})*)?"
            "(#([a-zA-Z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})*)?"},
};

const char *schema_format(struct base_view name)
{
    for (size_t i = 0; i < BASE_COUNT(formats); i++)
        if (base_view_equal(name, formats[i].name))
            return formats[i].pattern;
    return NULL;
}

static infer_status compile(struct schema *s, const struct base_json *at, struct base_view pattern,
                            int search, struct regex_dfa *out)
{
    const struct grammar_expr *tree;
    infer_status st = regex_parse(&tree, s->b, pattern);
    if (st == INFER_OK)
        st = regex_compile(out, s->b, tree, search);
    if (st != INFER_OK && st != INFER_ERR_NO_MEMORY && !schema_failed(s)) {
        char text[256];
        size_t n = strlen(base_error_text());
        n = BASE_MIN(n, sizeof text);
        memcpy(text, base_error_text(), n);
        schema_fail(s, at, st, "", (struct base_view){text, n});
    }
    grammar_builder_fail(s->b, st);
    return st;
}

infer_status schema_pattern(struct schema *s, const struct base_json *at, struct base_view pattern,
                            struct regex_dfa *out)
{
    /* One pattern may be asked about every name and value of a schema. */
    int32_t known = base_map_get(&s->patterns, pattern.data, pattern.size, -1);
    if (known >= 0) {
        *out = s->dfas.data[known];
        return INFER_OK;
    }
    infer_status st = compile(s, at, pattern, 1, out);
    if (st == INFER_OK)
        st = base_array_push(&s->alloc, &s->dfas, *out);
    if (st == INFER_OK)
        st = base_map_add(&s->patterns, pattern.data, pattern.size, (int32_t)s->dfas.size - 1);
    grammar_builder_fail(s->b, st);
    return st;
}

/* Joins one more condition to those so far. */
static infer_status restrict_to(struct schema *s, struct regex_dfa *out, int *any,
                                const struct regex_dfa *more)
{
    infer_status st = INFER_OK;
    struct regex_dfa both = *more;
    if (!*any)
        st = regex_combine(&both, s->b, out, more, REGEX_AND);
    if (st == INFER_OK)
        *out = both;
    grammar_builder_fail(s->b, st);
    *any = 0;
    return st;
}

static void add_patterns(struct schema *s, const struct base_json *schema, struct regex_dfa *out,
                         int *any)
{
    const struct base_json *pattern = base_json_get(schema, "pattern");
    const struct base_json *format = base_json_get(schema, "format");
    struct base_view text = {"", 0};
    struct regex_dfa d;
    if (pattern && !base_json_string(pattern, &text))
        schema_fail(s, schema, INFER_ERR_FORMAT, "\"pattern\" is no string", text);
    else if (pattern && schema_pattern(s, schema, text, &d) == INFER_OK)
        restrict_to(s, out, any, &d);
    if (!format || schema_failed(s))
        return;
    text = (struct base_view){"", 0};
    if (!base_json_string(format, &text)) {
        schema_fail(s, schema, INFER_ERR_FORMAT, "\"format\" is no string", text);
        return;
    }
    const char *known = schema_format(text);
    if (!known)
        schema_fail(s, schema, INFER_ERR_UNSUPPORTED, "this format is not supported: ", text);
    else if (compile(s, schema, (struct base_view){known, strlen(known)}, 0, &d) == INFER_OK)
        restrict_to(s, out, any, &d);
}

/* Patterns and formats without lengths. */
static void all_patterns(struct schema *s, const struct schema_all *alt, struct regex_dfa *out,
                         int *any)
{
    *any = 1;
    for (size_t i = 0; i < alt->n && !schema_failed(s); i++)
        add_patterns(s, alt->data[i], out, any);
}

infer_status schema_string_dfa(struct schema *s, const struct schema_all *alt,
                               struct regex_dfa *out, int *any)
{
    uint32_t min = schema_highest(s, alt, "minLength"), max = schema_lowest(s, alt, "maxLength");
    struct regex_dfa length;
    all_patterns(s, alt, out, any);
    if (schema_failed(s) || (min == 0 && max == GRAMMAR_UNBOUNDED))
        return s->b->status;
    infer_status st = regex_of_length(&length, s->b, BASE_MIN(min, max), max);
    if (st == INFER_OK && min > max)
        memset(length.accepts, 0, length.n_states);
    grammar_builder_fail(s->b, st);
    return st == INFER_OK ? restrict_to(s, out, any, &length) : st;
}

int schema_string_matches(struct schema *s, const struct schema_all *alt, struct base_view text)
{
    struct regex_dfa d;
    size_t n_chars = 0;
    int any;
    for (size_t i = 0; i < text.size; i++)
        n_chars += ((uint8_t)text.data[i] & 0xC0) != 0x80;
    if (n_chars < schema_highest(s, alt, "minLength") ||
        n_chars > schema_lowest(s, alt, "maxLength"))
        return 0;
    all_patterns(s, alt, &d, &any);
    return !schema_failed(s) && (any || regex_accepts(&d, text));
}

const struct grammar_expr *schema_string(struct schema *s, const struct schema_all *alt)
{
    struct grammar_builder *b = s->b;
    uint32_t min = schema_highest(s, alt, "minLength"), max = schema_lowest(s, alt, "maxLength");
    struct regex_dfa d;
    int any;
    all_patterns(s, alt, &d, &any);
    if (schema_failed(s) || min > max)
        return grammar_never(b);
    const struct grammar_expr *text;
    if (any && min == 0 && max == GRAMMAR_UNBOUNDED)
        return grammar_call(b, s->string);
    if (any) /* counted, however long */
        text = grammar_repeat(b, grammar_call(b, s->character), min, max);
    else if (schema_string_dfa(s, alt, &d, &any) != INFER_OK || regex_is_empty(&d, b))
        return grammar_never(b);
    else
        text = regex_expr(b, &d, 1);
    return grammar_seq(b, GRAMMAR_ITEMS(grammar_text(b, "\""), text, grammar_text(b, "\"")));
}
