#!/bin/sh
# Compares the library with the committed baseline of its ABI. Any difference fails,
# also a harmless one: it is then reviewed together with the new baseline, which
# refresh.sh writes.   usage: diff.sh LIBRARY BASELINE
set -u
echo 1..1
if ! command -v abidiff >/dev/null; then
    echo "ok 1 - ABI equals the baseline # SKIP abidiff is absent (package abigail-tools)"
    exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
sh "$(dirname "$0")/dump.sh" "$1" "$scratch/now.abi" >"$scratch/log" 2>&1 &&
    abidiff "$2" "$scratch/now.abi" >>"$scratch/log" 2>&1
rc=$?
if [ "$rc" -eq 0 ]; then
    echo "ok 1 - ABI equals the baseline"
else
    echo "not ok 1 - ABI equals the baseline (abidiff gave $rc; bit 8 is an incompatible change)"
    sed 's/^/# /' "$scratch/log"
fi
[ "$rc" -eq 0 ]
