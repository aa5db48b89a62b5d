"""Mixtures of experts, and what comes with them: latent attention, sinks, chunks."""

from models_dense import DECISIVE, config

DEEPSEEK = {
    "attention_bias": False, "first_k_dense_replace": 1, "kv_lora_rank": 24, "head_dim": 8,
    "moe_intermediate_size": 40, "moe_layer_freq": 1, "n_routed_experts": 8,
    "n_shared_experts": 2, "num_experts_per_tok": 3, "num_key_value_heads": 4,
    "pretraining_tp": 1, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "rms_norm_eps": 1e-6,
    "v_head_dim": 12,
}
YARN = {"beta_fast": 32, "beta_slow": 1, "factor": 8, "original_max_position_embeddings": 32,
        "type": "yarn"}
CORRECTION = (r"e_score_correction_bias$", (0.25, 0.0))

MOE = {
    "mixtral": {
        "config": config(
            "mixtral", "MixtralForCausalLM", num_experts_per_tok=2, num_local_experts=4,
            output_router_logits=False, router_aux_loss_coef=0.02, sliding_window=None,
            rope_theta=1e6),
        "scales": [DECISIVE]},
    "qwen2moe": {
        "config": config(
            "qwen2_moe", "Qwen2MoeForCausalLM", decoder_sparse_step=1, max_window_layers=3,
            mlp_only_layers=[], moe_intermediate_size=40, norm_topk_prob=False, num_experts=8,
            num_experts_per_tok=3, output_router_logits=False, rms_norm_eps=1e-6,
            rope_theta=1e6, router_aux_loss_coef=0.001, shared_expert_intermediate_size=72,
            sliding_window=32, use_sliding_window=False),
        "scales": [DECISIVE]},
    "qwen3moe": {
        "config": config(
            "qwen3_moe", "Qwen3MoeForCausalLM", attention_bias=False, decoder_sparse_step=1,
            head_dim=24, max_window_layers=3, mlp_only_layers=[], moe_intermediate_size=40,
            norm_topk_prob=True, num_experts=8, num_experts_per_tok=3,
            output_router_logits=False, rms_norm_eps=1e-6, rope_scaling=None, rope_theta=1e6,
            router_aux_loss_coef=0.001, sliding_window=None, use_sliding_window=False),
        "scales": [DECISIVE]},
    "qwen3moe-plain": {  # weights of the chosen experts are not made to sum to one
        "config": config(
            "qwen3_moe", "Qwen3MoeForCausalLM", attention_bias=False, decoder_sparse_step=1,
            head_dim=16, mlp_only_layers=[], moe_intermediate_size=40, norm_topk_prob=False,
            num_experts=8, num_experts_per_tok=2, rms_norm_eps=1e-6, rope_theta=1e6,
            tie_word_embeddings=True),
        "scales": [DECISIVE]},
    "olmoe": {
        "config": config(
            "olmoe", "OlmoeForCausalLM", attention_bias=False, clip_qkv=None,
            norm_topk_prob=False, num_experts=8, num_experts_per_tok=3, rope_scaling=None,
            num_key_value_heads=4, intermediate_size=40, output_router_logits=False, router_aux_loss_coef=0.01),
        "scales": [DECISIVE]},
    "gpt-oss": {
        "config": config(
            "gpt_oss", "GptOssForCausalLM", attention_bias=True, experts_per_token=2,
            head_dim=16, initial_context_length=32, intermediate_size=64,
            layer_types=["sliding_attention", "full_attention"] * 2, num_experts_per_tok=2,
            num_hidden_layers=4, num_local_experts=4, output_router_logits=False,
            rope_scaling={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0,
                          "original_max_position_embeddings": 32, "rope_type": "yarn",
                          "truncate": False},
            rope_theta=150000, router_aux_loss_coef=0.9, sliding_window=12, swiglu_limit=7.0),
        "inputs_first": r"experts\.\w+_proj$",
        # wide enough that the limit of 7 cuts
        "scales": [DECISIVE, (r"sinks$", (1.0, 0.5)), (r"gate_up_proj$", (1.0, 0.0)),
                   (r"experts.down_proj$", (0.05, 0.0))]},
    "gpt-oss-truncated": {  # whole numbers bound the ramp of YaRN, as llama.cpp has it
        "config": config(
            "gpt_oss", "GptOssForCausalLM", attention_bias=True, experts_per_token=2,
            head_dim=16, initial_context_length=32, intermediate_size=64,
            layer_types=["sliding_attention", "full_attention"] * 2, num_experts_per_tok=2,
            num_hidden_layers=4, num_local_experts=4, output_router_logits=False,
            rope_scaling={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0,
                          "original_max_position_embeddings": 32, "rope_type": "yarn",
                          "truncate": True},
            rope_theta=150000, router_aux_loss_coef=0.9, sliding_window=12, swiglu_limit=7.0),
        "inputs_first": r"experts\.\w+_proj$",
        "scales": [DECISIVE, (r"sinks$", (1.0, 0.5)), (r"gate_up_proj$", (1.0, 0.0)),
                   (r"experts.down_proj$", (0.05, 0.0))]},
    "deepseek-v2": {  # Lite: no compressed query, greedy choice
        "config": config("deepseek_v2", "DeepseekV2ForCausalLM", **{
            **DEEPSEEK, "aux_loss_alpha": 0.001, "n_group": 1, "norm_topk_prob": False,
            "q_lora_rank": None, "routed_scaling_factor": 1.0, "scoring_func": "softmax",
            "rope_scaling": {**YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
            "seq_aux": True, "topk_group": 1, "topk_method": "greedy"}),
        "scales": [DECISIVE]},
    "deepseek-v2-groups": {
        "config": config("deepseek_v2", "DeepseekV2ForCausalLM", **{
            **DEEPSEEK, "aux_loss_alpha": 0.001, "n_group": 4, "norm_topk_prob": False,
            "q_lora_rank": 40, "routed_scaling_factor": 4.0, "scoring_func": "softmax",
            "rope_scaling": None, "num_experts_per_tok": 2,
            "seq_aux": True, "topk_group": 2, "topk_method": "group_limited_greedy"}),
        "scales": [DECISIVE]},
    "deepseek-wide": {  # latents as wide as published ones, and many heads, as cards want them
        "config": config("deepseek_v2", "DeepseekV2ForCausalLM", **{
            **DEEPSEEK, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "head_dim": 64,
            "hidden_size": 80, "num_attention_heads": 20, "num_key_value_heads": 20,
            "num_hidden_layers": 1, "first_k_dense_replace": 0, "n_routed_experts": 4,
            "num_experts_per_tok": 2, "q_lora_rank": None, "routed_scaling_factor": 1.0,
            "topk_method": "greedy", "n_group": None, "topk_group": None, "aux_loss_alpha": 0.001, "seq_aux": True,
            "norm_topk_prob": False, "rope_scaling": None, "scoring_func": "softmax"}),
        "scales": [DECISIVE]},
    "deepseek-v3": {
        "config": config("deepseek_v3", "DeepseekV3ForCausalLM", **{
            **DEEPSEEK, "n_group": 4, "n_shared_experts": 1, "norm_topk_prob": True,
            "num_nextn_predict_layers": 0, "q_lora_rank": 40, "routed_scaling_factor": 2.5,
            "rope_scaling": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
            "scoring_func": "sigmoid", "topk_group": 2, "topk_method": "noaux_tc"}),
        "scales": [DECISIVE, CORRECTION]},
    "glm4moe": {
        "config": config(
            "glm4_moe", "Glm4MoeForCausalLM", attention_bias=True, first_k_dense_replace=1,
            head_dim=16, moe_intermediate_size=40, n_group=1, n_routed_experts=8,
            n_shared_experts=1, norm_topk_prob=True, num_experts_per_tok=3,
            num_nextn_predict_layers=0, partial_rotary_factor=0.5, rope_scaling=None,
            rope_theta=1000000, routed_scaling_factor=2.5, topk_group=1, use_qk_norm=True),
        "scales": [DECISIVE, CORRECTION]},
    "granitemoe": {
        "config": config(
            "granitemoe", "GraniteMoeForCausalLM", attention_bias=False,
            attention_multiplier=0.125, embedding_multiplier=6.0, logits_scaling=4.0,
            num_experts_per_tok=3, num_local_experts=8, intermediate_size=40,
            residual_multiplier=0.4, rope_scaling=None, tie_word_embeddings=True,
            output_router_logits=False),
        "scales": [(r"router", (0.25, 0.0)), ("embed", (0.125, 0.0)),
                   ("o_proj|output_linear", (0.75, 0.0))]},
    "llama4": {
        "config": config(
            "llama4_text", "Llama4ForCausalLM", **{
                "attention_bias": False, "attention_chunk_size": 8192, "attn_scale": 0.1,
                "attn_temperature_tuning": True, "floor_scale": 8192, "for_llm_compression": False,
                "head_dim": 16, "interleave_moe_layer_step": 2, "intermediate_size": 56,
                "intermediate_size_mlp": 96, "max_position_embeddings": 512,
                "no_rope_layers": [], "num_experts_per_tok": 1, "num_hidden_layers": 4,
                "num_local_experts": 4, "output_router_logits": False, "rope_theta": 500000.0,
                "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                 "original_max_position_embeddings": 32, "rope_type": "llama3"},
                "router_aux_loss_coef": 0.001, "use_qk_norm": True}),
        "inputs_first": r"experts\.\w+_proj$", "scales": [DECISIVE]},
    "llama4-chunks": {  # chunks and tempered attention within the few tokens
        "config": config(
            "llama4_text", "Llama4ForCausalLM", **{
                "attention_bias": False, "attention_chunk_size": 12, "attn_scale": 0.1,
                "attn_temperature_tuning": True, "floor_scale": 10, "for_llm_compression": False,
                "head_dim": 16, "interleave_moe_layer_step": 2, "intermediate_size": 56,
                "intermediate_size_mlp": 96, "max_position_embeddings": 512,
                "no_rope_layers": [], "num_experts_per_tok": 1, "num_hidden_layers": 4,
                "num_local_experts": 4, "output_router_logits": False, "rope_theta": 500000.0,
                "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                 "original_max_position_embeddings": 32, "rope_type": "llama3"},
                "router_aux_loss_coef": 0.001, "use_qk_norm": True}),
        "inputs_first": r"experts\.\w+_proj$", "scales": [DECISIVE]},
}
