#!/bin/sh
# Describes the ABI of a library: what include/infer declares, and nothing private.
#   usage: dump.sh LIBRARY OUTPUT
set -eu
abidw --suppressions "$(dirname "$0")/private.suppr" --exported-interfaces-only \
    --no-corpus-path --no-comp-dir-path --no-show-locs --no-parameter-names --no-elf-needed \
    --type-id-style hash --out-file "$2" "$1"
sed -i "s,path='[^']*/lib/,path='lib/," "$2"
