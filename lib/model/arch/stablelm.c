/* StableLM 2 (arXiv:2402.17834): layer norm, rotary positions over a part of each head, in the
 * 12B model attention beside the feed-forward and a norm of its own for each head. */
#include "base/error.h"
#include "model/arch.h"
#include "model/hf_parts.h"

#include <stdio.h>
#include <string.h>

static const struct model_tensor_row tensors[] = {
    MODEL_ROWS_ENDS,
    {MODEL_OUTPUT_NORM_BIAS, 0},
    {MODEL_ATTN_NORM, 0},
    {MODEL_ATTN_NORM_BIAS, 0},
    MODEL_ROWS_QKV,
    {MODEL_ATTN_Q_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_K_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_V_BIAS, MODEL_OPTIONAL},
    {MODEL_ATTN_Q_NORM, MODEL_OPTIONAL},
    {MODEL_ATTN_K_NORM, MODEL_OPTIONAL},
    {MODEL_FFN_NORM, MODEL_OPTIONAL},
    {MODEL_FFN_NORM_BIAS, MODEL_OPTIONAL},
    MODEL_ROWS_GATED_FFN,
};

static const char *const classes[] = {"StableLmForCausalLM", "StableLMEpochForCausalLM", NULL};
static const struct model_hf_tensor names[] = {
    {"layers.%d.self_attn.q_layernorm.norms.%d", NULL, 0, NULL}, /* finish() */
    {"layers.%d.self_attn.k_layernorm.norms.%d", NULL, 0, NULL},
};

/* The norms of a layer's heads, one vector each, become one matrix. */
static infer_status add_norms(struct model_hf *hf, int32_t layer, const char *kind, int32_t n)
{
    char part[96], name[GGUF_NAME_MAX + 1];
    struct model_hf_value first, head;
    float *all = NULL, *one;
    if (n < 1)
        return base_error(INFER_ERR_FORMAT, "config.json: \"qk_layernorm\" without heads");
    for (int32_t h = 0; h < n; h++) {
        snprintf(part, sizeof part, "self_attn.%s_layernorm.norms.%d.weight", kind, h);
        infer_status st = model_hf_layer_value(hf, layer, part, h ? &head : &first);
        if (st == INFER_OK && h && head.dims[0] != first.dims[0])
            st = base_error(INFER_ERR_FORMAT, "layer %d: norms of heads differ in length", layer);
        if (st == INFER_OK)
            st = model_hf_floats(hf, h ? &head : &first, &one);
        if (st != INFER_OK)
            return st;
        size_t dim = (size_t)first.dims[0];
        if (!all && !(all = gguf_draft_memory(hf->draft, dim * (size_t)n, sizeof *all)))
            return INFER_ERR_NO_MEMORY;
        memcpy(all + (size_t)h * dim, one, dim * sizeof *all);
    }
    snprintf(part, sizeof part, "attn_%s_norm.weight", kind);
    const uint64_t dims[] = {first.dims[0], (uint64_t)n};
    return gguf_draft_tensor(hf->draft, model_hf_block(name, layer, part), INFER_DTYPE_F32, 2, dims,
                             all, NULL);
}

static infer_status finish(struct model_hf *hf)
{
    int32_t normed = 0;
    infer_status st = INFER_OK;
    base_json_bool(model_hf_get(hf, "qk_layernorm"), &normed);
    for (int32_t i = 0; normed && i < hf->n_layers && st == INFER_OK; i++) {
        st = add_norms(hf, i, "q", hf->n_heads);
        if (st == INFER_OK)
            st = add_norms(hf, i, "k", hf->n_heads_kv);
    }
    return st;
}

static const struct model_hf_arch hf = {
    .classes = classes,
    .tensors = names,
    .n_tensors = BASE_COUNT(names),
    .finish = finish,
};

const struct model_arch model_arch_stablelm = {
    .name = "stablelm",
    .title = "StableLM 2",
    .hf = &hf,
    .tensors = tensors,
    .n_tensors = BASE_COUNT(tensors),
    .rope = MODEL_ROPE_HALVES,
    .norm = MODEL_NORM_LAYER,
    .act = MODEL_ACT_SILU,
};
