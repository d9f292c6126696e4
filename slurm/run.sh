#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# slurm/run.sh COMMAND CONFIG [--section.key=value …]: one subcommand of caravan in a Slurm batch job, kept going.
# - USR1 (sent before the time limit, see --signal in the job scripts) and TERM (preemption) become USR1 for the ranks:
#   they write a checkpoint and exit 75, and the job is queued again.
# - A lost or hung rank (exit 76) and death by a signal: tried again in the same allocation, CARAVAN_RETRIES times.
# - Everything else ends the job with caravan's exit code; so do two restarts in a row without a newer checkpoint.
# Settings from the environment:
#   CARAVAN          the program (default: build/caravan or bin/caravan near this script, else caravan in PATH)
#   CARAVAN_LAUNCH   the launcher (default: srun; "srun --mpi=pmix" or "mpirun" where the site wants it)
#   CARAVAN_RETRIES  how often a start of the job tries again after a failure (default 3)
set -uo pipefail

say() { printf '%s run.sh: %s\n' "$(date '+%F %T')" "$*"; }
stop() { say "${*:2}"; exit "$1"; }

[ $# -ge 2 ] || stop 2 "usage: run.sh COMMAND CONFIG [--section.key=value ...]"
[ -n "${SLURM_JOB_ID:-}" ] || stop 2 "not inside a Slurm job; submit one of the job scripts beside this file with sbatch"
config=$2
[ -r "$config" ] || stop 2 "cannot read the configuration $config"

home=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
program=${CARAVAN:-}
for candidate in "$home/build/caravan" "$home/../../bin/caravan" "$(command -v caravan)"; do
  [ -n "$program" ] || { [ -x "$candidate" ] && program=$candidate; }
done
[ -x "$program" ] || stop 2 "the program caravan was not found; set CARAVAN to its path"
read -ra launch <<<"${CARAVAN_LAUNCH:-srun}"
retries=${CARAVAN_RETRIES:-3}

# The run folder, as caravan reads it: the last --run.folder, else the file's, with ${NAME} expanded.
run_folder() {
  local argument folder
  folder=$(sed -n '/^\[run\]/,/^\[[^r]/s/^folder *= *//p' "$config" | head -n 1)
  for argument in "$@"; do
    case $argument in --run.folder=*) folder=${argument#--run.folder=} ;; esac
  done
  while [[ $folder =~ ^([^$]*)\$\{([A-Za-z_][A-Za-z_0-9]*)\}(.*)$ ]]; do
    [ -n "${!BASH_REMATCH[2]:-}" ] || stop 2 "$config uses \${${BASH_REMATCH[2]}}, which is not set" >&2
    folder=${BASH_REMATCH[1]}${!BASH_REMATCH[2]}${BASH_REMATCH[3]}
  done
  printf '%s\n' "$folder"
}
run=$(run_folder "$@") || stop 2 "the run folder is not known: export what $config names"
[ -n "$run" ] || stop 2 "$config sets no folder in [run]"

# A checkpoint counts when its manifest is there: that is what commits it. −1: none.
newest_step() {
  local manifest step newest=-1
  for manifest in "$run"/checkpoints/step-*/manifest.json; do
    step=${manifest%/manifest.json}
    step=${step##*/step-}
    [[ $step =~ ^[0-9]+$ && -e $manifest ]] && [ $((10#$step)) -gt "$newest" ] && newest=$((10#$step))
  done
  echo "$newest"
}

# What outlives a requeue: the newest checkpoint at the last restart and how many restarts in a row brought no newer.
mkdir -p -- "$run" || stop 74 "cannot make the run folder $run"
state=$run/.restarts-$SLURM_JOB_ID
fruitless=0
restarted=0
last=$(newest_step)
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -r "$state" ]; then
  read -r last fruitless <"$state"
  restarted=1
fi

# Whether another start makes sense; after a restart without a newer checkpoint only once more.
may_restart() {
  local newest
  newest=$(newest_step)
  if [ "$newest" -gt "$last" ]; then
    fruitless=0
    last=$newest
  elif [ "$restarted" -eq 1 ]; then
    fruitless=$((fruitless + 1))
  fi
  restarted=1
  echo "$last $fruitless" >"$state"
  [ "$fruitless" -lt 2 ]
}

launcher=
stopping=
forward() {
  say "got $1; asking the ranks for a checkpoint"
  stopping=$1
  [ -n "$launcher" ] || return 0
  case ${launch[0]##*/} in
    srun) scancel --signal=USR1 "$SLURM_JOB_ID" ;;  # reaches the steps, not this shell
    *) kill -USR1 "$launcher" ;;
  esac
}
trap 'forward USR1' USR1
trap 'forward TERM' TERM

[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}" \
  SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"

attempt=0
while :; do
  say "start ${SLURM_RESTART_COUNT:-0}, attempt $attempt: ${launch[*]} $program $*"
  "${launch[@]}" "$program" "$@" &
  launcher=$!
  while :; do  # wait returns early when a trap ran
    wait "$launcher"
    status=$?
    kill -0 "$launcher" 2>/dev/null || break
  done
  wait "$launcher" 2>/dev/null
  late=$?
  [ "$late" -eq 127 ] || status=$late
  launcher=

  case $status in
    0)
      rm -f -- "$state"
      stop 0 "done" ;;
    75)
      may_restart || stop 75 "no newer checkpoint in two restarts in a row; not queued again"
      scontrol requeue "$SLURM_JOB_ID" || stop 75 "stopped with a good checkpoint, but the job could not be queued again: submit it"
      trap - USR1 TERM
      say "stopped with a good checkpoint; the job is queued again"
      sleep 60  # Slurm ends this shell; leaving by itself would count as a failure
      exit 75 ;;
    76) reason="a rank was lost or hung" ;;
    *)
      { [ "$status" -gt 128 ] && [ "$status" -le 192 ]; } || stop "$status" "caravan ended with exit code $status"
      reason="killed by signal $((status - 128))" ;;
  esac
  [ -z "$stopping" ] || stop "$status" "$reason while stopping after $stopping"
  may_restart || stop "$status" "$reason; no newer checkpoint in two restarts in a row"
  attempt=$((attempt + 1))
  [ "$attempt" -le "$retries" ] || stop "$status" "$reason; gave up after $retries retries"
  say "$reason; trying again from checkpoint $last"
done
