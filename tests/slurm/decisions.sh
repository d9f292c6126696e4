#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the job files' body decides when Slurm, the ranks or the disk behave as a test's own Slurm cannot be made to: each
# of Slurm's commands is a script here that notes how it was called and answers what the case wants. The program is the
# real one, where the body asks it; the ranks are played by the launcher.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

make_origin 12 4 1 1 1
mkdir -- "$work/bin"
# Each command notes its call in $CASE/called-COMMAND, and does what $CASE/COMMAND says, a piece of shell.
for command in srun squeue scontrol sbatch scancel; do
  cat >"$work/bin/$command" <<TEXT
#!/usr/bin/env bash
printf '%s\n' "\$PWD: \$*" >>"\$CASE/called-$command"
[ ! -r "\$CASE/$command" ] || . "\$CASE/$command"
TEXT
  chmod +x "$work/bin/$command"
done

# begin NAME: a case, whose ranks end with the codes in CASE/codes, one a start, and whose job Slurm knows as running. A
# case writes its own answers over these.
begin() {
  case_name=$1
  export CASE=$work/$1
  mkdir -p -- "$CASE/submit"
  run=$work/run-$1
  copy_run origin "run-$1"
  mkdir -p -- "$work/prefix/bin"
  ln -sfn -- "$CARAVAN_SOURCE/slurm" "$work/prefix/slurm"
  ln -sfn -- "$CARAVAN_SOURCE/inputs" "$work/prefix/inputs"
  ln -sfn -- "$binary" "$work/prefix/bin/caravan"
  cat >"$CASE/srun" <<'TEXT'
code=$(head -n 1 -- "$CASE/codes")
sed -i 1d -- "$CASE/codes"
exit "${code:-0}"
TEXT
  cat >"$CASE/squeue" <<'TEXT'
case $* in
  *%T*%r*) echo "RUNNING None" ;;
  *%T*) exit 1 ;;
esac
TEXT
  echo 'kill -KILL "$(cat -- "$CASE/body")"' >"$CASE/scontrol"  # Slurm ends the shell that it queues again
  : >"$CASE/codes"
}
# body [NAME=VALUE …]: the job's body, for train, or with $arguments; its exit status in $status, what it says in $CASE/said.
body() {
  status=0
  (cd -- "$CASE/submit" && echo "$BASHPID" >"$CASE/body" && exec env "PATH=$work/bin:$PATH" "SLURM_JOB_ID=1000" "SLURM_SUBMIT_DIR=$CASE/submit" SLURM_NTASKS=1 \
    SLURM_JOB_NAME=job "CARAVAN_PREFIX=$work/prefix" CARAVAN_PATIENCE=3 "$@" \
    "$CARAVAN_SOURCE/slurm/run.sh" "$work/config.ini" ${arguments:-train} "--run.folder=${folder:-$run}") >"$CASE/said" 2>&1 &
  wait "$!" 2>/dev/null || status=$?
}
failed() { fail "$case_name: $* (exit $status): $(tail -n 5 -- "$CASE/said")"; }
expect_said() { grep -qF -- "$1" "$CASE/said" || failed "it does not say \"$1\""; }
expect_called() { grep -qsE -- "$2" "$CASE/called-$1" || failed "$1 was not called with $2, but $(cat -- "$CASE/called-$1" 2>&1)"; }
expect_not_called() { [ ! -e "$CASE/called-$1" ] || ! grep -qE -- "$2" "$CASE/called-$1" || failed "$1 was called with $2"; }
expect_status() { [ "$status" -eq "$1" ] || failed "not exit $1"; }
# Slurm killed the shell after it had asked for that.
expect_requeued() {
  expect_called scontrol 'requeue 1000'
  expect_status 137
}

begin slurm_requeues  # by itself, as after a preemption without grace: the folder stays this job's
echo 75 >"$CASE/codes"
echo '[[ $* != *%T*%r* ]] || echo "COMPLETING None"' >"$CASE/squeue"
body
expect_status 75
expect_said "Slurm is ending this job (COMPLETING None)"
expect_not_called scontrol requeue
[ "$(cat -- "$run/job.lock")" = "1000 " ] || failed "the claim is gone"

