"""infer index: records in, found, listed, changed and out again, by vectors and by texts; bad files and
damage.

usage: index.py SOURCE_ROOT INFER_COMMAND MODEL"""

import json
import os
import struct
import subprocess
import tempfile

from command import FAILED, INFER, MODEL, OK, USAGE, Tap, ask, infer, refuse, succeed

DIMS, ROWS = 8, 40


def in_folder(case):
    def run():
        with tempfile.TemporaryDirectory() as folder:
            case(lambda name: os.path.join(folder, name))
    run.__name__ = case.__name__
    return run


def vector(i):
    """Of a row: its number's bits as 1 and -1, so that likeness is known."""
    return [1.0 if i >> b & 1 else -1.0 for b in range(DIMS)]


def rounded(values):
    """An index of cosines keeps length and direction apart, which costs a bit or two."""
    return [round(v, 5) for v in values]


def write_rows(path, n=ROWS):
    with open(path, "w", encoding="utf-8") as f:
        for i in range(n):
            f.write(json.dumps({"id": f"r{i:03}", "vector": vector(i),
                                "metadata": {"n": i, "even": i % 2 == 0}}) + "\n")


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


def made(path, *more):
    write_rows(path("rows.jsonl"))
    out = succeed("index", "add", "--index", path("i"), *more, path("rows.jsonl"))
    assert out == f"{ROWS} written\n".encode(), out
    return "--index", path("i")


@in_folder
def finds_by_vector_and_by_record(path):
    index = made(path, "--field", "n")
    found = ask("index", "query", *index, "--vector", json.dumps(vector(5)), "--top-k", "3")
    assert found["hits"][0]["id"] == "r005" and abs(found["hits"][0]["score"] - 1) < 1e-5, found
    assert [round(h["score"], 4) for h in found["hits"][1:]] == [0.75, 0.75], found
    by_id = ask("index", "query", *index, "--id", "r005", "--metadata", "--vectors")
    assert "r005" not in [h["id"] for h in by_id["hits"]] and len(by_id["hits"]) == 10
    assert all(rounded(h["vector"]) == vector(h["metadata"]["n"]) for h in by_id["hits"])
    shown = succeed("index", "query", *index, "--vector", json.dumps(vector(5)), "--top-k", "1")
    assert shown == b'  1.00000  r005  {"n": 5, "even": false}\n', shown


@in_folder
def filters(path):
    index = made(path)
    found = ask("index", "query", *index, "--vector", json.dumps(vector(5)), "--exact", "--metadata",
                "--filter", '{"even": true, "n": {"$lt": 20}}', "--top-k", "40")
    assert sorted(h["metadata"]["n"] for h in found["hits"]) == list(range(0, 20, 2)), found
    refuse(FAILED, "$lte", "index", "query", *index, "--id", "r001", "--filter", '{"n": {"$less": 1}}')


@in_folder
def lists_and_deletes(path):
    index = made(path)
    rows = lines(succeed("index", "list", *index, "--after", "r009", "--limit", "3", "--vectors"))
    assert [r["id"] for r in rows] == ["r010", "r011", "r012"] and rounded(rows[0]["vector"]) == vector(10)
    assert succeed("index", "delete", *index, "r010", "r011", "none") == b"2 deleted\n"
    assert succeed("index", "delete", *index, "--filter", '{"even": false}') == b"19 deleted\n"
    left = [r["id"] for r in lines(succeed("index", "list", *index))]
    assert left == [f"r{i:03}" for i in range(0, ROWS, 2) if i != 10], left
    status, out, err = infer("index", "list", *index, "r002", "r011")
    assert status == FAILED and len(lines(out)) == 1 and "1 of 2" in err, err
    refuse(USAGE, "one of ids", "index", "delete", *index)


@in_folder
def stats_compact_verify(path):
    index = made(path, "--metric", "l2", "--type", "f16")
    succeed("index", "delete", *index, "--filter", '{"even": true}')
    stats = ask("index", "compact", *index)
    assert (stats["records"], stats["deleted"], stats["metric"], stats["type"]) == (20, 0, "l2", "f16")
    assert ask("index", "stats", *index) == stats
    assert succeed("index", "verify", *index) == b"nothing is damaged\n"
    segment = next(n for n in sorted(os.listdir(path("i"))) if n.startswith("segment"))
    with open(path("i/" + segment), "r+b") as f:
        f.seek(os.path.getsize(path("i/" + segment)) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 8]))
    status, _, err = infer("index", "verify", *index)
    assert status == FAILED and segment in err, err


