/* Every tensor that any architecture has, by what it is for: GGUF's name, its shape in sizes of
 * the model, and how it is held. A model's table says which of them it has (arch.h); forward
 * code finds them by role and never sees a name.
 *
 *   ROLE(role, name, k, n, flags)   k inputs (contiguous), n outputs; "%d" stands for the layer
 *
 * Global roles come first. Two roles may share a name: FFN_NORM_POST is what some writers call
 * the feed-forward's own norm, and becomes FFN_NORM; FFN_GATE_UP is a matrix of both. */
#ifndef MODEL_ROLES_H
#define MODEL_ROLES_H

#define MODEL_GLOBAL_ROLES(ROLE)                                                                   \
    ROLE(TOKEN_EMBD, "token_embd.weight", EMBD, VOCAB, 0)                                          \
    ROLE(POS_EMBD, "position_embd.weight", EMBD, CONTEXT, 0)                                       \
    ROLE(TYPE_EMBD, "token_types.weight", EMBD, ANY, MODEL_VECTOR)                                 \
    ROLE(EMBD_NORM, "token_embd_norm.weight", EMBD, NONE, MODEL_VECTOR)                            \
    ROLE(EMBD_NORM_BIAS, "token_embd_norm.bias", EMBD, NONE, MODEL_VECTOR)                         \
    ROLE(CLS, "cls.weight", EMBD, EMBD, 0)                                                         \
    ROLE(CLS_BIAS, "cls.bias", EMBD, NONE, MODEL_VECTOR)                                           \
    ROLE(CLS_NORM, "cls.norm.weight", EMBD, NONE, MODEL_VECTOR)                                    \
    ROLE(CLS_NORM_BIAS, "cls.norm.bias", EMBD, NONE, MODEL_VECTOR)                                 \
    ROLE(CLS_OUT, "cls.output.weight", EMBD, ANY, 0)                                               \
    ROLE(CLS_OUT_BIAS, "cls.output.bias", ANY, NONE, MODEL_VECTOR)                                 \
    ROLE(OUTPUT_NORM, "output_norm.weight", EMBD, NONE, MODEL_VECTOR)                              \
    ROLE(OUTPUT_NORM_BIAS, "output_norm.bias", EMBD, NONE, MODEL_VECTOR)                           \
    ROLE(OUTPUT, "output.weight", EMBD, VOCAB, 0)                                                  \
    ROLE(OUTPUT_BIAS, "output.bias", VOCAB, NONE, MODEL_VECTOR)                                    \
    ROLE(INPUT_EMBD, "per_layer_token_embd.weight", INPUTS, VOCAB, 0)                              \
    ROLE(INPUT_PROJ, "per_layer_model_proj.weight", EMBD, INPUTS, 0)                               \
    ROLE(INPUT_NORM, "per_layer_proj_norm.weight", INPUT, NONE, MODEL_VECTOR)                      \
    ROLE(ROPE_FREQS, "rope_freqs.weight", PAIRS, NONE, MODEL_VECTOR)                               \
    ROLE(ROPE_LONG, "rope_factors_long.weight", PAIRS, NONE, MODEL_VECTOR)                         \
    ROLE(ROPE_SHORT, "rope_factors_short.weight", PAIRS, NONE, MODEL_VECTOR)

