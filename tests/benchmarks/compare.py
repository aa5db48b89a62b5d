"""benchmarks/compare.py on canned samples: costs, ratios, tables, charts, merging, and whole runs
with engines that are scripts.

usage: compare.py SOURCE_ROOT MODEL"""

import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

ROOT, MODEL = sys.argv[1:3]
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
sys.path.insert(0, os.path.join(ROOT, "benchmarks"))
import compare_models
import compare_report as report
from tap import Tap

LIMITS = {"threads": 2, "level": "avx512vnni", "read_gbs": {"1": 10.0, "4": 20.0},
          "f32_gflops": 100.0, "int8_gops": 1000.0, "bf16_gflops": None}
DENSE = {"file_bytes": 1100000000, "context": 4096, "experts": 0, "experts_used": 0,
         "shared_bytes": 1000000000, "expert_bytes": 0, "shared_weights": 500000000,
         "expert_weights": 0, "kv_elements": 10000, "float": False}


def engine(*values, steal=0.0, **more):
    return {"about": {"version": "1", "kernels": "k"},
            "samples": [{"value": v, "steal": steal, "others": 1.0, **more} for v in values]}


def cell(time="2026-01-01T00:00:00", tokens=0, **engines):
    return {"time": time, "machine": "A machine.", "limits": LIMITS, "threads": 2, "kv_bytes": 2,
            "tokens": tokens, "engines": {name.replace("_", "."): e for name, e in engines.items()}}


def results_of(**cells):
    return {"models": {"m": DENSE},
            "cells": {"default/m/" + name.replace("_", "@"): c for name, c in cells.items()}}


RESULTS = results_of(
    prefill_512=cell(libinfer=engine(90, 100, 110), llama_cpp=engine(50.0), ik=engine(40)),
    decode_2048=cell(tokens=32, libinfer=engine(10, steal=7.5), llama_cpp={"error": "a <reason>"},
                     ik=engine(20)),
    load=cell(libinfer=engine(0.1), llama_cpp=engine(0.4), ik=engine(0.2)),
    memory=cell(libinfer=engine(2**30, anonymous=2**20, file=2**29),
                llama_cpp=engine(2**31, anonymous=0, file=0)))


def rows_of(text):
    return {row[0]: row[1:] for line in text.splitlines() if line.startswith("| ")
            for row in [[part.strip() for part in line.strip("|").split("|")]]}


def equal(found, expected):
    assert found == expected, f"{found!r}, expected {expected!r}"


def close(found, expected):
    assert abs(found - expected) < 1e-9 * abs(expected), f"{found!r}, expected {expected!r}"


def test_ratios():
    cells = RESULTS["cells"]
    close(report.ratio(cells["default/m/prefill@512"], "prefill@512"), 2.0)
    close(report.ratio(cells["default/m/decode@2048"], "decode@2048"), 0.5)
    close(report.ratio(cells["default/m/load"], "load"), 2.0)
    close(report.ratio(cells["default/m/memory"], "memory"), 2.0)
    assert report.ratio(cell(libinfer=engine(1)), "prefill@512") is None


def test_shares():
    cells = RESULTS["cells"]
    close(report.share(cells["default/m/prefill@512"], "prefill@512", DENSE), 0.1)
    read = 1e9 + 10000 * 2 * (2048 + 16)
    close(report.share(cells["default/m/decode@2048"], "decode@2048", DENSE), 10 * read / 20e9)
    close(report.share(cell(tokens=8, libinfer=engine(40)), "batch@4", DENSE),
          10 * (1e9 + 4 * 10000 * 2 * (64 + 4)) / 20e9)
    floats = {**DENSE, "float": True}
    close(report.share(cells["default/m/prefill@512"], "prefill@512", floats), 1.0)
    assert report.share(cells["default/m/load"], "load", DENSE) is None


def test_experts():
    sparse = {**DENSE, "experts": 8, "experts_used": 2, "expert_bytes": 8000, "shared_bytes": 100,
              "expert_weights": 800, "shared_weights": 10}
    close(compare_models.step_bytes(sparse, 1, 0, 2), 100 + 2000)
    close(compare_models.step_bytes(sparse, 2, 0, 2), 100 + 8000 * (1 - 0.75**2))
    close(compare_models.token_operations(sparse), 2 * (10 + 200))


