"""How well an embedding model finds abstracts: nDCG@10 on Cranfield and Vaswani, by exact search and
through the index. The library is called as a program calls it; no Python package is needed.

usage: retrieval.py LIBRARY MODEL TEXT_FOLDER [cranfield] [vaswani] [--keep STEM]

With --keep the vectors go to STEM-NAME.base.fbin and STEM-NAME.query.fbin, for make_vectors.py."""

import ctypes as c
import math
import os
import re
import struct as struct_lib
import sys
import time

TOP_K = 10
BATCH = 256


def struct(name, fields):
    return type(name, (c.Structure,), {"_fields_": fields})


P, SIZE, I32, U64, F32 = c.c_void_p, c.c_size_t, c.c_int32, c.c_uint64, c.c_float
TEXT = c.c_char_p
EmbedOptions = struct("EmbedOptions", [
    ("struct_size", SIZE), ("how", I32), ("prompt", TEXT), ("dims", I32), ("pooling", I32),
    ("no_normalize", I32), ("truncate", I32), ("deadline_ns", U64)])
EmbeddingInfo = struct("EmbeddingInfo", [
    ("struct_size", SIZE), ("dims", I32), ("n_context", I32), ("pooling", I32), ("normalized", I32),
    ("pooling_name", TEXT), ("query_prompt", TEXT), ("document_prompt", TEXT), ("digest", TEXT),
    ("can_embed", I32), ("can_rerank", I32)])
IndexOptions = struct("IndexOptions", [
    ("struct_size", SIZE), ("allocator", P), ("dims", I32), ("metric", I32), ("type", I32),
    ("sync", I32)])
Record = struct("Record", [
    ("id", TEXT), ("ns", TEXT), ("vector", P), ("metadata", TEXT), ("metadata_size", SIZE),
    ("reserved", U64 * 2)])
Query = struct("Query", [
    ("struct_size", SIZE), ("vector", P), ("id", TEXT), ("ns", TEXT), ("filter", TEXT),
    ("top_k", I32), ("recall", F32), ("ef", I32)])
Hit = struct("Hit", [("struct_size", SIZE), ("id", TEXT), ("score", F32), ("distance", F32)])
QUERY, DOCUMENT = 1, 2


class Library:
    def __init__(self, path):
        self.lib = c.CDLL(path)
        self.lib.infer_last_error.restype = TEXT
        self.lib.infer_hits_count.restype = SIZE
        self.lib.infer_hits_count.argtypes = [P, SIZE]
        self.lib.infer_hits_at.argtypes = [P, SIZE, SIZE, P]

    def __call__(self, name, *args):
        if getattr(self.lib, "infer_" + name)(*args) != 0:
            raise SystemExit(f"{name}: {self.lib.infer_last_error().decode()}")


class Embedder:
    def __init__(self, lib, path):
        self.lib, self.model, self.session = lib, P(), P()
        self.info = EmbeddingInfo(struct_size=c.sizeof(EmbeddingInfo))
        lib("model_load", c.byref(self.model), path.encode(), None)
        lib("session_create", c.byref(self.session), self.model, None)
        lib("model_get_embedding_info", self.model, c.byref(self.info))

    def embed(self, texts, how):
        dims = self.info.dims
        rows = (F32 * (dims * len(texts)))()
        options = EmbedOptions(struct_size=c.sizeof(EmbedOptions), how=how, truncate=1)
        for i in range(0, len(texts), BATCH):
            part = texts[i:i + BATCH]
            self.lib("session_embed", c.byref(rows, i * dims * 4), self.session,
                     (TEXT * len(part))(*[t.encode() for t in part]), None, SIZE(len(part)),
                     c.byref(options), None)
        return rows


class Index:
    def __init__(self, lib, dims):
        self.lib, self.dims, self.index = lib, dims, P()
        lib("index_open", c.byref(self.index), None,
            c.byref(IndexOptions(struct_size=c.sizeof(IndexOptions), dims=dims)))

    def add(self, ids, rows):
        records = (Record * len(ids))()
        for i, name in enumerate(ids):
            records[i] = Record(id=name.encode(), vector=c.addressof(rows) + i * self.dims * 4)
        self.lib("index_upsert", self.index, records, SIZE(len(ids)))

    def search(self, rows, n, recall, ef=0):
        queries, hits = (Query * n)(), P()
        for i in range(n):
            queries[i] = Query(struct_size=c.sizeof(Query), top_k=TOP_K, recall=recall, ef=ef,
                               vector=c.addressof(rows) + i * self.dims * 4)
        self.lib("index_search", c.byref(hits), self.index, queries, SIZE(n))
        found = []
        for i in range(n):
            found.append([])
            for j in range(self.lib.lib.infer_hits_count(hits, i)):
                hit = Hit(struct_size=c.sizeof(Hit))
                self.lib("hits_at", hits, i, j, c.byref(hit))
                found[-1].append(hit.id.decode())
        self.lib.lib.infer_hits_destroy(c.byref(hits))
        return found


