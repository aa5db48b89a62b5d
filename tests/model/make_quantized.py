#!/usr/bin/env python3
"""Writes quantized.json: what others make of the types that infer convert writes.

usage: make_quantized.py SOURCE_ROOT INFER_COMMAND TEST_QUANTIZED

Needs llama-cpp-python, whose llama_model_quantize makes the other files, and numpy and gguf, by
which examples/models/evaluate.py reads ours and computes in float64."""

import ctypes
import json
import os
import subprocess
import sys
import tempfile

import llama_cpp
import numpy as np

# infer's name, llama.cpp's number of the file type (None: it has none), pure
TYPES = [("F16", 1, False), ("BF16", 32, False), ("Q8_0", 7, False), ("Q6_K", 18, False),
         ("Q5_K_M", 17, False), ("Q5_K_S", 16, False), ("Q4_K_M", 15, False),
         ("Q4_K_S", 14, False), ("Q3_K_L", 13, False), ("Q3_K_M", 12, False),
         ("Q3_K_S", 11, False), ("Q2_K", 10, False), ("Q5_1", 9, False), ("Q5_0", 8, False),
         ("Q4_1", 3, False), ("Q4_0", 2, False), ("IQ4_NL", 25, False), ("IQ4_XS", 30, False),
         ("TQ2_0", 37, False), ("TQ1_0", 36, False), ("MXFP4_MOE", 38, False),
         ("MXFP4", None, False), ("NVFP4", None, False),
         ("Q5_K_S", 16, True), ("Q4_K_S", 14, True), ("Q3_K_S", 11, True), ("Q2_K", 10, True),
         ("IQ4_NL", 25, True), ("IQ4_XS", 30, True)]


def run(*args):
    return subprocess.run(args, capture_output=True, text=True, check=True).stdout


def quantize(source, out, file_type, pure):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.pure, params.nthread = file_type, pure, 2
    status = llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params))
    assert status == 0, (file_type, status)


def all_logits(model, ids):
    """As Llama.logits(), for every position."""
    model.reset()
    x = model.w["token_embd.weight"][ids]
    for i in range(model.layers):
        b = f"blk.{i}."
        x = x + model.attend(model.norm(x, b + "attn_norm.weight"), i)
        h = model.norm(x, b + "ffn_norm.weight")
        gate = h @ model.w[b + "ffn_gate.weight"].T
        act = gate / (1 + np.exp(-gate)) * (h @ model.w[b + "ffn_up.weight"].T)
        x = x + act @ model.w[b + "ffn_down.weight"].T
    return model.norm(x, "output_norm.weight") @ model.w["token_embd.weight"].T


def float64(path, items):
    from evaluate import File, Llama
    model, nll, n = Llama(File(path)), 0.0, 0
    for n_prompt, *ids in items:
        logits, ids = all_logits(model, ids)[n_prompt - 1:-1], np.array(ids[n_prompt:])
        top = logits.max(-1)
        nll += (top + np.log(np.exp(logits - top[:, None]).sum(-1))
                - logits[np.arange(len(ids)), ids]).sum()
        n += len(ids)
    return float(np.exp(nll / n))


def main():
    root, infer, test = sys.argv[1:4]
    sys.path.insert(0, os.path.join(root, "examples", "models"))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        source, ours, theirs = (os.path.join(folder, name) for name in ("f32", "ours", "theirs"))
        run(infer, "convert", os.path.join(root, "examples/models/tiny-q8_0.gguf"), source,
            "--type", "F32")
        items = [json.loads(line) for line in run(test, "--tokens", source).splitlines()]
        f32 = float(run(test, "--score", source))
        print(f"F32 {f32:.5f}, in float64 {float64(source, items):.5f}")
        print(f"{'type':12} {'bytes':>9} {'infer':>9} {'llama.cpp':>9} {'float64':>9}", flush=True)
        for name, file_type, pure in TYPES:
            run(infer, "convert", source, ours, "--type", name, "--force",
                *(["--pure"] if pure else []))
            row = {"type": name, "pure": pure, "bytes": os.path.getsize(ours)}
            if file_type is not None:
                quantize(source, theirs, file_type, pure)
                assert os.path.getsize(theirs) == row["bytes"], name
                row["llama.cpp"] = round(float(run(test, "--score", theirs)), 6)
            row["float64"] = round(float64(ours, items), 6)
            rows.append(row)
            print(f"{name + (' pure' if pure else ''):12} {row['bytes']:9} "
                  f"{float(run(test, '--score', ours)):9.5f} "
                  f"{row.get('llama.cpp', float('nan')):9.5f} {row['float64']:9.5f}", flush=True)
    golden = {"made_by": f"make_quantized.py, llama-cpp-python {llama_cpp.__version__}",
              "f32": f32, "types": rows}
    with open(os.path.join(root, "tests", "model", "quantized.json"), "w", encoding="utf-8") as f:
        json.dump(golden, f, indent=1)
        f.write("\n")


main()