begin controller_away  # when it is asked whether the job was cancelled
echo 75 >"$CASE/codes"
cat >"$CASE/squeue" <<'TEXT'
[[ $* == *%T*%r* ]] || exit 0
if mkdir -- "$CASE/once" 2>/dev/null; then
  echo "slurm_load_jobs error: Socket timed out on send/recv operation" >&2
  exit 1
fi
echo "COMPLETING None"
TEXT
body
expect_status 75
expect_said "Slurm does not answer: slurm_load_jobs error: Socket timed out"
expect_not_called scontrol requeue

begin torn_count  # a node lost power while it was written
: >"$run/restarts-1000"
body SLURM_RESTART_COUNT=1
expect_status 0
expect_said "train on 1 ranks"

begin hidden_job  # squeue does not show other users' jobs on some sites: the program looks at its lock by itself
echo "999 " >"$run/job.lock"
echo '{"job": "999"}' >"$run/lock"
echo 'echo "slurm_load_jobs error: Invalid job id specified" >&2; [[ $* != *999* ]]' >"$CASE/squeue"
body
expect_said "took the run folder over from job 999, which has ended"
[ -e "$run/lock" ] || failed "it removed the lock of the program"

begin no_time_left  # after a retry; a new allocation has time enough
printf '76\n70\n' >"$CASE/codes"
body
expect_said "trying again in this allocation"
expect_requeued

begin no_time_at_all
echo 70 >"$CASE/codes"
body
expect_status 70
expect_not_called scontrol requeue

begin all_retries  # used up, each after a newer checkpoint: other nodes may do
sed -i '1i step=$(printf "%08d" $(($(wc -l <"$CASE/called-srun") * 2))); mkdir -p "$RUN/checkpoints/step-$step"; touch "$RUN/checkpoints/step-$step/manifest.json"' "$CASE/srun"
printf '76\n76\n76\n' >"$CASE/codes"
body CARAVAN_RETRIES=2 "RUN=$run"
expect_said "and so it was in 2 retries (CARAVAN_RETRIES); the job goes to the queue again"
expect_requeued

begin other_nodes  # when no start on these got anywhere; once
printf '76\n76\n76\n' >"$CASE/codes"
body
expect_said "and so it was in all starts of this allocation; the job goes to the queue again"
expect_requeued
: >"$CASE/called-scontrol"
echo 76 >"$CASE/codes"
body SLURM_RESTART_COUNT=1
expect_status 76
expect_said "no newer checkpoint in two restarts in a row; not started again"
expect_not_called scontrol requeue

begin storage_away  # as the ranks' 76 says; then it is back
cat >"$CASE/srun" <<'TEXT'
mkdir -- "$CASE/once" 2>/dev/null || exit 0
mv -- "$RUN" "$RUN.away"
{ sleep 2; mv -- "$RUN.away" "$RUN"; } >/dev/null 2>&1 &
exit 76
TEXT
body CARAVAN_PATIENCE=60 "RUN=$run"
expect_status 0
expect_said "the storage does not answer: "
expect_said "trying again in this allocation"

begin storage_gone  # for longer than the job has patience
echo 'mv -- "$RUN" "$RUN.away"; exit 76' >"$CASE/srun"
body "RUN=$run"
expect_said "the storage of $run does not answer: "
expect_requeued

begin cannot_tell  # whether a stage is done: it is not begun again
cat >"$CASE/caravan" <<TEXT
#!/usr/bin/env bash
if [ -e "$CASE/asked" ]; then exit 76; fi
touch "$CASE/asked"
exec "$binary" "\$@"
TEXT
chmod +x "$CASE/caravan"
body "CARAVAN=$CASE/caravan"
expect_said "caravan status does not say whether train is done (exit 76)"
expect_not_called srun train
expect_requeued

