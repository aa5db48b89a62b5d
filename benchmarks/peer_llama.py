"""Measures llama.cpp and its kin on command, as benchmarks/speed.c measures libinfer.

usage: peer_llama.py MODEL [--threads N]
           the library that llama-cpp-python brings, or that LLAMA_CPP_LIB_PATH names a folder of
       peer_llama.py MODEL [--threads N] --llama-bench PATH [--batched-bench PATH] [ARGUMENT...]
           programs, started anew for each command, with the arguments given

The first wants a Python that has llama-cpp-python; only its low-level interface is used. Both
have flash attention on, an F16 cache and 512 tokens a micro-batch, else what is default there."""

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

BATCH_PROMPT = 64
WARM_TOKENS = 64
MICRO_BATCH = 512
N_BATCH = 2048


class Wrong(Exception):
    """A command that cannot be done; the sentence is the answer."""


class Library:
    """llama.cpp by its C interface. A context stays until a command wants another shape."""

    def __init__(self, path, threads):
        import llama_cpp  # only here: the programs need no such package
        self.lib = llama_cpp
        self.path, self.threads = path, threads
        self.silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = self.context = self.shape = None
        self.best = {}  # sequences: whether one cache for all of them was faster
        self.before = resident_of("self")  # Python's own, which no host of llama.cpp has
        self.open_model()
        information = llama_cpp.llama_print_system_info().decode()
        self.about = {"engine": "llama.cpp", "version": f"llama-cpp-python {llama_cpp.__version__}",
                      "kernels": " ".join(re.findall(r"(\w+) = 1", information))}

    def open_model(self):
        self.model = self.lib.llama_model_load_from_file(
            self.path.encode(), self.lib.llama_model_default_params())
        if not self.model:
            raise Wrong(f"llama.cpp does not load {self.path}")
        self.n_vocab = self.lib.llama_vocab_n_tokens(self.lib.llama_model_get_vocab(self.model))

    def token(self, i, seed=0):
        return (i * 7919 + seed * 104729) % self.n_vocab

    def close_context(self):
        if self.context:
            self.lib.llama_free(self.context)
        self.context = self.shape = None

    def open_context(self, seqs, tokens, unified=True):
        """With room for `seqs` sequences of `tokens` each. Returns whether it is a new one."""
        shape = (seqs, tokens, unified)
        if self.shape == shape:
            return False
        self.close_context()
        params = self.lib.llama_context_default_params()
        params.n_ctx = seqs * ((tokens + 255) // 256 * 256)
        params.n_batch, params.n_ubatch = N_BATCH, MICRO_BATCH
        params.n_threads = params.n_threads_batch = self.threads
        params.n_seq_max = seqs
        params.flash_attn_type = 1
        params.kv_unified = unified
        self.context = self.lib.llama_init_from_model(self.model, params)
        if not self.context:
            raise Wrong(f"llama.cpp makes no context for {seqs} sequences of {tokens} tokens")
        self.shape = shape
        return True

    def run(self, rows):
        """Computes rows of (token, position, sequence, wanted). Returns the seconds of it."""
        batch = self.lib.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (value, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i] = value, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = wanted
        begin = time.perf_counter()
        status = self.lib.llama_decode(self.context, batch)
        self.lib.llama_synchronize(self.context)
        seconds = time.perf_counter() - begin
        self.lib.llama_batch_free(batch)
        if status != 0:
            raise Wrong(f"llama_decode gives {status}")
        return seconds

    def memory_of_context(self):
        return self.lib.llama_get_memory(self.context)

    def fill(self, seqs, tokens):
        rows = [(self.token(i, s), i, s, 0) for s in range(seqs) for i in range(tokens)]
        for i in range(0, len(rows), N_BATCH):
            self.run(rows[i:i + N_BATCH])

    def prompt(self, n):
        self.lib.llama_memory_clear(self.memory_of_context(), True)
        rows = [(self.token(i, n), i, 0, i == n - 1) for i in range(n)]
        return sum(self.run(rows[i:i + N_BATCH]) for i in range(0, n, N_BATCH))

    def prefill(self, n):
        self.open_context(1, n + WARM_TOKENS)
        self.prompt(WARM_TOKENS)
        return {"value": n / self.prompt(n), "unit": "tokens/s"}

    def generate(self, seqs, prompt, n, unified=True):
        """Tokens/s behind prompts that are computed once; what was generated is taken back."""
        if self.open_context(seqs, prompt + n + 1, unified):
            self.fill(seqs, prompt)
        for s in range(seqs):
            self.lib.llama_memory_seq_rm(self.memory_of_context(), s, prompt, -1)
        step = lambda i: self.run([(self.token(i, s), prompt + i, s, 1) for s in range(seqs)])
        step(0)
        return n * seqs / sum(step(1 + i) for i in range(n))

    def decode(self, depth, n):
        return {"value": self.generate(1, depth, n), "unit": "tokens/s"}

    def batch(self, seqs, n):
        """The first time with one cache for all sequences and with one for each, then with the
        faster of the two."""
        if seqs not in self.best:
            speeds = {unified: self.generate(seqs, BATCH_PROMPT, n, unified)
                      for unified in (True, False)}
            self.best[seqs] = speeds[True] >= speeds[False]
        unified = self.best[seqs]
        return {"value": self.generate(seqs, BATCH_PROMPT, n, unified), "unit": "tokens/s",
                "note": "one cache" if unified else "a cache each"}

    def load(self):
        self.close_context()
        self.lib.llama_model_free(self.model)
        begin = time.perf_counter()
        self.open_model()
        self.open_context(1, 32)
        self.run([(self.token(0), 0, 0, 1)])
        return {"value": time.perf_counter() - begin, "unit": "s"}

    def memory(self):
        found = {name: size - self.before[name] for name, size in resident_of("self").items()}
        return {"value": found["VmHWM"], "unit": "B", "anonymous": found["RssAnon"],
                "file": found["RssFile"], "note": "without Python's own"}


def resident_of(process):
    """Bytes by /proc/PID/status; {} once it has ended."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii") as f:
            found = re.findall(r"^(VmHWM|RssAnon|RssFile):\s+(\d+) kB", f.read(), re.M)
    except OSError:
        return {}
    return {name: 1024 * int(kib) for name, kib in found}


class Programs:
    """llama-bench and llama-batched-bench of any build."""

    def __init__(self, path, threads, bench, batched, arguments):
        self.path, self.bench = os.path.abspath(path), os.path.abspath(bench)
        self.batched = batched and os.path.abspath(batched)
        self.threads, self.arguments = threads, arguments
        self.folder = tempfile.TemporaryDirectory()  # some leave a log where they are started
        usage = subprocess.run([bench, "--help"], capture_output=True, text=True, check=False)
        options = usage.stdout + usage.stderr
        self.depth_option = "-d" if "--n-depth" in options else "-gp" if "-gp" in options else None
        self.peak = {}
        found = self.measure(1, 0)
        self.about = {"engine": "llama-bench", "version": found.get("build_commit", "unknown"),
                      "kernels": found.get("cpu_info", "")}

    def start(self, argv):
        """What the program prints, and its messages; self.peak is the most memory that was seen."""
        self.peak = {}
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   cwd=self.folder.name)
        ended = threading.Event()

        def watch():
            while not ended.wait(0.02):
                for name, size in resident_of(process.pid).items():
                    self.peak[name] = max(size, self.peak.get(name, 0))
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            out, errors = process.communicate()
        finally:
            ended.set()
            watcher.join()
        if process.returncode != 0:
            last = (errors.strip() or out.strip() or "nothing said").splitlines()[-1]
            raise Wrong(f"{os.path.basename(argv[0])} ends with {process.returncode}: {last}")
        return out, errors

    def measure(self, prompt, n, depth=0, more=()):
        """One measurement of llama-bench, as it reports it."""
        argv = [self.bench, "-m", self.path, "-t", str(self.threads), "-fa", "1", "-ub",
                str(MICRO_BATCH), "-o", "json", *(more or ("-r", "1")), *self.arguments]
        if depth and not self.depth_option:
            raise Wrong("this llama-bench generates at no depth")
        if depth and self.depth_option == "-gp":
            argv += ["-p", "0", "-n", "0", "-gp", f"{depth},{n}"]
        else:
            argv += ["-p", str(prompt), "-n", str(n)] + (["-d", str(depth)] if depth else [])
        out, _ = self.start(argv)
        found = json.loads(out[out.index("["):out.rindex("]") + 1])
        if not found:
            raise Wrong("llama-bench measured nothing")
        return found[-1]

    def prefill(self, n):
        """The faster of two: the first one is the first to touch its memory."""
        found = self.measure(n, 0, more=("-r", "2"))
        return {"value": max(found.get("samples_ts", [found["avg_ts"]])), "unit": "tokens/s"}

    def decode(self, depth, n):
        return {"value": self.measure(0, n, depth)["avg_ts"], "unit": "tokens/s"}

    def batch(self, seqs, n, prompt=BATCH_PROMPT):
        if not self.batched:
            raise Wrong("no llama-batched-bench at hand")
        room = seqs * (prompt + n)
        found = self.start([
            self.batched, "-m", self.path, "-t", str(self.threads), "-tb", str(self.threads),
            "-fa", "on", "-c", str((room + 255) // 256 * 256), "-b", str(N_BATCH), "-ub",
            str(MICRO_BATCH), "-npp", str(prompt), "-ntg", str(n), "-npl", str(seqs),
            *self.arguments])
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")]
                for text in found for line in text.splitlines() if line.startswith("|")]
        for row in rows[1:]:
            values = dict(zip(rows[0], row))
            if values.get("B") == str(seqs):
                return {"value": float(values["S_TG t/s"]), "unit": "tokens/s"}
        raise Wrong("llama-batched-bench printed no row")

    def load(self):
        """The whole process with a prompt of one token: what a start costs who uses it."""
        begin = time.perf_counter()
        self.measure(1, 0, more=("-r", "1", "-w", "0"))
        return {"value": time.perf_counter() - begin, "unit": "s", "note": "whole process"}

    def memory(self):
        self.measure(MICRO_BATCH, 8)
        return {"value": self.peak.get("VmHWM", 0), "unit": "B",
                "anonymous": self.peak.get("RssAnon", 0), "file": self.peak.get("RssFile", 0)}


def obey(peer, line):
    words = line.split()
    counts = {"prefill": 1, "decode": 2, "batch": 2, "load": 0, "memory": 0}
    if not words or counts.get(words[0]) != len(words) - 1 \
            or not all(word.isdigit() for word in words[1:]):
        raise Wrong("expected: prefill N, decode DEPTH N, batch SEQS N, load, memory")
    return getattr(peer, words[0])(*map(int, words[1:]))


def answer(value):
    print(json.dumps(value), flush=True)


def main():
    parser = argparse.ArgumentParser(prog="peer_llama.py")
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-bench")
    parser.add_argument("--batched-bench")
    args, others = parser.parse_known_args()
    try:
        if args.llama_bench:
            peer = Programs(args.model, args.threads, args.llama_bench, args.batched_bench, others)
        elif others:
            parser.error(f"unknown: {' '.join(others)}")
        else:
            peer = Library(args.model, args.threads)
    except (Wrong, OSError, ImportError, RuntimeError, ValueError) as error:
        answer({"error": str(error)})
        sys.exit(1)
    answer({**peer.about, "threads": args.threads})
    for line in sys.stdin:
        try:
            answer(obey(peer, line))
        except (Wrong, OSError, ValueError, KeyError) as error:
            answer({"error": str(error)})


if __name__ == "__main__":
    main()
