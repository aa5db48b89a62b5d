/* What a grammar costs a token:
 *
 *     grammar TOKENIZER [--rounds N]
 *
 * TOKENIZER is a GGUF file or a tokenizer's own file. For each schema a text that matches it is
 * followed token by token; a token's cost is the mask, its use on a row of logits, and the step.
 * "cold" is the first text of a new grammar, "warm" the same again by another request. Prints
 * median, 99th percentile and maximum in microseconds of this thread's processor time. */
#include "base/error.h"
#include "model/hf_tokenizer.h"
#include "model/vocab.h"
#include "sample/chain.h"
#include "sample/grammar_matcher.h"
#include "sample/grammar_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TOKENS_MAX 100000

static const struct {
    const char *name, *schema, *text;
} cases[] = {
    {"any object", NULL,
     "{\"name\": \"Anna\", \"tags\": [\"a b c\", \"Zürich\", true, null, 12.5e3], \"nested\": "
     "{\"list\": [{\"x\": 1, \"y\": -2}, {\"x\": 3, \"y\": 4}], \"text\": \"The quick brown fox "
     "jumps over the lazy dog, and \\\"nobody\\\" minds.\"}}"},
    {"person",
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
     "\"integer\",\"minimum\":0,\"maximum\":150},\"email\":{\"type\":\"string\",\"format\":"
     "\"email\"},\"interests\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}}},\"required\":"
     "[\"name\",\"age\",\"email\",\"interests\"],\"additionalProperties\":false}",
     "{\"name\": \"Anna Katharina Berger\", \"age\": 42, \"email\": \"anna.berger@example.org\", "
     "\"interests\": [\"mountaineering\", \"old clocks\", \"Schach\"]}"},
    {"tool call",
     "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"name\":{\"const\":\"search\"},"
     "\"arguments\":{\"type\":\"object\",\"properties\":{\"query\":{\"type\":\"string\","
     "\"maxLength\":200},\"limit\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":50}},"
     "\"required\":[\"query\"],\"additionalProperties\":false}},\"required\":[\"name\","
     "\"arguments\"],\"additionalProperties\":false},{\"type\":\"object\",\"properties\":{\"name\":"
     "{\"const\":\"weather\"},\"arguments\":{\"type\":\"object\",\"properties\":{\"city\":{"
     "\"type\":"
     "\"string\"},\"unit\":{\"enum\":[\"celsius\",\"fahrenheit\"]},\"day\":{\"type\":\"string\","
     "\"format\":\"date\"}},\"required\":[\"city\",\"unit\"],\"additionalProperties\":false}},"
     "\"required\":[\"name\",\"arguments\"],\"additionalProperties\":false}]}",
     "{\"name\": \"search\", \"arguments\": {\"query\": \"how many people live in the city of "
     "Santiago de Compostela today\", \"limit\": 20}}"},
    {"open object",
     "{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"string\",\"pattern\":"
     "\"^[A-Z]{2}[0-9]{4,8}$\"},\"price\":{\"type\":\"number\",\"minimum\":0,\"multipleOf\":0.01},"
     "\"notes\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":500}},\"required\":[\"id\"]}",
     "{\"id\": \"CH123456\", \"price\": 1299.95, \"notes\": \"delivered in the afternoon, to the "
     "neighbour on the third floor\", \"colour\": \"dark green\", \"weight\": 12.5}"},
    {"tree",
     "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{"
     "\"value\":{\"type\":\"string\"},\"children\":{\"type\":\"array\",\"items\":{\"$ref\":"
     "\"#/$defs/node\"}}},\"required\":[\"value\",\"children\"],\"additionalProperties\":false}}}",
     "{\"value\": \"root of it\", \"children\": [{\"value\": \"left\", \"children\": [{\"value\": "
     "\"deep\", \"children\": []}]}, {\"value\": \"right side\", \"children\": []}]}"},
};

static void must(infer_status st)
{
    if (st == INFER_OK)
        return;
    fprintf(stderr, "grammar: %s\n", base_error_text());
    exit(1);
}

