"""Other vector indexes under the commands of index_run.c: lines on standard input, JSON lines on
standard output.

usage: peer.py ENGINE BASE.fbin QUERY.fbin cosine|l2

ENGINE: hnswlib, usearch, faiss_hnsw, faiss_ivfpq, sgemm"""

import json
import os
import resource
import sys
import time

import numpy as np

TOP_K = 10
DEGREE, EFFORT = 16, 200


def read_rows(path):
    n, dims = np.fromfile(path, np.int32, 2)
    return np.memmap(path, np.float32, "r", 8, (int(n), int(dims)))


def rss_mb():
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon")) / 1024


def properties(rows):
    return ((rows.astype(np.uint64) * np.uint64(2654435761)) >> np.uint64(7)) % np.uint64(1000)


class Hnswlib:
    def __init__(self, dims, metric):
        import hnswlib
        self.index = hnswlib.Index("cosine" if metric == "cosine" else "l2", dims)
        self.library = hnswlib

    def build(self, base, threads):
        self.index.init_index(max_elements=len(base), ef_construction=EFFORT, M=DEGREE)
        self.index.add_items(base, np.arange(len(base)), num_threads=threads)

    def search(self, queries, knob, value, threads, allowed=None):
        self.index.set_ef(max(int(value), TOP_K))
        chosen = None if allowed is None else lambda row: bool(allowed[row])
        return self.index.knn_query(queries, TOP_K, num_threads=threads, filter=chosen)[0]

    def delete(self, rows):
        for row in rows:
            self.index.mark_deleted(row)

    def update(self, rows, vectors):
        for row, vector in zip(rows, vectors):
            self.index.add_items(vector, row)


class Usearch:
    def __init__(self, dims, metric):
        from usearch.index import Index
        self.index = Index(ndim=dims, metric="cos" if metric == "cosine" else "l2sq", dtype="f32",
                           connectivity=DEGREE, expansion_add=EFFORT)

    def build(self, base, threads):
        self.index.add(np.arange(len(base)), np.asarray(base), threads=threads)

    def search(self, queries, knob, value, threads, allowed=None):
        self.index.expansion_search = max(int(value), TOP_K)
        return self.index.search(queries, TOP_K, threads=threads).keys


class Faiss:
    def __init__(self, dims, metric):
        import faiss
        self.faiss, self.dims = faiss, dims
        self.metric = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2

    def params(self, value, allowed):
        more = {}
        if allowed is not None:
            more["sel"] = self.faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        return self.parameters(int(value), more)

    def search(self, queries, knob, value, threads, allowed=None):
        self.faiss.omp_set_num_threads(threads)
        return self.index.search(queries, TOP_K, params=self.params(value, allowed))[1]


class FaissHnsw(Faiss):
    def build(self, base, threads):
        self.faiss.omp_set_num_threads(threads)
        self.index = self.faiss.IndexHNSWFlat(self.dims, DEGREE, self.metric)
        self.index.hnsw.efConstruction = EFFORT
        self.index.add(np.asarray(base))

    def parameters(self, value, more):
        return self.faiss.SearchParametersHNSW(efSearch=max(value, TOP_K), **more)


class FaissIvfPq(Faiss):
    def build(self, base, threads):
        self.faiss.omp_set_num_threads(threads)
        name = f"IVF1024,PQ{self.dims // 2}x4fs,RFlat"
        self.index = self.faiss.index_factory(self.dims, name, self.metric)
        self.index.train(np.asarray(base[::2]))
        self.index.add(np.asarray(base))

    def parameters(self, value, more):
        lists = self.faiss.SearchParametersIVF(nprobe=value, **more)
        return self.faiss.IndexRefineSearchParameters(k_factor=10, base_index_params=lists)


class Sgemm:
    """Exact search as BLAS does it."""

    def __init__(self, dims, metric):
        self.metric = metric

    def build(self, base, threads):
        self.base = np.asarray(base)
        self.norms = (self.base ** 2).sum(1) if self.metric == "l2" else None

    def search(self, queries, knob, value, threads, allowed=None):
        score = queries @ self.base.T
        if self.norms is not None:
            score = 2 * score - self.norms
        likely = np.argpartition(-score, TOP_K, axis=1)[:, :TOP_K]
        order = np.argsort(-np.take_along_axis(score, likely, 1), axis=1)
        return np.take_along_axis(likely, order, 1)


ENGINES = {"hnswlib": Hnswlib, "usearch": Usearch, "faiss_hnsw": FaissHnsw,
           "faiss_ivfpq": FaissIvfPq, "sgemm": Sgemm}


class Run:
    def __init__(self, engine, base, queries, metric):
        self.base, self.queries = read_rows(base), np.asarray(read_rows(queries))
        self.engine = ENGINES[engine](self.base.shape[1], metric)
        self.before = rss_mb()
        self.allowed = {}

    def build(self, threads):
        wall, cpu = time.perf_counter(), time.process_time()
        self.engine.build(self.base, int(threads))
        return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}

    def found(self, call, ask):
        found, spent = [], 0.0
        for i in range(0, len(self.queries), call):
            part = self.queries[i:i + call]
            begin = time.perf_counter()
            ids = ask(part)
            spent += time.perf_counter() - begin
            found.append(np.asarray(ids).astype(np.int32))
        return np.concatenate(found), spent

    def search(self, knob, value, call, threads, out):
        ids, spent = self.found(int(call), lambda q: self.engine.search(q, knob, float(value),
                                                                       int(threads)))
        ids.tofile(out)
        return {"s": spent}

    def filter(self, permille, knob, value, out):
        if permille not in self.allowed:
            self.allowed[permille] = properties(np.arange(len(self.base))) < int(permille)
        allowed = self.allowed[permille]
        ids, spent = self.found(len(self.queries), lambda q: self.engine.search(
            q, knob, float(value), 1, allowed))
        ids.tofile(out)
        return {"s": spent}

    def timed(self, change, *args):
        wall = time.perf_counter()
        change(*args)
        return {"wall_s": time.perf_counter() - wall}

    def delete(self, first, n):
        return self.timed(self.engine.delete, range(int(first), int(first) + int(n)))

    def update(self, first, n):
        rows = range(int(first), int(first) + int(n))
        return self.timed(self.engine.update, rows, np.asarray(self.base[rows.start:rows.stop]))

    def memory(self):
        return {"rss_mb": rss_mb() - self.before}


def main():
    run = Run(*sys.argv[1:5])
    answers = os.dup(1)  # libraries that print must not come between
    os.dup2(2, 1)
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            name, *args = line.split()
            if name == "quit":
                break
            print(json.dumps(getattr(run, name)(*args)), file=out, flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
