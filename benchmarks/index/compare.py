"""libinfer's index beside hnswlib, usearch and FAISS: the same vectors, engines in turns, medians.

usage: compare.py --data STEM --metric cosine|l2 --run INDEX_RUN --out DIR --name NAME --date DATE
                  [--type f16] [--rounds N] [--engines a,b] [--cells build,search,...] [--warm] [--note TEXT]

STEM: what make_vectors.py wrote. Needs numpy, hnswlib, usearch, faiss-cpu. Writes NAME.json, DATE-NAME.md
and DATE-NAME.svg into DIR."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

import numpy as np

import report

HERE = os.path.dirname(os.path.abspath(__file__))
TOP_K = 10
EF = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320)
RECALLS = (.7, .8, .85, .9, .93, .95, .97, .98, .99, .995, .999)
LISTS = (2, 4, 8, 16, 24, 32, 48, 64, 96)  # of IVF1024
TARGETS = (0.90, 0.95, 0.99)
PEERS = ("hnswlib", "usearch", "faiss_hnsw", "faiss_ivfpq")
CELLS = ("build", "search", "batch", "threads", "exact", "filter", "change")
EXACT_QUERIES_A_CALL = 256
# From Python hnswlib asks a function of Python about each row, and usearch cannot be asked.
NO_FILTERS = ("hnswlib", "usearch")
OURS = ("libinfer", "libinfer_partitions")  # the second one has no graph


class Engine:
    """A process that takes commands."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended at: {' '.join(str(w) for w in words)}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def truth_of(stem):
    n, k = np.fromfile(stem + ".truth.ibin", np.int32, 2)
    return np.fromfile(stem + ".truth.ibin", np.int32, offset=8).reshape(int(n), int(k))


def recall(found, truth, k=TOP_K):
    return float(np.mean([len(np.intersect1d(f[f >= 0], t[:k])) / k for f, t in zip(found, truth)]))


def truth_of_some(base, queries, metric, allowed):
    rows = np.flatnonzero(allowed)
    some = np.asarray(base[rows])
    score = queries @ some.T
    if metric == "l2":
        score = 2 * score - (some ** 2).sum(1)
    return rows[np.argsort(-score, axis=1, kind="stable")[:, :TOP_K]]


def read_rows(path):
    n, dims = np.fromfile(path, np.int32, 2)
    return np.memmap(path, np.float32, "r", 8, (int(n), int(dims)))


def properties(n):
    return ((np.arange(n, dtype=np.uint64) * np.uint64(2654435761)) >> np.uint64(7)) % np.uint64(1000)


def at_recall(front, target):
    """Queries a second where a front of (recall, rate) reaches a recall: between two points by their
    logarithm; None where it is never reached. Points that others beat in both do not count."""
    best = {}
    for r, rate in front:
        best[r] = max(rate, best.get(r, 0))
    points, fastest = [], 0
    for r in sorted(best, reverse=True):
        if best[r] > fastest:
            fastest = best[r]
            points.append((r, fastest))
    points.reverse()
    if not points or points[-1][0] < target:
        return None
    if points[0][0] >= target:
        return points[0][1]
    for (r0, q0), (r1, q1) in zip(points, points[1:]):
        if r0 < target <= r1:
            return float(np.exp(np.interp(target, (r0, r1), np.log((q0, q1)))))
    return None


