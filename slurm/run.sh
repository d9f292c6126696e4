#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# slurm/run.sh CONFIG.ini … [STAGE …] [--section.key=value …]: the body of the job files beside it. Takes a dense model
# all the way to the exported mixture in a Slurm batch job: upcycle, prepare, train, export, or the stages named
# (evaluate may be one). Of several .ini files the last counts. A stage whose result lies on disk is passed over, so
# that the same job may be started again at any point; `caravan status` says which these are.
# - USR1 (sent before the time limit, see --signal in the job files) and TERM (preemption) become USR1 for the ranks:
#   train writes a checkpoint and exits 75, and the job is queued again; a stage without checkpoints is begun again then.
# - Ranks that do not stop in time are given up, with what they have not saved: the job is queued again before its end.
# - Where Slurm may not requeue the job, it submits itself again, to start when this job has ended.
# - A lost or hung rank or failing storage (exit 76) and death by a signal: tried again in the same allocation, some
#   times, with pauses between them; then queued again, perhaps for other nodes.
# - A run folder whose storage does not answer is waited for, and then the job is queued again.
# - A launcher that fails, as srun and mpirun do on a node that is gone: queued again, for other nodes.
# - Everything else ends the job with caravan's exit code. The job also ends after two consecutive restarts without a
#   newer checkpoint; if all of them were in one allocation, one more is made in another.
# Settings from the environment, see site.example.env: CARAVAN_PREFIX (else the folder of this file), CARAVAN_SITE,
# CARAVAN (the program), CARAVAN_LAUNCH, CARAVAN_RETRIES, CARAVAN_MAX_RESTARTS, CARAVAN_END_MARGIN,
# CARAVAN_PATIENCE.

say() { printf '%s run.sh: %s\n' "$(date '+%F %T')" "$*"; }
stop() {
  say "${*:2}"
  exit "$1"
}

[ -n "${SLURM_JOB_ID:-}" ] || stop 2 "not inside a Slurm job; submit one of the job files beside this file with sbatch"
# Of a job array, SLURM_JOB_ID may be all tasks.
self=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID:-}}
self=${self:-$SLURM_JOB_ID}
# Slurm may tell it to stop while it does what follows.
stopping=''
trap 'stopping=USR1' USR1
trap 'stopping=TERM' TERM
here=$(realpath -ms -- "$(dirname -- "${BASH_SOURCE[0]}")")
# Slurm copies the job file, not what lies beside this one.
[ -r "$here/queue.sh" ] || stop 2 "$0 lies alone; submit one of the job files, not run.sh itself"
# Sets prefix, and share: the folder of inputs/ and slurm/.
find_prefix() {
  prefix=$(realpath -ms -- "${CARAVAN_PREFIX:-$here/..}") share=$prefix
  [ -d "$share/slurm" ] || share=$prefix/share/caravan
}
find_prefix
# The settings that come with the program, then the user's, which may replace them. Never those of the folder of the
# submission, unless the program is there, too.
site=${CARAVAN_SITE:+$(realpath -ms -- "$CARAVAN_SITE")}
# shellcheck disable=SC1090,SC1091  # the site's file
[ ! -r "$share/slurm/site.env" ] || [ "$share/slurm/site.env" = "$site" ] || . "$share/slurm/site.env"
# shellcheck disable=SC1090  # the user's
[ ! -r "$site" ] || . "$site"
find_prefix  # as such a file may have named it
export SLURM_EXPORT_ENV=ALL  # also after sbatch --export=NONE, the ranks get what the site's file sets
unset "${!SQUEUE_@}" "${!SCANCEL_@}"  # a user's habits would hide jobs and steps from this script
set -uo pipefail

# shellcheck disable=SC2034  # queue.sh uses arguments
arguments=("$@") config='' stages=() settings=()
for argument in "$@"; do
  case $argument in
    *.ini) config=$argument ;;
    upcycle | prepare | train | evaluate | export) stages+=("$argument") ;;
    --*=*) settings+=("$argument") ;;
    *) stop 2 "unknown argument \"$argument\"; use CONFIG.ini, stages (upcycle, prepare, train, evaluate, export) and --section.key=value" ;;
  esac
