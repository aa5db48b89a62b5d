/* From the JSON of a filter to conditions; whatever is wrong with it is found here, with its place.
 */
#include "vector/filter_node.h"

#include "base/array.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

#include <stdio.h>

#define PLACE_BYTES 256

/* Where the parser is: names and numbers of elements from the top down. */
struct place {
    const struct place *up;
    struct base_view name;
    uint32_t element; /* where name.data is NULL */
};

struct parser {
    struct vector_filter *filter;
    BASE_ARRAY(struct base_view) names;
    int32_t n_nodes, n_conditions;
};

/* ------------------------------------------------------------------ sentences */

/* "$or[1].year.$gte", its end where it is long. */
static const char *place_text(const struct place *place, char text[PLACE_BYTES])
{
    size_t at = PLACE_BYTES - 1;
    text[at] = 0;
    for (; place; place = place->up) {
        char piece[80];
        int n;
        if (place->name.data)
            n = snprintf(piece, sizeof piece, "%s%.*s", place->up ? "." : "",
                         (int)BASE_MIN(place->name.size, (size_t)64), place->name.data);
        else
            n = snprintf(piece, sizeof piece, "[%u]", place->element);
        size_t size = BASE_MIN((size_t)n, sizeof piece - 1);
        if (size + 3 > at) {
            at -= 3;
            memcpy(text + at, "...", 3);
            break;
        }
        at -= size;
        memcpy(text + at, piece, size);
    }
    return text[at] ? text + at : "the top";
}

static const char *kind_text(const struct base_json *v)
{
    static const char *const texts[] = {"null",     "false",    "true",     "a number",
                                        "a number", "a string", "an array", "an object"};
    if (v->type >= BASE_JSON_ARRAY && !v->n)
        return v->type == BASE_JSON_ARRAY ? "an empty array" : "an empty object";
    return texts[v->type];
}

static infer_status expected(const struct place *place, const char *what,
                             const struct base_json *found)
{
    char text[PLACE_BYTES];
    return base_error(INFER_ERR_FORMAT, "filter: %s is expected at %s, not %s", what,
                      place_text(place, text), kind_text(found));
}

/* ------------------------------------------------------------------ nodes */

static infer_status new_node(struct parser *p, int32_t type, int32_t path, struct filter_node **out)
{
    *out = NULL;
    if (p->n_nodes++ == VECTOR_FILTER_NODES)
        return base_error(INFER_ERR_LIMIT, "filter: more than %d conditions and groups of them",
                          VECTOR_FILTER_NODES);
    struct filter_node *node = base_arena_new(&p->filter->arena, 1, sizeof *node);
    if (!node)
        return INFER_ERR_NO_MEMORY;
    node->type = type;
    node->path = path;
    *out = node;
    return INFER_OK;
}

static void add_child(struct filter_node *parent, struct filter_node *child)
{
    child->next = parent->child;
    parent->child = child;
    parent->n_children++;
}

/* AND, OR or NOT below `parent`. */
static infer_status add_group(struct parser *p, struct filter_node *parent, int32_t type,
                              struct filter_node **out)
{
    infer_status st = new_node(p, type, -1, out);
    if (st == INFER_OK)
        add_child(parent, *out);
    return st;
}

/* Puts a condition under `parent`, or under a NOT there. */
static infer_status add_condition(struct parser *p, struct filter_node *parent, int32_t type,
                                  int32_t path, int negated, struct filter_node **out)
{
    if (p->n_conditions++ == VECTOR_FILTER_CONDITIONS)
        return base_error(INFER_ERR_LIMIT,
                          "filter: more than %d conditions; a list of values is "
                          "one condition with $in",
                          VECTOR_FILTER_CONDITIONS);
    infer_status st = INFER_OK;
    if (negated)
        st = add_group(p, parent, FILTER_NOT, &parent);
    if (st == INFER_OK)
        st = new_node(p, type, path, out);
    if (st == INFER_OK)
        add_child(parent, *out);
    return st;
}

