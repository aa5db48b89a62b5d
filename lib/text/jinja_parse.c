/* Statements of the template language. */
#include "text/jinja_parse.h"

static struct jinja_nodes parse_body(struct jinja_parser *p, struct jinja_node *parent,
                                     const char *const *ends);

/* What can be assigned to: names, tuples of them, and ns.member in `set`. */
static struct jinja_node *check_target(struct jinja_parser *p, struct jinja_node *node,
                                       const struct jinja_token *at)
{
    if (!node || node->kind == JINJA_N_SET_MEMBER || node->kind == JINJA_N_NAME)
        return node;
    if (node->kind == JINJA_N_TUPLE) {
        for (size_t i = 0; i < node->items.n; i++)
            check_target(p, node->items.at[i], at);
        return p->status == INFER_OK ? node : NULL;
    }
    return jinja_parse_fail(p, at, INFER_ERR_FORMAT, "cannot assign to this expression");
}

static struct jinja_node *parse_target_item(struct jinja_parser *p, int members)
{
    const struct jinja_token *token = p->token;
    if (!members || token->kind != JINJA_T_NAME || token[1].kind != JINJA_T_DOT)
        return jinja_parse_primary(p);
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_SET_MEMBER, token);
    jinja_parse_next(p);
    jinja_parse_next(p);
    const struct jinja_token *name = jinja_parse_expect(p, JINJA_T_NAME);
    if (!node || !name)
        return NULL;
    node->member.object = jinja_symbol_of(p->t, token->text);
    node->member.name = name->text;
    if (node->member.object < 0)
        jinja_parse_give_up(p, node->member.object);
    return node;
}

static struct jinja_node *parse_target(struct jinja_parser *p, int members, const char *end)
{
    const struct jinja_token *at = p->token;
    jinja_node_list items = {0};
    int is_tuple = 0;
    do {
        if (jinja_parse_at(p, JINJA_T_BLOCK_END) || (end && jinja_parse_at_name(p, end)))
            break;
        jinja_parse_push(p, &items, parse_target_item(p, members));
        is_tuple |= jinja_parse_at(p, JINJA_T_COMMA);
    } while (p->status == INFER_OK && jinja_parse_skip(p, JINJA_T_COMMA));
    struct jinja_node *first = items.size ? items.data[0] : NULL;
    struct jinja_node *tuple = jinja_parse_node(p, JINJA_N_TUPLE, at);
    struct jinja_nodes taken = jinja_parse_take(p, tuple, &items);
    if (p->status != INFER_OK)
        return NULL;
    if (!first)
        return jinja_parse_fail(p, p->token, INFER_ERR_FORMAT,
                                "expected a name to assign to, got %s",
                                jinja_token_name(p->token->kind));
    tuple->items = taken;
    return check_target(p, is_tuple ? tuple : first, at);
}

/* A body that is a scope of its own: what surrounds it does not soften it. */
static struct jinja_nodes parse_scope(struct jinja_parser *p, struct jinja_node *parent,
                                      const char *end)
{
    const char *const ends[] = {end, NULL};
    int soft = p->soft;
    p->soft = 0;
    struct jinja_nodes body = parse_body(p, parent, ends);
    p->soft = soft;
    jinja_parse_expect_name(p, end);
    return body;
}

static struct jinja_node *parse_for(struct jinja_parser *p, const struct jinja_token *tag)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_FOR, tag);
    struct jinja_node *target = parse_target(p, 0, "in");
    jinja_parse_expect_name(p, "in");
    struct jinja_node *iterable = jinja_parse_tuple(p, 0, "recursive", 0), *test = NULL;
    if (!node)
        return NULL;
    node->loop.target = jinja_parse_adopt(p, node, target);
    node->loop.iterable = jinja_parse_adopt(p, node, iterable);
    int soft = p->soft;
    p->soft = 0;
    if (jinja_parse_skip_name(p, "if"))
        test = jinja_parse_expression(p);
    node->loop.test = test ? jinja_parse_adopt(p, node, test) : NULL;
    node->loop.recursive = jinja_parse_skip_name(p, "recursive");
    p->loops++;
    node->loop.body = parse_body(p, node, ends);
    p->loops--;
    if (jinja_parse_skip_name(p, "else"))
        node->loop.otherwise = parse_scope(p, node, "endfor");
    else
        jinja_parse_expect_name(p, "endfor");
    p->soft = soft;
    return node;
}

