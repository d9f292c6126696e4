#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154  # slurm_test.sh, common.sh and cluster.sh set what is used here
# What scripts/slurm_test.sh does to a job: one function a case, named case_…; the words are jobs.sh's.

# From the dense model to the exported one; the same line again finds all of it done. The other cases take its result
# for what an undisturbed run computes, and its beginning.
case_finished() {
  local before
  submit
  expect_end "$job" COMPLETED 0 0
  expect_job_says "$job" "the test's site file"
  expect_exported
  [ "$(grep -o '"step":[0-9]*' "$CARAVAN_RUN/metrics.jsonl" | tail -n 1)" = '"step":12' ] ||
    fail "training did not end with step 12"
  before=$(cd -- "$CARAVAN_RUN" && find . -printf '%p %s %T@\n' | grep -v '^\. ' | sort)
  CARAVAN_PREFIX='' submit  # all is found where it is submitted
  expect_end "$job" COMPLETED 0 0
  for stage in upcycle prepare train export; do expect_job_says "$job" "$stage is done already"; done
  [ "$before" = "$(cd -- "$CARAVAN_RUN" && find . -printf '%p %s %T@\n' | grep -v '^\. ' | sort)" ] ||
    fail "a second job changed what the first one wrote"
  # Without its last file, an exported folder is no result; and it is in the way of a new one.
  mv -- "$CARAVAN_RUN/export-step-00000012/README.md" "$work/README.md"
  submit
  expect_end "$job" FAILED 2 0
  expect_job_says "$job" "holds a model already (config.json), the export of step 12 as "
  mv -- "$work/README.md" "$CARAVAN_RUN/export-step-00000012/README.md"
}

# What jobs leave that are killed in upcycle, prepare and export is no result.
case_half_done() {
  begin_with_training
  mv -- "$CARAVAN_RUN/checkpoints/step-00000000/manifest.json" "$CARAVAN_RUN/checkpoints/step-00000000/manifest.json.tmp"
  rm -- "$CARAVAN_RUN/instructions.packed"  # the last one that prepare puts in its place
  submit
  expect_end "$job" COMPLETED 0 0
  for stage in upcycle prepare train export; do expect_job_not_says "$job" "$stage is done already"; done
  expect_calm_curve
  mv -- "$CARAVAN_RUN/export-step-00000012" "$CARAVAN_RUN/export-step-00000012.unfinished"
  submit
  expect_end "$job" COMPLETED 0 0
  for stage in upcycle prepare train; do expect_job_says "$job" "$stage is done already"; done
  expect_exported
}

# Slurm looks for limits every 30 s and sends the signal in the minute before it is due: at its first look here.
case_time_limit() {
  begin_with_training
  hold_next_start
  SBATCH_SIGNAL=B:USR1@100 submit
  hold_at 3
  scontrol update "JobId=$job" TimeLimit=2  # only now, or the signal might come before the first step
  wait_until 60 "the signal before the time limit" job_says "$job" "got USR1"
  wait_until 60 "the ranks' signal" all_are_signalled
  kill -CONT "${pids[@]}"
  wait_until 60 "the requeue" job_says "$job" "stopped with a good checkpoint; the job goes to the queue again"
  scontrol update "JobId=$job" TimeLimit=20
  expect_end "$job" COMPLETED 0 1
  expect_calm_curve
  expect_exported
}

# Asked to stop while it loads: nothing is finished, and nothing is lost either. So when only the ranks get the signal, as
# when Slurm preempts the job.
case_stopped_early() {
  begin_with_training
  hold_next_start
  submit
  hold_until "handling signals" all_catch_usr1
  scancel --batch --signal=USR1 "$job"
  wait_until 60 "the signal" job_says "$job" "got USR1"
  wait_until 60 "the ranks' signal" all_are_signalled
  hold_next_start
  kill -CONT "${pids[@]}"
  wait_until 60 "the requeue" job_says "$job" "stopped before anything was finished while stopping after USR1; the job goes"
  hold_until "handling signals" all_catch_usr1
  kill -TERM "${pids[@]}"
  kill -CONT "${pids[@]}"
  wait_until 60 "the requeue" job_says "$job" "stopped before anything was finished; the job goes to the queue again"
  expect_end "$job" COMPLETED 0 2
  expect_calm_curve
}

