#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk that is full or breaks while a checkpoint, its manifest or the metrics are written: the run stops with a message
# that names the file, what was saved before is whole, nothing half-written counts, and the next start goes on to the
# curve of an undisturbed run. A checkpoint that cannot be read for a moment, or must not be, is not taken for damaged.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

library=$CARAVAN_TEST_LIBRARIES/libfailing_files.so
[ -e "$library" ] || fail "there is no $library"
full=28 broken=5 stale=116 forbidden=13  # ENOSPC, EIO, ESTALE, EACCES

make_origin 12 3 4 2 2
copy_run origin calm
start train "--run.folder=$work/calm" || fail "the undisturbed run ended with $?"

# disturb NAME STATUS FILE CALL ERRNO AFTER RANK: steps 1 to 6 undisturbed, then a start in which FILE fails.
disturb() {
  local run=$1 wanted=$2 ended=0 before
  copy_run origin "$run"
  start train "--run.folder=$work/$run" --train.steps=6 || fail "$run: the first six steps ended with $?"
  before=$(last_checkpoint "$run")
  env=(LD_PRELOAD="$library" CARAVAN_FAULT_FILE="$3" CARAVAN_FAULT_CALL="$4" CARAVAN_FAULT_ERRNO="$5"
    CARAVAN_FAULT_AFTER="$6" ${7:+CARAVAN_FAULT_RANK="$7"})
  "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n 4 env "${env[@]}" "$binary" train "$work/config.ini" \
    "--run.folder=$work/$run" >"$work/output" 2>&1 </dev/null || ended=$?
  [ "$ended" -eq "$wanted" ] || fail "$run: exit $ended instead of $wanted"
  grep '^error' "$work/output" | grep -q -- "$3" || fail "$run: no message names the file"
  [ "$(last_checkpoint "$run")" -eq "$before" ] || fail "$run: checkpoint $(last_checkpoint "$run") counts"
  expect 0 1 info --verify "$(checkpoint_folder "$run" "$before")"
  start train "--run.folder=$work/$run" || fail "$run: the next start ended with $?"
  expect_same_curve "$run" calm
  say "$run: exit $wanted, and the next start ends with the undisturbed curve"
}
disturb full_shard 74 shard-00002.h5 write $full 20000 2
disturb full_manifest 74 manifest.json write $full 0 0
disturb full_metrics 74 metrics.jsonl write $full 600 0
disturb broken_shard 76 shard-00001.h5 write $broken 0 1
disturb unsynced_shard 76 shard-00000.h5 fsync $broken 0 0

# unreadable NAME STATUS FILE ERRNO RANK: from six steps on, a start in which reading FILE of the newest checkpoint fails
# once, and another one in which it does not.
copy_run origin six
start train "--run.folder=$work/six" --train.steps=6 || fail "the first six steps ended with $?"
newest=$(checkpoint_folder six 6)
start_once() {
  "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n 4 env LD_PRELOAD="$library" CARAVAN_FAULT_FILE="/step-00000006/$2" \
    CARAVAN_FAULT_CALL=read CARAVAN_FAULT_ERRNO="$3" CARAVAN_FAULT_RANK="$4" CARAVAN_FAULT_ONCE="$work/$1.once" \
    "$binary" train "$work/config.ini" "--run.folder=$work/$1" >"$work/output" 2>&1 </dev/null
}
expect_untouched() {
  local left
  grep '^error' "$work/output" | grep -F -- "/step-00000006/$2" | grep -q "$3" || fail "$1: no message with $2 and \"$3\""
  left=$(ls "$work/$1/checkpoints")
  [ "$left" = "$(ls "$work/six/checkpoints")" ] || fail "$1: the checkpoints are now $left"
  cmp -s -- "$work/six/metrics.jsonl" "$work/$1/metrics.jsonl" || fail "$1: metrics.jsonl was changed"
}
unreadable() {
  local run=$1 ended=0
  copy_run six "$run"
  start_once "$run" "${@:3}" || ended=$?
  [ "$ended" -eq "$2" ] || fail "$run: exit $ended instead of $2"
  expect_untouched "$run" "$3" 'was not taken for damaged.*move that folder away'
  start_once "$run" "${@:3}" || fail "$run: the next start ended with $?"
  expect_output "resumed $(checkpoint_folder "$run" 6),"
  expect_same_curve "$run" calm
  say "$run: exit $2, and the next start goes on from the same checkpoint"
}
unreadable hiccup_shard 76 shard-00001.h5 $broken 1
unreadable stale_manifest 76 manifest.json $stale 0
unreadable forbidden_shard 2 shard-00003.h5 $forbidden 3

# Damage that another rank finds at the same time changes nothing: the hiccup is reported, then the damage falls back.
copy_run six both
at=$(($(stat -c %s -- "$newest/shard-00000.h5") * 3 / 4))
byte=$(od -An -tu1 -j "$at" -N 1 -- "$newest/shard-00000.h5")
printf '%b' "$(printf '\\x%02x' $((byte ^ 16)))" |
  dd of="$(checkpoint_folder both 6)/shard-00000.h5" bs=1 seek="$at" conv=notrunc status=none
ended=0
start_once both shard-00002.h5 $broken 2 || ended=$?
[ "$ended" -eq 76 ] || fail "damage beside a hiccup: exit $ended instead of 76"
expect_untouched both shard-00002.h5 'was not taken for damaged'
start_once both shard-00002.h5 $broken 2 || fail "damage after a hiccup: exit $?"
expect_output "resumed $(checkpoint_folder both 3),"
expect_same_curve both calm
say "damage beside a hiccup: exit 76, then back to step 3"

# Another job truncates the packed file while the ranks have it mapped: all that the kernel can do then is to send SIGBUS.
copy_run origin truncated
start_in_background train "--run.folder=$work/truncated" --train.steps=1000000 --checkpoint.every=1000000
wait_for_step truncated 2
cp -- "$work/instructions.packed" "$work/whole.packed"
: >"$work/instructions.packed"
go_on
wait_for_end
cp -- "$work/whole.packed" "$work/instructions.packed"
[ "$status" -eq 76 ] || fail "a packed file that was truncated: exit $status instead of 76"
grep '^error' "$work/output" | grep -qF -- "cannot read $work/instructions.packed" || fail "no message names the packed file"
start train "--run.folder=$work/truncated" || fail "the start after a truncated packed file ended with $?"
expect_same_curve truncated calm
say "truncated: exit 76, and the next start ends with the undisturbed curve"
