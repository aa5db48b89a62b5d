/* What a template becomes: tokens for the parser, a tree for the evaluator. */
#ifndef TEXT_JINJA_NODE_H
#define TEXT_JINJA_NODE_H

#include "base/array.h"
#include "base/map.h"
#include "text/jinja.h"

#define JINJA_MAX_SOURCE_BYTES (1u << 20)
#define JINJA_MAX_HEIGHT       200 /* of nested syntax */

enum jinja_token_kind {
    JINJA_T_EOF,
    JINJA_T_DATA,
    JINJA_T_VARIABLE_BEGIN,
    JINJA_T_VARIABLE_END,
    JINJA_T_BLOCK_BEGIN,
    JINJA_T_BLOCK_END,
    JINJA_T_NAME,
    JINJA_T_STRING, /* text holds the body as written, without the quotes */
    JINJA_T_INTEGER,
    JINJA_T_FLOAT,
    JINJA_T_ADD,
    JINJA_T_SUB,
    JINJA_T_MUL,
    JINJA_T_DIV,
    JINJA_T_FLOORDIV,
    JINJA_T_MOD,
    JINJA_T_POW,
    JINJA_T_TILDE,
    JINJA_T_EQ,
    JINJA_T_NE,
    JINJA_T_LT,
    JINJA_T_LE,
    JINJA_T_GT,
    JINJA_T_GE,
    JINJA_T_ASSIGN,
    JINJA_T_DOT,
    JINJA_T_COLON,
    JINJA_T_COMMA,
    JINJA_T_SEMICOLON,
    JINJA_T_PIPE,
    JINJA_T_LPAREN,
    JINJA_T_RPAREN,
    JINJA_T_LBRACKET,
    JINJA_T_RBRACKET,
    JINJA_T_LBRACE,
    JINJA_T_RBRACE
};

struct jinja_token {
    uint8_t kind; /* enum jinja_token_kind */
    uint32_t line, column;
    struct base_view text;
};

typedef BASE_ARRAY(struct jinja_token) jinja_tokens;

/* Splits the source; views point into it. The caller releases `out`, also after an error. */
infer_status jinja_lex(jinja_tokens *out, const struct base_alloc *a, struct base_view source);

enum jinja_node_kind {
    /* expressions */
    JINJA_N_CONST,
    JINJA_N_NAME,
    JINJA_N_LIST,
    JINJA_N_TUPLE,
    JINJA_N_DICT, /* items are key, value, key, value ... */
    JINJA_N_ATTRIBUTE,
    JINJA_N_ITEM,
    JINJA_N_SLICE,
    JINJA_N_CALL,
    JINJA_N_FILTER,
    JINJA_N_TEST,
    JINJA_N_CAPTURED, /* what a filter block or set block is filtering */
    JINJA_N_NOT,
    JINJA_N_NEGATE,
    JINJA_N_PLUS,
    JINJA_N_BINARY,
    JINJA_N_CONCAT,
    JINJA_N_AND,
    JINJA_N_OR,
    JINJA_N_COMPARE,
    JINJA_N_CONDITION,
    /* statements */
    JINJA_N_DATA,
    JINJA_N_OUTPUT,
    JINJA_N_IF,
    JINJA_N_FOR,
    JINJA_N_SET,
    JINJA_N_SET_BLOCK,
    JINJA_N_SET_MEMBER, /* only as a target: ns.name */
    JINJA_N_MACRO,
    JINJA_N_CALL_BLOCK,
    JINJA_N_FILTER_BLOCK,
    JINJA_N_WITH,
    JINJA_N_SCOPE,
    JINJA_N_BREAK,
    JINJA_N_CONTINUE
};

/* Operators of a comparison; the arithmetic ones are token kinds. */
enum jinja_relation {
    JINJA_R_EQ,
    JINJA_R_NE,
    JINJA_R_LT,
    JINJA_R_LE,
    JINJA_R_GT,
    JINJA_R_GE,
    JINJA_R_IN,
    JINJA_R_NOT_IN
};

