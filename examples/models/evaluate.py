"""Measures a GGUF file on the held-out set: `python evaluate.py tiny-q8_0.gguf`.

Everything is read back from the file by an independent reader (the `gguf`
package): weights, tokenizer, template. The forward pass is plain NumPy in
double precision on the dequantised weights, and decoding is greedy.
"""

import argparse
import json

import gguf
import jinja2
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models

from tokenizer import pre_tokenizer

GOLDEN_PROMPT = "What is the capital of France?"


class File:
    """A GGUF file: metadata by key, weights as float64 by name."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.meta = {k: f.contents() for k, f in reader.fields.items()}
        self.w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
                  for t in reader.tensors}
        tokens = self.meta["tokenizer.ggml.tokens"]
        merges = [tuple(m.split(" ")) for m in self.meta["tokenizer.ggml.merges"]]
        self.tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
        self.tok.pre_tokenizer = pre_tokenizer()
        self.tok.decoder = decoders.ByteLevel()
        self.tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(
            tokens, self.meta["tokenizer.ggml.token_type"]) if k == 3])
        self.template = jinja2.Template(self.meta["tokenizer.chat_template"])

    def prompt(self, messages):
        return self.template.render(messages=messages, add_generation_prompt=True)


class Llama:
    """The forward pass with a key/value cache, one sequence."""

    def __init__(self, file):
        m = file.meta
        self.w, self.eps = file.w, m["llama.attention.layer_norm_rms_epsilon"]
        self.layers = m["llama.block_count"]
        self.heads, self.kv = m["llama.attention.head_count"], m["llama.attention.head_count_kv"]
        self.hd = m["llama.rope.dimension_count"]
        self.base = m["llama.rope.freq_base"]
        self.reset()

    def reset(self):
        self.k = [np.zeros((0, self.kv, self.hd)) for _ in range(self.layers)]
        self.v = [np.zeros((0, self.kv, self.hd)) for _ in range(self.layers)]

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def rope(self, x, start):
        """Turns neighbouring pairs, as GGUF files of this architecture expect."""
        half = self.hd // 2
        freq = self.base ** (-np.arange(half) / half)
        angle = np.outer(start + np.arange(len(x)), freq)[:, None, :]
        a, b = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2] = a * np.cos(angle) - b * np.sin(angle)
        out[..., 1::2] = a * np.sin(angle) + b * np.cos(angle)
        return out

    def attend(self, h, i):
        b, n, start = f"blk.{i}.", len(h), len(self.k[i])
        q = self.rope((h @ self.w[b + "attn_q.weight"].T).reshape(n, self.heads, self.hd), start)
        k = self.rope((h @ self.w[b + "attn_k.weight"].T).reshape(n, self.kv, self.hd), start)
        v = (h @ self.w[b + "attn_v.weight"].T).reshape(n, self.kv, self.hd)
        self.k[i], self.v[i] = np.concatenate([self.k[i], k]), np.concatenate([self.v[i], v])
        group = self.heads // self.kv
        keys, values = (np.repeat(x, group, axis=1) for x in (self.k[i], self.v[i]))
        s = np.einsum("nhd,mhd->hnm", q, keys) / np.sqrt(self.hd)
        future = np.arange(start + n)[None, :] > (start + np.arange(n))[:, None]
        s = np.where(future[None], -np.inf, s)
        s = np.exp(s - s.max(-1, keepdims=True))
        s /= s.sum(-1, keepdims=True)
        return np.einsum("hnm,mhd->nhd", s, values).reshape(n, -1) @ self.w[b + "attn_output.weight"].T

    def logits(self, ids):
        """Reads ids and returns the logits after the last one."""
        x = self.w["token_embd.weight"][ids]
        for i in range(self.layers):
            b = f"blk.{i}."
            x = x + self.attend(self.norm(x, b + "attn_norm.weight"), i)
            h = self.norm(x, b + "ffn_norm.weight")
            gate = h @ self.w[b + "ffn_gate.weight"].T
            act = gate / (1 + np.exp(-gate)) * (h @ self.w[b + "ffn_up.weight"].T)
            x = x + act @ self.w[b + "ffn_down.weight"].T
        return self.norm(x[-1], "output_norm.weight") @ self.w["token_embd.weight"].T


def generate(model, ids, stop, limit):
    """Greedy ids up to and with the stop token, and per step the lead over the second."""
    model.reset()
    out, margins = [], []
    logits = first = model.logits(ids)
    while len(out) < limit:
        second, best = np.partition(logits, -2)[-2:]
        out.append(int(np.argmax(logits)))
        margins.append(round(float(best - second), 4))
        if out[-1] == stop:
            break
        logits = model.logits([out[-1]])
    return out, margins, first


class Judge:
    def __init__(self, path):
        self.file = File(path)
        self.model = Llama(self.file)
        self.stop = self.file.meta["tokenizer.ggml.eos_token_id"]

    def run(self, messages, limit=120):
        text = self.file.prompt(messages)
        ids = self.file.tok.encode(text).ids
        out, margins, first = generate(self.model, ids, self.stop, limit)
        reply = self.file.tok.decode([t for t in out if t != self.stop], skip_special_tokens=False)
        return {"prompt": text, "prompt_ids": ids, "reply": reply, "reply_ids": out,
                "margins": margins, "first": first}


def right(item, reply):
    if "answer" in item:
        return reply == item["answer"]
    return all(word in reply for word in item["contains"])


def golden(judge, items):
    """Exact ids for one prompt of every skill and for the first README question."""
    chosen = {}
    for item in items:
        chosen.setdefault(item["skill"], item["messages"])
    asks = [[{"role": "user", "content": GOLDEN_PROMPT}]] + list(chosen.values())
    for messages in asks:
        run = judge.run(messages)
        top = np.argsort(-run["first"])[:5]
        yield {"messages": messages, "prompt": run["prompt"], "prompt_ids": run["prompt_ids"],
               "reply": run["reply"], "reply_ids": run["reply_ids"], "margins": run["margins"],
               "first_top5": [[int(t), round(float(run["first"][t]), 5)] for t in top]}


def main():
    ap = argparse.ArgumentParser(description="held-out accuracy of a GGUF file")
    ap.add_argument("model")
    ap.add_argument("--heldout", default="heldout.jsonl")
    ap.add_argument("--expected", help="write the counts per skill here")
    ap.add_argument("--golden", help="write exact token ids here")
    ap.add_argument("--ask", action="append", help="only answer this, e.g. --ask 'Hello!'")
    ap.add_argument("--wrong", action="store_true", help="print every wrong answer")
    args = ap.parse_args()
    judge = Judge(args.model)
    if args.ask:
        for ask in args.ask:
            print(f"> {ask}\n{judge.run([{'role': 'user', 'content': ask}])['reply']}\n")
        return
    items = [json.loads(line) for line in open(args.heldout)]
    skills = {}
    for item in items:
        reply = judge.run(item["messages"])["reply"]
        counts = skills.setdefault(item["skill"], {"n": 0, "correct": 0})
        counts["n"] += 1
        counts["correct"] += right(item, reply)
        if args.wrong and not right(item, reply):
            print(json.dumps({**item, "reply": reply}))
    for skill, c in skills.items():
        print(f"{skill:14} {c['correct']:3} of {c['n']:3}  {100 * c['correct'] / c['n']:.1f} %")
    if args.expected:
        with open(args.expected, "w") as f:
            json.dump({"tolerance": 6, "skills": skills}, f, indent=1)
            f.write("\n")
    if args.golden:
        with open(args.golden, "w") as f:
            f.write("[\n" + ",\n".join(json.dumps(g) for g in golden(judge, items)) + "\n]\n")


if __name__ == "__main__":
    main()
