/* Objects: the members that are named, in the order of their schemas, then others.
 *
 * The order is fixed, as it is with every constrained decoder: an automaton that allowed any
 * would need a state for every subset. Names of other members never are one of those named,
 * however they are written. */
#include "sample/json_schema.h"

#include "base/error.h"

#include <string.h>

#define PATTERNS_MAX 6
#define STATES_MAX   20000

struct member {
    struct base_view name;
    const struct grammar_expr *expr; /* name and value */
    int required;
};

struct pattern {
    struct base_view text;
    struct regex_dfa dfa;
};

struct object {
    struct schema *s;
    const struct schema_all *alt;
    BASE_ARRAY(struct member) members;
    struct pattern patterns[PATTERNS_MAX];
    size_t n_patterns, n_required;
    struct schema_all names;          /* of "propertyNames" */
    const struct grammar_expr *other; /* any other member */
    uint32_t min, max;
    int impossible;
};

static const struct base_view nothing = {"", 0};

static int same(struct base_view x, struct base_view y)
{
    return x.size == y.size && (!x.size || memcmp(x.data, y.data, x.size) == 0);
}

/* A keyword that must be an object, or NULL. */
static const struct base_json *members_of(struct schema *s, const struct base_json *schema,
                                          const char *keyword)
{
    const struct base_json *v = base_json_get(schema, keyword);
    if (!v || v->type == BASE_JSON_OBJECT)
        return v;
    schema_fail(s, schema, INFER_ERR_FORMAT,
                "no object: ", (struct base_view){keyword, strlen(keyword)});
    return NULL;
}

static int matches_pattern(struct schema *s, const struct base_json *schema,
                           struct base_view pattern, struct base_view name)
{
    struct regex_dfa d;
    return schema_pattern(s, schema, pattern, &d) == INFER_OK && regex_accepts(&d, name);
}

struct schema_all schema_member(struct schema *s, const struct schema_all *alt,
                                struct base_view key)
{
    struct schema_all out = {0};
    for (size_t i = 0; i < alt->n && !schema_failed(s); i++) {
        const struct base_json *schema = alt->data[i];
        const struct base_json *properties = members_of(s, schema, "properties");
        const struct base_json *patterns = members_of(s, schema, "patternProperties");
        const struct base_json *others = base_json_get(schema, "additionalProperties");
        int known = 0;
        for (uint32_t k = 0; properties && k < properties->n; k++)
            if (same(properties->as.member[k].key, key)) {
                schema_add(s, &out, &properties->as.member[k].value);
                known = 1;
            }
        for (uint32_t k = 0; patterns && k < patterns->n; k++)
            if (matches_pattern(s, schema, patterns->as.member[k].key, key)) {
                schema_add(s, &out, &patterns->as.member[k].value);
                known = 1;
            }
        if (!known && others)
            schema_add(s, &out, others);
    }
    return out;
}

/* ------------------------------------------------------------------- named */

static const struct grammar_expr *member_expr(struct schema *s, const struct grammar_expr *key,
                                              const struct schema_all *all)
{
    return grammar_seq(
        s->b, GRAMMAR_ITEMS(key, grammar_text(s->b, ":"), schema_space(s), schema_value(s, all)));
}

static struct member *find(struct object *o, struct base_view name)
{
    for (size_t i = 0; i < o->members.size; i++)
        if (same(o->members.data[i].name, name))
            return &o->members.data[i];
    return NULL;
}

static void add_name(struct object *o, struct base_view name, int required)
{
    struct member *m = find(o, name);
    if (!m) {
        if (base_array_push(&o->s->alloc, &o->members, ((struct member){.name = name})) !=
            INFER_OK) {
            grammar_builder_fail(o->s->b, INFER_ERR_NO_MEMORY);
            return;
        }
        m = &o->members.data[o->members.size - 1];
    }
    o->n_required += required && !m->required;
    m->required |= required;
}

