"""Writes a training checkpoint as GGUF: `python export.py RUN OUT [--type f32]`.

Matrices become Q8_0, norms stay F32. The head is tied to the embedding, so
the file has no output.weight. Tensor names and shapes are those of model.py.
"""

import argparse
import json
import struct

import numpy as np

from model import CONFIG, shapes

ALIGN = 32
F32, Q8_0 = 0, 8
U32, FLOAT, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def text(s):
    raw = s.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
    if kind == STRING:
        return text(v)
    return struct.pack({U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?"}[kind], v)


def entry(key, kind, v):
    """One metadata pair; kind (ARRAY, element kind) makes an array."""
    if isinstance(kind, tuple):
        head = struct.pack("<IIQ", ARRAY, kind[1], len(v))
        return text(key) + head + b"".join(value(kind[1], x) for x in v)
    return text(key) + struct.pack("<I", kind) + value(kind, v)


def q8_0(w):
    """Blocks of 32: a half-precision scale, then 32 signed bytes."""
    blocks = w.astype(np.float32).reshape(-1, 32)
    d = np.abs(blocks).max(axis=1, keepdims=True) / 127.0
    inv = np.divide(1.0, d, out=np.zeros_like(d), where=d > 0)
    q = np.rint(blocks * inv).astype(np.int8)
    return np.concatenate([d.astype("<f2").view(np.uint8), q.view(np.uint8)], axis=1).tobytes()


def tokens_of(tok):
    """Token strings by id, their GGUF types (1 normal, 3 control) and the merges."""
    vocab = tok["model"]["vocab"]
    strings = sorted(vocab, key=vocab.get)
    control = {t["content"] for t in tok["added_tokens"] if t["special"]}
    merges = [m if isinstance(m, str) else " ".join(m) for m in tok["model"]["merges"]]
    return strings, [3 if s in control else 1 for s in strings], merges


def metadata(cfg, tok, file_type):
    strings, types, merges = tokens_of(tok)
    end = strings.index("<|im_end|>")
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "libinfer tiny"),
        ("general.type", STRING, "model"),
        ("general.size_label", STRING, "4.5M"),
        ("general.description", STRING, "Demo model of libinfer, trained from nothing on generated text"),
        ("general.license", STRING, "mit"),
        ("general.languages", (ARRAY, STRING), ["en"]),
        ("general.quantization_version", U32, 2),
        ("general.alignment", U32, ALIGN),
        ("general.file_type", U32, file_type),
        ("llama.vocab_size", U32, cfg["vocab"]),
        ("llama.context_length", U32, cfg["context"]),
        ("llama.embedding_length", U32, cfg["dim"]),
        ("llama.block_count", U32, cfg["layers"]),
        ("llama.feed_forward_length", U32, cfg["ffn"]),
        ("llama.attention.head_count", U32, cfg["heads"]),
        ("llama.attention.head_count_kv", U32, cfg["kv_heads"]),
        ("llama.attention.key_length", U32, cfg["head_dim"]),
        ("llama.attention.value_length", U32, cfg["head_dim"]),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT, cfg["eps"]),
        ("llama.rope.dimension_count", U32, cfg["head_dim"]),
        ("llama.rope.freq_base", FLOAT, cfg["rope_base"]),
        ("tokenizer.ggml.model", STRING, "gpt2"),
        ("tokenizer.ggml.pre", STRING, "llama-bpe"),
        ("tokenizer.ggml.tokens", (ARRAY, STRING), strings),
        ("tokenizer.ggml.token_type", (ARRAY, I32), types),
        ("tokenizer.ggml.merges", (ARRAY, STRING), merges),
        ("tokenizer.ggml.bos_token_id", U32, strings.index("<|endoftext|>")),
        ("tokenizer.ggml.eos_token_id", U32, end),
        ("tokenizer.ggml.eot_token_id", U32, end),
        ("tokenizer.ggml.padding_token_id", U32, strings.index("<|pad|>")),
        ("tokenizer.ggml.add_bos_token", BOOL, False),
        ("tokenizer.ggml.add_eos_token", BOOL, False),
        ("tokenizer.chat_template", STRING, TEMPLATE),
    ]


def write(path, pairs, tensors, kind):
    """tensors: list of (name, float array) in file order."""
    infos, data = b"", b""
    for name, w in tensors:
        t = kind if w.ndim == 2 else F32
        dims = w.shape[::-1]  # GGUF lists the contiguous dimension first
        infos += text(name) + struct.pack("<I", w.ndim) + struct.pack(f"<{w.ndim}Q", *dims)
        infos += struct.pack("<IQ", t, len(data))
        data += q8_0(w) if t == Q8_0 else w.astype("<f4").tobytes()
        data += b"\0" * (-len(data) % ALIGN)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(entry(*p) for p in pairs) + infos
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % ALIGN) + data)


def main():
    ap = argparse.ArgumentParser(description="write a checkpoint as GGUF")
    ap.add_argument("run", help="folder with checkpoint.npz and tokenizer.json")
    ap.add_argument("out")
    ap.add_argument("--type", choices=["q8_0", "f32"], default="q8_0")
    args = ap.parse_args()
    ckpt = np.load(args.run + "/checkpoint.npz")
    tok = json.load(open(args.run + "/tokenizer.json"))
    tensors = [(name, ckpt["p:" + name]) for name in shapes(CONFIG)]
    kind, file_type = (Q8_0, 7) if args.type == "q8_0" else (F32, 0)
    write(args.out, metadata(CONFIG, tok, file_type), tensors, kind)


if __name__ == "__main__":
    main()
