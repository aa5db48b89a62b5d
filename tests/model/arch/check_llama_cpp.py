"""What llama.cpp computes from the GGUF files of these models: a proof that names of keys and
tensors mean the same to others.

usage: check_llama_cpp.py FOLDER [NAME...]

FOLDER holds <name>.gguf or <name>/model.gguf, as test_arch leaves them with INFER_ARCH_KEEP.
Prints a table: the largest difference of logits relative to the largest logit of the fixture."""

import contextlib
import io
import json
import os
import sys

import numpy as np
from llama_cpp import Llama, llama_log_callback, llama_log_set

HERE = os.path.dirname(os.path.abspath(__file__))
TOLERANCE = 1e-3
log = []


@llama_log_callback
def keep_log(level, text, user_data):
    log.append(text.decode(errors="replace"))


def logits_of(path, tokens):
    # It guesses quirks of vocabularies from the name, so the name says nothing here.
    with contextlib.redirect_stderr(io.StringIO()):
        model = Llama(path, n_ctx=64, n_batch=64, n_ubatch=64, n_threads=1, logits_all=True,
                      type_k=0, type_v=0, flash_attn=False, verbose=True,
                      kv_overrides={"general.name": "tiny"})
    model.eval(tokens)
    logits = np.array(model.scores[:len(tokens)], dtype=np.float64)
    model.close()
    return logits


def compare(fixture, logits):
    apart = largest = 0.0
    for row in fixture["rows"]:
        want = np.array(row["logits"])
        apart = max(apart, np.abs(logits[row["position"], row["first"]::row["stride"]] - want).max())
        largest = max(largest, np.abs(want).max())
    return apart / largest


def check(folder, name):
    with open(os.path.join(HERE, name + ".json"), encoding="utf-8") as f:
        fixture = json.load(f)
    path = os.path.join(folder, name + ".gguf")
    if not os.path.exists(path):
        path = os.path.join(folder, name, "model.gguf")
    if not os.path.exists(path):
        return None, "no file"
    log.clear()
    try:
        error = compare(fixture, logits_of(path, fixture["tokens"]))
    except Exception as e:  # pylint: disable=broad-except
        why = [line.strip() for line in log if "error" in line.lower()]
        return None, why[0] if why else str(e)
    return error, "agrees" if error <= TOLERANCE else "DIFFERS"


def main():
    llama_log_set(keep_log, None)
    folder, names = sys.argv[1], sys.argv[2:]
    if not names:
        names = sorted(n[:-5] for n in os.listdir(HERE)
                       if n.endswith(".json") and n != "tokenizer.json")
    bad = 0
    for name in names:
        error, verdict = check(folder, name)
        bad += verdict != "agrees"
        print(f"{name:22} {'' if error is None else f'{error:.1e}':8} {verdict}", flush=True)
    print(f"{len(names) - bad} of {len(names)} agree")


if __name__ == "__main__":
    main()
