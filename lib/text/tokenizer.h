/* Text to tokens and back. The vocabulary comes from whoever read the file
 * (model/vocab.c), so this floor knows no file format. Immutable once made;
 * safe to share between threads. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include "base/array.h"
#include "base/str.h"

enum {
    TEXT_SPM = 1,       /* BPE over characters, by scores or by ranks (Llama 2, Gemma) */
    TEXT_BPE = 2,       /* byte-level BPE by merge ranks (GPT-2, Llama 3) */
    TEXT_WORDPIECE = 3, /* longest token first (BERT) */
    TEXT_UNIGRAM = 4    /* highest sum of scores (T5, XLM-R) */
};

/* Token types as GGUF writes them. */
enum {
    TEXT_TOKEN_NORMAL = 1,
    TEXT_TOKEN_UNKNOWN = 2,
    TEXT_TOKEN_CONTROL = 3,
    TEXT_TOKEN_USER_DEFINED = 4,
    TEXT_TOKEN_UNUSED = 5,
    TEXT_TOKEN_BYTE = 6
};

/* Where a space is put in front of a text (SPM, UNIGRAM, BPE). */
enum {
    TEXT_PREFIX_SPACE = 1,   /* at all */
    TEXT_PREFIX_FIRST = 2,   /* only at the start of the whole text, not after special tokens */
    TEXT_PREFIX_MISSING = 4, /* only where none stands already */
    TEXT_PREFIX_BEHIND = 8   /* not in front but behind the text */
};

/* What BERT's cleaning of words would take away. */
enum {
    TEXT_BERT_KEEP_CASE = 1,
    TEXT_BERT_KEEP_ACCENTS = 2,
    TEXT_BERT_KEEP_CJK = 4,    /* ideographs are no words of their own */
    TEXT_BERT_KEEP_CONTROL = 8 /* control characters stay */
};

/* How tokens are matched that are written out in a text. */
enum {
    TEXT_TOKEN_STRIP_LEFT = 1,  /* they swallow the white space before them */
    TEXT_TOKEN_STRIP_RIGHT = 2, /* and behind them */
    TEXT_TOKEN_ALONE = 4        /* not inside of a word */
};

/* Everything is borrowed and must outlive the tokenizer, as a mapped file does. */
struct text_vocab {
    int32_t kind;         /* TEXT_SPM ... TEXT_UNIGRAM */
    struct base_view pre; /* name of the pre-tokenizer, e.g. "llama-bpe"; may be empty */
    const struct base_view *tokens;
    const float *scores;  /* n_tokens, or NULL (BPE, WORDPIECE) */
    const int32_t *types; /* n_tokens, or NULL: all normal */
    const uint8_t *flags; /* n_tokens TEXT_TOKEN_STRIP_LEFT ..., or NULL: none */
    size_t n_tokens;
    const struct base_view *merges; /* "left right" in rank order (BPE; SPM, if `ranked`) */
    size_t n_merges;
    const struct base_view *normalizer; /* words of text/normalize.h */
    size_t n_normalizer;
    struct base_view charsmap;        /* of its step "charsmap" */
    const struct base_view *patterns; /* in place of `pre`, if not NULL (BPE) */
    const int32_t *pattern_uses;      /* TEXT_PRE_SPLIT ..., or NULL */
    size_t n_patterns;
    int32_t ignore_merges; /* words that are tokens are not merged: 1 yes, -1 no, 0 as `pre` says */
    int32_t float_scores;  /* scores are summed as floats, as SentencePiece does (UNIGRAM) */
    int32_t plain_spaces;  /* spaces are not written as U+2581 (UNIGRAM) */
    int32_t ranked;        /* merges count, not scores (SPM) */
    int32_t keeps_unknowns;              /* unknown characters in a row are as many tokens (SPM) */
    int32_t splits_lines;                /* line ends part words (SPM) */
    uint32_t bert_keep;                  /* TEXT_BERT_KEEP_* (WORDPIECE) */
    uint32_t max_word_chars;             /* longer words are unknown, 0: none are (WORDPIECE) */
    infer_token bos, eos, eot, unk, pad; /* -1 where absent */
    int32_t add_bos, add_eos;
    int32_t add_space_prefix; /* TEXT_PREFIX_* */
};

struct text_tokenizer;

typedef BASE_ARRAY(infer_token) text_tokens;

enum {
    TEXT_ENCODE_SPECIAL = 1, /* control tokens written in the text become their ids */
    TEXT_ENCODE_ADD = 2,     /* BOS and EOS as the vocabulary says */
    TEXT_ENCODE_GUARDED = 4  /* the text has parts that went through text_tokenizer_guard() */
};

/* FORMAT and LIMIT errors name the token or merge; UNSUPPORTED names the
 * pre-tokenizer. Invalid vocabularies (bytes with neither a token nor a substitute,
 * ids out of range, merges of unknown tokens, normal tokens that are no UTF-8) are
 * errors, never crashes. Of two normal tokens with one text, the first is used. */
infer_status text_tokenizer_create(struct text_tokenizer **out, const struct base_alloc *a,
                                   const struct text_vocab *vocab);
void text_tokenizer_destroy(struct text_tokenizer **tokenizer);
size_t text_tokenizer_memory_bytes(const struct text_tokenizer *tokenizer);

/* Appends the ids of `text` to `out` (memory from `a`); on failure `out` is as it
 * was. Any bytes are legal: invalid UTF-8 is encoded byte by byte where the
 * vocabulary can, else as U+FFFD, else as the unknown token. User-defined tokens
 * are found leftmost first, longest first. Where the vocabulary asks for a space
 * prefix, it stands at the start and after each special token, as in llama.cpp.
 * Time is O(n log n) in the text, also for hostile text. */
infer_status text_tokenizer_encode(const struct text_tokenizer *tokenizer,
                                   const struct base_alloc *a, const char *text, size_t size,
                                   uint32_t flags, text_tokens *out);

/* Text of strangers for a place inside trusted text: appends it so that control
 * tokens written out in it stay plain text when the whole is encoded with
 * TEXT_ENCODE_SPECIAL | TEXT_ENCODE_GUARDED. Between these two calls such tokens carry a
 * mark, the noncharacter U+FDD0; one that was there before becomes U+FFFD. */
infer_status text_tokenizer_guard(const struct text_tokenizer *tokenizer, const char *text,
                                  size_t size, struct base_str *out);

const struct text_vocab *text_tokenizer_vocab(const struct text_tokenizer *tokenizer);

/* Whether generation ends with this token: EOS, EOT, and control or user-defined
 * tokens with a well-known text such as <|im_end|>. */
int text_tokenizer_is_end(const struct text_tokenizer *tokenizer, infer_token token);

/* The bytes a token stands for, written into `buffer`; returns their number, which may
 * exceed `size` (then nothing is written). Control tokens give their name only
 * with `special`, else nothing. A leading SentencePiece space is kept: the
 * stream decoder removes it at the start of a text. */
size_t text_tokenizer_piece(const struct text_tokenizer *tokenizer, infer_token token, int special,
                            char *buffer, size_t size);

/* The same bytes without a copy, borrowed from the tokenizer; empty for an id out of range. */
struct base_view text_tokenizer_piece_view(const struct text_tokenizer *tokenizer,
                                           infer_token token, int special);

#endif