static void find_names(struct object *o)
{
    struct schema *s = o->s;
    for (size_t i = 0; i < o->alt->n && !schema_failed(s); i++) {
        const struct base_json *p = members_of(s, o->alt->data[i], "properties");
        for (uint32_t k = 0; p && k < p->n; k++)
            add_name(o, p->as.member[k].key, 0);
    }
    for (size_t i = 0; i < o->alt->n && !schema_failed(s); i++) {
        const struct base_json *required = base_json_get(o->alt->data[i], "required");
        if (required && required->type != BASE_JSON_ARRAY)
            schema_fail(s, o->alt->data[i], INFER_ERR_FORMAT, "\"required\" is no array", nothing);
        for (uint32_t k = 0; required && k < required->n && !schema_failed(s); k++) {
            struct base_view name;
            if (base_json_string(&required->as.items[k], &name))
                add_name(o, name, 1);
            else
                schema_fail(s, o->alt->data[i], INFER_ERR_FORMAT, "\"required\" names no string",
                            nothing);
        }
    }
}

static void write_members(struct object *o)
{
    struct schema *s = o->s;
    for (size_t i = 0; i < o->members.size && !schema_failed(s); i++) {
        struct member *m = &o->members.data[i];
        struct schema_all all = schema_member(s, o->alt, m->name);
        struct base_json name = {.type = BASE_JSON_STRING, .as.text = m->name};
        const struct grammar_expr *e = grammar_never(s->b);
        if (schema_matches_all(s, &o->names, &name))
            e = member_expr(s, schema_quoted(s, m->name), &all);
        o->members.data[i].expr = e; /* the array has not grown */
        o->impossible |= m->required && e->kind == GRAMMAR_NEVER;
    }
}

/* ------------------------------------------------------------------ others */

static void find_patterns(struct object *o)
{
    struct schema *s = o->s;
    for (size_t i = 0; i < o->alt->n && !schema_failed(s); i++) {
        const struct base_json *p = members_of(s, o->alt->data[i], "patternProperties");
        for (uint32_t k = 0; p && k < p->n && !schema_failed(s); k++) {
            size_t at = 0;
            while (at < o->n_patterns && !same(o->patterns[at].text, p->as.member[k].key))
                at++;
            if (at < o->n_patterns)
                continue;
            if (at == PATTERNS_MAX) {
                schema_fail(s, o->alt->data[i], INFER_ERR_LIMIT,
                            "more than 6 \"patternProperties\" for one value", nothing);
                return;
            }
            o->patterns[at].text = p->as.member[k].key;
            if (schema_pattern(s, o->alt->data[i], o->patterns[at].text, &o->patterns[at].dfa) ==
                INFER_OK)
                o->n_patterns++;
        }
    }
}

/* The schemas for a name that matches just the patterns in `matched`. */
static struct schema_all other_value(struct object *o, unsigned matched)
{
    struct schema_all out = {0};
    for (size_t i = 0; i < o->alt->n && !schema_failed(o->s); i++) {
        const struct base_json *p = base_json_get(o->alt->data[i], "patternProperties");
        const struct base_json *others = base_json_get(o->alt->data[i], "additionalProperties");
        int known = 0;
        for (uint32_t k = 0; p && k < p->n; k++)
            for (size_t at = 0; at < o->n_patterns; at++)
                if ((matched >> at & 1) && same(o->patterns[at].text, p->as.member[k].key)) {
                    schema_add(o->s, &out, &p->as.member[k].value);
                    known = 1;
                }
        if (!known && others)
            schema_add(o->s, &out, others);
    }
    return out;
}

