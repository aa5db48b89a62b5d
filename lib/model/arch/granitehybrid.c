/* Granite 4: Mamba 2 and a few layers of attention, mostly without positions. */
#include "base/error.h"
#include "model/arch.h"
#include "model/hf_parts.h"
#include "model/hf_recurrent.h"
#include "model/mamba.h"
#include "model/recurrent.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    MODEL_ROWS_QKV,
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_GATED_FFN,
    MODEL_ROWS_EXPERTS,
    {MODEL_SHARED_GATE, MODEL_OPTIONAL},
    {MODEL_SHARED_UP, MODEL_OPTIONAL},
    {MODEL_SHARED_DOWN, MODEL_OPTIONAL},
    MODEL_ROWS_MAMBA2,
};

/* In GGUF the layers that attend have KV heads, and models with positions a trained scaling. */
static infer_status set_keys(struct model_hf *hf)
{
    int32_t heads_kv[1024] = {0};
    struct base_view type;
    int64_t heads = 0, dim = 0;
    int rope = base_json_string(model_hf_get(hf, "position_embedding_type"), &type) &&
               base_view_equal(type, "rope");
    infer_status st = model_hf_size(hf, "mamba_n_heads", 0, 1 << 16, &heads);
    if (st == INFER_OK)
        st = model_hf_size(hf, "mamba_d_head", 0, 1 << 12, &dim);
    if (st == INFER_OK)
        st = model_hf_set_u32(hf, "ssm.inner_size", (uint32_t)(heads * dim));
    int typed = model_hf_get(hf, "layer_types") != NULL;
    for (int32_t i = 0; i < hf->n_layers && i < 1024; i++)
        heads_kv[i] = !typed || model_hf_layer_is(hf, i, "attention") ? hf->n_heads_kv : 0;
    if (st == INFER_OK)
        st = model_hf_set_i32s(hf, "attention.head_count_kv", heads_kv, (size_t)hf->n_layers);
    if (st == INFER_OK)
        st = model_hf_set_bool(hf, "rope.scaling.finetuned", rope);
    if (st == INFER_OK && !model_hf_int(hf, "num_local_experts", 0))
        st = model_hf_set_u32(hf, "feed_forward_length",
                              (uint32_t)model_hf_int(hf, "shared_intermediate_size", 0));
    return st;
}

static infer_status make_shared(struct model_hf *hf, const struct model_hf_value *value,
                                int32_t layer, const char *suffix)
{
    int experts = model_hf_int(hf, "num_local_experts", 0) > 0;
    BASE_UNUSED(suffix);
    return model_hf_add_halves(hf, value, layer,
                               experts ? "ffn_gate_shexp.weight" : "ffn_gate.weight",
                               experts ? "ffn_up_shexp.weight" : "ffn_up.weight");
}

static infer_status make_shared_down(struct model_hf *hf, const struct model_hf_value *value,
                                     int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1];
    int experts = model_hf_int(hf, "num_local_experts", 0) > 0;
    BASE_UNUSED(suffix);
    return model_hf_add(
        hf, model_hf_block(name, layer, experts ? "ffn_down_shexp.weight" : "ffn_down.weight"),
        value, 0);
}

static const char *const classes[] = {"GraniteMoeHybridForCausalLM", NULL};
static const struct model_hf_key keys[] = {
    {"intermediate_size", "expert_feed_forward_length", MODEL_HF_U32},
    {NULL, "attention.recurrent_layers", MODEL_HF_U32},
};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", MODEL_HF_PERMUTE_Q, NULL},
    {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", MODEL_HF_PERMUTE_K, NULL},
    {"layers.%d.block_sparse_moe.router.layer", "blk.%d.ffn_gate_inp", 0, NULL},
    {"layers.%d.block_sparse_moe.input_linear", NULL, 0, model_hf_make_gate_up_exps},
    {"layers.%d.block_sparse_moe.output_linear", "blk.%d.ffn_down_exps", 0, NULL},
    {"layers.%d.shared_mlp.input_linear", NULL, 0, make_shared},
    {"layers.%d.shared_mlp.output_linear", NULL, 0, make_shared_down},
    MODEL_HF_ROWS_MAMBA("mamba"),
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .keys = keys,
    .n_keys = BASE_COUNT(keys),
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = set_keys,
};

static infer_status shape(struct model_hparams *hp, const struct gguf_file *file)
{
    int32_t rope = 1, any = 0;
    gguf_get_bool(file, "granitehybrid.rope.scaling.finetuned", &rope);
    if (!rope)
        hp->n_rot = hp->n_rot_window = 0;
    for (int32_t i = 0; i < hp->n_layers; i++)
        any |= hp->layer_heads_kv && !hp->layer_heads_kv[i];
    if (!hp->layer_heads_kv)
        return base_error(INFER_ERR_FORMAT, "metadata key granitehybrid.attention.head_count_kv "
                                            "has no value for each layer");
    return any ? model_recurrent_check(hp, file) : INFER_OK;
}

const struct model_arch model_arch_granitehybrid = {
    .name = "granitehybrid",
    .title = "Granite 4",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
    .traits = MODEL_LOGIT_DIVIDE,
    .recurrent = model_mamba2,
    .defaults = {.gating = MODEL_GATING_TOPK_SOFTMAX},
    .shape = shape,
};