@in_folder
def files_of_others_come_and_go(path):
    index = made(path)
    for ending in ("jsonl", "npy", "fvecs"):
        out = path("out." + ending)
        succeed("index", "export", *index, "--out", out)
        again = path("again-" + ending)
        succeed("index", "add", "--index", again, "--prefix", "r", "--no-sync",
                "--build", "partitions", out)
        assert ask("index", "stats", "--index", again)["records"] == ROWS
        rows = lines(succeed("index", "list", "--index", again, "--vectors"))
        assert sorted(rounded(r["vector"]) for r in rows) == sorted(vector(i) for i in range(ROWS))
        assert rows[0]["id"] == ("r000" if ending == "jsonl" else "r0"), rows[0]
        assert ("metadata" in rows[0]) == (ending == "jsonl")
    with open(path("b.bvecs"), "wb") as f:
        f.write(b"".join(struct.pack("<i4B", 4, i, 1, 2, 3) for i in range(5)))
    succeed("index", "add", "--index", path("b"), path("b.bvecs"))
    row = lines(succeed("index", "list", "--index", path("b"), "--vectors", "4"))[0]
    assert rounded(row["vector"]) == [4, 1, 2, 3], row


@in_folder
def bad_files_are_named(path):
    with open(path("bad.jsonl"), "w", encoding="utf-8") as f:
        f.write('{"id": "a", "vector": [1, 2]}\n{"id": "b", "vector": [1, "x"]}\n')
    refuse(FAILED, "line 2", "index", "add", "--index", path("i"), path("bad.jsonl"))
    with open(path("cut.fvecs"), "wb") as f:
        f.write(struct.pack("<i3f", 4, 1, 2, 3))
    refuse(FAILED, "cut.fvecs", "index", "add", "--index", path("i"), path("cut.fvecs"))
    refuse(FAILED, "none", "index", "stats", "--index", path("none"))
    refuse(USAGE, "needs --model", "index", "add", "--index", path("j"), __file__)
    refuse(USAGE, "one of --text", "index", "query", "--index", path("i"))


@in_folder
def texts_are_embedded(path):
    with open(path("a.txt"), "w", encoding="utf-8") as f:
        f.write("Anna has a red kite.\n\n\nHugo likes rice.\n\nTom lives in Oslo.\n")
    with open(path("b.jsonl"), "w", encoding="utf-8") as f:
        f.write('{"id": "x", "text": "What day comes after Monday?", "metadata": {"k": 1}}\n')
    index = ("--index", path("i"), "--model", MODEL)
    assert succeed("index", "add", *index, path("a.txt"), path("b.jsonl")) == b"4 written\n"
    found = ask("index", "query", *index, "--text", "Hugo likes rice.", "--top-k", "1", "--metadata")
    hit = found["hits"][0]
    assert hit["id"] == path("a.txt") + "#2" and abs(hit["score"] - 1) < 1e-3, hit
    assert hit["metadata"] == {"file": path("a.txt"), "text": "Hugo likes rice."}, hit
    assert lines(succeed("index", "list", "--index", path("i"), "x"))[0]["metadata"] == {"k": 1}
    assert ask("index", "stats", "--index", path("i"))["pooling"] == "mean"


@in_folder
def examples_of_search(path):
    folder = os.path.join(os.path.dirname(INFER), "..")
    run = subprocess.run([os.path.join(folder, "search"), MODEL, "a kite"], capture_output=True,
                         input=b"Anna has a red kite.\nHugo likes rice.\n", check=False)
    assert run.returncode == OK and len(run.stdout.splitlines()) == 2, run
    with open(path("a.txt"), "w", encoding="utf-8") as f:
        f.write("Anna has a red kite.\nHugo likes rice.\n")
    run = subprocess.run([os.path.join(folder, "rag"), MODEL, MODEL, "What does Anna have?",
                          path("a.txt")], capture_output=True, check=False)
    assert run.returncode == OK and f"From: [{path('a.txt')}#1]" in run.stdout.decode(), run


def main():
    tap = Tap()
    for case in (finds_by_vector_and_by_record, filters, lists_and_deletes, stats_compact_verify,
                 files_of_others_come_and_go, bad_files_are_named, texts_are_embedded,
                 examples_of_search):
        tap.run(case.__name__.replace("_", " "), case)
    tap.done()


main()
