/* Adapters as PEFT saves them: a folder with adapter_config.json and adapter_model.safetensors.
 * Names, and the order of B's rows, are translated as those of the model's own folder are. */
#include "model/lora_file.h"

#include "base/error.h"
#include "model/hf_parts.h"
#include "model/hf_quant.h"

#include <stdio.h>
#include <sys/stat.h>

#define CONFIG         "adapter_config.json"
#define TENSORS        "adapter_model.safetensors"
#define CONFIG_MAX     ((size_t)16 << 20)
#define NAME_MAX_BYTES 512
#define SHOW(view)     (int)BASE_MIN((view).size, (size_t)160), (view).data

struct reader {
    struct model_lora_loader *loader;
    struct model_lora_settings settings;
    struct safetensors_file *file;
    struct model_hf hf;
};

/* ------------------------------------------------------------------ names */

/* Cuts `end` off; 0 where the name does not end so. */
static int cut(struct base_view *name, const char *end)
{
    size_t n = strlen(end);
    if (name->size <= n || memcmp(name->data + name->size - n, end, n) != 0)
        return 0;
    name->size -= n;
    return 1;
}

/* The module of a tensor of a pair, and which half it is: 'A', 'B', or 0 for anything else. */
static char half_of(struct base_view name, struct base_view *module)
{
    static const struct {
        const char *end;
        char half;
    } ends[] = {{".lora_A.weight", 'A'},
                {".lora_B.weight", 'B'},
                {".lora_A.default.weight", 'A'},
                {".lora_B.default.weight", 'B'}};
    static const char prefix[] = "base_model.model.";
    for (size_t i = 0; i < BASE_COUNT(ends); i++) {
        *module = name;
        if (!cut(module, ends[i].end))
            continue;
        if (module->size > strlen(prefix) && memcmp(module->data, prefix, strlen(prefix)) == 0) {
            module->data += strlen(prefix);
            module->size -= strlen(prefix);
        }
        return ends[i].half;
    }
    return 0;
}

/* The same name with the other letter, which stands behind ".lora_". */
static const struct safetensors_tensor *other_half(const struct reader *r, struct base_view name,
                                                   struct base_view module, char half)
{
    char other[NAME_MAX_BYTES];
    size_t at = (size_t)(module.data + module.size - name.data) + strlen(".lora_");
    if (name.size >= sizeof other)
        return NULL;
    memcpy(other, name.data, name.size);
    other[at] = half == 'A' ? 'B' : 'A';
    return safetensors_find(r->file, (struct base_view){other, name.size});
}

/* ------------------------------------------------------------------ pairs */

/* Why no row of the tables can take the module. */
static infer_status refuse_place(const struct model_hf_place *p, int found, struct base_view name)
{
    if (!found)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor \"%.*s\" is for no matrix that the model is known to have",
                          SHOW(name));
    if (p->expert >= 0)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor \"%.*s\": adapters of single experts are not supported",
                          SHOW(name));
    return base_error(INFER_ERR_UNSUPPORTED,
                      "tensor \"%.*s\": adapters of this matrix are not supported", SHOW(name));
}

/* B's rows are the matrix's: they change places as those do. A model that keeps its matrix turned
 * (GPT-2) has A and B as others have. */
static infer_status arrange(struct reader *r, const struct model_hf_place *p,
                            struct model_hf_value *b)
{
    const struct infer_model *model = r->loader->adapter->model;
    const uint32_t rows = MODEL_HF_PERMUTE_Q | MODEL_HF_PERMUTE_K;
    if (p->layer >= model->hp.n_layers)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" is of layer %d, the model has %d",
                          SHOW(b->name), p->layer, model->hp.n_layers);
    if (p->layer >= 0) {
        r->hf.n_heads = model->weights.layers[p->layer].n_heads;
        r->hf.n_heads_kv = model->weights.layers[p->layer].n_heads_kv;
        r->hf.head_dim = model->weights.layers[p->layer].head_dim;
    }
    if (p->row->make)
        return model_hf_part_qkv(&r->hf, b, b);
    return model_hf_change(&r->hf, b, p->row->flags & rows);
}