# USR1 is bit 9 of the signals that a process catches: the ranks do from the start of the program on, before MPI's. And
# of those that wait until a stopped process goes on.
all_catch_usr1() { all_have_usr1 SigCgt; }
all_are_signalled() { all_have_usr1 ShdPnd; }
all_have_usr1() {
  local pid set
  for pid in "${pids[@]}"; do
    set=$(sed -n "s/^$1:[[:space:]]*//p" "/proc/$pid/status")
    [ $((0x$set & 0x200)) -ne 0 ] || return 1
  done
}

# Slurm wakes the ranks and tells them alone, by TERM, unless it is set up otherwise. While the job waits, its folder
# stays its own.
case_preempted() {
  preempt "$1"
  expect_job_says "$job" "stopped with a good checkpoint; the job goes to the queue again"
}
# Without grace the job ends at once, and Slurm itself queues it again.
case_preempted_at_once() { preempt "$1" --partition=sudden; }
# preempt NODE [sbatch's options]
preempt() {
  local urgent
  begin_with_training
  hold_next_start
  submit --nodelist="$1" "${@:2}"
  hold_at 3
  urgent=$(cd -- "$work/submit" && sbatch --parsable --job-name=urgent --partition=high --nodelist="$1" --exclusive \
    --output=%x-%j.log --wrap="cat '$CARAVAN_RUN/job.lock'; sleep 1")
  expect_end "$urgent" COMPLETED 0 0
  grep -q "^$job caravan$" "$work/submit/urgent-$urgent.log" || fail "the claim of the preempted job is gone"
  expect_end "$job" COMPLETED 0 1
  expect_calm_curve
}
# On two nodes, one of which is lost with its ranks: Slurm takes the job off the other and begins it again.
case_node_down() {
  local node
  begin_with_training
  hold_next_start
  submit --nodes=2 --ntasks-per-node=2
  hold_at 6
  node=$(scontrol show hostnames "$(job_field "$job" NodeList)" | tail -n 1)
  for pid in "${pids[@]}"; do
    ! grep -qszxF "SLURMD_NODENAME=$node" "/proc/$pid/environ" || kill -KILL "$pid"
  done
  scontrol update "NodeName=$node" State=DOWN Reason=test
  expect_end "$job" COMPLETED 0 1
  expect_job_says "$job" "resumed $CARAVAN_RUN/checkpoints/step-00000004"
  expect_calm_curve
}

# Here srun fails first, as it does when a node is gone of which Slurm does not know yet.
case_rank_killed() {
  begin_with_training
  mkdir -p -- "$work/$name.launcher"
  cat >"$work/$name.launcher/srun" <<TEXT
#!/usr/bin/env bash
if mkdir -- "$work/$name.failed" 2>/dev/null; then
  echo "srun: error: Application launch failed: Communication connection failure" >&2
  exit 233
fi
exec srun "\$@"
TEXT
  chmod +x "$work/$name.launcher/srun"
  hold_next_start
  CARAVAN_LAUNCH=$work/$name.launcher/srun submit
  hold_at 6
  expect_job_says "$job" "the launcher failed with exit code 233; the job goes to the queue again"
  kill -KILL "${pids[2]}"
  kill -CONT "${pids[@]}" 2>/dev/null || true
  expect_end "$job" COMPLETED 0 1
  expect_job_says "$job" "killed by signal 9"
  expect_job_says "$job" "trying again in this allocation"
  expect_job_says "$job" "resumed $CARAVAN_RUN/checkpoints/step-00000004"
  expect_calm_curve
}

