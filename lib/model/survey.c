/* Looking at a model without loading it. */
#include "model/survey.h"

#include "base/error.h"
#include "base/str.h"
#include "format/hf_dir.h"
#include "format/quant_layout.h"
#include "model/source.h"

#include <stdio.h>

#define TOKEN_BYTES 170 /* of a tokenizer, per token, about */

/* Rows of the vocabulary, as far as a directory says. */
static int32_t count_tokens(const struct infer_model *m)
{
    uint64_t n = 0;
    int32_t size = 0;
    const struct gguf_kv *tokens = gguf_find(m->file, "tokenizer.ggml.tokens");
    const struct gguf_tensor *rows = gguf_find_tensor(m->file, "token_embd.weight");
    char key[128];
    snprintf(key, sizeof key, "%s.vocab_size", m->arch->name);
    if (tokens && tokens->type == GGUF_ARRAY)
        n = tokens->n;
    else if (rows)
        n = rows->dims[1];
    else if (gguf_get_i32(m->file, key, &size) == INFER_OK)
        n = size > 0 ? (uint64_t)size : 0;
    return (int32_t)BASE_MIN(n, (uint64_t)INT32_MAX);
}

/* Weights of a GGUF file: everything is there but the reading. */
static infer_status survey_file(struct model_survey *out, struct infer_model *m)
{
    struct model_layer *layers = m->weights.layers;
    infer_status st = model_weights_bind(&m->weights, &m->bound, m->arch, &m->hp, layers, m->file,
                                         &m->device->kernels);
    if (st != INFER_OK)
        return st;
    out->n_parameters = m->weights.n_parameters;
    out->weight_bytes = m->weights.bytes;
    out->weight_type = quant_layout_of(m->weights.main_type)->name;
    return INFER_OK;
}

/* Methods that pack weights: their name, and how many an element holds. */
static const char *packed_name(const struct hf_dir *dir)
{
    static const struct {
        const char *method, *name;
    } methods[] = {{"awq", "AWQ"},     {"gptq", "GPTQ"},       {"fp8", "FP8"},
                   {"mxfp4", "MXFP4"}, {"modelopt", "packed"}, {"compressed-tensors", "packed"}};
    struct base_view method;
    if (base_json_string(
            base_json_path(hf_dir_json(dir, HF_CONFIG), "quantization_config.quant_method"),
            &method))
        for (size_t i = 0; i < BASE_COUNT(methods); i++)
            if (base_view_equal(method, methods[i].method))
                return methods[i].name;
    return NULL;
}

static const struct {
    int32_t stored;
    infer_dtype type;
    int32_t weights;  /* that an element holds, about: integers are packed to four bits */
    int32_t unpacked; /* bytes for 32 weights of a quantised checkpoint in memory, at most */
} stored_types[] = {
    {SAFETENSORS_F32, INFER_DTYPE_F32, 1, 0},
    {SAFETENSORS_F16, INFER_DTYPE_F16, 1, 0},
    {SAFETENSORS_BF16, INFER_DTYPE_BF16, 1, 0},
    {SAFETENSORS_F8_E4M3, INFER_DTYPE_F8_E4M3, 1, 64}, /* BF16 */
    {SAFETENSORS_F8_E5M2, INFER_DTYPE_F8_E5M2, 1, 64},
    {SAFETENSORS_F64, INFER_DTYPE_F64, 1, 0},
    {SAFETENSORS_I8, INFER_DTYPE_I8, 1, 34}, /* Q8_0 */
    {SAFETENSORS_I32, INFER_DTYPE_I32, 8, 34},
    {SAFETENSORS_U8, INFER_DTYPE_I8, 2, 18}, /* NVFP4 */
};

/* An output matrix that is stored although the embeddings serve. */
static int is_tied(const struct hf_dir *dir, struct base_view name)
{
    int32_t tied = 0;
    base_json_bool(base_json_get(hf_dir_json(dir, HF_CONFIG), "tie_word_embeddings"), &tied);
    return tied && base_view_equal(name, "lm_head.weight");
}

