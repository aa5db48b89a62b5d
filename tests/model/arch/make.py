"""Makes the fixtures of tests/model/test_arch.c: a tiny model of every architecture, and
what Hugging Face transformers computes for it in float64.

usage: make.py [NAME...]          (all of models.py; needs requirements.txt)

A fixture holds no weights. Both sides draw them from the tensor's name (see draw()), so a
file is the configuration, the list of tensors, the tokens and the expected logits."""

import json
import os
import re
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file
from torch.overrides import TorchFunctionMode

import models
from tokenizer import write_tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
N_PROMPT, N_GREEDY = 26, 14  # greedy tokens are the reference's own continuation
STRIDE = 16  # rows of logits are thinned to every 16th, but for those in WHOLE
WHOLE = (0, 9, N_PROMPT - 1, N_PROMPT + N_GREEDY - 1)
CLEAR = 2e-3  # least lead of a greedy token over the next, relative to the largest logit
CLEAR_EXPERT = 3e-4  # least lead of the last chosen expert over the next, relative


def hash_name(name):
    """64-bit FNV-1a."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def splitmix(h, n):
    """Elements 1 .. n of the splitmix64 sequence of seed h."""
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def round_bf16(x):
    """Nearest bfloat16, ties to even: such weights are exact in F32 and in BF16."""
    bits = x.view(np.uint32)
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def draw(name, shape, scale, offset):
    """offset + scale * uniform [-1, 1), in F32 arithmetic, as arch_fixture.c does."""
    top = (splitmix(hash_name(name), int(np.prod(shape))) >> np.uint64(40)).astype(np.float32)
    unit = top * np.float32(2.0**-23) - np.float32(1)
    return round_bf16(unit * np.float32(scale) + np.float32(offset)).reshape(shape)


# First pattern that matches: scale, offset. Matrices that none names are scaled by their inputs.
SCALES = [
    (r"norm.*\.weight$|layernorm.*\.weight$|ln_\w+\.weight$", (0.25, 1.0)),
    (r"\.bias$|_bias$", (0.25, 0.0)),
    (r"embed|wte", (1.0, 0.0)),
]


def scale_of(name, shape, spec):
    for pattern, value in spec.get("scales", []) + SCALES:
        if re.search(pattern, name):
            return value
    transposed = re.search(spec.get("inputs_first", "^$"), name)
    inputs = shape[-2] if transposed else shape[-1]
    return round(float(np.sqrt(3.0 / inputs)), 3), 0.0


class Float64(TorchFunctionMode):
    """Everything in float64, also where a module asks for float32 on its own."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def wide(x):
            return torch.float64 if x is torch.float32 else x

        kwargs = {k: wide(v) for k, v in (kwargs or {}).items()}
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        if func is torch.Tensor.type_as and args[0].dtype == torch.float64:
            return args[0]
        return func(*[wide(a) for a in args], **kwargs)


class Choices(TorchFunctionMode):
    """Watches how clearly experts are chosen: an unclear choice flips with rounding."""

    def __init__(self):
        super().__init__()
        self.lead = np.inf

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.topk, torch.Tensor.topk):
            scores, k = args[0], args[1] if len(args) > 1 else kwargs["k"]
            if scores.is_floating_point() and k < scores.shape[-1]:
                ranked = torch.sort(scores.double(), dim=-1, descending=True).values
                last, next_ = ranked[..., k - 1], ranked[..., k]
                lead = (last - next_) / torch.maximum(last.abs(), next_.abs())
                lead = lead[(last != 0) & (last > -1e9)]  # what is masked is no choice
                self.lead = min([self.lead, *lead.flatten().tolist()])
        return func(*args, **(kwargs or {}))


def saved_shapes(cls, config, folder):
    """Names and shapes as a checkpoint on disk has them, which a module in memory may not."""
    cls(config).save_pretrained(folder)
    found = {}
    for part in sorted(p for p in os.listdir(folder) if p.endswith(".safetensors")):
        with safe_open(os.path.join(folder, part), "np") as f:
            found.update({k: list(f.get_slice(k).get_shape()) for k in f.keys()})
    return {k: found[k] for k in sorted(found, key=natural)}


def fused(name, shape):
    """Where experts are published as one tensor: its name and shape, and this part of it."""
    m = re.search(r"(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight$", name)
    if not m:
        return name, shape, ...
    e, rows = int(m[2]), shape[0]
    if m[3] == "down":
        return m[1] + ".down_proj", shape, e
    part = slice(0, rows) if m[3] == "gate" else slice(rows, 2 * rows)
    return m[1] + ".gate_up_proj", [2 * rows, shape[1]], (e, part)


def tensor_list(spec, saved):
    """Rows of the published checkpoint, and where each saved tensor lies in it."""
    rows, places = {}, {}
    for name, shape in saved.items():
        public, index = name, ...
        if spec.get("fused"):
            public, shape, index = fused(name, shape)
            shape = shape if index is ... else [spec["fused"], *shape]
        for pattern, to in spec.get("rename", []):
            public = re.sub(pattern, to, public)
        places[name] = public, index
        rows[public] = [public, shape, *scale_of(public, shape, spec)]
    return list(rows.values()), places


def natural(name):
    return [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)]


def load(cls, folder, dtype):
    model, info = cls.from_pretrained(folder, dtype=dtype, attn_implementation="eager",
                                      experts_implementation="eager", output_loading_info=True)
    odd = {k: v for k, v in info.items() if v}
    if odd:
        raise SystemExit(f"loading: {odd}")
    return model.eval()


