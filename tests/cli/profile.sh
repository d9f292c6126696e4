#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# train --profile says, in the log and in the metrics, where a step's time goes and what each collective sends; what a
# capacity drops is said too. Neither is there when it was not asked for.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

make_origin 4 4 4 2 2
config=$work/config.ini
train() {  # FOLDER FLAG…
  local folder=$work/$1
  shift
  cp -R -- "$work/origin" "$folder"
  "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n 4 "$binary" train "$config" "--run.folder=$folder" "$@" >"$work/output" 2>&1 </dev/null ||
    fail "train: exit $?"
}

train plain
! grep -q '"profile"\|"dropped_assignments"' "$work/plain/metrics.jsonl" || fail "the plain run has a profile or drops"
! grep -q 'profile of this step' "$work/plain/log.txt" || fail "the plain run logs a profile"

train profiled --profile --train.log_every=2
for pattern in 'profile of this step' '  phase  *seconds  *largest' '  backward  *[0-9.]*' '  collective  *calls' \
  '  tp: gather input of column linears  *8 ' '  ep: dispatch tokens ' '  world: reduce gradients '; do
  [ "$(grep -c -- "$pattern" "$work/profiled/log.txt")" -eq 2 ] || fail "the log has no two \"$pattern\""
done
[ "$(grep -c '"profile":{"bytes":' "$work/profiled/metrics.jsonl")" -eq 4 ] || fail "not every step has its profile"
for field in '"phases":{"backward":{"max":' '"tp: reduce output of row linear":{"bytes":{"max":' '"waited":{"max":'; do
  grep -qF -- "$field" "$work/profiled/metrics.jsonl" || fail "no $field in the metrics"
done
grep -q '"tp: reduce output of row linear":{[^}]*}[^}]*"computed":{"max":' "$work/profiled/metrics.jsonl" ||
  fail "the metrics do not say what was computed"
! grep 'warning: profile' "$work/profiled/log.txt" || fail "the formulas are not those of the program"
# To look at a step changes none of its numbers.
sed -i 's/"profile":.*},"response_tokens"/"response_tokens"/' -- "$work/profiled/metrics.jsonl"
expect_same_curve profiled plain
say "phases and collectives are in the log and in the metrics"

# What an evaluation sends is not the next step's.
train evaluated --profile "--data.held_out=$work/instructions.packed" --evaluate.every=1 --evaluate.samples=8
grep -q '"held_out_loss":[0-9]' "$work/evaluated/metrics.jsonl" || fail "nothing was evaluated"
! grep 'warning: profile' "$work/evaluated/log.txt" || fail "an evaluation is counted as part of the next step"
say "what was measured is what the formulas give"

train dropping --train.capacity=0.5
grep -q 'dropped [0-9.]* %' "$work/dropping/log.txt" || fail "the log does not say what is dropped"
[ "$(grep -c '"dropped_assignments":[1-9]' "$work/dropping/metrics.jsonl")" -eq 4 ] || fail "not every step dropped"
say "what a capacity drops is counted"
