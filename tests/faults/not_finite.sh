#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A loss that is not finite, again and again: every such step is skipped on all ranks and counted, and the run stops with
# 16 after train.max_skipped of them in a row; no checkpoint of it is written.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# The head's row of one token as large as fp32 can hold: finite in the file, infinite as a logit.
cp -R -- "$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny" "$work/base"
file=$work/base/model.safetensors
length=$(od -An -tu8 -N 8 -- "$file")
begin=$(head -c $((8 + length)) -- "$file" | tail -c +9 | sed 's/.*"lm_head.weight":{[^}]*"data_offsets":\[\([0-9]*\),.*/\1/')
for ((i = 0; i < 64; ++i)); do printf '\xff\xff\x7f\x7f'; done |
  dd of="$file" bs=1 seek=$((8 + length + begin)) conv=notrunc status=none

make_origin 20 5 4 2 2
rm -r -- "$work/origin"
start upcycle "--model.base=$work/base" || fail "upcycle ended with $?"
ended=0
start train "--model.base=$work/base" --train.max_skipped=2 || ended=$?
[ "$ended" -eq 16 ] || fail "exit $ended instead of 16"
[ "$(grep -c '^error' "$work/output")" -eq 1 ] || fail "not one message"
expect_output 'step 3: loss '
expect_output '3 steps in a row were skipped, more than train.max_skipped = 2'
[ "$(grep -c '^warning: step [12]: .*the step is skipped' "$work/output")" -eq 2 ] || fail "two steps were not reported as skipped"
metrics=$work/origin/metrics.jsonl
[ "$(grep -c '"irregular":{"sequences":\[[0-9,]*\],"what":"skipped"}.*"skipped":true' "$metrics")" -eq 2 ] ||
  fail "the metrics do not tell two skipped steps with their sequences"
[ "$(last_checkpoint origin)" -eq 0 ] || fail "checkpoint $(last_checkpoint origin) was written"
say "skipped, counted and stopped"
