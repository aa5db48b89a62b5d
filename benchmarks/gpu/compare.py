#!/usr/bin/env python3
"""Compares libinfer on a GPU with its peers at the same shapes, in turns, and writes a table.

    compare.py --build build-gpu [--models 1B,8B] [--type bf16] [--rounds 3] [--seconds 400]
               [--yardsticks gpu.jsonl] [--folder /dev/shm] [--out FILE.md] [--no-torch]
               [--llama-bench PATH [--batched-bench PATH]] [--invariant]

--type is one of make_model's: bf16, f8 (FP8 in blocks of 128), q4_k ... PyTorch computes in BF16.

Each round starts `infer bench` (loading, then its own median of three) and asks for the same cells:
peer_torch.py, llama.cpp's llama-bench and llama-batched-bench of a CUDA build with the same file,
and, with --invariant, libinfer again in INFER_NUMERICS_INVARIANT. Models are files of random weights, made where they are missing; the peer draws
normal ones of the same shapes and sizes. Shares are of what roofline measured on the same card: of
decoding, bytes of weights and cache against a copy; of prefill, operations of the layers' matrices
against cuBLASLt at 2,048 rows. What does not fit into --seconds is written as not measured."""

import argparse
import collections
import datetime
import json
import os
import shlex
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import compare_models
import compare_report as report
import peer_llama

SHAPES = {"8B": "llama-8b", "1B": "llama-1b"}
BATCH_DEPTH, TOKENS = 1024, 128  # as in peer_torch.py
KV_BYTES = 2
INVARIANT = "libinfer, invariant"
# Arguments of infer bench, and the cells that it measures at once.
RUNS = [("--prompt 512 --depth 128", {"decode@128": "decode_tps", "prefill@512": "prefill_tps"}),
        ("--prompt 2048 --depth 2048", {"decode@2048": "decode_tps", "prefill@2048": "prefill_tps"}),
        ("--prompt 64 --batch 8 --depth 1024", {"batch@8": "decode_tps"}),
        ("--prompt 64 --batch 64 --depth 1024", {"batch@64": "decode_tps"}),
        ("--prompt 64 --depth 7936", {"decode@7936": "decode_tps"})]
TITLES = {"decode": "decode after {} tokens", "batch": "decode, {} at once", "prefill": "prefill of {}"}


def yardsticks(args):
    """Cells of roofline by name; it is run where there is no file of them."""
    path = args.yardsticks or os.path.join(args.folder, "roofline.jsonl")
    if not args.yardsticks:
        subprocess.run([os.path.join(args.build, "benchmarks", "gpu", "roofline"), "--json", path],
                       stdout=subprocess.DEVNULL, check=True)
    with open(path, encoding="ascii") as f:
        cells = {cell["cell"]: cell for cell in map(json.loads, f)}
    layers = [cell for name, cell in cells.items() if name.startswith("cublaslt BF16")
              and name.endswith("m=2048") and "128256" not in name]
    operations = sum(cell["tflops"] * cell["us"] for cell in layers)
    return {"gbs": cells["copy 4 GiB"]["gbs"],
            "tflops": operations / sum(cell["us"] for cell in layers) if layers else None}


def model_file(args, name):
    path = os.path.join(args.folder, f"{SHAPES[name]}-{args.type}.gguf")
    if not os.path.exists(path):
        subprocess.run([os.path.join(args.build, "benchmarks", "make_model"), "--shape",
                        SHAPES[name], "--type", args.type, "--out", path + ".part"], check=True,
                       stdout=subprocess.DEVNULL)
        os.replace(path + ".part", path)
    return path


class Ours:
    """infer bench, which measures several cells at once."""

    def __init__(self, args, path, more=()):
        self.argv = [os.path.join(args.build, "examples", "infer", "infer"), "bench", "--model", path,
                     *shlex.split(args.device), "--gen", str(TOKENS), "--repeat", "3", "--json", *more]

    def measure(self, words, cells, seconds):
        """Values by cell, the loading too, or why there are none."""
        try:
            done = subprocess.run(self.argv + words.split(), capture_output=True, text=True,
                                  timeout=max(1, seconds), check=False)
        except subprocess.TimeoutExpired:
            return "no time left"
        if done.returncode:
            return (done.stderr.strip().split("\n")[-1] or f"exit {done.returncode}")[:200]
        found = json.loads(done.stdout)
        return {**{cell: found[key] for cell, key in cells.items()}, "load": found["load_ms"] * 1e-3}


