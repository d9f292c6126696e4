#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rank that stands still, and one that hangs in a computation: the job ends with 76 and one report that names rank,
# host, step, what it did last, what the others wait for, and where it hangs. A run without a hang says nothing of all
# this and leaves nothing behind.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 300 300 4 2 2
host=$(uname -n)
preload=(LD_PRELOAD="$CARAVAN_HANG_LIBRARY" CARAVAN_HANG_RANK=2 CARAVAN_HANG_FILE="$work/hang")

# rank_of PID: as its launcher numbers it.
rank_of() { tr '\0' '\n' <"/proc/$1/environ" | sed -n 's/^OMPI_COMM_WORLD_RANK=//p'; }
# victim RANK: its process id.
victim() {
  local pid
  for pid in "${pids[@]}"; do
    [ "$(rank_of "$pid")" != "$1" ] || echo "$pid"
  done
}
# expect_report STEP PATTERN: once, on standard error of the job, of this step or the next one. Ranks are at most one
# step apart, since each step sums over all of them; metrics.jsonl has the step that rank 0 has ended.
expect_report() {
  [ "$status" -eq 76 ] || fail "ended with $status instead of 76"
  [ "$(grep -cE -- "$2" "$work/output")" -eq 1 ] || fail "not once in the output: $2"
  local report reported
  report=$(grep -E -- "$2" "$work/output")
  [[ $report =~ in\ step\ ([0-9]+) ]] || fail "the report names no step"
  reported=${BASH_REMATCH[1]}
  [ "$reported" -ge "$1" ] && [ "$reported" -le $(($1 + 2)) ] || fail "step $reported is reported after step $1"
  [[ $report =~ \;\ ranks?\ [0-9\ ,andto]+\ waits?\ since\ .*,\ in\ \"[a-z\ ]+\"\ \(number\ [0-9]+\ of\ group\ [a-z]+\) ]] ||
    fail "the report does not say who waits where"
  [[ $report == *"Start the job again"* ]] || fail "the report does not say what to do"
}

copy_run origin calm
start train "--run.folder=$work/calm" --watchdog.seconds=60 || fail "the undisturbed run ended with $?"
! grep -E 'late|move|wait for|alarm|stack' "$work/output" >"$work/said" || fail "it said $(head -n 1 "$work/said")"
[ ! -e "$work/calm/watchdog" ] || fail "it left $(ls -A "$work/calm/watchdog")"
say "a run of $steps steps without a hang says nothing and leaves nothing"

copy_run origin stopped
start_in_background train "--run.folder=$work/stopped" --watchdog.seconds=3
wait_for_step stopped 3
at=$(last_step stopped)
standing=$(victim 2)
for pid in "${pids[@]}"; do [ "$pid" = "$standing" ] || kill -CONT "$pid"; done
pids=()
wait_for_end
expect_report "$at" "rank 2 \(host $host\) does not move any more since [0-9.]+ s: it (waited|computed) in step"
expect_output "no stack of rank 2: its process does not run"
say "a stopped rank is named"

# A rank of four; then the only one, which nobody waits for.
for ranks in 4 1; do
  name_of_run=hung-$ranks
  copy_run origin "$name_of_run"
  rm -f -- "$work/hang"
  options=(--watchdog.seconds=3 "--run.folder=$work/$name_of_run")
  [ "$ranks" -gt 1 ] || options+=(--layout.tp=1 --layout.ep=1) preload[1]=CARAVAN_HANG_RANK=0
  export "${preload[@]}"
  start_in_background train "${options[@]}"
  unset LD_PRELOAD
  wait_for_step "$name_of_run" 3
  at=$(last_step "$name_of_run")
  : >"$work/hang"
  go_on
  wait_for_end
  if [ "$ranks" -eq 4 ]; then
    expect_report "$at" "rank 2 \(host $host\) is late: it computes since [0-9.]+ s in step [0-9]+, phase [a-z ]+, after \""
    expect_output "stack of rank 2:"
  else
    [ "$status" -eq 76 ] || fail "ended with $status instead of 76"
    grep -qE "no rank waits for another, and none goes on: rank 0 \(host $host\) shows no progress since [0-9.]+ s in step ($((at + 1))|$((at + 2))), phase [a-z ]+" \
      "$work/output" || fail "no report"
    expect_output "stack of rank 0:"
  fi
  expect_output " hang_for_ever in $(basename -- "$CARAVAN_HANG_LIBRARY")+0x"
  grep -qE '^#[0-9]+ caravan::train::Trainer::step\(.*\) in caravan\+0x[0-9a-f]+$' "$work/output" ||
    fail "the stack does not reach the training step"
  say "a rank of $ranks that hangs in a computation is named with its stack"
done

# What the hangs left behind does not disturb the next start.
ranks=4
rm -f -- "$work/hang"
[ -e "$work/hung-4/watchdog" ] || fail "the hang left no files: this tests nothing"
start train "--run.folder=$work/hung-4" --watchdog.seconds=60 --train.steps=4 || fail "the start after the hang ended with $?"
[ ! -e "$work/hung-4/watchdog" ] || fail "the start after the hang left $(ls -A "$work/hung-4/watchdog")"
say "the next start is not disturbed"

# Nor does a rank that hangs when all is done hold the job up.
copy_run origin late
rm -f -- "$work/hang"
preload[1]=CARAVAN_HANG_RANK=2
status=0
env "${preload[@]}" CARAVAN_HANG_AT_END=yes "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n 4 "$binary" train "$work/config.ini" \
  "--run.folder=$work/late" --train.steps=4 >"$work/output" 2>&1 </dev/null || status=$?
expect_output "finished: 4 steps"
[ "$(last_checkpoint late)" -eq 4 ] || fail "the last checkpoint is of step $(last_checkpoint late)"
[ ! -e "$work/late/lock" ] || fail "the run folder is still locked"
say "a rank that hangs at the end leaves with the rest (the launcher ends with $status)"
