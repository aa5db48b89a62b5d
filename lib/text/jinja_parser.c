/* The parser's own small tools: nodes, lists of nodes, tokens, failures. */
#include "text/jinja_parse.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

void *jinja_parse_fail(struct jinja_parser *p, const struct jinja_token *at, infer_status status,
                       const char *fmt, ...)
{
    if (p->status != INFER_OK)
        return NULL;
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    jinja_parse_give_up(p,
                        base_error(status, "line %u, column %u: %s", at->line, at->column, what));
    return NULL;
}

void jinja_parse_give_up(struct jinja_parser *p, infer_status status)
{
    if (p->status == INFER_OK)
        p->status = status;
    p->token = p->eof; /* so that every loop over tokens ends */
}

void *jinja_parse_new(struct jinja_parser *p, size_t n, size_t size)
{
    void *memory = p->status == INFER_OK ? base_arena_new(&p->t->arena, n, size) : NULL;
    if (!memory && p->status == INFER_OK)
        jinja_parse_give_up(p, INFER_ERR_NO_MEMORY);
    return memory;
}

struct jinja_node *jinja_parse_node(struct jinja_parser *p, enum jinja_node_kind kind,
                                    const struct jinja_token *at)
{
    struct jinja_node *node = jinja_parse_new(p, 1, sizeof *node);
    if (node) {
        node->kind = (uint8_t)kind;
        node->line = at->line;
        node->column = at->column;
    }
    return node;
}

struct jinja_node *jinja_parse_adopt(struct jinja_parser *p, struct jinja_node *parent,
                                     struct jinja_node *child)
{
    if (!parent || !child)
        return child;
    if (child->height + 1 > JINJA_MAX_HEIGHT)
        return jinja_parse_fail(p, p->token, INFER_ERR_LIMIT, "nested more than %d levels deep",
                                JINJA_MAX_HEIGHT);
    parent->height = BASE_MAX(parent->height, (uint16_t)(child->height + 1));
    return child;
}

void jinja_parse_push(struct jinja_parser *p, jinja_node_list *list, struct jinja_node *node)
{
    if (p->status == INFER_OK && base_array_push(&p->t->alloc, list, node) != INFER_OK)
        jinja_parse_give_up(p, INFER_ERR_NO_MEMORY);
}

struct jinja_nodes jinja_parse_take(struct jinja_parser *p, struct jinja_node *parent,
                                    jinja_node_list *list)
{
    struct jinja_nodes nodes = {jinja_parse_new(p, list->size, sizeof *list->data), 0};
    for (size_t i = 0; nodes.at && p->status == INFER_OK && i < list->size; i++)
        nodes.at[nodes.n++] = jinja_parse_adopt(p, parent, list->data[i]);
    base_array_release(&p->t->alloc, list);
    return nodes;
}

int jinja_parse_enter(struct jinja_parser *p)
{
    if (p->status != INFER_OK)
        return 0;
    if (p->depth == JINJA_MAX_HEIGHT) {
        jinja_parse_fail(p, p->token, INFER_ERR_LIMIT, "nested more than %d levels deep",
                         JINJA_MAX_HEIGHT);
        return 0;
    }
    p->depth++;
    return 1;
}

int jinja_parse_at(const struct jinja_parser *p, enum jinja_token_kind kind)
{
    return p->token->kind == kind;
}

int jinja_parse_at_name(const struct jinja_parser *p, const char *name)
{
    return p->token->kind == JINJA_T_NAME && base_view_equal(p->token->text, name);
}

const struct jinja_token *jinja_parse_next(struct jinja_parser *p)
{
    const struct jinja_token *token = p->token;
    if (p->token != p->eof)
        p->token++;
    return token;
}

int jinja_parse_skip(struct jinja_parser *p, enum jinja_token_kind kind)
{
    int there = jinja_parse_at(p, kind);
    if (there)
        jinja_parse_next(p);
    return there;
}

int jinja_parse_skip_name(struct jinja_parser *p, const char *name)
{
    int there = jinja_parse_at_name(p, name);
    if (there)
        jinja_parse_next(p);
    return there;
}

const char *jinja_token_name(enum jinja_token_kind kind)
{
    static const char *const names[] = {"end of template",
                                        "text",
                                        "'{{'",
                                        "'}}'",
                                        "'{%'",
                                        "'%}'",
                                        "a name",
                                        "a string",
                                        "an integer",
                                        "a float",
                                        "'+'",
                                        "'-'",
                                        "'*'",
                                        "'/'",
                                        "'//'",
                                        "'%'",
                                        "'**'",
                                        "'~'",
                                        "'=='",
                                        "'!='",
                                        "'<'",
                                        "'<='",
                                        "'>'",
                                        "'>='",
                                        "'='",
                                        "'.'",
                                        "':'",
                                        "','",
                                        "';'",
                                        "'|'",
                                        "'('",
                                        "')'",
                                        "'['",
                                        "']'",
                                        "'{'",
                                        "'}'"};
    return kind < BASE_COUNT(names) ? names[kind] : "?";
}

const struct jinja_token *jinja_parse_expect(struct jinja_parser *p, enum jinja_token_kind kind)
{
    if (jinja_parse_at(p, kind))
        return jinja_parse_next(p);
    return jinja_parse_fail(p, p->token, INFER_ERR_FORMAT, "expected %s, got %s",
                            jinja_token_name(kind), jinja_token_name(p->token->kind));
}

void jinja_parse_expect_name(struct jinja_parser *p, const char *name)
{
    if (!jinja_parse_skip_name(p, name))
        jinja_parse_fail(p, p->token, INFER_ERR_FORMAT, "expected '%s', got %s", name,
                         jinja_token_name(p->token->kind));
}