begin other_settings  # than those of the packed file: it is made again, unless the run has trained
arguments='prepare train --data.template=idae_official'
others="$work/instructions.packed was prepared with other settings: data.template = idae_official, but it was idae"
body
expect_status 0
expect_said "prepare is to be done: $others; prepare would replace it"
expect_called srun 'caravan prepare '
mkdir -- "$run/checkpoints/step-00000004"
: >"$run/checkpoints/step-00000004/manifest.json"
: >"$CASE/called-srun"
body
expect_status 0
expect_said "prepare is done already; $others; it is kept, because this run has trained already"
expect_not_called srun 'caravan prepare '
arguments=''

begin replaced_data  # between prepare and train, by another run's job: they are prepared again
cp -- "$work/instructions.packed" "$CASE/own.packed"
cat >"$CASE/caravan" <<TEXT
#!/usr/bin/env bash
if [ ! -e "$CASE/replaced" ] && grep -qs 'prepare is done already' "$CASE/said"; then
  touch "$CASE/replaced"
  "$binary" prepare "$work/config.ini" "--data.packed=$CASE/own.packed" --data.template=idae_official >"$CASE/other" 2>&1
fi
exec "$binary" "\$@"
TEXT
chmod +x "$CASE/caravan"
arguments="prepare train --data.packed=$CASE/own.packed"
body "CARAVAN=$CASE/caravan"
expect_status 0
expect_said "prepare is to be done again: $CASE/own.packed was prepared with other settings: data.template = idae, but it was idae_official; prepare would replace it"
[ "$(grep -oE 'caravan (prepare|train) ' "$CASE/called-srun" | tr -d '\n')" = "caravan prepare caravan train " ] ||
  failed "the data were not prepared again before train"
arguments=''

begin storage_full
ln -s /dev/full "$run/restarts-1000.next"
body
expect_status 74
expect_said "No space left on device"

begin no_folder
run=/dev/null/run
body CARAVAN_PATIENCE=60
expect_status 2
expect_said "Not a directory"

begin late_ranks  # and Slurm does not answer when the signal comes
cat >"$CASE/squeue" <<'TEXT'
case $* in
  *%T*%r*) echo "RUNNING None" ;;
  *%e*)
    if [ -e "$CASE/signalled" ] && [ "$(wc -l <"$CASE/called-squeue")" -lt 7 ]; then
      echo "slurm_load_jobs error: Socket timed out" >&2
      exit 1
    fi
    date -d "@$(($(stat -c %Y -- "$CASE/site.env") + 12))" +%FT%T ;;
esac
TEXT
: >"$CASE/site.env"
cat >"$CASE/srun" <<'TEXT'
: >"$CASE/signalled"
kill -USR1 "$(cat -- "$CASE/body")"
for ((i = 0; i < 300; ++i)); do [ -e "$CASE/over" ] || sleep 0.1; done
TEXT
body "CARAVAN_SITE=$CASE/site.env"
: >"$CASE/over"
expect_said "Slurm does not answer: slurm_load_jobs error: Socket timed out"
expect_said "the ranks have not stopped, and the job's end is near; the job goes to the queue again"
expect_requeued

begin task_of_an_array  # whose other tasks Slurm knows by its job's number, too
echo 75 >"$CASE/codes"
body SLURM_ARRAY_JOB_ID=1000 SLURM_ARRAY_TASK_ID=3
expect_called scontrol 'requeue 1000_3$'
expect_not_called squeue '-j 1000 '
[ "$(cat -- "$run/job.lock")" = "1000_3 " ] || failed "the claim is not the task's"

begin 'odd#name'  # which --dump-config prints in quotes
echo 75 >"$CASE/codes"
body
expect_requeued
[ "$(cat -- "$run/job.lock")" = "1000 " ] || failed "the claim is not in the run folder"
[ "$(cut -d ' ' -f 3 -- "$run/restarts-1000")" -gt 0 ] || failed "the checkpoints are not seen"

begin lost_claim  # a node lost power before it was on disk
: >"$run/job.lock"
body
expect_status 2
expect_said "If there is no other job, remove $run/job.lock"
touch -d '2 minutes ago' -- "$run/job.lock"
body
expect_status 0
expect_said "took the run folder over from job that left no name, which has ended"

