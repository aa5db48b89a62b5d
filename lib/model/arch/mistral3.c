/* Ministral 3 and Mistral Small 3 text: Llama whose queries grow with the position. */
#include "model/arch.h"
#include "model/hf.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,     {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,
    {MODEL_FFN_NORM, 0}, MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"Ministral3ForCausalLM", "Mistral3ForConditionalGeneration",
                                      NULL};
static const struct model_hf_key keys[] = {
    {"rope_parameters.llama_4_scaling_beta", "attention.temperature_scale", MODEL_HF_F32},
    {"rope_parameters.original_max_position_embeddings", "attention.temperature_length",
     MODEL_HF_U32},
};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", MODEL_HF_PERMUTE_Q, NULL},
    {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", MODEL_HF_PERMUTE_K, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .yarn_multiplier = 1,
};

/* Where a file does not say from when on queries grow, it is the length of the first training. */
static infer_status shape(struct model_hparams *hp, const struct gguf_file *file)
{
    if (hp->temperature_length)
        return INFER_OK;
    infer_status st = gguf_get_i32(file, "mistral3.rope.scaling.original_context_length",
                                   &hp->temperature_length);
    return st == INFER_ERR_NOT_FOUND ? INFER_OK : st;
}

const struct model_arch model_arch_mistral3 = {
    .name = "mistral3",
    .title = "Ministral 3",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .shape = shape,
};