#define MODEL_ATTN_ROLES(ROLE)                                                                     \
    ROLE(ATTN_NORM, "blk.%d.attn_norm.weight", EMBD, NONE, MODEL_VECTOR)                           \
    ROLE(ATTN_NORM_BIAS, "blk.%d.attn_norm.bias", EMBD, NONE, MODEL_VECTOR)                        \
    ROLE(ATTN_NORM_2, "blk.%d.attn_norm_2.weight", EMBD, NONE, MODEL_VECTOR)                       \
    ROLE(ATTN_NORM_2_BIAS, "blk.%d.attn_norm_2.bias", EMBD, NONE, MODEL_VECTOR)                    \
    ROLE(ATTN_QKV, "blk.%d.attn_qkv.weight", EMBD, QKV, 0)                                         \
    ROLE(ATTN_QKV_BIAS, "blk.%d.attn_qkv.bias", QKV, NONE, MODEL_VECTOR)                           \
    ROLE(ATTN_Q, "blk.%d.attn_q.weight", EMBD, Q_GATE, 0)                                          \
    ROLE(ATTN_Q_BIAS, "blk.%d.attn_q.bias", Q_GATE, NONE, MODEL_VECTOR)                            \
    ROLE(ATTN_K, "blk.%d.attn_k.weight", EMBD, K, 0)                                               \
    ROLE(ATTN_K_BIAS, "blk.%d.attn_k.bias", K, NONE, MODEL_VECTOR)                                 \
    ROLE(ATTN_V, "blk.%d.attn_v.weight", EMBD, V, 0)                                               \
    ROLE(ATTN_V_BIAS, "blk.%d.attn_v.bias", V, NONE, MODEL_VECTOR)                                 \
    ROLE(ATTN_Q_NORM, "blk.%d.attn_q_norm.weight", HEAD, Q, MODEL_VECTOR | MODEL_HEADWISE)         \
    ROLE(ATTN_K_NORM, "blk.%d.attn_k_norm.weight", HEAD, K, MODEL_VECTOR | MODEL_HEADWISE)         \
    ROLE(ATTN_SINKS, "blk.%d.attn_sinks.weight", HEADS, NONE, MODEL_VECTOR)                        \
    ROLE(ATTN_OUT, "blk.%d.attn_output.weight", ATTN, EMBD, 0)                                     \
    ROLE(ATTN_OUT_BIAS, "blk.%d.attn_output.bias", EMBD, NONE, MODEL_VECTOR)                       \
    ROLE(ATTN_OUT_NORM, "blk.%d.attn_output_norm.weight", EMBD, NONE, MODEL_VECTOR)                \
    ROLE(ATTN_OUT_NORM_BIAS, "blk.%d.attn_output_norm.bias", EMBD, NONE, MODEL_VECTOR)             \
    ROLE(ATTN_POST_NORM, "blk.%d.post_attention_norm.weight", EMBD, NONE, MODEL_VECTOR)            \
    ROLE(ATTN_Q_A, "blk.%d.attn_q_a.weight", EMBD, Q_LORA, 0)                                      \
    ROLE(ATTN_Q_A_NORM, "blk.%d.attn_q_a_norm.weight", Q_LORA, NONE, MODEL_VECTOR)                 \
    ROLE(ATTN_Q_B, "blk.%d.attn_q_b.weight", Q_LORA, Q, 0)                                         \
    ROLE(ATTN_KV_A, "blk.%d.attn_kv_a_mqa.weight", EMBD, LATENT, 0)                                \
    ROLE(ATTN_KV_A_NORM, "blk.%d.attn_kv_a_norm.weight", KV_LORA, NONE, MODEL_VECTOR)              \
    ROLE(ATTN_K_B, "blk.%d.attn_k_b.weight", NOPE, KV_LORA, MODEL_PER_HEAD)                        \
    ROLE(ATTN_V_B, "blk.%d.attn_v_b.weight", KV_LORA, HEAD_V, MODEL_PER_HEAD)

#define MODEL_FFN_ROLES(ROLE)                                                                      \
    ROLE(FFN_NORM, "blk.%d.ffn_norm.weight", EMBD, NONE, MODEL_VECTOR)                             \
    ROLE(FFN_NORM_POST, "blk.%d.post_attention_norm.weight", EMBD, NONE, MODEL_VECTOR)             \
    ROLE(FFN_NORM_BIAS, "blk.%d.ffn_norm.bias", EMBD, NONE, MODEL_VECTOR)                          \
    ROLE(LAYER_GATE, "blk.%d.inp_gate.weight", EMBD, INPUT, 0)                                     \
    ROLE(LAYER_PROJ, "blk.%d.proj.weight", INPUT, EMBD, 0)                                         \
    ROLE(LAYER_NORM, "blk.%d.post_norm.weight", EMBD, NONE, MODEL_VECTOR)                          \
    ROLE(LAYER_SCALE, "blk.%d.layer_output_scale.weight", NONE, NONE, MODEL_VECTOR)                \
    ROLE(FFN_GATE_UP, "blk.%d.ffn_up.weight", EMBD, FF_TWICE, 0)                                   \
    ROLE(FFN_GATE, "blk.%d.ffn_gate.weight", EMBD, FF, 0)                                          \
    ROLE(FFN_GATE_BIAS, "blk.%d.ffn_gate.bias", FF, NONE, MODEL_VECTOR)                            \
    ROLE(FFN_UP, "blk.%d.ffn_up.weight", EMBD, FF, 0)                                              \
    ROLE(FFN_UP_BIAS, "blk.%d.ffn_up.bias", FF, NONE, MODEL_VECTOR)                                \
    ROLE(FFN_DOWN, "blk.%d.ffn_down.weight", FF, EMBD, 0)                                          \
    ROLE(FFN_DOWN_BIAS, "blk.%d.ffn_down.bias", EMBD, NONE, MODEL_VECTOR)                          \
    ROLE(LAYER_OUT_NORM, "blk.%d.layer_output_norm.weight", EMBD, NONE, MODEL_VECTOR)              \
    ROLE(LAYER_OUT_NORM_BIAS, "blk.%d.layer_output_norm.bias", EMBD, NONE, MODEL_VECTOR)           \
    ROLE(FFN_POST_NORM, "blk.%d.post_ffw_norm.weight", EMBD, NONE, MODEL_VECTOR)

