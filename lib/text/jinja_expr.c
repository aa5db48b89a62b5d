/* Evaluation of expressions. */
#include "text/jinja_internal.h"

static struct jinja_value evaluate_items(struct jinja_render *r, const struct jinja_node *node)
{
    uint8_t kind = node->kind == JINJA_N_TUPLE ? JINJA_TUPLE : JINJA_LIST;
    struct jinja_value list = jinja_list_of(r, kind, node->items.n);
    for (size_t i = 0; i < node->items.n && !jinja_failed(r); i++) {
        list.list->items[i] = jinja_evaluate(r, node->items.at[i]);
        list.list->size = i + 1;
    }
    return list;
}

static struct jinja_value evaluate_dict(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value dict = jinja_dict(&r->heap);
    for (size_t i = 0; i + 1 < node->items.n && !jinja_failed(r); i += 2) {
        struct jinja_value key = jinja_evaluate(r, node->items.at[i]);
        struct jinja_value value = jinja_evaluate(r, node->items.at[i + 1]);
        r->at = node;
        jinja_put(r, dict, key, value);
    }
    return dict;
}

static struct jinja_value evaluate_item(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value object = jinja_evaluate(r, node->item.object);
    const struct jinja_node *index = node->item.index;
    if (index->kind != JINJA_N_SLICE) {
        struct jinja_value key = jinja_evaluate(r, index);
        r->at = node;
        return jinja_failed(r) ? key : jinja_item(r, object, key);
    }
    const struct jinja_node *parts[] = {index->slice.start, index->slice.stop, index->slice.step};
    struct jinja_value bounds[3] = {{0}};
    for (int i = 0; i < 3; i++)
        if (parts[i])
            bounds[i] = jinja_evaluate(r, parts[i]);
    r->at = node;
    return jinja_failed(r) ? jinja_no_value() : jinja_slice(r, object, bounds);
}

static struct jinja_value evaluate_apply(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_args args = {0};
    const char *what = node->kind == JINJA_N_FILTER ? "filter" : "test";
    struct jinja_value self = jinja_evaluate(r, node->apply.object);
    if (!jinja_evaluate_args(r, &node->apply.args, &args))
        return jinja_no_value();
    r->at = node;
    if (!node->apply.function)
        return jinja_fail(r, INFER_ERR_UNSUPPORTED, "the %s '%.*s' is not supported", what,
                          (int)BASE_MIN(node->apply.name.size, (size_t)64), node->apply.name.data);
    return jinja_invoke(r, node->apply.function, self, &args, what);
}

static struct jinja_value evaluate_call(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_args args = {0};
    struct jinja_value callee = jinja_evaluate(r, node->call.callee);
    if (!jinja_evaluate_args(r, &node->call.args, &args))
        return jinja_no_value();
    r->at = node;
    return jinja_call_value(r, callee, &args);
}

static struct jinja_value evaluate_concat(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value text = jinja_string("", 0);
    for (size_t i = 0; i < node->items.n && !jinja_failed(r); i++) {
        struct jinja_value part = jinja_str(r, jinja_evaluate(r, node->items.at[i]));
        if (!jinja_failed(r))
            text = jinja_concat(r, text, part);
    }
    return text;
}

static int holds(struct jinja_render *r, uint8_t relation, struct jinja_value a,
                 struct jinja_value b)
{
    switch (relation) {
    case JINJA_R_EQ:
        return jinja_equal(r, a, b);
    case JINJA_R_NE:
        return !jinja_equal(r, a, b);
    case JINJA_R_LT:
        return jinja_order(r, a, b, "<") == -1;
    case JINJA_R_LE:
        return jinja_order(r, a, b, "<=") <= 0;
    case JINJA_R_GT:
        return jinja_order(r, a, b, ">") == 1;
    case JINJA_R_GE: {
        int order = jinja_order(r, a, b, ">=");
        return order == 0 || order == 1;
    }
    case JINJA_R_IN:
        return jinja_contains(r, a, b);
    default:
        return !jinja_contains(r, a, b);
    }
}

