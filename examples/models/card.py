"""Fills the measured part of the card: `python card.py RUN expected.json README.md`.

Numbers between the two markers come from the training log and from
evaluate.py, never from a hand.
"""

import json
import sys

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def training(run):
    """Steps, tokens, seconds and loss points; counters restart when a run resumes."""
    lines = [json.loads(line) for line in open(run + "/log.jsonl")]
    tokens, seconds, last = 0, 0.0, {"tokens": 0, "seconds": 0.0}
    for line in lines:
        if line["seconds"] < last["seconds"]:
            last = {"tokens": 0, "seconds": 0.0}
        tokens += line["tokens"] - last["tokens"]
        seconds += line["seconds"] - last["seconds"]
        last = line
    loss = {line["step"]: line["loss"] for line in lines}
    steps = max(loss)
    points = [s for s in (20, 40, 100, 200, 300, 400, 500, 600, 800, 1000, 1500, 2000) if s < steps]
    return steps, tokens, seconds, [(s, loss[s]) for s in points + [steps] if s in loss]


def render(run, expected):
    steps, tokens, seconds, points = training(run)
    out = [f"Training took {steps} steps over {tokens / 1e6:.1f} million tokens, "
           f"{seconds / 60:.0f} minutes on two shared CPU cores.", "",
           "| step | " + " | ".join(str(s) for s, _ in points) + " |",
           "|---" * (len(points) + 1) + "|",
           "| loss | " + " | ".join(f"{x:.2f}" for _, x in points) + " |", "",
           "| held-out skill | items | right | accuracy |", "|---|---|---|---|"]
    for skill, c in expected["skills"].items():
        out.append(f"| {skill} | {c['n']} | {c['correct']} | {100 * c['correct'] / c['n']:.0f} % |")
    return "\n".join(out)


def main():
    run, expected, card = sys.argv[1:]
    text = open(card).read()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    body = render(run, json.load(open(expected)))
    with open(card, "w") as f:
        f.write(f"{before}{BEGIN}\n{body}\n{END}{after}")


if __name__ == "__main__":
    main()
