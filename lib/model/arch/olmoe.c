/* OLMoE (arXiv:2409.02060): queries and keys are normalised over all heads at once. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,     {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,     MODEL_ROWS_QK_NORM,
    {MODEL_FFN_NORM, 0}, MODEL_ROWS_GATED_FFN, MODEL_ROWS_EXPERTS,
};

static const char *const classes[] = {"OlmoeForCausalLM", NULL};
static const struct model_hf_key keys[] = {
    {"intermediate_size", "expert_feed_forward_length", MODEL_HF_U32},
};
static const struct model_hf_arch hf = {
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .classes = classes,
};

const struct model_arch model_arch_olmoe = {
    .name = "olmoe",
    .title = "OLMoE",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
};
