"""Makes the fixtures of tests/model/test_encoder.c: tiny encoders, and what Hugging Face
transformers computes for them in float64; as make.py, without weights.

usage: make_encoder.py [NAME...]      (all of encoders.py; needs requirements.txt)
       make_encoder.py --minilm FOLDER  (what all-MiniLM-L6-v2 of that folder makes of some texts)
"""

import inspect
import json
import math
import os
import re
import sys
from functools import partial

import numpy as np
import torch
import transformers

import encoders
import make

OUT = os.path.join(make.HERE, os.pardir, "encoder")
LENGTHS = (1, 2, 13, 33, 64)
TEXTS = [
    "A cat sits on the mat.",
    "The stock market fell sharply on Monday, wiping out the gains of the whole year.",
    "How do I reset the password of my account?",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "東京 is the capital of Japan",
    "naïve café RÉSUMÉ",
    "unbelievably antidisestablishmentarianism!!! (2nd edition) - $19.99",
    "",
    " ".join(["Words of a text that is longer than most are repeated here, number %d." % i
              for i in range(9)]),
]


def names_of(spec):
    """A parameter's published name."""
    def published(name):
        for pattern, to in spec.get("rename", []):
            name = re.sub(pattern, to, name)
        return name
    return published


def by_authors(weights):
    """Nomic's own names: queries, keys and values in one matrix."""
    out = {}
    for name, value in weights.items():
        m = re.match(r"layers\.(\d+)\.self_attn\.([qkv])_proj\.weight", name)
        if m:
            out.setdefault(f"encoder.layers.{m[1]}.attn.Wqkv.weight", {})[m[2]] = name
            continue
        for pattern, to in [(r"^layers", "encoder.layers"), (r"embeddings\.LayerNorm", "emb_ln"),
                            (r"self_attn\.o_proj", "attn.out_proj"),
                            (r"up_proj", "fc11"), (r"gate_proj", "fc12"), (r"down_proj", "fc2"),
                            (r"post_attention_layernorm", "norm1"),
                            (r"post_mlp_layernorm", "norm2")]:
            name_to = re.sub(pattern, to, name) if pattern == r"^layers" else re.sub(
                pattern, to, name_to)
        out[name_to] = name
    return out


def load(spec):
    config = {**spec["config"], **spec.get("hidden", {})}
    cls = getattr(transformers, spec.get("model", config["architectures"][0]))
    made = cls.config_class(**{k: v for k, v in config.items()
                               if k not in ("architectures", "model_type", "torch_dtype")})
    made._attn_implementation = "eager"
    model = cls(made).double().eval()
    return model


def fill(model, spec):
    """Draws every parameter by its published name; the list of rows of the fixture."""
    rows, state = [], {k: v for k, v in model.named_parameters()}
    published = names_of(spec)
    places = by_authors(state) if spec.get("authors") else {published(k): k for k in state}
    for name, place in places.items():
        parts = [place[k] for k in "qkv"] if isinstance(place, dict) else [place]
        shape = list(state[parts[0]].shape)
        shape[0] *= len(parts)
        rows.append([name, shape, *make.scale_of(name.replace("gamma", "weight").replace(
            "emb_ln.weight", "norm.weight").replace("beta", "bias"), shape, spec)])
        values = torch.tensor(make.draw(*rows[-1]).astype(np.float64))
        for part, value in zip(parts, values.chunk(len(parts))):
            state[part].data.copy_(value)
    return rows


def hidden_of(model, tokens, types):
    has_types = "token_type_ids" in inspect.signature(model.forward).parameters
    more = {"token_type_ids": torch.tensor([types])} if has_types else {}
    with torch.no_grad(), make.Float64():
        out = model(input_ids=torch.tensor([tokens]), output_hidden_states=True, **more)
    last = out.last_hidden_state if "last_hidden_state" in out else None
    logits = out.logits if "logits" in out else None
    if last is None:
        base = getattr(model, model.base_model_prefix)
        with torch.no_grad(), make.Float64():
            last = base(input_ids=torch.tensor([tokens]), **more).last_hidden_state
    return last[0].numpy(), None if logits is None else logits[0].numpy()


