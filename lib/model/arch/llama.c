/* Llama 1, 2, 3 and what shares their shape: RMS norm, rotary positions over
 * pairs, grouped-query attention, SwiGLU (Touvron et al., arXiv:2302.13971,
 * arXiv:2307.09288; Llama 3, arXiv:2407.21783); Mixtral adds experts (arXiv:2401.04088). */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ROPE_FREQS, MODEL_OPTIONAL},
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_OUT_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_GATED_FFN,
    {MODEL_FFN_GATE_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_UP_BIAS, MODEL_OPTIONAL},
    {MODEL_FFN_DOWN_BIAS, MODEL_OPTIONAL},
    MODEL_ROWS_EXPERTS,
};

static const char *const classes[] = {"LlamaForCausalLM", "MistralForCausalLM",
                                      "MixtralForCausalLM", "LLaMAForCausalLM", NULL};
static const struct model_hf_tensor hf_tensors[] = {
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", MODEL_HF_PERMUTE_Q, NULL},
    {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", MODEL_HF_PERMUTE_K, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = hf_tensors,
    .n_tensors = BASE_COUNT(hf_tensors),
};

const struct model_arch model_arch_llama = {
    .name = "llama",
    .title = "Llama 1, 2, 3, Mistral, Mixtral, SmolLM 1 and 2",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .defaults = {.expert_weights_sum = 1},
};
