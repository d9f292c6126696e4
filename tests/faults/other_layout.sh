#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run that goes on at another layout keeps its curve. Sums over ranks have another order there, so that numbers agree
# to 1e-4, not to the last bit: float32 rounding (6e-8 an operation) that some steps of training have carried on.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# expect_close_curve RUN REFERENCE: the largest relative difference of every number of the steps, and exact equality of counts.
expect_close_curve() {
  local most
  most=$(paste -d '\n' <(curve "$1") <(curve "$2") | awk -v steps="$steps" '
    function number(line, key) {
      if (!match(line, "\"" key "\":[^,}]*")) { print "no " key; failed = 1; exit 1 }
      return substr(line, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
    }
    BEGIN { split("loss ce_loss balance_loss grad_norm lr", close_to); split("step tokens response_tokens", equal) }
    NR % 2 { ours = $0; next }
    {
      for (k in equal) if (number(ours, equal[k]) != number($0, equal[k])) { print equal[k] " differs"; failed = 1; exit 1 }
      for (k in close_to) {
        a = number(ours, close_to[k]) + 0; b = number($0, close_to[k]) + 0
        difference = (a > b ? a - b : b - a) / (b > 0 ? b : 1)
        if (difference > most) most = difference
      }
    }
    END { if (!failed) { if (NR != 2 * steps) print NR / 2 " steps"; else printf "%.3g\n", most } }') || true
  awk -v most="$most" 'BEGIN { exit !(most ~ /^[0-9.e+-]+$/ && most + 0 < 1e-4) }' || fail "$1 differs from $2: $most"
  say "$1: largest relative difference $most"
}

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
  expect_close_curve "$run" "$from"
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
expect_close_curve one four
from=one written='1 ranks (TP 1, EP 1)'
continue_at 4 2 4 2
