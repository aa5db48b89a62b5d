#!/bin/sh
# Compiles one file of kernels, and keeps the machine code and the PTX of one architecture beside
# the object, for tests/cuda/machine_code.py: they are made on the way and cost nothing.
#
#   compile.sh folder architecture object cubin ptx nvcc arguments...
set -eu
folder=$1
arch=$2
object=$3
cubin=$4
ptx=$5
shift 5
rm -rf "$folder"
mkdir -p "$folder"
"$@" -keep -keep-dir "$folder" -o "$object"
# Where there is one architecture alone, names do not say it.
keep() {
    for file in "$folder"/*"$arch"*."$1" "$folder"/*."$1"; do
        [ ! -e "$file" ] || exec mv "$file" "$2"
    done
    echo "compile.sh: no .$1 in $folder" >&2
    exit 1
}
(keep cubin "$cubin")
(keep ptx "$ptx")
rm -rf "$folder"
