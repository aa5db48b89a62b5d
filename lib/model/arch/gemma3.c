/* Gemma 3 (arXiv:2503.19786): five of six layers have a window and positions of their own. */
#include "model/arch.h"
#include "model/hf.h"

#include <math.h>

/* Files that do not say so: only the 27B model differs. */
static infer_status shape(struct model_hparams *hp, const struct gguf_file *file)
{
    BASE_UNUSED(file);
    if (!(hp->attn_scale > 0) && hp->n_layers == 62)
        hp->attn_scale = 1 / sqrtf((float)hp->n_embd / (float)hp->n_heads);
    return INFER_OK;
}

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,           {MODEL_ATTN_NORM, 0}, MODEL_ROWS_QKV,       MODEL_ROWS_QK_NORM,
    {MODEL_ATTN_POST_NORM, 0}, {MODEL_FFN_NORM, 0},  MODEL_ROWS_GATED_FFN, {MODEL_FFN_POST_NORM, 0},
};

static const char *const classes[] = {"Gemma3ForCausalLM", "Gemma3ForConditionalGeneration", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.input_layernorm", "blk.%d.attn_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.post_attention_layernorm", "blk.%d.post_attention_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.pre_feedforward_layernorm", "blk.%d.ffn_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.post_feedforward_layernorm", "blk.%d.post_ffw_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.self_attn.q_norm", "blk.%d.attn_q_norm", MODEL_HF_PLUS_ONE, NULL},
    {"layers.%d.self_attn.k_norm", "blk.%d.attn_k_norm", MODEL_HF_PLUS_ONE, NULL},
    {"norm", "output_norm", MODEL_HF_PLUS_ONE, NULL},
};
/* Folders of the vision models leave out what transformers takes for granted. */
static infer_status set_keys(struct model_hf *hf)
{
    static const struct {
        const char *from, *key;
        uint32_t value;
    } usual[] = {{"max_position_embeddings", "context_length", 131072},
                 {"num_attention_heads", "attention.head_count", 8},
                 {"num_key_value_heads", "attention.head_count_kv", 4},
                 {"head_dim", "attention.key_length", 256},
                 {"head_dim", "attention.value_length", 256}};
    infer_status st = INFER_OK;
    if (!model_hf_get(hf, "head_dim"))
        hf->head_dim = 256; /* rotated whole, whatever the hidden size parts into */
    if (!model_hf_get(hf, "rms_norm_eps"))
        st = model_hf_set_f32(hf, "attention.layer_norm_rms_epsilon", 1e-6);
    for (size_t i = 0; i < BASE_COUNT(usual) && st == INFER_OK; i++)
        if (!model_hf_get(hf, usual[i].from))
            st = model_hf_set_u32(hf, usual[i].key, usual[i].value);
    return st;
}

static const struct model_hf_arch hf = {
    .classes = classes,
    .set_keys = set_keys,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
};

const struct model_arch model_arch_gemma3 = {
    .name = "gemma3",
    .title = "Gemma 3",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_GELU_TANH,
    .traits = MODEL_EMBD_SQRT | MODEL_WINDOW_ROPE,
    .defaults = {.window_period = 6, .rope_base = 1000000, .rope_base_window = 10000},
    .shape = shape,
};
