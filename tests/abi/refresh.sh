#!/bin/sh
# Writes the baseline of the ABI and layout.c anew, after a change that was meant.
# Look at the difference: fields and symbols may join, none may move or go.
#   usage: refresh.sh BUILD_DIR   (a gcc build with debug information, without sanitizers)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
sh "$here/dump.sh" "$1/lib/libinfer.so" "$here/libinfer-x86_64.abi"
python3 "$here/make_layout.py" "$root/include" >"$here/layout.c.new"
mv "$here/layout.c.new" "$here/layout.c"
git -C "$root" diff --stat -- tests/abi || true
