#!/bin/sh
# Every check that needs an NVIDIA GPU, in one go.
#
#   tests/gpu.sh [-n] [-s] [-b] [build folder [log folder]]
#
# Builds with -Dcuda=enabled (-n: takes the build folder as it is, for a machine
# that cannot build) and runs the programs below one by one; -s: those of the
# kernels once more under compute-sanitizer, where it is installed; -b: then the
# benchmarks. The whole log goes to gpu.log in the log folder ($OUT, else the
# build folder), cells of benchmarks to gpu.jsonl; a short table is printed last.
#
# Exit: 0 all passed; 77 no GPU; 1 anything else. Skipped tests are counted and
# named; a GPU test that finds no GPU on a machine that has one has failed.
set -u

build_first=1 sanitize=0 bench=0
while getopts nsb option; do
    case $option in
    n) build_first=0 ;;
    s) sanitize=1 ;;
    b) bench=1 ;;
    *) exit 1 ;;
    esac
done
shift $((OPTIND - 1))
source=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$source/build-gpu}
logs=${2:-${OUT:-$build}}

# Program, and the seconds that it may take.
kernel_checks='
cuda/card_rows 60
cuda/card_sample 60
cuda/card_split 60
cuda/card_few 60
cuda/card_many 60
cuda/card_step 60
cuda/card_store 60
cuda/card_attn 60
cuda/card_attn_wide 60
cuda/card_latent 60
cuda/card_moe 60
cuda/card_lora 60
cuda/card_recur 60
cuda/card_text 60
cuda/card_vector 60
cuda/card_mega 60
'
checks="
unit/test_device 60
unit/test_cuda 180
$kernel_checks
unit/test_swap 60
cuda/card_cublas 60
cuda/card_moves 60
cuda/card_states 60
cuda/card_index 60
cuda/card_ways 60
cuda/card_ahead 60
cuda/card_ahead_drawn 60
cuda/card_ahead_moves 60
cuda/card_lost 60
cuda/card_model 180
cuda/card_adapters 60
model/test_fp8 60
cuda/card_encode 60
cuda/card_encode_graph 60
cuda/card_embed 60
"
benches='
60 roofline
60 kernels few
30 kernels attn
30 kernels rows
20 kernels lora
30 kernels latent
20 kernels recur
20 kernels sample
60 kernels many
60 kernels vector
'
# An encoder that is really used, where there is one.
[ -z "${INFER_TEST_MINILM:-}" ] || benches="${benches}20 query $INFER_TEST_MINILM
"
total=470 # seconds for all; what would start later has failed
started=$(date +%s)

if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ] && ! nvidia-smi -L >/dev/null 2>&1; then
    echo "no GPU"
    exit 77
fi

mkdir -p "$build" "$logs" || exit 1
log=$logs/gpu.log
: >"$log" || exit 1

programs() {
    echo "$checks" | while read -r program seconds; do
        [ -z "$program" ] || echo "tests/$program"
    done
    [ "$bench" -eq 0 ] || echo "benchmarks/gpu/roofline benchmarks/gpu/kernels benchmarks/gpu/query"
}

build_all() {
    if [ -e "$build/build.ninja" ]; then
        meson configure "$build" -Dcuda=enabled || return 1
    else
        meson setup -Dcuda=enabled -Dbuildtype=release -Db_ndebug=false "$build" "$source" || return 1
    fi
    # shellcheck disable=SC2046
    ninja -C "$build" $(programs)
}

if [ "$build_first" -eq 1 ] && ! build_all >>"$log" 2>&1; then
    tail -n 30 "$log"
    echo "gpu: the build failed, see $log"
    exit 1
fi

failed=0
table=
skips=

state() {
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem,temperature.gpu \
        --format=csv,noheader 2>&1
}

row() { # name, passed, skipped, seconds, verdict
    case $5 in failed*) failed=1 ;; esac
    table="$table$(printf '%-36s %4s passed %4s skipped %4s s  %s' "$1" "$2" "$3" "$4" "$5")
"
}

