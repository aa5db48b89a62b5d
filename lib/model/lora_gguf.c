/* Adapters in GGUF, as llama.cpp's convert_lora_to_gguf writes them: "<matrix>.lora_a" and
 * "<matrix>.lora_b", rows in the order of a GGUF model. */
#include "model/lora_file.h"

#include "base/error.h"

#include <stdio.h>

#define SHOW(view) (int)(view).size, (view).data

static infer_status want_string(const struct gguf_file *file, const char *key, const char *wanted)
{
    struct base_view text = {"", 0};
    infer_status st = gguf_get_string(file, key, &text);
    if (st == INFER_ERR_NOT_FOUND)
        return base_error(INFER_ERR_FORMAT, "metadata key %s is missing: the file is no adapter",
                          key);
    if (st == INFER_OK && !base_view_equal(text, wanted))
        st = base_error(strcmp(key, "adapter.type") == 0 ? INFER_ERR_UNSUPPORTED : INFER_ERR_FORMAT,
                        "%s is \"%.*s\", expected \"%s\"", key,
                        (int)BASE_MIN(text.size, (size_t)64), text.data, wanted);
    return st;
}

static infer_status read_keys(const struct model_lora_loader *l, const struct gguf_file *file,
                              float *alpha)
{
    infer_status st = want_string(file, "general.type", "adapter");
    if (st == INFER_OK)
        st = want_string(file, "adapter.type", "lora");
    if (st == INFER_OK)
        st = want_string(file, "general.architecture", l->adapter->model->arch->name);
    if (st == INFER_OK && gguf_find(file, "adapter.alora.invocation_tokens"))
        st = base_error(INFER_ERR_UNSUPPORTED, "adapter.alora.invocation_tokens is not supported");
    if (st == INFER_OK)
        st = gguf_get_f32(file, "adapter.lora.alpha", alpha);
    if (st == INFER_ERR_NOT_FOUND)
        st = base_error(INFER_ERR_FORMAT, "metadata key adapter.lora.alpha is missing");
    return st;
}

static struct model_hf_value value_of(const struct gguf_tensor *t)
{
    struct model_hf_value v = {
        .name = t->name, .type = t->type, .n_dims = t->n_dims, .data = t->data};
    memcpy(v.dims, t->dims, sizeof v.dims);
    return v;
}

/* A tensor's matrix and half: 'a', 'b', or 0. */
static char half_of(struct base_view name, char target[GGUF_NAME_MAX + 1])
{
    static const char mark[] = ".lora_";
    size_t n = strlen(mark) + 1;
    if (name.size <= n || name.size > GGUF_NAME_MAX ||
        memcmp(name.data + name.size - n, mark, n - 1) != 0)
        return 0;
    snprintf(target, GGUF_NAME_MAX + 1, "%.*s", (int)(name.size - n), name.data);
    char half = name.data[name.size - 1];
    return half == 'a' || half == 'b' ? half : 0;
}

static infer_status read_tensor(struct model_lora_loader *l, const struct gguf_file *file,
                                const struct gguf_tensor *t, float alpha)
{
    char target[GGUF_NAME_MAX + 1], other[GGUF_NAME_MAX + 8];
    char half = half_of(t->name, target);
    if (!half)
        return base_error(INFER_ERR_UNSUPPORTED, "tensor %.*s is neither .lora_a nor .lora_b",
                          SHOW(t->name));
    snprintf(other, sizeof other, "%s.lora_%c", target, half == 'a' ? 'b' : 'a');
    const struct gguf_tensor *pair = gguf_find_tensor(file, other);
    if (!pair)
        return base_error(INFER_ERR_FORMAT, "tensor %.*s is there and %s is missing", SHOW(t->name),
                          other);
    if (half == 'b')
        return INFER_OK;
    struct model_lora_source source = {
        .target = target, .a = value_of(t), .b = value_of(pair), .scale = 1};
    /* An alpha of 0 stands for no scale of its own, as in llama.cpp. */
    if (alpha != 0)
        source.scale = (double)alpha / (double)pair->dims[0];
    return model_lora_add(l, &source);
}

infer_status model_lora_read_gguf(struct model_lora_loader *l, const char *path)
{
    struct gguf_file *file = NULL;
    struct base_view name;
    float alpha = 0;
    infer_status st = gguf_open(&file, &l->adapter->alloc, path, 0);
    if (st != INFER_OK)
        return st;
    st = read_keys(l, file, &alpha);
    for (size_t i = 0; i < gguf_n_tensors(file) && st == INFER_OK; i++)
        st = read_tensor(l, file, gguf_tensor_at(file, i), alpha);
    if (st == INFER_OK && gguf_get_string(file, "general.name", &name) == INFER_OK) {
        l->adapter->name = base_arena_strdup(&l->adapter->arena, name.data, name.size);
        st = l->adapter->name ? INFER_OK : INFER_ERR_NO_MEMORY;
    }
    gguf_close(&file);
    return st == INFER_OK || st == INFER_ERR_NO_MEMORY ? st : base_error_prefix(st, "%s", path);
}