def read(*path):
    with open(os.path.join(*path), encoding="latin-1") as f:
        return f.read()


def cranfield(folder):
    """Documents by title and text; queries numbered by their order, as the judgements have them."""
    def field(text, name):
        found = re.search(rf"^\.{name}\n(.*?)(?=^\.[A-Z]$|\Z)", text, re.S | re.M)
        return " ".join(found.group(1).split()) if found else ""
    documents = {}
    for part in re.split(r"^\.I ", read(folder, "cranfield", "cran.all.1400"), flags=re.M)[1:]:
        if field(part, "W") or field(part, "T"):
            documents[part.split(None, 1)[0]] = field(part, "W") or field(part, "T")
    queries = [field(part, "W") for part in
               re.split(r"^\.I ", read(folder, "cranfield", "cran.qry"), flags=re.M)[1:]]
    relevant = {}
    for line in read(folder, "cranfield", "cranqrel").splitlines():
        query, document, code = line.split()
        if int(code) >= 1:
            relevant.setdefault(int(query) - 1, set()).add(document)
    return documents, [q for q in queries if q], relevant


def vaswani(folder):
    documents = {number: " ".join(text.split()) for number, text in re.findall(
        r"<DOC>\s*<DOCNO>(.*?)</DOCNO>(.*?)</DOC>", read(folder, "vaswani_npl", "doc-text.trec"), re.S)}
    queries = [" ".join(t.split()).lower() for t in re.findall(
        r"<title>(.*?)</title>", read(folder, "vaswani_npl", "query-text.trec"), re.S)]
    relevant = {}
    for line in read(folder, "vaswani_npl", "qrels").splitlines():
        if line.strip():
            query, _, document, code = line.split()
            if int(code) >= 1:
                relevant.setdefault(int(query), set()).add(document)
    first = min(relevant)  # some copies count from 0
    return documents, queries, {q - first: d for q, d in relevant.items()}


def ndcg(found, relevant):
    """Mean over the queries that have relevant documents; a document is relevant or not."""
    total = 0
    for query, documents in relevant.items():
        gain = sum(1 / math.log2(i + 2) for i, d in enumerate(found[query]) if d in documents)
        total += gain / sum(1 / math.log2(i + 2) for i in range(min(TOP_K, len(documents))))
    return total / len(relevant)


def keep(path, rows, dims):
    with open(path, "wb") as f:
        f.write(struct_lib.pack("<2i", len(rows) // dims, dims))
        f.write(memoryview(rows).cast("B"))


def evaluate(lib, embedder, name, folder, ef=0, stem=None):
    """nDCG@10 of exact search and through the index, and the seconds that embedding took."""
    documents, queries, relevant = {"cranfield": cranfield, "vaswani": vaswani}[name](folder)
    begin = time.perf_counter()
    rows = embedder.embed(list(documents.values()), DOCUMENT)
    spent = time.perf_counter() - begin
    index = Index(lib, embedder.info.dims)
    index.add(list(documents), rows)
    asked = embedder.embed(queries, QUERY)
    if stem:
        keep(f"{stem}-{name}.base.fbin", rows, embedder.info.dims)
        keep(f"{stem}-{name}.query.fbin", asked, embedder.info.dims)
    exact = ndcg(index.search(asked, len(queries), 1), relevant)
    found = ndcg(index.search(asked, len(queries), 0, ef), relevant)
    lib.lib.infer_index_destroy(c.byref(index.index))
    print(f"# {name}: {len(documents)} documents embedded in {spent:.1f} s, {len(queries)} queries; nDCG@10 {exact:.4f} "
          f"by exact search, {found:.4f} through the index", flush=True)
    return exact, found


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    lib = Library(sys.argv[1])
    embedder = Embedder(lib, sys.argv[2])
    names, stem = sys.argv[4:], None
    if "--keep" in names:
        stem = names[names.index("--keep") + 1]
        names = names[:names.index("--keep")]
    for name in names or ["cranfield", "vaswani"]:
        evaluate(lib, embedder, name, sys.argv[3], stem=stem)


if __name__ == "__main__":
    main()
