#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Step 0 and the packed file may be lost, to a purge of old files, say: made again from the same base, records and
# settings, on other ranks and from a file of another name, they are what the run began with, and it goes on to the curve
# of an undisturbed run. Made again from something else they are refused.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 6 3 1 1 1
copy_run origin calm
start train "--run.folder=$work/calm" || fail "the undisturbed run ended with $?"
copy_run origin run
here="--run.folder=$work/run"
start train "$here" --train.steps=3 || fail "the first three steps ended with $?"
store=$(checkpoint_folder run 0)
cp -- "$store/manifest.json" "$work/former.json"
cp -- "$work/instructions.packed" "$work/former.packed"

# lose_and_make_again RANKS ARGUMENTS…: arguments of upcycle.
lose_and_make_again() {
  rm -rf -- "$store" "$work/instructions.packed"
  ranks=$1
  start upcycle "$here" "${@:2}" || fail "upcycle ended with $?"
  ranks=1
  start prepare "$here" "--data.source=$work/records.jsonl" || fail "prepare ended with $?"
}
mv -- "$work/instructions.jsonl" "$work/records.jsonl"
lose_and_make_again 2 --upcycle.seed=7
expect 2 1 train "$work/config.ini" "$here" --upcycle.seed=7
expect_output "$store is not the store that $(checkpoint_folder run 3) was trained from"

lose_and_make_again 2
if cmp -s -- "$work/former.json" "$store/manifest.json"; then fail "the manifest is the former: this tests nothing"; fi
if cmp -s -- "$work/former.packed" "$work/instructions.packed"; then fail "the packed file is the former: this tests nothing"; fi
expect 0 1 info --verify "$(checkpoint_folder run 3)"
start train "$here" || fail "the next start ended with $?"
expect_output "resumed $(checkpoint_folder run 3)"
expect_same_curve run calm

sed 's/moon/mood/' -- "$work/records.jsonl" >"$work/other.jsonl"
start prepare "$here" "--data.source=$work/other.jsonl" || fail "prepare ended with $?"
expect 2 1 train "$work/config.ini" "$here" --train.steps=9
expect_output "data.packed = $work/instructions.packed is not the file that $(checkpoint_folder run 6) was trained on"
say "what was lost is made again, and the run goes on"
