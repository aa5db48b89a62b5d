"""Compares libinfer with other CPU engines on the same GGUF files, in turns; doc/benchmarks.md
says how to run it and how to read what it writes.

usage: benchmarks/engine compare [options] [MODEL...]

MODEL is a name of the set below or a GGUF file; without any, it is the whole set. Each cell is
measured in rounds, one engine after the other within a round. Samples go to NAME.json in the
cache folder, where later runs of the same name replace the cells that they measure again; the
report is always written from all of them."""

import argparse
import contextlib
import datetime
import fcntl
import json
import os
import platform
import select
import subprocess
import sys
import time

import compare_models
import compare_report as report

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
MASKS = {"default": 0, "avx512": 0b1100, "avx2": 0b1110}  # INFER_CPU_* of <infer/device.h>
KV_BYTES = 2  # of an element of the cache, F16 in all engines
# Peers that fill their cache anew for each sample take few of these.
SLOW = {"decode@8192", "batch@64"}
SLOW_ROUNDS = 2
NOT_AT_HAND = "peer not at hand"
# Tokens that each sequence generates; few where a step is slow.
TOKENS = {"decode": 32, "batch@4": 16, "batch@8": 12, "batch@16": 8, "batch@64": 4}
ANSWER_SECONDS = 1200


class Failed(Exception):
    """An engine that does not do what it was asked."""


class Engine:
    """A process that obeys the commands of benchmarks/speed.c."""

    def __init__(self, name, argv, environment=None, lasting=True):
        self.name, self.argv, self.lasting = name, argv, lasting
        self.environment = {**os.environ, **(environment or {})}
        self.process, self.about, self.rest = None, {}, b""

    def start(self, path, log):
        self.stop()
        self.process = subprocess.Popen(
            [word.replace("{model}", path) for word in self.argv], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=log, env=self.environment, bufsize=0)
        self.rest = b""
        try:
            self.about = self.answer()
        except Failed:
            self.stop()
            raise

    def answer(self):
        end = time.monotonic() + ANSWER_SECONDS
        out = self.process.stdout.fileno()
        while b"\n" not in self.rest:
            if not select.select([out], [], [], max(0, end - time.monotonic()))[0]:
                self.process.kill()
                self.process.wait()
                raise Failed(f"no answer in {ANSWER_SECONDS} s")
            piece = os.read(out, 65536)
            if not piece:
                raise Failed(f"ended with {self.process.wait()}")
            self.rest += piece
        line, self.rest = self.rest.split(b"\n", 1)
        found = json.loads(line)
        if "error" in found:
            raise Failed(found["error"])
        return found

    def ask(self, command):
        try:
            self.process.stdin.write(command.encode() + b"\n")
        except OSError as error:
            raise Failed(f"ended: {error}") from error
        return self.answer()

    def stop(self):
        if not self.process:
            return
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process = None


def processor_time(process):
    """Ticks of all processors: in all, those the host took away, and those that others worked than
    the process and the children it has waited for."""
    with open("/proc/stat", encoding="ascii") as f:
        user, nice, system, idle, waiting, irq, soft, steal = map(int, f.readline().split()[1:9])
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as f:
        own = sum(map(int, f.read().rpartition(")")[2].split()[11:15]))
    busy = user + nice + system + irq + soft
    return busy + idle + waiting + steal, steal, busy - own


def engines(args):
    """Those at hand, by name, libinfer first; None for one that is not."""
    peer = os.path.join(HERE, "peer_llama.py")
    common = ["--threads", str(args.threads)]
    ours = [os.path.join(args.build, "benchmarks", "speed"), "{model}", *common, "--kv", "f16",
            "--disable-cpu", str(MASKS[args.level]), "--pack", args.pack] + ["--fast"] * args.fast
    found = {report.OURS: Engine(report.OURS, ours), "llama.cpp": None, args.bench_name: None}
    # What llama-cpp-python brings is built for this processor, whatever the level.
    if args.llama_python and (args.level == "default" or args.llama_libs):
        found["llama.cpp"] = Engine(
            "llama.cpp", [args.llama_python, peer, "{model}", *common],
            {"LLAMA_CPP_LIB_PATH": args.llama_libs} if args.llama_libs else None)
    if args.llama_bench:
        batched = ["--batched-bench", args.batched_bench] if args.batched_bench else []
        found[args.bench_name] = Engine(
            args.bench_name, [sys.executable, peer, "{model}", *common, "--llama-bench",
                              args.llama_bench, *batched, *args.bench_args.split()], lasting=False)
    return found


