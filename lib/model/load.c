/* Loading: open, recognise, check, bind. Weights stay where they are: mapped. */
#include "model/model.h"

#include "base/error.h"
#include "base/log.h"
#include "base/str.h"
#include "format/quant_layout.h"
#include "model/encode.h"
#include "model/gpu/gpu.h"
#include "model/pack.h"
#include "model/source.h"

#include <math.h>
#include <string.h>

/* Metadata longer than this is shown cut: it is for people to read. */
#define METADATA_TEXT_MAX 65536

struct loader {
    struct infer_model *model;
    const struct model_load_config *config;
    const char *path;
};

static infer_status report(const struct loader *l, double fraction, const char *stage)
{
    if (l->config->progress && l->config->progress(fraction, stage, l->config->progress_user_data))
        return base_error(INFER_ERR_CANCELLED, "loading was cancelled");
    return INFER_OK;
}

static infer_status metadata_text(const struct gguf_kv *kv, struct base_str *out)
{
    int64_t whole;
    double real;
    const uint8_t *p = kv->data;
    switch (kv->type) {
    case GGUF_ARRAY:
        return base_str_append(out, "", 0);
    case GGUF_STRING: {
        struct base_view text = {(const char *)p + 8, (size_t)(kv->bytes - 8)};
        return base_str_append(out, text.data, BASE_MIN(text.size, (size_t)METADATA_TEXT_MAX));
    }
    case GGUF_BOOL:
        return base_str_appendf(out, "%s", *p ? "true" : "false");
    case GGUF_F32: {
        float f;
        memcpy(&f, p, sizeof f);
        return base_str_appendf(out, "%.9g", (double)f);
    }
    case GGUF_F64:
        memcpy(&real, p, sizeof real);
        return base_str_appendf(out, "%.17g", real);
    case GGUF_U64: {
        uint64_t u;
        memcpy(&u, p, sizeof u);
        return base_str_appendf(out, "%llu", (unsigned long long)u);
    }
    default:
        break;
    }
    /* Signed integers are sign-extended from their own width, unsigned ones are not. */
    size_t bytes = (size_t)kv->bytes;
    uint64_t bits = 0;
    memcpy(&bits, p, BASE_MIN(bytes, sizeof bits));
    int is_signed = kv->type == GGUF_I8 || kv->type == GGUF_I16 || kv->type == GGUF_I32;
    unsigned shift = is_signed ? 64 - 8 * (unsigned)bytes : 0;
    whole = (int64_t)(bits << shift) >> shift;
    return base_str_appendf(out, "%lld", (long long)whole);
}

static infer_status load_metadata(struct loader *l)
{
    struct infer_model *m = l->model;
    size_t n = gguf_n_kv(m->file), n_tensors = gguf_n_tensors(m->file);
    struct base_str text;
    infer_status st = INFER_OK;
    base_str_init(&text, &m->alloc, 0);
    m->metadata = base_arena_new(&m->arena, n, sizeof *m->metadata);
    m->tensor_names = base_arena_new(&m->arena, n_tensors, sizeof *m->tensor_names);
    if (!m->metadata || !m->tensor_names)
        return INFER_ERR_NO_MEMORY;
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        const struct gguf_kv *kv = gguf_kv_at(m->file, i);
        char type[64];
        gguf_kv_type_name(kv, type, sizeof type);
        base_str_clear(&text);
        if ((st = metadata_text(kv, &text)) != INFER_OK)
            break;
        struct model_metadata *out = &m->metadata[i];
        out->key = base_arena_strdup(&m->arena, kv->key.data, kv->key.size);
        out->type = base_arena_strdup(&m->arena, type, strlen(type));
        out->value = base_arena_strdup(&m->arena, text.data, text.size);
        if (!out->key || !out->type || !out->value)
            st = INFER_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < n_tensors && st == INFER_OK; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(m->file, i);
        m->tensor_names[i] = base_arena_strdup(&m->arena, t->name.data, t->name.size);
        if (!m->tensor_names[i])
            st = INFER_ERR_NO_MEMORY;
    }
    base_str_release(&text);
    return st;
}

