#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A job that ends at SLURM_JOB_END_TIME or CARAVAN_END_TIME is left in time with a good checkpoint and exit 75, and the
# curve goes on as if nothing had been. Where there is no time for a step and a save, exit 70 says so.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 1000000 0 2 2 1
copy_run origin limited

# limited VARIABLE SECONDS [ARGUMENTS]: a start that is to end in so many seconds and is killed then, as Slurm does;
# $status is its exit status.
limited() {
  local end
  end=$(($(date +%s) + $2)) status=0
  export "$1=$end"
  start_in_background train "--run.folder=$work/limited" "${@:3}"
  unset "$1"
  while is_running && [ "$(date +%s)" -lt "$end" ]; do nap 0.1; done
  if is_running; then
    mapfile -t pids < <(ranks_below "$launcher")
    kill -KILL "${pids[@]}" 2>/dev/null || true
  fi
  wait_for_end
}

# The default margin is longer than the job: nothing is begun.
for seconds in 8 16 32; do  # the latter for a machine that needs so long to start
  limited SLURM_JOB_END_TIME "$seconds"
  [ "$status" -ne 137 ] || [ -s "$work/limited/metrics.jsonl" ] || continue
  break
done
[ "$status" -eq 70 ] || fail "a margin of 60 s: exit $status instead of 70"
expect_output "the time limit is too short for start + one step"
[ ! -s "$work/limited/metrics.jsonl" ] || fail "a margin of 60 s: a step was computed"
[ ! -e "$work/limited/lock" ] || fail "a margin of 60 s: the run folder is still locked"
[ ! -e "$work/limited/stopped-early" ] || fail "a margin of 60 s: another start of the same job may end likewise, but stopped-early asks for it"
say "no time for a step: exit 70"

former=0
for variable in SLURM_JOB_END_TIME CARAVAN_END_TIME; do
  for seconds in 8 16 32 64; do  # 4 of them for the way out, whose dozen of fsyncs may take long on a busy disk
    limited "$variable" "$seconds" --checkpoint.margin=4
    [ "$status" -ne 137 ] || [ "$(last_step limited)" -gt "$former" ] || continue  # it had not come to a step
    [ "$status" -eq 70 ] || break
    expect_output "the time limit is too short for start + one step"
  done
  expect_saved_and_stopped limited "$former" "$variable"
  expect_log limited "stopped by the job's time limit, which is near, after step $step of"
  say "$variable: checkpoint of step $step, exit 75, in time"
  former=$step
done

steps=$((former + 5))
start train "--run.folder=$work/limited" "--train.steps=$steps" || fail "the last start ended with $?"
expect_output "resumed $(checkpoint_folder limited "$former")"
copy_run origin calm
start train "--run.folder=$work/calm" "--train.steps=$steps" || fail "the undisturbed run ended with $?"
expect_same_curve limited calm
say "all $steps steps are equal"

status=0
CARAVAN_END_TIME=tomorrow start train "--run.folder=$work/limited" || status=$?
[ "$status" -eq 2 ] || fail "CARAVAN_END_TIME = tomorrow: exit $status instead of 2"
expect_output "CARAVAN_END_TIME = tomorrow is no time in unix seconds"
