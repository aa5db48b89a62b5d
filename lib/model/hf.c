/* Opening a Hugging Face folder as a GGUF directory: which architecture, then part by part. */
#include "model/hf.h"

#include "base/error.h"
#include "model/arch.h"
#include "model/hf_encoder.h"
#include "model/hf_quant.h"

#include <stdio.h>

#define SHOW(view) (int)BASE_MIN((view).size, (size_t)64), (view).data

static const struct model_arch *arch_of_class(struct base_view name)
{
    const struct model_arch *arch;
    for (size_t i = 0; (arch = model_arch_at(i)) != NULL; i++)
        for (const char *const *c = arch->hf ? arch->hf->classes : NULL; c && *c; c++)
            if (base_view_equal(name, *c))
                return arch;
    return NULL;
}

/* "architectures" of the root; where it names a wrapper, of the language model inside. */
static infer_status find_arch(struct model_hf *hf)
{
    const struct base_json *const places[] = {hf->config, hf->text};
    struct base_view name = {"", 0};
    const struct model_arch *arch = NULL;
    for (size_t p = 0; p < BASE_COUNT(places) && !arch; p++) {
        const struct base_json *list = base_json_get(places[p], "architectures");
        for (size_t i = 0; base_json_at(list, i) && !arch; i++)
            if (base_json_string(base_json_at(list, i), &name))
                arch = arch_of_class(name);
    }
    if (arch) {
        hf->arch = arch->hf;
        hf->name = arch->name;
        return INFER_OK;
    }
    if (!name.size && !base_json_string(base_json_get(hf->config, "model_type"), &name))
        return base_error(INFER_ERR_FORMAT, "config.json names no architecture");
    return base_error(INFER_ERR_UNSUPPORTED,
                      "architecture \"%.*s\" is not supported (supported: %s)", SHOW(name),
                      model_arch_names());
}

/* Of several names for one number, that which config.json has. */
static const char *name_of(const struct model_hf *hf, const char *const *names)
{
    const char *first = *names;
    while (*names && !model_hf_get(hf, *names))
        names++;
    return *names ? *names : first;
}

/* The sizes that transformations and rows need. */
static infer_status read_sizes(struct model_hf *hf)
{
    static const char *const layers[] = {"num_hidden_layers", "n_layer", "num_layers", "n_layers",
                                         NULL};
    static const char *const heads[] = {"num_attention_heads", "n_head", "n_heads", NULL};
    static const char *const embd[] = {"hidden_size", "n_embd", "d_model", "dim", NULL};
    int64_t n_layers = 0, n_heads = 0, n_embd = 0;
    infer_status st = model_hf_size(hf, name_of(hf, layers), 1, 1024, &n_layers);
    if (st == INFER_OK)
        st = model_hf_size(hf, name_of(hf, embd), 1, 1 << 20, &n_embd);
    if (st == INFER_OK)
        st = model_hf_size(hf, name_of(hf, heads), 0, 4096, &n_heads);
    int64_t kv = n_heads, head_dim = n_heads ? n_embd / n_heads : 0;
    if (st == INFER_OK)
        st = model_hf_size(hf, "num_key_value_heads", 0, n_heads, &kv);
    if (st == INFER_OK)
        st = model_hf_size(hf, "head_dim", 0, 65536, &head_dim);
    hf->n_layers = (int32_t)n_layers;
    hf->n_heads = (int32_t)n_heads;
    hf->n_heads_kv = (int32_t)kv;
    hf->head_dim = (int32_t)head_dim;
    return st;
}

/* The folder's name, or the repository's where the folder is a snapshot of the cache:
 * ".../models--org--repo/snapshots/<commit>". */
static struct base_view model_name(const char *path)
{
    const char *mark = strstr(path, "models--"), *last = strrchr(path, '/');
    if (mark && strstr(mark, "/snapshots/")) {
        struct base_view v = {mark + 8, strcspn(mark + 8, "/")};
        for (size_t i = 0; i + 1 < v.size; i++)
            if (v.data[i] == '-' && v.data[i + 1] == '-')
                return (struct base_view){v.data + i + 2, v.size - i - 2};
        return v;
    }
    last = last ? last + 1 : path;
    return (struct base_view){last, strlen(last)};
}

static infer_status set_general(struct model_hf *hf)
{
    struct base_view arch = {hf->name, strlen(hf->name)}, text;
    infer_status st = gguf_draft_string(hf->draft, "general.architecture", arch);
    if (st == INFER_OK)
        st = gguf_draft_string(hf->draft, "general.name", model_name(hf_dir_path(hf->dir)));
    if (st == INFER_OK && hf_dir_template(hf->dir, "default", &text))
        st = gguf_draft_string(hf->draft, "tokenizer.chat_template", text);
    return st;
}

static infer_status translate(struct model_hf *hf, uint32_t dir_flags)
{
    infer_status st = find_arch(hf);
    if (st == INFER_OK)
        st = read_sizes(hf);
    if (st == INFER_OK)
        st = model_hf_quant_read(hf);
    if (st == INFER_OK)
        st = set_general(hf);
    if (st == INFER_OK)
        st = model_hf_keys(hf);
    if (st == INFER_OK)
        st = model_hf_rope(hf);
    if (st == INFER_OK)
        st = model_hf_sentence(hf);
    if (st == INFER_OK && !(dir_flags & HF_DIR_NO_TOKENIZER))
        st = model_hf_tokenizer(hf->draft, hf->dir);
    if (st == INFER_OK && !(dir_flags & HF_DIR_NO_TOKENIZER))
        st = model_hf_generation(hf);
    if (st == INFER_OK && !(dir_flags & HF_DIR_NO_TENSORS))
        st = model_hf_tensors(hf);
    return st;
}

infer_status model_hf_read(struct gguf_file **out, const struct base_alloc *a, struct hf_dir *dir,
                           uint32_t dir_flags)
{
    struct model_hf hf = {.alloc = *a, .dir = dir, .config = hf_dir_json(dir, HF_CONFIG)};
    *out = NULL;
    hf.quant.keep_f8 = (dir_flags & MODEL_HF_KEEP_F8) != 0;
    hf.text = base_json_get(hf.config, "text_config");
    if (!base_json_is(hf.text, BASE_JSON_OBJECT))
        hf.text = hf.config;
    infer_status st = gguf_draft_create(&hf.draft, a, hf_dir_path(dir));
    if (st != INFER_OK)
        return st;
    st = translate(&hf, dir_flags);
    if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
        base_error_prefix(st, "%s", hf_dir_path(dir));
    if (st == INFER_OK)
        st = hf_dir_give(dir, hf.draft);
    if (st == INFER_OK)
        st = gguf_draft_finish(&hf.draft, out);
    gguf_draft_destroy(&hf.draft);
    return st;
}

infer_status model_hf_open(struct gguf_file **out, const struct base_alloc *a, const char *path,
                           uint32_t dir_flags)
{
    struct hf_dir *dir;
    *out = NULL;
    infer_status st = hf_dir_open(&dir, a, path, dir_flags);
    if (st == INFER_OK)
        st = model_hf_read(out, a, dir, dir_flags);
    hf_dir_close(&dir);
    return st;
}
