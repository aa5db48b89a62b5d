/* Sizes of single layers of Gemma 4. */
#include "model/hf_gemma4.h"

#include "base/error.h"
#include "model/hf_parts.h"

#define MAX_LAYERS 1024 /* as hf.c holds it */

infer_status model_hf_gemma4_keys(struct model_hf *hf)
{
    int32_t kv[MAX_LAYERS], ff[MAX_LAYERS], equal = 0, wide = 0, experts = 0;
    int64_t window = model_hf_int(hf, "head_dim", 256), dim = 0;
    int64_t full = model_hf_int(hf, "global_head_dim", 512), full_kv = hf->n_heads_kv;
    int64_t n_ff = model_hf_int(hf, "intermediate_size", 0);
    int64_t shared = model_hf_int(hf, "num_kv_shared_layers", 0);
    base_json_bool(model_hf_get(hf, "enable_moe_block"), &experts);
    base_json_bool(model_hf_get(hf, "use_double_wide_mlp"), &wide);
    if (base_json_bool(model_hf_get(hf, "attention_k_eq_v"), &equal) && equal)
        full_kv = model_hf_int(hf, "num_global_key_value_heads", full_kv);
    for (int32_t i = 0; i < hf->n_layers; i++) {
        int is_full = model_hf_layer_is(hf, i, "full_attention");
        int64_t own =
            model_hf_layer_int(hf, i, "num_key_value_heads", is_full ? full_kv : hf->n_heads_kv);
        if (is_full)
            dim = model_hf_layer_int(hf, i, "head_dim", full);
        kv[i] = (int32_t)BASE_MIN(BASE_MAX(own, 0), hf->n_heads);
        ff[i] = (int32_t)(BASE_MIN(BASE_MAX(n_ff, 0), INT32_MAX / 2) *
                          (wide && shared >= hf->n_layers - i ? 2 : 1));
    }
    if (dim < 1 || dim > 65536 || window < 1 || window > 65536)
        return base_error(INFER_ERR_FORMAT,
                          "config.json: \"layer_types\" with heads of %lld elements, and of %lld "
                          "with a window",
                          (long long)dim, (long long)window);
    hf->head_dim = (int32_t)dim;
    infer_status st = model_hf_set_i32s(hf, "attention.head_count_kv", kv, (size_t)hf->n_layers);
    if (st == INFER_OK && wide)
        st = model_hf_set_i32s(hf, "feed_forward_length", ff, (size_t)hf->n_layers);
    if (st == INFER_OK)
        st = model_hf_set_u32(hf, "attention.key_length", (uint32_t)dim);
    if (st == INFER_OK)
        st = model_hf_set_u32(hf, "attention.value_length", (uint32_t)dim);
    return st == INFER_OK && !experts ? model_hf_set_u32(hf, "expert_count", 0) : st;
}