/* Names that are none of the named and that "propertyNames" allows. */
static infer_status other_names(struct object *o, struct regex_dfa *out)
{
    struct schema *s = o->s;
    struct regex_dfa d;
    infer_status st = regex_of_length(out, s->b, 0, GRAMMAR_UNBOUNDED);
    struct base_view *names = base_arena_new(&s->b->arena, o->members.size + 1, sizeof *names);
    if (!names)
        st = INFER_ERR_NO_MEMORY;
    for (size_t i = 0; st == INFER_OK && i < o->members.size; i++)
        names[i] = o->members.data[i].name;
    if (st == INFER_OK && o->members.size)
        st = regex_of_texts(&d, s->b, names, o->members.size);
    if (st == INFER_OK && o->members.size)
        st = regex_combine(out, s->b, out, &d, REGEX_AND_NOT);
    if (st != INFER_OK || !o->names.n)
        return st;
    struct schema_alternatives alts = schema_expand(s, &o->names);
    int any = 0;
    if (alts.size == 0)
        return regex_of_texts(out, s->b, NULL, 0);
    for (size_t i = 0; i < alts.data[0].n; i++)
        if (alts.size > 1 || base_json_get(alts.data[0].data[i], "enum") ||
            base_json_get(alts.data[0].data[i], "const"))
            return schema_fail(s, alts.data[0].data[i], INFER_ERR_UNSUPPORTED,
                               "\"propertyNames\" with choices is not supported", nothing);
    if (!(schema_types(s, &alts.data[0]) & SCHEMA_STRING))
        return regex_of_texts(out, s->b, NULL, 0);
    st = schema_string_dfa(s, &alts.data[0], &d, &any);
    return st == INFER_OK && !any ? regex_combine(out, s->b, out, &d, REGEX_AND) : st;
}

static const struct grammar_expr *other_of_class(struct object *o, const struct regex_dfa *names,
                                                 unsigned matched)
{
    struct schema *s = o->s;
    struct regex_dfa d = *names;
    infer_status st = INFER_OK;
    struct schema_all all = other_value(o, matched);
    if (schema_value(s, &all)->kind == GRAMMAR_NEVER)
        return grammar_never(s->b);
    for (size_t i = 0; i < o->n_patterns && st == INFER_OK; i++)
        st = regex_combine(&d, s->b, &d, &o->patterns[i].dfa,
                           matched >> i & 1 ? REGEX_AND : REGEX_AND_NOT);
    grammar_builder_fail(s->b, st);
    if (st != INFER_OK || regex_is_empty(&d, s->b))
        return grammar_never(s->b);
    const struct grammar_expr *quote = grammar_text(s->b, "\"");
    const struct grammar_expr *key =
        grammar_seq(s->b, GRAMMAR_ITEMS(quote, regex_expr(s->b, &d, 1), quote));
    return member_expr(s, key, &all);
}

static void write_others(struct object *o)
{
    struct schema *s = o->s;
    struct regex_dfa names;
    grammar_list items = {0};
    o->other = grammar_never(s->b);
    if (!o->members.size && !o->n_patterns && !o->names.n) {
        struct schema_all all = other_value(o, 0);
        o->other = member_expr(s, grammar_call(s->b, s->string), &all);
        return;
    }
    infer_status st = other_names(o, &names);
    grammar_builder_fail(s->b, st);
    for (unsigned matched = 0; matched < 1u << o->n_patterns && !schema_failed(s); matched++)
        grammar_list_add(s->b, &items, other_of_class(o, &names, matched));
    o->other = grammar_alt(s->b, items.data, items.size);
    base_array_release(&s->b->alloc, &items);
}

/* ---------------------------------------------------------------- the whole */

/* A state says how many of the named are behind, and how many members there were, as far as that
 * matters. */
struct members_graph {
    struct object *o;
    uint32_t counts;
    BASE_ARRAY(struct grammar_arc) arcs;
};

static uint32_t state_at(const struct members_graph *g, size_t named, uint32_t count)
{
    return (uint32_t)named * g->counts + BASE_MIN(count, g->counts - 1);
}

static void add_arc(struct members_graph *g, uint32_t from, uint32_t to,
                    const struct grammar_expr *label)
{
    struct schema *s = g->o->s;
    if (label->kind != GRAMMAR_NEVER && !schema_failed(s) &&
        base_array_push(&s->alloc, &g->arcs, ((struct grammar_arc){from, to, label})) != INFER_OK)
        grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
}

static void add_member(struct members_graph *g, size_t named, uint32_t count, size_t to,
                       const struct grammar_expr *member)
{
    struct schema *s = g->o->s;
    if (count >= g->o->max)
        return;
    if (count)
        member = grammar_seq(s->b, GRAMMAR_ITEMS(grammar_text(s->b, ","), schema_space(s), member));
    add_arc(g, state_at(g, named, count), state_at(g, to, count + 1), member);
}