static void add_branch(struct jinja_parser *p, struct jinja_node *node, struct jinja_branch branch,
                       size_t *room)
{
    if (node->branch.n == *room) {
        size_t wider = *room * 2 + 2;
        struct jinja_branch *more = jinja_parse_new(p, wider, sizeof *more);
        if (!more)
            return;
        if (node->branch.n)
            memcpy(more, node->branch.branches, node->branch.n * sizeof *more);
        node->branch.branches = more;
        *room = wider;
    }
    node->branch.branches[node->branch.n++] = branch;
}

static struct jinja_node *parse_if(struct jinja_parser *p, const struct jinja_token *tag)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_IF, tag);
    size_t room = 0;
    int soft = p->soft;
    p->soft = 1;
    do {
        struct jinja_node *test = jinja_parse_tuple(p, 0, NULL, 0);
        struct jinja_branch branch = {jinja_parse_adopt(p, node, test), {0}};
        branch.body = parse_body(p, node, ends);
        if (p->status == INFER_OK)
            add_branch(p, node, branch, &room);
    } while (jinja_parse_skip_name(p, "elif"));
    if (jinja_parse_skip_name(p, "else")) {
        struct jinja_branch branch = {NULL, parse_body(p, node, last)};
        if (p->status == INFER_OK)
            add_branch(p, node, branch, &room);
    }
    p->soft = soft;
    jinja_parse_expect_name(p, "endif");
    return node;
}

static struct jinja_node *parse_set(struct jinja_parser *p, const struct jinja_token *tag)
{
    struct jinja_node *target = parse_target(p, 1, NULL);
    if (jinja_parse_skip(p, JINJA_T_ASSIGN)) {
        struct jinja_node *node = jinja_parse_node(p, JINJA_N_SET, tag);
        struct jinja_node *value = jinja_parse_tuple(p, 1, NULL, 0);
        if (!node)
            return NULL;
        node->set.target = jinja_parse_adopt(p, node, target);
        node->set.value = jinja_parse_adopt(p, node, value);
        return node;
    }
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_SET_BLOCK, tag);
    if (!node)
        return NULL;
    node->set.target = jinja_parse_adopt(p, node, target);
    if (jinja_parse_at(p, JINJA_T_PIPE)) {
        struct jinja_node *captured = jinja_parse_node(p, JINJA_N_CAPTURED, p->token);
        node->set.value = jinja_parse_adopt(p, node, jinja_parse_filters(p, captured, 0));
    }
    node->set.body = parse_scope(p, node, "endset");
    return node;
}

static void parse_signature(struct jinja_parser *p, struct jinja_node *owner,
                            struct jinja_signature *s)
{
    size_t room = 0;
    int defaults = 0;
    jinja_parse_expect(p, JINJA_T_LPAREN);
    while (p->status == INFER_OK && !jinja_parse_at(p, JINJA_T_RPAREN)) {
        if (s->n)
            jinja_parse_expect(p, JINJA_T_COMMA);
        const struct jinja_token *name = jinja_parse_expect(p, JINJA_T_NAME);
        struct jinja_node *value = NULL;
        if (jinja_parse_skip(p, JINJA_T_ASSIGN)) {
            value = jinja_parse_adopt(p, owner, jinja_parse_expression(p));
            defaults = 1;
        } else if (defaults && name) {
            jinja_parse_fail(p, name, INFER_ERR_FORMAT,
                             "a parameter without a default follows one with a default");
        }
        if (s->n == room) {
            size_t wider = room * 2 + 4;
            jinja_symbol *names = jinja_parse_new(p, wider, sizeof *names);
            struct jinja_node **values = jinja_parse_new(p, wider, sizeof *values);
            if (!names || !values)
                return;
            if (room) {
                memcpy(names, s->parameters, room * sizeof *names);
                memcpy(values, s->defaults, room * sizeof *values);
            }
            s->parameters = names;
            s->defaults = values;
            room = wider;
        }
        jinja_symbol symbol = name ? jinja_symbol_of(p->t, name->text) : INFER_OK;
        if (symbol < 0)
            jinja_parse_give_up(p, symbol);
        s->parameters[s->n] = symbol;
        s->defaults[s->n++] = value;
    }
    jinja_parse_expect(p, JINJA_T_RPAREN);
}

