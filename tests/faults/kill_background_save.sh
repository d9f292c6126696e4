#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs that save in the background and are killed with SIGKILL, all ranks at once: while shards are written, when all
# are written but the manifest is not, and while rank 0 writes master.h5 and the manifest. Each goes on from the
# checkpoint before, in the last case perhaps from that one, and ends with the curve of the undisturbed run, which saved
# while training waited, bit for bit.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 40 3 4 2 2
copy_run origin calm
start train "--run.folder=$work/calm" --checkpoint.asynchronous=false || fail "the undisturbed run ended with $?"

# kill_in NUMBER writing|between|committing
kill_in() {
  local run=killed-$1 from unfinished=
  copy_run origin "$run"
  start_in_background train "--run.folder=$work/$run"
  wait_for_step "$run" $((1 + 7 * $1))
  while true; do
    run_for 0.001 || { wait_for_end; say "run $1 ended with $status before it was met $2"; return 1; }
    saving "$run" || continue
    case $2 in
      writing) [ "$(writers)" -eq 0 ] || break ;;
      committing) [ "$(writers caravan-commit)" -eq 0 ] || break ;;
      between)
        local shards=("$(checkpoint_folder "$run" "$unfinished")"/shard-*.h5)
        if [ "$(writers)" -eq 0 ] && [ ${#shards[@]} -eq "$ranks" ] && [ -e "${shards[0]}" ]; then break; fi
        ;;
    esac
  done
  kill -KILL "${pids[@]}"
  wait_for_end
  [ "$status" -ne 0 ] || fail "run $1 ended with 0 though it was killed"
  from=$(last_checkpoint "$run")
  if [ "$2" != committing ] || [ "$from" -ne "$unfinished" ]; then
    local missed=$unfinished
    saving "$run" || fail "run $1: the checkpoint of step $missed was committed by nobody"
    [ "$from" -lt "$unfinished" ] || fail "run $1: checkpoint $from is newer than the unfinished one of step $unfinished"
  fi
  start train "--run.folder=$work/$run" || fail "run $1 ended with $? when it was started again"
  if [ "$from" -gt 0 ]; then expect_output "resumed $(checkpoint_folder "$run" "$from"),"; fi
  [ "$from" -eq "$unfinished" ] || expect_output "saved $(checkpoint_folder "$run" "$unfinished") (stalled "
  expect_same_curve "$run" calm
  say "run $1: killed $2, at the save of step $unfinished; went on from $from, and all $steps steps are equal"
  rm -rf -- "${work:?}/$run"
}
for where in writing between committing; do
  met=0
  for number in 1 2 3 4; do
    if [ "$met" -lt 2 ] && kill_in "$number" "$where"; then met=$((met + 1)); fi
    rm -rf -- "${work:?}/killed-$number"
  done
  [ "$met" -eq 2 ] || fail "only $met runs were killed $where"
done