begin signal_while_it_starts  # by Slurm, before there are ranks
echo 'kill -USR1 "$$"' >"$CASE/site.env"
body "CARAVAN_SITE=$CASE/site.env"
expect_said "stopped between two stages; the job goes to the queue again"
expect_requeued

begin resubmitted  # with what the first job was given, from whatever folder
echo 75 >"$CASE/codes"
cat >"$CASE/squeue" <<'TEXT'
case $* in
  *%T*%r*) echo "RUNNING None" ;;
  *%l*) echo "12:00:00|gres:gpu:a100:4,gres/nvme:1|gpu|fast" ;;
esac
TEXT
cat >"$CASE/scontrol" <<'TEXT'
case $1 in
  requeue) echo "Requested operation is presently disabled for job 1000" >&2; exit 1 ;;
  write) echo "#!/bin/sh" >"$4" ;;
esac
TEXT
cat >"$CASE/sbatch" <<'TEXT'
echo "$CARAVAN_PREFIX $CARAVAN_SITE $CARAVAN_FIRST_JOB" >"$CASE/inherited"
echo 1001
TEXT
: >"$CASE/site.env"
body SLURM_MEM_PER_CPU=4000 SLURM_JOB_PARTITION=large CARAVAN_PREFIX=../../prefix CARAVAN_SITE=../site.env
expect_status 75
expect_said "goes on as job 1001"
for option in mem-per-cpu=4000 partition=large time=12:00:00 'constraint=gpu\|fast' gres=gpu:a100:4,nvme:1; do
  expect_called sbatch " --$option "
done
[ "$(cat -- "$CASE/inherited")" = "$work/prefix $CASE/site.env 1000" ] || failed "sbatch was given $(cat -- "$CASE/inherited")"
[ "$(cat -- "$run/job.lock")" = "1001 " ] || failed "the claim is not the new job's"
: >"$CASE/called-sbatch"
rm -- "$run/job.lock"
echo 75 >"$CASE/codes"
folder="$work/run-\${SUFFIX}" body SLURM_GPUS_PER_NODE=4 SUFFIX=resubmitted
expect_called sbatch " train --run.folder=$run\$"  # or a folder named after the job would be another one
expect_called sbatch ' --gpus-per-node=4 '
expect_not_called sbatch ' --gres'
rm -- "$run/job.lock"
echo 75 >"$CASE/codes"
body SLURM_ARRAY_JOB_ID=1000 SLURM_ARRAY_TASK_ID=3
expect_called sbatch ' --array=3 '  # not what the job file says
[ "$(cat -- "$run/job.lock")" = "1001_3 " ] || failed "the claim is not the new task's"

begin launcher_in_a_shell  # hears nothing of signals itself
cat >"$work/bin/launch" <<'TEXT'
#!/usr/bin/env bash
"$CASE/ranks" -c 'trap "exit 75" USR1; >"$CASE/ready"; sleep 30 & wait'
exit $?
TEXT
chmod +x "$work/bin/launch"
cp -- "$BASH" "$CASE/ranks"  # a program of another name: no shell
(
  until [ -e "$CASE/ready" ]; do nap 0.05; done
  kill -USR1 "$(cat -- "$CASE/body")"
) &
teller=$!
body CARAVAN_LAUNCH=launch
wait "$teller" || true
expect_said "got USR1; asking the ranks to stop"
expect_said "stopped with a good checkpoint; the job goes to the queue again"

begin prefix_of_the_site  # not that of the folder where it was submitted
ln -s -- "$CARAVAN_SOURCE/inputs" "$CARAVAN_SOURCE/slurm" "$CASE/submit/"
echo "export CARAVAN_PREFIX='$work/prefix'" >"$CASE/site.env"
body CARAVAN_PREFIX= "CARAVAN_SITE=$CASE/site.env"
expect_status 0
expect_said ": srun $work/prefix/bin/caravan"

