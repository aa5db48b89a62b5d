/* Model folders: their JSON and text files. hf_shards.c has the tensors. */
#include "format/hf_dir.h"

#include "base/error.h"
#include "base/str.h"
#include "format/hf_cache.h"
#include "format/hf_dir_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#define JSON_MAX ((size_t)256 << 20)

/* Files of the tokenizer can be left out. */
static const struct {
    const char *name;
    int tokenizer;
} jsons[HF_JSONS] = {
    [HF_CONFIG] = {"config.json", 0},
    [HF_GENERATION] = {"generation_config.json", 0},
    [HF_TOKENIZER] = {"tokenizer.json", 1},
    [HF_TOKENIZER_CONFIG] = {"tokenizer_config.json", 1},
    [HF_SPECIAL_TOKENS] = {"special_tokens_map.json", 1},
    [HF_ADDED_TOKENS] = {"added_tokens.json", 1},
    [HF_VOCAB_JSON] = {"vocab.json", 1},
    [HF_TEMPLATE_JSON] = {"chat_template.json", 1},
    [HF_QUANT] = {"hf_quant_config.json", 0},
    [HF_MODULES] = {"modules.json", 0},
    [HF_POOLING] = {"1_Pooling/config.json", 0},
    [HF_SENTENCE_TRANSFORMERS] = {"config_sentence_transformers.json", 0},
    [HF_SENTENCE_BERT] = {"sentence_bert_config.json", 0},
};

/* The first name that is there counts. */
static const struct {
    enum hf_file file;
    const char *name;
} files[] = {
    {HF_MERGES, "merges.txt"},
    {HF_VOCAB_TXT, "vocab.txt"},
    {HF_SENTENCEPIECE, "tokenizer.model"},
    {HF_SENTENCEPIECE, "spiece.model"},
    {HF_SENTENCEPIECE, "sentencepiece.bpe.model"},
    {HF_SENTENCEPIECE, "sentencepiece.model"},
    {HF_TIKTOKEN, "tiktoken.model"},
    {HF_TEMPLATE, "chat_template.jinja"},
};

infer_status hf_dir_map(struct hf_dir *dir, struct base_file *out, const char *name)
{
    struct base_str path;
    base_str_init(&path, &dir->alloc, 0);
    infer_status st = base_str_appendf(&path, "%s/%s", dir->path, name);
    if (st == INFER_OK)
        st = base_file_map(out, path.data);
    if (st == INFER_OK && (dir->flags & HF_DIR_VERIFY)) {
        st = hf_cache_verify(path.data, out);
        if (st != INFER_OK)
            base_file_unmap(out);
    }
    base_str_release(&path);
    return st;
}

static infer_status absent_is_fine(infer_status st)
{
    return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
}

/* Python writes infinities into config.json, which is no JSON: the largest numbers stand in. */
static void replace_infinities(char *text, size_t size)
{
    static const char word[] = "Infinity", number[] = "1.7e+308";
    int in_string = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"')
            in_string = !in_string;
        else if (text[i] == '\\')
            i++;
        else if (!in_string && size - i >= 8 && memcmp(text + i, word, 8) == 0)
            memcpy(text + i, number, 8);
    }
}

static infer_status parse_json(struct hf_dir *dir, const struct base_json **out,
                               const struct base_file *file, int python, int list)
{
    if (file->size > JSON_MAX)
        return base_error(INFER_ERR_LIMIT, "%zu bytes of JSON, at most %zu", file->size, JSON_MAX);
    const char *text = (const char *)file->data;
    char *copy = NULL;
    if (python) {
        copy = base_strdup(&dir->alloc, text, file->size);
        if (!copy)
            return INFER_ERR_NO_MEMORY;
        replace_infinities(copy, file->size);
        text = copy;
    }
    infer_status st = base_json_parse(out, &dir->arena, text, file->size);
    base_free(&dir->alloc, copy);
    if (st == INFER_OK && !base_json_is(*out, list ? BASE_JSON_ARRAY : BASE_JSON_OBJECT))
        st = base_error(INFER_ERR_FORMAT, "no JSON %s", list ? "list" : "object");
    return st;
}

infer_status hf_dir_read_json(struct hf_dir *dir, const struct base_json **out, const char *name)
{
    struct base_file file = {0};
    *out = NULL;
    infer_status st = hf_dir_map(dir, &file, name);
    if (st != INFER_OK)
        return st;
    st = parse_json(dir, out, &file, strcmp(name, "config.json") == 0,
                    strcmp(name, "modules.json") == 0);
    base_file_unmap(&file);
    if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
        base_error_prefix(st, "%s/%s", dir->path, name);
    return st;
}

/* NAME.tiktoken, whatever its name: of several, the first in the alphabet. */
static infer_status find_tiktoken(struct hf_dir *dir)
{
    char best[256] = "";
    DIR *d = opendir(dir->path);
    if (!d)
        return INFER_OK; /* config.json was read from it: someone just removed it */
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        if (n > 9 && n < sizeof best && strcmp(e->d_name + n - 9, ".tiktoken") == 0 &&
            (!best[0] || strcmp(e->d_name, best) < 0))
            memcpy(best, e->d_name, n + 1);
    }
    closedir(d);
    return best[0] ? hf_dir_map(dir, &dir->files[HF_TIKTOKEN], best) : INFER_OK;
}