# A killed program shows how far it came, and its errors stand where they belong.
by_lines=
! command -v stdbuf >/dev/null || by_lines='stdbuf -oL'

# Runs a command into its own log within its seconds and those left of all.
timed() { # output, seconds, command ...
    output=$1 seconds=$2
    shift 2
    begin=$(date +%s)
    left=$((started + total - begin))
    [ "$seconds" -le "$left" ] || seconds=$left
    status=125
    if [ "$seconds" -gt 0 ]; then
        timeout -k 5 "$seconds" $by_lines "$@" >"$output" 2>&1 </dev/null
        status=$?
    else
        : >"$output"
    fi
    took=$(($(date +%s) - begin))
}

run() { # program, seconds, what to run it with ...
    program=$1 name=$1
    output=$logs/$(basename "$1").log
    limit=$2
    shift 2
    [ $# -eq 0 ] || name="$program, $(basename "$1")"
    if [ ! -x "$build/tests/$program" ]; then
        row "$name" 0 0 0 'failed (not built)'
        return
    fi
    timed "$output" "$limit" "$@" "$build/tests/$program"
    # What a program prints itself has a mark of TAP in front, cmocka's summary has none.
    passed=$(grep -c '^# \[ *OK \]' "$output")
    names=$(sed -n 's/^# \[ *SKIPPED *\] //p' "$output" | sort -u)
    skipped=$(echo "$names" | grep -c .)
    verdict=passed
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        verdict="failed (over $seconds s)"
    elif [ "$status" -eq 125 ]; then
        verdict='failed (no time left)'
    elif [ "$status" -ne 0 ]; then
        verdict="failed (exit $status)"
    elif grep -q '^# skipped: no GPU' "$output"; then
        verdict='failed (GPU not found)'
    elif [ "$passed" -eq 0 ]; then
        verdict='failed (nothing was tested)'
    fi
    row "$name" "$passed" "$skipped" "$took" "$verdict"
    [ "$skipped" -eq 0 ] || skips="$skips$(echo "$names" | sed "s|^|skipped: $program |")
"
    { echo "== $name"; cat "$output"; } >>"$log"
    rm -f "$output"
}

measure() { # seconds, program, its arguments
    output=$logs/bench.txt limit=$1 program=$2
    shift 2
    name="$program${1:+ $1}"
    if [ ! -x "$build/benchmarks/gpu/$program" ]; then
        row "$name" 0 0 0 'failed (not built)'
        return
    fi
    timed "$output" "$limit" "$build/benchmarks/gpu/$program" --json "$logs/gpu.jsonl" "$@"
    verdict=measured
    [ "$status" -eq 0 ] || verdict="failed (exit $status)"
    row "$name" 0 "$(grep -c 'skipped$' "$output")" "$took" "$verdict"
    { echo "== $name"; cat "$output"; } >>"$log"
    cat "$output"
    rm -f "$output"
}

export CMOCKA_MESSAGE_OUTPUT=STDOUT
state >>"$log"
while read -r program seconds; do
    [ -z "$program" ] || run "$program" "$seconds"
done <<EOF
$checks
EOF

if [ "$sanitize" -eq 1 ]; then
    sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
    while read -r program seconds; do
        if [ -z "$program" ]; then
            continue
        elif [ -x "$sanitizer" ]; then
            run "$program" 60 "$sanitizer" --tool memcheck --error-exitcode 9
        else
            row "$program, compute-sanitizer" 0 1 0 'skipped (not installed)'
        fi
    done <<EOF
$kernel_checks
EOF
fi

if [ "$bench" -eq 1 ]; then
    : >"$logs/gpu.jsonl"
    while read -r seconds program part; do
        [ -z "$seconds" ] || measure "$seconds" "$program" ${part:+"$part"}
    done <<EOF
$benches
EOF
    state >>"$log"
fi

[ "$failed" -eq 0 ] || grep -E -A3 'ERROR|FAILED|error' "$log" | head -n 60
printf '%s' "$skips" | grep . | head -n 40
printf '%s' "$table"
exit "$failed"
