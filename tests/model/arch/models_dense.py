"""Dense transformers."""

COMMON = {
    "attention_dropout": 0.0, "bos_token_id": 285, "eos_token_id": 286, "hidden_act": "silu",
    "hidden_size": 64, "initializer_range": 0.02, "intermediate_size": 96,
    "max_position_embeddings": 256, "num_attention_heads": 4, "num_hidden_layers": 3,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "torch_dtype": "float32", "use_cache": True, "vocab_size": 288,
}

NORM0 = (r"norm.*\.weight$", (0.25, 0.0))  # the weight is added to one
DECISIVE = (r"(gate|router)\.weight$|router\.layer\.weight$|mlp\.router\.", (0.75, 0.0))


def config(model_type, cls, *without, **keys):
    base = {k: v for k, v in COMMON.items() if k not in without}
    return {"architectures": [cls], "model_type": model_type, **base, **keys}


LLAMA = {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1, "rope_scaling": None}

DENSE = {
    "llama": {"config": config("llama", "LlamaForCausalLM", **LLAMA)},
    "llama-rope3-tied": {"config": config(
        "llama", "LlamaForCausalLM", **{
            **LLAMA, "tie_word_embeddings": True, "head_dim": 16, "rope_theta": 500000.0,
            "max_position_embeddings": 512,
            "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                             "original_max_position_embeddings": 32, "rope_type": "llama3"}})},
    "llama-linear-bias": {"config": config(
        "llama", "LlamaForCausalLM", **{
            **LLAMA, "attention_bias": True, "mlp_bias": True,
            "rope_scaling": {"factor": 4.0, "type": "linear"}})},
    "llama-yarn": {"config": config(
        "llama", "LlamaForCausalLM", **{
            **LLAMA, "rope_scaling": {"factor": 8.0, "type": "yarn",
                                      "original_max_position_embeddings": 32}})},
    "llama-widehead": {"config": config(  # Mistral Nemo's kind: heads * head_dim is not hidden
        "llama", "LlamaForCausalLM", **{**LLAMA, "head_dim": 24, "num_key_value_heads": 1})},
    "qwen2": {"config": config(
        "qwen2", "Qwen2ForCausalLM", max_window_layers=3, sliding_window=32, rope_theta=1e6,
        use_sliding_window=False, rms_norm_eps=1e-6, tie_word_embeddings=True)},
    "qwen2-window": {"config": config(
        "qwen2", "Qwen2ForCausalLM", max_window_layers=1, sliding_window=12, rope_theta=1e6,
        use_sliding_window=True, rms_norm_eps=1e-6)},
    "qwen3": {"config": config(
        "qwen3", "Qwen3ForCausalLM", head_dim=24, max_window_layers=3, sliding_window=None,
        attention_bias=False, rope_theta=1e6, rope_scaling=None, use_sliding_window=False,
        rms_norm_eps=1e-6, tie_word_embeddings=True)},
    "mistral": {"config": config("mistral", "MistralForCausalLM", sliding_window=None)},
    "mistral-window": {"config": config("mistral", "MistralForCausalLM", sliding_window=12)},
    "ministral3": {"config": config(
        "ministral3", "Ministral3ForCausalLM", "rope_theta", head_dim=24, sliding_window=None,
        tie_word_embeddings=True, max_position_embeddings=512,
        rope_parameters={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 16.0,
                         "llama_4_scaling_beta": 0.1, "mscale": 1.0, "mscale_all_dim": 1.0,
                         "original_max_position_embeddings": 16, "rope_theta": 1000000.0,
                         "rope_type": "yarn", "type": "yarn"})},
    "gemma2": {
        "config": config(
            "gemma2", "Gemma2ForCausalLM", "hidden_act", "tie_word_embeddings",
            attention_bias=False, attn_logit_softcapping=3.0, final_logit_softcapping=8.0,
            head_dim=16, hidden_activation="gelu_pytorch_tanh", hidden_act="gelu_pytorch_tanh",
            pad_token_id=287, query_pre_attn_scalar=16, rms_norm_eps=1e-6, sliding_window=12,
            sliding_window_size=12, num_hidden_layers=4, cache_implementation="hybrid"),
        "scales": [NORM0, ("embed", (0.25, 0.0))]},
    "gemma3": {
        "config": config(
            "gemma3_text", "Gemma3ForCausalLM", "hidden_act", "tie_word_embeddings",
            attention_bias=False, attn_logit_softcapping=None, final_logit_softcapping=None,
            head_dim=16, hidden_activation="gelu_pytorch_tanh", hidden_size=32,
            num_key_value_heads=1, num_hidden_layers=7, pad_token_id=287,
            query_pre_attn_scalar=16, rms_norm_eps=1e-6, rope_local_base_freq=10000,
            rope_scaling=None, rope_theta=1000000, sliding_window=12, sliding_window_pattern=6),
        "scales": [NORM0, ("embed", (0.5, 0.0))]},
    "gemma3-linear": {
        "config": config(
            "gemma3_text", "Gemma3ForCausalLM", "hidden_act", "tie_word_embeddings",
            attention_bias=False, head_dim=16, hidden_activation="gelu_pytorch_tanh",
            hidden_size=32, num_hidden_layers=6, query_pre_attn_scalar=16, rms_norm_eps=1e-6,
            rope_local_base_freq=10000.0, rope_theta=1000000.0, sliding_window=8,
            rope_scaling={"factor": 8.0, "rope_type": "linear"}),
        "scales": [NORM0, ("embed", (0.5, 0.0))]},
    "phi3": {"config": config(
        "phi3", "Phi3ForCausalLM", embd_pdrop=0.0, resid_pdrop=0.0, rope_scaling=None,
        original_max_position_embeddings=256, pad_token_id=286, sliding_window=None)},
    "phi3-window": {"config": config(
        "phi3", "Phi3ForCausalLM", embd_pdrop=0.0, resid_pdrop=0.0, rope_scaling=None,
        original_max_position_embeddings=256, pad_token_id=286, sliding_window=12)},
    "phi3-longrope": {"config": config(  # as Phi-4-mini: partial rotary, tied
        "phi3", "Phi3ForCausalLM", embd_pdrop=0.0, resid_pdrop=0.0, partial_rotary_factor=0.75,
        original_max_position_embeddings=256, max_position_embeddings=2048,
        pad_token_id=286, sliding_window=2048, tie_word_embeddings=True,
        rope_scaling={"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.4, 1.7, 2.0],
                      "long_factor": [1.0, 1.5, 2.5, 5.0, 9.0, 20.0]})},
    "granite": {
        "config": config(
            "granite", "GraniteForCausalLM", attention_bias=False, attention_multiplier=0.125,
            embedding_multiplier=6.0, logits_scaling=4.0, mlp_bias=False,
            residual_multiplier=0.22, rope_scaling=None, tie_word_embeddings=True),
        "scales": [("embed", (0.125, 0.0)), ("o_proj|down_proj", (0.75, 0.0))]},
    "arcee": {"config": config(  # as AFM-4.5B
        "arcee", "ArceeForCausalLM", attention_bias=False, head_dim=16, hidden_act="relu2",
        max_position_embeddings=512, mlp_bias=False,
        rope_scaling={"beta_fast": 32.0, "beta_slow": 1.0, "factor": 20.0, "mscale": 1.0,
                      "original_max_position_embeddings": 16, "rope_type": "yarn"})},
    "ernie4_5": {"config": config(
        "ernie4_5", "Ernie4_5ForCausalLM", "attention_dropout", head_dim=24, pad_token_id=0,
        rope_scaling=None, rope_theta=500000.0, tie_word_embeddings=True, use_bias=False)},
    "seed_oss": {"config": config(
        "seed_oss", "SeedOssForCausalLM", attention_bias=True, attention_out_bias=False,
        head_dim=24, mlp_bias=False, pad_token_id=1, residual_dropout=0.1, rms_norm_eps=1e-6,
        rope_scaling={"rope_type": "default"}, rope_theta=10000000.0)},
    "olmo2": {"config": config(
        "olmo2", "Olmo2ForCausalLM", attention_bias=False, rms_norm_eps=1e-6, rope_scaling=None,
        rope_theta=500000)},
    "olmo3": {"config": config(
        "olmo3", "Olmo3ForCausalLM", attention_bias=False, rms_norm_eps=1e-6,
        rope_theta=500000, num_hidden_layers=4, sliding_window=12,
        rope_scaling={"attention_factor": 1.2079441541679836, "beta_fast": 32.0,
                      "beta_slow": 1.0, "factor": 8.0, "rope_type": "yarn",
                      "original_max_position_embeddings": 32},
        layer_types=["sliding_attention"] * 3 + ["full_attention"])},
    "gpt2": {
        "config": {
            "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": 0.1, "bos_token_id": 286, "embd_pdrop": 0.1, "eos_token_id": 286,
            "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
            "n_ctx": 64, "n_embd": 64, "n_head": 4, "n_layer": 3, "n_positions": 64,
            "resid_pdrop": 0.1, "summary_type": "cls_index", "vocab_size": 288},
        "rename": [("^transformer.", "")],  # the published file has bare names
        "inputs_first": r"c_attn|c_proj|c_fc", "scales": [("wpe", (0.5, 0.0))]},
    "gptneox": {
        "config": config(
            "gpt_neox", "GPTNeoXForCausalLM", "num_key_value_heads", "rms_norm_eps",
            "rope_theta", hidden_act="gelu", layer_norm_eps=1e-05, rotary_emb_base=10000,
            rotary_pct=0.25, use_parallel_residual=True),
        "rename": [("^lm_head", "embed_out")], "scales": [("embed_out", (0.25, 0.0))]},
    "gptneox-serial": {
        "config": config(
            "gpt_neox", "GPTNeoXForCausalLM", "num_key_value_heads", "rms_norm_eps",
            "rope_theta", hidden_act="gelu_fast", layer_norm_eps=1e-05, rotary_emb_base=10000,
            rotary_pct=1.0, use_parallel_residual=False),
        "rename": [("^lm_head", "embed_out")], "scales": [("embed_out", (0.25, 0.0))]},
    "falcon-7b": {"config": {
        "alibi": False, "apply_residual_connection_post_layernorm": False,
        "architectures": ["FalconForCausalLM"], "attention_dropout": 0.0, "bias": False,
        "bos_token_id": 286, "eos_token_id": 286, "hidden_dropout": 0.0, "hidden_size": 64,
        "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "falcon",
        "multi_query": True, "new_decoder_architecture": False, "num_attention_heads": 4,
        "num_hidden_layers": 3, "parallel_attn": True, "torch_dtype": "float32",
        "vocab_size": 288}},
    "falcon-40b": {"config": {
        "alibi": False, "apply_residual_connection_post_layernorm": False,
        "architectures": ["FalconForCausalLM"], "attention_dropout": 0.0, "bias": False,
        "bos_token_id": 286, "eos_token_id": 286, "hidden_dropout": 0.0, "hidden_size": 64,
        "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "falcon",
        "new_decoder_architecture": True, "num_attention_heads": 4, "num_hidden_layers": 3,
        "num_kv_heads": 2, "parallel_attn": True, "torch_dtype": "float32", "vocab_size": 288}},
    "stablelm": {"config": config(
        "stablelm", "StableLmForCausalLM", "rms_norm_eps", hidden_dropout=0.0,
        layer_norm_eps=1e-05, num_key_value_heads=4, partial_rotary_factor=0.25,
        qk_layernorm=False, use_parallel_residual=False, use_qkv_bias=True)},
    "stablelm-12b": {"config": config(  # parallel, a norm for each head
        "stablelm", "StableLmForCausalLM", "rms_norm_eps", hidden_dropout=0.0,
        layer_norm_eps=1e-05, partial_rotary_factor=0.5, qk_layernorm=True,
        use_parallel_residual=True, use_qkv_bias=False)},
    "starcoder2": {"config": config(
        "starcoder2", "Starcoder2ForCausalLM", "rms_norm_eps", embedding_dropout=0.0,
        hidden_act="gelu_pytorch_tanh", mlp_type="default", norm_epsilon=1e-05,
        norm_type="layer_norm", residual_dropout=0.0, sliding_window=4096,
        tie_word_embeddings=True, use_bias=True)},
    "starcoder2-window": {"config": config(
        "starcoder2", "Starcoder2ForCausalLM", "rms_norm_eps", embedding_dropout=0.0,
        hidden_act="gelu_pytorch_tanh", mlp_type="default", norm_epsilon=1e-05,
        norm_type="layer_norm", residual_dropout=0.0, sliding_window=12,
        tie_word_embeddings=False, use_bias=True)},
    "cohere": {"config": config(
        "cohere", "CohereForCausalLM", "rms_norm_eps", "tie_word_embeddings",
        attention_bias=False, layer_norm_eps=1e-05, logit_scale=0.0625, rope_theta=8000000.0,
        pad_token_id=287, use_qk_norm=False)},
    "cohere-qknorm": {"config": config(
        "cohere", "CohereForCausalLM", "rms_norm_eps", "tie_word_embeddings",
        attention_bias=False, layer_norm_eps=1e-05, logit_scale=0.8333, rope_theta=75000000.0,
        pad_token_id=287, use_qk_norm=True)},
    "cohere2": {"config": config(
        "cohere2", "Cohere2ForCausalLM", "rms_norm_eps", "tie_word_embeddings",
        attention_bias=False, layer_norm_eps=1e-05, logit_scale=0.25, rope_theta=50000,
        head_dim=16, num_hidden_layers=5, pad_token_id=287, sliding_window=12,
        sliding_window_pattern=4, rotary_pct=1.0, use_embedding_sharing=True,
        use_gated_activation=True, use_parallel_block=True, use_parallel_embedding=True,
        use_qk_norm=False)},
    "smollm3": {"config": config(
        "smollm3", "SmolLM3ForCausalLM", attention_bias=False, max_window_layers=5, mlp_bias=False,
        no_rope_layer_interval=4, no_rope_layers=[1, 1, 1, 0, 1], num_hidden_layers=5,
        pad_token_id=287, pretraining_tp=2, rms_norm_eps=1e-6, rope_scaling=None,
        rope_theta=5000000.0, sliding_window=None, tie_word_embeddings=True,
        use_sliding_window=False, layer_types=["full_attention"] * 5)},
    "glm4": {"config": config(
        "glm4", "Glm4ForCausalLM", attention_bias=True, head_dim=16, pad_token_id=287,
        partial_rotary_factor=0.5)},
}
