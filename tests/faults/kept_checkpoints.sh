#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Which checkpoints a run leaves: the newest, those of every so many steps, and the one with the lowest held-out loss of
# those that were evaluated, also across restarts. metrics.jsonl tells what saves took.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 24 2 1 1 1
options=("--run.folder=$work/kept" --checkpoint.keep=1 --checkpoint.keep_every=10 --checkpoint.keep_best=true)
evaluation=("--data.held_out=$work/instructions.packed" --evaluate.every=4 --evaluate.samples=20)
copy_run origin kept
start train "${options[@]}" "${evaluation[@]}" --train.lr=0.05 --train.steps=14 || fail "the first start ended with $?"
# With this rate the loss rises: the best is one of the first start.
start train "${options[@]}" "${evaluation[@]}" --train.lr=1 || fail "the second start ended with $?"

held_out=()
for ((step = 4; step <= steps; step += 4)); do
  line=$(grep "\"step\":$step," "$work/kept/metrics.jsonl")
  [[ $line =~ \"held_out_loss\":([0-9.e+-]+) ]] || fail "step $step has no held-out loss"
  held_out+=("${BASH_REMATCH[1]} $step")
done
best=$(printf '%s\n' "${held_out[@]}" | sort -g | head -n 1 | cut -d ' ' -f 2)
[ "$best" -le 14 ] || fail "step $best is the best: this tests nothing"
wanted=$(printf '%s\n' 0 10 20 24 "$best" | sort -nu | paste -s -d ' ')
found=
for folder in "$work"/kept/checkpoints/step-*; do found+="$((10#${folder##*-})) "; done
[ "${found% }" = "$wanted" ] || fail "the checkpoints are $found instead of $wanted, with losses $(printf '%s; ' "${held_out[@]}")"
grep -q "\"held_out_loss\":" "$(checkpoint_folder kept "$best")/manifest.json" || fail "the manifest of step $best has no loss"
say "kept $found, of which $best is the best"

saves=$(grep -c '"save_stall_seconds":' "$work/kept/metrics.jsonl")
durable=$(grep -c '"save_seconds":' "$work/kept/metrics.jsonl")
[ "$saves" -ge 12 ] && [ "$durable" -ge 10 ] || fail "metrics.jsonl has $saves stalls and $durable saves of 12"
[ "$(grep -cE 'saved .*/step-[0-9]+ \(stalled [0-9.]+ s, durable after [0-9.]+ s\)' "$work/kept/log.txt")" -eq 12 ] ||
  fail "log.txt does not tell of 12 saves"
status=0
start train "${options[@]}" || status=$?
[ "$status" -eq 2 ] || fail "keep_best without evaluations: exit $status instead of 2"
expect_output "checkpoint.keep_best needs held-out losses"
