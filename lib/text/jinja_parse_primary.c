/* The operands of expressions: literals, names, members, calls, filters, tests. */
#include "text/jinja_parse.h"

static void parse_arguments(struct jinja_parser *p, struct jinja_node *owner,
                            struct jinja_arguments *args);

static struct jinja_node *constant(struct jinja_parser *p, const struct jinja_token *at,
                                   struct jinja_value v)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_CONST, at);
    if (node)
        node->constant = v;
    return node;
}

static struct jinja_node *parse_name(struct jinja_parser *p)
{
    const struct jinja_token *token = jinja_parse_next(p);
    struct base_view name = token->text;
    if (base_view_equal(name, "true") || base_view_equal(name, "True"))
        return constant(p, token, jinja_bool(1));
    if (base_view_equal(name, "false") || base_view_equal(name, "False"))
        return constant(p, token, jinja_bool(0));
    if (base_view_equal(name, "none") || base_view_equal(name, "None"))
        return constant(p, token, jinja_none());
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_NAME, token);
    if (!node)
        return NULL;
    node->symbol = jinja_symbol_of(p->t, name);
    if (node->symbol < 0)
        jinja_parse_give_up(p, node->symbol);
    if (p->signature) {
        p->signature->uses_caller |= node->symbol == JINJA_SYMBOL_CALLER;
        p->signature->uses_varargs |= node->symbol == JINJA_SYMBOL_VARARGS;
        p->signature->uses_kwargs |= node->symbol == JINJA_SYMBOL_KWARGS;
    }
    return node;
}

/* Adjacent strings are one. */
static struct jinja_node *parse_strings(struct jinja_parser *p)
{
    const struct jinja_token *first = jinja_parse_next(p);
    struct jinja_value v = jinja_literal(p, first);
    while (jinja_parse_at(p, JINJA_T_STRING)) {
        struct jinja_value more = jinja_literal(p, jinja_parse_next(p));
        if (p->status != INFER_OK)
            return NULL;
        char *both = jinja_parse_new(p, v.text.size + more.text.size + 1, 1);
        if (!both)
            return NULL;
        memcpy(both, v.text.data, v.text.size);
        memcpy(both + v.text.size, more.text.data, more.text.size);
        v = jinja_string(both, v.text.size + more.text.size);
    }
    return constant(p, first, v);
}

static struct jinja_node *parse_list(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_LIST, jinja_parse_next(p));
    jinja_node_list items = {0};
    while (p->status == INFER_OK && !jinja_parse_at(p, JINJA_T_RBRACKET)) {
        if (items.size)
            jinja_parse_expect(p, JINJA_T_COMMA);
        if (jinja_parse_at(p, JINJA_T_RBRACKET))
            break;
        jinja_parse_push(p, &items, jinja_parse_expression(p));
    }
    jinja_parse_expect(p, JINJA_T_RBRACKET);
    struct jinja_nodes taken = jinja_parse_take(p, node, &items);
    if (node)
        node->items = taken;
    return node;
}

static struct jinja_node *parse_dict(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_DICT, jinja_parse_next(p));
    jinja_node_list items = {0};
    while (p->status == INFER_OK && !jinja_parse_at(p, JINJA_T_RBRACE)) {
        if (items.size)
            jinja_parse_expect(p, JINJA_T_COMMA);
        if (jinja_parse_at(p, JINJA_T_RBRACE))
            break;
        jinja_parse_push(p, &items, jinja_parse_expression(p));
        jinja_parse_expect(p, JINJA_T_COLON);
        jinja_parse_push(p, &items, jinja_parse_expression(p));
    }
    jinja_parse_expect(p, JINJA_T_RBRACE);
    struct jinja_nodes taken = jinja_parse_take(p, node, &items);
    if (node)
        node->items = taken;
    return node;
}

