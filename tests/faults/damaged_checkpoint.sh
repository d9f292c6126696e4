#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A damaged checkpoint is named and passed over for the one before it, and the curve stays that of the undisturbed run.
# Damage in step 0, which holds the frozen tensors, is refused: there is nothing before it. Damaged metrics are cut where
# their steps are computed again.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 12 4 4 2 2
copy_run origin calm
start train "--run.folder=$work/calm" --checkpoint.keep=100 || fail "the undisturbed run ended with $?"

truncated() { truncate -s "$(($(stat -c %s -- "$1") * 2 / 3))" -- "$1"; }
removed() { rm -- "$1"; }

# Steps 8 and 4 have a checkpoint; 12, the last, had one.
damaged_run() {
  rm -rf -- "${work:?}/damaged"
  copy_run calm damaged
  rm -rf -- "$(checkpoint_folder damaged 12)"
}
# expect_resume DAMAGE FROM FILE…: the start goes on from step FROM and has named the files, and the curve is equal.
expect_resume() {
  local file
  start train "--run.folder=$work/damaged" || fail "$1: exit $?"
  for file in "${@:3}"; do expect_output "$file"; done
  if [ "$2" -gt 0 ]; then expect_output "resumed $(checkpoint_folder damaged "$2"),"; fi
  expect_output "steps $(($2 + 1)) to 12 were computed before and are computed again"
  expect_same_curve damaged calm
  say "$1: went on from step $2"
}

shard=$(checkpoint_folder damaged 8)/shard-00002.h5
manifest=$(checkpoint_folder damaged 8)/manifest.json
for damage in truncated bit_flipped removed; do
  damaged_run
  "$damage" "$shard"
  expect_resume "$damage shard" 4 "$shard" warning:
done
for damage in truncated bit_flipped; do
  damaged_run
  "$damage" "$manifest"
  expect_resume "$damage manifest" 4 "$manifest" warning:
done
damaged_run
removed "$manifest"  # a save that was not finished
expect_resume "unfinished save" 4

damaged_run
bit_flipped "$shard"
truncated "$(checkpoint_folder damaged 4)/shard-00000.h5"
expect_resume "two damaged checkpoints" 0 "$shard" "$(checkpoint_folder damaged 4)/shard-00000.h5"

# What was passed over is kept, under a name that no later start reads, and that all begins again is said plainly.
[ -e "$(checkpoint_folder damaged 8).set-aside/manifest.json" ] || fail "the damaged checkpoint is gone"
expect_log damaged "warning: step 8 is set aside as $(checkpoint_folder damaged 8).set-aside, which nothing reads, remove it when you like: "
expect_log damaged "warning: this run has no good checkpoint of its own: training begins again from step 0, $(checkpoint_folder damaged 0); all that led to step-00000008.set-aside and step-00000004.set-aside is computed again"

# A start that is refused only after it has found the damage leaves the run as it was.
damaged_run
truncated "$shard"
sed -i '3s/^{/[/' -- "$work/damaged/metrics.jsonl"
before=$(find "$work/damaged" -type f ! -name log.txt ! -path '*/watchdog/*' -printf '%p %s %T@\n' | sort)
expect 2 4 train "$work/config.ini" "--run.folder=$work/damaged" --train.lr=1e-3
expect_output "$work/damaged/metrics.jsonl:3"
expect_output 'step-00000008 is passed over'
[ "$before" = "$(find "$work/damaged" -type f ! -name log.txt ! -path '*/watchdog/*' -printf '%p %s %T@\n' | sort)" ] ||
  fail "a refused start changed the run"
say "refused metrics: nothing is set aside or written"

