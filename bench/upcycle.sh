#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# upcycle.sh FOLDER [RANKS]: upcycles a dense model of Llama-2-7B's shapes (random weights, 13.5 GB in bfloat16) to 8
# experts, and copies the same file with cp beside it, in turn, twice. Prints both times and their ratio. FOLDER needs
# 45 GB and is emptied of what this script made.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
. "$root/bench/environment.sh"
random_model "${1:?usage: upcycle.sh FOLDER [RANKS]}/caravan-bench-upcycle" llama-2-7b
ranks=${2:-2}

bytes=$(stat -c %s "$work/base/model.safetensors")

# seconds COMMAND…: until the data are on the disk.
seconds() {
  local began
  began=$(date +%s%N)
  "$@" >"$work/output" 2>&1 || { cat -- "$work/output" >&2; exit 1; }
  sync -f "$work"
  echo "$((($(date +%s%N) - began) / 1000000))"
}
for round in 1 2; do
  copied=$(seconds cp -- "$work/base/model.safetensors" "$work/copy")
  rm -- "$work/copy"
  upcycled=$(seconds mpirun --oversubscribe --bind-to none -n "$ranks" "$root/build/caravan" upcycle "$work/config.ini")
  written=$(du -sb "$work/run/checkpoints" | cut -f 1)
  rm -rf -- "$work/run"
  awk -v round="$round" -v base="$bytes" -v written="$written" -v copy="$copied" -v up="$upcycled" 'BEGIN {
    printf "round %d: cp of %.1f GB: %.1f s (%.2f GB/s); upcycle, %.1f GB written: %.1f s (%.2f GB/s); ", round, base / 1e9,
      copy / 1e3, base / copy / 1e6, written / 1e9, up / 1e3, written / up / 1e6
    printf "time per byte written: %.2f of cp\n", (up / written) / (copy / base) }'
done