struct jinja_node *jinja_parse_primary(struct jinja_parser *p)
{
    struct jinja_node *node;
    if (!jinja_parse_enter(p))
        return NULL;
    switch (p->token->kind) {
    case JINJA_T_NAME:
        node = parse_name(p);
        break;
    case JINJA_T_STRING:
        node = parse_strings(p);
        break;
    case JINJA_T_INTEGER:
    case JINJA_T_FLOAT: {
        const struct jinja_token *token = jinja_parse_next(p);
        node = constant(p, token, jinja_literal(p, token));
        break;
    }
    case JINJA_T_LPAREN:
        jinja_parse_next(p);
        node = jinja_parse_tuple(p, 1, NULL, 1);
        jinja_parse_expect(p, JINJA_T_RPAREN);
        break;
    case JINJA_T_LBRACKET:
        node = parse_list(p);
        break;
    case JINJA_T_LBRACE:
        node = parse_dict(p);
        break;
    default:
        node = jinja_parse_fail(p, p->token, INFER_ERR_FORMAT, "expected an expression, got %s",
                                jinja_token_name(p->token->kind));
    }
    p->depth--;
    return node;
}

static struct jinja_node *parse_slice_end(struct jinja_parser *p, struct jinja_node *node)
{
    if (jinja_parse_at(p, JINJA_T_COLON) || jinja_parse_at(p, JINJA_T_RBRACKET) ||
        jinja_parse_at(p, JINJA_T_COMMA))
        return NULL;
    return jinja_parse_adopt(p, node, jinja_parse_expression(p));
}

/* What stands in brackets: an index or start:stop:step. */
static struct jinja_node *parse_subscript(struct jinja_parser *p)
{
    struct jinja_node *start = NULL;
    if (!jinja_parse_at(p, JINJA_T_COLON)) {
        start = jinja_parse_expression(p);
        if (!jinja_parse_at(p, JINJA_T_COLON))
            return start;
    }
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_SLICE, jinja_parse_next(p));
    if (!node)
        return NULL;
    node->slice.start = start ? jinja_parse_adopt(p, node, start) : NULL;
    node->slice.stop = parse_slice_end(p, node);
    if (jinja_parse_skip(p, JINJA_T_COLON))
        node->slice.step = parse_slice_end(p, node);
    return node;
}

static struct jinja_node *parse_member(struct jinja_parser *p, struct jinja_node *object)
{
    const struct jinja_token *dot = jinja_parse_next(p), *name = jinja_parse_next(p);
    struct jinja_node *node =
        jinja_parse_node(p, name->kind == JINJA_T_NAME ? JINJA_N_ATTRIBUTE : JINJA_N_ITEM, dot);
    if (!node)
        return NULL;
    if (name->kind == JINJA_T_NAME) {
        node->attribute.name = name->text;
        node->attribute.object = jinja_parse_adopt(p, node, object);
    } else if (name->kind == JINJA_T_INTEGER) {
        node->item.object = jinja_parse_adopt(p, node, object);
        node->item.index = constant(p, name, jinja_literal(p, name));
    } else {
        jinja_parse_fail(p, name, INFER_ERR_FORMAT, "expected a name or a number after '.'");
    }
    return node;
}

static struct jinja_node *parse_brackets(struct jinja_parser *p, struct jinja_node *object)
{
    const struct jinja_token *bracket = jinja_parse_next(p);
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_ITEM, bracket);
    jinja_node_list items = {0};
    while (p->status == INFER_OK && !jinja_parse_at(p, JINJA_T_RBRACKET)) {
        if (items.size)
            jinja_parse_expect(p, JINJA_T_COMMA);
        jinja_parse_push(p, &items, parse_subscript(p));
    }
    jinja_parse_expect(p, JINJA_T_RBRACKET);
    int single = items.size == 1;
    struct jinja_node *tuple = jinja_parse_node(p, JINJA_N_TUPLE, bracket);
    struct jinja_nodes taken = jinja_parse_take(p, tuple, &items);
    if (!node || !tuple || p->status != INFER_OK)
        return NULL;
    for (size_t i = 0; !single && i < taken.n; i++)
        if (taken.at[i]->kind == JINJA_N_SLICE)
            return jinja_parse_fail(p, bracket, INFER_ERR_UNSUPPORTED,
                                    "several slices in one pair of brackets are not supported");
    tuple->items = taken;
    node->item.object = jinja_parse_adopt(p, node, object);
    node->item.index = jinja_parse_adopt(p, node, single ? taken.at[0] : tuple);
    return node;
}