static void open_tokenizer(struct gguf_file **file, const char *path)
{
    size_t n = strlen(path);
    if (n > 5 && strcmp(path + n - 5, ".gguf") == 0) {
        must(gguf_open(file, &base_alloc_default, path, GGUF_OPEN_METADATA_ONLY));
        return;
    }
    struct gguf_draft *d = NULL;
    must(gguf_draft_create(&d, &base_alloc_default, path));
    must(model_tokenizer_file(d, &base_alloc_default, path));
    must(gguf_draft_finish(&d, file));
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

struct times {
    double us[TOKENS_MAX];
    size_t n;
};

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, struct times *t)
{
    qsort(t->us, t->n, sizeof *t->us, by_value);
    printf("  %s %6.1f %6.1f %6.1f", name, t->us[t->n / 2], t->us[t->n * 99 / 100],
           t->us[t->n - 1]);
}

static struct infer_grammar *make(const char *schema)
{
    struct grammar_builder b;
    struct infer_grammar *g = NULL;
    uint32_t root = 0;
    grammar_builder_init(&b, &base_alloc_default);
    struct base_view text = {schema, schema ? strlen(schema) : 0};
    must(grammar_read_json_schema(&b, text, 0, &root));
    must(grammar_compile(&g, &b, root));
    grammar_builder_release(&b);
    return g;
}

static void follow(struct infer_grammar *g, const struct text_tokenizer *tokenizer,
                   const text_tokens *tokens, struct times *t)
{
    size_t n_vocab = text_tokenizer_vocab(tokenizer)->n_tokens, n_ids = n_vocab / 8 + 1;
    float *logits = calloc(n_vocab, sizeof *logits);
    infer_token *ids = calloc(n_ids, sizeof *ids);
    struct grammar_matcher m;
    must(grammar_matcher_init(&m, &base_alloc_default, g, tokenizer));
    for (size_t i = 0; i < tokens->size && t->n < TOKENS_MAX; i++) {
        const uint64_t *bits;
        size_t n;
        struct sample_row row = {.x = logits, .n = (int32_t)n_vocab};
        double start = now_us();
        must(grammar_matcher_mask(&m, &bits, &n));
        struct sample_mask mask = {bits, n_vocab, n};
        sample_row_mask(&row, &mask, ids, n_ids);
        must(grammar_matcher_push_token(&m, tokens->data[i]));
        t->us[t->n++] = now_us() - start;
    }
    grammar_matcher_release(&m);
    free(logits);
    free(ids);
}

static void measure(const struct text_tokenizer *tokenizer, size_t c, int rounds)
{
    static struct times cold, warm;
    text_tokens tokens = {0};
    double compiled = 0;
    cold.n = warm.n = 0;
    must(text_tokenizer_encode(tokenizer, &base_alloc_default, cases[c].text, strlen(cases[c].text),
                               0, &tokens));
    for (int i = 0; i < rounds; i++) {
        double start = now_us();
        struct infer_grammar *g = make(cases[c].schema);
        compiled += now_us() - start;
        follow(g, tokenizer, &tokens, &cold);
        follow(g, tokenizer, &tokens, &warm);
        grammar_release(&g);
    }
    printf("%-12s compile %7.0f us, %3zu tokens;", cases[c].name, compiled / rounds, tokens.size);
    report("cold", &cold);
    report("; warm", &warm);
    printf("\n");
    base_array_release(&base_alloc_default, &tokens);
}

int main(int argc, char **argv)
{
    struct gguf_file *file = NULL;
    struct model_vocab *vocab = NULL;
    struct text_token_tree *tree = NULL;
    int rounds = argc == 4 && strcmp(argv[2], "--rounds") == 0 ? atoi(argv[3]) : 20;
    if (argc < 2 || rounds < 1) {
        fprintf(stderr, "usage: grammar TOKENIZER [--rounds N]\n");
        return 2;
    }
    open_tokenizer(&file, argv[1]);
    must(model_vocab_load(&vocab, &base_alloc_default, file));
    const struct text_tokenizer *tokenizer = model_vocab_tokenizer(vocab);
    double start = now_us();
    must(text_tokenizer_tree(&tree, tokenizer));
    printf("%zu tokens; tree of them made in %.1f ms: %zu, %zu, %zu and %zu nodes\n",
           text_tokenizer_vocab(tokenizer)->n_tokens, (now_us() - start) / 1e3, tree->words.size,
           tree->joined.size, tree->plain.size, tree->other.size);
    for (size_t i = 0; i < BASE_COUNT(cases); i++)
        measure(tokenizer, i, rounds);
    text_token_tree_release(&tree);
    model_vocab_destroy(&vocab);
    gguf_close(&file);
    return 0;
}