static const struct grammar_expr *members_expr(struct object *o)
{
    struct schema *s = o->s;
    struct members_graph g = {.o = o};
    size_t n = o->members.size;
    /* Counts above this one are all the same. */
    uint32_t last = o->max != GRAMMAR_UNBOUNDED ? o->max : BASE_MAX(o->min, 1);
    if (last > n + 1 && o->other->kind == GRAMMAR_NEVER)
        last = (uint32_t)n + 1; /* there are no more */
    if ((uint64_t)(last + 1) * (n + 1) > STATES_MAX) {
        schema_fail(s, NULL, INFER_ERR_LIMIT,
                    "\"minProperties\" or \"maxProperties\" is too large for so many properties",
                    nothing);
        return grammar_never(s->b);
    }
    g.counts = last + 1;
    size_t n_states = (n + 1) * g.counts;
    uint8_t *accepts = base_new(&s->alloc, n_states, 1);
    if (!accepts)
        grammar_builder_fail(s->b, INFER_ERR_NO_MEMORY);
    for (size_t i = 0; i <= n && !schema_failed(s); i++)
        for (uint32_t count = 0; count < g.counts; count++) {
            if (i == n) {
                accepts[state_at(&g, i, count)] = count >= o->min && count <= o->max;
                add_member(&g, i, count, i, o->other);
                continue;
            }
            add_member(&g, i, count, i + 1, o->members.data[i].expr);
            if (!o->members.data[i].required)
                add_arc(&g, state_at(&g, i, count), state_at(&g, i + 1, count),
                        grammar_empty(s->b));
        }
    const struct grammar_expr *e = grammar_never(s->b);
    if (!schema_failed(s))
        e = grammar_graph(s->b, g.arcs.data, g.arcs.size, accepts, n_states);
    base_array_release(&s->alloc, &g.arcs);
    base_free(&s->alloc, accepts);
    return e;
}

/* Whether some path through the members ends. */
static int is_possible(const struct object *o)
{
    size_t possible = 0;
    for (size_t i = 0; i < o->members.size; i++)
        possible += o->members.data[i].expr->kind != GRAMMAR_NEVER;
    return !o->impossible && o->n_required <= o->max && o->min <= o->max &&
           (o->min <= possible || o->other->kind != GRAMMAR_NEVER);
}

/* A member whose name is not known may come twice, and counts once. */
static void check_counts(struct object *o)
{
    if (o->min <= 1 || o->min <= o->n_required || o->other->kind == GRAMMAR_NEVER)
        return;
    for (size_t i = 0; i < o->alt->n; i++)
        if (base_json_get(o->alt->data[i], "minProperties"))
            schema_fail(o->s, o->alt->data[i], INFER_ERR_UNSUPPORTED,
                        "\"minProperties\" above the number of required properties is not "
                        "supported where other properties are allowed",
                        nothing);
}

static const struct grammar_expr *write_object(struct object *o)
{
    struct schema *s = o->s;
    find_names(o);
    write_members(o);
    find_patterns(o);
    if (schema_failed(s) || o->impossible)
        return grammar_never(s->b);
    write_others(o);
    if (schema_failed(s) || !is_possible(o))
        return grammar_never(s->b);
    check_counts(o);
    return grammar_seq(s->b,
                       GRAMMAR_ITEMS(grammar_text(s->b, "{"), schema_space(s), members_expr(o),
                                     schema_space(s), grammar_text(s->b, "}")));
}

const struct grammar_expr *schema_object(struct schema *s, const struct schema_all *alt)
{
    struct object o = {.s = s, .alt = alt};
    o.min = schema_highest(s, alt, "minProperties");
    o.max = schema_lowest(s, alt, "maxProperties");
    for (size_t i = 0; i < alt->n; i++) {
        const struct base_json *names = base_json_get(alt->data[i], "propertyNames");
        if (names)
            schema_add(s, &o.names, names);
    }
    const struct grammar_expr *e = write_object(&o);
    base_array_release(&s->alloc, &o.members);
    return e;
}