class Run:
    """One call of this program. Its samples join `results`, which are kept after each cell: a run
    takes hours, and somebody may stop it."""

    def __init__(self, args, results, path):
        self.args, self.results, self.path = args, results, path
        self.engines = engines(args)
        self.log = open(os.path.join(args.cache, args.name + ".log"), "a", encoding="utf-8")

    @contextlib.contextmanager
    def quiet(self):
        """Waits for other measuring programs that take the same lock."""
        if not self.args.lock:
            yield
            return
        with open(self.args.lock, "a", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def limits(self):
        limits = [os.path.join(self.args.build, "benchmarks", "limits"), "--threads",
                  str(self.args.threads), "--level", self.args.level]
        with self.quiet():
            return json.loads(subprocess.run(limits, stdout=subprocess.PIPE, check=True).stdout)

    def sample(self, engine, command):
        with self.quiet():
            before = processor_time(engine.process)
            found = engine.ask(command)
            after = processor_time(engine.process)
        ticks, steal, others = (b - a for a, b in zip(before, after))
        return {**found, "steal": 100 * steal / max(1, ticks),
                "others": 100 * max(0, others) / max(1, ticks)}

    def cell(self, name, live, limits):
        """All rounds of a cell; `live` are the engines that run, by name."""
        kind, _, n = name.partition("@")
        tokens = TOKENS.get(name, TOKENS.get(kind, 0))
        command = f"{kind} {n} {tokens}" if kind in ("decode", "batch") else f"{kind} {n}".strip()
        found = {e: {"about": live[e].about, "samples": []} if e in live
                 else {"error": NOT_AT_HAND if self.engines[e] is None else "does not start"}
                 for e in self.engines}
        # A first round without record touches memory, fills caches and lets a peer choose.
        warm = kind in ("prefill", "decode", "batch")
        for i in range(0 if warm else 1, self.args.rounds + 1):
            for e, engine in live.items():
                rounds = SLOW_ROUNDS if name in SLOW and not engine.lasting else i
                if "error" in found[e] or i > rounds or i == 0 and not engine.lasting:
                    continue
                try:
                    sample = self.sample(engine, command)
                except Failed as failed:
                    found[e] = {"error": str(failed)}
                    continue
                if i:
                    found[e]["samples"].append(sample)
        self.keep(name, found, limits, tokens)

    def keep(self, name, found, limits, tokens):
        cell = {
            "time": datetime.datetime.now().isoformat(timespec="seconds"),
            "machine": machine(self.args), "limits": limits, "threads": self.args.threads,
            "kv_bytes": KV_BYTES, "tokens": tokens, "engines": found}
        self.results = report.merge(self.results, {
            "models": {self.model: self.description},
            "cells": {f"{self.args.level}/{self.model}/{name}": cell}})
        write(self.path, json.dumps(self.results, indent=1) + "\n")
        figures = ", ".join(f"{e} {report.figure(engine, name)}" for e, engine in found.items())
        print(f"{self.args.level} {self.model} {name}: {figures}", flush=True)

    def start(self, name, path, live):
        """Adds the engine to `live` if there is one of this name and it starts."""
        live.pop(name, None)
        engine = self.engines[name]
        if not engine:
            return
        try:
            engine.start(path, self.log)
            live[name] = engine
        except (Failed, OSError, ValueError) as failed:
            print(f"{name} does not start: {failed}", file=sys.stderr)
        if name == report.OURS and name in live:
            engine.about["version"] += commit()

    def memory(self, path, limits):
        """Each engine alone in a process that has done nothing else."""
        found = {}
        for name, engine in self.engines.items():
            found[name] = {"error": NOT_AT_HAND if engine is None else "does not start"}
            live = {}
            self.start(name, path, live)
            if not live:
                continue
            try:
                if engine.lasting:
                    self.sample(engine, "prefill 512")
                    self.sample(engine, "decode 0 8")
                found[name] = {"about": engine.about, "samples": [self.sample(engine, "memory")]}
            except Failed as failed:
                found[name] = {"error": str(failed)}
            engine.stop()
        self.keep("memory", found, limits, 8)

    def measure(self, name, cells):
        """All cells of a model."""
        path = compare_models.path_of(name, self.args.cache, self.args.build)
        self.model = os.path.basename(name).removesuffix(".gguf")
        self.description = compare_models.describe(path)
        limits = self.limits()
        context = self.description["context"]
        timed = [cell for cell in cells if cell != "memory" and fits(cell, context)]
        live = {}
        try:
            for cell in timed:
                for e in self.engines:  # also anew those that died in the cell before
                    if e not in live or live[e].process.poll() is not None:
                        self.start(e, path, live)
                self.cell(cell, live, limits)
        finally:
            for engine in live.values():
                engine.stop()
        if "memory" in cells:
            self.memory(path, limits)


def commit():
    """Of the sources, if they are a clone."""
    found = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                           capture_output=True, text=True, check=False).stdout.strip()
    return f", {found}" if found else ""