/* Filters have few fields: names are compared one by one. */
static infer_status find_path(struct parser *p, struct base_view name, int32_t *out)
{
    for (size_t i = 0; i < p->names.size; i++)
        if (p->names.data[i].size == name.size &&
            (!name.size || memcmp(p->names.data[i].data, name.data, name.size) == 0)) {
            *out = (int32_t)i;
            return INFER_OK;
        }
    *out = (int32_t)p->names.size;
    if (*out == VECTOR_PATHS_MAX)
        return base_error(INFER_ERR_LIMIT, "filter: more than %d different fields",
                          VECTOR_PATHS_MAX);
    return base_array_push(&p->filter->alloc, &p->names, name);
}

/* ------------------------------------------------------------------ conditions */

/* Sorts by sifting, in place: lists may be long, and hostile. */
static void sift(struct vector_value *v, size_t at, size_t n)
{
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && vector_value_compare(&v[child], &v[child + 1]) < 0)
            child++;
        if (vector_value_compare(&v[at], &v[child]) >= 0)
            return;
        struct vector_value moved = v[at];
        v[at] = v[child];
        v[child] = moved;
    }
}

static int32_t sort_values(struct vector_value *v, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(v, i, n);
    for (size_t end = n; end > 1;) {
        struct vector_value last = v[--end];
        v[end] = v[0];
        v[0] = last;
        sift(v, 0, end);
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!i || vector_value_compare(&v[kept - 1], &v[i]) != 0)
            v[kept++] = v[i];
    return (int32_t)kept;
}

static const char scalar_text[] = "a string, a number, true, false or null";

static infer_status parse_in(struct parser *p, const struct base_json *v, const struct place *place,
                             struct filter_node *node)
{
    if (v->type != BASE_JSON_ARRAY)
        return expected(place, "an array of values", v);
    if (!(node->values = base_arena_new(&p->filter->arena, v->n, sizeof *node->values)))
        return INFER_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < v->n; i++) {
        const struct place element = {.up = place, .element = i};
        if (!vector_value_of(&node->values[i], &v->as.items[i]))
            return expected(&element, scalar_text, &v->as.items[i]);
    }
    node->n_values = sort_values(node->values, v->n);
    return INFER_OK;
}

static infer_status parse_eq(struct parser *p, const struct base_json *v, const struct place *place,
                             struct filter_node *node)
{
    if (!(node->values = base_arena_new(&p->filter->arena, 1, sizeof *node->values)))
        return INFER_ERR_NO_MEMORY;
    if (!vector_value_of(node->values, v))
        return expected(place, scalar_text, v);
    node->n_values = 1;
    return INFER_OK;
}

/* Two bounds of one object are one node where they can be, because columns answer that at once. */
static infer_status parse_bound(struct parser *p, const struct base_json *v,
                                const struct place *place, int32_t path, struct filter_node *parent)
{
    const int is_low = place->name.data[1] == 'g', strict = place->name.size == 3;
    struct vector_value value;
    struct filter_node *node = parent->child;
    if (!vector_value_of(&value, v) || value.kind < VECTOR_NUMBER)
        return expected(place, "a number or a string", v);
    for (; node; node = node->next)
        if (node->type == FILTER_RANGE && !(is_low ? &node->low : &node->high)->is_set &&
            (is_low ? &node->high : &node->low)->value.kind == value.kind)
            break;
    if (!node) {
        infer_status st = add_condition(p, parent, FILTER_RANGE, path, 0, &node);
        if (st != INFER_OK)
            return st;
    }
    *(is_low ? &node->low : &node->high) = (struct filter_bound){1, strict, value};
    return INFER_OK;
}

static infer_status parse_operators(struct parser *p, const struct base_json *v,
                                    const struct place *place, int32_t path,
                                    struct filter_node *parent);

static infer_status parse_not(struct parser *p, const struct base_json *v,
                              const struct place *place, int32_t path, struct filter_node *parent)
{
    struct filter_node * not, *all;
    infer_status st = add_group(p, parent, FILTER_NOT, &not );
    if (st == INFER_OK)
        st = add_group(p, not, FILTER_AND, &all);
    return st == INFER_OK ? parse_operators(p, v, place, path, all) : st;
}

