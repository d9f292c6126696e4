#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two runs never write into one folder: the second is refused and changes nothing. What a killed run left blocks nobody.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 30 10 1 1 1
copy_run origin calm
copy_run origin used
start train "--run.folder=$work/calm" || fail "the undisturbed run ended with $?"

# refused RANKS HOLDER [ARGUMENTS]: exit 2 and a message that names host, process and folder, once.
refused() {
  local ended=0 before
  before=$(find "$work/used" -name checkpoints -prune -o -type f ! -name metrics.jsonl ! -name log.txt -printf '%p %s %T@\n' | sort)
  if [ "$1" -eq 1 ]; then
    "$binary" train "$work/config.ini" "--run.folder=$work/used" "${@:3}" >"$work/second" 2>&1 </dev/null || ended=$?
  else
    "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n "$1" "$binary" train "$work/config.ini" "--run.folder=$work/used" "${@:3}" \
      >"$work/second" 2>&1 </dev/null || ended=$?
  fi
  [ "$ended" -eq 2 ] || { cat -- "$work/second"; fail "the second run ended with $ended instead of 2"; }
  [ "$(grep -c "$work/used is in use by process $2" "$work/second")" -eq 1 ] ||
    { cat -- "$work/second"; fail "the message does not name process $2, or is not there once"; }
  [ "$before" = "$(find "$work/used" -name checkpoints -prune -o -type f ! -name metrics.jsonl ! -name log.txt -printf '%p %s %T@\n' | sort)" ] ||
    fail "the second run changed the folder"
}

start_in_background train "--run.folder=$work/used"
wait_for_step used 2  # it stands still until the second has come
holder="$launcher on $(uname -n), outside of Slurm"
if ls -l -- "/proc/$launcher/fd" | grep checkpoints/; then fail "training holds files of checkpoints open"; fi
# The second does not even look at the checkpoints, which the first may delete: it says nothing of a damaged one.
unread=$(checkpoint_folder used 99999999)
mkdir -- "$unread" && echo '{' >"$unread/manifest.json"
refused 1 "$holder"
refused 2 "$holder" --train.lr=1e-4
if grep "step-99999999" "$work/second"; then fail "the second run chose a checkpoint before it had the lock"; fi
rm -r -- "$unread"
go_on
wait_for_end
[ "$status" -eq 0 ] || fail "the first run ended with $status"
expect_same_curve used calm
[ ! -e "$work/used/lock" ] || fail "the run folder is still locked"
say "a second run is refused and the first goes on"

# lock HOST PID AGE [JOB]: as a run of another host would have left it.
lock() {
  printf '{"heartbeat":%d,"host":"%s","job":"%s","pid":%d,"restart":0}\n' "$(($(date +%s) - $3))" "$1" "${4-}" "$2" >"$work/used/lock"
}
lock elsewhere 4711 100
refused 1 '4711 on elsewhere'
say "so is one on another host"

# Another host's job, silent for long: Slurm knows whether it comes back.
mkdir -- "$work/bin"
squeue() {
  printf '#!/bin/sh\n%s\n' "$1" >"$work/bin/squeue"
  chmod +x "$work/bin/squeue"
}
lock elsewhere 4711 1000 12
squeue 'echo SUSPENDED'
PATH=$work/bin:$PATH SLURM_JOB_ID=13 refused 1 '4711 on elsewhere, job 12: that job is SUSPENDED'
squeue 'echo PENDING'
PATH=$work/bin:$PATH SLURM_JOB_ID=13 refused 1 '4711 on elsewhere, job 12: that job is PENDING: it will run again'
say "so is one whose job is suspended or queued again"

rm -rf -- "$work/used"
copy_run origin used
start_in_background train "--run.folder=$work/used"
pid=$launcher
wait_for_step used 12
kill -KILL "$pid"
wait_for_end
[ -e "$work/used/lock" ] || fail "the killed run left no lock: this tests nothing"
start train "--run.folder=$work/used" || fail "the start after a kill ended with $?"
expect_output "taking over the lock of $work/used: process $pid on this host has ended"
expect_same_curve used calm
say "a killed run's lock is taken over at once"

rm -rf -- "$work/used"
copy_run origin used
lock elsewhere 4711 1000
start train "--run.folder=$work/used" || fail "the start after a silent holder ended with $?"
expect_output "taking over the lock of $work/used: its holder has been silent for "
expect_same_curve used calm
say "so is one that has been silent for long"

rm -rf -- "$work/used"
copy_run origin used
lock elsewhere 4711 100 12
squeue "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
PATH=$work/bin:$PATH SLURM_JOB_ID=13 start train "--run.folder=$work/used" || fail "the start after a job that is over ended with $?"
expect_output "taking over the lock of $work/used: job 12 has ended"
expect_same_curve used calm
say "so is that of a job that is over"

# A second start in one allocation on one host: the first one's process decides, and is waited for.
rm -rf -- "$work/used"
copy_run origin used
export SLURM_JOB_ID=13
start_in_background train "--run.folder=$work/used"
wait_for_step used 2
"$binary" train "$work/config.ini" "--run.folder=$work/used" >"$work/second" 2>&1 </dev/null &
second=$!
until grep -q "is in use by process $launcher on $(uname -n), job 13 (that process runs); waiting up to 60 s" "$work/second"; do
  kill -0 "$second" 2>/dev/null || { cat -- "$work/second"; fail "the second start in the job did not wait"; }
  nap 0.05
done
unset SLURM_JOB_ID
go_on
wait_for_end
[ "$status" -eq 0 ] || fail "the first run of the job ended with $status"
ended=0
wait "$second" || ended=$?
[ "$ended" -eq 0 ] || { cat -- "$work/second"; fail "the second run of the job ended with $ended"; }
expect_same_curve used calm
[ ! -e "$work/used/lock" ] || fail "the run folder is still locked"
say "a second start in the same job waits for the first"

# While it stood still, a start on another host took its folder over: not a checkpoint more counts.
rm -rf -- "$work/used"
copy_run origin used
start_in_background train "--run.folder=$work/used"
wait_for_step used 2
rm -- "$work/used/lock"
lock elsewhere 4711 0
go_on
wait_for_end
[ "$status" -eq 76 ] || fail "the run that lost its folder ended with $status"
expect_output "the lock $work/used/lock is no longer this run's: process 4711 on elsewhere, outside of Slurm, holds it"
[ "$(last_checkpoint used)" -eq 0 ] || fail "the run that lost its folder made checkpoint $(last_checkpoint used) count"
grep -q '"pid":4711' "$work/used/lock" || fail "the run that lost its folder took the other one's lock along"
grep -q '"event":"begin"' "$work/used/starts.jsonl" || fail "the start is not recorded: this tests nothing"
if grep -q '"event":"end"' "$work/used/starts.jsonl"; then fail "the run that lost its folder wrote into it"; fi
refused 1 '4711 on elsewhere'  # what the job files start next ends their chain
say "a run that lost its folder while it stood still commits nothing more, and its next start is refused"
