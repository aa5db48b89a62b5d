"""Vectors with a realistic spectrum, and the true neighbours of queries: clusters of unequal sizes,
each an anisotropic Gaussian in a rotation of its own.

usage: make_vectors.py OUT --rows N --dims D --metric cosine|l2 [--queries Q] [--clusters C]
                       [--decay A] [--spread S] [--seed N]
       make_vectors.py OUT --base FILE --query FILE --metric cosine|l2

The second form takes vectors that are there: .u8bin (int32 rows, int32 dims, then bytes), .fbin or .npy. Writes OUT.base.fbin, OUT.query.fbin (int32 rows, int32 dims, then rows of float32) and OUT.truth.ibin
(int32 queries, int32 100, then rows of int32), and prints local dimension and contrast."""

import argparse

import numpy as np

TRUTH = 100


def draw(rng, n, dims, clusters, decay, spread):
    """Rows of all clusters in random order; eigenvalue i of a cluster is i^-decay, the sizes of
    clusters fall as Zipf's law has it."""
    scale = np.arange(1, dims + 1) ** (-decay / 2)
    weights = 1 / np.arange(1, clusters + 1)
    sizes = rng.multinomial(n, weights / weights.sum())
    centres = rng.standard_normal((clusters, dims)) * spread * np.sqrt((scale ** 2).mean())
    rotations = [np.linalg.qr(rng.standard_normal((dims, dims)))[0].astype(np.float32)
                 for _ in range(16)]
    parts = []
    for c, size in enumerate(sizes):
        noise = rng.standard_normal((size, dims), dtype=np.float32)
        noise *= scale[rng.permutation(dims)].astype(np.float32)
        parts.append(noise @ rotations[c % 16] + centres[c].astype(np.float32))
    rows = np.concatenate(parts)
    return rows[rng.permutation(n)]


def nearest(base, queries, metric, k):
    """Exact neighbours: candidates by products in float32, ranked again in float64."""
    found = np.empty((len(queries), k), np.int32)
    norms = (base.astype(np.float64) ** 2).sum(1) if metric == "l2" else None
    for begin in range(0, len(queries), 64):
        part = queries[begin:begin + 64]
        score = part @ base.T
        if norms is not None:
            score = 2 * score - norms.astype(np.float32)
        likely = np.argpartition(-score, k + 50, axis=1)[:, :k + 50]
        for i, rows in enumerate(likely):
            exact = base[rows].astype(np.float64)
            q = part[i].astype(np.float64)
            d = ((exact - q) ** 2).sum(1) if norms is not None else -(exact @ q)
            found[begin + i] = rows[np.lexsort((rows, d))][:k]
    return found


def describe(base, queries, truth, rng):
    """Local intrinsic dimension (maximum likelihood, k = 100) and relative contrast."""
    d = np.sqrt(np.maximum(((base[truth] - queries[:, None, :]) ** 2).sum(2), 1e-12))
    lid = -1 / np.log(np.maximum(d[:, :-1], 1e-12) / d[:, -1:]).mean(1)
    others = base[rng.integers(0, len(base), 1000)]
    mean = np.sqrt(np.maximum(((queries ** 2).sum(1)[:, None] + (others ** 2).sum(1) -
                               2 * queries @ others.T), 0)).mean(1)
    return float(lid.mean()), float((mean / d[:, 0]).mean())


def read(path):
    if path.endswith(".npy"):
        return np.load(path).astype(np.float32)
    n, dims = np.fromfile(path, np.int32, 2)
    kind = np.uint8 if path.endswith(".u8bin") else np.float32
    return np.fromfile(path, kind, offset=8).reshape(int(n), int(dims)).astype(np.float32)


def write(path, rows):
    with open(path, "wb") as f:
        np.array(rows.shape, np.int32).tofile(f)
        np.ascontiguousarray(rows).tofile(f)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--rows", type=int, default=200000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--metric", choices=("cosine", "l2"), default="cosine")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--clusters", type=int, default=400)
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--base")
    parser.add_argument("--query")
    o = parser.parse_args()
    rng = np.random.default_rng(o.seed)
    if o.base:
        base, queries = read(o.base), read(o.query)
    else:
        rows = draw(rng, o.rows + o.queries, o.dims, o.clusters, o.decay, o.spread)
        base, queries = rows[:o.rows], rows[o.rows:]
    if o.metric == "cosine":
        base, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (base, queries))
    truth = nearest(base, queries, o.metric, TRUTH)
    write(o.out + ".base.fbin", base)
    write(o.out + ".query.fbin", queries)
    write(o.out + ".truth.ibin", truth)
    lid, contrast = describe(base, queries, truth, rng)
    print(f"{o.out}: {base.shape[0]} x {base.shape[1]}, local dimension {lid:.1f}, contrast {contrast:.2f}")


if __name__ == "__main__":
    main()
