/* GBNF, regular expressions and the automaton behind them: which texts match, what is refused and
 * where, counts and ambiguity, failing allocations; llama.cpp's fixtures. */
#include "support/test.h"
#include "support/test_alloc.h"

#include "unit/grammar_run.h"

#include <dirent.h>
#include <jansson.h>

/* `texts`: those that match, then NULL, then those that do not, then NULL. */
static void assert_language(int how, const char *grammar, const char *const *texts)
{
    struct infer_grammar *g = NULL;
    if (grammar_make(&g, how, grammar) != INFER_OK)
        fail_msg("%s: %s", grammar, base_error_text());
    for (; *texts; texts++)
        if (grammar_takes(g, *texts) != 1)
            fail_msg("%s should match \"%s\"", grammar, *texts);
    for (texts++; *texts; texts++)
        if (grammar_takes(g, *texts) == 1)
            fail_msg("%s should not match \"%s\"", grammar, *texts);
    grammar_release(&g);
}

#define TEXTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(int how, const char *grammar, infer_status status, const char *sentence)
{
    struct infer_grammar *g = NULL;
    assert_int_equal(grammar_make(&g, how, grammar), status);
    assert_null(g);
    if (!strstr(base_error_text(), sentence))
        fail_msg("\"%s\" should contain \"%s\"", base_error_text(), sentence);
}

static void test_gbnf(void **state)
{
    (void)state;
    assert_language(
        READ_GBNF, "root ::= \"a\" | [bdx-z] | [^1-3]",
        TEXTS("a", "y", "4", "\xc3\xa9", "\xf0\x9f\x98\x80", NULL, "", "1", "ab", "\xc3"));
    assert_language(READ_GBNF,
                    "# words\nroot ::= (\n  word \" \"\n | word)+ # end\nword ::= [a-z]+",
                    TEXTS("a", "ab cd", "ab ", NULL, "", " a", "ab  cd"));
    assert_language(READ_GBNF, "root ::= \"\\x41\\u00e9\\U0001F600\\n\\\"\\\\\\[\"",
                    TEXTS("A\xc3\xa9\xf0\x9f\x98\x80\n\"\\[", NULL, "A"));
    assert_language(READ_GBNF, "root ::= . [\\]^-] [a-]",
                    TEXTS("x]a", "\xe4\xbd\xa0--", NULL, "x]b"));
    assert_language(READ_GBNF, "root ::= list\nlist ::= \"(\" (list | \"x\")* \")\"",
                    TEXTS("()", "(x(x)())", NULL, "(", "())", "x"));
    assert_language(READ_GBNF, "root ::= a b\na ::= \"x\"?\nb ::= | \"y\" b",
                    TEXTS("", "x", "xyy", "y", NULL, "yx"));
}

static void test_repetitions(void **state)
{
    struct infer_grammar *g = NULL;
    (void)state;
    assert_language(READ_GBNF, "root ::= \"ab\"{2,3} \"c\"{0} \"d\"{ 1 , }",
                    TEXTS("ababd", "abababddd", NULL, "abd", "ababababd", "abab"));
    /* What may be empty, counted: the minimum means nothing then. */
    assert_language(READ_GBNF, "root ::= (a b?){2,50} \".\"\na ::= \"a\"?\nb ::= \"b\" b?",
                    TEXTS(".", "ab.", "bbb.", "aabab.", NULL, "c.", "ab"));
    assert_language(
        READ_GBNF, "root ::= (\"x\" y?){90,200}\ny ::= \"y\"",
        TEXTS("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
              "xxxxxxxxxxxxxxxxxxxxxxxxy",
              NULL, "xyx"));
    assert_ok(grammar_make(&g, READ_GBNF, "root ::= [a-z]{1,1000000000}"));
    assert_true(g->n_nodes < 10); /* counted, not written out */
    assert_int_equal(grammar_takes(g, "abc"), 1);
    grammar_release(&g);
    assert_refused(READ_GBNF, "root ::= \"a\"{1,1000000001}", INFER_ERR_LIMIT, "1000000000");
    assert_refused(READ_GBNF, "root ::= ((([a-z]{0,999}){0,999}){0,999}){0,999}", INFER_ERR_LIMIT,
                   "repetitions");
}

