#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run that goes on at another layout keeps its curve. Sums over ranks have another order there, so that numbers agree
# to 1e-4, not to the last bit: float32 rounding (6e-8 an operation) that some steps of training have carried on.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# continue_at RANKS TP EP MICRO_BATCH: the balance loss is measured over the sequences of a micro-step of all ranks, so
# that MICRO_BATCH times data-parallel ranks stays the same.
continue_at() {
  local run="ranks-$1-tp-$2-ep-$3"
  copy_run "$from" "$run"
  rm -rf -- "$(checkpoint_folder "$run" "$steps")"
  ranks=$1
  start train "--run.folder=$work/$run" "--layout.tp=$2" "--layout.ep=$3" "--train.micro_batch=$4" ||
    fail "$run: exit $?"
  expect_output "resumed $(checkpoint_folder "$run" "$every"), written by $written"
  expect_output "steps $((every + 1)) to $steps were computed before and are computed again"
  expect_output "changed since the checkpoint: layout.tp = $2, was "
  expect_close_curve "$run" "$from" 1e-4
}

make_origin 16 6 4 2 2
every=12  # the newest checkpoint before the last
copy_run origin four
start train "--run.folder=$work/four" || fail "the run on 4 ranks ended with $?"
from=four written='4 ranks (TP 2, EP 2)'
continue_at 1 1 1 4
continue_at 2 1 2 2
continue_at 4 1 4 1

# And the other way: a run that began on 1 rank has the same curve from its first step, and goes on at 4.
copy_run origin one
ranks=1
start train "--run.folder=$work/one" --layout.tp=1 --layout.ep=1 --train.micro_batch=4 || fail "1 rank ended with $?"
expect_close_curve one four 1e-4
from=one written='1 ranks (TP 1, EP 1)'
continue_at 4 2 4 2