def logits_of(model, tokens):
    with torch.no_grad():
        out = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return out.double().numpy()


def greedy(model, prompt):
    """Prompt and its greedy continuation; None where a choice was not clear."""
    tokens = list(prompt)
    for _ in range(N_GREEDY):
        last = logits_of(model, tokens)[-1]
        first, second = np.sort(last)[::-1][:2]
        if first - second < CLEAR * np.abs(last).max():
            return None
        tokens.append(int(np.argmax(last)))
    return tokens


def idle_weights(model, tokens, logits):
    """Every weight must matter: a wrong one is to be seen in the logits."""
    limit = 1e-3 * np.abs(logits).max()
    idle = []
    for key, parameter in model.named_parameters():
        stack = parameter.data.unbind(0) if parameter.dim() == 3 else [parameter.data]
        calm = 0
        for piece in stack:
            kept = piece.clone()
            piece.mul_(0.5).add_(0.05 * torch.sin(torch.arange(piece.numel())).view(piece.shape))
            calm += np.abs(logits_of(model, tokens) - logits).max() < limit
            piece.copy_(kept)
        if calm > len(stack) // 4:  # some experts may have no turn
            idle.append(f"{key}: {calm} of {len(stack)}")
    return idle


def pick_tokens(name, model):
    idle = []
    for seed in range(400):
        prompt = [int(t) for t in np.random.RandomState(seed).randint(0, 256, N_PROMPT)]
        with Choices() as choices:
            logits_of(model, prompt)
            tokens = greedy(model, prompt) if choices.lead > CLEAR_EXPERT else None
            if not tokens or choices.lead < CLEAR_EXPERT or len(set(tokens[N_PROMPT:])) < 3:
                continue
        logits = logits_of(model, tokens)
        idle = idle_weights(model, tokens, logits)
        if not idle:
            return tokens, logits, choices.lead
        print(f"{name}, seed {seed}: hardly matter: {', '.join(idle[:4])}", flush=True)
    raise SystemExit(f"no tokens whose choices are all clear; idle weights: {idle}")


def number(x):
    return float(f"{x:.7g}")


def rows_of(logits):
    rows = []
    for i, row in enumerate(logits):
        first, stride = (0, 1) if i in WHOLE else (i % STRIDE, STRIDE)
        rows.append({"position": i, "first": first, "stride": stride,
                     "logits": [number(x) for x in row[first::stride]]})
    return rows


def check(name, folder, cls, tokens, logits):
    """The same model in float32 tells how well conditioned the fixture is."""
    small = logits_of(load(cls, folder, torch.float32), tokens)
    error = np.abs(small - logits).max() / np.abs(logits).max()
    if not error < 2e-5:
        raise SystemExit(f"{name}: float32 differs from float64 by {error:.2g}")
    return error


def write(path, fixture):
    """One line per row: readable, and small differences stay small in a diff."""
    head = {k: fixture[k] for k in ("reference", "config", "n_vocab", "n_prompt", "tokens")}
    text = json.dumps(head, indent=1)[:-2].replace(" Infinity", ' "Infinity"')
    text = re.sub(r"\[[^][{}]*\]", lambda m: " ".join(m.group().split()), text)
    for key in ("weights", "rows"):
        lines = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in fixture[key])
        text += f',\n "{key}": [\n{lines}\n ]'
    with open(path, "w", encoding="utf-8") as f:
        f.write(text + "\n}\n")


def published(spec):
    """The configuration of the file: of the model itself, or of what it is the text part of."""
    if "wrapper" not in spec:
        return spec["config"]
    inner = {k: v for k, v in spec["config"].items() if k != "architectures"}
    return {**spec["wrapper"], "text_config": inner}


def make(name, spec):
    with tempfile.TemporaryDirectory() as top:
        folder, blank = os.path.join(top, "model"), os.path.join(top, "blank")
        os.mkdir(folder)
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
            json.dump(spec["config"], f)
        cls = getattr(transformers, spec["config"]["architectures"][0])
        torch.manual_seed(0)
        saved = saved_shapes(cls, cls.config_class.from_pretrained(folder), blank)
        rows, places = tensor_list(spec, saved)
        weights = {row[0]: draw(*row) for row in rows}
        save_file({k: np.ascontiguousarray(weights[v][i]) for k, (v, i) in places.items()},
                  os.path.join(folder, "model.safetensors"), {"format": "pt"})
        with Float64():
            model = load(cls, folder, torch.float64)
            tokens, logits, lead = pick_tokens(name, model)
        error = check(name, folder, cls, tokens, logits)
    fixture = {
        "reference": f"transformers {transformers.__version__} {cls.__name__}, float64; "
                     f"its own float32 differs by {error:.1e}",
        "config": published(spec), "n_vocab": logits.shape[1], "n_prompt": N_PROMPT, "weights": rows, "tokens": tokens, "rows": rows_of(logits)}
    path = os.path.join(HERE, name + ".json")
    write(path, fixture)
    print(f"{name}: {len(rows)} tensors, {sum(w.size for w in weights.values())} weights, "
          f"max |logit| {np.abs(logits).max():.3g}, std {logits.std():.3g}, float32 {error:.1e}, "
          f"lead {lead:.2g}, {os.path.getsize(path)} bytes", flush=True)


def main():
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    write_tokenizer(os.path.join(HERE, "tokenizer.json"))
    for name in sys.argv[1:] or models.MODELS:
        make(name, models.MODELS[name])


if __name__ == "__main__":
    main()