static infer_status parse_operator(struct parser *p, const struct base_json *v,
                                   const struct place *place, int32_t path,
                                   struct filter_node *parent)
{
    static const char *const names[] = {"$eq", "$ne",  "$in",  "$nin",    "$lt",    "$lte",
                                        "$gt", "$gte", "$not", "$exists", "$prefix"};
    enum { EQ, NE, IN, NIN, LT, LTE, GT, GTE, NOT, EXISTS, PREFIX };
    char text[PLACE_BYTES];
    struct filter_node *node;
    size_t i = 0;
    while (i < BASE_COUNT(names) && !base_view_equal(place->name, names[i]))
        i++;
    if (i == BASE_COUNT(names))
        return base_error(INFER_ERR_FORMAT,
                          "filter: an operator is expected at %s: one of $eq, $ne, $in, $nin, $lt, "
                          "$lte, $gt, $gte, $exists, $prefix, $not; fields of nested objects are "
                          "written with dots, as \"a.b\"",
                          place_text(place, text));
    if (i >= LT && i <= GTE)
        return parse_bound(p, v, place, path, parent);
    if (i == NOT)
        return parse_not(p, v, place, path, parent);
    if (i == EXISTS && v->type != BASE_JSON_TRUE && v->type != BASE_JSON_FALSE)
        return expected(place, "true or false", v);
    if (i == PREFIX && v->type != BASE_JSON_STRING)
        return expected(place, "a string", v);
    const int32_t type = i == EXISTS ? FILTER_EXISTS : i == PREFIX ? FILTER_PREFIX : FILTER_IN;
    const int negated = i == NE || i == NIN || (i == EXISTS && v->type == BASE_JSON_FALSE);
    infer_status st = add_condition(p, parent, type, path, negated, &node);
    if (st != INFER_OK || i == EXISTS)
        return st;
    if (i == PREFIX) {
        node->prefix = v->as.text;
        return INFER_OK;
    }
    return i == EQ || i == NE ? parse_eq(p, v, place, node) : parse_in(p, v, place, node);
}

static infer_status parse_operators(struct parser *p, const struct base_json *v,
                                    const struct place *place, int32_t path,
                                    struct filter_node *parent)
{
    infer_status st = INFER_OK;
    if (v->type != BASE_JSON_OBJECT || !v->n)
        return expected(place, "an object of operators, such as {\"$gt\": 1},", v);
    for (uint32_t i = 0; i < v->n && st == INFER_OK; i++) {
        const struct place here = {.up = place, .name = v->as.member[i].key};
        st = parse_operator(p, &v->as.member[i].value, &here, path, parent);
    }
    return st;
}

static infer_status parse_field(struct parser *p, const struct base_json *v,
                                const struct place *place, struct filter_node *parent)
{
    struct filter_node *node;
    int32_t path;
    infer_status st = find_path(p, place->name, &path);
    if (st != INFER_OK)
        return st;
    if (v->type == BASE_JSON_OBJECT) { /* an AND of its own: bounds of one object may be joined */
        st = add_group(p, parent, FILTER_AND, &node);
        return st == INFER_OK ? parse_operators(p, v, place, path, node) : st;
    }
    st = add_condition(p, parent, FILTER_IN, path, 0, &node);
    if (st == INFER_OK && v->type == BASE_JSON_ARRAY)
        st = expected(place, "a value, or an object of operators such as {\"$in\": [...]},", v);
    return st == INFER_OK ? parse_eq(p, v, place, node) : st;
}

/* ------------------------------------------------------------------ filters in filters */

static infer_status parse_filter(struct parser *p, const struct base_json *v,
                                 const struct place *place, struct filter_node *all);

static infer_status parse_list(struct parser *p, const struct base_json *v,
                               const struct place *place, struct filter_node *parent)
{
    infer_status st = INFER_OK;
    if (v->type != BASE_JSON_ARRAY || !v->n)
        return expected(place, "an array of filters", v);
    for (uint32_t i = 0; i < v->n && st == INFER_OK; i++) {
        const struct place element = {.up = place, .element = i};
        struct filter_node *all;
        st = add_group(p, parent, FILTER_AND, &all);
        if (st == INFER_OK)
            st = parse_filter(p, &v->as.items[i], &element, all);
    }
    return st;
}