class Jina:
    """Jina BERT v2, which transformers lacks: written from the papers in numpy."""

    def __init__(self, config):
        self.c, self.w = config, {}
        h, f = config["hidden_size"], config["intermediate_size"]
        shapes = {"embeddings.word_embeddings.weight": [config["vocab_size"], h],
                  "embeddings.token_type_embeddings.weight": [2, h],
                  "embeddings.LayerNorm.weight": [h], "embeddings.LayerNorm.bias": [h]}
        for i in range(config["num_hidden_layers"]):
            at = f"encoder.layer.{i}."
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                shapes[f"{at}attention.{name}.weight"] = [h, h]
                shapes[f"{at}attention.{name}.bias"] = [h]
            shapes[at + "mlp.gated_layers.weight"] = [2 * f, h]
            shapes[at + "mlp.wo.weight"], shapes[at + "mlp.wo.bias"] = [h, f], [h]
            for name in ("attention.output.LayerNorm", "mlp.layernorm"):
                shapes[f"{at}{name}.weight"] = shapes[f"{at}{name}.bias"] = [h]
        self.shapes = {"bert." + k: v for k, v in shapes.items()}

    def fill(self, spec):
        rows = [[k, v, *make.scale_of(k, v, spec)] for k, v in self.shapes.items()]
        self.w = {r[0][5:]: make.draw(*r).astype(np.float64) for r in rows}
        return rows

    def linear(self, name, x):
        y = x @ self.w[name + ".weight"].T
        return y + self.w[name + ".bias"] if name + ".bias" in self.w else y

    def norm(self, name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["layer_norm_eps"])
        return x * self.w[name + ".weight"] + self.w[name + ".bias"]

    @staticmethod
    def slopes(n):
        def power(n):
            return [2.0 ** (-8.0 * (i + 1) / n) for i in range(n)]
        p = 2 ** int(np.floor(np.log2(n)))
        return power(p) + power(2 * p)[0::2][:n - p]

    def __call__(self, tokens, types):
        n, heads = len(tokens), self.c["num_attention_heads"]
        x = (self.w["embeddings.word_embeddings.weight"][tokens]
             + self.w["embeddings.token_type_embeddings.weight"][types])
        x = self.norm("embeddings.LayerNorm", x)
        apart = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :])
        for i in range(self.c["num_hidden_layers"]):
            at = f"encoder.layer.{i}."
            q, k, v = (self.linear(at + "attention.self." + name, x).reshape(n, heads, -1)
                       for name in ("query", "key", "value"))
            out = []
            for h, slope in enumerate(self.slopes(heads)):
                s = q[:, h] @ k[:, h].T / np.sqrt(q.shape[-1]) - slope * apart
                s = np.exp(s - s.max(-1, keepdims=True))
                out.append(s / s.sum(-1, keepdims=True) @ v[:, h])
            out = self.linear(at + "attention.output.dense", np.concatenate(out, -1))
            x = self.norm(at + "attention.output.LayerNorm", x + out)
            gate, up = np.split(self.linear(at + "mlp.gated_layers", x), 2, -1)
            erf = np.vectorize(math.erf)
            hidden = gate * 0.5 * (1 + erf(gate / np.sqrt(2))) * up
            x = self.norm(at + "mlp.layernorm", x + self.linear(at + "mlp.wo", hidden))
        return x, None


def numbers(x):
    return [make.number(v) for v in x]


def make_one(name, spec):
    torch.manual_seed(0)
    model = Jina(spec["config"]) if spec.get("numpy") else load(spec)
    rows = model.fill(spec) if spec.get("numpy") else fill(model, spec)
    n_types = spec["config"].get("type_vocab_size", 1)
    texts, generator = [], np.random.RandomState(7)
    for length in LENGTHS:
        tokens = [int(t) for t in generator.randint(3, 256, length)]
        types = [int(n_types > 1 and i >= length // 2 and length > 4) for i in range(length)]
        last, logits = (model if spec.get("numpy") else partial(hidden_of, model))(tokens, types)
        text = {"tokens": tokens, "types": types, "cls": numbers(last[0]),
                "last": numbers(last[-1]), "mean": numbers(last.mean(0)),
                "max": numbers(last.max(0))}
        if logits is not None:
            text["logits"] = numbers(logits)
        texts.append(text)
    by = "numpy" if spec.get("numpy") else f"transformers {transformers.__version__}"
    fixture = {"reference": f"{by} {type(model).__name__}, float64",
               "config": spec.get("published", {**spec["config"], **spec.get("published_more", {})})}
    text = json.dumps(fixture, indent=1)[:-2]
    for key, values in (("weights", rows), ("texts", texts)):
        lines = ",\n".join("  " + json.dumps(v, separators=(",", ":")) for v in values)
        text += f',\n "{key}": [\n{lines}\n ]'
    path = os.path.join(OUT, name + ".json")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text + "\n}\n")
    print(f"{name}: {len(rows)} tensors, {os.path.getsize(path)} bytes", flush=True)


def minilm(folder):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").double()
    model.eval()
    texts = []
    for text in TEXTS:
        tokens = tokenizer.encode(text).ids
        last, _ = hidden_of(model, tokens, [0] * len(tokens))
        mean = last.mean(0)
        texts.append({"text": text, "tokens": tokens, "vector": numbers(mean / np.linalg.norm(mean))})
    a, b = TEXTS[2], TEXTS[0]
    pair = tokenizer.encode(a, b)
    head = {"reference": f"transformers {transformers.__version__} BertModel, float64",
            "pair": {"a": a, "b": b, "tokens": pair.ids, "types": pair.type_ids}}
    text = json.dumps(head, indent=1)[:-2]
    lines = ",\n".join("  " + json.dumps(v, separators=(",", ":")) for v in texts)
    with open(os.path.join(OUT, "minilm.json"), "w", encoding="utf-8") as f:
        f.write(f'{text},\n "texts": [\n{lines}\n ]\n}}\n')


def main():
    transformers.logging.set_verbosity_error()
    os.makedirs(OUT, exist_ok=True)
    if sys.argv[1:2] == ["--minilm"]:
        minilm(sys.argv[2])
        return
    for name in sys.argv[1:] or encoders.ENCODERS:
        make_one(name, encoders.ENCODERS[name])


if __name__ == "__main__":
    main()