/* An optional string of the metadata as C text; `missing` where it is absent. */
static infer_status load_string(struct loader *l, const char *key, const char *missing,
                                const char **out)
{
    struct base_view text;
    infer_status st = gguf_get_string(l->model->file, key, &text);
    *out = missing;
    if (st == INFER_ERR_NOT_FOUND)
        return INFER_OK;
    if (st != INFER_OK)
        return st;
    *out = base_arena_strdup(&l->model->arena, text.data, text.size);
    return *out ? INFER_OK : INFER_ERR_NO_MEMORY;
}

/* A template that does not compile must not keep a model from being used without it. */
static infer_status load_chat(struct loader *l)
{
    struct infer_model *m = l->model;
    infer_status st = load_string(l, "tokenizer.chat_template", NULL, &m->chat_source);
    if (st != INFER_OK || !m->chat_source)
        return st;
    m->chat_status =
        text_chat_template_create(&m->chat, &m->alloc, m->chat_source, strlen(m->chat_source));
    if (m->chat_status == INFER_OK)
        return INFER_OK;
    if (m->chat_status == INFER_ERR_NO_MEMORY)
        return m->chat_status;
    base_log(1, "%s: chat template: %s", l->path, base_error_text());
    m->chat_error = base_arena_strdup(&m->arena, base_error_text(), strlen(base_error_text()));
    return m->chat_error ? INFER_OK : INFER_ERR_NO_MEMORY;
}

static infer_status load_arch(struct loader *l)
{
    struct infer_model *m = l->model;
    struct base_view name = {0};
    infer_status st = gguf_get_string(m->file, "general.architecture", &name);
    if (st == INFER_ERR_NOT_FOUND)
        return base_error(INFER_ERR_FORMAT, "metadata key general.architecture is missing");
    if (st != INFER_OK)
        return st;
    m->arch_name = base_arena_strdup(&m->arena, name.data, name.size);
    if (!m->arch_name)
        return INFER_ERR_NO_MEMORY;
    if (l->config->vocabulary_only)
        return INFER_OK;
    m->arch = model_arch_find(name);
    if (!m->arch)
        return base_error(INFER_ERR_UNSUPPORTED,
                          "architecture \"%s\" is not supported (supported: %s)", m->arch_name,
                          model_arch_names());
    return INFER_OK;
}

/* Reads every weight once: slow on purpose, and only if the host asked. */
static infer_status check_tensor(struct loader *l, const struct gguf_tensor *t, float *row)
{
    kern_dequant_fn *dequant =
        t->type < KERN_DTYPES ? l->model->device->kernels.quant.dequant[t->type] : NULL;
    if (!dequant)
        return INFER_OK; /* no type with a NaN or infinity, or one that nothing uses */
    uint64_t k = t->dims[0], rows = t->dims[1] * t->dims[2] * t->dims[3];
    size_t row_bytes = (size_t)(t->bytes / rows);
    for (uint64_t r = 0; r < rows; r++) {
        const uint8_t *matrix = gguf_matrix(t, r / t->dims[1]);
        dequant(row, matrix + r % t->dims[1] * row_bytes, (int32_t)k);
        for (uint64_t i = 0; i < k; i++)
            if (!isfinite(row[i]))
                return base_error(INFER_ERR_FORMAT,
                                  "tensor %.*s has the value %g in row %llu, column %llu",
                                  (int)t->name.size, t->name.data, (double)row[i],
                                  (unsigned long long)r, (unsigned long long)i);
    }
    return INFER_OK;
}

static infer_status check_weights(struct loader *l)
{
    size_t n = gguf_n_tensors(l->model->file);
    uint64_t widest = 1;
    for (size_t i = 0; i < n; i++)
        widest = BASE_MAX(widest, gguf_tensor_at(l->model->file, i)->dims[0]);
    if (widest > INT32_MAX)
        return base_error(INFER_ERR_LIMIT, "a tensor row has %llu elements",
                          (unsigned long long)widest);
    float *row = base_new_raw(&l->model->alloc, (size_t)widest, sizeof *row);
    if (!row)
        return INFER_ERR_NO_MEMORY;
    infer_status st = INFER_OK;
    for (size_t i = 0; i < n && st == INFER_OK; i++) {
        st = report(l, 0.2 + 0.4 * (double)i / (double)n, "checking");
        if (st == INFER_OK)
            st = check_tensor(l, gguf_tensor_at(l->model->file, i), row);
    }
    base_free(&l->model->alloc, row);
    return st;
}

