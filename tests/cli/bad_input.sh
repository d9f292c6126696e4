#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bad_input.sh settings|files|runs|ranks: a table of wrong commands, settings, files and layouts. Each ends with exit code 2 and one message, which
# says what is wrong, and leaves no file behind.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

rows=0
# Every folder, and every file with its size and time. A run's log.txt may grow by the reason of a refused start.
listing() { find "$work" ! -path "$work/output" ! -name log.txt \( -type d -printf '%p\n' -o -printf '%p %s %T@\n' \) | sort; }

# refused RANKS COMMAND [ARGUMENTS] -- FRAGMENT…: every fragment is in the message. 0 ranks: without mpirun.
refused() {
  local ended=0 arguments=() problem='' launch=() fragment messages
  [ "$1" -eq 0 ] || launch=("$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n "$1")
  shift
  while [ "$1" != -- ]; do
    arguments+=("$1")
    shift
  done
  shift
  rows=$((rows + 1))
  "${launch[@]}" "$binary" "${arguments[@]}" >"$work/output" 2>&1 </dev/null || ended=$?
  [ "$ended" -eq 2 ] || problem="exit $ended instead of 2"
  messages=$(grep -c '^error' "$work/output") || true
  [ "$messages" -eq 1 ] || problem+="; $messages messages instead of 1"
  for fragment in "$@"; do
    grep -qF -- "$fragment" "$work/output" || problem+="; no \"$fragment\""
  done
  if [ "$before" != "$(listing)" ]; then
    problem+="; it changed $(comm -3 <(echo "$before") <(listing) | tr -d '\t' | cut -d ' ' -f 1 | sort -u | paste -s -d ' ')"
    before=$(listing)
  fi
  [ -z "$problem" ] || { say "row $rows: ${launch[*]} caravan ${arguments[*]}: $problem"; cat -- "$work/output"; failed=1; }
}
failed=0

make_origin 2 1 1 1 1
config=$work/config.ini
copy_run origin trained
# The rotary base may be given, if it is the model's.
start train "--run.folder=$work/trained" --model.rope_theta=10000 || fail "training for the table ended with $?"
copy_run trained edited
sed -i 's/"rms_norm_eps": 1e-05/"rms_norm_eps": 0.001/' "$work/edited/checkpoints/step-00000000/config.json"
mkdir -- "$work/here"
cd -- "$work/here"

model=$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny
# other_model NAME: a copy of the model, to be damaged.
other_model() { mkdir -- "$work/$1" && cp -- "$model"/{config.json,model.safetensors,tokenizer.model,tokenizer_config.json} "$work/$1/" && chmod u+w -- "$work/$1"/*; }
other_model cut && truncate -s -100 -- "$work/cut/model.safetensors"
other_model no_header && printf '\377\377\377\377\377\377\377\177' | dd of="$work/no_header/model.safetensors" conv=notrunc status=none
other_model scaled && sed -i 's/"rope_scaling": null/"rope_scaling": {"type": "yarn", "factor": 2.0}/' "$work/scaled/config.json"
other_model foreign && sed -i 's/"model_type": "llama"/"model_type": "bert"/; s/LlamaForCausalLM/BertModel/' "$work/foreign/config.json"
other_model half_config && truncate -s 200 -- "$work/half_config/config.json"
other_model no_config && rm -- "$work/no_config/config.json"
other_model no_weights && rm -- "$work/no_weights/model.safetensors"
other_model no_tokenizer && rm -- "$work/no_tokenizer/tokenizer.model"
other_model bad_tokenizer && truncate -s 100 -- "$work/bad_tokenizer/tokenizer.model"

# other_adapter NAME: a copy of PEFT's adapter, to be damaged.
other_adapter() { mkdir -- "$work/$1" && cp -- "$CARAVAN_SOURCE"/tests/data/fixtures-more/peft/lora/adapter_{config.json,model.safetensors} "$work/$1/" && chmod u+w -- "$work/$1"/*; }
other_adapter dora && sed -i 's/"use_dora": false/"use_dora": true/' "$work/dora/adapter_config.json"
other_adapter other_rank && sed -i 's/"r": 8/"r": 4/' "$work/other_rank/adapter_config.json"
other_adapter cut_adapter && truncate -s -8 -- "$work/cut_adapter/adapter_model.safetensors"
other_adapter no_tensors && rm -- "$work/no_tensors/adapter_model.safetensors"

head -n 3 -- "$work/instructions.jsonl" >"$work/bad_json.jsonl" && echo '{"instruction": "a", "conversation": [' >>"$work/bad_json.jsonl"
head -n 2 -- "$work/instructions.jsonl" >"$work/no_field.jsonl" && echo '{"instruction": "a", "conversation": [{"input": "b"}]}' >>"$work/no_field.jsonl"
: >"$work/empty.jsonl"

cp -- "$work/instructions.packed" "$work/cut.packed" && truncate -s -8 -- "$work/cut.packed"
cp -- "$work/instructions.packed" "$work/flipped.packed"
at=$(($(stat -c %s -- "$work/flipped.packed") / 2))
byte=$(od -An -tu1 -j "$at" -N 1 -- "$work/flipped.packed")
printf '%b' "$(printf '\\x%02x' $((byte ^ 1)))" | dd of="$work/flipped.packed" bs=1 seek="$at" conv=notrunc status=none
head -n 40 -- "$work/instructions.jsonl" >"$work/fewer.jsonl"
"$binary" prepare "$config" "--data.source=$work/fewer.jsonl" "--data.packed=$work/fewer.packed" >/dev/null

printf '[train]\nsteps = 3\n\n[trian]\nlr = 1\n' >"$work/section.ini"
printf '[train]\nsteps = 3\nsteps = 4\n' >"$work/twice.ini"
printf '[train]\nsteps 3\n' >"$work/no_equals.ini"
grep -v ^folder "$config" >"$work/no_folder.ini"
before=$(listing)

settings_rows() {
  # Commands and settings.
  refused 0 trian "$config" -- 'unknown command "trian"' 'did you mean train?'
  refused 0 train -- 'caravan train needs a configuration file'
  refused 0 train nowhere.ini -- nowhere.ini
  refused 0 train "$config" --train.stepps=3 -- train.stepps 'train.steps'
  refused 0 train "$config" train.steps=3 -- train.steps=3
  refused 0 train "$work/section.ini" -- "$work/section.ini:4" trian train
  refused 0 train "$work/twice.ini" -- "$work/twice.ini:3" train.steps
  refused 0 train "$work/no_equals.ini" -- "$work/no_equals.ini:2" 'write key = value'
  refused 0 train "$config" --train.lr=2 -- 'train.lr = 2 is out of range' 'above 0 and at most 1'
  refused 0 train "$config" --train.steps=ten -- 'train.steps = ten is not a whole number'
  refused 0 prepare "$config" --data.template=ida -- 'data.template = ida is not a choice' 'did you mean idae?'
  refused 0 train "$config" --train.steps=3 --train.epochs=2 -- train.steps train.epochs
  refused 0 train "$config" '--run.folder=${CARAVAN_NO_SUCH_VARIABLE}' -- CARAVAN_NO_SUCH_VARIABLE
  refused 0 train "$work/no_folder.ini" -- 'run.folder is not set' "$work/no_folder.ini" --run.folder=
  refused 0 upcycle "$config" "--run.folder=$work/new" --upcycle.topk=5 -- 'upcycle.topk = 5' 'upcycle.experts = 4'
  refused 0 train "$config" --train.batch=7 -- 'train.batch = 7' 'train.micro_batch = 2'
  refused 0 evaluate "$config" --checkpoint.step=soon -- 'checkpoint.step = soon'
  refused 0 evaluate "$config" --evaluate.step=soon -- 'checkpoint.step = soon'
}

files_rows() {
  # Models.
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/nowhere" -- "$work/nowhere"
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/cut" -- "$work/cut/model.safetensors"
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/no_header" -- "$work/no_header/model.safetensors"
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/scaled" -- "$work/scaled/config.json" rope_scaling
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/foreign" -- "$work/foreign/config.json" bert
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/half_config" -- "$work/half_config/config.json"
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/no_config" -- "$work/no_config" config.json
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/no_weights" -- "$work/no_weights"
  # Adapters.
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.adapter=$work/nowhere" -- "$work/nowhere" 'PEFT'
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.adapter=$work/no_config" -- "$work/no_config/adapter_config.json"
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.adapter=$work/dora" -- "$work/dora/adapter_config.json: use_dora = true" merge_and_unload
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.adapter=$work/other_rank" -- "$work/other_rank" 'lora_A.weight has shape'
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.adapter=$work/cut_adapter" -- "$work/cut_adapter/adapter_model.safetensors"
  refused 0 upcycle "$config" "--run.folder=$work/new" "--model.adapter=$work/no_tensors" -- "$work/no_tensors/adapter_model.safetensors"
  refused 0 upcycle "$config" "--model.adapter=$CARAVAN_SOURCE/tests/data/fixtures-more/peft/lora" -- "$work/origin/checkpoints/step-00000000"

  refused 0 upcycle "$config" --upcycle.experts=8 -- "$work/origin/checkpoints/step-00000000"

  # Instructions.
  refused 0 prepare "$config" "--model.base=$work/no_tokenizer" "--data.packed=$work/new.packed" -- "$work/no_tokenizer" tokenizer.model
  refused 0 prepare "$config" "--model.base=$work/bad_tokenizer" "--data.packed=$work/new.packed" -- "$work/bad_tokenizer/tokenizer.model"
  refused 0 prepare "$config" --data.source=nowhere.json "--data.packed=$work/new.packed" -- nowhere.json
  refused 0 prepare "$config" "--data.source=$work/bad_json.jsonl" "--data.packed=$work/new.packed" -- "$work/bad_json.jsonl:4" 'not JSON'
  refused 0 prepare "$config" "--data.source=$work/no_field.jsonl" "--data.packed=$work/new.packed" -- "$work/no_field.jsonl:3" 'conversation[0].output is missing'
  refused 0 prepare "$config" "--data.source=$work/empty.jsonl" "--data.packed=$work/new.packed" -- "$work/empty.jsonl"
  refused 0 prepare "$config" "--data.packed=$work/instructions.jsonl" -- 'data.packed would overwrite data.source'
  refused 0 prepare "$config" "--data.packed=$work/empty.jsonl/new.packed" -- "$work/empty.jsonl"
  refused 0 prepare "$config" --train.sequence=8 "--data.packed=$work/new.packed" -- 'no record is left' train.sequence
}

runs_rows() {
  # Packed files.
  refused 0 train "$config" --data.packed=nowhere.packed -- nowhere.packed
  refused 0 train "$config" "--data.packed=$work/cut.packed" -- "$work/cut.packed" 'cut off' prepare
  refused 0 train "$config" "--data.packed=$work/flipped.packed" -- "$work/flipped.packed" damaged prepare
  refused 0 train "$config" "--data.packed=$work/instructions.jsonl" -- "$work/instructions.jsonl" 'is not a packed token file'
  refused 0 train "$config" --train.sequence=64 -- "$work/instructions.packed" 'train.sequence = 64'

  # Runs and checkpoints.
  refused 0 train "$config" "--run.folder=$work/new" -- 'caravan upcycle'
  refused 0 evaluate "$config" "--run.folder=$work/new" "--data.held_out=$work/fewer.packed" -- "$work/new/checkpoints"
  refused 0 train "$config" "--run.folder=$work/new" "--model.store=$work/nowhere" -- "$work/nowhere"
  refused 0 train "$config" --lora.rank=8 -- 'lora.rank = 8' "the checkpoint's model has 4"
  refused 0 train "$config" --upcycle.experts=8 -- 'upcycle.experts = 8' "the checkpoint's model has 4"
  refused 0 train "$config" --model.rope_theta=20000 -- 'model.rope_theta = 20000' "the checkpoint's model has 10000"
  refused 0 train "$config" "--run.folder=$work/trained" --model.rope_theta=20000 -- 'model.rope_theta = 20000' "the checkpoint's model has 10000"
  refused 0 train "$config" "--run.folder=$work/edited" -- "$work/edited/checkpoints/step-00000000/config.json: rms_norm_eps = 0.001, but the model was made with 1e-05" 'set that back'
  refused 0 train "$config" "--run.folder=$work/trained" --checkpoint.resume=never -- "$work/trained/checkpoints" 'checkpoint.resume = never'
  refused 0 train "$config" "--run.folder=$work/trained" "--checkpoint.resume=$work/trained/checkpoints/step-00000001" -- 'another run.folder'
  refused 0 train "$config" "--checkpoint.resume=$work/here" -- "$work/here is not a checkpoint"
  refused 0 train "$config" "--run.folder=$work/trained" "--data.packed=$work/fewer.packed" -- "$work/fewer.packed is not the file"
  # Settings that the steps done depend on: they used 16 of 60 sequences, in batches of 8.
  local step_2=$work/trained/checkpoints/step-00000002
  refused 0 train "$config" "--run.folder=$work/trained" --train.steps=0 --train.epochs=2 --train.batch=16 -- \
    "train.batch = 16, but train.batch = 8 made the 2 steps that led to $step_2" 'train.epochs = 2' 'set it back, or plan in train.steps: train.steps = 9 uses up'
  refused 0 train "$config" "--run.folder=$work/trained" --train.steps=4 --train.seed=7 -- "train.seed = 7, but $step_2 was made with 42 and has used 16 of the 60 sequences" 'set it back, or train in another run.folder'
  refused 0 train "$config" "--run.folder=$work/trained" --train.steps=4 --train.shuffle=false -- "train.shuffle = false, but $step_2 was made with true" 'set it back, or train in another run.folder'
  refused 0 evaluate "$config" --checkpoint.step=7 "--data.held_out=$work/fewer.packed" -- step-00000007
}

ranks_rows() {
  # Layouts: one message with all that does not fit and every layout that does.
  refused 0 train "$config" --layout.tp=2 -- 'layout.tp = 2 does not divide the 1 rank of this job; layouts that fit 1 rank: tp 1 with ep 1 (train.micro_batch 1, 2, 4 or 8); this layout fits 2 ranks'
  refused 3 train "$config" --layout.tp=3 --layout.ep=3 -- 'layout.tp = 3 does not divide attention heads 4, key-value heads 2' \
    '; layout.ep = 3 does not divide 4 experts; no layout fits 3 ranks with train.batch = 8; layouts that fit 2 ranks: tp 1 or 2 with ep 1 or 2 (' '; layouts that fit 4 ranks: tp 1 or 2 with ep 1, 2 or 4 ('
  refused 3 train "$config" --layout.ep=2 -- 'layout.ep = 2 does not divide the 3 ranks of this job; train.batch = 8 is no multiple of 3 data-parallel ranks × train.micro_batch = 2; no layout fits'
  refused 2 train "$config" --train.batch=9 --train.micro_batch=3 -- 'train.batch = 9 is no multiple of 2 data-parallel ranks × train.micro_batch = 3; layouts that fit 2 ranks: tp 2 with ep 1 or 2 (train.micro_batch 1, 3 or 9); this layout fits 1 or 3 ranks, or train.batch 6 or 12'
  refused 2 train "$config" --layout.tp=2 --train.batch=16777216 --train.micro_batch=65536 --layout.ep=4 -- 'layout.ep = 4 does not divide the 2 ranks of this job; layouts that fit 2 ranks: tp 1 or 2 with ep 1 or 2 (train.micro_batch a divisor of 8388608 at tp 1 and 16777216 at tp 2)'
  refused 3 export "$config" --layout.ep=3 -- 'layout.ep = 3 does not divide 4 experts; layouts that fit 3 ranks: tp 1 with ep 1'
  refused 3 evaluate "$config" --layout.tp=3 "--data.held_out=$work/instructions.packed" -- 'layout.tp = 3' 'layouts that fit 3 ranks: tp 1 with ep 1'
  refused 2 verify "--model=$model" "--reference=$model/expected_logits.safetensors" --layout.ep=2 -- 'layout.ep = 2 is for experts, which this model does not have; layouts that fit 2 ranks: tp 1 or 2 with ep 1'

  # One message however many ranks there are, before and after MPI has started.
  refused 4 trian "$config" -- 'unknown command "trian"'
  refused 4 train "$work/no_folder.ini" -- 'run.folder is not set'
  refused 2 export "$config" --export.merge=false "--model.base=$work/foreign" -- "$work/foreign/config.json" bert
  refused 4 upcycle "$config" "--run.folder=$work/new" "--model.adapter=$work/dora" -- "$work/dora/adapter_config.json" use_dora
  refused 4 upcycle "$config" "--run.folder=$work/new" "--model.base=$work/cut" -- "$work/cut/model.safetensors"
  refused 4 train "$config" "--run.folder=$work/new" -- 'caravan upcycle'
  refused 4 evaluate "$config" --checkpoint.step=7 "--data.held_out=$work/fewer.packed" -- step-00000007
  refused 4 prepare "$config" "--data.source=$work/bad_json.jsonl" "--data.packed=$work/new.packed" -- "$work/bad_json.jsonl:4"
}

"$1_rows"
[ "$failed" -eq 0 ] || { : >"$work/output"; fail "rows above"; }
say "$rows rows of $1 are refused as they should be"
