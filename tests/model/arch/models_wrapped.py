"""Text models of the kind that are published as a part of something that also sees."""

from models_dense import DECISIVE, NORM0, config
from models_recurrent import NEXT, NEXT_NORMS, STATE

NEXT35 = {k: v for k, v in NEXT.items()
          if k in ("full_attention_interval", "head_dim", "linear_conv_kernel_dim",
                   "linear_key_head_dim", "linear_num_key_heads", "linear_num_value_heads",
                   "linear_value_head_dim", "num_hidden_layers", "rms_norm_eps",
                   "attention_bias")}
NEXT35["layer_types"] = ["linear_attention"] * 3 + ["full_attention", "linear_attention"]
NEXT35["rope_parameters"] = {"mrope_interleaved": True, "mrope_section": [1, 1, 0],
                             "partial_rotary_factor": 0.25, "rope_theta": 10000000,
                             "rope_type": "default"}

GEMMA4 = {
    "attention_bias": False, "attention_k_eq_v": False, "final_logit_softcapping": 8.0,
    "global_head_dim": 32, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 32, "hidden_size_per_layer_input": 0, "layer_types":
        ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "num_global_key_value_heads": None, "num_hidden_layers": 6, "num_kv_shared_layers": 0,
    "pad_token_id": 287, "rms_norm_eps": 1e-6, "sliding_window": 12,
    "enable_moe_block": False, "moe_intermediate_size": None, "num_experts": None, "top_k_experts": None,
    "use_bidirectional_attention": None, "use_double_wide_mlp": False,
    "tie_word_embeddings": True, "vocab_size_per_layer_input": 288,
    "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0,
                           "rope_type": "proportional"},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}},
}
GEMMA4_SCALES = [
    (r"[qk]_norm\.weight$", (0.125, 0.5)), (r"layer_scalar$", (0.25, 0.75)),
    (r"per_expert_scale$|router\.scale$", (0.25, 1.0)),
    (r"router\.proj", (2.0, 0.0)), (r"embed_tokens_per_layer", (0.5, 0.0)),
    (r"embed_tokens", (0.3, 0.0)),
]
GEMMA4_NAMES = [("^model", "model.language_model")]


def gemma4(**keys):
    return {
        "config": config("gemma4_text", "Gemma4ForCausalLM", "hidden_act", "rope_theta",
                         **{**GEMMA4, **keys}),
        "wrapper": {"architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
                    "torch_dtype": "float32", "tie_word_embeddings": True},
        "rename": GEMMA4_NAMES, "scales": GEMMA4_SCALES}


def qwen35(inner):
    return {"architectures": ["Qwen3_5" + inner], "model_type": "qwen3_5", "image_token_id": 287,
            "tie_word_embeddings": False, "torch_dtype": "float32"}


WRAPPED = {
    "qwen3.5": {
        "config": config("qwen3_5_text", "Qwen3_5ForCausalLM", "rope_theta", **NEXT35),
        "wrapper": qwen35("ForConditionalGeneration"),
        "rename": [("^model", "model.language_model")],
        "scales": [*NEXT_NORMS, *STATE]},
    "qwen3.5-moe": {
        "config": config("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", "rope_theta",
                         "intermediate_size", **{
                             **NEXT35, "moe_intermediate_size": 40, "num_experts": 8,
                             "num_experts_per_tok": 3, "shared_expert_intermediate_size": 40}),
        "wrapper": {**qwen35("MoeForConditionalGeneration"), "model_type": "qwen3_5_moe"},
        "rename": [("^model", "model.language_model")], "fused": 8,
        "scales": [DECISIVE, *NEXT_NORMS, *STATE]},
    "gemma3-vision": {  # a text_config that leaves most to the defaults
        "config": {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
                   "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6,
                   "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 12,
                   "vocab_size": 288},
        "wrapper": {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
                    "bos_token_id": 285, "eos_token_id": [286, 287], "torch_dtype": "bfloat16",
                    "mm_tokens_per_image": 256},
        "rename": [("^", "language_model.")],
        "scales": [NORM0, ("embed", (0.5, 0.0))]},
    "llama4-vision": {
        "config": config(
            "llama4_text", "Llama4ForCausalLM", **{
                "attention_bias": False, "attention_chunk_size": 8192, "attn_scale": 0.1,
                "attn_temperature_tuning": True, "floor_scale": 8192, "for_llm_compression": False,
                "head_dim": 16, "interleave_moe_layer_step": 1, "intermediate_size": 56,
                "intermediate_size_mlp": 96, "no_rope_layers": [], "num_experts_per_tok": 1,
                "num_hidden_layers": 4, "num_local_experts": 4, "output_router_logits": False,
                "rope_theta": 500000.0, "rope_scaling": None, "use_qk_norm": False}),
        "wrapper": {"architectures": ["Llama4ForConditionalGeneration"], "model_type": "llama4",
                    "torch_dtype": "float32"},
        "rename": [("^", "language_model.")],
        "inputs_first": r"experts\.\w+_proj$", "scales": [DECISIVE]},
    "mistral3": {
        "config": config(
            "ministral3", "Ministral3ForCausalLM", "rope_theta", head_dim=16, sliding_window=None,
            max_position_embeddings=512,
            rope_parameters={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0,
                             "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0,
                             "original_max_position_embeddings": 32, "rope_theta": 1000000.0,
                             "rope_type": "yarn", "type": "yarn"}),
        "wrapper": {"architectures": ["Mistral3ForConditionalGeneration"],
                    "model_type": "mistral3", "dtype": "float32"},
        "rename": [("^", "language_model.")]},
    "gemma4-31b": gemma4(attention_k_eq_v=True, num_attention_heads=8, num_key_value_heads=4,
                         num_global_key_value_heads=2),
    "gemma4-e2b": gemma4(hidden_size_per_layer_input=16, num_kv_shared_layers=3,
                         num_hidden_layers=9, use_double_wide_mlp=True, num_key_value_heads=1,
                         layer_types=["sliding_attention", "sliding_attention",
                                      "full_attention"] * 3),
    "gemma4-wide": gemma4(  # global heads as wide as published ones
        global_head_dim=512, num_attention_heads=3, num_key_value_heads=1, num_hidden_layers=2,
        layer_types=["sliding_attention", "full_attention"]),
    "gemma4-26b": gemma4(attention_k_eq_v=True, num_global_key_value_heads=2,
                         num_attention_heads=4, num_key_value_heads=4, enable_moe_block=True,
                         moe_intermediate_size=24, num_experts=8, top_k_experts=3),
}
