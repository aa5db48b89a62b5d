#!/usr/bin/env bash
# From a clone to an answer: installs what is missing, builds libinfer and the
# infer command in build/, asks the bundled model and holds a short conversation.
# It can be run again at any time.
set -eu -o pipefail
cd "$(dirname "$0")/.."
. examples/packages.sh

model=examples/models/tiny-q8_0.gguf
infer=build/examples/infer/infer

say() {
    printf '\n== %s\n' "$*"
}

say "Packages"
need_packages build-essential meson ninja-build pkg-config python3-minimal \
    libpcre2-dev libutf8proc-dev libxxhash-dev libopenblas-dev
echo "All there."

say "Build (in build/)"
if [ ! -f build/build.ninja ]; then
    meson setup build -Dtests=false -Dbenchmarks=false -Dcuda=auto
fi
ninja -C build

say "$infer run"
"$infer" run --model "$model" --temperature 0 --max-tokens 60 \
    --prompt "Once upon a time"

say "examples/hello, the program of README.md"
build/examples/hello "$model" "Once upon a time" | head -c 400
echo

say "$infer chat"
turns=(
    "Tell me a short story."
    "What is 12 plus 30?"
    "Give me a JSON object with the name Anna and the age 7."
)
for turn in "${turns[@]}"; do
    echo "you:    $turn"
done
printf '%s\n' "${turns[@]}" | "$infer" chat --model "$model" --temperature 0 --max-tokens 120

say "Done. Talk to it yourself: $infer chat --model $model"
