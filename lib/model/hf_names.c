/* Tensor names that many models share (hf.h says how they are written). */
#include "model/hf.h"

static const struct model_hf_tensor shared[] = {
    /* ends */
    {"embed_tokens", "token_embd", 0, NULL},
    {"wte", "token_embd", 0, NULL},
    {"word_embeddings", "token_embd", 0, NULL},
    {"embed_in", "token_embd", 0, NULL},
    {"embeddings", "token_embd", 0, NULL},
    {"wpe", "position_embd", 0, NULL},
    {"norm", "output_norm", 0, NULL},
    {"ln_f", "output_norm", 0, NULL},
    {"final_layernorm", "output_norm", 0, NULL},
    {"final_layer_norm", "output_norm", 0, NULL},
    {"norm_f", "output_norm", 0, NULL},
    {"lm_head", "output", 0, NULL},
    {"embed_out", "output", 0, NULL},
    /* attention */
    {"layers.%d.input_layernorm", "blk.%d.attn_norm", 0, NULL},
    {"layers.%d.self_attn.q_proj", "blk.%d.attn_q", 0, NULL},
    {"layers.%d.self_attn.k_proj", "blk.%d.attn_k", 0, NULL},
    {"layers.%d.self_attn.v_proj", "blk.%d.attn_v", 0, NULL},
    {"layers.%d.self_attn.o_proj", "blk.%d.attn_output", 0, NULL},
    {"layers.%d.self_attn.dense", "blk.%d.attn_output", 0, NULL},
    {"layers.%d.self_attn.qkv_proj", "blk.%d.attn_qkv", 0, NULL},
    {"layers.%d.self_attn.q_norm", "blk.%d.attn_q_norm", 0, NULL},
    {"layers.%d.self_attn.k_norm", "blk.%d.attn_k_norm", 0, NULL},
    {"layers.%d.self_attn.sinks", "blk.%d.attn_sinks.weight", 0, NULL},
    {"layers.%d.self_attn.q_a_proj", "blk.%d.attn_q_a", 0, NULL},
    {"layers.%d.self_attn.q_a_layernorm", "blk.%d.attn_q_a_norm", 0, NULL},
    {"layers.%d.self_attn.q_b_proj", "blk.%d.attn_q_b", 0, NULL},
    {"layers.%d.self_attn.kv_a_proj_with_mqa", "blk.%d.attn_kv_a_mqa", 0, NULL},
    {"layers.%d.self_attn.kv_a_layernorm", "blk.%d.attn_kv_a_norm", 0, NULL},
    /* feed-forward */
    {"layers.%d.post_attention_layernorm", "blk.%d.ffn_norm", 0, NULL},
    {"layers.%d.pre_feedforward_layernorm", "blk.%d.ffn_norm", 0, NULL},
    {"layers.%d.post_feedforward_layernorm", "blk.%d.post_ffw_norm", 0, NULL},
    {"layers.%d.mlp.gate_proj", "blk.%d.ffn_gate", 0, NULL},
    {"layers.%d.mlp.up_proj", "blk.%d.ffn_up", 0, NULL},
    {"layers.%d.mlp.down_proj", "blk.%d.ffn_down", 0, NULL},
    {"layers.%d.mlp.gate_up_proj", "blk.%d.ffn_up", 0, NULL},
    {"layers.%d.mlp.fc1", "blk.%d.ffn_up", 0, NULL},
    {"layers.%d.mlp.fc2", "blk.%d.ffn_down", 0, NULL},
    /* experts */
    {"layers.%d.mlp.gate", "blk.%d.ffn_gate_inp", 0, NULL},
    {"layers.%d.mlp.router", "blk.%d.ffn_gate_inp", 0, NULL},
    {"layers.%d.mlp.gate.e_score_correction_bias", "blk.%d.exp_probs_b.bias", 0, NULL},
    {"layers.%d.mlp.experts.%d.gate_proj", "blk.%d.ffn_gate_exps", 0, NULL},
    {"layers.%d.mlp.experts.%d.up_proj", "blk.%d.ffn_up_exps", 0, NULL},
    {"layers.%d.mlp.experts.%d.down_proj", "blk.%d.ffn_down_exps", 0, NULL},
    {"layers.%d.mlp.shared_expert_gate", "blk.%d.ffn_gate_inp_shexp", MODEL_HF_SQUEEZE, NULL},
    {"layers.%d.mlp.shared_expert.gate_proj", "blk.%d.ffn_gate_shexp", 0, NULL},
    {"layers.%d.mlp.shared_expert.up_proj", "blk.%d.ffn_up_shexp", 0, NULL},
    {"layers.%d.mlp.shared_expert.down_proj", "blk.%d.ffn_down_shexp", 0, NULL},
    {"layers.%d.mlp.shared_experts.gate_proj", "blk.%d.ffn_gate_shexp", 0, NULL},
    {"layers.%d.mlp.shared_experts.up_proj", "blk.%d.ffn_up_shexp", 0, NULL},
    {"layers.%d.mlp.shared_experts.down_proj", "blk.%d.ffn_down_shexp", 0, NULL},
    {"layers.%d.block_sparse_moe.gate", "blk.%d.ffn_gate_inp", 0, NULL},
    {"layers.%d.block_sparse_moe.experts.%d.w1", "blk.%d.ffn_gate_exps", 0, NULL},
    {"layers.%d.block_sparse_moe.experts.%d.w2", "blk.%d.ffn_down_exps", 0, NULL},
    {"layers.%d.block_sparse_moe.experts.%d.w3", "blk.%d.ffn_up_exps", 0, NULL},
    /* tables that a reader computes: rotary frequencies, causal masks */
    {"rotary_emb.inv_freq", NULL, 0, NULL},
    {"layers.%d.self_attn.rotary_emb.inv_freq", NULL, 0, NULL},
    {"layers.%d.attention.rotary_emb.inv_freq", NULL, 0, NULL},
    {"layers.%d.attention.bias", NULL, 0, NULL},
    {"layers.%d.attention.masked_bias", NULL, 0, NULL},
    {"h.%d.attn.bias", NULL, 0, NULL},
    {"h.%d.attn.masked_bias", NULL, 0, NULL},
    /* scales of 8-bit caches */
    {"layers.%d.self_attn.k_scale", NULL, 0, NULL},
    {"layers.%d.self_attn.v_scale", NULL, 0, NULL},
    {"layers.%d.self_attn.k_proj.k_scale", NULL, 0, NULL},
    {"layers.%d.self_attn.v_proj.v_scale", NULL, 0, NULL},
    {"layers.%d.self_attn.attn.k_scale", NULL, 0, NULL},
    {"layers.%d.self_attn.attn.v_scale", NULL, 0, NULL},
};

const struct model_hf_tensor *model_hf_shared_names(size_t *n)
{
    *n = BASE_COUNT(shared);
    return shared;
}