/* The body of a macro or call block, which notes what its names make it need. */
static void parse_macro_body(struct jinja_parser *p, struct jinja_node *node, const char *end)
{
    struct jinja_signature *outer = p->signature;
    int loops = p->loops;
    p->signature = &node->macro.signature;
    p->loops = 0;
    node->macro.body = parse_scope(p, node, end);
    p->loops = loops;
    p->signature = outer;
    if (outer) { /* a macro inside passes its needs on, as names are looked up outwards */
        outer->uses_caller |= node->macro.signature.uses_caller;
        outer->uses_varargs |= node->macro.signature.uses_varargs;
        outer->uses_kwargs |= node->macro.signature.uses_kwargs;
    }
}

static struct jinja_node *parse_macro(struct jinja_parser *p, const struct jinja_token *tag)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_MACRO, tag);
    const struct jinja_token *name = jinja_parse_expect(p, JINJA_T_NAME);
    if (!node || !name)
        return NULL;
    node->macro.name = jinja_symbol_of(p->t, name->text);
    if (node->macro.name < 0)
        jinja_parse_give_up(p, node->macro.name);
    parse_signature(p, node, &node->macro.signature);
    parse_macro_body(p, node, "endmacro");
    return node;
}

static struct jinja_node *parse_call_block(struct jinja_parser *p, const struct jinja_token *tag)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_CALL_BLOCK, tag);
    if (!node)
        return NULL;
    node->macro.name = -1;
    if (jinja_parse_at(p, JINJA_T_LPAREN))
        parse_signature(p, node, &node->macro.signature);
    struct jinja_node *call = jinja_parse_expression(p);
    if (call && call->kind != JINJA_N_CALL)
        jinja_parse_fail(p, tag, INFER_ERR_FORMAT, "expected a call after 'call'");
    node->macro.call = jinja_parse_adopt(p, node, call);
    parse_macro_body(p, node, "endcall");
    return node;
}

static struct jinja_node *parse_filter_block(struct jinja_parser *p, const struct jinja_token *tag)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_FILTER_BLOCK, tag);
    struct jinja_node *captured = jinja_parse_node(p, JINJA_N_CAPTURED, tag);
    if (!node || !captured)
        return NULL;
    node->filter_block.filter = jinja_parse_adopt(p, node, jinja_parse_filters(p, captured, 1));
    node->filter_block.body = parse_scope(p, node, "endfilter");
    return node;
}

static struct jinja_node *parse_with(struct jinja_parser *p, const struct jinja_token *tag)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_WITH, tag);
    jinja_node_list targets = {0}, values = {0};
    while (p->status == INFER_OK && !jinja_parse_at(p, JINJA_T_BLOCK_END)) {
        if (targets.size)
            jinja_parse_expect(p, JINJA_T_COMMA);
        const struct jinja_token *at = p->token;
        jinja_parse_push(p, &targets, check_target(p, jinja_parse_primary(p), at));
        jinja_parse_expect(p, JINJA_T_ASSIGN);
        jinja_parse_push(p, &values, jinja_parse_expression(p));
    }
    struct jinja_nodes names = jinja_parse_take(p, node, &targets);
    struct jinja_nodes given = jinja_parse_take(p, node, &values);
    if (!node)
        return NULL;
    node->with.targets = names;
    node->with.values = given;
    node->with.body = parse_scope(p, node, "endwith");
    return node;
}

static struct jinja_node *parse_print(struct jinja_parser *p, const struct jinja_token *tag)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_OUTPUT, tag);
    struct jinja_node *value = jinja_parse_expression(p);
    if (node)
        node->operand = jinja_parse_adopt(p, node, value);
    return node;
}

/* Marks what the model wrote, for training; it renders as its body. */
static struct jinja_node *parse_generation(struct jinja_parser *p, const struct jinja_token *tag)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_SCOPE, tag);
    struct jinja_nodes body = parse_scope(p, node, "endgeneration");
    if (node)
        node->items = body;
    return node;
}

