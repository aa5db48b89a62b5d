/* How fast a tokenizer encodes:
 *
 *     tokenize TOKENIZER TEXT [--rounds N] [--lines] [--wait]
 *
 * TOKENIZER is a GGUF file or a tokenizer's own file (tokenizer.json, .model, .tiktoken ...), of
 * TEXT the first megabyte counts, as one text or with --lines as one a line. Prints the median and
 * the spread of the rounds, in processor time. With --wait it encodes once for each line that it
 * reads and answers with the seconds and the number of tokens: tokenizers_peer.py takes turns with
 * other programs that way. */
#include "base/error.h"
#include "base/file.h"
#include "model/hf_tokenizer.h"
#include "model/vocab.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_BYTES ((size_t)1 << 20)
#define MAX_ROUNDS 1000

static void must(infer_status st)
{
    if (st == INFER_OK)
        return;
    fprintf(stderr, "tokenize: %s\n", base_error_text());
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

/* Of this thread, so that other programs on the machine disturb less. */
static double processor_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* All of the text at once, or a call for each line without its end. */
static double encode(const struct text_tokenizer *t, struct base_view text, int lines,
                     size_t *n_tokens)
{
    double start = processor_time();
    *n_tokens = 0;
    for (size_t i = 0; i < text.size;) {
        const char *end = lines ? memchr(text.data + i, '\n', text.size - i) : NULL;
        size_t n = end ? (size_t)(end - text.data) - i : text.size - i;
        text_tokens ids = {0};
        must(text_tokenizer_encode(t, &base_alloc_default, text.data + i, n, TEXT_ENCODE_SPECIAL,
                                   &ids));
        *n_tokens += ids.size;
        base_array_release(&base_alloc_default, &ids);
        i += n + (end != NULL);
    }
    return processor_time() - start;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const struct text_tokenizer *t, struct base_view text, int lines, int rounds,
                    const char *name)
{
    static double seconds[MAX_ROUNDS];
    size_t n_tokens = 0;
    for (int i = 0; i < rounds; i++)
        seconds[i] = encode(t, text, lines, &n_tokens);
    qsort(seconds, (size_t)rounds, sizeof *seconds, by_value);
    double mb = (double)text.size * 1e-6;
    printf("%-60s %8.2f MB/s  (%.2f to %.2f)  %zu tokens\n", name, mb / seconds[rounds / 2],
           mb / seconds[rounds - 1], mb / seconds[0], n_tokens);
}

static void answer(const struct text_tokenizer *t, struct base_view text, int lines)
{
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        size_t n_tokens;
        double seconds = encode(t, text, lines, &n_tokens);
        printf("%.9f %zu\n", seconds, n_tokens);
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    int rounds = 15, lines = 0, wait = 0;
    if (argc < 3) {
        fprintf(stderr, "usage: %s TOKENIZER TEXT [--rounds N] [--lines] [--wait]\n", argv[0]);
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--wait") == 0)
            wait = 1;
        else if (strcmp(argv[i], "--lines") == 0)
            lines = 1;
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            rounds = atoi(argv[++i]);
    }
    rounds = rounds < 1 ? 1 : rounds > MAX_ROUNDS ? MAX_ROUNDS : rounds;
    struct base_file file;
    struct gguf_file *gguf = NULL;
    struct model_vocab *vocab = NULL;
    must(base_file_map(&file, argv[2]));
    open_tokenizer(&gguf, argv[1]);
    must(model_vocab_load(&vocab, &base_alloc_default, gguf));
    struct base_view text = {(const char *)file.data, BASE_MIN(file.size, TEXT_BYTES)};
    text.size = text_utf8_valid_prefix(text.data, text.size); /* no half character at the end */
    if (wait)
        answer(model_vocab_tokenizer(vocab), text, lines);
    else
        measure(model_vocab_tokenizer(vocab), text, lines, rounds, argv[1]);
    model_vocab_destroy(&vocab);
    gguf_close(&gguf);
    base_file_unmap(&file);
    return 0;
}
