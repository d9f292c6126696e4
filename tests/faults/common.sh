# SPDX-License-Identifier: Apache-2.0
# What the tests of faults share: a tiny run in a folder of their own, starts of the public binary, kills, comparisons.
# The environment names the program: CARAVAN_BINARY, CARAVAN_SOURCE, CARAVAN_MPIEXEC, CARAVAN_MPIEXEC_FLAGS.
set -euo pipefail

work=$(mktemp -d "${TMPDIR:-/tmp}/caravan-test-XXXXXX")
# The launchers of Open MPI share a folder by default, which one that ends may remove while another one begins. Not where
# a batch system launches: its jobs may run on another host, or as another user.
sessions=$(mktemp -d "${TMPDIR:-/tmp}/caravan-XXXXXX")
[ -z "${CARAVAN_MPIEXEC-}" ] || export OMPI_MCA_orte_tmpdir_base=$sessions
launcher=  # the process id of the start in the background, if any
pids=()    # its ranks, once they have been seen
name=$(basename -- "$0" .sh)
read -r -a mpi_flags <<<"${CARAVAN_MPIEXEC_FLAGS-}"

say() { printf '%s: %s\n' "$name" "$*"; }
fail() {
  say "FAILED: $*" >&2
  [ ! -e "$work/output" ] || { echo "--- output of the last start:"; tail -n 40 -- "$work/output"; } >&2
  exit 1
}

# The ranks below process $1: its descendants that run the program.
ranks_below() {
  local stat line parent pid
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    read -r _ parent _ <<<"${line##*) }"  # after the name in brackets: state, parent, …
    [ "$parent" = "$1" ] || continue
    pid=$(basename -- "${stat%/stat}")
    [ "$(readlink -- "/proc/$pid/exe" 2>/dev/null)" != "$binary" ] || echo "$pid"
    ranks_below "$pid"
  done
}

clean_up() {
  local left
  if [ -n "$launcher" ]; then
    mapfile -t left < <(ranks_below "$launcher")
    kill -KILL "${left[@]}" "$launcher" 2>/dev/null || true
  fi
  rm -rf -- "$work" "$sessions"
}
trap clean_up EXIT
trap 'exit 1' INT TERM
binary=$(readlink -f -- "$CARAVAN_BINARY")

# make_origin STEPS EVERY RANKS TP EP [PRECISION]: a configuration, the packed data, and $work/origin with the checkpoint
# of step 0. Computes in fp32 unless the settings say otherwise.
make_origin() {
  local words=(the sun moon river stone bird tree cloud rain wind sand gold leaf snow fire) i j answer
  for ((i = 0; i < 60; ++i)); do
    answer=
    for ((j = 0; j < 3 + i % 5; ++j)); do answer+="${words[(i * 7 + j * j) % 15]} "; done
    printf '{"corpus": "", "dataset": "test", "instruction": "Say it.", "conversation": [{"input": "%s?", "output": "%s"}]}\n' \
      "${words[i % 15]}" "$answer"
  done >"$work/instructions.jsonl"
  cat >"$work/config.ini" <<TEXT
[run]
folder = $work/origin
[model]
base = $CARAVAN_SOURCE/tests/data/fixtures/llama-tiny
[upcycle]
experts = 4
topk = 2
adapter_dim = 8
[lora]
rank = 4
alpha = 8
dropout = 0.1
[data]
source = $work/instructions.jsonl
packed = $work/instructions.packed
packing = none
[layout]
tp = $4
ep = $5
[train]
sequence = 96
batch = 8
micro_batch = 2
steps = $1
lr = 3e-3
warmup_steps = 3
clip = 1
balance_loss = 0.01
expert_dropout = 0.1
precision = ${6:-fp32}
log_every = 5
[checkpoint]
every = $2
keep = 2
TEXT
  steps=$1 every=$2 ranks=$3
  start upcycle || fail "upcycle ended with $?"
  "$binary" prepare "$work/config.ini" >"$work/output" 2>&1 || fail "prepare ended with $?"
}