static void test_gbnf_refusals(void **state)
{
    (void)state;
    assert_refused(READ_GBNF, "root ::= e\ne ::= e \"+\" | \"1\"", INFER_ERR_INVALID,
                   "rule \"e\" calls itself");
    assert_refused(READ_GBNF, "root ::= n root \"x\" | \"y\"\nn ::= \"z\"?", INFER_ERR_INVALID,
                   "left recursion");
    assert_refused(READ_GBNF, "root ::= a", INFER_ERR_NOT_FOUND, "\"a\"");
    assert_refused(READ_GBNF, "a ::= \"x\"", INFER_ERR_NOT_FOUND, "\"root\"");
    assert_refused(READ_GBNF, "root ::= \"x\" root", INFER_ERR_INVALID, "no text matches");
    assert_refused(READ_GBNF, "root ::= []", INFER_ERR_INVALID, "no text matches");
    assert_refused(READ_GBNF, "root ::= \"a", INFER_ERR_FORMAT, "line 1, column 12");
    assert_refused(READ_GBNF, "root ::= \"a\"\nroot ::= \"b\"", INFER_ERR_FORMAT,
                   "line 2, column 1");
    assert_refused(READ_GBNF, "root ::= <[5]>", INFER_ERR_UNSUPPORTED, "tokens by number");
    assert_refused(READ_GBNF, "root ::= [z-a]", INFER_ERR_FORMAT, "backwards");
    assert_refused(READ_GBNF, "root ::= \"\\ud800\"", INFER_ERR_FORMAT, "no character");
    assert_refused(READ_GBNF, "root ::= (\"a\"", INFER_ERR_FORMAT, "\")\" is expected");
    assert_refused(READ_GBNF, "root = \"a\"", INFER_ERR_FORMAT, "\"::=\"");
    assert_refused(READ_GBNF, "root ::= \"\xff\"", INFER_ERR_FORMAT, "UTF-8");
}

static void test_regex(void **state)
{
    (void)state;
    assert_language(READ_REGEX, "[a-c]{2,3}x?|\\d+(?:\\.\\d*)?",
                    TEXTS("ab", "abcx", "12", "1.", "1.50", NULL, "a", "abcd", ".5", ""));
    assert_language(READ_REGEX, "^a.*z$", TEXTS("az", "a\xc3\xa9z", NULL, "a\nz", "a", "za"));
    assert_language(READ_REGEX, "(^a|b)c$|d", TEXTS("ac", "bc", "d", NULL, "c", "dd"));
    assert_language(READ_REGEX, "[^\\s\\W]+\\x41\\u{1F600}\\cA[\\b-\\x0a]",
                    TEXTS("x_A\xf0\x9f\x98\x80\x01\t", NULL, "xA"));
    assert_language(READ_REGEX, "a+?b*?c??[\\]-a]*|x{,3}|{",
                    TEXTS("a", "abc", "x{,3}", "{", NULL, "b"));
    assert_language(READ_REGEX, "(?<year>\\d{4})-[\\w.-]", TEXTS("2025--", NULL, "2025-~"));
    assert_language(READ_REGEX, "[a-z]{2,20000}!", TEXTS("abc!", NULL, "a!", "abc"));
    assert_refused(READ_REGEX, "a(?=b)", INFER_ERR_UNSUPPORTED, "lookahead");
    assert_refused(READ_REGEX, "(?<!a)b", INFER_ERR_UNSUPPORTED, "lookbehind");
    assert_refused(READ_REGEX, "(a)\\1", INFER_ERR_UNSUPPORTED, "back references");
    assert_refused(READ_REGEX, "\\bfoo", INFER_ERR_UNSUPPORTED, "word boundaries");
    assert_refused(READ_REGEX, "\\p{L}", INFER_ERR_UNSUPPORTED, "Unicode properties");
    assert_refused(READ_REGEX, "(?i)a", INFER_ERR_UNSUPPORTED, "flags");
    assert_refused(READ_REGEX, "a)", INFER_ERR_FORMAT, "column 2");
    assert_refused(READ_REGEX, "*", INFER_ERR_FORMAT, "nothing to repeat");
    assert_refused(READ_REGEX, "a$b", INFER_ERR_INVALID, "no text matches");
    assert_refused(READ_REGEX, "([a-z]{1,9000}^){1,9000}", INFER_ERR_LIMIT, "states");
}

static void test_choices(void **state)
{
    static const char *const words[] = {"yes", "yesterday", "", "\xc3\xa9t\xc3\xa9"};
    struct grammar_builder b;
    struct infer_grammar *g = NULL;
    uint32_t root = 0;
    (void)state;
    grammar_builder_init(&b, &base_alloc_default);
    assert_ok(grammar_read_choices(&b, words, 4, &root));
    assert_ok(grammar_compile(&g, &b, root));
    grammar_builder_release(&b);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(grammar_takes(g, words[i]), 1);
    assert_int_equal(grammar_takes(g, "yest"), 2);
    assert_int_equal(grammar_takes(g, "no"), 0);
    grammar_release(&g);
}

