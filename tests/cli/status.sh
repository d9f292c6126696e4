#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# caravan status over the life of a run: prepared, stopped by a signal, killed, finished. It tells the truth by the run
# folder and by the configuration, changes nothing, and refuses what is neither.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

make_origin 12 4 1 1 1
run=$work/origin
# field NAME: of the JSON's first level.
field() { sed -nE "s/^ \"$1\": (.*[^,]),?\$/\1/p" "$work/output"; }
expect_field() { [ "$(field "$1")" = "$2" ] || fail "$1 is $(field "$1") instead of $2"; }
expect_stage() { # STAGE true|false
  grep -A 1 -F "  \"$1\": {" "$work/output" | grep -qF "\"done\": $2" || fail "stage $1 is not $2"
}
files() { find "$run" -printf '%p %s %T@\n' | sort; }
# status PATH [SETTINGS]: as JSON.
status() {
  local before
  before=$(files)
  "$binary" status "$@" --json >"$work/output" 2>"$work/stderr" </dev/null || fail "status $*: exit $?: $(cat -- "$work/stderr")"
  [ ! -s "$work/stderr" ] || fail "status complains: $(cat -- "$work/stderr")"
  [ "$before" = "$(files)" ] || fail "status changed the run folder"
}

status "$work/config.ini"
expect_stage upcycle true
expect_stage prepare true
expect_stage train false
expect_field planned_steps 12
expect_field newest_good_step 0
expect_field starts 0
expect_field last_step null
grep -q '"made_by": "caravan [0-9]' "$work/output" || fail "it does not say what made a result"
status "$run"  # no start of training has left its settings there yet
expect_stage upcycle true
expect_stage prepare false

start_in_background train
wait_for_step origin 5
status "$run"
expect_field why_stopped '"it runs"'
expect_field last_step "$(last_step origin)"
grep -A 1 '"lock": {' "$work/output" | grep -q '"state": "held"' || fail "the lock is not held"
kill -USR1 "$launcher"
go_on
wait_for_end
[ "$status" -eq 75 ] || fail "training ended with $status instead of 75"
stopped_at=$(last_checkpoint origin)
status "$run"
expect_field why_stopped '"stopped by signal 10, with a checkpoint"'
expect_field newest_good_step "$stopped_at"
expect_field starts 1
grep -q '"exit_code": 75' "$work/output" || fail "the exit code is not printed"
expect_stage prepare true  # by the settings that the start left there

start_in_background train
wait_for_step origin $((stopped_at + 1))
kill -KILL "$launcher"
wait_for_end
status "$run"
expect_field why_stopped '"it was killed, or its node was lost: its end is not recorded"'
grep -A 1 '"lock": {' "$work/output" | grep -q '"state": "expired"' || fail "the lock of a killed process is not expired"

start train || fail "the last start ended with $?"
status "$work/config.ini"
expect_stage train true
expect_stage evaluate false
expect_field why_stopped '"all steps are done"'
expect_field starts 3
expect_field restarts 2
expect_field starts_without_end 0
grep -A 1 '"lock": {' "$work/output" | grep -q '"state": "free"' || fail "the lock is not free"
status "$work/config.ini" --train.steps=16
expect_stage train false
"$binary" status "$run" >"$work/output" || fail "status: exit $?"
expect_output 'checkpoint    step 12 of 12'
expect_output 'starts        3, of which 2 restarts; 0.'
"$binary" status "$work/config.ini" --shell >"$work/output" || fail "status --shell: exit $?"
[ "$(cat -- "$work/output")" = "run_folder=$run
upcycle_done=yes
prepare_done=yes
train_done=yes
evaluate_done=no
export_done=no
progress=2000000000013" ] || fail "status --shell says $(cat -- "$work/output")"

refused() { # TEXT ARGUMENTS…
  expect 2 1 status "${@:2}"
  expect_output "$1"
}
refused 'needs a run folder or a configuration file'
refused 'there is no such run folder or configuration file' "$work/missing"
refused 'prints one form: --json or --shell' "$run" --json --shell
refused 'did you mean' "$run" --train.step=3
say "it tells what happened"
