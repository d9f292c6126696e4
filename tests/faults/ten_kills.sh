#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ten_kills.sh [SEED]: ten runs of 40 steps that save every 5, each killed once with SIGKILL and started again: two while
# a checkpoint is being written, three between checkpoints, five at a moment drawn from the run but its end
# (kill_and_resume.sh has those before the first step).
# Each ends with the loss curve of the undisturbed run, bit for bit.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

seed=${1:-$(($(date +%s%N) / 1000 % 1000000))}
RANDOM=$((seed % 32768))
say "seed $seed"
make_origin 40 5 4 2 2
train() { start_in_background train "--run.folder=$work/$1"; }

copy_run origin calm
train calm
wait_for_end
[ "$status" -eq 0 ] || fail "the undisturbed run ended with $status"

in_saves=0
between=0
# disturb NUMBER save|between|any: one run, killed once and started again.
disturb() {
  local run=killed-$1 where
  copy_run origin "$run"
  train "$run"
  wait_for_step "$run" 1
  case $2 in
    save)
      wait_for_step "$run" $((1 + RANDOM % 30))
      until saving "$run"; do run_for 0.001 || fail "run $1 ended before it saved"; done
      ;;
    between)
      # The save of a boundary lasts into the steps after it.
      wait_for_step "$run" $((every * (1 + RANDOM % 6) + 1))
      while saving "$run" || [ $(($(last_step "$run") % every)) -eq 0 ]; do
        run_for 0.001 || fail "run $1 ended before it was between checkpoints"
      done
      ;;
    any)
      wait_for_step "$run" $((RANDOM % (steps - 15)))
      run_for "0.0$((10 + RANDOM % 50))" || fail "run $1 ended before it was killed"
      ;;
  esac
  kill -KILL "${pids[@]}" 2>/dev/null || true
  wait_for_end
  [ "$status" -ne 0 ] || fail "run $1 ended before it was killed"
  where="at step $(last_step "$run")"
  if saving "$run"; then
    in_saves=$((in_saves + 1)) where="$where, while it saved"
  elif [ $(($(last_step "$run") % every)) -ne 0 ]; then
    between=$((between + 1)) where="$where, between checkpoints"
  fi
  train "$run"
  wait_for_end
  [ "$status" -eq 0 ] || fail "run $1 ended with $status when it was started again"
  expect_same_curve "$run" calm
  say "run $1: killed $where; all $steps steps are equal"
  rm -rf -- "${work:?}/$run"
}
for number in 1 2; do disturb "$number" save; done
for number in 3 4 5; do disturb "$number" between; done
for number in 6 7 8 9 10; do disturb "$number" any; done
# A kill may come just after what it was meant for.
for ((number = 11; number <= 16 && in_saves < 2; ++number)); do disturb "$number" save; done
for ((; number <= 22 && between < 3; ++number)); do disturb "$number" between; done
[ "$in_saves" -ge 2 ] || fail "only $in_saves kills hit a save"
[ "$between" -ge 3 ] || fail "only $between kills came between checkpoints"
say "$in_saves kills while saving, $between between checkpoints"
