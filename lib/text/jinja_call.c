/* Calls: arguments, built-ins, macros. */
#include "text/jinja_internal.h"

/* The values of *rest or **keyword_rest are appended to what stands in the call. */
static int append_rest(struct jinja_render *r, const struct jinja_arguments *from,
                       struct jinja_args *out)
{
    struct jinja_list more = {0};
    struct jinja_value named = {0};
    if (from->rest)
        more = jinja_walk(r, jinja_evaluate(r, from->rest));
    if (from->keyword_rest)
        named = jinja_evaluate(r, from->keyword_rest);
    if (jinja_failed(r))
        return 0;
    if (from->keyword_rest && named.kind != JINJA_DICT) {
        jinja_fail(r, INFER_ERR_INVALID, "argument after ** must be a mapping, not %s",
                   jinja_type_name(named.kind));
        return 0;
    }
    size_t n_named = from->keyword_rest ? named.dict->size : 0;
    struct jinja_value *at = jinja_new(r, out->n + more.size, sizeof *at);
    struct jinja_named *names = jinja_new(r, out->n_named + n_named, sizeof *names);
    if (!at || !names)
        return 0;
    if (out->n)
        memcpy(at, out->at, out->n * sizeof *at);
    if (more.size)
        memcpy(at + out->n, more.items, more.size * sizeof *at);
    if (out->n_named)
        memcpy(names, out->named, out->n_named * sizeof *names);
    for (size_t i = 0; i < n_named; i++) {
        const struct jinja_entry *e = &named.dict->entries[i];
        if (e->key.kind != JINJA_STRING) {
            jinja_fail(r, INFER_ERR_INVALID, "keywords must be strings");
            return 0;
        }
        names[out->n_named + i] = (struct jinja_named){e->key.text, e->value};
    }
    *out = (struct jinja_args){at, out->n + more.size, names, out->n_named + n_named};
    return 1;
}

int jinja_evaluate_args(struct jinja_render *r, const struct jinja_arguments *from,
                        struct jinja_args *out)
{
    if (jinja_failed(r))
        return 0;
    *out = (struct jinja_args){0};
    if (from->positional.n)
        out->at = jinja_new(r, from->positional.n, sizeof *out->at);
    if (from->n_keywords)
        out->named = jinja_new(r, from->n_keywords, sizeof *out->named);
    for (size_t i = 0; i < from->positional.n && !jinja_failed(r); i++)
        out->at[out->n++] = jinja_evaluate(r, from->positional.at[i]);
    for (size_t i = 0; i < from->n_keywords && !jinja_failed(r); i++)
        out->named[out->n_named++] = (struct jinja_named){
            from->keywords[i].name, jinja_evaluate(r, from->keywords[i].value)};
    if (from->rest || from->keyword_rest)
        return append_rest(r, from, out);
    return !jinja_failed(r);
}

/* The next name of a parameter list; 0 at its end. */
static int next_parameter(const char **list, struct base_view *name, int *optional)
{
    while (**list == ' ' || **list == '/')
        ++*list;
    if (!**list)
        return 0;
    name->data = *list;
    while (**list && **list != ' ' && **list != '?')
        ++*list;
    name->size = (size_t)(*list - name->data);
    *optional = **list == '?';
    *list += *optional;
    return 1;
}

