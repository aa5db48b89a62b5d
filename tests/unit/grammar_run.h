/* Compiling a grammar from text, and asking it about texts. */
#ifndef TESTS_UNIT_GRAMMAR_RUN_H
#define TESTS_UNIT_GRAMMAR_RUN_H

#include "base/error.h"
#include "sample/grammar_matcher.h"
#include "sample/grammar_read.h"

enum { READ_GBNF, READ_REGEX, READ_SCHEMA, READ_SCHEMA_COMPACT };

static inline infer_status grammar_make_with(struct infer_grammar **out, const struct base_alloc *a,
                                             int how, const char *text, size_t size)
{
    struct grammar_builder b;
    struct base_view view = {text, size};
    uint32_t root = 0;
    grammar_builder_init(&b, a);
    infer_status st = how == READ_GBNF ? grammar_read_gbnf(&b, view, "root", &root)
                      : how == READ_REGEX
                          ? grammar_read_regex(&b, view, &root)
                          : grammar_read_json_schema(&b, view, how == READ_SCHEMA_COMPACT, &root);
    if (st == INFER_OK)
        st = grammar_compile(out, &b, root);
    grammar_builder_release(&b);
    return st;
}

static inline infer_status grammar_make(struct infer_grammar **out, int how, const char *text)
{
    return grammar_make_with(out, &base_alloc_default, how, text, strlen(text));
}

/* 1 whole, 0 not, 2 the beginning of one. */
static inline int grammar_takes(struct infer_grammar *g, const char *text)
{
    struct grammar_matcher m;
    int accepts = 0, more = 0;
    assert_ok(grammar_matcher_init(&m, &base_alloc_default, g, NULL));
    infer_status st = grammar_matcher_push(&m, text, strlen(text));
    if (st == INFER_OK)
        assert_ok(grammar_matcher_look(&m, &accepts, &more));
    else
        assert_int_equal(st, INFER_ERR_INVALID);
    grammar_matcher_release(&m);
    return accepts ? 1 : more ? 2 : 0;
}

#endif
