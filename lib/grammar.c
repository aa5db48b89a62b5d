/* Public: <infer/grammar.h>. */
#include "handle.h"
#include "sample/grammar_matcher.h"
#include "sample/grammar_read.h"

#include <infer/grammar.h>
#include <string.h>

static infer_status check_options(const infer_grammar_options *o)
{
    if (o->kind < INFER_GRAMMAR_JSON_SCHEMA || o->kind > INFER_GRAMMAR_CHOICE)
        return base_error(INFER_ERR_UNSUPPORTED, "infer_grammar_kind %d is not known", o->kind);
    if (o->kind == INFER_GRAMMAR_CHOICE ? !o->choices || !o->n_choices || o->text
                                        : o->choices || o->n_choices)
        return base_error(INFER_ERR_INVALID,
                          "choices go with INFER_GRAMMAR_CHOICE, and text with all other kinds");
    if (!o->text && (o->kind == INFER_GRAMMAR_GBNF || o->kind == INFER_GRAMMAR_REGEX))
        return base_error(INFER_ERR_INVALID, "the grammar's text is NULL");
    return INFER_OK;
}

static infer_status read_text(struct grammar_builder *b, const infer_grammar_options *o,
                              uint32_t *root)
{
    struct base_view text = {o->text, 0};
    if (o->text)
        text.size = o->text_size ? o->text_size : strlen(o->text);
    if (text.size > GRAMMAR_TEXT_MAX)
        return base_error(INFER_ERR_LIMIT, "the grammar's text has %zu bytes, the limit is %zu",
                          text.size, GRAMMAR_TEXT_MAX);
    switch (o->kind) {
    case INFER_GRAMMAR_GBNF:
        return grammar_read_gbnf(b, text, o->root ? o->root : "root", root);
    case INFER_GRAMMAR_REGEX:
        return grammar_read_regex(b, text, root);
    case INFER_GRAMMAR_CHOICE:
        return grammar_read_choices(b, o->choices, o->n_choices, root);
    default:
        return grammar_read_json_schema(b, text, o->compact, root);
    }
}

static void add(struct base_hash128 *digest, const void *data, size_t size)
{
    const struct base_hash128 both[2] = {*digest, base_hash128_plain(size ? data : "", size)};
    *digest = base_hash128_plain(both, sizeof both);
}

/* Of all that says which texts match, so that it stays the same when compiling changes. */
static struct base_hash128 digest_of(const infer_grammar_options *o)
{
    const char *root = o->kind == INFER_GRAMMAR_GBNF ? o->root ? o->root : "root" : "";
    const uint64_t numbers[] = {(uint64_t)o->kind,
                                o->kind == INFER_GRAMMAR_JSON_SCHEMA && o->compact, o->text != NULL,
                                o->n_choices};
    struct base_hash128 digest = {0, 0};
    uint8_t bytes[sizeof numbers];
    for (size_t i = 0; i < sizeof bytes; i++) /* the same on every machine */
        bytes[i] = (uint8_t)(numbers[i / 8] >> i % 8 * 8);
    add(&digest, bytes, sizeof bytes);
    add(&digest, root, strlen(root));
    if (o->text)
        add(&digest, o->text, o->text_size ? o->text_size : strlen(o->text));
    for (size_t i = 0; i < o->n_choices; i++)
        add(&digest, o->choices[i], strlen(o->choices[i]));
    return digest;
}

infer_status infer_grammar_create(infer_grammar **out, const infer_grammar_options *options)
{
    REQUIRE(out);
    infer_grammar_options o;
    struct base_alloc alloc;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_grammar_options");
    if (st == INFER_OK)
        st = handle_alloc(&alloc, o.allocator, &base_alloc_default);
    if (st == INFER_OK)
        st = check_options(&o);
    if (st != INFER_OK)
        return st;
    struct grammar_builder b;
    struct infer_grammar *g = NULL;
    uint32_t root = 0;
    grammar_builder_init(&b, &alloc);
    st = read_text(&b, &o, &root);
    if (st == INFER_OK)
        st = grammar_compile(&g, &b, root);
    grammar_builder_release(&b);
    if (st == INFER_OK) {
        g->digest = digest_of(&o);
        *out = g;
    }
    return st;
}

void infer_grammar_destroy(infer_grammar **grammar)
{
    if (grammar)
        grammar_release(grammar);
}

infer_status infer_grammar_accepts(int32_t *out, const infer_grammar *grammar, const char *text,
                                   size_t size)
{
    REQUIRE(out);
    REQUIRE(grammar);
    if (size)
        REQUIRE(text);
    struct grammar_matcher m;
    /* Immutable but for the count of references and what its machines remember. */
    struct infer_grammar *g = (struct infer_grammar *)grammar;
    infer_status st = grammar_matcher_init(&m, &g->alloc, g, NULL);
    if (st != INFER_OK)
        return st;
    int accepts = 0, more = 0;
    st = grammar_matcher_push(&m, text, size);
    if (st == INFER_OK)
        st = grammar_matcher_look(&m, &accepts, &more);
    else if (st == INFER_ERR_INVALID)
        st = INFER_OK;
    grammar_matcher_release(&m);
    if (st == INFER_OK)
        *out = accepts;
    return st;
}
