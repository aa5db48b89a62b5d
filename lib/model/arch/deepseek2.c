/* DeepSeek V2 and V3 (arXiv:2405.04434, arXiv:2412.19437): latent attention, many small experts
 * beside shared ones. */
#include "base/error.h"
#include "model/arch.h"
#include "model/hf_parts.h"

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_ATTN_NORM, 0},
    {MODEL_ATTN_Q, MODEL_OPTIONAL}, /* either this, or compressed */
    {MODEL_ATTN_Q_A, MODEL_OPTIONAL},
    {MODEL_ATTN_Q_A_NORM, MODEL_OPTIONAL},
    {MODEL_ATTN_Q_B, MODEL_OPTIONAL},
    {MODEL_ATTN_KV_A, 0},
    {MODEL_ATTN_KV_A_NORM, 0},
    {MODEL_ATTN_K_B, 0},
    {MODEL_ATTN_V_B, 0},
    {MODEL_ATTN_OUT, 0},
    {MODEL_FFN_NORM, 0},
    MODEL_ROWS_GATED_FFN,
    MODEL_ROWS_EXPERTS,
    {MODEL_ROUTER_CORRECTION, MODEL_OPTIONAL},
    {MODEL_SHARED_GATE, 0},
    {MODEL_SHARED_UP, 0},
    {MODEL_SHARED_DOWN, 0},
};

/* Key and value matrices of all heads in one: they go to the two sides of attention
 * (model/latent.c), the keys' turned. */
static infer_status make_kv_b(struct model_hf *hf, const struct model_hf_value *value,
                              int32_t layer, const char *suffix)
{
    char name[GGUF_NAME_MAX + 1];
    uint64_t nope = (uint64_t)model_hf_int(hf, "qk_nope_head_dim", 0);
    uint64_t rows = value->dims[1] / (uint64_t)BASE_MAX(hf->n_heads, 1);
    struct model_hf_value heads = *value;
    BASE_UNUSED(suffix);
    if (value->n_dims != 2 || rows * (uint64_t)hf->n_heads != value->dims[1])
        return base_error(INFER_ERR_FORMAT, "tensor \"%.*s\" has %llu rows for %d heads",
                          (int)BASE_MIN(value->name.size, (size_t)128), value->name.data,
                          (unsigned long long)value->dims[1], hf->n_heads);
    heads.n_dims = 3; /* by head: nope rows of the key, then the value's */
    heads.dims[1] = rows;
    heads.dims[2] = (uint64_t)hf->n_heads;
    infer_status st = model_hf_add_turned_rows(hf, model_hf_block(name, layer, "attn_k_b.weight"),
                                               &heads, 0, nope);
    if (st != INFER_OK)
        return st;
    return model_hf_add_rows(hf, model_hf_block(name, layer, "attn_v_b.weight"), &heads, nope,
                             rows);
}

static infer_status set_keys(struct model_hf *hf)
{
    int64_t lora = 0, rot = 0, nope = 0, values = 0;
    const struct {
        const char *from;
        int64_t *to;
    } sizes[] = {{"kv_lora_rank", &lora},
                 {"qk_rope_head_dim", &rot},
                 {"qk_nope_head_dim", &nope},
                 {"v_head_dim", &values}};
    infer_status st = INFER_OK;
    for (size_t i = 0; i < BASE_COUNT(sizes) && st == INFER_OK; i++)
        st = model_hf_size(hf, sizes[i].from, 1, 1 << 16, sizes[i].to);
    const struct {
        const char *key;
        int64_t value;
    } keys[] = {{"attention.head_count_kv", 1},
                {"attention.key_length", lora + rot},
                {"attention.value_length", lora},
                {"attention.key_length_mla", nope + rot},
                {"attention.value_length_mla", values}};
    for (size_t i = 0; i < BASE_COUNT(keys) && st == INFER_OK; i++)
        st = model_hf_set_u32(hf, keys[i].key, (uint32_t)keys[i].value);
    /* V3 does not name its scores in the configuration that transformers writes. */
    if (st == INFER_OK && base_view_equal(model_hf_class(hf), "DeepseekV3ForCausalLM"))
        st = model_hf_set_u32(hf, "expert_gating_func", MODEL_GATING_SIGMOID);
    return st;
}

static const char *const classes[] = {"DeepseekV3ForCausalLM", "DeepseekV2ForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.kv_b_proj", NULL, 0, make_kv_b},
};
static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .set_keys = set_keys,
};

const struct model_arch model_arch_deepseek2 = {
    .name = "deepseek2",
    .title = "DeepSeek V2, V3, R1",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_PAIRS,
    .norm = MODEL_NORM_RMS,
    .act = MODEL_ACT_SILU,
};
