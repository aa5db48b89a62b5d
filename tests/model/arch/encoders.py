"""Encoders: what make_encoder.py makes of each. `rename` is as in models.py."""

BASE = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 80,
    "vocab_size": 288, "max_position_embeddings": 64, "torch_dtype": "float32",
}
BERT = {**BASE, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2,
        "pad_token_id": 0, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0,
        "position_embedding_type": "absolute"}
ROBERTA = {**BERT, "pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": 66,
           "layer_norm_eps": 1e-05}
MODERN = {**{k: v for k, v in BASE.items() if k != "max_position_embeddings"},
          "hidden_activation": "gelu", "norm_eps": 1e-05, "norm_bias": False,
          "local_attention": 8, "num_hidden_layers": 5, "max_position_embeddings": 128,
          "attention_bias": False, "mlp_bias": False, "decoder_bias": True, "pad_token_id": 2,
          "cls_token_id": 0, "sep_token_id": 1, "bos_token_id": 0, "eos_token_id": 1}


def labels(n):
    return {"id2label": {str(i): f"LABEL_{i}" for i in range(n)},
            "label2id": {f"LABEL_{i}": i for i in range(n)}}


def config(model_type, cls, base, **more):
    return {"architectures": [cls], "model_type": model_type, **base, **more}


ENCODERS = {
    "bert": {"config": config("bert", "BertModel", BERT)},
    "bert-gamma": {  # names of norms in older files
        "config": config("bert", "BertForMaskedLM", BERT), "model": "BertModel",
        "rename": [(r"^", "bert."), (r"LayerNorm\.weight$", "LayerNorm.gamma"),
                   (r"LayerNorm\.bias$", "LayerNorm.beta")]},
    "bert-reranker": {"config": config("bert", "BertForSequenceClassification", BERT, **labels(1))},
    "roberta-classifier": {"config": config("roberta", "RobertaForSequenceClassification", ROBERTA,
                                            **labels(3))},
    "xlm-roberta": {"config": config("xlm-roberta", "XLMRobertaModel", ROBERTA)},
    "distilbert": {"config": {
        "architectures": ["DistilBertModel"], "model_type": "distilbert", "dim": 48, "n_layers": 2,
        "n_heads": 4, "hidden_dim": 80, "activation": "gelu", "vocab_size": 288,
        "max_position_embeddings": 64, "pad_token_id": 0, "sinusoidal_pos_embds": False,
        "dropout": 0.0, "attention_dropout": 0.0, "torch_dtype": "float32"}},
    "nomic": {"config": config("nomic_bert", "NomicBertModel", {**BERT, "hidden_act": "silu"},
                               rope_parameters={"rope_theta": 1000.0, "rope_type": "default"})},
    "nomic-authors": {  # names and keys of the authors' own code
        "config": config("nomic_bert", "NomicBertModel", {**BERT, "hidden_act": "silu"},
                         rope_parameters={"rope_theta": 500.0, "rope_type": "default"}),
        "published": {
            "architectures": ["NomicBertModel"], "model_type": "nomic_bert",
            "activation_function": "swiglu", "n_embd": 48, "n_head": 4, "n_inner": 80,
            "n_layer": 3, "n_positions": 64, "layer_norm_epsilon": 1e-12,
            "rotary_emb_base": 500, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
            "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "prenorm": False,
            "parallel_block": False, "qkv_proj_bias": False, "use_rms_norm": False,
            "type_vocab_size": 2, "vocab_size": 288, "pad_token_id": 0},
        "authors": True},
    "jina": {"config": config("bert", "JinaBertForMaskedLM", BERT, **{
        "position_embedding_type": "alibi", "feed_forward_type": "geglu",
        "num_attention_heads": 6}), "numpy": True},
    "modern": {"config": config("modernbert", "ModernBertModel", MODERN, rope_parameters={
        "full_attention": {"rope_theta": 160000.0, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}})},
    "modern-reranker": {
        "config": config("modernbert", "ModernBertForSequenceClassification", MODERN,
                         classifier_pooling="mean", classifier_activation="gelu",
                         classifier_bias=False, **labels(2)),
        "published_more": {"global_attn_every_n_layers": 3, "global_rope_theta": 80000.0,
                           "local_rope_theta": 5000.0},
        "hidden": {"rope_parameters": {
            "full_attention": {"rope_theta": 80000.0, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 5000.0, "rope_type": "default"}}}},
}
