/* Shared by the two halves of the parser, statements and expressions. */
#ifndef TEXT_JINJA_PARSE_H
#define TEXT_JINJA_PARSE_H

#include "text/jinja_internal.h"

/* Errors stick in `status`: after the first, tokens read as end of file, and
 * every function returns quickly with NULL or an unusable node. */
struct jinja_parser {
    struct jinja_template *t;
    const struct jinja_token *token; /* the current one */
    const struct jinja_token *eof;   /* the last one */
    infer_status status;
    uint32_t depth;
    /* Inside an `if` of the same scope a filter that does not exist fails only when reached. */
    int soft;
    int loops;                         /* enclosing for bodies of the same macro */
    struct jinja_signature *signature; /* of the enclosing macro, or NULL */
};

typedef BASE_ARRAY(struct jinja_node *) jinja_node_list;

/* Returns NULL. */
void *jinja_parse_fail(struct jinja_parser *p, const struct jinja_token *at, infer_status status,
                       const char *fmt, ...) BASE_PRINTF(4, 5);
/* For a failure whose sentence stands already. */
void jinja_parse_give_up(struct jinja_parser *p, infer_status status);
void *jinja_parse_new(struct jinja_parser *p, size_t n, size_t size);
struct jinja_node *jinja_parse_node(struct jinja_parser *p, enum jinja_node_kind kind,
                                    const struct jinja_token *at);
/* Accounts for the child in the parent's height; returns the child. */
struct jinja_node *jinja_parse_adopt(struct jinja_parser *p, struct jinja_node *parent,
                                     struct jinja_node *child);
void jinja_parse_push(struct jinja_parser *p, jinja_node_list *list, struct jinja_node *node);
/* Moves the list into the parent's arena and empties it. */
struct jinja_nodes jinja_parse_take(struct jinja_parser *p, struct jinja_node *parent,
                                    jinja_node_list *list);
int jinja_parse_enter(struct jinja_parser *p);

int jinja_parse_at(const struct jinja_parser *p, enum jinja_token_kind kind);
int jinja_parse_at_name(const struct jinja_parser *p, const char *name);
const struct jinja_token *jinja_parse_next(struct jinja_parser *p);
int jinja_parse_skip(struct jinja_parser *p, enum jinja_token_kind kind);
int jinja_parse_skip_name(struct jinja_parser *p, const char *name);
/* The token if it is of this kind, else a failure and NULL. */
const struct jinja_token *jinja_parse_expect(struct jinja_parser *p, enum jinja_token_kind kind);
void jinja_parse_expect_name(struct jinja_parser *p, const char *name);
const char *jinja_token_name(enum jinja_token_kind kind);

struct jinja_node *jinja_parse_expression(struct jinja_parser *p);
/* Without the conditional form, for what is followed by its own `if`. */
struct jinja_node *jinja_parse_plain(struct jinja_parser *p);
/* `a, b` or one expression. `end` is a name that also ends the list, or NULL. */
struct jinja_node *jinja_parse_tuple(struct jinja_parser *p, int conditional, const char *end,
                                     int parentheses);
struct jinja_node *jinja_parse_unary(struct jinja_parser *p, int with_filters);
struct jinja_node *jinja_parse_primary(struct jinja_parser *p);
/* The filters of `{% filter %}` (the first without a bar) and `{% set x | f %}`. */
struct jinja_node *jinja_parse_filters(struct jinja_parser *p, struct jinja_node *object,
                                       int first_without_bar);

/* jinja_literal.c */
infer_status jinja_unescape(struct jinja_parser *p, const struct jinja_token *token,
                            struct base_str *out);
struct jinja_value jinja_literal(struct jinja_parser *p, const struct jinja_token *token);

#endif