# caravan RANKS ARGUMENTS…: its exit status; the output is in $work/output.
caravan() {
  local launch=()
  [ "$1" -eq 1 ] || launch=("$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n "$1")
  shift
  "${launch[@]}" "$binary" "$@" >"$work/output" 2>&1 </dev/null
}
# expect STATUS RANKS ARGUMENTS…
expect() {
  local wanted=$1 ended=0
  shift
  caravan "$@" || ended=$?
  [ "$ended" -eq "$wanted" ] || fail "$*: exit $ended instead of $wanted"
}

# start COMMAND [ARGUMENTS]: one start on $ranks ranks; its exit status. One rank runs without mpirun.
start() {
  local command=$1
  shift
  if [ "$ranks" -eq 1 ]; then
    "$binary" "$command" "$work/config.ini" "$@" >"$work/output" 2>&1 </dev/null
  else
    "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n "$ranks" "$binary" "$command" "$work/config.ini" "$@" \
      >"$work/output" 2>&1 </dev/null
  fi
}

# The same in the background: the process to wait for is $launcher.
start_in_background() {
  local command=$1
  shift
  if [ "$ranks" -eq 1 ]; then
    "$binary" "$command" "$work/config.ini" "$@" >"$work/output" 2>&1 </dev/null &
  else
    "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n "$ranks" "$binary" "$command" "$work/config.ini" "$@" \
      >"$work/output" 2>&1 </dev/null &
  fi
  launcher=$! pids=()
}
is_running() { kill -0 "$launcher" 2>/dev/null; }
# Waits for $launcher to end; $status is how.
wait_for_end() {
  status=0
  wait "$launcher" 2>/dev/null || status=$?
  launcher=
}

# A nap without a process of its own: nap SECONDS.
exec {silence}<> <(:)
nap() { read -rt "$1" -u "$silence" || true; }

# The ranks of the start in the background run for a slice of time only, and stand still while this script looks at what
# they did. So a test meets the moment it waits for on a machine of any speed.
# run_for SECONDS: lets them run; afterwards they are stopped, and $pids are all of them. False when the program ended.
run_for() {
  go_on
  nap "$1"
  while [ ${#pids[@]} -ne "$ranks" ]; do
    is_running || return 1
    if [ "$ranks" -eq 1 ]; then pids=("$launcher"); else mapfile -t pids < <(ranks_below "$launcher"); fi
  done
  kill -STOP "${pids[@]}" 2>/dev/null || true
  is_running
}
go_on() { [ ${#pids[@]} -eq 0 ] || kill -CONT "${pids[@]}" 2>/dev/null || true; }

# One bit in the middle: the data of a shard begin near its start and fill it.
bit_flipped() {
  local at byte
  at=$(($(stat -c %s -- "$1") * 3 / 4))
  byte=$(od -An -tu1 -j "$at" -N 1 -- "$1")
  printf '%b' "$(printf '\\x%02x' $((byte ^ 16)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}

# copy_run FROM TO: names of run folders below $work.
copy_run() { mkdir -p -- "$work/$2" && cp -R -- "$work/$1/." "$work/$2/"; }

# The newest step in metrics.jsonl of run $1, and its newest committed checkpoint's; 0 when there is none.
last_step() {
  local lines=() step=
  [ ! -e "$work/$1/metrics.jsonl" ] || mapfile -t lines <"$work/$1/metrics.jsonl"
  [ ${#lines[@]} -eq 0 ] || [[ ! ${lines[-1]} =~ \"step\":([0-9]+) ]] || step=${BASH_REMATCH[1]}
  echo "${step:-0}"
}
checkpoint_folder() { printf '%s/%s/checkpoints/step-%08d' "$work" "$1" "$2"; }
last_checkpoint() {
  local manifest newest=0
  for manifest in "$work/$1"/checkpoints/step-*/manifest.json; do
    manifest=${manifest%/manifest.json}
    [[ ! $manifest =~ /step-([0-9]+)$ ]] || newest=$((10#${BASH_REMATCH[1]}))  # not one that was set aside
  done
  echo "$newest"
}

# wait_for_step RUN STEP: until the start in the background has computed it. It is stopped then: go_on lets it run.
wait_for_step() {
  while [ "$(last_step "$1")" -lt "$2" ]; do
    run_for 0.01 || { wait_for_end; fail "training ended by itself with $status before step $2"; }
  done
}

# What a step computed, as text: all of metrics.jsonl but what time and restarts change.
curve() { sed -E 's/"(seconds|tokens_per_second|restart|slowest_rank|waited_for_slowest|save_seconds|save_stall_seconds)":[^,}]*,?//g' -- "$work/$1/metrics.jsonl"; }

# expect_same_curve RUN REFERENCE: every step once, and every number of it bit for bit (they are written to round-trip).
expect_same_curve() {
  curve "$1" >"$work/curve" && curve "$2" >"$work/reference"
  local counted
  counted=$(sed -n 's/.*"step":\([0-9]*\).*/\1/p' "$work/curve" | paste -s -d ' ')
  [ "$counted" = "$(seq -s ' ' 1 "$steps")" ] || fail "$1: the steps in metrics.jsonl are $counted"
  local field
  for field in loss ce_loss balance_loss grad_norm lr tokens response_tokens; do
    [ "$(grep -c "\"$field\":" "$work/curve")" -eq "$steps" ] || fail "$1: metrics.jsonl lacks $field"
  done
  cmp -s -- "$work/curve" "$work/reference" || fail "$1 differs from $2: $(diff "$work/curve" "$work/reference" | head -n 4)"
}

# expect_close_curve RUN REFERENCE TOLERANCE: every number of the steps agrees to this relative difference, and counts are
# equal.
expect_close_curve() {
  local most
  most=$(paste -d '\n' <(curve "$1") <(curve "$2") | awk -v steps="$steps" '
    function number(line, key) {
      if (!match(line, "\"" key "\":[^,}]*")) { print "no " key; failed = 1; exit 1 }
      return substr(line, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
    }
    BEGIN { split("loss ce_loss balance_loss grad_norm lr", close_to); split("step tokens response_tokens", equal) }
    NR % 2 { ours = $0; next }
    {
      for (k in equal) if (number(ours, equal[k]) != number($0, equal[k])) { print equal[k] " differs"; failed = 1; exit 1 }
      for (k in close_to) {
        a = number(ours, close_to[k]) + 0; b = number($0, close_to[k]) + 0
        difference = (a > b ? a - b : b - a) / (b > 0 ? b : 1)
        if (difference > most) most = difference
      }
    }
    END { if (!failed) { if (NR != 2 * steps) print NR / 2 " steps"; else printf "%.3g\n", most } }') || true
  awk -v most="$most" -v limit="$3" 'BEGIN { exit !(most ~ /^[0-9.e+-]+$/ && most + 0 < limit + 0) }' || fail "$1 differs from $2: $most"
  say "$1: largest relative difference $most"
}

# expect_saved_and_stopped NAME FORMER WHAT: the last start in $work/NAME, which WHAT was to stop, ended with 75; its last
# step is in a checkpoint, newer than step FORMER; and the folder is free. Sets step to that of the checkpoint.
expect_saved_and_stopped() {
  [ "$status" -eq 75 ] || fail "$3: exit $status instead of 75"
  step=$(last_checkpoint "$1")
  [ "$step" -gt "$2" ] || fail "$3: no checkpoint was written"
  [ "$(last_step "$1")" = "$step" ] || fail "$3: the checkpoint of step $step is not the last step's"
  [ ! -e "$work/$1/lock" ] || fail "$3: the run folder is still locked"
}
# expect_log RUN TEXT: TEXT is in log.txt; expect_output TEXT: in what the last start printed.
expect_log() { grep -qF -- "$2" "$work/$1/log.txt" || fail "log.txt of $1 does not say \"$2\""; }
expect_output() { grep -qF -- "$1" "$work/output" || fail "the output does not say \"$1\""; }

# Whether run $1 has a checkpoint that is begun and not committed: $unfinished is its step then. One below a committed
# one is being deleted.
saving() {
  local folder found=
  for folder in "$work/$1"/checkpoints/step-*; do
    [[ $folder =~ /step-([0-9]+)$ ]] || continue
    if [ -e "$folder/manifest.json" ]; then
      found=
    elif [ -d "$folder" ]; then
      found=${found:-$((10#${BASH_REMATCH[1]}))}
    fi
  done
  [ -n "$found" ] && unfinished=$found
}
# writers [NAME]: how many of the ranks have a thread that writes their shard, or one of that name.
writers() {
  local pid task count=0 comm
  for pid in "${pids[@]}"; do
    for task in /proc/"$pid"/task/*/comm; do
      { read -r comm <"$task"; } 2>/dev/null || continue
      [ "$comm" != "${1:-caravan-save}" ] || count=$((count + 1))
    done
  done
  echo "$count"
}