def test_file():
    """The bundled model: what is counted is what the file's own list of tensors says."""
    model = compare_models.describe(MODEL)
    gguf = compare_models.Reader(MODEL)
    equal(model["file_bytes"], os.path.getsize(MODEL))
    layers = gguf.keys["llama.block_count"]
    dim = gguf.keys["llama.embedding_length"]
    ffn = gguf.keys["llama.feed_forward_length"]
    heads, kv = gguf.keys["llama.attention.head_count"], gguf.keys["llama.attention.head_count_kv"]
    kv_dim = dim // heads * kv
    equal(model["kv_elements"], 2 * layers * kv_dim)
    equal(model["shared_weights"], layers * (2 * dim * dim + 2 * dim * kv_dim + 3 * dim * ffn))
    equal(gguf.tensors["blk.0.ffn_up.weight"], ((dim, ffn), 8, dim * ffn // 32 * 34))
    assert model["shared_bytes"] < model["file_bytes"]


def test_table():
    text = report.markdown(RESULTS, "A title", {"default": "chart.svg"})
    rows = rows_of(text)
    equal(rows["prefill of 512 tokens, tokens/s"],
          ["100 (90.0 to 110)", "50.0", "40.0", "2.00", "10 %", "0.0 %", "1.0 %"])
    equal(rows["decode at depth 2,048, tokens/s"],
          ["10.0", "a <reason>", "20.0", "0.50", "52 %", "~ 7.5 %", "1.0 %"])
    equal(rows["load to first token, ms"], ["100", "400", "200", "2.00", "", "0.0 %", "1.0 %"])
    equal(rows["peak resident memory, MiB"][:2],
          ["1,024 (1.00 anonymous, 512 of files)", "2,048 (0.00 anonymous, 0.00 of files)"])
    assert text.startswith("# A title\n") and "](chart.svg)" in text and "## m\n" in text
    assert "10.0 in 1, 20.0 in 4 streams" in text and "1.10 GB" in text


def test_chart():
    names = {"libinfer": engine(100), "a <peer> & co": engine(50)}
    picture = report.svg(results_of(prefill_512={**cell(), "engines": names}), "default")
    root = ElementTree.fromstring(picture)
    space = "{http://www.w3.org/2000/svg}"
    texts = [t.text for t in root.iter(space + "text")]
    for expected in ("libinfer", "a <peer> & co", "m", "100", "50.0",
                     "prefill of 512 tokens, tokens/s"):
        assert expected in texts, f"{expected} is not among {texts}"
    bars = [r for r in root.iter(space + "rect") if r.find(space + "title") is not None]
    widths = [float(r.get("width")) for r in bars]
    equal(len(widths), 2)
    assert abs(widths[0] - 2 * widths[1]) < 0.2, widths
    assert "prefers-color-scheme: dark" in picture
    right = max(float(r.get("x")) + float(r.get("width")) for r in bars)
    assert right < float(root.get("width")), f"a bar ends at {right}"
    equal(report.svg(RESULTS, "avx2"), "")


def test_merge():
    later = results_of(load=cell("2026-01-02T00:00:00", libinfer=engine(0.3)),
                       decode_0=cell(tokens=32, libinfer=engine(5)))
    merged = report.merge(RESULTS, later)
    equal(len(merged["cells"]), 5)
    # A cell is replaced as a whole: no figure of one run stands beside those of another.
    equal(list(merged["cells"]["default/m/load"]["engines"]), ["libinfer"])
    equal(report.merge(later, RESULTS)["cells"]["default/m/load"],
          later["cells"]["default/m/load"])
    equal(len(RESULTS["cells"]), 4)


FAKE_LIMITS = "import json\nprint(json.dumps(%r))\n" % LIMITS
FAKE_SPEED = """import sys
print('{"engine": "libinfer", "version": "0", "kernels": "k", "threads": 2}', flush=True)
n = 0
for line in sys.stdin:
    n += 1
    if line.startswith("batch"):
        print('{"error": "no batches here"}', flush=True)
    elif line.startswith("memory"):
        print('{"value": 2097152, "unit": "B", "anonymous": 1048576, "file": 1048576}', flush=True)
    else:
        print('{"value": %d, "unit": "tokens/s"}' % (100 * n), flush=True)
"""
FAKE_BENCH = """import json, sys
if "--help" in sys.argv:
    print("  -gp <pp,tg>")
else:
    depth = sys.argv[sys.argv.index("-gp") + 1] if "-gp" in sys.argv else ""
    tps = 25.0 if depth == "512,32" else 50.0
    print(json.dumps([{"avg_ts": tps, "build_commit": "abc", "cpu_info": "cpu"}]))
"""
FAKE_BATCHED = """import sys
print("|    PP |     TG |    B |   N_KV | S_PP t/s | S_TG t/s |", file=sys.stderr)
print("|-------|--------|------|--------|----------|----------|", file=sys.stderr)
print("|    64 |     16 |    4 |    320 |   100.00 |    75.50 |", file=sys.stderr)
"""


def script(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"#!{sys.executable}\n{text}")
    os.chmod(path, 0o755)
    return path


def compare(folder, *args):
    """A run of the program with engines that are scripts; the report and the samples."""
    command = [sys.executable, os.path.join(ROOT, "benchmarks", "compare.py"), "--build",
               os.path.join(folder, "build"), "--cache", os.path.join(folder, "cache"), "--out",
               folder, "--date", "2026-01-01", "--name", "fake", "--rounds", "3", *args]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr + run.stdout
    with open(os.path.join(folder, "2026-01-01-fake.md"), encoding="utf-8") as f:
        text = f.read()
    with open(os.path.join(folder, "cache", "fake.json"), encoding="utf-8") as f:
        return text, json.load(f)


def test_run():
    with tempfile.TemporaryDirectory() as folder:
        script(os.path.join(folder, "build", "benchmarks", "limits"), FAKE_LIMITS)
        script(os.path.join(folder, "build", "benchmarks", "speed"), FAKE_SPEED)
        bench = script(os.path.join(folder, "llama-bench"), FAKE_BENCH)
        batched = script(os.path.join(folder, "llama-batched-bench"), FAKE_BATCHED)
        peer = ["--llama-bench", bench, "--batched-bench", batched, "--bench-name", "peer"]
        compare(folder, *peer, "--cells", "prefill,decode@0,batch@4", MODEL)
        text, samples = compare(folder, *peer, "--cells", "memory", MODEL)
        name = os.path.basename(MODEL).removesuffix(".gguf")
        cells = samples["cells"]
        equal(sorted(cells), [f"default/{name}/{c}"
                              for c in ("batch@4", "decode@0", "memory", "prefill@512")])
        # The first answer, 100, is of the round that is not recorded.
        ours = cells[f"default/{name}/prefill@512"]["engines"]["libinfer"]["samples"]
        equal([sample["value"] for sample in ours], [200, 300, 400])
        rows = rows_of(text)
        row = rows["prefill of 512 tokens, tokens/s"]
        equal(row[:4], ["300 (200 to 400)", "peer not at hand", "50.0 (50.0 to 50.0)", "6.00"])
        equal(rows["decode of 4 at once, tokens/s in all"][:4],
              ["no batches here", "peer not at hand", "75.5 (75.5 to 75.5)", ""])
        assert rows["peak resident memory, MiB"][0].startswith("2.00 (1.00 anonymous")
        ElementTree.parse(os.path.join(folder, "2026-01-01-fake.svg"))


def test_peer_programs():
    """A depth of llama-bench is asked for as its help says, and an error is an answer."""
    with tempfile.TemporaryDirectory() as folder:
        bench = script(os.path.join(folder, "llama-bench"), FAKE_BENCH)
        run = subprocess.run(
            [sys.executable, os.path.join(ROOT, "benchmarks", "peer_llama.py"), MODEL,
             "--llama-bench", bench], input="decode 512 32\nbatch 4 16\nnonsense\n",
            capture_output=True, text=True, check=True)
        answers = [json.loads(line) for line in run.stdout.splitlines()]
        equal(answers[0]["version"], "abc")
        equal(answers[1]["value"], 25.0)
        assert re.search("no llama-batched-bench", answers[2]["error"]), answers[2]
        assert re.search("^expected: ", answers[3]["error"]), answers[3]


def main():
    tap = Tap()
    for function in (test_ratios, test_shares, test_experts, test_file, test_table, test_chart,
                     test_merge, test_run, test_peer_programs):
        tap.run(function.__name__, function)
    tap.done()


if __name__ == "__main__":
    main()