static int same_view(struct base_view a, struct base_view b)
{
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

/* Names the first keyword that no parameter has. */
static void unexpected(struct jinja_render *r, const struct jinja_call *c, const char *what)
{
    for (size_t i = 0; i < c->args->n_named; i++) {
        struct base_view name = c->args->named[i].name, parameter;
        const char *list = c->function->parameters;
        int by_name = *list != '/', optional, known = 0;
        while (by_name && !known && next_parameter(&list, &parameter, &optional))
            known = same_view(name, parameter);
        if (!known)
            jinja_fail(r, INFER_ERR_INVALID, "%s '%s' got an unexpected keyword argument '%.*s'",
                       what, c->function->name, (int)BASE_MIN(name.size, (size_t)64), name.data);
    }
    jinja_fail(r, INFER_ERR_INVALID, "%s '%s' got an argument twice", what, c->function->name);
}

/* Puts the arguments in the order of the parameters, as Python does. */
static int bind(struct jinja_render *r, struct jinja_call *c, const char *what)
{
    const char *list = c->function->parameters, *name = c->function->name;
    int by_name = *list != '/', optional;
    size_t n = 0, n_used = 0;
    struct base_view parameter;
    for (; next_parameter(&list, &parameter, &optional); n++) {
        const struct jinja_value *given = n < c->args->n ? &c->args->at[n] : NULL;
        for (size_t i = 0; by_name && i < c->args->n_named; i++) {
            if (!same_view(c->args->named[i].name, parameter))
                continue;
            if (given) {
                jinja_fail(r, INFER_ERR_INVALID, "%s '%s' got multiple values for '%.*s'", what,
                           name, (int)parameter.size, parameter.data);
                return 0;
            }
            given = &c->args->named[i].value;
            n_used++;
        }
        if (given) {
            c->a[n] = *given;
        } else if (!optional) {
            jinja_fail(r, INFER_ERR_INVALID, "%s '%s' needs the argument '%.*s'", what, name,
                       (int)parameter.size, parameter.data);
            return 0;
        }
    }
    if (c->args->n > n) {
        jinja_fail(r, INFER_ERR_INVALID, "%s '%s' takes %zu argument(s), %zu given", what, name, n,
                   c->args->n);
        return 0;
    }
    if (n_used < c->args->n_named)
        unexpected(r, c, what);
    return !jinja_failed(r);
}

struct jinja_value jinja_invoke(struct jinja_render *r, const struct jinja_callable *f,
                                struct jinja_value self, const struct jinja_args *args,
                                const char *what)
{
    struct jinja_call call = {.function = f, .self = self, .args = args};
    if (jinja_failed(r))
        return jinja_no_value();
    if (!f->fn)
        return jinja_fail(r, INFER_ERR_UNSUPPORTED, "the %s '%s' is not supported", what, f->name);
    if (!jinja_enter(r)) /* map('map', ...) calls itself */
        return jinja_no_value();
    struct jinja_value v = {0};
    if (f->parameters[0] == '*' || bind(r, &call, what))
        v = f->fn(r, &call);
    jinja_leave(r);
    return v;
}

struct jinja_value jinja_macro_value(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_macro *macro = jinja_new(r, 1, sizeof *macro);
    if (!macro)
        return jinja_no_value();
    *macro = (struct jinja_macro){node, r->scope};
    return (struct jinja_value){.kind = JINJA_MACRO, .macro = macro};
}

static const struct jinja_value *take_named(const struct jinja_args *args, struct base_view name,
                                            uint8_t *used)
{
    for (size_t i = 0; i < args->n_named; i++) {
        if (!used[i] && same_view(args->named[i].name, name)) {
            used[i] = 1;
            return &args->named[i].value;
        }
    }
    return NULL;
}

static struct jinja_value not_provided(struct jinja_render *r, jinja_symbol name)
{
    struct base_view text = r->template->names[name];
    size_t begin = jinja_capture_begin(r);
    jinja_write_text(r, "parameter '");
    jinja_write(r, text.data, text.size);
    jinja_write_text(r, "' was not provided");
    struct jinja_value sentence = jinja_capture_end(r, begin), v = jinja_hint("");
    v.text = sentence.text;
    return jinja_failed(r) ? jinja_no_value() : v;
}

/* Arguments that no parameter takes: the names caller, kwargs and varargs, for a
 * macro that mentions them; else they are one too many. */
static void bind_extra(struct jinja_render *r, const struct jinja_signature *s,
                       const struct jinja_args *args, uint8_t *used)
{
    if (s->uses_caller) {
        const struct jinja_value *caller = take_named(args, jinja_view_of("caller"), used);
        jinja_assign(r, JINJA_SYMBOL_CALLER, caller ? *caller : jinja_hint("No caller defined"));
    }
    if (s->uses_kwargs) {
        struct jinja_value kwargs = jinja_dict(&r->heap);
        for (size_t i = 0; i < args->n_named; i++)
            if (!used[i])
                jinja_put(r, kwargs, jinja_text(args->named[i].name, 0), args->named[i].value);
        jinja_assign(r, JINJA_SYMBOL_KWARGS, kwargs);
    } else {
        for (size_t i = 0; i < args->n_named; i++)
            if (!used[i])
                jinja_fail(r, INFER_ERR_INVALID, "the macro takes no keyword argument '%.*s'",
                           (int)BASE_MIN(args->named[i].name.size, (size_t)64),
                           args->named[i].name.data);
    }
    if (s->uses_varargs) {
        struct jinja_value varargs = jinja_list_of(r, JINJA_TUPLE, args->n);
        for (size_t i = s->n; i < args->n && !jinja_failed(r); i++)
            varargs.list->items[varargs.list->size++] = args->at[i];
        jinja_assign(r, JINJA_SYMBOL_VARARGS, varargs);
    } else if (args->n > s->n) {
        jinja_fail(r, INFER_ERR_INVALID, "the macro takes not more than %zu argument(s)", s->n);
    }
}

static void bind_macro(struct jinja_render *r, const struct jinja_signature *s,
                       const struct jinja_args *args)
{
    uint8_t *used = jinja_new(r, args->n_named, 1);
    const struct jinja_value **given = jinja_new(r, s->n, sizeof *given);
    int explicit_caller = 0;
    if (!used || !given)
        return;
    for (size_t i = 0; i < s->n; i++) {
        given[i] = i < args->n ? &args->at[i]
                               : take_named(args, r->template->names[s->parameters[i]], used);
        explicit_caller |= s->parameters[i] == JINJA_SYMBOL_CALLER;
    }
    struct jinja_signature rest = *s;
    rest.uses_caller = s->uses_caller && !explicit_caller;
    bind_extra(r, &rest, args, used);
    /* Defaults are evaluated last and in order: they may use earlier parameters. */
    for (size_t i = 0; i < s->n; i++)
        if (given[i])
            jinja_assign(r, s->parameters[i], *given[i]);
    for (size_t i = 0; i < s->n && !jinja_failed(r); i++)
        if (!given[i])
            jinja_assign(r, s->parameters[i],
                         s->defaults[i] ? jinja_evaluate(r, s->defaults[i])
                                        : not_provided(r, s->parameters[i]));
}

static struct jinja_value call_macro(struct jinja_render *r, const struct jinja_macro *macro,
                                     const struct jinja_args *args)
{
    struct jinja_scope *scope = r->scope;
    const struct jinja_node *at = r->at;
    r->scope = jinja_scope_push(r, macro->scope);
    if (!jinja_failed(r))
        bind_macro(r, &macro->node->macro.signature, args);
    size_t begin = jinja_capture_begin(r);
    if (!jinja_failed(r))
        jinja_run(r, macro->node->macro.body);
    r->scope = scope;
    r->at = at;
    return jinja_capture_end(r, begin);
}

static struct jinja_value call_joiner(struct jinja_cycler *j)
{
    return j->position++ == 0 ? jinja_string("", 0) : j->items.items[0];
}

struct jinja_value jinja_call_value(struct jinja_render *r, struct jinja_value callee,
                                    const struct jinja_args *args)
{
    struct jinja_value v = {0};
    if (!jinja_defined(r, callee) || !jinja_enter(r))
        return jinja_no_value();
    if (callee.kind == JINJA_FUNCTION)
        v = jinja_invoke(r, callee.function, jinja_no_value(), args, "function");
    else if (callee.kind == JINJA_METHOD)
        v = jinja_invoke(r, callee.method->function, callee.method->self, args, "method");
    else if (callee.kind == JINJA_MACRO)
        v = call_macro(r, callee.macro, args);
    else if (callee.kind == JINJA_JOINER && args->n + args->n_named == 0)
        v = call_joiner(callee.cycler);
    else if (callee.kind == JINJA_LOOP && args->n == 1 && args->n_named == 0)
        v = jinja_loop_again(r, callee.loop, args->at[0]);
    else
        jinja_fail(r, INFER_ERR_INVALID, "'%s' object is not callable with these arguments",
                   jinja_type_name(callee.kind));
    jinja_leave(r);
    return v;
}