def fits(cell, context):
    kind, _, n = cell.partition("@")
    return kind != "decode" or int(n) + 2 * TOKENS["decode"] <= context


def machine(args):
    name = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return (f"{name}, {os.cpu_count()} processors, {args.threads} threads, {platform.system()} "
            f"{platform.release().split('-')[0]}.")


def wanted_cells(text):
    """'prefill,decode@0' as cells; a kind alone is all of its cells."""
    chosen = []
    for word in text.split(","):
        found = [cell for cell in report.CELLS if word in (cell, cell.partition("@")[0])]
        if not found:
            raise argparse.ArgumentTypeError(f"no cell {word}; there are {', '.join(report.CELLS)}")
        chosen += found
    return [cell for cell in report.CELLS if cell in chosen]


def parse(argv):
    cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
                         "libinfer-benchmarks")
    p = argparse.ArgumentParser(
        prog="benchmarks/engine compare", description="Engines in turns on the same files. Set: "
        + ", ".join(compare_models.MODELS) + ". Cells: " + ", ".join(report.CELLS) + ".")
    p.add_argument("models", metavar="MODEL", nargs="*", help="of the set, or a GGUF file")
    p.add_argument("--only", default="", help="names of the set, with commas")
    p.add_argument("--cells", type=wanted_cells, default=report.CELLS,
                   help="such as prefill,decode@0")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--level", choices=report.LEVELS, default="default")
    p.add_argument("--fast", action="store_true", help="libinfer's FAST numerics")
    p.add_argument("--pack", choices=["auto", "off", "on"], default="auto",
                   help="whether libinfer packs weights at load")
    p.add_argument("--build", default=os.path.join(ROOT, "build"))
    p.add_argument("--cache", default=cache, help="models and samples (default: %(default)s)")
    p.add_argument("--name", default="compare", help="of the samples and the report")
    p.add_argument("--date", default=datetime.date.today().isoformat())
    p.add_argument("--out", default=os.path.join(HERE, "results"), help="folder of the report")
    p.add_argument("--report", action="store_true", help="measure nothing, write the report")
    p.add_argument("--lock", help="a file to lock (flock) while measuring")
    p.add_argument("--llama-python", help="a Python that has llama-cpp-python")
    p.add_argument("--llama-libs", help="folder with another libllama.so for it")
    p.add_argument("--llama-bench", help="a peer's llama-bench")
    p.add_argument("--batched-bench", help="its llama-batched-bench")
    p.add_argument("--bench-args", default="", help="further arguments of both")
    p.add_argument("--bench-name", default="ik_llama.cpp", help="what that peer is called")
    args = p.parse_args(argv)
    args.models += [name for name in args.only.split(",") if name]
    for name in args.models:
        if name not in compare_models.MODELS and not os.path.isfile(name):
            p.error(f"{name} is no file and not of the set: {', '.join(compare_models.MODELS)}")
    args.models = args.models or list(compare_models.MODELS)
    return args


def write(path, text):
    with open(path + ".part", "w", encoding="utf-8") as f:
        f.write(text)
    os.replace(path + ".part", path)


def write_report(args, results):
    charts = {}
    for level in report.LEVELS:
        picture = report.svg(results, level)
        if picture:
            suffix = "" if level == "default" else "-" + level
            charts[level] = f"{args.date}-{args.name}{suffix}.svg"
            write(os.path.join(args.out, charts[level]), picture)
    path = os.path.join(args.out, f"{args.date}-{args.name}.md")
    write(path, report.markdown(results, f"{args.date}: {args.name}", charts))
    print(path)


def main():
    args = parse(sys.argv[1:])
    os.makedirs(args.cache, exist_ok=True)
    raw = os.path.join(args.cache, args.name + ".json")
    results = {"models": {}, "cells": {}}
    if os.path.exists(raw):
        with open(raw, encoding="utf-8") as f:
            results = json.load(f)
    run = Run(args, results, raw)
    for name in [] if args.report else args.models:
        begin = time.monotonic()
        run.measure(name, args.cells)
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)
        write_report(args, run.results)
    if args.report:
        write_report(args, results)


if __name__ == "__main__":
    main()
