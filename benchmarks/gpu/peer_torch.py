#!/usr/bin/env python3
"""A Llama in PyTorch as a peer: torch.compile and CUDA graphs over random weights of true shapes.

    peer_torch.py --model 8B [--seconds 240] [--rounds 5] [--eager] [--whole] [CELL ...]
    peer_torch.py --model 8B --serve

CELL: decode@CTX (one sequence), batch@N (N sequences after 1,024 tokens), prefill@N. Greedy; every
token is read back by the host, the next step being launched before. Prints a line of JSON a cell:
tokens a second as median, least and most of the rounds. --serve: answers a cell a line on standard
input with one round each, for benchmarks/gpu/compare.py. Compiled kernels are kept in
TORCHINDUCTOR_CACHE_DIR. A layer is compiled, the step is captured as one graph (--whole: the step is
compiled as a whole, in minutes); where compiling takes longer than a third of --seconds, or fails,
the cell is measured without and says so."""

import argparse
import json
import os
import signal
import statistics
import sys
import time

os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "/tmp/torchinductor")
os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")

import torch
import torch._dynamo.config
import torch._inductor.config
import torch.nn.functional as F

# dim, layers, heads, KV heads, feed-forward, vocabulary, output matrix is the embedding
SHAPES = {"8B": (4096, 32, 32, 8, 14336, 128256, False),
          "1B": (2048, 16, 32, 8, 8192, 128256, True),
          "tiny": (256, 2, 4, 2, 512, 512, False)}
CELLS = ["decode@128", "decode@2048", "decode@7936", "batch@8", "batch@64", "prefill@512",
         "prefill@2048"]
BATCH_DEPTH = 1024
TOKENS = 128  # of a round


def norm(x, weight):
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype) * weight


def rotate(x, cos, sin):
    """Pairs of neighbours; cos and sin broadcast over the heads."""
    y = x.float().unflatten(-1, (-1, 2))
    a, b = y[..., 0], y[..., 1]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


def layer(x, w, k_cache, v_cache, pos, cos, sin, mask, n_head, n_kv):
    """x: sequences, rows, dim. Rows of a prompt fill the cache from 0; one row goes to pos."""
    n, rows, dim = x.shape
    head = dim // n_head
    q, k, v = F.linear(norm(x, w["attn_norm"]), w["qkv"]).split(
        (n_head * head, n_kv * head, n_kv * head), -1)
    q = rotate(q.view(n, rows, n_head, head), cos, sin).transpose(1, 2)
    k = rotate(k.view(n, rows, n_kv, head), cos, sin).transpose(1, 2)
    v = v.view(n, rows, n_kv, head).transpose(1, 2)
    k_cache.index_copy_(2, pos, k)
    v_cache.index_copy_(2, pos, v)
    if rows == 1:  # the heads of a group as rows: its keys are read once
        q = q.reshape(n, n_kv, n_head // n_kv, head)
        y = F.scaled_dot_product_attention(q, k_cache, v_cache, attn_mask=mask)
        y = y.reshape(n, 1, dim)
    else:
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        y = y.transpose(1, 2).reshape(n, rows, dim)
    x = x + F.linear(y, w["out"])
    gate, up = F.linear(norm(x, w["ffn_norm"]), w["gate_up"]).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, w["down"])


class Llama:
    def __init__(self, name, device):
        self.dim, self.n_layers, self.n_head, self.n_kv, ffn, vocab, tied = SHAPES[name]
        self.head, self.device = self.dim // self.n_head, device
        generator = torch.Generator(device).manual_seed(1)

        def matrix(rows, columns):
            w = torch.empty(rows, columns, dtype=torch.bfloat16, device=device)
            return w.normal_(0, 0.02, generator=generator)

        def ones():
            return torch.ones(self.dim, dtype=torch.bfloat16, device=device)

        self.embedding = matrix(vocab, self.dim)
        self.output = self.embedding if tied else matrix(vocab, self.dim)
        self.norm = ones()
        self.layers = [{"attn_norm": ones(), "ffn_norm": ones(),
                        "qkv": matrix(self.dim + 2 * self.n_kv * self.head, self.dim),
                        "out": matrix(self.dim, self.dim), "gate_up": matrix(2 * ffn, self.dim),
                        "down": matrix(self.dim, ffn)} for _ in range(self.n_layers)]
        frequency = 5e5 ** (-torch.arange(0, self.head, 2, device=device).double() / self.head)
        angles = torch.arange(8192, device=device).double()[:, None] * frequency
        self.cos, self.sin = angles.cos().float(), angles.sin().float()

    def caches(self, n, length):
        shape = (n, self.n_kv, length, self.head)
        return [tuple(torch.randn(shape, dtype=torch.bfloat16, device=self.device)
                      for _ in range(2)) for _ in range(self.n_layers)]

    def rows(self, tokens, caches, pos, mask, run_layer):
        """Tokens (sequences, rows) to the next token of each sequence."""
        x = F.embedding(tokens, self.embedding)
        cos, sin = self.cos[pos][:, None], self.sin[pos][:, None]
        for w, (k, v) in zip(self.layers, caches):
            x = run_layer(x, w, k, v, pos, cos, sin, mask, self.n_head, self.n_kv)
        return F.linear(norm(x[:, -1], self.norm), self.output).argmax(-1)


