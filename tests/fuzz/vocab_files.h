/* For fuzz targets of tokenizer files: keys of any content become a tokenizer or an error, texts
 * are encoded and decoded, and nothing stays allocated. */
#ifndef TESTS_FUZZ_VOCAB_FILES_H
#define TESTS_FUZZ_VOCAB_FILES_H

#include "fuzz.h"
#include "support/test_alloc.h"

#include "model/hf_tokenizer.h"
#include "model/vocab.h"

#include <string.h>

static inline void vocab_files_encode(const struct model_vocab *vocab, const struct base_alloc *a)
{
    static const char *const texts[] = {
        "Hello world, it's 12345 ab abab\n\n  x",
        "  \xC3\xA9 e\xCC\x81 \xE4\xB8\x80\xE3\x82\xA2\xEF\xBD\xB1 <s>[CLS]</s> "
        "\xEF\xBC\xA1\xC2\xBD",
        "\xFF\xC3(\xE2\x96\x81\xE2\x96\x81"
        "a\xCC",
    };
    const struct text_tokenizer *t = model_vocab_tokenizer(vocab);
    for (size_t i = 0; i < BASE_COUNT(texts); i++) {
        text_tokens ids = {0};
        infer_status st = text_tokenizer_encode(t, a, texts[i], strlen(texts[i]),
                                                TEXT_ENCODE_SPECIAL | TEXT_ENCODE_ADD, &ids);
        /* A pattern of the file may give up; else every id is one of the vocabulary. */
        fuzz_check(st == INFER_OK || st == INFER_ERR_LIMIT);
        for (size_t k = 0; k < ids.size; k++) {
            fuzz_check(ids.data[k] >= 0 && (size_t)ids.data[k] < text_tokenizer_vocab(t)->n_tokens);
            (void)text_tokenizer_piece_view(t, ids.data[k], 1);
        }
        base_array_release(a, &ids);
    }
}

static inline void vocab_files_check(const struct hf_tokenizer_files *files)
{
    struct test_alloc a;
    struct gguf_draft *d = NULL;
    struct gguf_file *file = NULL;
    struct model_vocab *vocab = NULL;
    test_alloc_init(&a);
    a.limit_bytes = (size_t)256 << 20;
    fuzz_check(gguf_draft_create(&d, &a.alloc, "fuzz") == INFER_OK);
    if (hf_tokenizer_write(d, &a.alloc, files) == INFER_OK) {
        fuzz_check(gguf_draft_finish(&d, &file) == INFER_OK);
        if (model_vocab_load(&vocab, &a.alloc, file) == INFER_OK)
            vocab_files_encode(vocab, &a.alloc);
    }
    model_vocab_destroy(&vocab);
    gguf_close(&file);
    gguf_draft_destroy(&d);
    fuzz_check(a.live_blocks == 0);
}

#endif
