"""Makes tests/model/qwen3_embedder.json: a tiny Qwen 3 as Qwen3-Embedding's folders have it (weights
of the model alone, the last token pooled, an end token behind every text), and what transformers and
tokenizers make of texts in float64; as make.py, without weights.

usage: make_embedder.py"""

import json
import os

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, processors

from make import HERE, draw, scale_of

QUERY = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
TEXTS = [("query", "what is the capital of Norway?"), ("query", "rice"),
         ("document", "Oslo is the capital of Norway, and the wind there is strong."),
         ("document", "rice"), ("document", "")]


def main():
    with open(os.path.join(HERE, "qwen3.json")) as f:
        config = dict(json.load(f)["config"], num_hidden_layers=2, max_window_layers=2,
                      tie_word_embeddings=False)  # and no head either, as the larger ones
    model = transformers.Qwen3Model(transformers.Qwen3Config(**config)).double().eval()
    weights, state = [], {}
    for name, tensor in sorted(model.state_dict().items()):
        shape = list(tensor.shape)
        scale, offset = scale_of(name, shape, {})
        weights.append([name, shape, scale, offset])
        state[name] = torch.from_numpy(draw(name, shape, scale, offset)).double()
    model.load_state_dict(state)
    tokenizer = Tokenizer.from_file(os.path.join(HERE, "tokenizer.json"))
    # As there: another token than the one that ends answers.
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="$A <|pad|>", pair="$A $B <|pad|>",
                                      special_tokens=[("<|pad|>", 287)])])
    texts = []
    for kind, text in TEXTS:
        ids = tokenizer.encode((QUERY if kind == "query" else "") + text).ids
        with torch.no_grad():
            row = model(torch.tensor([ids])).last_hidden_state[0, -1].numpy()
        row /= np.linalg.norm(row)
        texts.append({"as": kind, "text": text, "n_tokens": len(ids),
                      "vector": [float(f"{x:.8g}") for x in row]})
    golden = {"reference": f"transformers {transformers.__version__} Qwen3Model, float64",
              "config": config, "weights": weights,
              "post_processor": json.loads(tokenizer.to_str())["post_processor"],
              "query_prompt": QUERY, "texts": texts}
    with open(os.path.join(os.path.dirname(HERE), "qwen3_embedder.json"), "w") as f:
        f.write("{\n")
        f.write(",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in golden.items()))
        f.write("\n}\n")


if __name__ == "__main__":
    main()
