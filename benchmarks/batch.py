"""infer batch against the same questions one by one, in turns:

    python3 benchmarks/batch.py INFER THREADS [ROUNDS] [QUESTIONS] [MODEL]

The questions are those held out from the bundled model's training. `one process a question` is
`infer chat`, with loading; `one at a time` is `infer batch --max-requests 1`. Greedy, at most 32
tokens; the answers of all ways are compared. Medians and the spread of all rounds."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(HERE, "..", "examples", "models")
LIMITS = ["--max-tokens", "32", "--temperature", "0", "--threads", sys.argv[2]]


def measure(run):
    """Answers, seconds on the clock and on the processors."""
    wall, cpu = time.monotonic(), os.times()
    answers = run()
    wall, now = time.monotonic() - wall, os.times()
    return answers, wall, now.children_user + now.children_system - cpu.children_user \
        - cpu.children_system


def batch(infer, model, path, *args):
    out = subprocess.run([infer, "batch", "--model", model, "--in", path, *LIMITS, *args],
                         stdout=subprocess.PIPE, check=True).stdout
    results = sorted(map(json.loads, out.splitlines()), key=lambda r: r["line"])
    return [r["text"] for r in results]


def one_process_each(infer, model, questions):
    return [json.loads(subprocess.run([infer, "chat", "--model", model, "--json", *LIMITS],
                                      input=q.encode() + b"\n", stdout=subprocess.PIPE,
                                      check=True).stdout)["text"] for q in questions]


def row(name, n, walls, cpus):
    speeds = sorted(n / w for w in walls)
    print(f"| {name} | {statistics.median(speeds):.1f} ({speeds[0]:.1f} to {speeds[-1]:.1f}) | "
          f"{1000 * statistics.median(cpus) / n:.2f} ({1000 * min(cpus) / n:.2f} to "
          f"{1000 * max(cpus) / n:.2f}) |")


def main():
    infer = sys.argv[1]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 9
    limit = int(sys.argv[4]) if len(sys.argv) > 4 else 200
    model = sys.argv[5] if len(sys.argv) > 5 else os.path.join(MODELS, "tiny-q8_0.gguf")
    with open(os.path.join(MODELS, "heldout.jsonl"), encoding="utf-8") as f:
        turns = [json.loads(line)["messages"] for line in f]
    questions = [t[0]["content"] for t in turns
                 if len(t) == 1 and "\n" not in t[0]["content"]][:limit]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for q in questions:
            file.write(json.dumps({"messages": [{"role": "user", "content": q}]}) + "\n")
        file.flush()
        ways = {
            "`infer batch`": lambda: batch(infer, model, file.name),
            "one at a time": lambda: batch(infer, model, file.name, "--max-requests", "1"),
            "one process a question": lambda: one_process_each(infer, model, questions),
        }
        walls, cpus, want = {k: [] for k in ways}, {k: [] for k in ways}, None
        for _ in range(rounds):
            for name, run in ways.items():
                answers, wall, cpu = measure(run)
                want = want or answers
                assert answers == want, name
                walls[name].append(wall)
                cpus[name].append(cpu)
    print(f"{len(questions)} questions, {rounds} rounds, {sys.argv[2]} threads\n\n"
          "| way | questions/s | processor ms a question |\n|---|---|---|")
    for name in ways:
        row(name, len(questions), walls[name], cpus[name])


main()
