#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill_and_resume.sh MICRO_BATCH [PRECISION] [SEED]: a run that is killed with SIGKILL again and again, at random moments,
# ends with the loss curve of the undisturbed run, bit for bit.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

micro_batch=$1
precision=${2:-fp32}
seed=${3:-$(($(date +%s%N) / 1000 % 1000000))}
RANDOM=$((seed % 32768))
say "seed $seed, micro-batches of $micro_batch, $precision"

make_origin 20 5 4 2 2 "$precision"
copy_run origin calm
copy_run origin killed
train() { start_in_background train "--train.micro_batch=$micro_batch" "--run.folder=$work/$1"; }

began=$(date +%s%N)
train calm
wait_for_end
[ "$status" -eq 0 ] || fail "the undisturbed run ended with $status"
took=$((($(date +%s%N) - began) / 1000000))
say "the undisturbed run took $took ms"

kills=0
recomputed=0
former=0  # the step at the kill before, and what the start after it is to log
repeated=
# kill_now all|one: SIGKILL to all ranks, or to one of them; then what the next start must do is known. Not while a start
# has cut metrics.jsonl and not yet logged what it computes again: no later start would.
kill_now() {
  until [ ${#pids[@]} -eq "$ranks" ] && { [ "$(last_step killed)" -ge "$former" ] || grep -qF -- "$repeated" "$work/killed/log.txt"; }; do
    run_for 0.001 || break
  done
  local victims=("${pids[@]}")
  [ "$1" = all ] || victims=("${pids[RANDOM % ${#pids[@]}]}")
  kill -KILL "${victims[@]}" 2>/dev/null || true
  go_on  # those that are left
  wait_for_end
  [ "$status" -ne 0 ] || { say "it had finished before the kill"; return 0; }
  kills=$((kills + 1))
  local from to
  from=$(last_checkpoint killed) to=$(last_step killed)
  say "kill $kills ($1): step $to, newest checkpoint $from, mpirun ended with $status"
  former=$to repeated=
  if [ "$to" -gt "$from" ]; then
    repeated="steps $((from + 1)) to $to were computed before and are computed again"
    again+=("$repeated")
  fi
}
again=()

# Before the first checkpoint, at any moment of a step.
train killed
wait_for_step killed $((1 + RANDOM % (every - 1)))
run_for "0.00$((RANDOM % 10))" || true
kill_now all
[ "$kills" -eq 1 ] || fail "the run of $steps steps ended before its first checkpoint"
# At any moment of a start and of its first third, which the machine may pass faster than it did before.
train killed
slices=$((took / 3 * RANDOM / 32768 / 20))
for ((slice = 0; slice <= slices && $(last_step killed) <= every + 1; ++slice)); do run_for 0.02 || break; done
kill_now all
# Between two checkpoints, one rank only: mpirun ends the others, which may get on until then. So not before it has come
# to a step of its own.
train killed
step=$(($(last_checkpoint killed) + every + 1 + RANDOM % (every - 1)))
wait_for_step killed $((step > former ? step : former + 1))
kill_now one
# And once more among the last steps.
train killed
wait_for_step killed $((steps - 2 - RANDOM % (every - 2)))
kill_now all

train killed
wait_for_end
[ "$status" -eq 0 ] || fail "the last start ended with $status"
[ "$kills" -ge 3 ] || fail "only $kills of 4 kills hit a running program"
for text in "${again[@]}"; do
  expect_log killed "$text"
  recomputed=$((recomputed + 1))
done
[ "$recomputed" -gt 0 ] || fail "no kill cost a step: all came right after a checkpoint"
expect_same_curve killed calm
[ "$(last_checkpoint killed)" -eq "$steps" ] || fail "the newest checkpoint is that of step $(last_checkpoint killed)"
[ ! -e "$work/killed/lock" ] || fail "the run folder is still locked"
say "$kills kills; $recomputed restarts computed steps again; all $steps steps are equal"
