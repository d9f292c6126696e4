# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154  # run.sh, which reads this file, sets what is used here
# What slurm/run.sh finds and keeps in the run folder: which stages are done, which job it belongs to, how often it was
# started.

# ask: what caravan status says of the run, in facts. False when it cannot tell all, as while the storage is away. It is
# waited for $longest_answer seconds, few when the job's end is near.
declare -A facts=()
longest_answer=120
ask() {
  local answer line code=0
  answer=$(alone timeout -k 2 "$longest_answer" "$program" status "$config" ${settings[@]+"${settings[@]}"} --shell) || code=$?
  facts=()
  while IFS= read -r line; do [ -z "${line%%=*}" ] || facts[${line%%=*}]=${line#*=}; done <<<"$answer"
  return "$code"
}

# on_disk COMMAND…: tried anew for CARAVAN_PATIENCE seconds while the storage does not answer: it comes back, or other
# nodes have it, and then the job is queued again. What another try would not change ends the job.
final_error=': (Permission denied|Operation not permitted|Read-only file system|Not a directory|Is a directory|File exists|File name too long|Invalid argument)'
on_disk() {
  local error last=$((SECONDS + patience))
  until error=$(export LC_ALL=C && "$@" 2>&1); do
    error=${error##*$'\n'}
    [[ ! $error =~ (No\ space\ left\ on\ device|quota\ exceeded)$ ]] || stop 74 "run folder $run: $error"
    [[ ! $error =~ $final_error$ ]] || stop 2 "run folder $run: $error"
    [ "$SECONDS" -lt "$last" ] || queue_again 76 "the storage of $run does not answer: $error"
    say "the storage does not answer: $error"
    sleep 1
  done
}

# Whether a stage's result is there and whole. While that is unknown, the stage is not begun again: what is there may
# be what a run needs.
is_done() {
  local code last=$((SECONDS + patience))
  while :; do
    code=0
    ask || code=$?
    [ -z "${facts[$1_done]:-}" ] || break
    [ "$code" -ne 2 ] || stop 2 "caravan status was refused"
    [ "$SECONDS" -lt "$last" ] || queue_again 76 "caravan status does not say whether $1 is done (exit $code)"
    say "caravan status does not say whether $1 is done (exit $code)"
    sleep 1
  done
  [ "${facts[$1_done]}" = yes ] || return 1
  [ "$1" != export ] || [ -z "${facts[export_problem]:-}" ] || stop 1 "${facts[export_problem]}"
}

# --- One job at a time in a run folder. The program has a lock of its own, which goes with its ranks; this claim stays
# while the job waits in the queue to start again, so that no other one goes on in its folder meanwhile.

take_run_folder() {
  local attempt holder job error='' aside=$claim.$SLURM_JOB_ID
  for ((attempt = 0; attempt < 5; ++attempt)); do
    on_disk write_line "$us" "$aside"
    error=$(ln -- "$aside" "$claim" 2>&1)
    rm -f -- "$aside"
    holder=$(cat -- "$claim" 2>/dev/null)
    [ "$holder" != "$us" ] || return 0
    job=${holder%% *}
    if [ -z "$holder" ]; then
      # A node lost power before its content was on disk; or the file has just gone, or come.
      [ -n "$(find "$claim" -size 0 -mmin +1 2>/dev/null)" ] || { sleep 1 && continue; }
    elif [ "${holder#* }" != "${us#* }" ] || job_lives "$job"; then
      stop 2 "run folder $run is in use by job ${holder/ / of cluster }; wait for it, end it (scancel $job), or choose another run.folder. If that job is gone for good, remove $claim"
    fi
    mv -- "$claim" "$aside" 2>/dev/null || continue
    if [ "$(cat -- "$aside")" != "$holder" ]; then  # another job was faster and this is its claim: put it back
      ln -- "$aside" "$claim"
      rm -f -- "$aside"
      continue
    fi
    rm -f -- "$aside"
    say "took the run folder over from job ${job:-"that left no name"}, which has ended"
  done
  stop 2 "run folder $run: cannot take it (${error:-several jobs try to}); submit one job at a time, on a file system with hard links. If there is no other job, remove $claim"
}
write_line() { echo "$1" >"$2"; }
# shellcheck disable=SC2317  # a trap calls it
release_run_folder() { [ "$(cat -- "$claim" 2>/dev/null)" != "$us" ] || rm -f -- "$claim"; }

# --- Restarts: how many there were, how many in a row brought nothing newer, and what was there before the last start.

here=$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}  # this allocation

# look_at_restart: sets restarts, fruitless and began to what the next start's would be; false, with $refusal, if it may
# not be. began: the allocation in which the last fruitful start was.
look_at_restart() {
  local before
  ask || true
  now=${facts[progress]:-}  # grows with what a restart would find; empty while that is unknown
  # A file that cannot be read, or was torn when a node lost power, is no licence to start for ever.
  restarts=${SLURM_RESTART_COUNT:-0} fruitless=0 began=$here refusal=''
  if [[ $(cat -- "$state" 2>/dev/null) =~ ^([0-9]+)\ ([0-9]+)\ ([0-9]+)\ ?([^ ]*)$ ]]; then
    restarts=${BASH_REMATCH[1]} fruitless=${BASH_REMATCH[2]} before=${BASH_REMATCH[3]}
    if [ -z "$now" ]; then
      now=$before
    elif [ "$now" -gt "$before" ]; then
      fruitless=0
    elif [ "$restarts" -gt 0 ]; then
      fruitless=$((fruitless + 1))
    fi
    [ "$fruitless" -eq 0 ] || began=${BASH_REMATCH[4]}
    restarts=$((restarts + 1))
  fi
  now=${now:-0}
  [ "$fruitless" -lt 2 ] || refusal="no newer checkpoint in two restarts in a row"
  [ "$restarts" -le "$most_restarts" ] || refusal="restarted $most_restarts times already (CARAVAN_MAX_RESTARTS)"
  [ -z "$refusal" ]
}
write_count() { write_line "$restarts $fruitless $now $began" "$state.next" && mv -- "$state.next" "$state"; }
# count_start [REASON]: of a start, or of another one in this allocation for that reason.
count_start() {
  on_disk test_folder
  if ! look_at_restart; then
    if [ $# -gt 0 ] && [ "$restarts" -le "$most_restarts" ] && [ "$began" = "$here" ]; then
      # All of them were here, and other nodes may do: for one more start.
      fruitless=0 began=elsewhere
      on_disk write_count
      queue_again "$status" "$1, and so it was in all starts of this allocation"
    fi
    stop "${status:-76}" "${1:+$1; }$refusal; not started again"
  fi
  on_disk write_count
}
test_folder() { ls -d -- "$run/."; }
