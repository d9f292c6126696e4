#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One tokenizer from upcycle to export: all of its files travel, data.tokenizer counts in every stage, another one than
# that of the data is refused by what differs, and the export says with which token answers were trained to end.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

make_origin 2 2 1 1 1
base=$work/base
copy_base() {
  rm -rf -- "$base" && cp -R -- "$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny" "$base" && chmod -R u+w -- "$base"
}
# with ARGUMENTS…: one start of the changed base in the folder of this part.
with() {
  local command=$1
  shift
  start "$command" "--model.base=$base" "--run.folder=$work/run" "--data.packed=$work/run.packed" --data.held_out_every=4 "$@"
}
# refuses COMMAND [ARGUMENTS…] -- FRAGMENT…
refuses() {
  local arguments=() ended=0
  while [ "$1" != -- ]; do arguments+=("$1") && shift; done
  shift
  with "${arguments[@]}" || ended=$?
  [ "$ended" -eq 2 ] || fail "${arguments[*]}: exit $ended instead of 2"
  for fragment in "$@"; do expect_output "$fragment"; done
}

# same FILE [AS]: the base's FILE is in step 0, and in the export as AS.
same() {
  cmp -s -- "$base/$1" "$work/run/checkpoints/step-00000000/$1" || fail "step 0 has no $1, or another one"
  cmp -s -- "$base/$1" "$work/export/${2:-$1}" || fail "the export has no ${2:-$1}, or another one"
}

# Every file of the base's tokenizer reaches step 0 and the export, which gets the chat template of the training beside.
copy_base
mkdir -- "$base/additional_chat_templates"
for file in added_tokens.json chat_template.jinja additional_chat_templates/tool.jinja tokenization_own.py; do
  echo '{}' >"$base/$file"
done
with upcycle || fail "upcycle ended with $?"
with prepare || fail "prepare ended with $?"
with train --train.warmup_steps=1 || fail "train ended with $?"
with export "--export.folder=$work/export" || fail "export ended with $?"
for file in tokenizer.model special_tokens_map.json added_tokens.json tokenization_own.py generation_config.json; do
  same "$file"
done
same chat_template.jinja base_chat_template.jinja
same additional_chat_templates/tool.jinja base_chat_templates/tool.jinja
cmp -s -- "$base/tokenizer_config.json" "$work/run/checkpoints/step-00000000/tokenizer_config.json" || fail "step 0 has another tokenizer_config.json"
grep -q '"eos_token_id": 2\b' "$work/export/config.json" || fail "config.json: $(grep eos "$work/export/config.json")"
! grep -q 'answers were trained to end with' "$work/output" || fail "a warning of the base's own end token"

# The base's configuration is edited after upcycle. prepare refuses to replace data that training takes, a second
# upcycle warns, and who names the tokenizer in prepare alone is told so by train.
sed -i 's|"content":"</s>"|"content":"<unk>"|' -- "$base/tokenizer_config.json" "$base/special_tokens_map.json"
sed -i 's|</s>|<unk>|' -- "$base/special_tokens_map.json"
changed='eos_token is "<unk>" (id 0), but it was "</s>" (id 2)'
rm -rf -- "$work/run/checkpoints/step-00000002"
kept=$(cat -- "$work/run.packed" | cksum)
"$binary" status "$work/config.ini" --shell "--model.base=$base" "--run.folder=$work/run" \
  "--data.packed=$work/run.packed" --data.held_out_every=4 >"$work/output" || fail "status ended with $?"
expect_output 'prepare_done=yes'
refuses prepare -- "set data.tokenizer = $base in all stages, or remove $work/run/checkpoints/step-00000000"
[ "$kept" = "$(cat -- "$work/run.packed" | cksum)" ] || fail "prepare wrote data that training refuses"
expect_output "$base has another tokenizer by now than $work/run/checkpoints/step-00000000"
expect_output "$changed"
ours=("--data.tokenizer=$base")
with prepare "${ours[@]}" || fail "prepare with data.tokenizer ended with $?"
with upcycle || fail "a second upcycle ended with $?"
expect_output "$changed"
refuses train --train.warmup_steps=1 -- "$work/run.packed was made with another tokenizer than $work/run/checkpoints/step-00000000/tokenizer.model" \
  'eos_token is "</s>" (id 2), but it was "<unk>" (id 0)' 'set data.tokenizer'
# Who says so goes on with it, and the export is of the tokenizer of the data.
with train --train.warmup_steps=1 "${ours[@]}" || fail "train with data.tokenizer ended with $?"
with evaluate "${ours[@]}" || fail "evaluate with data.tokenizer ended with $?"
refuses evaluate -- "step-00000002 was trained on data of another tokenizer" 'eos_token is "</s>" (id 2), but it was "<unk>" (id 0)'
refuses export "--export.folder=$work/no" -- "step-00000002 was trained on data of another tokenizer"
with export "--export.folder=$work/other" "${ours[@]}" || fail "export with data.tokenizer ended with $?"
cmp -s -- "$base/special_tokens_map.json" "$work/other/special_tokens_map.json" || fail "the export has not the tokenizer of the data"
for file in config.json generation_config.json; do
  grep -q '"eos_token_id": 0\b' "$work/other/$file" || fail "$file: $(grep eos "$work/other/$file")"
  expect_output "$file: eos_token_id is 2, but answers were trained to end with 0; the export says 0"
