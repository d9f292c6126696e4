# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154  # run.sh, which reads this file, sets what is used here
# What slurm/run.sh has to do with Slurm: asks it whether a job lives and when this one ends, and has this one queued again.

# insist COMMAND…: Slurm's answer to it is $answer. False when that is a refusal; another failure, as while slurmctld is
# started again, is tried anew for CARAVAN_PATIENCE seconds.
insist() {
  local pause=1 last=$((SECONDS + patience))
  until answer=$("$@" 2>&1); do
    [[ ! ${answer,,} =~ disabled|denied|not\ permitted|not\ supported|invalid ]] && [ "$SECONDS" -lt "$last" ] || return 1
    say "Slurm does not answer: $answer"
    sleep "$pause"
    pause=$((pause < 16 ? 2 * pause : 16))
  done
}

# Whether a job waits, runs or is ending, as far as this user may see it.
job_lives() {
  local answer
  if insist squeue -h -j "$1" -o %T; then [ -n "$answer" ]; else [[ ${answer,,} != *invalid\ job\ id* ]]; fi
}

# Sets end: when the job must have ended, in unix seconds; empty where that is not known. Slurm can move it, so it is
# asked. What the environment says counts where it is of this job: from version 23.02 on Slurm sets it, before that it is
# of a job that submitted this one.
own_end=${SLURM_JOB_END_TIME:-}
[[ $(squeue --version 2>/dev/null) =~ ([0-9]+)\.([0-9]+) && $((10#${BASH_REMATCH[1]}${BASH_REMATCH[2]})) -ge 2302 ]] || own_end=''
# shellcheck disable=SC2034
job_end() {
  local answer patience=3
  end=$own_end
  insist env SLURM_TIME_FORMAT=standard squeue -h -j "$self" -o %e || return
  [[ ! $answer =~ [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]+ ]] || end=$(date -d "${BASH_REMATCH[0]}" +%s)
}

# The job goes to the queue again, by whatever way Slurm allows; does not come back. STATUS is what to end with.
queue_again() {
  local status=$1 reason=$2 answer='' new=''
  look_at_restart || stop "$status" "$reason; $refusal; not queued again"
  insist squeue -h -j "$self" -o '%T %r' || answer=''
  if [[ $answer == COMPLETING* && $answer != *TimeLimit* ]]; then
    trap - EXIT  # the claim stays: Slurm may begin this job again; another one finds out when it does not
    stop "$status" "$reason; Slurm is ending this job (${answer%%$'\n'*})"
  fi
  say "$reason; the job goes to the queue again"
  trap '' USR1 ALRM
  trap - TERM EXIT  # the claim stays
  [ -z "$reminder" ] || kill "$reminder" 2>/dev/null
  if insist scontrol requeue "$self"; then
    sleep 300  # Slurm ends this shell; leaving by itself would count as a failure
    exit "$status"
  fi
  say "Slurm does not requeue it: $answer"
  trap release_run_folder EXIT
  resubmit || stop "$status" "nor could it be submitted again ($answer): submit it by hand, and it goes on from here"
  echo "$new ${us#* }" >"$claim.next" && mv -- "$claim.next" "$claim"
  stop "$status" "goes on as job $new"
}
# What the command line of sbatch said is not in the script: the resources are asked for as they were given. The rest
# must be in the job file or in SBATCH_… variables. Jobs of one name and user wait for each other, so the run folder is
# in the name; the first job may have another one. This job may run in another folder than it was submitted in. Sets
# answer, and new: the job's number.
resubmit() {
  local options=(--parsable "--dependency=singleton,afterany:$self" --export=ALL) pair variable script mark argument
  local limit features resources again=()
  mark=$(realpath -m -- "$run" | cksum) && mark=$(printf '%08x' "${mark%% *}")
  options+=("--job-name=${SLURM_JOB_NAME%-"$mark"}-$mark")
  for pair in partition=SLURM_JOB_PARTITION account=SLURM_JOB_ACCOUNT qos=SLURM_JOB_QOS nodes=SLURM_JOB_NUM_NODES \
    ntasks=SLURM_NTASKS ntasks-per-node=SLURM_NTASKS_PER_NODE cpus-per-task=SLURM_CPUS_PER_TASK \
    mem=SLURM_MEM_PER_NODE mem-per-cpu=SLURM_MEM_PER_CPU mem-per-gpu=SLURM_MEM_PER_GPU gpus=SLURM_GPUS \
    gpus-per-node=SLURM_GPUS_PER_NODE gpus-per-task=SLURM_GPUS_PER_TASK reservation=SLURM_JOB_RESERVATION; do
    variable=${pair#*=}
    [ -z "${!variable:-}" ] || options+=("--${pair%%=*}=${!variable}")
  done
  if insist squeue -h -j "$self" -o '%l|%b|%f'; then  # --time, --gres, --constraint
    IFS='|' read -r limit resources features <<<"$answer"
    options+=("--time=$limit")
    [[ $features =~ ^(\(null\)|)$ ]] || options+=("--constraint=$features")
    # Those that --gpus-per-… asked for are shown here, too.
    [[ $resources != *gres[:/]* || ${options[*]} == *--gpus* ]] || options+=("--gres=$(sed 's/gres[:/]//g' <<<"$resources")")
  fi
  # Whatever made the array, an #SBATCH line or a variable, would make all of it again.
  [ -z "${SLURM_ARRAY_JOB_ID:-}" ] || options+=("--array=$SLURM_ARRAY_TASK_ID")
  # A folder that is named after the job stays the first one's.
  for argument in "${arguments[@]}"; do [[ $argument == --run.folder=* ]] || again+=("$argument"); done
  again+=("--run.folder=${run//\$\{/\$\$\{}")
  script=$(mktemp) || return 1
  insist scontrol write batch_script "$SLURM_JOB_ID" "$script" &&
    insist env -u SLURM_RESTART_COUNT -u SLURM_JOB_END_TIME "CARAVAN_FIRST_JOB=$first_job" \
      "CARAVAN_PREFIX=$prefix" "CARAVAN_SITE=$site" sbatch "${options[@]}" "$script" "${again[@]}" &&
    new=$(sed -nE "s/^([0-9]+)(;.*)?\$/\1${SLURM_ARRAY_JOB_ID:+_$SLURM_ARRAY_TASK_ID}/p" <<<"$answer")
  rm -f -- "$script"
  [ -n "$new" ]
}
