/* Tokenizers in the forms of other libraries as tokenizer.* keys of GGUF: tokenizer.json,
 * SentencePiece and tiktoken files, vocab.json with merges.txt, vocab.txt, llama2.c's
 * tokenizer.bin. What llama.cpp has keys for stands in those, the rest in keys
 * "tokenizer.infer.*" (doc/tokenizers.md). What no key can say is UNSUPPORTED and names the part
 * of the file. */
#ifndef MODEL_HF_TOKENIZER_H
#define MODEL_HF_TOKENIZER_H

#include "format/hf_dir.h"

/* Everything that can say something about a tokenizer; NULL and empty where absent. */
struct hf_tokenizer_files {
    const struct base_json *tokenizer;  /* tokenizer.json; decides, if it is there */
    const struct base_json *config;     /* tokenizer_config.json */
    const struct base_json *special;    /* special_tokens_map.json */
    const struct base_json *added;      /* added_tokens.json */
    const struct base_json *vocab_json; /* vocab.json, with `merges` */
    const struct base_json *model;      /* config.json */
    const struct base_json *generation; /* generation_config.json */
    struct base_view merges, vocab_txt, sentencepiece, tiktoken, llama2c;
    const char *tiktoken_name; /* "cl100k_base" ...; NULL: by the number of its tokens */
    struct base_view chat_template;
};

/* Adds the keys to the draft, which copies all it is given. Errors name file and part: FORMAT,
 * UNSUPPORTED, LIMIT, NOT_FOUND (no tokenizer), NO_MEMORY. */
infer_status hf_tokenizer_write(struct gguf_draft *d, const struct base_alloc *a,
                                const struct hf_tokenizer_files *files);

/* The folder's way in is model_hf_tokenizer() of hf.h.
 *
 * One file of any of these forms, told apart by its content and name. */
infer_status model_tokenizer_file(struct gguf_draft *d, const struct base_alloc *a,
                                  const char *path);

#endif
