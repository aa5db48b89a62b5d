/* Public: <infer/model.h>. */
#include "model/survey.h"

#include "engine/kv_cache.h"
#include "engine/session.h"
#include "format/quant_layout.h"
#include "handle.h"
#include "render.h"

#include <infer/model.h>
#include <string.h>

/* What loading begins with; the allocator must stay where it is. */
struct opening {
    struct base_alloc alloc;
    struct model_load_config config;
};

/* Opens a device of its own where the host named none; the caller releases it. */
static infer_status begin(struct opening *out, const infer_model_options *options)
{
    infer_model_options o;
    infer_status st = base_options_copy(&o, sizeof o, options, "infer_model_options");
    infer_dtype kv_type = -1;
    if (st == INFER_OK && o.reserved)
        st = base_error(INFER_ERR_INVALID, "infer_model_options.reserved is %u, not 0",
                        (unsigned)o.reserved);
    if (st == INFER_OK && (o.pack < INFER_PACK_AUTO || o.pack > INFER_PACK_ON))
        st = base_error(INFER_ERR_INVALID, "infer_model_options.pack is %d, expected 0 to %d",
                        (int)o.pack, INFER_PACK_ON);
    if (st == INFER_OK)
        st = handle_kv_type(&kv_type, o.kv_type, -1);
    if (st == INFER_OK)
        st = handle_alloc(&out->alloc, o.allocator, &base_alloc_default);
    if (st != INFER_OK)
        return st;
    struct infer_device *device = NULL;
    if (o.device)
        device = device_retain(o.device);
    else
        st = device_create(&device, &(struct device_config){.alloc = &out->alloc});
    out->config = (struct model_load_config){.alloc = &out->alloc,
                                             .device = device,
                                             .progress = o.progress,
                                             .progress_user_data = o.progress_user_data,
                                             .vocabulary_only = o.vocabulary_only,
                                             .check_weights = o.check_weights,
                                             .verify_files = o.verify_files,
                                             .pack = o.pack,
                                             .hub_dir = o.hub_dir,
                                             .kv_type = kv_type};
    return st;
}

static infer_status load(infer_model **out, const char *path, const infer_model_options *options)
{
    struct opening o;
    infer_status st = begin(&o, options);
    if (st != INFER_OK)
        return st;
    st = model_load(out, path, &o.config);
    device_release(&o.config.device);
    return st;
}

infer_status infer_model_load(infer_model **out, const char *path,
                              const infer_model_options *options)
{
    REQUIRE(out);
    REQUIRE(path);
    return load(out, path, options);
}

void infer_model_destroy(infer_model **model)
{
    if (model)
        model_release(model);
}

infer_status infer_model_get_info(const infer_model *m, infer_model_info *info)
{
    REQUIRE(m);
    uint64_t packed, private_bytes = model_private_bytes(m, &packed);
    infer_model_info full = {
        .architecture = m->arch_name,
        .name = m->name,
        .weight_type = m->arch ? quant_layout_of(m->weights.main_type)->name : "",
        .chat_template = m->chat_source,
        .path = m->path,
        .n_parameters = m->weights.n_parameters,
        .weight_bytes = m->weights.bytes,
        .private_bytes = private_bytes + packed,
        .kv_bytes_per_token = m->arch ? model_kv_token_bytes(m, model_kv_default_type(m)) : 0,
        .n_vocab = (int32_t)model_vocab_text(m->vocab)->n_tokens,
        .n_context = m->hp.n_context,
        .n_embedding = m->hp.n_embd,
        .n_layers = m->hp.n_layers,
        .n_heads = m->hp.n_heads,
        .n_heads_kv = m->hp.n_heads_kv,
        .head_dim = m->hp.head_dim,
        .n_ff = m->hp.n_ff,
        .mapped_bytes = model_mapped_bytes(m),
        .evicted = model_is_evicted(m),
    };
    return base_info_copy(info, &full, sizeof full, "infer_model_info");
}

static void add_running(infer_memory_estimate *e, const infer_model *m, int64_t kv_tokens)
{
    uint64_t token = model_kv_token_bytes(m, model_kv_default_type(m));
    uint64_t tokens = kv_tokens ? (uint64_t)kv_tokens : (uint64_t)m->hp.n_context;
    tokens = BASE_ALIGN_UP(tokens, (uint64_t)KV_CACHE_BLOCK_TOKENS);
    if (__builtin_mul_overflow(tokens, token, &e->kv_bytes))
        e->kv_bytes = UINT64_MAX / 2;
    e->workspace_bytes = session_workspace_bytes(m, session_step_tokens(m), INFER_NUMERICS_STABLE);
    e->n_context = m->hp.n_context;
    e->architecture = m->arch->name;
}

static infer_status finish_estimate(infer_memory_estimate *out, infer_memory_estimate *full)
{
    full->total_bytes =
        full->weight_bytes + full->private_bytes + full->kv_bytes + full->workspace_bytes;
    return base_info_copy(out, full, sizeof *full, "infer_memory_estimate");
}

static infer_status check_kv_tokens(int64_t kv_tokens)
{
    if (kv_tokens < 0 || kv_tokens > INT64_MAX / 2)
        return base_error(INFER_ERR_INVALID, "kv_tokens is %lld", (long long)kv_tokens);
    return INFER_OK;
}

infer_status infer_model_memory(const infer_model *m, int64_t kv_tokens, infer_memory_estimate *out)
{
    REQUIRE(m);
    REQUIRE(out);
    infer_status st = check_kv_tokens(kv_tokens);
    if (st != INFER_OK)
        return st;
    uint64_t packed; /* counted as weights */
    infer_memory_estimate full = {.weight_bytes = m->weights.bytes,
                                  .private_bytes = model_private_bytes(m, &packed),
                                  .architecture = "",
                                  .weight_type = "",
                                  .n_parameters = m->weights.n_parameters};
    if (m->arch) {
        full.weight_type = quant_layout_of(m->weights.main_type)->name;
        add_running(&full, m, kv_tokens);
    }
    return finish_estimate(out, &full);
}

