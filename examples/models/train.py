"""Trains the bundled model on a CPU: `python train.py --out DIR`.

Every step's batch is a function of the seed and the step number alone, so a
run that was stopped and resumed reads the same data as one that was not.
Matrices inside the blocks learn by momentum made orthogonal (Muon), which
needs far fewer tokens than Adam at this size; embeddings and norms use Adam.
"""

import argparse
import functools
import json
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

import tokenizer as tokenizer_py
from corpus import Corpus
from model import CONFIG, dot, forward, init, loss_fn

PAD = 3
ANSWERS = 1536  # most loss-carrying tokens that a batch may have
NORM_LR, EMBED_LR, MATRIX_LR, DECAY = 3e-3, 3e-3, 0.02, 0.05


def encode(tok, doc):
    """Token ids of a document and the loss weight of each."""
    starts, weights, at = [], [], 0
    for text, weight in doc:
        starts.append(at)
        weights.append(weight)
        at += len(text)
    enc = tok.encode("".join(text for text, _ in doc))
    which = np.searchsorted(starts, [a for a, _ in enc.offsets], side="right") - 1
    return enc.ids, [weights[i] for i in which]


def batch(tok, seed, step, rows, length, long):
    """One batch of whole documents, packed first-fit; segments keep them apart."""
    corpus = Corpus(f"{seed}/{step}", long=long)
    tokens = np.full((rows, length), PAD, np.int32)
    segments = np.zeros((rows, length), np.int32)
    weights = np.zeros((rows, length), np.float32)
    fill, count, missed = [0] * rows, 0, 0
    while missed < 40:
        ids, w = encode(tok, corpus.document())
        if corpus.r.random() < 0.1:  # so that a leading <|endoftext|> does no harm
            ids, w = [0] + ids, [0.0] + w
        row = next((i for i in range(rows) if fill[i] + len(ids) <= length), None)
        if row is None:
            missed += 1
            continue
        count += 1
        span = slice(fill[row], fill[row] + len(ids))
        tokens[row, span], weights[row, span], segments[row, span] = ids, w, count
        fill[row] += len(ids)
    return tokens, segments, *answers(segments, weights)


def answers(segments, weights):
    """Flat positions whose next token carries loss, padded to a fixed count."""
    w = weights[:, 1:] * (segments[:, 1:] == segments[:, :-1])
    found = np.flatnonzero(w)[:ANSWERS]
    where = np.zeros(ANSWERS, np.int32)
    out = np.zeros(ANSWERS, np.float32)
    where[:len(found)], out[:len(found)] = found, w.reshape(-1)[found]
    return where, out


def orthogonal(g):
    """The nearest matrix with all singular values near one (Newton-Schulz)."""
    flip = g.shape[0] > g.shape[1]
    x = g.T if flip else g
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        y = x.astype(jnp.bfloat16)
        s = dot(y, y, 1, 1).astype(jnp.bfloat16)
        mix = -4.7750 * s + 2.0315 * dot(s, s, 1, 0)
        x = 3.4445 * x + dot(mix.astype(jnp.bfloat16), y, 1, 0)
    return x.T if flip else x


def is_matrix(name, w):
    return w.ndim == 2 and name.startswith("blk.")


def update(p, m, v, grads, t, scale):
    """One optimiser step; returns new weights and both moment estimates."""
    out, om, ov = {}, {}, {}
    for name, w in p.items():
        g = grads[name]
        if is_matrix(name, w):
            om[name] = 0.95 * m[name] + g
            ov[name] = v[name]
            d = orthogonal(g + 0.95 * om[name]) * max(1.0, w.shape[0] / w.shape[1]) ** 0.5
            lr = MATRIX_LR * scale
            out[name] = w * (1 - lr * DECAY) - lr * d
            continue
        om[name] = 0.9 * m[name] + 0.1 * g
        ov[name] = 0.98 * v[name] + 0.02 * g * g
        d = om[name] / (1 - 0.9 ** t) / (jnp.sqrt(ov[name] / (1 - 0.98 ** t)) + 1e-8)
        out[name] = w - (EMBED_LR if w.ndim == 2 else NORM_LR) * scale * d
    return out, om, ov


def schedule(step, steps, cooldown):
    """Warm up, hold, and fall in a line to zero over the last part."""
    return min(1.0, (step + 1) / 40, (steps - step) / (steps * cooldown))