static struct jinja_value evaluate_compare(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value left = jinja_evaluate(r, node->compare.operands.at[0]);
    for (size_t i = 1; i < node->compare.operands.n && !jinja_failed(r); i++) {
        struct jinja_value right = jinja_evaluate(r, node->compare.operands.at[i]);
        if (jinja_failed(r))
            break;
        r->at = node;
        if (!holds(r, node->compare.relations[i - 1], left, right))
            return jinja_bool(0);
        left = right;
    }
    return jinja_bool(1);
}

static struct jinja_value evaluate_condition(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value test = jinja_evaluate(r, node->condition.test);
    if (jinja_failed(r))
        return test;
    if (jinja_truth(test))
        return jinja_evaluate(r, node->condition.yes);
    if (node->condition.no)
        return jinja_evaluate(r, node->condition.no);
    return jinja_hint(
        "the inline if-expression evaluated to false and no else section was defined");
}

/* `and`, `or`: the value that decides. */
static struct jinja_value evaluate_logic(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value left = jinja_evaluate(r, node->pair.left);
    if (jinja_failed(r) || jinja_truth(left) == (node->kind == JINJA_N_OR))
        return left;
    return jinja_evaluate(r, node->pair.right);
}

static struct jinja_value evaluate_binary(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value left = jinja_evaluate(r, node->pair.left);
    struct jinja_value right = jinja_evaluate(r, node->pair.right);
    r->at = node;
    return jinja_failed(r) ? jinja_no_value() : jinja_binary(r, node->op, left, right);
}

static struct jinja_value evaluate_unary(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value v = jinja_evaluate(r, node->operand);
    r->at = node;
    if (jinja_failed(r))
        return v;
    if (node->kind == JINJA_N_NOT)
        return jinja_bool(!jinja_truth(v));
    return node->kind == JINJA_N_NEGATE ? jinja_negate(r, v) : jinja_plus(r, v);
}

static struct jinja_value evaluate_attribute(struct jinja_render *r, const struct jinja_node *node)
{
    struct jinja_value object = jinja_evaluate(r, node->attribute.object);
    r->at = node;
    return jinja_failed(r) ? object : jinja_attribute(r, object, node->attribute.name);
}

static struct jinja_value evaluate_inner(struct jinja_render *r, const struct jinja_node *node)
{
    switch (node->kind) {
    case JINJA_N_LIST:
    case JINJA_N_TUPLE:
        return evaluate_items(r, node);
    case JINJA_N_DICT:
        return evaluate_dict(r, node);
    case JINJA_N_ATTRIBUTE:
        return evaluate_attribute(r, node);
    case JINJA_N_ITEM:
        return evaluate_item(r, node);
    case JINJA_N_CALL:
        return evaluate_call(r, node);
    case JINJA_N_FILTER:
    case JINJA_N_TEST:
        return evaluate_apply(r, node);
    case JINJA_N_NOT:
    case JINJA_N_NEGATE:
    case JINJA_N_PLUS:
        return evaluate_unary(r, node);
    case JINJA_N_BINARY:
        return evaluate_binary(r, node);
    case JINJA_N_CONCAT:
        return evaluate_concat(r, node);
    case JINJA_N_AND:
    case JINJA_N_OR:
        return evaluate_logic(r, node);
    case JINJA_N_COMPARE:
        return evaluate_compare(r, node);
    case JINJA_N_CONDITION:
        return evaluate_condition(r, node);
    default:
        return jinja_fail(r, INFER_ERR_INTERNAL, "node %d is not an expression", node->kind);
    }
}

struct jinja_value jinja_evaluate(struct jinja_render *r, const struct jinja_node *node)
{
    if (jinja_failed(r))
        return jinja_no_value();
    r->at = node;
    if (node->kind == JINJA_N_CONST)
        return node->constant;
    if (node->kind == JINJA_N_NAME)
        return jinja_lookup(r, node->symbol);
    if (node->kind == JINJA_N_CAPTURED)
        return r->captured;
    if (!jinja_enter(r))
        return jinja_no_value();
    struct jinja_value v = evaluate_inner(r, node);
    jinja_leave(r);
    return jinja_failed(r) ? jinja_no_value() : v;
}