static infer_status load_ropes(struct loader *l)
{
    struct infer_model *m = l->model;
    const struct model_weight *global = m->weights.global;
    const struct model_rope_factors factors = {
        global[MODEL_ROPE_FREQS].data, global[MODEL_ROPE_SHORT].data, global[MODEL_ROPE_LONG].data};
    const struct model_rope_config configs[MODEL_ROPES] = {
        [MODEL_ROPE_MAIN] = {m->hp.n_rot, m->hp.rope_base, 0, factors},
        [MODEL_ROPE_WINDOW] = {m->hp.n_rot_window,
                               m->hp.rope_base_window,
                               (m->arch->traits & MODEL_WINDOW_ROPE) != 0,
                               {NULL, NULL, NULL}},
    };
    infer_status st = INFER_OK;
    for (int32_t i = 0; i < MODEL_ROPES && st == INFER_OK; i++) {
        struct model_rope_config c = configs[i];
        if (i == MODEL_ROPE_WINDOW && !c.plain && c.n_rot == m->hp.n_rot)
            c.factors = factors;
        if (c.n_rot)
            st = model_rope_init(&m->rope[i], &m->arena, m->arch, &m->hp, m->file, &c);
    }
    for (int32_t i = 0; st == INFER_OK && m->hp.kv_lora && i < m->hp.n_layers; i++)
        m->weights.layers[i].attn_scale *=
            m->rope[MODEL_ROPE_MAIN].attn_growth * m->rope[MODEL_ROPE_MAIN].attn_growth;
    return st;
}

static infer_status report_placing(void *arg, double fraction)
{
    const struct loader *l = arg;
    double begin = l->config->check_weights ? 0.6 : 0.2;
    return report(l, begin + (1 - begin) * fraction,
                  l->model->device->kind == DEVICE_CUDA ? "uploading" : "packing");
}

/* Weights go to where the device reads them fastest. */
static infer_status place(struct loader *l)
{
    struct infer_model *m = l->model;
    if (m->device->kind == DEVICE_CUDA)
        return model_gpu_create(&m->gpu, &(const struct model_gpu_config){.model = m,
                                                                          .weights = &m->weights,
                                                                          .file = m->file,
                                                                          .report = report_placing,
                                                                          .report_arg = l});
    return model_pack(&m->packed, &m->weights,
                      &(const struct model_pack_config){.device = m->device,
                                                        .arena = &m->bound,
                                                        .file = m->file,
                                                        .n_layers = m->hp.n_layers,
                                                        .floats = model_is_encoder(m),
                                                        .how = m->pack,
                                                        .report = report_placing,
                                                        .report_arg = l});
}

static infer_status load_weights(struct loader *l)
{
    struct infer_model *m = l->model;
    int32_t n_vocab = (int32_t)model_vocab_text(m->vocab)->n_tokens;
    infer_status st = model_hparams_read(&m->hp, &m->arena, m->arch, m->file, n_vocab);
    if (st != INFER_OK)
        return st;
    /* A file without that many tensors cannot have that many layers: refuse
     * before allocating for them. */
    if ((size_t)m->hp.n_layers > gguf_n_tensors(m->file))
        return base_error(INFER_ERR_FORMAT, "block_count is %d but the file has %zu tensors",
                          m->hp.n_layers, gguf_n_tensors(m->file));
    struct model_layer *layers = base_arena_new(&m->arena, (size_t)m->hp.n_layers, sizeof *layers);
    if (!layers)
        return INFER_ERR_NO_MEMORY;
    st = model_layers_plan(layers, m->kv_groups, &m->n_kv_groups, m->arch, &m->hp);
    if (st == INFER_OK)
        st = model_weights_bind(&m->weights, &m->bound, m->arch, &m->hp, layers, m->file,
                                &m->device->kernels);
    if (st == INFER_OK)
        st = load_ropes(l);
    if (st != INFER_OK)
        return st;
    if (l->config->check_weights)
        st = check_weights(l);
    return st == INFER_OK ? place(l) : st;
}