class Bench:
    def __init__(self, options):
        self.o = options
        self.truth = truth_of(options.data)
        self.folders = [tempfile.TemporaryDirectory(dir=options.folder) for _ in OURS]
        self.out = tempfile.NamedTemporaryFile(suffix=".ibin")
        files = [options.data + ".base.fbin", options.data + ".query.fbin"]
        self.engines = [Engine(name, [options.run, *files, options.metric, options.type, folder.name,
                                      "graph" if name == "libinfer" else "partitions", str(options.device)])
                        for name, folder in zip(OURS, self.folders)]
        self.engines += [Engine(name, [sys.executable, os.path.join(HERE, "peer.py"), name, *files,
                                       options.metric])
                         for name in options.engines]
        self.base, self.queries = read_rows(files[0]), np.asarray(read_rows(files[1]))
        self.results = {"build": {}, "exact": {}, "change": {}}

    def knobs(self, engine, filtered=False):
        if self.knob(engine, filtered) == "recall":
            return RECALLS
        return LISTS if engine.name == "faiss_ivfpq" else EF

    def knob(self, engine, filtered=False):
        """Under filters the index chooses its way, and each has another knob: all obey the recall."""
        by_recall = OURS if filtered else OURS[1:]
        return "recall" if engine.name in by_recall else "ef"

    def found(self):
        return np.fromfile(self.out.name, np.int32).reshape(-1, TOP_K)

    def build(self):
        for engine in self.engines:
            self.results["build"][engine.name] = {**engine.ask("build", 2), **engine.ask("memory")}
            print(engine.name, self.results["build"][engine.name], file=sys.stderr, flush=True)

    def fronts(self, cell, ask, truth, rounds, but=(), filtered=False):
        """Each knob of each engine in turns, `rounds` times; the first round says the recall."""
        times = {}
        engines = [e for e in self.engines if e.name not in but]
        for _ in range(rounds):
            for i in range(len(EF)):
                for engine in engines:
                    knobs = self.knobs(engine, filtered)
                    if i < len(knobs):
                        if self.o.warm:  # a pass that does not count: others had the caches
                            ask(engine, knobs[i])
                        spent = ask(engine, knobs[i])["s"]
                        times.setdefault((engine.name, knobs[i]), []).append(spent)
                        if len(times[engine.name, knobs[i]]) == 1:
                            times[engine.name, knobs[i]].append(recall(self.found(), truth))
        fronts = {}
        for (name, knob), (first, r, *more) in times.items():
            rates = [len(self.queries) / t for t in (first, *more)]
            fronts.setdefault(name, []).append(
                {"knob": knob, "recall": r, "rate": statistics.median(rates), "least": min(rates),
                 "most": max(rates)})
        self.results[cell] = fronts
        for name, points in fronts.items():
            front = [(p["recall"], p["rate"]) for p in points]
            rates = [at_recall(front, t) for t in TARGETS]
            print(cell, name, [r and round(r) for r in rates], file=sys.stderr, flush=True)

    def search(self):
        # Those of Python get all queries in a call, so that its own time does not count.
        self.fronts("search", lambda e, v: e.ask(
            "search", self.knob(e), v, 1 if e.name in (*OURS, "faiss_ivfpq") else len(self.queries),
            1, self.out.name), self.truth, self.o.rounds)

    def batch(self):
        self.fronts("batch", lambda e, v: e.ask("search", self.knob(e), v, len(self.queries), 1,
                                                self.out.name), self.truth, self.o.rounds)

    def threads(self):
        self.fronts("threads", lambda e, v: e.ask("search", self.knob(e), v, len(self.queries), 2,
                                                  self.out.name), self.truth, self.o.rounds)
        for engine in self.engines[:len(OURS)]:
            engine.ask("search", "ef", 10, len(self.queries), 1, self.out.name)

    def exact(self):
        peer = Engine("sgemm", [sys.executable, os.path.join(HERE, "peer.py"), "sgemm",
                                self.o.data + ".base.fbin", self.o.data + ".query.fbin",
                                self.o.metric])
        peer.ask("build", 1)
        cells = {"libinfer, one query a call": (self.engines[0], 1),
                 "libinfer, 256 a call": (self.engines[0], EXACT_QUERIES_A_CALL),
                 "SGEMM and selection, 256 a call": (peer, EXACT_QUERIES_A_CALL)}
        for _ in range(max(1, self.o.rounds // 2)):
            for name, (engine, call) in cells.items():
                spent = engine.ask("search", "exact", 1, call, 1, self.out.name)["s"]
                cell = self.results["exact"].setdefault(name, {"rates": []})
                cell["rates"].append(len(self.queries) / spent)
                cell["recall"] = recall(self.found(), self.truth)
        peer.close()
        print(self.results["exact"], file=sys.stderr, flush=True)

    def filter(self):
        for permille in (1, 10, 100, 500):
            allowed = properties(len(self.base)) < permille
            truth = truth_of_some(self.base, self.queries, self.o.metric, allowed)
            self.fronts(f"filter {permille / 10:g} %", lambda e, v, p=permille: e.ask(
                "filter", p, self.knob(e, True), v, self.out.name,
                *([len(self.queries)] if e.name in OURS else [])), truth, 2, NO_FILTERS, True)

    def change(self):
        """Updates one at a time, deletes, and what the recall is after a fifth was replaced."""
        fifth = len(self.base) // 5
        for engine in self.engines:
            if engine.name not in ("libinfer", "hnswlib"):
                continue
            n = 2000 if engine.name == "libinfer" else 200
            got = {"updates_a_s": n / engine.ask("update", 0, n)["wall_s"]}
            engine.ask("search", "ef", 100, len(self.queries), 1, self.out.name)
            got["recall_before"] = recall(self.found(), self.truth)
            got["deletes_a_s"] = fifth / engine.ask("delete", 0, fifth)["wall_s"]
            if engine.name == "libinfer":
                got["inserts_a_s"] = fifth / engine.ask("insert", 0, fifth)["wall_s"]
                engine.ask("search", "ef", 100, len(self.queries), 1, self.out.name)
                got["recall_after"] = recall(self.found(), self.truth)
                got["compact_s"] = engine.ask("compact")["wall_s"]
                engine.ask("search", "ef", 100, len(self.queries), 1, self.out.name)
                got["recall_compacted"] = recall(self.found(), self.truth)
            self.results["change"][engine.name] = got
            print(engine.name, got, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--metric", choices=("cosine", "l2"), required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--folder", help="where the index may lie (default: that of temporary files)")
    parser.add_argument("--out", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--date", required=True)
    parser.add_argument("--type", default="f16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", default=",".join(PEERS))
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--warm", action="store_true",
                        help="a pass before each that is measured: what a busy server sees")
    parser.add_argument("--device", type=int, default=0, help="a GPU that searches ours: infer devices")
    parser.add_argument("--note", default="")
    o = parser.parse_args()
    o.engines = [name for name in o.engines.split(",") if name]
    bench = Bench(o)
    for cell in ["build"] + [c for c in CELLS[1:] if c in o.cells.split(",")]:
        getattr(bench, cell)()
    for engine in bench.engines:
        engine.close()
    bench.results["set"] = {"name": o.name, "rows": len(bench.base), "dims": bench.base.shape[1],
                            "metric": o.metric, "type": o.type, "note": o.note, "date": o.date}
    with open(os.path.join(o.out, o.name + ".json"), "w", encoding="utf-8") as f:
        json.dump(bench.results, f, indent=1)
    report.write(bench.results, os.path.join(o.out, f"{o.date}-{o.name}"), at_recall, TARGETS)


if __name__ == "__main__":
    main()
