#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# soak.sh [KILLS [SEED]]: one run that is killed with SIGKILL KILLS times (50), all ranks or one of them, at random moments
# of starts, steps and saves, and goes on at a layout drawn anew each time. Its curve must be that of the undisturbed run
# at one layout: no step lost, none doubled, and every number as close as float32 sums in another order are.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

wanted=${1:-50}
seed=${2:-$(($(date +%s%N) / 1000 % 1000000))}
RANDOM=$((seed % 32768))
say "seed $seed, $wanted kills"
# More steps than the kills can take back: a start that is killed early makes none.
make_origin $((wanted * 6 + 20)) 3 4 2 2
# The balance loss is measured over a micro-step of all ranks: the same 8 sequences at every layout.
settings=(--train.lr=1e-3 --train.balance_scope=batch)
copy_run origin calm
start train "--run.folder=$work/calm" "${settings[@]}" --train.micro_batch=4 || fail "the undisturbed run ended with $?"

layouts=("1 1" "1 2" "1 4" "2 1" "2 2" "2 4")
kills=0 early=0 in_saves=0
copy_run origin killed
while [ "$kills" -lt "$wanted" ]; do
  read -r tp ep <<<"${layouts[RANDOM % ${#layouts[@]}]}"
  start_in_background train "--run.folder=$work/killed" "${settings[@]}" "--layout.tp=$tp" "--layout.ep=$ep" \
    "--train.micro_batch=$((2 * tp))"
  before=$(last_step killed)
  if [ $((RANDOM % 5)) -eq 0 ]; then
    slices=$((RANDOM % 20))  # at any moment of the start
    for ((slice = 0; slice < slices; ++slice)); do run_for 0.02 || break; done
    run_for 0.01 || true
  else
    wait_for_step killed $(($(last_checkpoint killed) + 1 + RANDOM % 6))
    run_for "0.00$((RANDOM % 10))" || true
  fi
  victims=("${pids[@]}")
  [ $((RANDOM % 2)) -eq 0 ] || victims=("${pids[RANDOM % ${#pids[@]}]}")
  kill -KILL "${victims[@]}" 2>/dev/null || true
  go_on
  wait_for_end
  [ "$status" -ne 0 ] || fail "the run ended after $kills kills"
  kills=$((kills + 1))
  [ "$(last_step killed)" -gt "$before" ] || early=$((early + 1))
  for folder in "$work"/killed/checkpoints/step-*; do
    [ -e "$folder/manifest.json" ] || { in_saves=$((in_saves + 1)); break; }
  done
done
say "$kills kills: $early before a first step, $in_saves left or found an unfinished checkpoint; now at step $(last_step killed) of $steps"
start train "--run.folder=$work/killed" "${settings[@]}" --train.micro_batch=4 || fail "the last start ended with $?"
# Another layout from the first step on moves these 320 steps by 1e-6.
expect_close_curve killed calm 1e-4
say "after $kills kills at random layouts the curve of all $steps steps is that of the undisturbed run"