/* Stacks that would double with every byte are shared. */
static void test_ambiguity(void **state)
{
    struct infer_grammar *g = NULL;
    char text[401];
    (void)state;
    assert_ok(
        grammar_make(&g, READ_GBNF,
                     "root ::= s\ns ::= \"a\" s x | \"a\" s y | \"a\"\nx ::= \"b\"\ny ::= \"b\""));
    memset(text, 'a', 200);
    memset(text + 200, 'b', 199);
    text[399] = 0;
    assert_int_equal(grammar_takes(g, text), 1);
    text[398] = 0;
    assert_int_equal(grammar_takes(g, text), 2);
    grammar_release(&g);
}

/* Deeper than stacks may be, the text is refused, and all before is still right. */
static void test_depth(void **state)
{
    struct infer_grammar *g = NULL;
    static char text[3001];
    (void)state;
    assert_ok(grammar_make(&g, READ_GBNF, "root ::= \"[\" root? \"]\""));
    memset(text, '[', 900);
    memset(text + 900, ']', 900);
    assert_int_equal(grammar_takes(g, text), 1);
    memset(text, '[', 3000);
    assert_int_equal(grammar_takes(g, text), 0);
    grammar_release(&g);
    assert_ok(grammar_make(&g, READ_GBNF, "root ::= \"x\" root | \"y\"")); /* no stack grows */
    memset(text, 'x', 2999);
    text[2999] = 'y';
    assert_int_equal(grammar_takes(g, text), 1);
    grammar_release(&g);
}

static void test_forced(void **state)
{
    struct infer_grammar *g = NULL;
    struct grammar_matcher m;
    struct base_str text;
    int complete = 1;
    (void)state;
    assert_ok(grammar_make(&g, READ_GBNF, "root ::= \"The answer is \" (\"yes\" | \"no\") \".\""));
    assert_ok(grammar_matcher_init(&m, &base_alloc_default, g, NULL));
    base_str_init(&text, &base_alloc_default, 0);
    assert_ok(grammar_matcher_forced_text(&m, 100, &text, &complete));
    assert_string_equal(text.data, "The answer is ");
    assert_false(complete);
    assert_ok(grammar_matcher_push(&m, "The answer is y", 15));
    base_str_clear(&text);
    assert_ok(grammar_matcher_forced_text(&m, 100, &text, &complete));
    assert_string_equal(text.data, "es.");
    assert_true(complete);
    assert_int_equal(grammar_matcher_push(&m, "x", 1), INFER_ERR_INVALID);
    assert_ok(grammar_matcher_push(&m, "es.", 3)); /* nothing had moved */
    base_str_release(&text);
    grammar_matcher_release(&m);
    grammar_release(&g);
}

/* ---------------------------------------------------------------- fixtures */

static json_t *load(const char *name)
{
    json_error_t error;
    json_t *v = json_load_file(test_data(name), 0, &error);
    if (!v)
        fail_msg("%s: %s", name, error.text);
    return v;
}

/* llama.cpp limits counts to 2000, which are no cost here; it has tokens by number. */
static int parses_here(const char *grammar, int there)
{
    if (strstr(grammar, "{5000"))
        return 1;
    return there && !strstr(grammar, "<[");
}

static void test_llamacpp_parse(void **state)
{
    (void)state;
    json_t *list = load("json/llama.cpp/llamacpp_gbnf_parse.json"), *v;
    size_t i;
    json_array_foreach(list, i, v)
    {
        const char *text = json_string_value(json_object_get(v, "grammar"));
        struct infer_grammar *g = NULL;
        infer_status st = grammar_make(&g, READ_GBNF, text);
        if ((st == INFER_OK) != parses_here(text, json_is_true(json_object_get(v, "parses"))))
            fail_msg("%s: %d %s", text, st, base_error_text());
        grammar_release(&g);
    }
    json_decref(list);
}

struct fixture {
    const char *name;
    struct infer_grammar *g;
    size_t n, differ;
};

static void check_texts(struct fixture *f, const json_t *texts, int matches)
{
    size_t i;
    json_t *text;
    json_array_foreach((json_t *)texts, i, text)
    {
        int got = grammar_takes(f->g, json_string_value(text)) == 1;
        f->n++;
        if (got == matches)
            continue;
        print_message("# %s: %s: %s here\n", f->name, json_string_value(text),
                      got ? "matches" : "does not match");
        f->differ++;
    }
}

