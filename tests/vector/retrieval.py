"""The real MiniLM finds the abstracts of Cranfield as well as it does elsewhere, and through the
index's graph as well as by comparing all.

usage: retrieval.py SOURCE_ROOT LIBRARY"""

import os
import sys

ROOT, LIBRARY = sys.argv[1:3]
sys.path[:0] = [os.path.join(ROOT, "tests", "support"), os.path.join(ROOT, "benchmarks", "index")]
sys.dont_write_bytecode = True
import retrieval
from tap import Skip, Tap

# nDCG@10 of the same files with sentence-transformers and exact search.
REFERENCE = 0.5090
# Candidates kept on the way: so few that the graph is walked, though all could be compared as well.
EF = 64


def cranfield():
    model = os.environ.get("INFER_TEST_MINILM", "")
    data = os.path.join(os.environ.get("INFER_TEST_DATA", os.path.join(ROOT, "..", "shared", "data")), "text")
    if not model or not os.path.isdir(model):
        raise Skip("the folder of all-MiniLM-L6-v2 is absent (INFER_TEST_MINILM)")
    if not os.path.isdir(os.path.join(data, "cranfield")):
        raise Skip("test data text/cranfield is absent")
    lib = retrieval.Library(LIBRARY)
    exact, found = retrieval.evaluate(lib, retrieval.Embedder(lib, model), "cranfield", data, EF)
    assert abs(exact - REFERENCE) < 0.0005, exact
    assert abs(found - exact) <= 0.005 * exact, (found, exact)


def main():
    tap = Tap()
    tap.run("cranfield", cranfield)
    tap.done()


main()
