#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SIGUSR1 and SIGTERM in every phase of train: while it loads (exit 70: no step was completed), in an evaluation (which
# is given up), in a background save and in the last save (exit 75, the newest checkpoint is the last step's); and in
# upcycle, prepare, evaluate and export, which end with exit 70 and leave nothing that counts, but for the file that tells this
# from a defect, until the next start. No stop costs or changes a step.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 48 2 2 2 1
# Something to evaluate on for long: 2000 records, of which a micro-batch of one rank takes two.
for ((i = 0; i < 2000; ++i)); do
  printf '{"corpus": "", "dataset": "test", "instruction": "Say it.", "conversation": [{"input": "%d?", "output": "number %d"}]}\n' "$i" "$i"
done >"$work/many.jsonl"
"$binary" prepare "$work/config.ini" "--data.source=$work/many.jsonl" "--data.packed=$work/many.packed" >"$work/output" 2>&1 ||
  fail "prepare ended with $?"
copy_run origin calm
copy_run origin stopped
start train "--run.folder=$work/calm" || fail "the undisturbed run ended with $?"
train() { start_in_background train "--run.folder=$work/stopped" "$@"; }
signal() { kill "-$1" "${pids[@]}" 2>/dev/null || fail "no process to signal"; }

# expect_stopped_early FOLDER SIGNAL
expect_stopped_early() { [ "$(cat "$1/stopped-early")" = "signal $(kill -l "$2")" ] || fail "SIG$2: $1/stopped-early does not name it"; }

# Loading begins when the run folder is locked, and ends when the run is announced. stop_while_loading SIGNAL FIRST: to
# the ranks from that one on.
stop_while_loading() {
  local again
  for again in 1 2 3 4 5; do
    rm -rf -- "$work/stopped"
    copy_run origin stopped
    train
    until [ -e "$work/stopped/lock" ]; do run_for 0.001 || fail "training ended before it loaded"; done
    pids=("${pids[@]:$2}")
    signal "$1"
    mapfile -t pids < <(ranks_below "$launcher")
    go_on
    wait_for_end
    grep -q 'micro-step' "$work/stopped/log.txt" || break  # else it came too late
    [ "$again" -lt 5 ] || fail "no signal ended the loading"
  done
  [ "$status" -eq 70 ] || fail "SIG$1 while loading: exit $status instead of 70"
  expect_output "stopped by signal $(kill -l "$1"): this start had not completed a step; the time limit is too short for start + one step"
  [ ! -s "$work/stopped/metrics.jsonl" ] || fail "SIG$1 while loading: a step was computed"
  [ ! -e "$work/stopped/lock" ] || fail "SIG$1 while loading: the run folder is still locked"
  expect_stopped_early "$work/stopped" "$1"
  say "SIG$1 while loading: exit 70"
}
stop_while_loading USR1 0
stop_while_loading TERM 1

former=0
# expect_stop SIGNAL WHERE: the run has ended with 75 and a checkpoint of its last step.
expect_stop() {
  wait_for_end
  [ "$status" -eq 75 ] || fail "SIG$1 $2: exit $status instead of 75"
  local step
  step=$(last_checkpoint stopped)
  [ "$step" -gt "$former" ] || fail "SIG$1 $2: no checkpoint was written"
  [ "$(last_step stopped)" = "$step" ] || fail "SIG$1 $2: the checkpoint of step $step is not the last step's"
  expect_log stopped "stopped by signal $(kill -l "$1") after step $step of $steps; the same command goes on from here"
  if saving stopped; then fail "SIG$1 $2: the save of step $unfinished was left unfinished"; fi
  [ ! -e "$work/stopped/lock" ] || fail "SIG$1 $2: the run folder is still locked"
  [ ! -e "$work/stopped/stopped-early" ] || fail "SIG$1 $2: it tells of a stop before anything was finished"
  say "SIG$1 $2: checkpoint of step $step, exit 75"
  former=$step
}

for kind in TERM USR1; do
  train --evaluate.every=3 --evaluate.samples=2000 "--data.held_out=$work/many.packed"
  wait_for_step stopped $((former + 2 - former % 3))  # the next is evaluated
  run_for 0.2 || fail "the evaluation was too short"
  [ "$(last_step stopped)" -eq $((former + 2 - former % 3)) ] || fail "the evaluation was too short"
  signal "$kind"
  go_on
  expect_stop "$kind" "in an evaluation"
  [ $((former % 3)) -eq 0 ] || fail "SIG$kind: step $former was not to be evaluated"
  if grep -q 'held_out_loss' "$work/stopped/metrics.jsonl"; then fail "SIG$kind: the evaluation was not given up"; fi
