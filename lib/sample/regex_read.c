/* Regular expressions and lists of choices as grammars of their own. */
#include "base/error.h"
#include "sample/grammar_read.h"
#include "sample/regex_dfa.h"
#include "text/unicode.h"

#include <string.h>

static int has_anchor(const struct grammar_expr *e)
{
    if (e->kind == GRAMMAR_REPEAT)
        return has_anchor(e->as.repeat.body);
    if (e->kind == GRAMMAR_SEQ || e->kind == GRAMMAR_ALT)
        for (uint32_t i = 0; i < e->n; i++)
            if (has_anchor(e->as.items[i]))
                return 1;
    return e->kind == GRAMMAR_TEXT_BEGIN || e->kind == GRAMMAR_TEXT_END;
}

/* Where the whole text must match, anchors at its ends say nothing. */
static const struct grammar_expr *without_ends(struct grammar_builder *b,
                                               const struct grammar_expr *e)
{
    if (e->kind == GRAMMAR_TEXT_BEGIN || e->kind == GRAMMAR_TEXT_END)
        return grammar_empty(b);
    if (e->kind != GRAMMAR_SEQ)
        return e;
    uint32_t first = e->as.items[0]->kind == GRAMMAR_TEXT_BEGIN;
    uint32_t last = e->as.items[e->n - 1]->kind == GRAMMAR_TEXT_END;
    return grammar_seq(b, e->as.items + first, e->n - first - BASE_MIN(last, e->n - first));
}

/* The tree itself, where an automaton would be too large: counted repetitions stay counted. */
static const struct grammar_expr *from_tree(struct grammar_builder *b,
                                            const struct grammar_expr *tree)
{
    const struct grammar_expr *e = without_ends(b, tree);
    return has_anchor(e) ? NULL : e;
}

infer_status grammar_read_regex(struct grammar_builder *b, struct base_view text, uint32_t *rule)
{
    const struct grammar_expr *tree, *e = NULL;
    struct regex_dfa d;
    if (text_utf8_valid_prefix(text.data, text.size) != text.size)
        return base_error(INFER_ERR_FORMAT, "the regular expression is no valid UTF-8");
    infer_status st = regex_parse(&tree, b, text);
    if (st != INFER_OK)
        return st;
    st = regex_compile(&d, b, tree, 0);
    if (st == INFER_OK)
        e = regex_expr(b, &d, 0);
    else if (st == INFER_ERR_LIMIT && b->status == INFER_OK)
        e = from_tree(b, tree);
    if (!e)
        return st;
    *rule = grammar_rule_new(b, "regex", 5);
    grammar_rule_set(b, *rule, e);
    return b->status;
}

static infer_status view_choices(struct base_view *views, const char *const *choices, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!choices[i])
            return base_error(INFER_ERR_INVALID, "choices[%zu] is NULL", i);
        views[i] = (struct base_view){choices[i], strlen(choices[i])};
        if (text_utf8_valid_prefix(views[i].data, views[i].size) != views[i].size)
            return base_error(INFER_ERR_FORMAT, "choices[%zu] is no valid UTF-8", i);
    }
    return INFER_OK;
}

infer_status grammar_read_choices(struct grammar_builder *b, const char *const *choices, size_t n,
                                  uint32_t *rule)
{
    struct base_view *views = base_arena_new(&b->arena, n, sizeof *views);
    struct regex_dfa d;
    grammar_list items = {0};
    if (!views)
        return INFER_ERR_NO_MEMORY;
    infer_status st = view_choices(views, choices, n);
    if (st != INFER_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        grammar_list_add(b, &items, grammar_bytes(b, views[i].data, views[i].size));
    /* As a tree of characters, so that equal beginnings are one way; very many stay a list. */
    st = regex_of_texts(&d, b, views, n);
    const struct grammar_expr *e = NULL;
    if (st == INFER_OK)
        e = regex_expr(b, &d, 0);
    else if (st == INFER_ERR_LIMIT && b->status == INFER_OK)
        e = grammar_alt(b, items.data, items.size);
    base_array_release(&b->alloc, &items);
    if (!e)
        return st;
    *rule = grammar_rule_new(b, "choice", 6);
    grammar_rule_set(b, *rule, e);
    return b->status;
}
