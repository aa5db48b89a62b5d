#!/bin/sh
# Builds the bundled model from nothing: corpus, tokenizer, training, GGUF,
# held-out accuracy, card. Usage: make.sh [work folder].
# An interrupted run goes on from its last checkpoint.
set -eu
cd "$(dirname "$0")"
work=${1:-${TMPDIR:-/tmp}/infer-tiny}

[ -d "$work/venv" ] || python3 -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet --requirement requirements.txt

"$python" corpus.py --heldout heldout.jsonl --seed 2 --count 60
"$python" train.py --out "$work/run" --seed 1
# Warmed up again, to cool down on longer rows: questions about long passages gain most.
"$python" train.py --out "$work/run" --seed 1 --steps 1200 --cooldown 0.25 --long-steps 150
"$python" export.py "$work/run" tiny-q8_0.gguf
"$python" evaluate.py tiny-q8_0.gguf --expected expected.json --golden golden.json
"$python" card.py "$work/run" expected.json README.md