done

# A base without a tokenizer: data.tokenizer is enough for every stage, and its files travel.
rm -rf -- "$work/run" "$work/export"
mkdir -- "$work/tokenizer" && mv -- "$base"/{tokenizer.model,tokenizer_config.json,special_tokens_map.json} "$work/tokenizer/"
rm -- "$base/added_tokens.json"
elsewhere=("--data.tokenizer=$work/tokenizer")
refuses upcycle "--data.tokenizer=$work/none" -- "data.tokenizer = $work/none: no such folder"
with upcycle || fail "upcycle without a tokenizer ended with $?"
refuses prepare -- "$base: holds no tokenizer.model; set data.tokenizer"
with prepare "${elsewhere[@]}" || fail "prepare with a tokenizer elsewhere ended with $?"
refuses train --train.warmup_steps=1 -- "step-00000000: holds no tokenizer.model; set data.tokenizer" \
  "remove $work/run/checkpoints/step-00000000 and run caravan upcycle again"
cp -- "$work/tokenizer/tokenizer.model" "$base/"
refuses prepare -- "step-00000000: holds no tokenizer.model" "set data.tokenizer = $base in all stages"
rm -- "$base/tokenizer.model"
for stage in "train --train.warmup_steps=1" evaluate "export --export.folder=$work/export"; do
  read -r -a words <<<"$stage"
  with "${words[@]}" "${elsewhere[@]}" || fail "$stage with a tokenizer elsewhere ended with $?"
done
cmp -s -- "$work/tokenizer/special_tokens_map.json" "$work/export/special_tokens_map.json" || fail "the export has no tokenizer"
rm -rf -- "$work/run"
with upcycle "${elsewhere[@]}" || fail "upcycle with a tokenizer elsewhere ended with $?"
cmp -s -- "$work/tokenizer/tokenizer.model" "$work/run/checkpoints/step-00000000/tokenizer.model" || fail "step 0 has no tokenizer"

# What the model has no row for is refused before the work, if it is used.
rm -rf -- "$work/run"
copy_base
rows=$(sed -n 's/.*"vocab_size": *\([0-9]*\).*/\1/p' "$base/config.json")
printf '{"<|im_end|>": %d}' "$rows" >"$base/added_tokens.json"
with prepare || fail "prepare beside a token that is never used ended with $?"
expect_output "added_tokens.json: \"<|im_end|>\" has the id $rows, but the model in $base has $rows tokens (vocab_size)"
sed -i 's|</s>|<\|im_end\|>|' -- "$base/tokenizer_config.json" "$base/special_tokens_map.json"
refuses prepare -- "$base/tokenizer.model: eos_token \"<|im_end|>\" has the id $rows, but the model in $base has $rows tokens"
rm -- "$base/added_tokens.json"
refuses prepare -- 'eos_token: "<|im_end|>" is neither in' 'nor an added token'
copy_base
printf '{"<|x|>": %d}' "$rows" >"$base/added_tokens.json"
printf '{"instruction": "", "conversation": [{"input": "<|x|>", "output": "b"}]}\n%.0s' 1 2 3 4 5 >"$work/uses.jsonl"
refuses prepare "--data.source=$work/uses.jsonl" --data.template=idae_official -- "$work/uses.jsonl:1" "\"<|x|>\", has the id $rows"

# Data of an earlier version do not say which tokenizer made them, but their records end with its eos.
copy_base
sed -i 's|"content":"</s>"|"content":"<unk>"|' -- "$base/tokenizer_config.json"
sed -i 's|</s>|<unk>|' -- "$base/special_tokens_map.json"
cp -R -- "$CARAVAN_SOURCE/tests/data/checkpoints/version-1" "$work/old" && chmod -R u+w -- "$work/old"
of_old=("--run.folder=$work/old/run" "--data.packed=$work/old/instructions.packed" --data.held_out_every=0)
for words in train "export --export.folder=$work/no"; do
  read -r -a words <<<"$words"
  ended=0
  start "${words[@]}" "${of_old[@]}" "--data.tokenizer=$base" || ended=$?
  [ "$ended" -eq 2 ] || fail "${words[0]} with another eos than that of old data: exit $ended instead of 2"
  expect_output "$work/old/instructions.packed was made with another tokenizer than $base/tokenizer.model"
  expect_output 'eos_token is "<unk>" (id 0), but a record ends with the token 2'
done
start export "${of_old[@]}" "--export.folder=$work/old/right" || fail "export of an old run ended with $?"
! grep -q 'it is not known' "$work/output" || fail "the end of old data is not known"
start export "--run.folder=$work/old/run" "--data.packed=$work/uses.jsonl" "--data.tokenizer=$base" "--export.folder=$work/old/unknown" ||
  fail "export of an old run without its data ended with $?"
expect_output 'it is not known which token the answers of'
grep -q '"eos_token_id": 2\b' "$work/old/unknown/config.json" || fail "an end that is not known is written"
say "one tokenizer from upcycle to export"