done

# in_a_save SIGNAL: a signal while a save is written in the background or not yet committed; when the last one has begun
# to be written, the other signal. Whether both were met.
in_a_save() {
  local first=$former begun
  train --checkpoint.every=3
  wait_for_step stopped $((former + 1))
  until saving stopped; do run_for 0.001 || fail "the run ended without a save"; done
  begun=$unfinished
  signal "$1"
  while run_for 0.001; do
    if saving stopped && [ "$unfinished" -gt "$begun" ]; then
      kill -TERM "${pids[@]}" && kill -USR1 "${pids[@]}"
      second=$((second + 1))
      go_on
      break
    fi
  done
  wait_for_end
  [ "$status" -eq 75 ] || fail "SIG$1 in a background save: exit $status instead of 75"
  [ -e "$(checkpoint_folder stopped "$begun")/manifest.json" ] || fail "the save of step $begun was given up"
  former=$(last_checkpoint stopped)
  [ "$former" -gt "$first" ] && [ "$(last_step stopped)" = "$former" ] || fail "SIG$1: the newest checkpoint is of step $former"
  if saving stopped; then fail "SIG$1: the save of step $unfinished was left unfinished"; fi
  [ ! -e "$work/stopped/lock" ] || fail "SIG$1: the run folder is still locked"
  say "SIG$1 in the save of step $begun: checkpoint of step $former, exit 75"
}
second=0
in_a_save USR1
in_a_save TERM
for ((again = 0; again < 4 && second == 0; ++again)); do in_a_save USR1; done
[ "$second" -gt 0 ] || fail "no second signal met a last save"
say "$second times another signal came in the last save"

start train "--run.folder=$work/stopped" || fail "the last start ended with $?"
expect_output "resumed $(checkpoint_folder stopped "$former")"
expect_same_curve stopped calm
if grep -q 'computed again' "$work/stopped/log.txt"; then fail "a stop cost steps"; fi
say "all $steps steps are equal"

# end_in_order COMMAND SIGNAL BEGUN ARGUMENTS…: a signal once BEGUN holds, a command line. The program may be faster than
# the signal, which is then tried again.
end_in_order() {
  local again
  for again in 1 2 3 4 5; do
    rm -rf -- "$work"/{fresh,exported*,new.packed*}
    mkdir -- "$work/fresh"  # as the job files do; what is stopped leaves no folder that it made
    start_in_background "$1" "${@:4}"
    until eval "$3"; do run_for 0.001 || break; done
    if is_running; then
      signal "$2"
      go_on
    fi
    wait_for_end
    [ "$status" -eq 0 ] || break
  done
  [ "$status" -eq 70 ] || fail "SIG$2 in $1: exit $status instead of 70"
  expect_output "stopped by signal $(kill -l "$2"): nothing was finished"
  say "SIG$2 in $1: exit 70"
}
for kind in USR1 TERM; do
  end_in_order upcycle "$kind" 'saving fresh' "--run.folder=$work/fresh"
  [ ! -e "$(checkpoint_folder fresh 0)/manifest.json" ] || fail "SIG$kind: upcycle left a checkpoint"
  expect_stopped_early "$work/fresh" "$kind"
  start upcycle "--run.folder=$work/fresh" || fail "upcycle after a stop ended with $?"

  end_in_order export "$kind" '[ -e "$work/exported.unfinished/lock" ]' "--run.folder=$work/stopped" "--export.folder=$work/exported"
  [ ! -e "$work/exported" ] && [ ! -e "$work/exported.unfinished" ] || fail "SIG$kind: export left a folder"
  expect_stopped_early "$work/stopped" "$kind"

  end_in_order evaluate "$kind" 'grep -qs "evaluating " "$work/output"' "--run.folder=$work/stopped" \
    --evaluate.samples=2000 "--data.held_out=$work/many.packed"
  expect_stopped_early "$work/stopped" "$kind"
done
ranks=1
for kind in USR1 TERM; do
  end_in_order prepare "$kind" 'compgen -G "$work/new.packed.tmp-*" >/dev/null' "--data.source=$work/many.jsonl" "--data.packed=$work/new.packed"
  if compgen -G "$work/new.packed*" >/dev/null; then fail "SIG$kind: prepare left a file"; fi
  expect_stopped_early "$work/origin" "$kind"
done
