/* Two vocabularies small enough to check by hand. */
#ifndef TESTS_UNIT_TINY_VOCAB_H
#define TESTS_UNIT_TINY_VOCAB_H

#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

#define TINY_MAX        512
#define TINY_TEXT_MAX   32
#define TINY_VIEW(text) ((struct base_view){(text), sizeof(text) - 1})

struct tiny_vocab {
    char texts[TINY_MAX][TINY_TEXT_MAX];
    struct base_view tokens[TINY_MAX], merges[TINY_MAX];
    float scores[TINY_MAX];
    int32_t types[TINY_MAX];
    struct text_vocab vocab;
};

static inline infer_token tiny_add(struct tiny_vocab *t, const char *text, int32_t type,
                                   float score)
{
    size_t i = t->vocab.n_tokens++;
    snprintf(t->texts[i], TINY_TEXT_MAX, "%s", text);
    t->tokens[i] = (struct base_view){t->texts[i], strlen(t->texts[i])};
    t->types[i] = type;
    t->scores[i] = score;
    return (infer_token)i;
}

/* Id of a token by its text as the vocabulary writes it, or -1. */
static inline infer_token tiny_id(const struct tiny_vocab *t, const char *text)
{
    for (size_t i = 0; i < t->vocab.n_tokens; i++)
        if (t->tokens[i].size == strlen(text) &&
            memcmp(t->tokens[i].data, text, t->tokens[i].size) == 0)
            return (infer_token)i;
    return -1;
}

static inline void tiny_begin(struct tiny_vocab *t, int32_t kind)
{
    memset(t, 0, sizeof *t);
    t->vocab = (struct text_vocab){
        .kind = kind,
        .pre = {"", 0},
        .tokens = t->tokens,
        .scores = kind == TEXT_SPM ? t->scores : NULL,
        .types = t->types,
        .merges = t->merges,
        .bos = -1,
        .eos = -1,
        .eot = -1,
        .unk = -1,
        .pad = -1,
    };
}

/* A merge and the token it makes. */
static inline void tiny_merge(struct tiny_vocab *t, const char *merge)
{
    t->merges[t->vocab.n_merges++] = (struct base_view){merge, strlen(merge)};
    char text[TINY_TEXT_MAX];
    const char *space = strchr(merge, ' ');
    snprintf(text, sizeof text, "%.*s%s", (int)(space - merge), merge, space + 1);
    if (tiny_id(t, text) < 0)
        tiny_add(t, text, TEXT_TOKEN_NORMAL, 0);
}

/* The specials of both: two control tokens, one inside the other, and a family of
 * user-defined ones. */
static inline void tiny_add_specials(struct tiny_vocab *t)
{
    tiny_add(t, "<|end|>", TEXT_TOKEN_CONTROL, 0);
    tiny_add(t, "<|end|><|x|>", TEXT_TOKEN_CONTROL, 0);
    tiny_add(t, "<u>", TEXT_TOKEN_USER_DEFINED, 0);
    tiny_add(t, "<u><u>", TEXT_TOKEN_USER_DEFINED, 0);
    tiny_add(t, "<u><u><u", TEXT_TOKEN_USER_DEFINED, 0);
}

/* Byte-level: ids 0 to 255 are the bytes; \xC4\xA0 is the alphabet's space. */
static inline void tiny_bpe(struct tiny_vocab *t)
{
    static const char *const merges[] = {
        "h e",
        "l l",
        "he ll",
        "hell o",
        "\xC4\xA0 hello",
        "o o",
        "oo oo",
        "a b",
        "b c",
        "ab c",
        "\xC3\x83 \xC2\xA9", /* é */
        "\xC4\xA0 \xC4\xA0",
    };
    tiny_begin(t, TEXT_BPE);
    for (unsigned b = 0, extra = 0; b < 256; b++) {
        int printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
        unsigned cp = printable ? b : 256 + extra++;
        char text[3] = {(char)(cp < 0x80 ? cp : 0xC0 | cp >> 6), (char)(0x80 | (cp & 0x3F)), 0};
        if (cp < 0x80)
            text[1] = 0;
        tiny_add(t, text, TEXT_TOKEN_NORMAL, 0);
    }
    for (size_t i = 0; i < BASE_COUNT(merges); i++)
        tiny_merge(t, merges[i]);
    t->vocab.bos = tiny_add(t, "<s>", TEXT_TOKEN_CONTROL, 0);
    t->vocab.eos = tiny_add(t, "</s>", TEXT_TOKEN_CONTROL, 0);
    tiny_add_specials(t);
}

/* SentencePiece: unknown, BOS, EOS, bytes, characters, tokens by falling score. */
static inline void tiny_spm(struct tiny_vocab *t, int with_bytes)
{
    static const char *const texts[] = {
        "\xE2\x96\x81",
        "h",
        "e",
        "l",
        "o",
        "a",
        "b",
        "c",
        "\xC3\xA9",
        "he",
        "ll",
        "hell",
        "hello",
        "\xE2\x96\x81hello",
        "\xE2\x96\x81h",
        "oo",
        "oooo",
        "ab",
        "bc",
        "abc",
        "\xE2\x96\x81\xE2\x96\x81",
        "xyz",
        "yz",
    };
    tiny_begin(t, TEXT_SPM);
    t->vocab.unk = tiny_add(t, "<unk>", TEXT_TOKEN_UNKNOWN, 0);
    t->vocab.bos = tiny_add(t, "<s>", TEXT_TOKEN_CONTROL, 0);
    t->vocab.eos = tiny_add(t, "</s>", TEXT_TOKEN_CONTROL, 0);
    for (unsigned b = 0; with_bytes && b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        tiny_add(t, text, TEXT_TOKEN_BYTE, 0);
    }
    for (size_t i = 0; i < BASE_COUNT(texts); i++)
        tiny_add(t, texts[i], TEXT_TOKEN_NORMAL, -(float)i);
    tiny_add_specials(t);
    t->vocab.add_bos = t->vocab.add_space_prefix = 1;
}

#endif
