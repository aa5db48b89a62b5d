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
    libpcre2-dev libutf8proc-dev libxxhash-dev libyajl-dev libmd-dev libopenblas-dev
echo "All there."

say "Build (in build/)"
if [ ! -f build/build.ninja ]; then
    meson setup build -Dtests=false -Dbenchmarks=false -Dcuda=auto
fi
ninja -C build --quiet

say "$infer run"
"$infer" run --model "$model" --temperature 0 --max-tokens 60 \
    --prompt "Once upon a time"

say "examples/hello, the program of README.md"
build/examples/hello "$model" "Once upon a time, Clara lived in Oslo."
echo

say "$infer chat"
"$infer" chat --model "$model" --temperature 0 --max-tokens 150 --echo <<'TURNS'
I am Oscar.
What is my name?
What day comes after Monday?
Give me a JSON object with name Anna, city Oslo and age 7.
Passage: Hugo likes rice. Anna has a red kite. Question: What does Anna have?
Tell me a story about Clara and a white kite.
TURNS

say "Done. Talk to it yourself: $infer chat --model $model"
