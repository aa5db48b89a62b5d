/* SmolLM 3: Llama in which every fourth layer has no positions (arXiv:2501.18795). */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,     {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,
    {MODEL_FFN_NORM, 0}, MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"SmolLM3ForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", MODEL_HF_PERMUTE_Q, NULL},
    {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", MODEL_HF_PERMUTE_K, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_smollm3 = {
    .name = "smollm3",
    .title = "SmolLM 3",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .defaults = {.nope_period = 4},
};
