/* Functions that every template can call. */
#include "text/jinja_internal.h"

#include "base/error.h"

#define MAX_RANGE 100000 /* as in Jinja2's sandbox */

static struct jinja_value global_range(struct jinja_render *r, const struct jinja_call *c)
{
    int64_t at[3] = {0, 0, 1};
    size_t n = c->a[1].kind == JINJA_MISSING ? 1 : c->a[2].kind == JINJA_MISSING ? 2 : 3;
    for (size_t i = 0; i < n; i++) {
        int64_t *to = n == 1 ? &at[1] : &at[i];
        if (!jinja_defined(r, c->a[i]))
            return jinja_no_value();
        if (!jinja_as_int(c->a[i], to))
            return jinja_fail(r, INFER_ERR_INVALID,
                              "'%s' object cannot be interpreted as an integer",
                              jinja_type_name(c->a[i].kind));
    }
    if (at[2] == 0)
        return jinja_fail(r, INFER_ERR_INVALID, "range() arg 3 must not be zero");
    struct jinja_range *range = jinja_new(r, 1, sizeof *range);
    if (!range)
        return jinja_no_value();
    *range = (struct jinja_range){at[0], at[1], at[2]};
    if (jinja_range_size(range) > MAX_RANGE)
        return jinja_fail(r, INFER_ERR_LIMIT, "a range of more than %d items", MAX_RANGE);
    return (struct jinja_value){.kind = JINJA_RANGE, .range = range};
}

/* dict(mapping or pairs, name=value ...), also what a namespace begins with. */
static struct jinja_value make_dict(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value dict = jinja_dict(&r->heap);
    if (c->args->n > 1)
        return jinja_fail(r, INFER_ERR_INVALID, "%s expected at most 1 argument, got %zu",
                          c->function->name, c->args->n);
    struct jinja_value from = c->args->n ? c->args->at[0] : jinja_no_value();
    if (from.kind == JINJA_DICT) {
        for (size_t i = 0; i < from.dict->size && !jinja_failed(r); i++)
            jinja_put(r, dict, from.dict->entries[i].key, from.dict->entries[i].value);
        jinja_charge(r, from.dict->size);
    } else if (from.kind != JINJA_MISSING) {
        struct jinja_list pairs = jinja_walk(r, from);
        for (size_t i = 0; i < pairs.size && !jinja_failed(r); i++) {
            struct jinja_list pair = jinja_walk(r, pairs.items[i]);
            if (pair.size == 2)
                jinja_put(r, dict, pair.items[0], pair.items[1]);
            else
                jinja_fail(r, INFER_ERR_INVALID,
                           "a dict is made of pairs, element %zu has length %zu", i, pair.size);
        }
    }
    for (size_t i = 0; i < c->args->n_named && !jinja_failed(r); i++)
        jinja_put(r, dict, jinja_text(c->args->named[i].name, 0), c->args->named[i].value);
    return jinja_failed(r) ? jinja_no_value() : dict;
}

static struct jinja_value global_namespace(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value v = make_dict(r, c);
    if (!jinja_failed(r))
        v.kind = JINJA_NAMESPACE;
    return v;
}

static struct jinja_value new_cycler(struct jinja_render *r, uint8_t kind,
                                     const struct jinja_value *items, size_t n)
{
    struct jinja_cycler *cycler = jinja_new(r, 1, sizeof *cycler);
    struct jinja_value *copy = jinja_new(r, n, sizeof *copy);
    if (!cycler || !copy)
        return jinja_no_value();
    memcpy(copy, items, n * sizeof *copy);
    cycler->items = (struct jinja_list){.items = copy, .size = n};
    return (struct jinja_value){.kind = kind, .cycler = cycler};
}

static struct jinja_value global_cycler(struct jinja_render *r, const struct jinja_call *c)
{
    if (c->args->n == 0 || c->args->n_named)
        return jinja_fail(r, INFER_ERR_INVALID, "cycler: at least one item has to be provided");
    return new_cycler(r, JINJA_CYCLER, c->args->at, c->args->n);
}

static struct jinja_value global_joiner(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value separator = c->a[0].kind == JINJA_MISSING ? jinja_string(", ", 2) : c->a[0];
    return new_cycler(r, JINJA_JOINER, &separator, 1);
}

/* The template's own sentence is the error, without a position before it. */
static struct jinja_value global_raise(struct jinja_render *r, const struct jinja_call *c)
{
    struct jinja_value text = jinja_str(r, c->a[0]);
    if (jinja_failed(r))
        return text;
    r->heap.status =
        base_error(INFER_ERR_INVALID, "%.*s", (int)BASE_MIN(text.text.size, (size_t)BASE_ERROR_MAX),
                   text.text.data);
    return jinja_no_value();
}

static const struct jinja_callable functions[] = {
    {"range", global_range, "/start stop? step?"},
    {"dict", make_dict, "*"},
    {"namespace", global_namespace, "*"},
    {"cycler", global_cycler, "*"},
    {"joiner", global_joiner, "sep?"},
    {"raise_exception", global_raise, "message"},
    {"strftime_now", jinja_function_strftime_now, "format"},
    {"lipsum", NULL, "*"},
};

const struct jinja_callable *jinja_find_in(const struct jinja_callable *table, size_t n,
                                           struct base_view name)
{
    for (size_t i = 0; i < n; i++)
        if (base_view_equal(name, table[i].name))
            return &table[i];
    return NULL;
}

const struct jinja_callable *jinja_find_function(struct base_view name)
{
    return jinja_find_in(functions, BASE_COUNT(functions), name);
}