# A rank that stands still: after watchdog.seconds the others end the job's step with 76.
case_rank_hung() {
  begin_with_training
  hold_next_start
  CARAVAN_LAUNCH="mpirun --oversubscribe --bind-to none" submit --nodelist="$1" -- --watchdog.seconds=4
  hold_at 6
  kill -CONT "${pids[@]:0:3}"
  expect_end "$job" COMPLETED 0 0
  expect_job_says "$job" "a rank was lost or hung, or the storage failed; trying again in this allocation"
  expect_job_says "$job" "resumed $CARAVAN_RUN/checkpoints/step-00000004"
  expect_calm_curve
}

# A second job on the same folder is refused. A cancelled one stays cancelled, and blocks nobody, even if it was killed.
case_cancelled() {
  local first shells
  begin_with_training
  hold_next_start
  submit
  first=$job
  hold_at 3
  submit
  expect_end "$job" FAILED 2 0
  expect_job_says "$job" "run folder $CARAVAN_RUN is in use by job $first"
  job=$first
  scancel "$job"
  wait_until 60 "the end of job $job" has_ended "$job"
  has_state "$job" CANCELLED || fail "the cancelled job ended as $(squeue -h -t all -j "$job" -o %T)"
  expect_job_not_says "$job" "goes to the queue again"
  hold_next_start
  submit
  first=$job
  hold_at 8
  expect_job_says "$job" "resumed $CARAVAN_RUN/checkpoints/step-0000000"  # which scancel made the ranks write
  mapfile -t shells < <(job_processes | command_is '* */slurm/run.sh *')
  kill -KILL "${shells[@]}"
  kill -CONT "${pids[@]}" 2>/dev/null || true
  wait_until 60 "the end of job $first" has_ended "$first"
  [ -e "$CARAVAN_RUN/job.lock" ] || fail "the killed job left no claim: this tests nothing"
  write_whole_site "$work/$name.env"
  submit --export="NONE,CARAVAN_SITE=$work/$name.env,SLURM_CONF"  # the site's file names the prefix
  expect_end "$job" COMPLETED 0 0
  expect_job_says "$job" "Slurm does not answer: squeue: error: Unable to contact"
  expect_job_says "$job" "took the run folder over from job $first"
  [ ! -e "$CARAVAN_RUN/job.lock" ] || fail "the run folder is still claimed"
  expect_calm_curve
}

# Where Slurm may not requeue, the job goes on as another one, which waits for its end. The end of the job that it was
# submitted from, if any, is not its own, and it inherits nothing else either.
case_no_requeue() {
  local first
  begin_with_training
  CARAVAN_LAUNCH="mpirun --oversubscribe --bind-to none" write_whole_site "$work/$name.env"
  hold_next_start
  SLURM_JOB_END_TIME=1700000000 submit --no-requeue --nodelist="$1" \
    --export="NONE,SLURM_JOB_END_TIME,CARAVAN_PREFIX,CARAVAN_SITE=$work/$name.env,SLURM_CONF"
  first=$job
  hold_at 3
  scancel --batch --signal=TERM "$first"
  wait_until 60 "the signal" job_says "$first" "got TERM"
  wait_until 60 "the ranks' signal" all_are_signalled
  kill -CONT "${pids[@]}"
  expect_end "$first" FAILED 75 0
  expect_job_says "$first" "Slurm does not answer: sbatch: error: Unable to contact"
  job=$(sed -n 's/.*goes on as job \([0-9]*\)$/\1/p' "$(log_of "$first")")
  [ -n "$job" ] || fail "job $first was not submitted again"
  # Jobs of one name wait for each other: those of other run folders must have another one.
  [[ $(job_field "$job" JobName) =~ ^$name-[0-9a-f]{8}$ ]] || fail "job $job is called $(job_field "$job" JobName)"
  expect_end "$job" COMPLETED 0 0
  expect_job_says "$job" "resumed $CARAVAN_RUN/checkpoints/step-0000000"
  [ ! -e "$CARAVAN_RUN/restarts-$first" ] || fail "job $job counted restarts anew"
  expect_calm_curve
}

