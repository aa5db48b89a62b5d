/* Expressions of the template language, one function a level of precedence. */
#include "text/jinja_parse.h"

static struct jinja_node *pair(struct jinja_parser *p, enum jinja_node_kind kind,
                               const struct jinja_token *at, struct jinja_node *left,
                               struct jinja_node *right)
{
    struct jinja_node *node = jinja_parse_node(p, kind, at);
    if (!node)
        return NULL;
    node->op = at->kind;
    node->pair.left = jinja_parse_adopt(p, node, left);
    node->pair.right = jinja_parse_adopt(p, node, right);
    return node;
}

static struct jinja_node *parse_power(struct jinja_parser *p)
{
    struct jinja_node *left = jinja_parse_unary(p, 1);
    while (jinja_parse_at(p, JINJA_T_POW)) {
        const struct jinja_token *at = jinja_parse_next(p);
        left = pair(p, JINJA_N_BINARY, at, left, jinja_parse_unary(p, 1));
    }
    return left;
}

static struct jinja_node *parse_product(struct jinja_parser *p)
{
    struct jinja_node *left = parse_power(p);
    while (jinja_parse_at(p, JINJA_T_MUL) || jinja_parse_at(p, JINJA_T_DIV) ||
           jinja_parse_at(p, JINJA_T_FLOORDIV) || jinja_parse_at(p, JINJA_T_MOD)) {
        const struct jinja_token *at = jinja_parse_next(p);
        left = pair(p, JINJA_N_BINARY, at, left, parse_power(p));
    }
    return left;
}

static struct jinja_node *parse_concat(struct jinja_parser *p)
{
    struct jinja_node *first = parse_product(p);
    if (!jinja_parse_at(p, JINJA_T_TILDE))
        return first;
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_CONCAT, p->token);
    jinja_node_list items = {0};
    jinja_parse_push(p, &items, first);
    while (jinja_parse_skip(p, JINJA_T_TILDE))
        jinja_parse_push(p, &items, parse_product(p));
    struct jinja_nodes taken = jinja_parse_take(p, node, &items);
    if (node)
        node->items = taken;
    return node;
}

static struct jinja_node *parse_sum(struct jinja_parser *p)
{
    struct jinja_node *left = parse_concat(p);
    while (jinja_parse_at(p, JINJA_T_ADD) || jinja_parse_at(p, JINJA_T_SUB)) {
        const struct jinja_token *at = jinja_parse_next(p);
        left = pair(p, JINJA_N_BINARY, at, left, parse_concat(p));
    }
    return left;
}

/* The relation at the current token, which is skipped, or -1. */
static int parse_relation(struct jinja_parser *p)
{
    if (p->token->kind >= JINJA_T_EQ && p->token->kind <= JINJA_T_GE)
        return JINJA_R_EQ + (jinja_parse_next(p)->kind - JINJA_T_EQ);
    if (jinja_parse_skip_name(p, "in"))
        return JINJA_R_IN;
    if (jinja_parse_at_name(p, "not") && p->token[1].kind == JINJA_T_NAME &&
        base_view_equal(p->token[1].text, "in")) {
        jinja_parse_next(p);
        jinja_parse_next(p);
        return JINJA_R_NOT_IN;
    }
    return -1;
}

static struct jinja_node *parse_compare(struct jinja_parser *p)
{
    const struct jinja_token *at = p->token;
    struct jinja_node *first = parse_sum(p), *node = NULL;
    struct base_str relations;
    jinja_node_list operands = {0};
    base_str_init(&relations, &p->t->alloc, 0);
    for (;;) {
        const struct jinja_token *sign = p->token;
        int relation = p->status == INFER_OK ? parse_relation(p) : -1;
        if (relation < 0)
            break;
        if (!operands.size) {
            at = sign;
            jinja_parse_push(p, &operands, first);
        }
        infer_status st = base_str_put(&relations, (char)relation);
        if (st != INFER_OK)
            jinja_parse_give_up(p, st);
        jinja_parse_push(p, &operands, parse_sum(p));
    }
    if (operands.size) {
        node = jinja_parse_node(p, JINJA_N_COMPARE, at);
        struct jinja_nodes taken = jinja_parse_take(p, node, &operands);
        uint8_t *copy = jinja_parse_new(p, relations.size + 1, 1);
        if (node && copy) {
            memcpy(copy, relations.data, relations.size);
            node->compare.operands = taken;
            node->compare.relations = copy;
        }
    }
    base_str_release(&relations);
    return node ? node : p->status == INFER_OK ? first : NULL;
}