class Heldout:
    """Held-out answers under teacher forcing: right if every token is the first choice."""

    def __init__(self, tok, path, per_skill, length=256):
        self.items, seen = [], {}
        for line in open(path):
            item = json.loads(line)
            seen[item["skill"]] = seen.get(item["skill"], 0) + 1
            if "answer" not in item or seen[item["skill"]] > per_skill:
                continue
            text = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n"
                           for m in item["messages"]) + "<|im_start|>assistant\n"
            head, tail = tok.encode(text).ids, tok.encode(item["answer"] + "<|im_end|>").ids
            if len(head) + len(tail) <= length:
                row = np.full(length, PAD, np.int32)
                row[:len(head) + len(tail)] = head + tail
                self.items.append((item["skill"], row, len(head), len(tail)))
        self.best = jax.jit(lambda p, t: jnp.argmax(
            forward(p, t, jnp.zeros_like(t), CONFIG), -1))

    def accuracy(self, p):
        right = {}
        for i in range(0, len(self.items), 25):
            part = self.items[i:i + 25]
            rows = np.stack([r for _, r, _, _ in part] + [part[0][1]] * (25 - len(part)))
            best = np.asarray(self.best(p, rows))
            for (skill, row, a, n), b in zip(part, best):
                right.setdefault(skill, []).append(bool((row[a:a + n] == b[a - 1:a + n - 1]).all()))
        return {k: round(float(np.mean(v)), 3) for k, v in right.items()}


def save(path, step, p, m, v):
    state = {f"{kind}:{k}": np.asarray(x) for kind, d in zip("pmv", (p, m, v)) for k, x in d.items()}
    np.savez(path + ".tmp.npz", step=step, **state)
    os.replace(path + ".tmp.npz", path)


def load(path):
    data = np.load(path)
    parts = [{k[2:]: jnp.asarray(data[k]) for k in data if k.startswith(kind + ":")} for kind in "pmv"]
    return int(data["step"]), *parts


def options():
    ap = argparse.ArgumentParser(description="train the bundled model")
    ap.add_argument("--out", required=True, help="folder for tokenizer, checkpoint and log")
    ap.add_argument("--heldout", default="heldout.jsonl")
    ap.add_argument("--steps", type=int, default=900)
    ap.add_argument("--long-steps", type=int, default=60, help="last steps, on long rows")
    ap.add_argument("--cooldown", type=float, default=0.4, help="part of the run that cools down")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--save-every", type=int, default=20)
    return ap.parse_args()


def main():
    args = options()
    os.makedirs(args.out, exist_ok=True)
    tok_path, ckpt = args.out + "/tokenizer.json", args.out + "/checkpoint.npz"
    if not os.path.exists(tok_path):
        tokenizer_py.train(tok_path, CONFIG["vocab"], args.seed, 40000)
    tok = Tokenizer.from_file(tok_path)
    grad = jax.jit(jax.value_and_grad(functools.partial(loss_fn, cfg=CONFIG)))
    step_fn = jax.jit(update, donate_argnums=(0, 1, 2))
    start, p = 0, init(CONFIG, args.seed)
    m, v = ({k: jnp.zeros_like(x) for k, x in p.items()} for _ in range(2))
    if os.path.exists(ckpt):
        start, p, m, v = load(ckpt)
    test = Heldout(tok, args.heldout, 25)
    log, began, seen, total = open(args.out + "/log.jsonl", "a"), time.time(), 0, 0.0
    for step in range(start, args.steps):
        long = step >= args.steps - args.long_steps
        rows, length = (16, 257) if long else (32, 129)
        tokens, segments, *answer = batch(tok, args.seed, step, rows, length, long)
        loss, grads = grad(p, tokens, segments, *answer)
        p, m, v = step_fn(p, m, v, grads, jnp.float32(step + 1), schedule(step, args.steps, args.cooldown))
        total, seen = total + float(loss), seen + int((segments > 0).sum())
        done = step + 1
        if done % 20 == 0:
            line = {"step": done, "loss": round(total / 20, 4), "tokens": seen,
                    "seconds": round(time.time() - began, 1)}
            if done % 200 == 0 or done == args.steps:
                line["heldout"] = test.accuracy(p)
            print(json.dumps(line), file=log, flush=True)
            total = 0.0
        if done % args.save_every == 0 or done == args.steps:
            save(ckpt, done, p, m, v)


if __name__ == "__main__":
    main()
