#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154  # slurm_test.sh, common.sh and cluster.sh set what is used here
# Jobs on the test's own Slurm, for scripts/slurm_test.sh: submit the project's job files, meet their ranks at a step,
# wait for what becomes of them. Builds on tests/faults/common.sh and cluster.sh; a case runs in a shell of its own.

case_name=  # of the case, and of its run folder below $work
job=        # the newest job of the case
pids=()     # the ranks of its training, once seen

fail() {
  say "FAILED: $*"
  say "the queue:"
  squeue -t all -o '%.6i %.10P %.12j %.10T %.6M %.20R %E' || true
  tail -n 40 -- "$work/submit/$case_name"*-*.log || true
  say "end of slurmctld's log:"
  tail -n 25 -- "$cluster/slurmctld.log" || true
  exit 1
}

# submit [sbatch's options] [-- arguments of the job file]: the 8x7B job file on four ranks of the tiny model; the job's
# id is in $job. CARAVAN_RUN is the run folder.
submit() {
  local options=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  [ $# -eq 0 ] || shift
  job=$(cd -- "$work/submit" && sbatch --parsable --job-name="$case_name" --nodes=1 --ntasks-per-node=4 \
    --cpus-per-task=1 --time=20 "${options[@]}" "$job_files/camelidae_8x7b.sh" \
    "$CARAVAN_SOURCE/tests/slurm/tiny.ini" "$@") || fail "sbatch refused the job"
  pids=()
}
# As the job file says; a job that submits itself again adds to its name.
log_of() { local log=("$work/submit/$case_name"*-"$1.log"); echo "${log[0]}"; }
job_says() { grep -qsF -- "$2" "$(log_of "$1")"; }
expect_job_says() { job_says "$1" "$2" || fail "job $1 does not say \"$2\""; }
expect_job_not_says() { ! job_says "$1" "$2" || fail "job $1 says \"$2\""; }
job_field() { scontrol show job -o "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1; }

# wait_until SECONDS WHAT COMMAND…
wait_until() {
  local seconds=$1 what=$2 deadline=$((SECONDS + $1))
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || fail "$what did not happen in $seconds s"
    nap 0.2
  done
}
has_state() { [ "$(squeue -h -t all -j "$1" -o %T 2>/dev/null)" = "$2" ]; }
has_ended() { [[ $(squeue -h -t all -j "$1" -o %T 2>/dev/null) =~ ^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|PREEMPTED)$ ]]; }
# expect_end JOB STATE EXIT RESTARTS
expect_end() {
  wait_until 150 "the end of job $1" has_ended "$1"
  has_state "$1" "$2" || fail "job $1 ended as $(squeue -h -t all -j "$1" -o %T), not $2"
  [ "$(job_field "$1" ExitCode)" = "$3:0" ] || fail "job $1 ended with $(job_field "$1" ExitCode), not $3"
  [ "$(job_field "$1" Restarts)" = "$4" ] || fail "job $1 was restarted $(job_field "$1" Restarts) times, not $4"
}

job_processes() {
  local pid
  for pid in $(cluster_processes); do
    ! grep -qszxF "SLURM_JOB_ID=$job" "/proc/$pid/environ" || echo "$pid"
  done
}
# Those of the processes read whose command line matches the pattern.
command_is() {
  local pid
  while read -r pid; do
    # shellcheck disable=SC2053  # a pattern
    [[ $({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null) != $1 ]] || echo "$pid"
  done
}
# What the jobs take for the program. The ranks of a training that is to be held stop themselves before they begin, so
# that none is past the moment that a case waits for when it is first looked at.
write_program() {
  cat >"$1" <<TEXT
#!/usr/bin/env bash
[[ \$1 != train || ! -e \$CARAVAN_RUN.held ]] || kill -STOP "\$\$"
exec "$binary" "\$@"
TEXT
  chmod +x "$1"
}
# Before the start that hold_at or hold_until is to meet.
hold_next_start() { touch -- "$CARAVAN_RUN.held"; }
# The ranks of the job's training that have stopped themselves.
held_ranks() {
  local pid stat
  for pid in $(job_processes | command_is 'bash */bin/caravan train *'); do
    { read -r stat <"/proc/$pid/stat"; } 2>/dev/null && [[ ${stat##*) } == T* ]] && echo "$pid"
  done
  return 0
}
# hold_at STEP: lets the ranks compute that step and stops them: $pids. As in common.sh they run in slices, so that no
# machine is too fast for it.
hold_at() { hold_until "step $1" has_computed "$1"; }
has_computed() { [ "$(last_step "${2:-$case_name}")" -ge "$1" ]; }  # STEP [RUN]
# hold_until WHAT COMMAND…: stops them when the command succeeds.
hold_until() {
  local what=$1 deadline=$((SECONDS + 120))
  shift
  [ -e "$CARAVAN_RUN.held" ] || fail "the start that is to come to $what is not held"
  pids=()
  while [ ${#pids[@]} -ne 4 ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "the training of job $job did not start"
    ! has_ended "$job" || fail "job $job ended before $what"
    mapfile -t pids < <(held_ranks)
    nap 0.05
  done
  rm -- "$CARAVAN_RUN.held"
  until "$@"; do
    kill -CONT "${pids[@]}" 2>/dev/null || true
    nap 0.01
    kill -STOP "${pids[@]}" 2>/dev/null || fail "job $job ended before $what"
    [ "$SECONDS" -lt "$deadline" ] || fail "job $job did not come to $what"
  done
}
# What the job computed, bit for bit what the undisturbed one did.
expect_calm_curve() { expect_same_curve "${1:-$case_name}" finished; }
expect_exported() { [ -e "$CARAVAN_RUN/export-step-00000012/README.md" ] || fail "$CARAVAN_RUN has no exported model"; }
# write_whole_site FILE: a site file for jobs that inherit nothing, in which each of Slurm's commands fails once a job,
# as while the controller is started again, and squeue shows what waits only, as some users have it.
write_whole_site() {
  local variable command
  mkdir -p -- "$1.commands"
  for command in squeue scontrol sbatch; do
    cat >"$1.commands/$command" <<TEXT
#!/usr/bin/env bash
if [[ \$1 != --version ]] && mkdir -- "$1.commands/$command.\$SLURM_JOB_ID" 2>/dev/null; then
  echo "$command: error: Unable to contact slurm controller (connect failure)" >&2
  exit 1
fi
exec $(command -v "$command") "\$@"
TEXT
    chmod +x "$1.commands/$command"
  done
  for variable in $(compgen -e); do
    case $variable in
      CARAVAN_* | OMP_* | OMPI_* | SLURM_CONF) printf 'export %s=%q\n' "$variable" "${!variable}" ;;
    esac
  done >"$1"
  printf 'export CARAVAN_SITE=%q SBATCH_EXPORT=NONE SQUEUE_STATES=PENDING PATH=%q\n' "$1" "$1.commands:$PATH" >>"$1"
}
# A run folder with what upcycle and prepare wrote, so that the case begins with training.
begin_with_training() {
  mkdir -p -- "$CARAVAN_RUN/checkpoints"
  cp -R -- "$work/finished/checkpoints/step-00000000" "$CARAVAN_RUN/checkpoints/"
  cp -- "$work/finished/instructions.packed" "$work/finished/instructions.packed.heldout" "$CARAVAN_RUN/"
}