static void test_llamacpp_texts(void **state)
{
    size_t i, n = 0, differ = 0;
    json_t *list = load("json/llama.cpp/llamacpp_grammar_integration.json"), *v;
    (void)state;
    json_array_foreach(list, i, v)
    {
        int is_gbnf = strcmp(json_string_value(json_object_get(v, "kind")), "gbnf") == 0;
        const char *text = json_string_value(json_object_get(v, is_gbnf ? "grammar" : "schema"));
        struct fixture f = {.name = json_string_value(json_object_get(v, "name"))};
        if (grammar_make(&f.g, is_gbnf ? READ_GBNF : READ_SCHEMA, text) != INFER_OK) {
            print_message("# %s: refused: %s\n", f.name, base_error_text());
            differ += (size_t)is_gbnf;
            continue;
        }
        check_texts(&f, json_object_get(v, "accept"), 1);
        check_texts(&f, json_object_get(v, "reject"), 0);
        if (is_gbnf)
            assert_int_equal(f.differ, 0);
        n += f.n;
        differ += f.differ;
        grammar_release(&f.g);
    }
    print_message("# %zu texts, %zu judged otherwise than by llama.cpp\n", n, differ);
    /* Its schemas have limits of their own: 16 digits, an object where nothing is said, "items" of
     * draft 7, spaces at certain places. */
    assert_int_equal(n, 353);
    assert_int_equal(differ, 8);
    json_decref(list);
}

static void test_llamacpp_files(void **state)
{
    static const char *const names[] = {"arithmetic", "c",    "chess",    "english",
                                        "japanese",   "json", "json_arr", "list"};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        char path[128];
        struct infer_grammar *g = NULL;
        snprintf(path, sizeof path, "json/llama.cpp/grammars/%s.gbnf", names[i]);
        char *text = test_read(test_data(path), NULL);
        if (grammar_make(&g, READ_GBNF, text) != INFER_OK)
            fail_msg("%s: %s", names[i], base_error_text());
        grammar_release(&g);
        free(text);
    }
}

/* --------------------------------------------------------------- allocation */

static void test_no_memory(void **state)
{
    static const struct {
        int how;
        const char *grammar, *text;
    } cases[] = {
        {READ_GBNF, "root ::= \"a\" [^x]{2,99} (root | b)*\nb ::= \"{\" b? \"}\"", "abcd{{}}"},
        {READ_REGEX, "(ab|[c-e]+){3,5}x$", "abcdabx"},
        {READ_SCHEMA,
         "{\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":3},\"b\":{\"pattern\":\"^x+$\"}}"
         ","
         "\"patternProperties\":{\"^c\":{\"enum\":[1,\"two\",[3]]}},\"required\":[\"a\"],"
         "\"allOf\":[{\"oneOf\":[{\"type\":\"object\"},{\"type\":\"string\"}]}]}",
         "{\"a\": 5, \"b\": \"xx\", \"c\": \"two\"}"},
    };
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        int done = 0;
        for (size_t at = 1; !done; at++) {
            struct test_alloc t;
            struct infer_grammar *g = NULL;
            struct grammar_matcher m = {0};
            test_alloc_init(&t);
            t.fail_at = at;
            infer_status st = grammar_make_with(&g, &t.alloc, cases[i].how, cases[i].grammar,
                                                strlen(cases[i].grammar));
            if (st == INFER_OK)
                st = grammar_matcher_init(&m, &t.alloc, g, NULL);
            if (st == INFER_OK)
                st = grammar_matcher_push(&m, cases[i].text, strlen(cases[i].text));
            if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
                fail_msg("case %zu, allocation %zu: %d, %s", i, at, st, base_error_text());
            if (st == INFER_ERR_NO_MEMORY && m.machine) /* it goes on as if nothing had been */
                assert_ok(grammar_matcher_push(&m, cases[i].text, strlen(cases[i].text)));
            done = t.n_calls < at;
            grammar_matcher_release(&m);
            grammar_release(&g);
            assert_int_equal(t.live_blocks, 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gbnf),           cmocka_unit_test(test_repetitions),
        cmocka_unit_test(test_gbnf_refusals),  cmocka_unit_test(test_regex),
        cmocka_unit_test(test_choices),        cmocka_unit_test(test_ambiguity),
        cmocka_unit_test(test_depth),          cmocka_unit_test(test_forced),
        cmocka_unit_test(test_llamacpp_parse), cmocka_unit_test(test_llamacpp_texts),
        cmocka_unit_test(test_llamacpp_files), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