static struct jinja_node *parse_call(struct jinja_parser *p, struct jinja_node *callee)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_CALL, p->token);
    if (!node)
        return NULL;
    node->call.callee = jinja_parse_adopt(p, node, callee);
    parse_arguments(p, node, &node->call.args);
    return node;
}

static struct jinja_node *parse_postfix(struct jinja_parser *p, struct jinja_node *node)
{
    while (node && p->status == INFER_OK) {
        if (jinja_parse_at(p, JINJA_T_DOT))
            node = parse_member(p, node);
        else if (jinja_parse_at(p, JINJA_T_LBRACKET))
            node = parse_brackets(p, node);
        else if (jinja_parse_at(p, JINJA_T_LPAREN))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

static void parse_keyword(struct jinja_parser *p, struct jinja_node *owner, jinja_node_list *values,
                          struct jinja_keyword **keywords, size_t *room)
{
    if (values->size == *room) {
        size_t wider = *room ? *room * 2 : 4;
        struct jinja_keyword *more = jinja_parse_new(p, wider, sizeof *more);
        if (!more)
            return;
        if (values->size)
            memcpy(more, *keywords, values->size * sizeof *more);
        *keywords = more;
        *room = wider;
    }
    struct base_view name = jinja_parse_next(p)->text;
    jinja_parse_next(p);
    struct jinja_node *value = jinja_parse_adopt(p, owner, jinja_parse_expression(p));
    (*keywords)[values->size] = (struct jinja_keyword){name, value};
    jinja_parse_push(p, values, value);
}

static void parse_arguments(struct jinja_parser *p, struct jinja_node *owner,
                            struct jinja_arguments *args)
{
    const struct jinja_token *open = p->token;
    jinja_node_list positional = {0}, values = {0};
    size_t room = 0;
    int legal = 1, first = 1;
    jinja_parse_expect(p, JINJA_T_LPAREN);
    while (p->status == INFER_OK && legal && !jinja_parse_at(p, JINJA_T_RPAREN)) {
        if (!first) {
            jinja_parse_expect(p, JINJA_T_COMMA);
            if (jinja_parse_at(p, JINJA_T_RPAREN))
                break;
        }
        first = 0;
        if (jinja_parse_skip(p, JINJA_T_MUL)) {
            legal = !args->rest && !args->keyword_rest;
            args->rest = jinja_parse_adopt(p, owner, jinja_parse_expression(p));
        } else if (jinja_parse_skip(p, JINJA_T_POW)) {
            legal = !args->keyword_rest;
            args->keyword_rest = jinja_parse_adopt(p, owner, jinja_parse_expression(p));
        } else if (jinja_parse_at(p, JINJA_T_NAME) && p->token[1].kind == JINJA_T_ASSIGN) {
            legal = !args->keyword_rest;
            parse_keyword(p, owner, &values, &args->keywords, &room);
        } else {
            legal = !args->rest && !args->keyword_rest && values.size == 0;
            jinja_parse_push(p, &positional, jinja_parse_expression(p));
        }
    }
    if (!legal)
        jinja_parse_fail(p, open, INFER_ERR_FORMAT, "the arguments of this call are out of order");
    jinja_parse_expect(p, JINJA_T_RPAREN);
    args->n_keywords = values.size;
    jinja_parse_take(p, owner, &values);
    args->positional = jinja_parse_take(p, owner, &positional);
}

/* A filter's or test's name, with dots. */
static struct base_view parse_dotted(struct jinja_parser *p, const struct jinja_token **at)
{
    *at = jinja_parse_expect(p, JINJA_T_NAME);
    if (!*at)
        return (struct base_view){"", 0};
    struct base_view name = (*at)->text;
    while (jinja_parse_skip(p, JINJA_T_DOT)) {
        const struct jinja_token *part = jinja_parse_expect(p, JINJA_T_NAME);
        if (part)
            name.size = (size_t)(part->text.data + part->text.size - name.data);
    }
    return name;
}

static void resolve(struct jinja_parser *p, struct jinja_node *node, const struct jinja_token *at)
{
    int filter = node->kind == JINJA_N_FILTER;
    struct base_view name = node->apply.name;
    node->apply.function = filter ? jinja_find_filter(name) : jinja_find_test(name);
    if (!p->soft && (!node->apply.function || !node->apply.function->fn))
        jinja_parse_fail(p, at, INFER_ERR_UNSUPPORTED, "the %s '%.*s' is not supported",
                         filter ? "filter" : "test", (int)BASE_MIN(name.size, (size_t)64),
                         name.data);
}

struct jinja_node *jinja_parse_filters(struct jinja_parser *p, struct jinja_node *object,
                                       int first_without_bar)
{
    while (object && p->status == INFER_OK &&
           (first_without_bar || jinja_parse_at(p, JINJA_T_PIPE))) {
        const struct jinja_token *at;
        if (!first_without_bar)
            jinja_parse_next(p);
        first_without_bar = 0;
        struct base_view name = parse_dotted(p, &at);
        struct jinja_node *node = jinja_parse_node(p, JINJA_N_FILTER, at ? at : p->token);
        if (!node || !at)
            return NULL;
        node->apply.name = name;
        node->apply.object = jinja_parse_adopt(p, node, object);
        if (jinja_parse_at(p, JINJA_T_LPAREN))
            parse_arguments(p, node, &node->apply.args);
        resolve(p, node, at);
        object = node;
    }
    return object;
}

/* A test may take one argument without parentheses. */
static int begins_bare_argument(const struct jinja_parser *p)
{
    switch (p->token->kind) {
    case JINJA_T_NAME:
        return !jinja_parse_at_name(p, "else") && !jinja_parse_at_name(p, "or") &&
               !jinja_parse_at_name(p, "and");
    case JINJA_T_STRING:
    case JINJA_T_INTEGER:
    case JINJA_T_FLOAT:
    case JINJA_T_LBRACKET:
    case JINJA_T_LBRACE:
        return 1;
    default:
        return 0;
    }
}

static struct jinja_node *parse_test(struct jinja_parser *p, struct jinja_node *object)
{
    const struct jinja_token *is = jinja_parse_next(p), *at;
    int negated = jinja_parse_skip_name(p, "not");
    struct base_view name = parse_dotted(p, &at);
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_TEST, is);
    if (!node || !at)
        return NULL;
    node->apply.name = name;
    node->apply.object = jinja_parse_adopt(p, node, object);
    if (jinja_parse_at(p, JINJA_T_LPAREN)) {
        parse_arguments(p, node, &node->apply.args);
    } else if (begins_bare_argument(p)) {
        if (jinja_parse_at_name(p, "is"))
            return jinja_parse_fail(p, p->token, INFER_ERR_FORMAT,
                                    "tests cannot be chained with 'is'");
        jinja_node_list one = {0};
        jinja_parse_push(p, &one, parse_postfix(p, jinja_parse_primary(p)));
        node->apply.args.positional = jinja_parse_take(p, node, &one);
    }
    resolve(p, node, at);
    if (!negated)
        return node;
    struct jinja_node *no = jinja_parse_node(p, JINJA_N_NOT, is);
    if (no)
        no->operand = jinja_parse_adopt(p, no, node);
    return no;
}

static struct jinja_node *parse_filters_and_tests(struct jinja_parser *p, struct jinja_node *node)
{
    while (node && p->status == INFER_OK) {
        if (jinja_parse_at(p, JINJA_T_PIPE))
            node = jinja_parse_filters(p, node, 0);
        else if (jinja_parse_at_name(p, "is"))
            node = parse_test(p, node);
        else if (jinja_parse_at(p, JINJA_T_LPAREN))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

struct jinja_node *jinja_parse_unary(struct jinja_parser *p, int with_filters)
{
    struct jinja_node *node;
    if (!jinja_parse_enter(p))
        return NULL;
    if (jinja_parse_at(p, JINJA_T_SUB) || jinja_parse_at(p, JINJA_T_ADD)) {
        int negate = jinja_parse_at(p, JINJA_T_SUB);
        node = jinja_parse_node(p, negate ? JINJA_N_NEGATE : JINJA_N_PLUS, jinja_parse_next(p));
        if (node)
            node->operand = jinja_parse_adopt(p, node, jinja_parse_unary(p, 0));
    } else {
        node = jinja_parse_primary(p);
    }
    node = parse_postfix(p, node);
    if (with_filters)
        node = parse_filters_and_tests(p, node);
    p->depth--;
    return node;
}
