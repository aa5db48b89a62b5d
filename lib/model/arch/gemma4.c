/* Gemma 4 text (Google DeepMind, 2026): layers with a window and without differ in their heads,
 * values are normalised. The small models give each layer inputs of its own and share keys and
 * values, the large one has experts beside the dense feed-forward. */
#include "model/arch.h"
#include "model/hf_gemma4.h"

#include <math.h>

static infer_status shape(struct model_hparams *hp, const struct gguf_file *file)
{
    BASE_UNUSED(file);
    hp->router_scale = 1 / sqrtf((float)hp->n_embd);
    return INFER_OK;
}

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    MODEL_ROWS_LAYER_INPUT,
    {MODEL_ROPE_FREQS, 0},
    {MODEL_ATTN_NORM, 0},
    {MODEL_ATTN_Q, 0},
    {MODEL_ATTN_K, 0},
    {MODEL_ATTN_V, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT, 0},
    MODEL_ROWS_QK_NORM,
    {MODEL_ATTN_POST_NORM, 0},
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_GATED_FFN,
    {MODEL_FFN_POST_NORM, 0},
    {MODEL_LAYER_SCALE, MODEL_OPTIONAL},
    {MODEL_ROUTER, 0},
    {MODEL_ROUTER_NORM, 0},
    {MODEL_EXPERT_GATE_UP, MODEL_OPTIONAL},
    {MODEL_EXPERT_GATE, MODEL_OPTIONAL},
    {MODEL_EXPERT_UP, MODEL_OPTIONAL},
    {MODEL_EXPERT_DOWN, 0},
    {MODEL_EXPERT_NORM, 0},
    {MODEL_EXPERT_POST_NORM, 0},
    {MODEL_DENSE_POST_NORM, 0},
};

static const char *const classes[] = {"Gemma4ForConditionalGeneration", "Gemma4ForCausalLM",
                                      "Gemma4UnifiedForConditionalGeneration", NULL};
static const struct model_hf_key keys[] = {
    {"head_dim", "attention.key_length_swa", MODEL_HF_U32},
    {"head_dim", "attention.value_length_swa", MODEL_HF_U32},
    {"head_dim", "rope.dimension_count_swa", MODEL_HF_U32},
    {"hidden_size_per_layer_input", "embedding_length_per_layer_input", MODEL_HF_U32},
    {"num_kv_shared_layers", "attention.shared_kv_layers", MODEL_HF_U32},
    {"expert_intermediate_size", "expert_feed_forward_length", MODEL_HF_U32},
};
static const struct model_hf_tensor names[] = {
    {"embed_tokens_per_layer", "per_layer_token_embd", 0, NULL},
    {"per_layer_model_projection", "per_layer_model_proj", 0, NULL},
    {"per_layer_projection_norm", "per_layer_proj_norm", 0, NULL},
    {"layers.%d.per_layer_input_gate", "blk.%d.inp_gate", 0, NULL},
    {"layers.%d.per_layer_projection", "blk.%d.proj", 0, NULL},
    {"layers.%d.post_per_layer_input_norm", "blk.%d.post_norm", 0, NULL},
    {"layers.%d.layer_scalar", "blk.%d.layer_output_scale.weight", 0, NULL},
    {"layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm", 0, NULL},
    {"layers.%d.pre_feedforward_layernorm_2", "blk.%d.pre_ffw_norm_2", 0, NULL},
    {"layers.%d.post_feedforward_layernorm_1", "blk.%d.post_ffw_norm_1", 0, NULL},
    {"layers.%d.post_feedforward_layernorm_2", "blk.%d.post_ffw_norm_2", 0, NULL},
    {"layers.%d.router.proj", "blk.%d.ffn_gate_inp", 0, NULL},
    {"layers.%d.router.scale", "blk.%d.ffn_gate_inp.scale", 0, NULL},
    {"layers.%d.router.per_expert_scale", "blk.%d.ffn_down_exps.scale", 0, NULL},
    {"layers.%d.experts.gate_up_proj", "blk.%d.ffn_gate_up_exps.weight", 0, NULL},
    {"layers.%d.experts.down_proj", "blk.%d.ffn_down_exps.weight", 0, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = model_hf_gemma4_keys,
};

const struct model_arch model_arch_gemma4 = {
    .name = "gemma4",
    .title = "Gemma 4 text",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_GELU_TANH,
    .traits = MODEL_EMBD_SQRT | MODEL_WINDOW_ROPE | MODEL_VALUE_NORM | MODEL_EXPERTS_BESIDE,
    .defaults = {.window = 512,
                 .window_period = 6,
                 .rope_base = 1000000,
                 .rope_base_window = 10000,
                 .attn_scale = 1,
                 .gating = MODEL_GATING_SOFTMAX,
                 .expert_weights_sum = 1},
    .shape = shape,
};
