"""Layers with a state in place of keys and values, alone and between attention layers."""

from models_dense import DECISIVE, NORM0, config

# A state must neither die at once nor live for ever: A about -1 .. -4, dt about 0.1 .. 2.
STATE = [(r"A_log$", (0.7, 0.7)), (r"dt_bias$", (1.0, -1.0)), (r"\.D$", (0.5, 1.0)),
         (r"conv1d\.weight$", (0.6, 0.0))]

NEXT = {
    "decoder_sparse_step": 1, "full_attention_interval": 4, "head_dim": 16,
    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_num_key_heads": 2,
    "linear_num_value_heads": 4, "linear_value_head_dim": 24, "mlp_only_layers": [],
    "moe_intermediate_size": 40, "norm_topk_prob": True, "num_experts": 8,
    "num_experts_per_tok": 3, "num_hidden_layers": 5, "output_router_logits": False,
    "partial_rotary_factor": 0.25, "rms_norm_eps": 1e-6, "rope_theta": 10000000,
    "router_aux_loss_coef": 0.001, "shared_expert_intermediate_size": 40,
    "attention_bias": False, "rope_scaling": None,
}
# The gated norm of the linear layers multiplies by its weight, all others by one plus it.
NEXT_NORMS = [(r"linear_attn\.norm\.weight$", (0.25, 1.0)), NORM0]

GRANITE = {
    "attention_bias": False, "attention_multiplier": 0.125, "embedding_multiplier": 6.0,
    "logits_scaling": 4.0, "normalization_function": "rmsnorm", "position_embedding_type": "nope",
    "residual_multiplier": 0.4, "rope_scaling": None, "tie_word_embeddings": True,
    "mamba_chunk_size": 256, "mamba_conv_bias": True, "mamba_d_conv": 4, "mamba_d_head": 16,
    "mamba_d_state": 24, "mamba_expand": 2, "mamba_n_groups": 1, "mamba_n_heads": 8,
    "mamba_proj_bias": False, "shared_intermediate_size": 72, "output_router_logits": False,
    "router_aux_loss_coef": 0.01,
}
GRANITE_SCALES = [(r"router", (0.25, 0.0)), *STATE, ("embed", (0.125, 0.0)),
                  ("o_proj|output_linear|out_proj", (0.75, 0.0))]

RECURRENT = {
    "qwen3next": {
        "config": config("qwen3_next", "Qwen3NextForCausalLM", **NEXT),
        "scales": [DECISIVE, *NEXT_NORMS, *STATE]},
    "granite-hybrid": {
        "config": config("granitemoehybrid", "GraniteMoeHybridForCausalLM", **{
            **GRANITE, "intermediate_size": 40, "num_experts_per_tok": 3,
            "num_local_experts": 8, "num_hidden_layers": 4,
            "layer_types": ["mamba", "mamba", "attention", "mamba"]}),
        "scales": GRANITE_SCALES},
    "granite-hybrid-dense": {  # Granite 4 Micro's kind: attention with rotation, no experts
        "config": config("granitemoehybrid", "GraniteMoeHybridForCausalLM", **{
            **GRANITE, "num_experts_per_tok": 0, "num_local_experts": 0,
            "intermediate_size": 72, "position_embedding_type": "rope", "layer_types": ["attention"] * 3}),
        "scales": GRANITE_SCALES},
    "mamba2": {
        "config": {
            "architectures": ["Mamba2ForCausalLM"], "bos_token_id": 285, "chunk_size": 256,
            "conv_kernel": 4, "eos_token_id": 286, "expand": 2, "head_dim": 16,
            "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.1,
            "intermediate_size": 128, "layer_norm_epsilon": 1e-05, "model_type": "mamba2",
            "n_groups": 2, "norm_before_gate": False, "num_heads": 8, "num_hidden_layers": 3,
            "pad_token_id": 287, "rescale_prenorm_residual": False, "residual_in_fp32": True,
            "rms_norm": True, "state_size": 24, "tie_word_embeddings": False,
            "time_step_floor": 0.0001, "time_step_limit": [0.0, float("inf")],
            "time_step_max": 0.1, "time_step_min": 0.001, "time_step_rank": 4,
            "torch_dtype": "float32", "use_bias": False, "use_cache": True,
            "use_conv_bias": True, "vocab_size": 288},
        "scales": STATE},
}