# A tree in $1 whose run.sh says where it lies; what follows is the word that its settings say.
tree() {
  mkdir -p -- "$1/slurm"
  printf '#!/bin/sh\necho "the body of %s"\n' "$1" >"$1/slurm/run.sh"
  chmod +x "$1/slurm/run.sh"
}
# job_file [NAME=VALUE …]: a job file as Slurm starts it, a copy, without CARAVAN_PREFIX.
job_file() {
  status=0
  cp -- "$CARAVAN_SOURCE/slurm/camelidae_8x7b.sh" "$CASE/slurm_script"
  (cd -- "$CASE/submit" && exec env -u CARAVAN_PREFIX "SLURM_SUBMIT_DIR=$CASE/submit" "$@" bash "$CASE/slurm_script") \
    >"$CASE/said" 2>&1 || status=$?
}

begin others_folder  # of the submission, where others can put what the job would run
tree "$CASE/submit"
job_file
expect_status 0
expect_said "the body of $CASE/submit"
: >"$CASE/submit/slurm/site.env"
mkdir -p -- "$CASE/submit/build"
for place in '' /slurm /slurm/run.sh /slurm/site.env /build; do
  chmod o+w -- "$CASE/submit$place"
  job_file
  expect_status 2
  expect_said "others can write to $CASE/submit$place, and this job would run what they put there"
  chmod o-w -- "$CASE/submit$place"
done
chmod o+w -- "$CASE/submit"
tree "$CASE/named"
job_file "CARAVAN_PREFIX=$CASE/named"  # nothing of that folder is run then
expect_status 0
expect_said "the body of $CASE/named"

begin installed_first  # what belongs to the program on PATH, not what lies where it is submitted
tree "$CASE/submit"
chmod o+w -- "$CASE/submit"
tree "$CASE/installed/share/caravan"
mkdir -- "$CASE/installed/bin"
ln -s -- "$binary" "$CASE/installed/bin/caravan"
job_file "PATH=$CASE/installed/bin:$PATH"
expect_status 0
expect_said "the body of $CASE/installed/share/caravan"

begin site_of_the_submission  # is not read; that of the prefix is, and then the user's own
mkdir -- "$CASE/submit/slurm" "$CASE/prefix"
ln -s -- "$CARAVAN_SOURCE/inputs" "$work/prefix/bin" "$CASE/prefix/"
cp -R -- "$CARAVAN_SOURCE/slurm" "$CASE/prefix/slurm"
echo 'echo "settings of the submission"' >"$CASE/submit/slurm/site.env"
echo 'echo "settings of the prefix"; word=prefix' >"$CASE/prefix/slurm/site.env"
echo 'echo "settings of the user after those of the $word"' >"$CASE/site.env"
body "CARAVAN_PREFIX=$CASE/prefix" "CARAVAN_SITE=$CASE/site.env"
expect_status 0
expect_said "settings of the prefix"
expect_said "settings of the user after those of the prefix"
if grep -q "settings of the submission" "$CASE/said"; then failed "it read the settings of the submission"; fi

begin lost_folder  # the ranks' 76 when another job has it: the next start is refused, and nothing fights the other job
cat >"$CASE/srun" <<'TEXT'
if mkdir -- "$CASE/once" 2>/dev/null; then exit 76; fi
exit 2
TEXT
body
expect_status 2
expect_said "trying again in this allocation"
expect_not_called scontrol requeue

begin body_alone  # as Slurm copies what is submitted
cp -- "$CARAVAN_SOURCE/slurm/run.sh" "$CASE/slurm_script"
status=0
env "PATH=$work/bin:$PATH" SLURM_JOB_ID=1000 "SLURM_SUBMIT_DIR=$CASE/submit" "CARAVAN_PREFIX=$work/prefix" \
  bash "$CASE/slurm_script" "$work/config.ini" >"$CASE/said" 2>&1 || status=$?
expect_status 2
expect_said "submit one of the job files"

begin no_hard_links
cat >"$work/bin/ln" <<'TEXT'
#!/usr/bin/env bash
echo "ln: failed to create hard link: Operation not permitted" >&2
exit 1
TEXT
chmod +x "$work/bin/ln"
body
expect_status 2
expect_said "Operation not permitted"
say "all is decided as it should be"