/* Everything that comes after the files are open; sentences lack the path. */
static infer_status load_parts(struct loader *l)
{
    struct infer_model *m = l->model;
    infer_status st = report(l, 0.05, "reading");
    if (st == INFER_OK)
        st = load_arch(l);
    if (st == INFER_OK)
        st = load_metadata(l);
    if (st == INFER_OK)
        st = load_string(l, "general.name", "", &m->name);
    if (st == INFER_OK)
        st = report(l, 0.1, "vocabulary");
    if (st == INFER_OK)
        st = model_vocab_load(&m->vocab, &m->alloc, m->file);
    if (st == INFER_OK)
        st = load_chat(l);
    if (st == INFER_OK)
        st = model_pooling_read(&m->pooling, &m->arena, m->arch_name, m->file);
    if (st == INFER_OK)
        st = report(l, 0.2, "weights");
    if (st == INFER_OK && !l->config->vocabulary_only)
        st = load_weights(l);
    return st == INFER_OK ? report(l, 1, "ready") : st;
}

static infer_status load_all(struct loader *l)
{
    struct model_source_options options = {
        .gguf_flags = l->config->vocabulary_only ? GGUF_OPEN_METADATA_ONLY : 0,
        .hub_dir = l->config->hub_dir,
        .verify_files = l->config->verify_files,
        .keep_f8 = !l->model->device->pool, /* a GPU */
    };
    infer_status st = model_source_open(&l->model->file, &l->model->alloc, l->path, &options);
    if (st != INFER_OK)
        return st;
    st = load_parts(l);
    if (st == INFER_OK || st == INFER_ERR_NO_MEMORY)
        return st;
    return base_error_prefix(st, "%s", l->path);
}

infer_status model_load(struct infer_model **out, const char *path,
                        const struct model_load_config *config)
{
    struct infer_model *m = base_new(config->alloc, 1, sizeof *m);
    if (!m)
        return INFER_ERR_NO_MEMORY;
    m->refs = 1;
    m->alloc = *config->alloc;
    m->kv_type = config->kv_type;
    m->device = device_retain(config->device);
    m->verify_files = config->verify_files;
    m->pack = config->pack;
    base_arena_init(&m->arena, &m->alloc);
    base_arena_init(&m->bound, &m->alloc);
    model_life_init(&m->life);
    struct loader l = {.model = m, .config = config, .path = path};
    m->path = base_arena_strdup(&m->arena, path, strlen(path));
    infer_status st = m->path ? load_all(&l) : INFER_ERR_NO_MEMORY;
    if (st != INFER_OK) {
        model_release(&m);
        return st;
    }
    *out = m;
    return INFER_OK;
}

struct infer_model *model_retain(struct infer_model *model)
{
    atomic_fetch_add(&model->refs, 1);
    return model;
}

void model_release(struct infer_model **model_ptr)
{
    struct infer_model *m = *model_ptr;
    *model_ptr = NULL;
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
        return;
    struct base_alloc alloc = m->alloc;
    text_chat_template_destroy(&m->chat);
    model_vocab_destroy(&m->vocab);
    gguf_close(&m->file);
    base_arena_release(&m->bound);
    if (m->packed.data)
        device_buffer_free(&m->packed);
    model_gpu_destroy(&m->gpu);
    base_arena_release(&m->arena);
    model_life_release(&m->life);
    device_release(&m->device);
    base_free(&alloc, m);
}

infer_dtype model_kv_default_type(const struct infer_model *model)
{
    if (model->kv_type >= 0)
        return model->kv_type;
    return model->weights.main_type == INFER_DTYPE_F32 ? INFER_DTYPE_F32 : INFER_DTYPE_F16;
}

uint64_t model_kv_state_bytes(const struct infer_model *model)
{
    uint64_t bytes = 0;
    for (int32_t i = 0; i < model->n_kv_groups; i++)
        bytes += (uint64_t)model->kv_groups[i].n_layers * model->kv_groups[i].state_bytes;
    return bytes;
}

uint64_t model_kv_token_bytes(const struct infer_model *model, infer_dtype type)
{
    uint64_t bytes = 0;
    for (int32_t i = 0; i < model->n_kv_groups; i++) {
        const struct model_kv_group *g = &model->kv_groups[i];
        bytes += (uint64_t)g->n_layers * (uint64_t)g->n_heads *
                 (kern_kv_bytes(type, g->head_dim) + kern_kv_bytes(type, g->head_dim_v));
    }
    return bytes;
}
