/* Llama 4 text (Meta, 2025): three of four layers see the chunk they are in and normalise rotated
 * queries and keys; the fourth sees all, has no positions, and its queries grow. */
#include "model/arch.h"
#include "model/hf_parts.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,      {MODEL_ROPE_FREQS, MODEL_OPTIONAL},
    {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,
    {MODEL_FFN_NORM, 0},  MODEL_ROWS_GATED_FFN,
    MODEL_ROWS_EXPERTS,   {MODEL_SHARED_GATE, 0},
    {MODEL_SHARED_UP, 0}, {MODEL_SHARED_DOWN, 0},
};

static infer_status make_gate_up(struct model_hf *hf, const struct model_hf_value *value,
                                 int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1];
    uint64_t half = value->dims[0] / 2;
    struct model_hf_columns gate = {0, 1, half, 1}, up = {half, 1, half, 1};
    BASE_UNUSED(suffix);
    infer_status st =
        model_hf_add_columns(hf, model_hf_block(name, layer, "ffn_gate_exps.weight"), value, &gate);
    if (st != INFER_OK)
        return st;
    return model_hf_add_columns(hf, model_hf_block(name, layer, "ffn_up_exps.weight"), value, &up);
}

static infer_status make_down(struct model_hf *hf, const struct model_hf_value *value,
                              int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1];
    struct model_hf_columns columns = {0, 1, value->dims[0], 1};
    BASE_UNUSED(suffix);
    return model_hf_add_columns(hf, model_hf_block(name, layer, "ffn_down_exps.weight"), value,
                                &columns);
}

static const char *const classes[] = {"Llama4ForCausalLM", "Llama4ForConditionalGeneration", NULL};
static const struct model_hf_key keys[] = {
    {"intermediate_size", "expert_feed_forward_length", MODEL_HF_U32},
    {"intermediate_size_mlp", "feed_forward_length", MODEL_HF_U32},
    {"attention_chunk_size", "attention.sliding_window", MODEL_HF_U32},
    {"attn_scale", "attention.temperature_scale", MODEL_HF_F32},
    {"floor_scale", "attention.temperature_length", MODEL_HF_U32},
    {"use_qk_norm", "attention.qk_unit_norm", MODEL_HF_BOOL},
};
static const struct model_hf_tensor names[] = {
    {"layers.%d.feed_forward.gate_proj", "blk.%d.ffn_gate", 0, NULL},
    {"layers.%d.feed_forward.up_proj", "blk.%d.ffn_up", 0, NULL},
    {"layers.%d.feed_forward.down_proj", "blk.%d.ffn_down", 0, NULL},
    {"layers.%d.feed_forward.router", "blk.%d.ffn_gate_inp", 0, NULL},
    {"layers.%d.feed_forward.experts.gate_up_proj", NULL, 0, make_gate_up},
    {"layers.%d.feed_forward.experts.down_proj", NULL, 0, make_down},
    {"layers.%d.feed_forward.shared_expert.gate_proj", "blk.%d.ffn_gate_shexp", 0, NULL},
    {"layers.%d.feed_forward.shared_expert.up_proj", "blk.%d.ffn_up_shexp", 0, NULL},
    {"layers.%d.feed_forward.shared_expert.down_proj", "blk.%d.ffn_down_shexp", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

/* GGUF has no key for it: of the published models only the one of 128 experts does without. */
static infer_status shape(struct model_hparams *hp, const struct gguf_file *file)
{
    if (hp->n_experts == 128 && !gguf_find(file, "llama4.attention.qk_unit_norm"))
        hp->qk_unit = 0;
    return INFER_OK;
}

const struct model_arch model_arch_llama4 = {
    .name = "llama4",
    .title = "Llama 4 text",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_NOPE_FULL | MODEL_WINDOW_CHUNKS | MODEL_WEIGHT_INPUT,
    .defaults = {.window = 8192,
                 .window_period = 4,
                 .qk_unit = 1,
                 .n_experts_shared = 1,
                 .gating = MODEL_GATING_SIGMOID,
                 .temperature_scale = 0.1f,
                 .temperature_length = 8192,
                 .temperature_offset = 1},
    .shape = shape,
};