/* Tensors of a folder, by what the headers of its files say. */
static infer_status survey_folder(struct model_survey *out, struct infer_model *m)
{
    struct hf_dir *dir = NULL;
    uint64_t bytes[BASE_COUNT(stored_types)] = {0};
    size_t most = 0;
    infer_status st = hf_dir_open(&dir, &m->alloc, gguf_path(m->file), HF_DIR_NO_TOKENIZER);
    if (st != INFER_OK)
        return st;
    const char *packed = packed_name(dir);
    for (size_t i = 0; i < hf_dir_n_tensors(dir); i++) {
        const struct safetensors_tensor *t = hf_dir_tensor_at(dir, i);
        if (is_tied(dir, t->name))
            continue;
        out->weight_bytes += t->bytes;
        for (size_t k = 0; k < BASE_COUNT(stored_types); k++) {
            if (stored_types[k].stored != t->type)
                continue;
            out->n_parameters += t->n * (uint64_t)stored_types[k].weights;
            if (packed)
                out->private_bytes += t->n * (uint64_t)stored_types[k].weights / 32 *
                                      (uint64_t)stored_types[k].unpacked;
            bytes[k] += t->bytes;
            most = bytes[k] > bytes[most] ? k : most;
        }
    }
    m->weights.main_type = stored_types[most].type;
    out->weight_type = packed ? packed : quant_layout_of(m->weights.main_type)->name;
    hf_dir_close(&dir);
    return INFER_OK;
}

static infer_status survey_parts(struct model_survey *out, struct infer_model *m)
{
    struct base_view name = {0};
    infer_status st = gguf_get_string(m->file, "general.architecture", &name);
    if (st != INFER_OK)
        return st;
    m->arch = model_arch_find(name);
    if (!m->arch)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "architecture \"%.*s\" is not supported (supported: %s)",
                          (int)BASE_MIN(name.size, (size_t)64), name.data, model_arch_names());
    int is_folder = hf_dir_is(gguf_path(m->file));
    size_t n_tensors = gguf_n_tensors(m->file);
    if (!is_folder && !n_tensors)
        return base_error(INFER_ERR_UNSUPPORTED, "a vocabulary without weights");
    int32_t n_tokens = count_tokens(m);
    st = model_hparams_read(&m->hp, &m->arena, m->arch, m->file, n_tokens);
    if (st != INFER_OK)
        return st;
    if (!is_folder && (size_t)m->hp.n_layers > n_tensors)
        return base_error(INFER_ERR_FORMAT, "block_count is %d but the file has %zu tensors",
                          m->hp.n_layers, n_tensors);
    m->weights.layers =
        base_arena_new(&m->arena, (size_t)m->hp.n_layers, sizeof *m->weights.layers);
    if (!m->weights.layers)
        return INFER_ERR_NO_MEMORY;
    st = model_layers_plan(m->weights.layers, m->kv_groups, &m->n_kv_groups, m->arch, &m->hp);
    if (st == INFER_OK)
        st = is_folder ? survey_folder(out, m) : survey_file(out, m);
    if (st != INFER_OK)
        return st;
    out->architecture = m->arch->name;
    out->kv_token_bytes = model_kv_token_bytes(m, model_kv_default_type(m));
    out->private_bytes += sizeof *m + m->arena.used_bytes + m->bound.used_bytes +
                          gguf_memory_bytes(m->file) + (uint64_t)n_tokens * TOKEN_BYTES;
    return INFER_OK;
}

infer_status model_survey(struct model_survey *out, const char *path,
                          const struct model_load_config *config)
{
    struct infer_model *m = base_new(config->alloc, 1, sizeof *m);
    if (!m)
        return INFER_ERR_NO_MEMORY;
    struct model_survey s = {.model = m};
    struct model_source_options options = {
        .hub_dir = config->hub_dir, .verify_files = config->verify_files, .survey = 1};
    m->refs = 1;
    m->alloc = *config->alloc;
    m->kv_type = config->kv_type;
    m->device = device_retain(config->device);
    base_arena_init(&m->arena, &m->alloc);
    base_arena_init(&m->bound, &m->alloc);
    model_life_init(&m->life);
    infer_status st = model_source_open(&m->file, &m->alloc, path, &options);
    if (st == INFER_OK) {
        st = survey_parts(&s, m);
        if (st != INFER_OK && st != INFER_ERR_NO_MEMORY)
            base_error_prefix(st, "%s", path);
    }
    if (st == INFER_OK)
        *out = s;
    else
        model_release(&m);
    return st;
}