# Another run that begins from a checkpoint by name: a good one gives the same curve, and nothing is chosen in the place
# of a damaged one.
damaged_run
copy_run origin begun
start train "--run.folder=$work/begun" "--checkpoint.resume=$(checkpoint_folder damaged 8)" || fail "begun: exit $?"
[ "$(curve begun)" = "$(curve calm | tail -n 4)" ] || fail "a run that begins from step 8 has another curve"
! grep -q "lacks steps" "$work/output" || fail "a run that begins from step 8 has no steps to miss"
# Its own checkpoint damaged, it begins there again, and not at its step 0.
bit_flipped "$(checkpoint_folder begun 12)/shard-00001.h5"
start train "--run.folder=$work/begun" "--checkpoint.resume=$(checkpoint_folder damaged 8)" || fail "begun again: exit $?"
expect_output "resumed $(checkpoint_folder damaged 8),"
expect_output "training begins again from checkpoint.resume = $(checkpoint_folder damaged 8); all that led to step-00000012.set-aside is computed again"
[ "$(curve begun)" = "$(curve calm | tail -n 4)" ] || fail "a run that begins again from step 8 has another curve"
# Nor at a step 0 with other frozen tensors, wherever the damage is found: no model is made of the two.
for damage in bit_flipped truncated; do
  rm -rf -- "$work/begun"
  start upcycle "--run.folder=$work/begun" --upcycle.seed=7 || fail "another step 0: exit $?"
  start train "--run.folder=$work/begun" "--checkpoint.resume=$(checkpoint_folder damaged 8)" || fail "begun: exit $?"
  "$damage" "$(checkpoint_folder begun 12)/shard-00001.h5"
  expect 2 4 train "$work/config.ini" "--run.folder=$work/begun"
  expect_output "would change the model: the frozen tensors of the former are not those in $(checkpoint_folder begun 0)"
  [ -e "$(checkpoint_folder begun 12)/manifest.json" ] || fail "$damage: a refused start set a checkpoint aside"
done
bit_flipped "$shard"
rm -rf -- "$work/begun"
copy_run origin begun
status=0
start train "--run.folder=$work/begun" "--checkpoint.resume=$(checkpoint_folder damaged 8)" || status=$?
[ "$status" -eq 2 ] || fail "a damaged checkpoint that was asked for: exit $status instead of 2"
expect_output "$shard"
say "beginning from a checkpoint: as from a good one, or refused"

# The metrics: lines of steps that are computed again may be damaged; a hole before them is reported.
damaged_run
head -c 300 /dev/zero >>"$work/damaged/metrics.jsonl"
echo >>"$work/damaged/metrics.jsonl"
expect_resume "zero bytes behind the metrics" 8 "$work/damaged/metrics.jsonl:13: the line is not JSON"
damaged_run
sed -i 7,8d "$work/damaged/metrics.jsonl"
start train "--run.folder=$work/damaged" || fail "a hole in the metrics: exit $?"
expect_output "warning: metrics.jsonl lacks steps 7 to 8"
[ "$(curve damaged)" = "$(curve calm | sed 7,8d)" ] || fail "a hole in the metrics: another curve"
damaged_run
sed -i 7s/.// "$work/damaged/metrics.jsonl"
cp -- "$work/damaged/metrics.jsonl" "$work/before"
status=0
start train "--run.folder=$work/damaged" || status=$?
[ "$status" -eq 2 ] || fail "a damaged line of a step that is done: exit $status instead of 2"
expect_output "$work/damaged/metrics.jsonl:7: the line is not JSON"
cmp -s -- "$work/before" "$work/damaged/metrics.jsonl" || fail "a damaged line of a step that is done: it was changed"
say "damaged metrics: cut where they are computed again, refused before"

for damage in truncated bit_flipped removed; do
  rm -rf -- "${work:?}/frozen"
  copy_run origin frozen
  store=$(checkpoint_folder frozen 0)/shard-00000.h5
  "$damage" "$store"
  status=0
  start train "--run.folder=$work/frozen" || status=$?
  [ "$status" -eq 2 ] || fail "$damage store: exit $status instead of 2"
  expect_output "$store"
  [ ! -e "$work/frozen/metrics.jsonl" ] || fail "$damage store: a step was computed"
  [ ! -e "$work/frozen/lock" ] || fail "$damage store: the run folder is still locked"
  say "$damage store: refused"
done