done
[ ${#stages[@]} -gt 0 ] || stages=(upcycle prepare train export)
[ -n "$config" ] || stop 2 "no configuration: name an .ini file"
[ -r "$config" ] || config=$share/inputs/$config
[ -r "$config" ] || stop 2 "cannot read the configuration $config; set CARAVAN_PREFIX to the folder that holds inputs/, or give its path"

program=${CARAVAN:-}
candidates=("$prefix/bin/caravan" "$prefix/build/caravan")
[[ $prefix != */share/caravan ]] || candidates+=("${prefix%/share/caravan}/bin/caravan")
for candidate in "${candidates[@]}" "$(command -v caravan)"; do
  [ -n "$program" ] || [ ! -x "$candidate" ] || program=$candidate
done
[ -x "$program" ] || stop 2 "the program caravan was not found below $prefix; set CARAVAN_PREFIX, or CARAVAN to its path"
read -ra launch <<<"${CARAVAN_LAUNCH:-srun}"
command -v "${launch[0]}" >/dev/null || stop 2 "there is no ${launch[0]}, which is to start the ranks (CARAVAN_LAUNCH)"
retries=${CARAVAN_RETRIES:-3}
most_restarts=${CARAVAN_MAX_RESTARTS:-100}
end_margin=${CARAVAN_END_MARGIN:-75}
patience=${CARAVAN_PATIENCE:-300}
for number in "$retries" "$most_restarts" "$end_margin" "$patience"; do
  [[ $number =~ ^[0-9]+$ ]] || stop 2 "CARAVAN_RETRIES, CARAVAN_MAX_RESTARTS, CARAVAN_END_MARGIN and CARAVAN_PATIENCE must be numbers, not \"$number\""
done

for part in queue run_folder; do
  # shellcheck source-path=SCRIPTDIR source=queue.sh source=run_folder.sh
  . "$here/$part.sh" || stop 2 "cannot read $here/$part.sh"
done

# The program here, without ranks: the batch shell is no rank, whatever Slurm sets for it.
alone() { env -u SLURM_PROCID "$@"; }
ask
run=${facts[run_folder]:-}
[ -n "$run" ] || stop 2 "the configuration was refused"
claim=$run/job.lock  # job and cluster, "4711 alpha"
us="$self ${SLURM_CLUSTER_NAME:-}"
first_job=${CARAVAN_FIRST_JOB:-$SLURM_JOB_ID}  # of a chain of resubmissions
state=$run/restarts-$first_job
attempt=0 status='' launcher='' reminder=''
on_disk mkdir -p -- "$run"
[ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] || [ "$first_job" != "$SLURM_JOB_ID" ] || rm -f -- "$state"

# --- The ranks.

signal_ranks() {
  case ${launch[0]##*/} in
    srun) scancel --signal=USR1 "$self" ;;  # reaches the steps, not this shell
    *) kill -USR1 "$(beyond_shells "$launcher")" ;;
  esac 2>/dev/null
}
# The process that a shell script waits for, as some mpirun are: the shell would end, and the ranks hear nothing.
beyond_shells() {
  local process=$1 child
  while [[ $(readlink -- "/proc/$process/exe") =~ /(ba|da|k|z)?sh$ ]] && child=$(pgrep -o -P "$process"); do
    process=$child
  done
  echo "$process"
}
on_signal() {
  say "got $1; asking the ranks to stop"
  stopping=$1
  [ -n "$launcher" ] && [ -z "$reminder" ] || return 0
  signal_ranks
  remind &
  reminder=$!
}
# Ranks that were only being started have not heard the signal. And when the job's end comes before theirs, this shell
# must know in time. A preempted job's end is near at once: three quarters of what is left are the ranks' in any case.
remind() {
  local end='' left margin='' alarmed=''
  while :; do
    if [ -z "$alarmed" ]; then
      # Asked anew while it is not known, and when it is near: it may have been moved.
      if [ -z "$end" ] || [ $((end - $(date +%s))) -le "$margin" ]; then job_end; fi
      left=$((${end:-0} - $(date +%s)))
      [ -n "$margin" ] || [ -z "$end" ] || margin=$((left / 4 < end_margin ? left / 4 : end_margin))
      if [ -n "$end" ] && [ "$left" -le "$margin" ]; then
        kill -ALRM $$
        alarmed=yes
      fi
    fi
    sleep 5
    signal_ranks
  done
}
# shellcheck disable=SC2317  # a trap calls it
on_late_ranks() {
  [ -n "$launcher" ] || return 0
  longest_answer=5
  if look_at_restart; then queue_again 75 "the ranks have not stopped, and the job's end is near"; fi
  say "the ranks have not stopped, and the job's end is near; $refusal; not queued again"
}

[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}" \
  SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
# All ranks leave with 75, not at the same instant: the first one must not have the others killed. One that is lost
# takes the rest along after a minute at most.
export SLURM_KILL_BAD_EXIT="${SLURM_KILL_BAD_EXIT:-0}" SLURM_WAIT="${SLURM_WAIT:-60}"

# start_ranks NUMBER ARGUMENTS…: $status is how they ended.
start_ranks() {
  local late end
  job_end
  export SLURM_JOB_END_TIME="$end"
  "${launch[@]}" -n "$1" "$program" "${@:2}" &
  launcher=$!
  [ -z "$stopping" ] || on_signal "$stopping"  # it came between two starts
  while :; do  # wait returns early when a trap ran
    wait "$launcher"
    status=$?
    kill -0 "$launcher" 2>/dev/null || break
  done
  wait "$launcher" 2>/dev/null
  late=$?
  [ "$late" -eq 127 ] || status=$late
  launcher=
  [ -z "$reminder" ] || kill "$reminder" 2>/dev/null
  reminder=
}

# rest SECONDS, or CARAVAN_PATIENCE: storage or a network that is away may come back.
rest() {
  local left=$(($1 < patience ? $1 : patience))
  while [ -z "$stopping" ] && [ $((left--)) -gt 0 ]; do sleep 1; done
}
# run_stage STAGE: comes back when it is done.
run_stage() {
  local ranks=${SLURM_NTASKS:-1} reason retry
  [ "$1" != prepare ] || ranks=1
  while :; do
    say "$1 on $ranks ranks, start ${SLURM_RESTART_COUNT:-0}, attempt $attempt: ${launch[*]} $program"
    start_ranks "$ranks" "$1" "$config" ${settings[@]+"${settings[@]}"}
    retry=''
    case $status in
      0) return 0 ;;
      2 | 16 | 74) stop "$status" "$1 ended with exit code $status" ;;
      75) queue_again 75 "stopped with a good checkpoint" ;;
      # Also when preempted while it loaded: nothing is lost by another start, and two without a checkpoint are the end.
      # And after a retry too little of the time limit may be left for a start, which a new allocation has.
      70) [ -n "$stopping" ] || [ -e "$run/stopped-early" ] || [ "$attempt" -gt 0 ] || stop 70 "$1 ended with exit code 70"
        reason="stopped before anything was finished" ;;
      76) reason="a rank was lost or hung, or the storage failed" retry=yes ;;
      *)
        [ "$1 $status" != "export 1" ] || stop 1 "$1 ended with exit code 1"  # the only stage that finds differences
        reason="the launcher failed with exit code $status"
        if [ "$status" -gt 128 ] && [ "$status" -le 192 ]; then
          reason="killed by signal $((status - 128))"
          # USR1 or TERM that came before the program minds them is a wish to stop, too.
          [ "$status" -eq 138 ] || [ "$status" -eq 143 ] || retry=yes
        fi ;;
    esac
    [ -z "$stopping" ] || reason+=" while stopping after $stopping" retry=''
    [ -n "$retry" ] || queue_again "$status" "$reason"
    attempt=$((attempt + 1))
    [ "$attempt" -le "$retries" ] || queue_again "$status" "$reason, and so it was in $retries retries (CARAVAN_RETRIES)"
    count_start "$reason"
    rest $((15 * (attempt - 1)))
    [ -z "$stopping" ] || queue_again "$status" "$reason; stopping after $stopping"
    say "$reason; trying again in this allocation"
  done
}

take_run_folder
trap release_run_folder EXIT
trap 'on_signal USR1' USR1
trap 'on_signal TERM' TERM
trap on_late_ranks ALRM
count_start
for stage in "${stages[@]}"; do
  if is_done "$stage"; then
    say "$stage is done already${facts[${stage}_problem]:+; ${facts[${stage}_problem]}}"
  else
    # Since the data were prepared, the job of another run may have put its own in their place.
    if [ "$stage" = train ] && [[ " ${stages[*]} " == *" prepare "* ]] && [ "${facts[prepare_done]:-}" = no ]; then
      say "prepare is to be done again${facts[prepare_problem]:+: ${facts[prepare_problem]}}"
      run_stage prepare
    fi
    [ -z "$stopping" ] || queue_again 75 "stopped between two stages"
    [ -z "${facts[${stage}_problem]:-}" ] || say "$stage is to be done: ${facts[${stage}_problem]}"
    run_stage "$stage"
  fi
done
rm -f -- "$state"
stop 0 "done"