static infer_status estimate_vocabulary(infer_memory_estimate *out, const char *path,
                                        const struct model_load_config *config)
{
    infer_model *m = NULL;
    infer_status st = model_load(&m, path, config);
    if (st != INFER_OK)
        return st;
    st = infer_model_memory(m, 0, out);
    model_release(&m);
    return st;
}

static infer_status estimate_model(infer_memory_estimate *out, const char *path, int64_t kv_tokens,
                                   const struct model_load_config *config)
{
    struct model_survey s;
    infer_status st = model_survey(&s, path, config);
    if (st != INFER_OK)
        return st;
    infer_memory_estimate full = {.weight_bytes = s.weight_bytes,
                                  .private_bytes = s.private_bytes,
                                  .weight_type = s.weight_type,
                                  .n_parameters = s.n_parameters};
    add_running(&full, s.model, kv_tokens);
    model_release(&s.model);
    return finish_estimate(out, &full);
}

infer_status infer_model_estimate(infer_memory_estimate *out, const char *path, int64_t kv_tokens,
                                  const infer_model_options *options)
{
    REQUIRE(out);
    REQUIRE(path);
    struct opening o;
    infer_status st = check_kv_tokens(kv_tokens);
    if (st == INFER_OK)
        st = begin(&o, options);
    if (st != INFER_OK)
        return st;
    st = o.config.vocabulary_only ? estimate_vocabulary(out, path, &o.config)
                                  : estimate_model(out, path, kv_tokens, &o.config);
    device_release(&o.config.device);
    return st;
}

const infer_tokenizer *infer_model_tokenizer(const infer_model *model)
{
    return model ? (const infer_tokenizer *)model->vocab : NULL;
}

infer_status infer_model_sampling(const infer_model *model, infer_sampling *out)
{
    REQUIRE(model);
    infer_sampling full = {0};
    static const struct {
        const char *key;
        size_t offset;
    } floats[] = {
        {"general.sampling.temp", offsetof(infer_sampling, temperature)},
        {"general.sampling.top_p", offsetof(infer_sampling, top_p)},
        {"general.sampling.min_p", offsetof(infer_sampling, min_p)},
        {"general.sampling.penalty_repeat", offsetof(infer_sampling, repetition_penalty)},
    };
    for (size_t i = 0; i < BASE_COUNT(floats); i++) {
        float value;
        infer_status st = gguf_get_f32(model->file, floats[i].key, &value);
        if (st == INFER_OK)
            memcpy((char *)&full + floats[i].offset, &value, sizeof value);
        else if (st != INFER_ERR_NOT_FOUND)
            return st;
    }
    infer_status st = gguf_get_i32(model->file, "general.sampling.top_k", &full.top_k);
    if (st != INFER_OK && st != INFER_ERR_NOT_FOUND)
        return st;
    return base_info_copy(out, &full, sizeof full, "infer_sampling");
}

size_t infer_model_metadata_count(const infer_model *model)
{
    return model ? gguf_n_kv(model->file) : 0;
}

infer_status infer_model_metadata_at(const infer_model *model, size_t i, infer_metadata *out)
{
    REQUIRE(model);
    if (i >= gguf_n_kv(model->file))
        return base_error(INFER_ERR_INVALID, "metadata entry %zu of %zu", i,
                          gguf_n_kv(model->file));
    const struct model_metadata *from = &model->metadata[i];
    infer_metadata full = {.key = from->key, .type = from->type, .value = from->value};
    return base_info_copy(out, &full, sizeof full, "infer_metadata");
}

size_t infer_model_tensor_count(const infer_model *model)
{
    return model ? gguf_n_tensors(model->file) : 0;
}

infer_status infer_model_tensor_at(const infer_model *model, size_t i, infer_tensor_info *out)
{
    REQUIRE(model);
    if (i >= gguf_n_tensors(model->file))
        return base_error(INFER_ERR_INVALID, "tensor %zu of %zu", i, gguf_n_tensors(model->file));
    const struct gguf_tensor *t = gguf_tensor_at(model->file, i);
    infer_tensor_info full = {
        .name = model->tensor_names[i],
        .type = quant_layout_of(t->type)->name,
        .dims = t->dims,
        .bytes = t->bytes,
        .offset = t->offset,
        .dtype = t->type,
        .n_dims = t->n_dims,
        .file = t->file,
    };
    return base_info_copy(out, &full, sizeof full, "infer_tensor_info");
}

static infer_status render(const infer_model *model, const struct render_chat *what, char *text,
                           size_t *size)
{
    struct base_str out;
    base_str_init(&out, &model->alloc, 0);
    infer_status st = render_chat(model, what, &out);
    if (st == INFER_OK)
        st = handle_fill_text(text, size, out.data, out.size);
    base_str_release(&out);
    return st;
}

infer_status infer_model_render_chat(const infer_model *model, const infer_message *messages,
                                     size_t n_messages, char *text, size_t *size)
{
    REQUIRE(model);
    REQUIRE(size);
    struct render_chat what = {.messages = messages, .n_messages = n_messages};
    return render(model, &what, text, size);
}

infer_status infer_model_render_context(const infer_model *model, const char *context,
                                        size_t context_size, char *text, size_t *size)
{
    REQUIRE(model);
    REQUIRE(context);
    REQUIRE(size);
    struct render_chat what = {.json = context, .json_size = context_size};
    return render(model, &what, text, size);
}
