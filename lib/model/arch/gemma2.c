/* Gemma 2 (arXiv:2408.00118): every second layer has a window, scores and logits are capped. */
#include "model/arch.h"
#include "model/hf.h"

#include <math.h>

/* Files that do not say so: only the 27B model differs. */
static infer_status shape(struct model_hparams *hp, const struct gguf_file *file)
{
    BASE_UNUSED(file);
    if (!(hp->attn_scale > 0) && hp->n_layers == 46)
        hp->attn_scale = 1 / sqrtf((float)hp->n_embd / (float)hp->n_heads);
    return INFER_OK;
}

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,     {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,           {MODEL_ATTN_POST_NORM, 0},
    {MODEL_FFN_NORM, 0}, MODEL_ROWS_GATED_FFN, {MODEL_FFN_POST_NORM, 0},
};

static const char *const classes[] = {"Gemma2ForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.input_layernorm", "blk.%d.attn_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.pre_feedforward_layernorm", "blk.%d.ffn_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.post_feedforward_layernorm", "blk.%d.post_ffw_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.self_attn.q_norm", "blk.%d.attn_q_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.self_attn.k_norm", "blk.%d.attn_k_norm", MODEL_HF_PLUS_ONE, NULL},
    {"norm", "output_norm", MODEL_HF_PLUS_ONE, NULL},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_gemma2 = {
    .name = "gemma2",
    .title = "Gemma 2",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_GELU_TANH,
    .traits = MODEL_EMBD_SQRT,
    .defaults = {.window_period = 2, .window = 4096, .attn_softcap = 50, .logit_softcap = 30},
    .shape = shape,
};
