"""The tokenizer.json of all fixtures: byte-level BPE, 256 bytes, 29 merges, 3 added tokens."""

import json

MERGES = ["Ġ t", "h e", "i n", "e r", "o n", "Ġ a", "r e", "Ġt he", "a t", "e n", "o r", "e s",
          "Ġ s", "i s", "i t", "Ġ w", "a n", "Ġ o", "in g", "n d", "Ġ c", "Ġ b", "o u", "Ġ f",
          "Ġ p", "l l", "Ġ in", "e d", "o m"]
ADDED = ["<|begin|>", "<|end|>", "<|pad|>"]


def byte_characters():
    """GPT-2's printable stand-ins for the 256 bytes, in the order of its vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(other))]


def write_tokenizer(path):
    tokens = byte_characters() + [m.replace(" ", "") for m in MERGES]
    added = [{"id": len(tokens) + i, "content": text, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False, "special": True}
             for i, text in enumerate(ADDED)]
    assert len(set(tokens)) == 285
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": True}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
             "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
             "model": {"type": "BPE", "dropout": None, "unk_token": None,
                       "continuing_subword_prefix": "", "end_of_word_suffix": "",
                       "fuse_unk": False, "byte_fallback": False,
                       "vocab": {t: i for i, t in enumerate(tokens)}, "merges": MERGES}}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(whole, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")