class Torch:
    """peer_torch.py --serve; started once a model, as compiling takes long."""

    def __init__(self, args, name, seconds):
        argv = [sys.executable, os.path.join(HERE, "peer_torch.py"), "--serve", "--model", name,
                "--seconds", str(int(seconds)), *shlex.split(args.peer)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, cell):
        try:
            self.process.stdin.write(cell + "\n")
            self.process.stdin.flush()
        except OSError:
            return {"error": "the peer ended"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the peer ended"}

    def stop(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass
        self.process.kill()
        self.process.wait()


class Llama:
    """llama.cpp, whose programs load the file for each cell."""

    def __init__(self, args, path):
        more = ["-ngl", "999", *shlex.split(args.llama_arguments)]
        self.programs = peer_llama.Programs(path, 8, args.llama_bench, args.batched_bench, more)

    def measure(self, cell):
        kind, _, n = cell.partition("@")
        try:
            if kind == "prefill":
                return self.programs.prefill(int(n))
            if kind == "decode":
                return self.programs.decode(int(n), TOKENS)
            return self.programs.batch(int(n), TOKENS, BATCH_DEPTH)
        except (peer_llama.Wrong, OSError, ValueError, KeyError) as error:
            return {"error": str(error)[:200]}

    def stop(self):
        pass


def peers_of(args, name, path, seconds):
    """By the names of their columns."""
    peers = {}
    try:
        if args.llama_bench:
            peers["llama.cpp"] = Llama(args, path)
    except (peer_llama.Wrong, OSError, ValueError) as error:
        print(f"llama.cpp is left out: {error}", file=sys.stderr)
    if not args.no_torch:
        peers["PyTorch"] = Torch(args, name, seconds)
    return peers


def measure_model(args, name, path, end):
    """{cell: {engine: {"samples": [...]} or {"error": ...}}}, as compare_report has it."""
    cells = collections.defaultdict(lambda: collections.defaultdict(dict))

    def keep(cell, engine, value):
        if isinstance(value, str):
            cells[cell][engine].setdefault("error", value)
        else:
            cells[cell][engine].setdefault("samples", []).append({"value": value})

    own = {report.OURS: Ours(args, path)}
    if args.invariant:
        own[INVARIANT] = Ours(args, path, ["--invariant"])
    peers = peers_of(args, name, path, end - time.monotonic())
    try:
        for words, wanted in RUNS:
            for _ in range(args.rounds):
                for engine, ours in own.items():
                    left = end - time.monotonic()
                    found = ours.measure(words, wanted, left) if left > 0 else "no time left"
                    for cell in [*wanted, "load"]:
                        keep(cell, engine, found if isinstance(found, str) else found[cell])
                for engine, peer in peers.items():
                    for cell in wanted:
                        late = time.monotonic() >= end
                        answer = {"error": "no time left"} if late else peer.measure(cell)
                        keep(cell, engine, answer.get("value", answer.get("error")))
                        cells[cell][engine]["how"] = answer.get("how", "")
    finally:
        for peer in peers.values():
            peer.stop()
    return cells


def share(model, cell, value, yards):
    """Percent of the yardstick."""
    kind, _, n = cell.partition("@")
    if kind == "prefill":
        return value * compare_models.token_operations(model) * 1e-10 / yards["tflops"] \
            if yards["tflops"] else None
    seqs, depth = (int(n), BATCH_DEPTH) if kind == "batch" else (1, int(n))
    read = compare_models.step_bytes(model, seqs, depth + TOKENS / 2, KV_BYTES)
    return value / seqs * read * 1e-7 / yards["gbs"]


def table(model, cells, yards):
    names = [e for e in (report.OURS, INVARIANT, "llama.cpp", "PyTorch")
             if any(e in engines for engines in cells.values())]
    titles = [f"{e}, tokens/s | of the yardstick" + ("" if e == report.OURS else " | libinfer to it")
              for e in names]
    lines = ["| cell | " + " | ".join(titles) + " |", "|---" * (3 * len(names)) + "|"]
    for cell, engines in cells.items():
        if cell == "load":
            continue
        kind, _, n = cell.partition("@")
        words = [TITLES[kind].format(f"{int(n):,}")]
        ours = report.median_of(engines.get(report.OURS, {}))
        for engine in names:
            found = engines.get(engine, {"error": "not measured"})
            value = report.median_of(found)
            part = share(model, cell, value, yards) if value else None
            how = f", {found['how']}" if found.get("how") else ""
            words += [report.figure(found, cell) + how, f"{part:.0f} %" if part else ""]
            if engine != report.OURS:
                words.append(f"{ours / value:.2f}" if ours and value else "")
        lines.append("| " + " | ".join(words) + " |")
    loads = cells["load"].get(report.OURS, {}) if "load" in cells else {}
    if "samples" in loads:
        lines += ["", f"Loading took {report.figure(loads, '')} s."]
    return lines


def card():
    query = "name,driver_version,clocks.sm,clocks.mem"
    try:
        return subprocess.run(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"],
                              capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return "a card that nvidia-smi does not name"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", default="build-gpu")
    parser.add_argument("--models", default="1B,8B")
    parser.add_argument("--type", default="bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--yardsticks")
    parser.add_argument("--folder", default="/dev/shm")
    parser.add_argument("--device", default="--device 1", help="arguments of infer bench")
    parser.add_argument("--peer", default="", help="arguments of peer_torch.py")
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--llama-bench", help="llama.cpp's, of a CUDA build")
    parser.add_argument("--batched-bench", help="its llama-batched-bench")
    parser.add_argument("--llama-arguments", default="", help="more arguments of both")
    parser.add_argument("--invariant", action="store_true")
    parser.add_argument("--out")
    args = parser.parse_args()
    began, end = card(), time.monotonic() + args.seconds
    yards, names = yardsticks(args), args.models.split(",")
    date = datetime.date.today().isoformat()
    rate = f", cuBLASLt {yards['tflops']:.0f} TFLOP/s in BF16" if yards["tflops"] else ""
    lines = [f"# On a GPU, {date}", "", f"{began}; a copy moves {yards['gbs']:.0f} GB/s{rate}.",
             f"Medians of {args.rounds} rounds in turns, in brackets least to most."]
    for i, name in enumerate(names):
        now = time.monotonic()
        path = model_file(args, name)
        cells = measure_model(args, name, path, now + (end - now) / (len(names) - i))
        model = compare_models.describe(path)
        lines += ["", f"## {name}, {args.type}", "", *table(model, cells, yards)]
    lines += ["", f"Behind the last cell: {card()}."]
    text = "\n".join(lines) + "\n"
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            f.write(text)
    print(text)


if __name__ == "__main__":
    main()
