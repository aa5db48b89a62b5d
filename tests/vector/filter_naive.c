/* The language of filters, word by word. */
#include "filter_naive.h"

#include "base/str.h"

static int same(struct base_view a, struct base_view b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

static const struct base_json *member(const struct base_json *v, struct base_view name)
{
    for (uint32_t i = 0; base_json_is(v, BASE_JSON_OBJECT) && i < v->n; i++)
        if (same(v->as.member[i].key, name))
            return &v->as.member[i].value;
    return NULL;
}

static const struct base_json *field(const struct base_json *v, struct base_view path)
{
    const struct base_json *found = member(v, path);
    while (v && !found) {
        const char *dot = memchr(path.data, '.', path.size);
        size_t n = dot ? (size_t)(dot - path.data) : path.size;
        v = member(v, (struct base_view){path.data, n});
        if (!dot)
            return v;
        path = (struct base_view){dot + 1, path.size - n - 1};
    }
    return found;
}

static int is_number(const struct base_json *v)
{
    return v->type == BASE_JSON_INT || v->type == BASE_JSON_REAL;
}

/* Holds every int64 and every double. */
static long double number(const struct base_json *v)
{
    return v->type == BASE_JSON_INT ? (long double)v->as.integer : (long double)v->as.real;
}

/* -1, 0, 1; 2: they do not compare. */
static int compare(const struct base_json *a, const struct base_json *b)
{
    if (is_number(a) && is_number(b))
        return (number(a) > number(b)) - (number(a) < number(b));
    if (a->type != BASE_JSON_STRING || b->type != BASE_JSON_STRING)
        return 2;
    for (size_t i = 0; i < a->as.text.size && i < b->as.text.size; i++)
        if (a->as.text.data[i] != b->as.text.data[i])
            return (uint8_t)a->as.text.data[i] < (uint8_t)b->as.text.data[i] ? -1 : 1;
    return (a->as.text.size > b->as.text.size) - (a->as.text.size < b->as.text.size);
}

static int equal(const struct base_json *a, const struct base_json *b)
{
    if (a->type >= BASE_JSON_ARRAY || b->type >= BASE_JSON_ARRAY)
        return 0;
    return compare(a, b) == 0 || (a->type == b->type && a->type <= BASE_JSON_TRUE);
}

static int holds(const struct base_json *v, struct base_view op, const struct base_json *operand)
{
    int order = compare(v, operand);
    if (base_view_equal(op, "$lt"))
        return order == -1;
    if (base_view_equal(op, "$lte"))
        return order == -1 || order == 0;
    if (base_view_equal(op, "$gt"))
        return order == 1;
    if (base_view_equal(op, "$gte"))
        return order == 1 || order == 0;
    if (base_view_equal(op, "$prefix"))
        return v->type == BASE_JSON_STRING && v->as.text.size >= operand->as.text.size &&
               memcmp(v->as.text.data, operand->as.text.data, operand->as.text.size) == 0;
    if (base_view_equal(op, "$eq"))
        return equal(v, operand);
    for (uint32_t i = 0; i < operand->n; i++) /* $in */
        if (equal(v, &operand->as.items[i]))
            return 1;
    return 0;
}

static int any_holds(const struct base_json *v, const char *op, const struct base_json *operand)
{
    const struct base_view name = {op, strlen(op)};
    if (!v)
        return 0;
    if (v->type != BASE_JSON_ARRAY)
        return holds(v, name, operand);
    for (uint32_t i = 0; i < v->n; i++)
        if (holds(&v->as.items[i], name, operand))
            return 1;
    return 0;
}

static int operators(const struct base_json *v, const struct base_json *ops)
{
    for (uint32_t i = 0; i < ops->n; i++) {
        const struct base_json *operand = &ops->as.member[i].value;
        struct base_view op = ops->as.member[i].key;
        char name[16] = {0};
        int ok;
        memcpy(name, op.data, op.size < 15 ? op.size : 15);
        if (base_view_equal(op, "$ne"))
            ok = !any_holds(v, "$eq", operand);
        else if (base_view_equal(op, "$nin"))
            ok = !any_holds(v, "$in", operand);
        else if (base_view_equal(op, "$exists"))
            ok = (v != NULL) == (operand->type == BASE_JSON_TRUE);
        else if (base_view_equal(op, "$not"))
            ok = !operators(v, operand);
        else
            ok = any_holds(v, name, operand);
        if (!ok)
            return 0;
    }
    return 1;
}

int naive_passes(const struct base_json *filter, const struct base_json *metadata)
{
    for (uint32_t i = 0; i < filter->n; i++) {
        const struct base_json *v = &filter->as.member[i].value;
        struct base_view key = filter->as.member[i].key;
        int ok = 0, is_and = base_view_equal(key, "$and");
        if (is_and || base_view_equal(key, "$or")) {
            ok = is_and;
            for (uint32_t j = 0; j < v->n; j++)
                if (naive_passes(&v->as.items[j], metadata) != is_and)
                    ok = !is_and;
        } else if (base_view_equal(key, "$not")) {
            ok = !naive_passes(v, metadata);
        } else if (v->type == BASE_JSON_OBJECT) {
            ok = operators(field(metadata, key), v);
        } else {
            ok = any_holds(field(metadata, key), "$eq", v);
        }
        if (!ok)
            return 0;
    }
    return 1;
}
