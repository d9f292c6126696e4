#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Settings that change between two starts: what the steps done depend on is refused, and tests/cli/bad_input.sh has the
# messages; everything else is taken, and what it does to the run is reported.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# refused RUN ARGUMENTS…: exit 2, and the run is as it was, but for the reason in its log and in the list of starts.
files() { find "$work/$1" -type f ! -name log.txt ! -name starts.jsonl -printf '%p %s %T@\n' | sort; }
refused() {
  local run=$1 ended=0
  shift
  files "$run" >"$work/before"
  start train "--run.folder=$work/$run" "$@" || ended=$?
  [ "$ended" -eq 2 ] || fail "$run with $*: exit $ended instead of 2"
  files "$run" | cmp -s -- - "$work/before" || fail "$run with $* was changed"
}
# place RUN: epoch and index of its newest checkpoint.
place() { grep -hoE '"(epoch|index)": *[0-9]+' "$(checkpoint_folder "$1" "$(last_checkpoint "$1")")/manifest.json" | tr -dc '0-9\n' | paste -s -d ' '; }

# 60 sequences: 8 steps of 8 an epoch, 4 of 16.
make_origin 4 0 1 1 1
copy_run origin run
start train "--run.folder=$work/run" || fail "the first start ended with $?"
[ "$(place run)" = '0 32' ] || fail "4 steps led to $(place run)"
epochs=(--train.steps=0 --train.epochs=1)
refused run "${epochs[@]}" --train.batch=16
refused run "${epochs[@]}" --train.seed=7
refused run "${epochs[@]}" --train.shuffle=false

# The number of steps that the message of a larger batch names ends with the data; then epochs cannot be counted.
copy_run run larger
refused larger "${epochs[@]}" --train.batch=16
planned=$(sed -n 's/.*plan in train.steps: train.steps = \([0-9]*\) .*/\1/p' "$work/output")
start train "--run.folder=$work/larger" --train.batch=16 "--train.steps=$planned" || fail "a larger batch ended with $?"
expect_output 'changed since the checkpoint: train.batch = 16, was 8'
[ "$(place larger)" = '1 0' ] || fail "train.steps = $planned led to $(place larger)"
refused larger --train.steps=0 --train.epochs=2 --train.batch=16

# With the batch set back the run uses its data up; in the epoch after that, any order will do.
start train "--run.folder=$work/run" "${epochs[@]}" || fail "the batch set back ended with $?"
[ "$(place run)" = '1 0' ] || fail "an epoch led to $(place run)"
# … which is no help where that checkpoint proves to be damaged, and the one before it is in the middle of the data.
copy_run run damaged
bit_flipped "$(checkpoint_folder damaged 8)/shard-00000.h5"
refused damaged --train.steps=0 --train.epochs=2 --train.seed=7
expect_output "train.seed = 7, but $(checkpoint_folder damaged 4) was made with 42"
start train "--run.folder=$work/run" --train.steps=0 --train.epochs=2 --train.seed=7 || fail "a new epoch ended with $?"
[ "$(last_checkpoint run)" -eq 16 ] && [ "$(place run)" = '2 0' ] || fail "two epochs ended at step $(last_checkpoint run)"

# A longer plan has a longer warm-up, if that is a share of it; a held-out set of its own for the rest of it. Losses
# fall in these steps, and that of the first sample is lower: ranked together, only the last one would stay.
copy_run origin best
options=(--checkpoint.keep=1 --checkpoint.keep_best=true --checkpoint.every=6
  "--data.held_out=$work/instructions.packed" --evaluate.every=6)
start train "--run.folder=$work/best" "${options[@]}" --train.steps=6 --train.warmup_ratio=0.5 || fail "the shorter plan ended with $?"
if grep -q 'the learning rate falls' "$work/output"; then fail "the first warm-up is reported as a longer one"; fi
cp -R -- "$work/best" "$work/kept"
start train "--run.folder=$work/best" "${options[@]}" --train.steps=18 --train.warmup_ratio=0.5 --evaluate.samples=1 || fail "the longer plan ended with $?"
[ "$(grep -c 'the learning rate falls behind step 6 and climbs again: the warm-up has 9 steps, and had 3' "$work/output")" -eq 1 ] ||
  fail "the longer warm-up is not reported once"
expect_output 'train.warmup_steps = 3 instead'
mapfile -t losses < <(sed -n 's/.*"held_out_loss":\([^,]*\),.*/\1/p' "$work/best/metrics.jsonl")
awk -v a="${losses[0]}" -v b="${losses[2]}" 'BEGIN { exit !(b < a) }' || fail "held-out losses ${losses[*]}: this tests nothing"
[ -e "$(checkpoint_folder best 6)/manifest.json" ] || fail "the best of the former held-out set is gone"
grep -q '"samples": *60' "$(checkpoint_folder best 6)/manifest.json" || fail "step 6 does not say what its loss is of"

# Of the same set it goes, and what the warning says avoids it.
start train "--run.folder=$work/kept" "${options[@]}" --train.steps=18 --train.warmup_steps=3 || fail "the kept warm-up ended with $?"
if grep -q 'the learning rate falls' "$work/output"; then fail "train.warmup_steps does not avoid the longer warm-up"; fi
[ ! -e "$(checkpoint_folder kept 6)" ] || fail "step 6 stays, though a later one is better"
say "harmful changes are refused, harmless ones taken; steps $planned and 16 end with the data; held-out losses ${losses[*]}"
