#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh CLANG SOURCE BINARY NAME RUNS FILES…: compiles NAME_fuzz.cpp with these files of the project and libFuzzer, and
# runs it RUNS times from a fixed seed on the inputs in NAME/. Exit 77: there is no clang++ with libFuzzer.
set -euo pipefail

clang=$1 source=$2 binary=$3 name=$4 runs=$5
shift 5
folder=$source/tests/fuzz
mkdir -p "$binary"
cd -- "$source"
fuzzer=$(printf 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n')
if [ ! -x "$clang" ] || ! "$clang" -x c++ -fsanitize=fuzzer,address,undefined -o "$binary/probe" - <<<"$fuzzer" 2>/dev/null; then
  echo "skipped: there is no clang++ with libFuzzer (Debian: clang libclang-rt-14-dev)"
  exit 77
fi
"$clang" -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -Isrc -I. \
  ${CARAVAN_JSON_INCLUDE:+-idirafter "$CARAVAN_JSON_INCLUDE"} -o "$binary/${name}_fuzz" "$folder/${name}_fuzz.cpp" "$@"
corpus=$(mktemp -d "$binary/corpus-XXXXXX")
trap 'rm -rf -- "$corpus"' EXIT
cp -- "$folder/$name"/* "$corpus/"
"$binary/${name}_fuzz" -runs="$runs" -seed=1 -max_len=4096 -timeout=10 -print_final_stats=1 \
  -artifact_prefix="$binary/" "$corpus" 2>&1 | tail -n 30
