#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# stop_and_requeue.sh RANKS TP EP: SIGUSR1 and SIGTERM end a run after its step, with a checkpoint and exit code 75; the
# same command goes on from there, and the curve is the undisturbed run's, bit for bit.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 60 100 "$@"  # no checkpoint but those that the signals cause, and room for four stops
copy_run origin calm
copy_run origin stopped
start train "--run.folder=$work/calm" || fail "the undisturbed run ended with $?"

former=0
# stop_with SIGNAL NUMBER TARGET: TARGET is all (ranks), last (rank's process) or launcher (mpirun, which passes it on).
stop_with() {
  local targets step
  start_in_background train "--run.folder=$work/stopped"
  wait_for_step stopped $((former + 3))
  case $3 in
    all) targets=("${pids[@]}") ;;
    last) targets=("${pids[-1]}") ;;
    launcher) targets=("$launcher") ;;
  esac
  kill "-$1" "${targets[@]}" || fail "no process to signal"
  go_on
  [ "$4" = once ] || { nap "0.0$((RANDOM % 10))"; kill "-$1" "${targets[@]}" 2>/dev/null || true; }
  wait_for_end
  expect_saved_and_stopped stopped "$former" "SIG$1 to $3"
  expect_log stopped "stopped by signal $2 after step $step of $steps; the same command goes on from here"
  say "SIG$1 to $3: checkpoint of step $step, exit 75"
  former=$step
}
stop_with USR1 10 all once
stop_with TERM 15 all twice  # a second signal, perhaps in the save, changes nothing
stop_with USR1 10 last once
[ "$ranks" -eq 1 ] || stop_with USR1 10 launcher once

start train "--run.folder=$work/stopped" || fail "the last start ended with $?"
expect_output "resumed $(checkpoint_folder stopped "$former")"
expect_same_curve stopped calm
if grep -q 'computed again' "$work/stopped/log.txt"; then fail "a stop cost steps"; fi
[ "$(sed -n 's/.*"restart":\([0-9]*\).*/\1/p' "$work/stopped/metrics.jsonl" | sort -u | wc -l)" -ge 4 ] ||
  fail "metrics.jsonl does not tell the starts apart"
say "all $steps steps are equal"
