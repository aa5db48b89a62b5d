#!/usr/bin/env bash
# The kernels of 64-bit Arm on any machine: a cross build, and their test under qemu, each level
# on an emulated processor that has no more than it.
#
#   tests/arm.sh [build folder]
#
# Installs what is missing. Exit: 0 all passed; 1 a test failed; 2 it could not be built.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 2
. examples/packages.sh
build=${1:-build-tests/arm}

mkdir -p "$build" || exit 2
need_packages meson ninja-build gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static || exit 2
if [ ! -f "$build/build.ninja" ]; then
    meson setup "$build" --cross-file tests/arm.ini -Dkernels_only=true -Dcuda=disabled \
        -Dwerror=true >"$build.log" 2>&1 || { cat "$build.log"; exit 2; }
fi
ninja -C "$build" >"$build.log" 2>&1 || { grep -v '^\[' "$build.log" | head -100; exit 2; }
meson test -C "$build" --no-rebuild --print-errorlogs || exit 1
