# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154  # run.sh, which reads this file, sets what is used here
# What slurm/run.sh finds and keeps in the run folder: which stages are done, which job it belongs to, how often it was
# started.

# What the configuration says, which --dump-config prints in quotes where it has to.
setting() {  # section.key
  awk -v section="[${1%%.*}]" -v key="${1#*.}" '
    /^\[/ { inside = $0 == section }
    inside && $1 == key {
      sub(/^[^=]*= ?/, "")
      if ($0 ~ /^(".*"|\047.*\047)$/) $0 = substr($0, 2, length($0) - 2)
      gsub(/\$\$\{/, "${")
      print
      exit
    }' <<<"$whole_config"
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

# --- What lies on disk.

# The newest step that is committed, which its manifest does; −1: none.
newest_step() {
  local manifest newest=-1
  for manifest in "$run"/checkpoints/step-*/manifest.json; do
    [[ -e $manifest && $manifest =~ /step-([0-9]+)/manifest.json$ ]] || continue
    [ $((10#${BASH_REMATCH[1]})) -le "$newest" ] || newest=$((10#${BASH_REMATCH[1]}))
  done
  echo "$newest"
}
# The step that evaluate and export take: the newest whose shards are whole, as they see it themselves.
chosen_step() {
  local step
  step=$(setting checkpoint.step)
  [ "$step" != newest ] || step=$(alone info "$run" 2>/dev/null | sed -n 's/^ *newest good *step-0*\([0-9][0-9]*\)$/\1/p')
  [[ $step =~ ^[0-9]+$ ]] && echo $((10#$step))
}
planned_steps() {
  local steps sequences batch
  steps=$(setting train.steps)
  if [ "$steps" = 0 ]; then
    sequences=$(alone info "$(setting data.packed)" 2>/dev/null | sed -n 's/^ *sequences *\([0-9,]*\),.*/\1/p' | tr -d ,)
    batch=$(setting train.batch)
    [ -n "$sequences" ] || return 1
    steps=$(($(setting train.epochs) * ((sequences + batch - 1) / batch)))
  fi
  echo "$steps"
}

# Whether a stage's result is there and whole. Each result is put in its place by one rename, its last act: a manifest,
# a packed file (after its held-out one), an exported folder.
is_done() {
  local path step
  case $1 in
    upcycle)
      path=$(setting model.store)
      [ -e "${path:-$run/checkpoints/step-00000000}/manifest.json" ] ;;
    prepare)
      path=$(setting data.held_out)
      [ -e "$(setting data.packed)" ] &&
        { [ "$(setting data.held_out_every)" = 0 ] || [ -e "${path:-$(setting data.packed).heldout}" ]; } ;;
    train)
      step=$(alone info "$run" 2>/dev/null | sed -n 's/^ *newest good *step-0*\([0-9][0-9]*\)$/\1/p')
      [ -n "$step" ] && [ "$step" = "$(planned_steps)" ] ;;
    evaluate)
      step=$(chosen_step) && [ -e "$run/$(printf 'evaluate-step-%08d.json' "$step")" ] ;;
    export)
      path=$(setting export.folder)
      step=$(chosen_step) || return 1
      if [ -z "$path" ]; then
        path=$run/export
        [ "$(setting export.merge)" = true ] || path=$run/adapter
        path=$path-$(printf 'step-%08d' "$step")
      fi
      grep -Eqs "step-0*$step\b" "$path/README.md" || return 1
      [ ! -e "$path/UNVERIFIED" ] || stop 1 "$path is marked UNVERIFIED: it does not compute what the checkpoint does" ;;
  esac
}

# A number that grows with what a restart would find: results of the first stages, then the newest step.
progress() {
  local stage finished=0
  for stage in upcycle prepare; do
    ! is_done "$stage" || finished=$((finished + 1))
  done
  echo $((finished * 10 ** 12 + $(newest_step) + 1))
}

# --- One job at a time in a run folder. A job that waits to start again keeps its claim.

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
  now=$(progress)
  # A file that cannot be read, or was torn when a node lost power, is no licence to start for ever.
  restarts=${SLURM_RESTART_COUNT:-0} fruitless=0 began=$here refusal=''
  if [[ $(cat -- "$state" 2>/dev/null) =~ ^([0-9]+)\ ([0-9]+)\ ([0-9]+)\ ?([^ ]*)$ ]]; then
    restarts=${BASH_REMATCH[1]} fruitless=${BASH_REMATCH[2]} before=${BASH_REMATCH[3]}
    if [ "$now" -gt "$before" ]; then fruitless=0; elif [ "$restarts" -gt 0 ]; then fruitless=$((fruitless + 1)); fi
    [ "$fruitless" -eq 0 ] || began=${BASH_REMATCH[4]}
    restarts=$((restarts + 1))
  fi
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
