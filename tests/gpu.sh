#!/bin/sh
# Every check that needs an NVIDIA GPU, in one go.
#
#   tests/gpu.sh [-n] [build folder [log folder]]
#
# Builds with -Dcuda=enabled (-n: takes the build folder as it is, for a machine
# that cannot build) and runs the programs below one by one. The whole log goes
# to gpu.log in the log folder ($OUT, else the build folder); a short table is
# printed last.
#
# Exit: 0 all passed; 77 no GPU; 1 anything else, a skipped GPU test included.
set -u

build_first=1
if [ "${1:-}" = -n ]; then
    build_first=0
    shift
fi
source=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$source/build-gpu}
logs=${2:-${OUT:-$build}}

# Program, and the seconds that it may take.
checks='
unit/test_device 60
unit/test_cuda 180
unit/test_swap 60
'

if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
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
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >>"$log" 2>&1

run() { # program, seconds
    output=$logs/$(basename "$1").log
    begin=$(date +%s)
    CMOCKA_MESSAGE_OUTPUT=STDOUT timeout "$2" "$build/tests/$1" >"$output" 2>&1
    status=$?
    took=$(($(date +%s) - begin))
    passed=$(grep -c '^\[ *OK \]' "$output")
    skipped=$(sed -n 's/^\[ *SKIPPED *\] *\([0-9][0-9]*\) test.*/\1/p' "$output")
    skipped=${skipped:-0}
    verdict=passed
    # A GPU test that finds no GPU on a machine that has one has failed.
    if [ "$status" -eq 124 ]; then
        verdict="failed (over $2 s)"
    elif [ "$status" -ne 0 ] || [ "$passed" -eq 0 ]; then
        verdict="failed (exit $status)"
    elif grep -q '^skipped: no GPU' "$output"; then
        verdict='failed (GPU not found)'
    fi
    case $verdict in failed*) failed=1 ;; esac
    { echo "== $1"; cat "$output"; } >>"$log"
    rm -f "$output"
    table="$table$(printf '%-24s %4s passed %4s skipped %4s s  %s' \
        "$1" "$passed" "$skipped" "$took" "$verdict")
"
}

while read -r program seconds; do
    [ -z "$program" ] || run "$program" "$seconds"
done <<EOF
$checks
EOF

[ "$failed" -eq 0 ] || grep -E -A3 'ERROR|FAILED|error' "$log" | head -n 40
printf '%s' "$table"
exit "$failed"
