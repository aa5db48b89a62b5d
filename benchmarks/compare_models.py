"""The model files of benchmarks/compare.py: makes those that are missing, and says what a token
of each costs in bytes read and operations."""

import os
import struct
import subprocess

# name: shape and type for make_model
MODELS = {
    "1b-q4_0": ("llama-1b", "q4_0"),
    "1b-q4_k_m": ("llama-1b", "q4_k_m"),
    "1b-q8_0": ("llama-1b", "q8_0"),
    "1b-q6_k": ("llama-1b", "q6_k"),
    "1b-bf16": ("llama-1b", "bf16"),
    "7b-q4_0": ("llama-7b", "q4_0"),
    "moe-8x1b-q4_0": ("moe-8x1b", "q4_0"),
}

FLOAT_TYPES = {0, 1, 30}  # F32, F16, BF16 in GGUF
FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def path_of(name, cache, build):
    """The file of a name in MODELS, made if it is missing; another name is a path itself."""
    if name not in MODELS:
        return name
    path = os.path.join(cache, name + ".gguf")
    if not os.path.exists(path):
        shape, kind = MODELS[name]
        part = path + ".part"
        subprocess.run([os.path.join(build, "benchmarks", "make_model"), "--shape", shape,
                        "--type", kind, "--out", part], check=True)
        os.replace(part, path)
    return path


class Reader:
    """Keys and tensors of a GGUF file, version 2 and 3."""

    def __init__(self, path):
        with open(path, "rb") as self.f:
            if self.f.read(4) != b"GGUF":
                raise ValueError(f"{path} is no GGUF file")
            _, n_tensors, n_keys = self.take("IQQ")
            self.keys = {}
            for _ in range(n_keys):
                name = self.string()
                self.keys[name] = self.value(self.take("I")[0])
            found = []
            for _ in range(n_tensors):
                name = self.string()
                dims = self.take(f"{self.take('I')[0]}Q")
                kind, offset = self.take("IQ")
                found.append((name, dims, kind, offset))
            alignment = self.keys.get("general.alignment", 32)
            data = -(-self.f.tell() // alignment) * alignment
            ends = sorted(t[3] for t in found)[1:] + [os.path.getsize(path) - data]
            sizes = dict(zip(sorted(t[3] for t in found), ends))
            # name: (shape, type, bytes with the padding behind)
            self.tensors = {name: (dims, kind, sizes[offset] - offset)
                            for name, dims, kind, offset in found}

    def take(self, layout):
        layout = "<" + layout
        return struct.unpack(layout, self.f.read(struct.calcsize(layout)))

    def string(self):
        return self.f.read(self.take("Q")[0]).decode("utf-8", "replace")

    def value(self, kind):
        """Arrays are skipped: no key that matters here is one."""
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.take(FIXED[kind])[0]
        of, n = self.take("IQ")
        if of in FIXED:
            self.f.seek(n * struct.calcsize("<" + FIXED[of]), os.SEEK_CUR)
        else:
            for _ in range(n):
                self.value(of)
        return None


def describe(path):
    """What the costs below are counted from."""
    gguf = Reader(path)
    key = lambda name, default=0: gguf.keys.get(
        f"{gguf.keys['general.architecture']}.{name}", default)
    tied = "output.weight" not in gguf.tensors
    model = {"file_bytes": os.path.getsize(path), "context": key("context_length"),
             "experts": key("expert_count"), "experts_used": key("expert_used_count"),
             "shared_bytes": 0, "expert_bytes": 0, "shared_weights": 0, "expert_weights": 0}
    weights = {}
    for name, (dims, kind, size) in gguf.tensors.items():
        part = "expert" if "_exps." in name else "shared"
        count = 1
        for dim in dims:
            count *= dim
        weights[kind] = weights.get(kind, 0) + count
        if name != "token_embd.weight" or tied:  # else a row of it is read
            model[part + "_bytes"] += size
        # A prompt needs the output matrix for its last token alone.
        if len(dims) > 1 and name not in ("token_embd.weight", "output.weight"):
            model[part + "_weights"] += count
    heads = key("attention.head_count", 1)
    head = key("attention.key_length", key("embedding_length") // heads)
    model["kv_elements"] = 2 * key("block_count") * key("attention.head_count_kv", heads) * head
    model["float"] = max(weights, key=weights.get) in FLOAT_TYPES
    return model


def step_bytes(model, seqs, tokens, kv_element_bytes):
    """Bytes that a step of `seqs` sequences reads, `tokens` in the cache of each. Of experts, as
    many as that many tokens meet if the router has no favourites."""
    met = 1.0
    if model["experts"]:
        met = 1 - (1 - model["experts_used"] / model["experts"]) ** seqs
    cache = model["kv_elements"] * kv_element_bytes * tokens * seqs
    return model["shared_bytes"] + met * model["expert_bytes"] + cache


def token_operations(model):
    """Of a prompt's token in the matrices of the layers; a multiply-add is two."""
    used = model["experts_used"] / model["experts"] if model["experts"] else 0
    return 2 * (model["shared_weights"] + used * model["expert_weights"])
