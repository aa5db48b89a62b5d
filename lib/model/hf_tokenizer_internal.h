/* A tokenizer on its way from a file to keys; for the hf_tokenizer*.c files. */
#ifndef MODEL_HF_TOKENIZER_INTERNAL_H
#define MODEL_HF_TOKENIZER_INTERNAL_H

#include "base/map.h"
#include "model/hf_tokenizer.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

enum hf_kind {
    HF_BYTE_BPE,   /* merges of bytes */
    HF_CHAR_BPE,   /* merges of characters */
    HF_SCORED_BPE, /* the same by scores (SentencePiece) */
    HF_WORDPIECE,
    HF_UNIGRAM
};

#define HF_MAX_STEPS   96 /* words of text/normalize.h */
#define HF_MAX_BETWEEN 4  /* tokens between the texts of a pair */

struct hf_vocab {
    struct gguf_draft *draft;
    const struct hf_tokenizer_files *files;
    struct base_arena arena; /* of everything below */
    enum hf_kind kind;

    struct base_view *tokens; /* data NULL: a hole */
    float *scores;
    int32_t *types, *flags; /* TEXT_TOKEN_*, TEXT_TOKEN_STRIP_LEFT ... */
    size_t n_tokens;
    struct base_map ids; /* of all tokens */
    struct base_view *merges;
    size_t n_merges;

    struct base_view steps[HF_MAX_STEPS];
    size_t n_steps;
    struct base_view charsmap;
    struct base_view patterns[TEXT_PRE_MAX_PATTERNS];
    int32_t uses[TEXT_PRE_MAX_PATTERNS];
    size_t n_patterns;
    const char *pre; /* known by name already, or NULL: by its patterns */

    int32_t escapes_spaces; /* a step or pre-tokenizer writes U+2581 */
    int32_t is_byte_level;
    int32_t space_prefix; /* TEXT_PREFIX_* */
    int32_t squeezes;     /* SentencePiece's remove_extra_whitespaces */
    int32_t keeps_plain_spaces;
    int32_t float_scores; /* summed as SentencePiece does */
    int32_t ignore_merges, keeps_unknowns;
    int32_t bert_keep, max_word_chars;

    infer_token bos, eos, eot, eom, unk, pad, cls, sep, mask; /* -1: none */
    infer_token before, after;                                /* of the post-processor, -1: none */
    int32_t add_bos, add_eos;                                 /* -1: not said */
    infer_token between[HF_MAX_BETWEEN];                      /* of a pair's texts */
    int32_t n_between;                                        /* -1: not said */
    int32_t second_type;                                      /* of the second's tokens */
};

/* hf_tokenizer_model.c */
infer_status hf_vocab_reserve(struct hf_vocab *v, size_t n); /* holes */
infer_status hf_vocab_put(struct hf_vocab *v, struct base_view text, int64_t id, int32_t type);
/* Types, flags and texts of tokens that are matched as they are written. */
infer_status hf_vocab_add_tokens(struct hf_vocab *v);
infer_status hf_vocab_fill(struct hf_vocab *v); /* holes become unused tokens, `ids` is made */
infer_token hf_vocab_id(const struct hf_vocab *v, struct base_view text);
infer_status hf_vocab_read_json(struct hf_vocab *v);       /* tokenizer.json: "model" */
infer_status hf_vocab_read_vocab_json(struct hf_vocab *v); /* vocab.json and merges.txt */
infer_status hf_vocab_read_vocab_txt(struct hf_vocab *v);  /* vocab.txt */

/* hf_tokenizer_text.c: "normalizer" and "pre_tokenizer" of tokenizer.json */
infer_status hf_vocab_read_normalizer(struct hf_vocab *v, const struct base_json *j);
infer_status hf_vocab_read_pre_tokenizer(struct hf_vocab *v, const struct base_json *j);
infer_status hf_vocab_step(struct hf_vocab *v, const char *name);
/* A pattern in Oniguruma's syntax. */
infer_status hf_vocab_pattern(struct hf_vocab *v, const char *pattern, int32_t use);

/* hf_tokenizer_ids.c: "post_processor", tokenizer_config.json and its like */
infer_status hf_vocab_read_post_processor(struct hf_vocab *v, const struct base_json *j);
infer_status hf_vocab_read_ids(struct hf_vocab *v);

/* hf_sentencepiece.c, hf_tiktoken.c */
infer_status hf_vocab_read_sentencepiece(struct hf_vocab *v, struct base_view data);
infer_status hf_vocab_read_llama2c(struct hf_vocab *v, struct base_view data);
infer_status hf_vocab_read_tiktoken(struct hf_vocab *v, struct base_view data, const char *name);
int hf_tiktoken_is(struct base_view data);

/* A string of an object, 0 if it is absent or null. */
int hf_json_text(const struct base_json *j, const char *key, struct base_view *out);
int hf_json_flag(const struct base_json *j, const char *key, int missing);
int hf_json_type_is(const struct base_json *j, const char *type);
infer_status hf_unsupported(const char *part, const struct base_json *j);

#endif
