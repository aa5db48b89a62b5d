#!/bin/sh
# Compiles the Rust or Go program, offline, and runs it on the library; the program
# prints TAP.   usage: compiled.sh rust|go LIBRARY SOURCE_ROOT MODEL
set -eu
language=$1
library=$2
root=$3
model=$4
compiler=$([ "$language" = rust ] && echo rustc || echo go)
if ! command -v "$compiler" >/dev/null; then
    echo "ok 1 - $language # SKIP $compiler is absent"
    echo 1..1
    exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
folder=$(cd "$(dirname "$library")" && pwd)
if [ "$language" = rust ]; then
    rustc --edition 2018 -D warnings -L "$folder" -o "$scratch/main" "$root/tests/ffi/main.rs"
else
    export CGO_ENABLED=1 CGO_CFLAGS="-I$root/include" CGO_LDFLAGS="-L$folder"
    export GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local GOCACHE="$scratch/cache" GOPATH="$scratch/go"
    cp -r "$root/tests/ffi/go" "$scratch/program"
    sed -i "s,=> .*,=> $root/examples/ffi/go," "$scratch/program/go.mod"
    (cd "$scratch/program" && go build -o "$scratch/main" .)
fi
LD_LIBRARY_PATH="$folder" "$scratch/main" "$model"