#define MODEL_MOE_ROLES(ROLE)                                                                      \
    ROLE(ROUTER, "blk.%d.ffn_gate_inp.weight", EMBD, EXPERTS, 0)                                   \
    ROLE(ROUTER_NORM, "blk.%d.ffn_gate_inp.scale", EMBD, NONE, MODEL_VECTOR)                       \
    ROLE(ROUTER_BIAS, "blk.%d.ffn_gate_inp.bias", EXPERTS, NONE, MODEL_VECTOR)                     \
    ROLE(ROUTER_CORRECTION, "blk.%d.exp_probs_b.bias", EXPERTS, NONE, MODEL_VECTOR)                \
    ROLE(EXPERT_GATE_UP, "blk.%d.ffn_gate_up_exps.weight", EMBD, FF_EXP_TWICE, MODEL_PER_EXPERT)   \
    ROLE(EXPERT_GATE, "blk.%d.ffn_gate_exps.weight", EMBD, FF_EXP, MODEL_PER_EXPERT)               \
    ROLE(EXPERT_GATE_BIAS, "blk.%d.ffn_gate_exps.bias", FF_EXP, EXPERTS, MODEL_VECTOR)             \
    ROLE(EXPERT_UP, "blk.%d.ffn_up_exps.weight", EMBD, FF_EXP, MODEL_PER_EXPERT)                   \
    ROLE(EXPERT_UP_BIAS, "blk.%d.ffn_up_exps.bias", FF_EXP, EXPERTS, MODEL_VECTOR)                 \
    ROLE(EXPERT_DOWN, "blk.%d.ffn_down_exps.weight", FF_EXP, EMBD, MODEL_PER_EXPERT)               \
    ROLE(EXPERT_DOWN_BIAS, "blk.%d.ffn_down_exps.bias", EMBD, EXPERTS, MODEL_VECTOR)               \
    ROLE(EXPERT_NORM, "blk.%d.pre_ffw_norm_2.weight", EMBD, NONE, MODEL_VECTOR)                    \
    ROLE(EXPERT_POST_NORM, "blk.%d.post_ffw_norm_2.weight", EMBD, NONE, MODEL_VECTOR)              \
    ROLE(DENSE_POST_NORM, "blk.%d.post_ffw_norm_1.weight", EMBD, NONE, MODEL_VECTOR)               \
    ROLE(SHARED_ROUTER, "blk.%d.ffn_gate_inp_shexp.weight", EMBD, NONE, MODEL_VECTOR)              \
    ROLE(SHARED_GATE, "blk.%d.ffn_gate_shexp.weight", EMBD, FF_SHARED, 0)                          \
    ROLE(SHARED_UP, "blk.%d.ffn_up_shexp.weight", EMBD, FF_SHARED, 0)                              \
    ROLE(SHARED_DOWN, "blk.%d.ffn_down_shexp.weight", FF_SHARED, EMBD, 0)

/* Recurrent layers: those of Mamba 2, then what the gated delta rule has instead. */
#define MODEL_SSM_ROLES(ROLE)                                                                      \
    ROLE(SSM_IN, "blk.%d.ssm_in.weight", EMBD, SSM_IN, 0)                                          \
    ROLE(SSM_CONV, "blk.%d.ssm_conv1d.weight", SSM_WIDTH, SSM_CHANNELS, MODEL_VECTOR)              \
    ROLE(SSM_CONV_BIAS, "blk.%d.ssm_conv1d.bias", SSM_CHANNELS, NONE, MODEL_VECTOR)                \
    ROLE(SSM_DT_BIAS, "blk.%d.ssm_dt.bias", SSM_HEADS, NONE, MODEL_VECTOR)                         \
    ROLE(SSM_A, "blk.%d.ssm_a", NONE, SSM_HEADS, MODEL_VECTOR)                                     \
    ROLE(SSM_D, "blk.%d.ssm_d", NONE, SSM_HEADS, MODEL_VECTOR)                                     \
    ROLE(SSM_NORM, "blk.%d.ssm_norm.weight", SSM_GROUP, SSM_GROUPS, MODEL_VECTOR)                  \
    ROLE(SSM_OUT, "blk.%d.ssm_out.weight", SSM_INNER, EMBD, 0)                                     \
    ROLE(DELTA_QKVZ, "blk.%d.ssm_in.weight", EMBD, DELTA_QKVZ, 0)                                  \
    ROLE(DELTA_QKV, "blk.%d.attn_qkv.weight", EMBD, SSM_CHANNELS, 0)                               \
    ROLE(DELTA_Z, "blk.%d.attn_gate.weight", EMBD, SSM_INNER, 0)                                   \
    ROLE(DELTA_BETA_ALPHA, "blk.%d.ssm_ba.weight", EMBD, SSM_HEADS_TWICE, 0)                       \
    ROLE(DELTA_BETA, "blk.%d.ssm_beta.weight", EMBD, SSM_HEADS, 0)                                 \
    ROLE(DELTA_ALPHA, "blk.%d.ssm_alpha.weight", EMBD, SSM_HEADS, 0)                               \
    ROLE(DELTA_A, "blk.%d.ssm_a", SSM_HEADS, NONE, MODEL_VECTOR)                                   \
    ROLE(DELTA_NORM, "blk.%d.ssm_norm.weight", SSM_HEAD, NONE, MODEL_VECTOR)

#define MODEL_LAYER_ROLES(ROLE)                                                                    \
    MODEL_ATTN_ROLES(ROLE) MODEL_FFN_ROLES(ROLE) MODEL_MOE_ROLES(ROLE) MODEL_SSM_ROLES(ROLE)

#endif