# Of a job array, one task is asked to stop and is queued again; the other one hears nothing of it. The last one has the
# array's own number.
case_array() {
  local array other
  begin_with_training
  cp -R -- "$CARAVAN_RUN" "$CARAVAN_RUN-1"
  mv -- "$CARAVAN_RUN" "$CARAVAN_RUN-2"
  hold_next_start
  # shellcheck disable=SC2016  # the program fills them in
  submit --array=1-2 -- '--run.folder=${CARAVAN_RUN}-${SLURM_ARRAY_TASK_ID}' \
    '--data.packed=${CARAVAN_RUN}-${SLURM_ARRAY_TASK_ID}/instructions.packed'
  array=$job
  wait_until 60 "the start of both tasks" has_state "${array}_1" RUNNING
  wait_until 60 "the start of both tasks" has_state "${array}_2" RUNNING
  job=$(squeue -h -j "${array}_1" -o %A)
  wait_until 60 "the ranks of the first task" all_held
  mapfile -t other < <(held_ranks)
  job=$(squeue -h -j "${array}_2" -o %A)
  hold_until "step 3" has_computed 3 "$case_name-2"
  scancel --batch --signal=USR1 "${array}_2"
  wait_until 60 "the ranks' signal" all_are_signalled
  kill -CONT "${pids[@]}"
  wait_until 60 "the requeue" job_says "$job" "stopped with a good checkpoint; the job goes to the queue again"
  kill -CONT "${other[@]}"
  expect_end "${array}_2" COMPLETED 0 1
  expect_calm_curve "$case_name-2"
  expect_end "${array}_1" COMPLETED 0 0
  expect_calm_curve "$case_name-1"
}
all_held() { [ "$(held_ranks | wc -l)" -eq 4 ]; }

# Ranks that die before every checkpoint are not started for ever: two times more on these nodes, and once elsewhere.
case_no_progress() {
  local attempt
  begin_with_training
  hold_next_start
  CARAVAN_RETRIES=9 submit
  for attempt in 1 2 3 4; do
    hold_until "step 1 again" has_logged_step_1 "$attempt"
    hold_next_start
    kill -KILL "${pids[@]}"
    wait_until 60 "the end of attempt $attempt" launcher_noticed "$attempt"
  done
  expect_end "$job" FAILED 137 1
  expect_job_says "$job" "and so it was in all starts of this allocation; the job goes to the queue again"
  expect_job_says "$job" "no newer checkpoint in two restarts in a row"
}
has_logged_step_1() { [ "$(grep -c '^step 1/12 ' "$(log_of "$job")")" -ge "$1" ]; }
launcher_noticed() { has_ended "$job" || [ "$(grep -c 'attempt [0-9]*: srun' "$(log_of "$job")")" -gt "$1" ]; }

# Nor is a job that gets on, but is stopped again and again, beyond what was allowed. At the first stop here the ranks do
# not come to the end of a step before the job's.
case_most_restarts() {
  begin_with_training
  hold_next_start
  CARAVAN_MAX_RESTARTS=1 submit
  hold_at 6
  hold_next_start
  scontrol update "JobId=$job" "EndTime=$(date -d '20 seconds' +%FT%T)"
  scancel --batch --signal=USR1 "$job"
  wait_until 60 "the requeue" job_says "$job" "the ranks have not stopped, and the job's end is near; the job goes to the queue again"
  scontrol update "JobId=$job" TimeLimit=20
  hold_at 9
  expect_job_says "$job" "resumed $CARAVAN_RUN/checkpoints/step-0000000"
  scancel --batch --signal=USR1 "$job"
  wait_until 60 "the ranks' signal" all_are_signalled
  kill -CONT "${pids[@]}"
  expect_end "$job" FAILED 75 1
  expect_job_says "$job" "restarted 1 times already (CARAVAN_MAX_RESTARTS)"
}
