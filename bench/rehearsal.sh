#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rehearsal.sh FOLDER: Camelidae-8x34B at its full width with two of its sixty layers (7168 / 20480 / 56 / 8, 8 experts of
# 512, LoRA 64, vocabulary 64000) on 2 ranks, TP 2, EP 2, bfloat16: upcycle of random weights, then training steps with
# a checkpoint. Prints the time of each stage and its peak memory, summed over the ranks. FOLDER needs 20 GB.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
. "$root/bench/environment.sh"
random_model "${1:?usage: rehearsal.sh FOLDER}/caravan-bench-rehearsal" yi-34b-2-layers
cat >>"$work/config.ini" <<INI
[data]
source = $root/inputs/instructions.json
packed = $work/instructions.packed
held_out_every = 5
max_prompt = 240
[layout]
tp = 2
ep = 2
[train]
sequence = 256
batch = 2
micro_batch = 2
steps = ${STEPS:-1}
warmup_steps = 1
precision = bf16
log_every = 1
[checkpoint]
every = ${STEPS:-1}
INI

# stage NAME COMMAND…: on 2 ranks, with the peak of their memory (VmHWM; pages of mapped files count with it).
stage() {
  local name=$1 began=$SECONDS peak=0 now pid own
  shift
  mpirun --bind-to none --oversubscribe -n 2 "$root/build/caravan" "$@" >"$work/output" 2>&1 </dev/null &
  local launcher=$!
  while kill -0 "$launcher" 2>/dev/null; do
    now=0
    for pid in $(pgrep -f "$root/build/caravan $1 $work" | grep -vx "$launcher"); do
      own=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null) || true
      now=$((now + ${own:-0}))
    done
    [ "$now" -le "$peak" ] || peak=$now
    sleep 0.2
  done
  wait "$launcher" || { cat -- "$work/output" >&2; exit 1; }
  printf '%-8s %5d s   %5.1f GiB on 2 ranks together\n' "$name" $((SECONDS - began)) \
    "$(awk -v kib="$peak" 'BEGIN { print kib / 1048576 }')"
}
"$root/build/caravan" prepare "$work/config.ini" >/dev/null
stage upcycle upcycle "$work/config.ini"
stage train train "$work/config.ini"
grep -E 'step|saved|finished' "$work/output" | tail -n 5
du -sh "$work/run/checkpoints"/* | sed "s|$work/||"