static infer_status add_pair(struct reader *r, const struct safetensors_tensor *a,
                             const struct safetensors_tensor *b, struct base_view module)
{
    struct model_hf_place place;
    struct model_lora_source source;
    char target[MODEL_HF_PLACE_MAX];
    int64_t rank = 0;
    int found = model_hf_place(r->hf.arch, module, &place);
    int qkv = found && place.row->make == model_hf_make_qkv;
    if (!found || place.expert >= 0 || (!qkv && (place.row->make || !place.to[0])) ||
        place.row->flags & (MODEL_HF_PLUS_ONE | MODEL_HF_NEG_EXP | MODEL_HF_SQUEEZE))
        return refuse_place(&place, found, a->name);
    snprintf(target, sizeof target, "blk.%d.attn_qkv.weight", place.layer);
    source.target = qkv ? target : place.to;
    infer_status st = model_hf_plain(&r->hf, a, &source.a);
    if (st == INFER_OK)
        st = model_hf_plain(&r->hf, b, &source.b);
    if (st == INFER_OK)
        st = model_lora_settings_of(&r->settings, module, &rank, &source.scale);
    if (st != INFER_OK)
        return st;
    if (a->n_dims != 2 || b->n_dims != 2 || source.a.dims[1] != (uint64_t)rank ||
        source.b.dims[0] != (uint64_t)rank)
        return base_error(INFER_ERR_FORMAT,
                          "tensor \"%.*s\" has %d dimensions and the rank %llu, its other half "
                          "%llu; " CONFIG " says %lld",
                          SHOW(a->name), a->n_dims, (unsigned long long)source.a.dims[1],
                          (unsigned long long)source.b.dims[0], (long long)rank);
    st = arrange(r, &place, &source.b);
    return st == INFER_OK ? model_lora_add(r->loader, &source) : st;
}

static infer_status read_tensor(struct reader *r, const struct safetensors_tensor *t)
{
    struct base_view module;
    char half = half_of(t->name, &module);
    if (!half)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "tensor \"%.*s\" is neither lora_A nor lora_B of a matrix",
                          SHOW(t->name));
    const struct safetensors_tensor *other = other_half(r, t->name, module, half);
    if (!other)
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" has no other half", SHOW(t->name));
    return half == 'A' ? add_pair(r, t, other, module) : INFER_OK;
}

/* ------------------------------------------------------------------ files */

static infer_status read_config(struct reader *r, const char *folder)
{
    const struct base_alloc *a = &r->loader->adapter->alloc;
    struct base_file file = {0};
    struct base_str path;
    base_str_init(&path, a, 0);
    infer_status st = base_str_appendf(&path, "%s/" CONFIG, folder);
    if (st == INFER_OK)
        st = base_file_map(&file, path.data);
    base_str_release(&path);
    if (st != INFER_OK)
        return st;
    if (file.size > CONFIG_MAX)
        st = base_error(INFER_ERR_LIMIT, "%zu bytes of JSON, at most %zu", file.size, CONFIG_MAX);
    else
        st = model_lora_settings_read(&r->settings, a, file.size ? (const char *)file.data : "",
                                      file.size);
    base_file_unmap(&file);
    return st == INFER_OK || st == INFER_ERR_NO_MEMORY
               ? st
               : base_error_prefix(st, "%s/" CONFIG, folder);
}

static infer_status open_tensors(struct reader *r, const char *folder)
{
    const struct base_alloc *a = &r->loader->adapter->alloc;
    struct base_str path;
    struct stat bin;
    base_str_init(&path, a, 0);
    infer_status st = base_str_appendf(&path, "%s/" TENSORS, folder);
    if (st == INFER_OK)
        st = safetensors_open(&r->file, a, path.data);
    if (st == INFER_ERR_NOT_FOUND) {
        base_str_clear(&path);
        if (base_str_appendf(&path, "%s/adapter_model.bin", folder) == INFER_OK &&
            stat(path.data, &bin) == 0)
            st = base_error(INFER_ERR_UNSUPPORTED,
                            "%s may hold code and is not read; save the adapter as safetensors",
                            path.data);
        else
            st = base_error(INFER_ERR_NOT_FOUND, "%s/" TENSORS " does not exist", folder);
    }
    base_str_release(&path);
    return st;
}

static infer_status read_tensors(struct reader *r, const char *folder)
{
    infer_status st = open_tensors(r, folder);
    size_t n = st == INFER_OK ? safetensors_n_tensors(r->file) : 0;
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        st = read_tensor(r, safetensors_at(r->file, i));
        if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
            base_error_prefix(st, "%s/" TENSORS, folder);
    }
    return st;
}

infer_status model_lora_read_peft(struct model_lora_loader *l, const char *path)
{
    const struct infer_model *model = l->adapter->model;
    struct reader r = {.loader = l};
    if (!model->arch->hf)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "%s: folders of adapters for %s are not supported, only GGUF files", path,
                          model->arch->name);
    r.hf = (struct model_hf){.alloc = l->adapter->alloc,
                             .arch = model->arch->hf,
                             .name = model->arch->name,
                             .n_layers = model->hp.n_layers};
    infer_status st = gguf_draft_create(&r.hf.draft, &r.hf.alloc, path);
    if (st == INFER_OK)
        st = read_config(&r, path);
    if (st == INFER_OK)
        st = read_tensors(&r, path);
    model_lora_settings_release(&r.settings);
    safetensors_close(&r.file);
    gguf_draft_destroy(&r.hf.draft);
    return st;
}