static infer_status parse_member(struct parser *p, const struct base_json *v,
                                 const struct place *place, struct filter_node *parent)
{
    char text[PLACE_BYTES];
    if (!place->name.size || place->name.data[0] != '$')
        return parse_field(p, v, place, parent);
    const int is_not = base_view_equal(place->name, "$not");
    const int is_or = base_view_equal(place->name, "$or");
    if (!is_not && !is_or && !base_view_equal(place->name, "$and"))
        return base_error(INFER_ERR_FORMAT,
                          "filter: a field, or one of $and, $or, $not, is expected at %s",
                          place_text(place, text));
    struct filter_node *node, *all;
    infer_status st = add_group(p, parent,
                                is_not  ? FILTER_NOT
                                : is_or ? FILTER_OR
                                        : FILTER_AND,
                                &node);
    if (st != INFER_OK)
        return st;
    if (!is_not)
        return parse_list(p, v, place, node);
    st = add_group(p, node, FILTER_AND, &all);
    return st == INFER_OK ? parse_filter(p, v, place, all) : st;
}

static infer_status parse_filter(struct parser *p, const struct base_json *v,
                                 const struct place *place, struct filter_node *all)
{
    infer_status st = INFER_OK;
    if (v->type != BASE_JSON_OBJECT)
        return expected(place, "an object", v);
    for (uint32_t i = 0; i < v->n && st == INFER_OK; i++) {
        const struct place here = {.up = place, .name = v->as.member[i].key};
        st = parse_member(p, &v->as.member[i].value, &here, all);
    }
    return st;
}

/* The text was parsed, so that this ends at BASE_JSON_MAX_DEPTH at the latest. */
static int32_t depth_of(const struct base_json *v)
{
    int32_t deepest = 0;
    if (v->type < BASE_JSON_ARRAY)
        return 0;
    for (uint32_t i = 0; i < v->n; i++) {
        int32_t depth =
            depth_of(v->type == BASE_JSON_ARRAY ? &v->as.items[i] : &v->as.member[i].value);
        deepest = BASE_MAX(deepest, depth);
    }
    return deepest + 1;
}

static infer_status parse_text(struct parser *p, const char *text, size_t size)
{
    struct vector_filter *f = p->filter;
    const struct base_json *tree;
    infer_status st = base_json_parse(&tree, &f->arena, text, size);
    if (st != INFER_OK)
        return st == INFER_ERR_NO_MEMORY ? st : base_error_prefix(st, "filter");
    if (depth_of(tree) > VECTOR_FILTER_DEPTH)
        return base_error(INFER_ERR_LIMIT, "filter: arrays and objects are nested deeper than %d",
                          VECTOR_FILTER_DEPTH);
    st = new_node(p, FILTER_AND, -1, &f->root);
    if (st == INFER_OK)
        st = parse_filter(p, tree, NULL, f->root);
    if (st == INFER_OK)
        st = vector_paths_create(&f->paths, &f->alloc, p->names.data, (int32_t)p->names.size);
    return st;
}

infer_status vector_filter_parse(struct vector_filter **out, const struct base_alloc *a,
                                 const char *text, size_t size)
{
    if (size > VECTOR_FILTER_BYTES)
        return base_error(INFER_ERR_LIMIT, "filter: %zu bytes; at most %d are read", size,
                          VECTOR_FILTER_BYTES);
    struct vector_filter *f = base_new(a, 1, sizeof *f);
    if (!f)
        return INFER_ERR_NO_MEMORY;
    struct parser p = {.filter = f};
    f->alloc = *a;
    base_arena_init(&f->arena, a);
    f->text = (struct base_view){base_arena_strdup(&f->arena, text, size), size};
    infer_status st = f->text.data ? parse_text(&p, f->text.data, size) : INFER_ERR_NO_MEMORY;
    f->names = p.names.data;
    f->n_paths = (int32_t)p.names.size;
    if (st == INFER_OK)
        *out = f;
    else
        vector_filter_destroy(&f);
    return st;
}

void vector_filter_destroy(struct vector_filter **filter)
{
    struct vector_filter *f = *filter;
    if (!f)
        return;
    struct base_alloc a = f->alloc;
    vector_paths_destroy(&f->paths);
    base_free(&a, f->names);
    base_arena_release(&f->arena);
    base_free(&a, f);
    *filter = NULL;
}
