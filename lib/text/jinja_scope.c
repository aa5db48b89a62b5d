/* Variables: scopes, lookup, assignment to targets. */
#include "text/jinja_internal.h"

struct jinja_scope *jinja_scope_push(struct jinja_render *r, struct jinja_scope *outer)
{
    struct jinja_scope *scope = jinja_new(r, 1, sizeof *scope);
    if (scope)
        scope->outer = outer;
    return scope;
}

struct jinja_value jinja_lookup(struct jinja_render *r, jinja_symbol name)
{
    for (const struct jinja_scope *s = r->scope; s; s = s->outer) {
        for (size_t i = 0; i < s->variables.size; i++)
            if (s->variables.data[i].name == name)
                return s->variables.data[i].value;
        jinja_charge(r, s->variables.size);
    }
    struct jinja_value v = r->globals[name];
    return v.kind == JINJA_MISSING ? jinja_undefined(r->template->names[name]) : v;
}

void jinja_assign(struct jinja_render *r, jinja_symbol name, struct jinja_value value)
{
    struct jinja_scope *s = r->scope;
    if (jinja_failed(r))
        return;
    if (!s) {
        r->globals[name] = value;
        return;
    }
    for (size_t i = 0; i < s->variables.size; i++) {
        if (s->variables.data[i].name == name) {
            s->variables.data[i].value = value;
            return;
        }
    }
    jinja_charge(r, s->variables.size);
    if (s->variables.size == s->variables.capacity) {
        size_t wider = s->variables.capacity ? s->variables.capacity * 2 : 4;
        struct jinja_variable *more = jinja_new(r, wider, sizeof *more);
        if (!more)
            return;
        if (s->variables.size)
            memcpy(more, s->variables.data, s->variables.size * sizeof *more);
        s->variables.data = more;
        s->variables.capacity = wider;
    }
    s->variables.data[s->variables.size++] = (struct jinja_variable){name, value};
}

static void assign_tuple(struct jinja_render *r, const struct jinja_node *target,
                         struct jinja_value value)
{
    size_t n = target->items.n;
    if (!jinja_iterable(value)) {
        jinja_fail(r, INFER_ERR_INVALID, "cannot unpack non-iterable %s object",
                   jinja_type_name(value.kind));
        return;
    }
    struct jinja_list items = jinja_walk(r, value);
    if (jinja_failed(r))
        return;
    if (items.size != n) {
        if (items.size > n)
            jinja_fail(r, INFER_ERR_INVALID, "too many values to unpack (expected %zu)", n);
        else
            jinja_fail(r, INFER_ERR_INVALID, "not enough values to unpack (expected %zu, got %zu)",
                       n, items.size);
        return;
    }
    for (size_t i = 0; i < n; i++)
        jinja_assign_target(r, target->items.at[i], items.items[i]);
}

void jinja_assign_target(struct jinja_render *r, const struct jinja_node *target,
                         struct jinja_value value)
{
    if (jinja_failed(r))
        return;
    if (target->kind == JINJA_N_NAME) {
        jinja_assign(r, target->symbol, value);
    } else if (target->kind == JINJA_N_SET_MEMBER) {
        struct jinja_value object = jinja_lookup(r, target->member.object);
        if (object.kind != JINJA_NAMESPACE)
            jinja_fail(r, INFER_ERR_INVALID, "cannot assign attribute on non-namespace object");
        else
            jinja_put(r, object, jinja_text(target->member.name, 0), value);
    } else {
        assign_tuple(r, target, value);
    }
}