static infer_status open_texts(struct hf_dir *dir)
{
    infer_status st = INFER_OK;
    for (size_t i = 0; i < HF_JSONS && st == INFER_OK; i++) {
        if (jsons[i].tokenizer && (dir->flags & HF_DIR_NO_TOKENIZER))
            continue;
        st = hf_dir_read_json(dir, &dir->json[i], jsons[i].name);
        if (i != HF_CONFIG)
            st = absent_is_fine(st);
    }
    if (dir->flags & HF_DIR_NO_TOKENIZER)
        return st;
    for (size_t i = 0; i < BASE_COUNT(files) && st == INFER_OK; i++)
        if (!dir->files[files[i].file].data)
            st = absent_is_fine(hf_dir_map(dir, &dir->files[files[i].file], files[i].name));
    if (st == INFER_OK && !dir->files[HF_TIKTOKEN].data)
        st = absent_is_fine(find_tiktoken(dir));
    return st;
}

static struct hf_dir *new_dir(const struct base_alloc *a, const char *path, uint32_t flags)
{
    struct hf_dir *dir = base_new(a, 1, sizeof *dir);
    if (!dir)
        return NULL;
    dir->alloc = *a;
    dir->flags = flags;
    base_arena_init(&dir->arena, a);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    dir->path = base_strdup(a, path, n);
    if (!dir->path)
        hf_dir_close(&dir);
    return dir;
}

infer_status hf_dir_open(struct hf_dir **out, const struct base_alloc *a, const char *path,
                         uint32_t flags)
{
    struct hf_dir *dir = *out = new_dir(a, path, flags);
    if (!dir)
        return INFER_ERR_NO_MEMORY;
    infer_status st = open_texts(dir);
    if (st == INFER_OK && !(flags & HF_DIR_NO_TENSORS))
        st = hf_shards_open(dir);
    if (st != INFER_OK)
        hf_dir_close(out);
    return st;
}

infer_status hf_dir_open_memory(struct hf_dir **out, const struct base_alloc *a,
                                const struct base_json *const json[HF_JSONS],
                                struct base_view tensors)
{
    struct hf_dir *dir = *out = new_dir(a, "memory", 0);
    if (!dir)
        return INFER_ERR_NO_MEMORY;
    memcpy(dir->json, json, sizeof dir->json);
    infer_status st = hf_shards_open_memory(dir, tensors);
    if (st != INFER_OK)
        hf_dir_close(out);
    return st;
}

void hf_dir_close(struct hf_dir **dir_ptr)
{
    struct hf_dir *dir = *dir_ptr;
    *dir_ptr = NULL;
    if (!dir)
        return;
    struct base_alloc alloc = dir->alloc;
    hf_shards_close(dir);
    for (size_t i = 0; i < HF_FILES; i++)
        base_file_unmap(&dir->files[i]);
    base_arena_release(&dir->arena);
    base_free(&alloc, dir->path);
    base_free(&alloc, dir);
}

int hf_dir_is(const char *path)
{
    struct stat st;
    char name[4096];
    int n = snprintf(name, sizeof name, "%s/config.json", path);
    return n > 0 && (size_t)n < sizeof name && stat(name, &st) == 0 && S_ISREG(st.st_mode);
}

const char *hf_dir_path(const struct hf_dir *dir)
{
    return dir->path;
}

const struct base_json *hf_dir_json(const struct hf_dir *dir, enum hf_json which)
{
    return dir->json[which];
}

const struct base_file *hf_dir_file(const struct hf_dir *dir, enum hf_file which)
{
    return dir->files[which].data ? &dir->files[which] : NULL;
}

/* A template, or a list of {name, template}. */
static int template_in(const struct base_json *v, const char *name, struct base_view *out)
{
    if (base_json_string(v, out))
        return strcmp(name, "default") == 0;
    for (size_t i = 0; base_json_at(v, i); i++) {
        struct base_view have;
        const struct base_json *entry = base_json_at(v, i);
        if (base_json_string(base_json_get(entry, "name"), &have) && base_view_equal(have, name))
            return base_json_string(base_json_get(entry, "template"), out);
    }
    return 0;
}

int hf_dir_template(const struct hf_dir *dir, const char *name, struct base_view *out)
{
    const struct base_file *file = hf_dir_file(dir, HF_TEMPLATE);
    if (file && strcmp(name, "default") == 0) {
        *out = (struct base_view){(const char *)file->data, file->size};
        return 1;
    }
    return template_in(base_json_get(dir->json[HF_TEMPLATE_JSON], "chat_template"), name, out) ||
           template_in(base_json_get(dir->json[HF_TOKENIZER_CONFIG], "chat_template"), name, out);
}
