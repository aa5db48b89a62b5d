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
mv "$folder"/*"$arch"*.cubin "$cubin"
mv "$folder"/*"$arch"*.ptx "$ptx"
rm -rf "$folder"