class Cell:
    """One graph that is replayed: a step of decoding, or a prompt."""

    def __init__(self, model, cell, compiled, whole):
        kind, _, number = cell.partition("@")
        self.model, self.prompt = model, kind == "prefill"
        self.n = int(number) if kind == "batch" else 1
        self.depth = BATCH_DEPTH if kind == "batch" else int(number)
        self.length = self.depth if self.prompt else self.depth + TOKENS
        rows = self.depth if self.prompt else 1
        vocab = model.embedding.shape[0]
        self.tokens = torch.randint(vocab, (self.n, rows), device=model.device)
        self.next = torch.zeros(self.n, dtype=torch.long, device=model.device)
        self.pos = torch.arange(rows, device=model.device)
        self.slots = torch.arange(self.length, device=model.device)
        self.caches = model.caches(self.n, self.length)
        self.layer = torch.compile(layer, dynamic=False) if compiled and not whole else layer
        self.step = torch.compile(self.plain_step, dynamic=False) if compiled and whole \
            else self.plain_step
        self.host = torch.zeros(2, self.n, dtype=torch.long, pin_memory=True)
        self.events = [torch.cuda.Event() for _ in range(2)]
        self.capture()

    def plain_step(self):
        mask = None if self.prompt else (self.slots <= self.pos).view(1, 1, 1, -1)
        chosen = self.model.rows(self.tokens, self.caches, self.pos, mask, self.layer)
        self.next.copy_(chosen)
        if not self.prompt:
            self.tokens.copy_(chosen[:, None])
            self.pos += 1

    def rewind(self):
        if not self.prompt:
            self.pos.fill_(self.depth)

    def capture(self):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.rewind()
                self.step()
        torch.cuda.synchronize()
        self.rewind()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.step()
        self.rewind()
        self.round()

    def launch(self, i):
        self.graph.replay()
        self.host[i % 2].copy_(self.next, non_blocking=True)
        self.events[i % 2].record()

    def round(self):
        """Tokens a second, by the host's clock."""
        steps = 1 if self.prompt else TOKENS - 1
        self.rewind()
        torch.cuda.synchronize()
        begin, read = time.perf_counter(), 0
        self.launch(0)
        for i in range(steps):
            if i + 1 < steps:
                self.launch(i + 1)
            self.events[i % 2].synchronize()
            read += len(self.host[i % 2].tolist())
        took = time.perf_counter() - begin
        return self.n * self.depth / took if self.prompt else read / took


def overdue(*_):
    raise TimeoutError("compiling took too long")


class Peer:
    def __init__(self, args):
        self.args, self.end = args, time.monotonic() + args.seconds
        self.model, self.cells = Llama(args.model, "cuda"), {}
        torch._inductor.config.coordinate_descent_tuning = True
        torch._dynamo.config.recompile_limit = 64  # a cell is a shape
        signal.signal(signal.SIGALRM, overdue)

    def prepare(self, cell):
        """The cell and how it runs; compiled where that works in time."""
        if cell in self.cells:
            return self.cells[cell]
        if not self.args.eager:
            try:
                signal.alarm(max(1, int(self.args.seconds / 3)))
                made = Cell(self.model, cell, True, self.args.whole), "compile+graph"
                signal.alarm(0)
                self.cells[cell] = made
                return made
            except Exception as error:  # the peer's own failure is a result, not ours to hide
                signal.alarm(0)
                print(f"{cell}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
        self.cells[cell] = Cell(self.model, cell, False, False), "graph"
        return self.cells[cell]

    def line(self, cell, rounds):
        if time.monotonic() > self.end:
            return {"engine": "torch", "cell": cell, "error": "no time left"}
        try:
            made, how = self.prepare(cell)
            values = sorted(made.round() for _ in range(rounds))
        except Exception as error:
            return {"engine": "torch", "cell": cell, "error": f"{type(error).__name__}: {error}"[:200]}
        return {"engine": "torch", "version": torch.__version__, "model": self.args.model,
                "cell": cell, "how": how, "value": statistics.median(values), "least": values[0],
                "most": values[-1]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", choices=SHAPES, default="8B")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("cells", nargs="*", default=[])
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("peer_torch: no GPU")
    with torch.inference_mode():
        peer = Peer(args)
        if args.serve:
            for cell in sys.stdin:
                print(json.dumps(peer.line(cell.strip(), 1)), flush=True)
            return
        for cell in args.cells or CELLS:
            print(json.dumps(peer.line(cell, args.rounds)), flush=True)
            peer.cells.pop(cell, None)


if __name__ == "__main__":
    main()
