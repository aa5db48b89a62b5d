/* Where the files of a tokenizer are: a folder, or one file. */
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"
#include "model/hf.h"
#include "model/hf_tokenizer_internal.h"

static struct base_view file_view(const struct hf_dir *dir, enum hf_file which)
{
    const struct base_file *f = hf_dir_file(dir, which);
    return f ? (struct base_view){(const char *)f->data, f->size} : (struct base_view){NULL, 0};
}

infer_status model_hf_tokenizer(struct gguf_draft *d, const struct hf_dir *dir)
{
    struct hf_tokenizer_files files = {
        .tokenizer = hf_dir_json(dir, HF_TOKENIZER),
        .config = hf_dir_json(dir, HF_TOKENIZER_CONFIG),
        .special = hf_dir_json(dir, HF_SPECIAL_TOKENS),
        .added = hf_dir_json(dir, HF_ADDED_TOKENS),
        .vocab_json = hf_dir_json(dir, HF_VOCAB_JSON),
        .model = hf_dir_json(dir, HF_CONFIG),
        .generation = hf_dir_json(dir, HF_GENERATION),
        .merges = file_view(dir, HF_MERGES),
        .vocab_txt = file_view(dir, HF_VOCAB_TXT),
        .sentencepiece = file_view(dir, HF_SENTENCEPIECE),
        .tiktoken = file_view(dir, HF_TIKTOKEN),
    };
    (void)hf_dir_template(dir, "default", &files.chat_template);
    return hf_tokenizer_write(d, gguf_draft_alloc(d), &files);
}

static int ends_with(const char *path, const char *end)
{
    size_t n = strlen(path), k = strlen(end);
    return n >= k && strcmp(path + n - k, end) == 0;
}

/* "…/cl100k_base.tiktoken" without folder and ending. */
static infer_status encoding_name(struct base_arena *arena, const char *path, const char **out)
{
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    *out = base_arena_strdup(arena, name, strcspn(name, "."));
    return *out ? INFER_OK : INFER_ERR_NO_MEMORY;
}

infer_status model_tokenizer_file(struct gguf_draft *d, const struct base_alloc *a,
                                  const char *path)
{
    struct base_file file;
    infer_status st = base_file_map(&file, path);
    if (st != INFER_OK)
        return st;
    struct base_view data = {file.data ? (const char *)file.data : "", file.size};
    struct hf_tokenizer_files files = {0};
    struct base_arena arena;
    base_arena_init(&arena, a);
    if (ends_with(path, ".json"))
        st = base_json_parse(&files.tokenizer, &arena, data.data, data.size);
    else if (ends_with(path, ".txt"))
        files.vocab_txt = data;
    else if (ends_with(path, ".bin"))
        files.llama2c = data;
    else if (hf_tiktoken_is(data))
        files.tiktoken = data;
    else
        files.sentencepiece = data;
    if (st == INFER_OK && files.tiktoken.size)
        st = encoding_name(&arena, path, &files.tiktoken_name);
    if (st == INFER_OK)
        st = hf_tokenizer_write(d, a, &files);
    if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
        base_error_prefix(st, "'%s'", path);
    base_arena_release(&arena);
    base_file_unmap(&file);
    return st;
}
