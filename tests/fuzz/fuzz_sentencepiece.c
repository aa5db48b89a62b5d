/* Fuzz target of binary and text vocabularies. The first byte says which: 1 llama2.c, 2 tiktoken,
 * 3 vocab.txt, any other a SentencePiece model. */
#include "vocab_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct base_view rest = {(const char *)data + 1, size - 1};
    struct hf_tokenizer_files files = {0};
    switch (data[0]) {
    case 1:
        files.llama2c = rest;
        break;
    case 2:
        files.tiktoken = rest;
        files.tiktoken_name = "gpt2";
        break;
    case 3:
        files.vocab_txt = rest;
        break;
    default:
        files.sentencepiece = rest;
    }
    vocab_files_check(&files);
    return 0;
}
