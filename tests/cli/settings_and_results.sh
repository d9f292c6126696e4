#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a stage left behind was made by settings of its own: train says which of [data] are others by now, and the card of
# an export names those that were trained on; status, and with it the job, takes the packed file for a result of these
# settings only if it is one, or the run needs it. Neither status nor train takes the step 0 of another base or seed for
# that of the settings, and the card names the base that was used. A run that would train nothing is warned of, and so
# are sequences longer than the positions that a model was made for, scaled ones included.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

make_origin 2 2 1 1 1
warnings() { grep -c "^warning: .*$1" "$work/output" || true; }
expect_warning() { [ "$(warnings "$1")" -eq 1 ] || fail "not one warning with \"$1\""; }
expect_no_warning() { [ "$(warnings "$1")" -eq 0 ] || fail "a warning with \"$1\""; }

copy_run origin stale
sed 's/moon/mood/' -- "$work/instructions.jsonl" >"$work/other.jsonl"
other=("--data.source=$work/other.jsonl" --data.template=idae_official --data.packing=simple --data.max_prompt=50)
# expect_prepare yes|no WHY: what caravan status says of the packed file beside the other settings.
expect_prepare() {
  "$binary" status "$work/config.ini" "--run.folder=$work/stale" "${other[@]}" --shell >"$work/output" || fail "status ended with $?"
  expect_output "prepare_done=$1"
  expect_output "prepare_problem=$work/instructions.packed was prepared with other settings: data.source = $work/other.jsonl, but it was instructions.jsonl; "
  expect_output "; $2"
}
expect_prepare no "prepare would replace it"
start train "--run.folder=$work/stale" "${other[@]}" --train.warmup_steps=1 || fail "train with other settings ended with $?"
expect_warning "$work/instructions.packed was prepared with other settings: data.source = $work/other.jsonl, but it was instructions.jsonl; data.template = idae_official, but it was idae; data.packing = simple, but it was none; data.max_prompt = 50, but it was 0; .*run caravan prepare again"
expect_no_warning 'warm-up'
expect_prepare yes "it is kept, because this run has trained already"
start export "--run.folder=$work/stale" "--export.folder=$work/export" "${other[@]}" || fail "export ended with $?"
for text in 'data.source: instructions.jsonl' 'data.template: idae' 'data.packing: none'; do
  grep -qx -- "- $text" "$work/export/README.md" || fail "README.md does not say \"$text\""
done
if grep -q 'other.jsonl\|idae_official\|simple' "$work/export/README.md"; then fail "README.md names what was not used"; fi
start train "--run.folder=$work/stale" --train.warmup_steps=1 || fail "a run that is done ended with $?"
expect_warning 'nothing is left to train: the plan has 2 steps, and 2 are done'
expect_no_warning 'was prepared with other settings'
cp -- "$work/instructions.jsonl" "$work/kept.jsonl"
cp -- "$work/other.jsonl" "$work/instructions.jsonl"
start train "--run.folder=$work/stale" --train.steps=3 --train.warmup_steps=1 || fail "train beside a changed source ended with $?"
expect_warning "data.source = $work/instructions.jsonl, which has changed since"
mv -- "$work/kept.jsonl" "$work/instructions.jsonl"

# The same base elsewhere, and one whose first tensor begins with other numbers.
for base in moved other; do
  cp -R -- "$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny" "$work/$base"
  chmod -R u+w -- "$work/$base"
done
file=$work/other/model.safetensors
begin=$((8 + $(od -An -tu8 -N 8 -- "$file")))
printf '\x3f\x3f\x3f\x3f\x3f\x3f\x3f\x3f' | dd of="$file" bs=1 seek="$begin" conv=notrunc status=none
store=$(checkpoint_folder origin 0)
made_from=$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny
# expect_upcycle yes|no TEXT SETTINGS …: what caravan status says of step 0.
expect_upcycle() {
  "$binary" status "$work/config.ini" "${@:3}" --shell >"$work/output" || fail "status ended with $?"
  expect_output "upcycle_done=$1"
  [ -z "$2" ] || expect_output "upcycle_problem=$store was made with other settings: $2"
}
expect_upcycle yes ''
expect_upcycle no "model.base = $work/other, but it was $made_from; upcycle.seed = 77, but it was 42" "--model.base=$work/other" --upcycle.seed=77
expect_upcycle no 'upcycle.experts = 2, but it was 4' --upcycle.experts=2
expect 2 1 train "$work/config.ini" "--model.base=$work/other"
expect_output "model.base = $work/other is another model than the one that upcycle took for $store ($made_from); set it back"
expect 2 1 train "$work/config.ini" --upcycle.seed=77
expect_output "upcycle.seed = 77, but the checkpoint's model has 42; set it back"
expect 0 1 upcycle "$work/config.ini" "--model.base=$work/moved"
expect_output "already holds this model"
copy_run origin moved-run
start train "--run.folder=$work/moved-run" "--model.base=$work/moved" --train.warmup_steps=1 || fail "train beside a moved base ended with $?"
expect_no_warning 'model.base'
start train "--run.folder=$work/moved-run" "--model.base=$work/gone" --train.warmup_steps=1 || fail "train without its base ended with $?"
expect_warning "model.base = $work/gone is not the folder that upcycle took for .*, and cannot be compared with it"
start export "--run.folder=$work/moved-run" "--export.folder=$work/of-base" "--model.base=$work/other" || fail "export ended with $?"
grep -qF "$made_from with 4 adapters" "$work/of-base/README.md" || fail "README.md names another base"

copy_run origin warm
start train "--run.folder=$work/warm" --train.steps=1 --train.warmup_steps=0 --train.warmup_ratio=0.03 || fail "one step ended with $?"
expect_warning 'a warm-up of 1 for 1 step leaves none with a rate above 0: nothing is trained'
start train "--run.folder=$work/warm" --train.steps=2 --train.warmup_steps=5 || fail "a long warm-up ended with $?"
expect_warning 'a warm-up of 5 for 2 steps does not end before they do'

# positions MOST FACTOR: a run of sequences of up to 96 tokens with these positions before linear scaling.
positions() {
  local config=$work/base/config.json
  rm -rf -- "$work/base" "$work/scaled"
  cp -R -- "$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny" "$work/base"
  chmod -R u+w -- "$work/base"
  sed -i -E -e "s/\"max_position_embeddings\": *[0-9]+/\"max_position_embeddings\": $1/" \
    -e "s/\"rope_scaling\": *null/\"rope_scaling\": {\"type\": \"linear\", \"factor\": $2}/" -- "$config"
  grep -q "\"factor\": $2" "$config" || fail "config.json was not changed"
  start upcycle "--model.base=$work/base" "--run.folder=$work/scaled" || fail "upcycle of $1 positions ended with $?"
  start train "--model.base=$work/base" "--run.folder=$work/scaled" || fail "train at $1 positions ended with $?"
}
positions 48 2.0
expect_no_warning 'positions that the model was made for'
positions 32 2.0
expect_warning 'was prepared for sequences of 96 tokens, longer than the 64 positions that the model was made for'
say "results say what made them, and runs without effect are warned of"
