#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A storage that ceases to answer, and one that is slow: the job ends with 76 and a report on standard error that names
# the rank that hangs, also when the watchdog's own files are on that storage, and in every command; but a rank that
# moves bytes is waited for, longer than watchdog.seconds. So is a job that was suspended.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

library=$CARAVAN_TEST_LIBRARIES/libstuck_files.so
[ -e "$library" ] || fail "there is no $library"
host=$(uname -n)

# under CALL FOLDER [NAME=VALUE …]: the next start's ranks, not mpirun, meet such a storage.
under() {
  local setting
  launched=("${mpi_flags[@]}")
  mpi_flags+=(-x "LD_PRELOAD=$library" -x "CARAVAN_STUCK_CALL=$1" -x "CARAVAN_STUCK_FOLDER=$2")
  shift 2
  for setting in "$@"; do mpi_flags+=(-x "$setting"); done
}
undisturbed() { mpi_flags=("${launched[@]}"); }
expect_once() { [ "$(grep -cE -- "$1" "$work/output")" -eq 1 ] || fail "not once in the output: $1"; }

make_origin 5000 5000 2 1 1

copy_run origin dead
under files "$work/dead" "CARAVAN_STUCK_WHEN=$work/gone"
start_in_background train "--run.folder=$work/dead" --watchdog.seconds=2
undisturbed
wait_for_step dead 3
: >"$work/gone"
go_on
wait_for_end
[ "$status" -eq 76 ] || fail "train on a dead storage ended with $status instead of 76"
expect_once "rank 0 \(host $host\) is late: it computes since [0-9.]+ s in step [0-9]+, .*; rank 1 waits since"
expect_output "The file system of $work/dead/watchdog does not answer"
expect_output " wait_for_the_storage in libstuck_files.so+0x"
say "train: a run folder that does not answer ends the job with the rank that hangs in it"

# Each rank writes a shard and hangs in it: nobody waits for anybody.
under fsync "$work/all"
ended=0
start upcycle "--run.folder=$work/all" --watchdog.seconds=2 || ended=$?
undisturbed
[ "$ended" -eq 76 ] || fail "upcycle, all hang: exit $ended instead of 76"
expect_once "no rank waits for another, and none goes on: rank 0 \(host $host\) shows no progress since .*; rank 1 \(host"
expect_output " wait_for_the_storage in libstuck_files.so+0x"
under fsync "$work/one" CARAVAN_STUCK_RANK=1
ended=0
start upcycle "--run.folder=$work/one" --watchdog.seconds=2 || ended=$?
undisturbed
[ "$ended" -eq 76 ] || fail "upcycle, one hangs: exit $ended instead of 76"
expect_once "rank 1 \(host $host\) is late: it computes since [0-9.]+ s before the first step.*; rank 0 waits since"
expect_output "stack of rank 1:"
expect_output " wait_for_the_storage in libstuck_files.so+0x"
say "upcycle: ranks that hang in a file are named"

# 6 s in one fsync, three times watchdog.seconds.
copy_run origin slow
under fsync "$work/slow/export-step-00000000.unfinished/model" CARAVAN_STUCK_TENTHS=60
before=$SECONDS
start export "--run.folder=$work/slow" --watchdog.seconds=2 --checkpoint.step=0 || fail "export on a slow storage ended with $?"
undisturbed
[ $((SECONDS - before)) -ge 6 ] || fail "the export was not slow: this tests nothing"
! grep -E '^error|stack' "$work/output" >"$work/said" || fail "it said $(head -n 1 "$work/said")"
line="^warning \\(rank 1 of 2\\): rank 0 \\(host $host\\) is late: it computes since .*; rank 1 waits since .*\\. It is waited for, since it "
reports=$(grep -cE -- "$line" "$work/output" || true)
[ "$reports" -ge 1 ] && [ "$reports" -le $(((SECONDS - before) / 2)) ] ||
  fail "who is waited for is reported $reports times in $((SECONDS - before)) s"
[ -z "$(ls -A -- "$work/slow" | grep watchdog || true)" ] || fail "a watchdog left files"
say "export: a rank that writes slowly is waited for"

# Suspended while both ranks write, twice as long as watchdog.seconds, of which a second at most counts. Three writes of
# 0.4 s follow each other without a sign in between.
make_origin 5000 20 2 1 1
copy_run origin suspended
under fsync "$work/suspended/checkpoints" CARAVAN_STUCK_TENTHS=4
start_in_background train "--run.folder=$work/suspended" --watchdog.seconds=4
undisturbed
until saving suspended && [ "$(writers)" -eq 2 ]; do run_for 0.01 || fail "training ended before it saved"; done
run_for 0.2 || fail "training ended while it saved"
begun=$unfinished
nap 8
while [ "$(last_checkpoint suspended)" -lt "$begun" ]; do
  run_for 0.1 || { wait_for_end; fail "a job that was suspended in a save ended with $status"; }
done
kill -TERM "${pids[@]}"
go_on
wait_for_end
[ "$status" -eq 75 ] || fail "a job that was suspended ended with $status instead of 75"
say "train: a job that was suspended while it saved goes on"

# The thread that writes one rank's checkpoint hangs: no collective waits for it, and training goes on meanwhile.
copy_run origin writer
under fsync "$work/writer/checkpoints" "CARAVAN_STUCK_WHEN=$work/gone" CARAVAN_STUCK_RANK=1
rm -f -- "$work/gone"
start_in_background train "--run.folder=$work/writer" --watchdog.seconds=2
undisturbed
wait_for_step writer 25
: >"$work/gone"
go_on
wait_for_end
[ "$status" -eq 76 ] || fail "train whose writer hangs ended with $status instead of 76"
expect_once "^error.*a save has not gone on for 2 s .*: the storage gives no answer to rank 1 on $host \($work/writer/checkpoints/step-[0-9]+\)"
saved=$(last_checkpoint writer)
[ "$saved" -ge 20 ] && [ "$saved" -lt "$(last_step writer)" ] || fail "the newest checkpoint is of step $saved"
start train "--run.folder=$work/writer" "--train.steps=$((saved + 1))" || fail "the next start ended with $?"
expect_output "resumed $(checkpoint_folder writer "$saved"),"
say "train: a checkpoint that is not written any more ends the job with the rank whose storage does not answer"
