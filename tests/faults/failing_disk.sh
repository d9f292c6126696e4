#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk that is full or breaks while a checkpoint, its manifest or the metrics are written: the run stops with a message
# that names the file, what was saved before is whole, nothing half-written counts, and the next start goes on to the
# curve of an undisturbed run.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

library=$CARAVAN_TEST_LIBRARIES/libfailing_files.so
[ -e "$library" ] || fail "there is no $library"
full=28 broken=5  # ENOSPC, EIO

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
disturb broken_shard 2 shard-00001.h5 write $broken 0 1
disturb unsynced_shard 2 shard-00000.h5 fsync $broken 0 0