struct jinja_node;

struct jinja_nodes {
    struct jinja_node **at;
    size_t n;
};

struct jinja_keyword {
    struct base_view name;
    struct jinja_node *value;
};

struct jinja_arguments {
    struct jinja_nodes positional;
    struct jinja_keyword *keywords;
    size_t n_keywords;
    struct jinja_node *rest, *keyword_rest; /* *rest and **keyword_rest, or NULL */
};

/* Names are numbers from the template's table, so that scopes compare integers. */
typedef int32_t jinja_symbol;

enum {
    JINJA_SYMBOL_LOOP,
    JINJA_SYMBOL_CALLER,
    JINJA_SYMBOL_VARARGS,
    JINJA_SYMBOL_KWARGS,
    JINJA_SYMBOL_FIXED
};

struct jinja_branch {
    struct jinja_node *test; /* NULL for else */
    struct jinja_nodes body;
};

struct jinja_signature {
    jinja_symbol *parameters;
    struct jinja_node **defaults; /* NULL where there is none */
    size_t n;
    uint8_t uses_caller, uses_varargs, uses_kwargs;
};

struct jinja_node {
    uint8_t kind;    /* enum jinja_node_kind */
    uint8_t op;      /* of BINARY: token kind */
    uint16_t height; /* of the tree below, bounded by JINJA_MAX_HEIGHT */
    uint32_t line, column;
    union {
        struct jinja_value constant;
        struct base_view data;
        jinja_symbol symbol;
        struct jinja_nodes items;   /* LIST, TUPLE, DICT, CONCAT, body of SCOPE */
        struct jinja_node *operand; /* NOT, NEGATE, PLUS, OUTPUT */
        struct {
            struct jinja_node *left, *right;
        } pair; /* BINARY, AND, OR */
        struct {
            struct jinja_node *object;
            struct base_view name;
        } attribute;
        struct {
            struct jinja_node *object, *index;
        } item;
        struct {
            struct jinja_node *start, *stop, *step; /* NULL where left out */
        } slice;
        struct {
            struct jinja_node *callee;
            struct jinja_arguments args;
        } call;
        struct {
            struct jinja_node *object;
            const struct jinja_callable *function; /* NULL: fails when it is reached */
            struct base_view name;
            struct jinja_arguments args;
        } apply; /* FILTER, TEST */
        struct {
            struct jinja_nodes operands; /* one more than relations */
            uint8_t *relations;          /* enum jinja_relation */
        } compare;
        struct {
            struct jinja_node *test, *yes, *no; /* `no` may be NULL */
        } condition;
        struct {
            struct jinja_branch *branches;
            size_t n;
        } branch; /* IF */
        struct {
            struct jinja_node *target, *iterable, *test;
            struct jinja_nodes body, otherwise;
            int recursive;
        } loop;
        struct {
            struct jinja_node *target, *value; /* of SET_BLOCK: the filters, or NULL */
            struct jinja_nodes body;
        } set;
        struct {
            jinja_symbol object;
            struct base_view name;
        } member;
        struct {
            jinja_symbol name;       /* of MACRO */
            struct jinja_node *call; /* of CALL_BLOCK */
            struct jinja_signature signature;
            struct jinja_nodes body;
        } macro;
        struct {
            struct jinja_node *filter;
            struct jinja_nodes body;
        } filter_block;
        struct {
            struct jinja_nodes targets, values, body;
        } with;
    };
};

struct jinja_template {
    struct base_alloc alloc;
    struct base_arena arena; /* the source, the tree and the names */
    struct base_map symbols;
    struct base_view *names; /* by symbol */
    size_t n_names, names_capacity;
    struct jinja_nodes body;
};

/* Fills t->body. The last token is EOF. */
infer_status jinja_parse(struct jinja_template *t, const jinja_tokens *tokens);

/* The number of a name; negative after an error. */
jinja_symbol jinja_symbol_of(struct jinja_template *t, struct base_view name);

#endif