static struct jinja_node *parse_jump(struct jinja_parser *p, const struct jinja_token *tag)
{
    if (!p->loops)
        return jinja_parse_fail(p, tag, INFER_ERR_FORMAT, "'%.*s' outside of a loop",
                                (int)tag->text.size, tag->text.data);
    return jinja_parse_node(
        p, base_view_equal(tag->text, "break") ? JINJA_N_BREAK : JINJA_N_CONTINUE, tag);
}

static struct jinja_node *parse_unsupported(struct jinja_parser *p, const struct jinja_token *tag)
{
    return jinja_parse_fail(p, tag, INFER_ERR_UNSUPPORTED, "the tag '%.*s' is not supported",
                            (int)tag->text.size, tag->text.data);
}

static const struct {
    const char *name;
    struct jinja_node *(*parse)(struct jinja_parser *p, const struct jinja_token *tag);
} statements[] = {
    {"for", parse_for},
    {"if", parse_if},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"generation", parse_generation},
    {"break", parse_jump},
    {"continue", parse_jump},
    {"print", parse_print},
    {"block", parse_unsupported},
    {"extends", parse_unsupported},
    {"include", parse_unsupported},
    {"import", parse_unsupported},
    {"from", parse_unsupported},
    {"autoescape", parse_unsupported},
};

static struct jinja_node *parse_statement(struct jinja_parser *p)
{
    const struct jinja_token *tag = jinja_parse_expect(p, JINJA_T_NAME);
    struct jinja_node *node = NULL;
    size_t i = 0;
    if (!tag || !jinja_parse_enter(p))
        return NULL;
    while (i < BASE_COUNT(statements) && !base_view_equal(tag->text, statements[i].name))
        i++;
    if (i < BASE_COUNT(statements))
        node = statements[i].parse(p, tag);
    else
        jinja_parse_fail(p, tag, INFER_ERR_FORMAT, "unknown tag '%.*s'",
                         (int)BASE_MIN(tag->text.size, (size_t)64), tag->text.data);
    jinja_parse_expect(p, JINJA_T_BLOCK_END);
    p->depth--;
    return node;
}

static struct jinja_node *parse_data(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_DATA, p->token);
    struct base_view text = jinja_parse_next(p)->text;
    if (node)
        node->data = text;
    return node;
}

static struct jinja_node *parse_output(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parse_node(p, JINJA_N_OUTPUT, jinja_parse_next(p));
    struct jinja_node *value = jinja_parse_tuple(p, 1, NULL, 0);
    jinja_parse_expect(p, JINJA_T_VARIABLE_END);
    if (node)
        node->operand = jinja_parse_adopt(p, node, value);
    return node;
}

/* Pieces up to one of the tags in `ends`, on whose name it stops. */
static struct jinja_nodes parse_pieces(struct jinja_parser *p, struct jinja_node *parent,
                                       const char *const *ends)
{
    jinja_node_list list = {0};
    int done = 0;
    while (p->status == INFER_OK && !done && !jinja_parse_at(p, JINJA_T_EOF)) {
        if (jinja_parse_at(p, JINJA_T_DATA)) {
            jinja_parse_push(p, &list, parse_data(p));
        } else if (jinja_parse_at(p, JINJA_T_VARIABLE_BEGIN)) {
            jinja_parse_push(p, &list, parse_output(p));
        } else {
            jinja_parse_expect(p, JINJA_T_BLOCK_BEGIN);
            for (size_t i = 0; ends && ends[i] && !done; i++)
                done = jinja_parse_at_name(p, ends[i]);
            if (!done)
                jinja_parse_push(p, &list, parse_statement(p));
        }
    }
    if (!done && ends)
        jinja_parse_fail(p, p->token, INFER_ERR_FORMAT, "the template ends before '%s'", ends[0]);
    return jinja_parse_take(p, parent, &list);
}

static struct jinja_nodes parse_body(struct jinja_parser *p, struct jinja_node *parent,
                                     const char *const *ends)
{
    jinja_parse_skip(p, JINJA_T_COLON);
    jinja_parse_expect(p, JINJA_T_BLOCK_END);
    return parse_pieces(p, parent, ends);
}

infer_status jinja_parse(struct jinja_template *t, const jinja_tokens *tokens)
{
    struct jinja_parser p = {.t = t, .token = tokens->data, .eof = tokens->data + tokens->size - 1};
    t->body = parse_pieces(&p, NULL, NULL);
    return p.status;
}
