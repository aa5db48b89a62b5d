/* Writes the starting inputs of fuzz_gguf:  make_corpus_gguf tests/fuzz/corpus/gguf */
#include "support/gguf_builder.h"

#include <stdio.h>

static const uint64_t dims[] = {32, 2, 1, 1};
static const char *folder;

static void save(struct gguf_builder *b, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    gguf_builder_write(b, path);
    gguf_builder_free(b);
}

static void scalars(void)
{
    struct gguf_builder *b = gguf_builder_new();
    gguf_builder_string(b, "general.architecture", "llama");
    for (int32_t type = GGUF_U8; type <= GGUF_F64; type++) {
        char key[8];
        snprintf(key, sizeof key, "k%d", (int)type);
        if (type == GGUF_F32 || type == GGUF_F64)
            gguf_builder_float(b, key, type, 0.5);
        else if (type != GGUF_STRING && type != GGUF_ARRAY)
            gguf_builder_int(b, key, type, 1);
    }
    save(b, "scalars.gguf");
}

static void vocabulary(void)
{
    static const char *const words[] = {"<unk>", "<s>", "</s>", "a", ""};
    static const float scores[] = {0, 0, 0, -1, -2};
    static const int32_t types[] = {2, 3, 3, 1, 1};
    static const uint8_t flags[] = {1, 0, 1};
    struct gguf_builder *b = gguf_builder_new();
    gguf_builder_strings(b, "tokenizer.ggml.tokens", words, 5);
    gguf_builder_array(b, "tokenizer.ggml.scores", GGUF_F32, scores, 5);
    gguf_builder_array(b, "tokenizer.ggml.token_type", GGUF_I32, types, 5);
    gguf_builder_array(b, "flags", GGUF_BOOL, flags, 3);
    save(b, "vocabulary.gguf");
}

static void tensors(void)
{
    static const uint64_t super[] = {256};
    struct gguf_builder *b = gguf_builder_new();
    gguf_builder_version(b, 2);
    gguf_builder_tensor(b, "q8", INFER_DTYPE_Q8_0, 2, dims, NULL, 68);
    gguf_builder_tensor(b, "q4", INFER_DTYPE_Q4_0, 4, dims, NULL, 36);
    gguf_builder_tensor(b, "q4k", INFER_DTYPE_Q4_K, 1, super, NULL, 144);
    gguf_builder_tensor(b, "i8", INFER_DTYPE_I8, 3, dims, NULL, 64);
    save(b, "tensors.gguf");
}

static void aligned(void)
{
    struct gguf_builder *b = gguf_builder_new();
    gguf_builder_alignment(b, 8);
    gguf_builder_tensor(b, "a", INFER_DTYPE_F16, 1, dims, NULL, 64);
    gguf_builder_tensor(b, "b", INFER_DTYPE_I16, 1, dims, NULL, 64);
    save(b, "aligned.gguf");
}

static void split_part(void)
{
    struct gguf_builder *b = gguf_builder_new();
    gguf_builder_int(b, "split.no", GGUF_U16, 1);
    gguf_builder_int(b, "split.count", GGUF_U16, 2);
    gguf_builder_int(b, "split.tensors.count", GGUF_I32, 3);
    gguf_builder_tensor(b, "a", INFER_DTYPE_I8, 1, dims, NULL, 32);
    save(b, "split_part.gguf");
}

static void unsupported(void)
{
    struct gguf_builder *b = gguf_builder_new();
    gguf_builder_array(b, "nothing", GGUF_U64, NULL, 0);
    gguf_builder_tensor(b, "iq", 22, 1, dims, NULL, 32);
    save(b, "unsupported.gguf");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 1;
    }
    folder = argv[1];
    scalars();
    vocabulary();
    tensors();
    aligned();
    split_part();
    unsupported();
    return 0;
}