static struct jinja_node *parse_not(struct jinja_parser *p)
{
    if (!jinja_parse_at_name(p, "not"))
        return parse_compare(p);
    if (!jinja_parse_enter(p))
        return NULL;
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_NOT, jinja_parse_next(p));
    if (node)
        node->operand = jinja_parse_adopt(p, node, parse_not(p));
    p->depth--;
    return node;
}

static struct jinja_node *parse_and(struct jinja_parser *p)
{
    struct jinja_node *left = parse_not(p);
    while (jinja_parse_at_name(p, "and")) {
        const struct jinja_token *at = jinja_parse_next(p);
        left = pair(p, JINJA_N_AND, at, left, parse_not(p));
    }
    return left;
}

struct jinja_node *jinja_parse_plain(struct jinja_parser *p)
{
    struct jinja_node *left = parse_and(p);
    while (jinja_parse_at_name(p, "or")) {
        const struct jinja_token *at = jinja_parse_next(p);
        left = pair(p, JINJA_N_OR, at, left, parse_and(p));
    }
    return left;
}

/* A filter that does not exist may stand in a branch that is not taken, so the
 * whole conditional is parsed softly: its first part is read before the `if`. */
static int is_conditional(const struct jinja_parser *p)
{
    int brackets = 0;
    for (const struct jinja_token *t = p->token; t->kind != JINJA_T_EOF; t++) {
        if (t->kind == JINJA_T_LPAREN || t->kind == JINJA_T_LBRACKET || t->kind == JINJA_T_LBRACE)
            brackets++;
        else if (t->kind == JINJA_T_RPAREN || t->kind == JINJA_T_RBRACKET ||
                 t->kind == JINJA_T_RBRACE)
            brackets--;
        else if (t->kind == JINJA_T_BLOCK_END || t->kind == JINJA_T_VARIABLE_END)
            return 0;
        else if (brackets == 0 && t->kind == JINJA_T_NAME && base_view_equal(t->text, "if"))
            return 1;
        if (brackets < 0 || (brackets == 0 && t->kind == JINJA_T_COMMA))
            return 0;
    }
    return 0;
}

struct jinja_node *jinja_parse_expression(struct jinja_parser *p)
{
    if (!jinja_parse_enter(p))
        return NULL;
    int soft = p->soft;
    p->soft |= is_conditional(p);
    struct jinja_node *yes = jinja_parse_plain(p);
    while (jinja_parse_at_name(p, "if")) {
        struct jinja_node *node = jinja_parse_node(p, JINJA_N_CONDITION, jinja_parse_next(p));
        struct jinja_node *test = jinja_parse_plain(p), *no = NULL;
        if (jinja_parse_skip_name(p, "else"))
            no = jinja_parse_expression(p);
        if (!node)
            break;
        node->condition.yes = jinja_parse_adopt(p, node, yes);
        node->condition.test = jinja_parse_adopt(p, node, test);
        node->condition.no = no ? jinja_parse_adopt(p, node, no) : NULL;
        yes = node;
    }
    p->soft = soft;
    p->depth--;
    return p->status == INFER_OK ? yes : NULL;
}

static int ends_tuple(const struct jinja_parser *p, const char *end)
{
    return jinja_parse_at(p, JINJA_T_VARIABLE_END) || jinja_parse_at(p, JINJA_T_BLOCK_END) ||
           jinja_parse_at(p, JINJA_T_RPAREN) || (end && jinja_parse_at_name(p, end));
}

struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, int conditional, const char *end,
                                     int parentheses)
{
    const struct jinja_token *at = p->token;
    jinja_node_list items = {0};
    int is_tuple = 0;
    while (p->status == INFER_OK && !ends_tuple(p, end)) {
        jinja_parse_push(p, &items, conditional ? jinja_parse_expression(p) : jinja_parse_plain(p));
        if (!jinja_parse_skip(p, JINJA_T_COMMA))
            break;
        is_tuple = 1;
    }
    struct jinja_node *first = items.size ? items.data[0] : NULL;
    if (!is_tuple && !first && !parentheses)
        jinja_parse_fail(p, p->token, INFER_ERR_FORMAT, "expected an expression, got %s",
                         jinja_token_name(p->token->kind));
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_TUPLE, at);
    struct jinja_nodes taken = jinja_parse_take(p, node, &items);
    if (!is_tuple && first)
        return p->status == INFER_OK ? first : NULL;
    if (node)
        node->items = taken;
    return node;
}
