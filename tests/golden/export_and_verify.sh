#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# verify through the public binary: the fixtures' models give their logits, wrong flags and files are refused, and
# another model is a difference. export: the same files from 1, 2 and 4 ranks, each checked against the
# checkpoint; a model that its element type cannot hold is marked UNVERIFIED; adapters go out and in; what transformers
# and PEFT compute from the exported folders of every family, where Python has them.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

fixtures=${CARAVAN_FIXTURES:-$CARAVAN_SOURCE/tests/data/fixtures}
more_fixtures=${CARAVAN_FIXTURES_MORE:-$CARAVAN_SOURCE/tests/data/fixtures-more}
python=${CARAVAN_PYTHON:-python3}

for pair in llama-tiny/expected_logits camelidae-tiny/expected camelidae-tiny/expected_padded; do
  model=$fixtures/${pair%/*} reference=$fixtures/$pair.safetensors
  expect 0 1 verify "--model=$model" "--reference=$reference"
  expect_output 'top-1 agreement 100 %'
  expect 0 2 verify "--model=$model" "--reference=$reference" --layout.tp=2
  expect_output 'the same within the tolerance'
  [ "${pair%/*}" != camelidae-tiny ] || expect 0 2 verify "--model=$model" "--reference=$reference" --layout.ep=2
  expect_output 'the same within the tolerance'
done
for adapter in "$more_fixtures"/peft/*/; do
  model=$fixtures/llama-tiny reference=${adapter}expected.safetensors
  expect 0 1 verify "--model=$model" "--adapter=$adapter" "--reference=$reference"
  expect_output 'the same within the tolerance'
  expect 0 2 verify "--model=$model" "--adapter=$adapter" "--reference=$reference" --layout.tp=2
  expect 1 1 verify "--model=$model" "--reference=$reference"
done
say "the fixtures' models and adapters give their logits at 1 and 2 ranks"

# The two models differ by what the adapters add.
expect 1 1 verify "--model=$fixtures/llama-tiny" "--reference=$fixtures/camelidae-tiny/expected.safetensors"
expect_output 'DIFFERENT: more than the tolerance: maximum absolute difference'
expect 0 1 verify "--model=$fixtures/llama-tiny" "--reference=$fixtures/camelidae-tiny/expected.safetensors" --tolerance=100
expect 1 2 verify "--model=$fixtures/camelidae-tiny" "--reference=$fixtures/camelidae-tiny/expected.safetensors" --tolerance=0

# refused RANKS ARGUMENTS -- FRAGMENT…: exit 2, one message with every fragment.
refused() {
  local words=()
  while [ "$1" != -- ]; do words+=("$1"); shift; done
  shift
  expect 2 "${words[@]}"
  [ "$(grep -c '^error' "$work/output")" -eq 1 ] || fail "${words[*]}: not one message"
  for fragment in "$@"; do expect_output "$fragment"; done
}
model=$fixtures/camelidae-tiny
refused 1 verify --modle=x -- 'unknown flag --modle' 'did you mean --model?'
refused 1 verify "--model=$model" -- '--reference is not given'
refused 1 verify "--model=$model" --reference=a --reference=b -- '--reference is given twice'
refused 1 verify "--model=$model" --reference=a --tolerance=small -- 'tolerance = small is not a number'
refused 1 verify "--model=$model" --reference=a --layout.tp=0 -- 'layout.tp = 0 is out of range'
refused 1 verify "--model=$model" a -- 'unexpected argument a'
refused 2 verify "--model=$fixtures/llama-tiny" "--adapter=$work/nowhere" --reference=a -- "$work/nowhere is not a folder with a PEFT adapter"
refused 2 verify "--model=$work/nowhere" --reference=a -- "$work/nowhere/config.json"
refused 2 verify "--model=$model" "--reference=$work/nowhere.safetensors" -- "$work/nowhere.safetensors"
refused 1 verify "--model=$model" "--reference=$model/model.safetensors" -- "$model/model.safetensors" 'no tensor input_ids'
refused 3 verify "--model=$model" "--reference=$model/expected.safetensors" --layout.tp=3 -- layout.tp
refused 2 verify "--model=$CARAVAN_SOURCE/inputs/tiny-base" "--reference=$model/expected.safetensors" -- "$model/expected.safetensors: tensor logits" "vocabulary"
say "wrong flags and files are refused"

make_origin 4 0 1 1 1
base_reference=$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny/expected_logits.safetensors
config=$work/config.ini
"$binary" prepare "$config" --data.held_out_every=5 >"$work/output" 2>&1 || fail "prepare ended with $?"
start train || fail "training ended with $?"
for layout in '1 1 1' '2 2 1' '2 1 2' '4 2 2'; do
  read -r ranks tp ep <<<"$layout"
  out=$work/export-$ranks-$tp-$ep
  expect 0 "$ranks" export "$config" "--export.folder=$out" "--layout.tp=$tp" "--layout.ep=$ep"
  expect_output "verified: $out"
  grep -qF 'Verified. ' "$out/README.md" || fail "$out/README.md does not say that it is verified"
  [ ! -e "$out/UNVERIFIED" ] || fail "$out is marked"
  for file in model.safetensors config.json tokenizer.model; do
    cmp -- "$work/export-1-1-1/$file" "$out/$file" || fail "$out/$file differs from that of one rank"
  done
done
refused 2 export "$config" "--export.folder=$work/export-1-1-1" -- "$work/export-1-1-1 holds a model already (config.json), the export of step 4 as float32, with export.merge = true and export.format = pesc" "choose another export.folder"
for file in configuration_pesc.py modeling_pesc.py; do
  cmp -- "$CARAVAN_SOURCE/src/convert/transformers/$file" "$work/export-1-1-1/$file" || fail "$file is not the source's"
done
grep -qF '"chat_template": "{{ bos_token }}' "$work/export-1-1-1/tokenizer_config.json" || fail "no chat template"
expect 0 1 export "$config" --export.format=official "--export.folder=$work/official"
expect_output 'README.md of the export has no license'
grep -qF 'modeling_camelidae.LlamaForCausalLM' "$work/official/config.json" || fail "the official format names other classes"
[ ! -e "$work/official/modeling_pesc.py" ] || fail "the official format has our classes"
refused 1 export "$config" --export.format=official --export.merge=false -- "export.format = official is for whole models"
refused 1 export "$config" --checkpoint.step=77 -- step-00000077
refused 1 export "$config" --export.dtype=int8 -- export.dtype
expect 0 1 export "$config" --checkpoint.step=0 --export.dtype=bfloat16
[ -e "$work/origin/export-step-00000000/config.json" ] || fail "no export in the run folder"
grep -qF 'It was not trained' "$work/origin/export-step-00000000/README.md" || fail "the README of step 0 says otherwise"
grep -qF 'tokenizer("The sea is"' "$work/origin/export-step-00000000/README.md" || fail "the README has no code for step 0"
! grep -qF 'apply_chat_template' "$work/origin/export-step-00000000/README.md" || fail "the README needs a chat template"
# expect_export yes|no TEXT SETTINGS …: what caravan status says of the folder that is there.
expect_export() {
  "$binary" status "$config" "--export.folder=$work/export-1-1-1" "${@:3}" --shell >"$work/output" || fail "status ended with $?"
  expect_output "export_done=$1"
  [ -z "$2" ] || expect_output "export_problem=$work/export-1-1-1 holds another export: $2"
}
expect_export yes ''
expect_export yes '' --export.dtype=float32
expect_export no 'export.dtype = float16, but it was float32' --export.dtype=float16
expect_export no 'export.merge = false, but it was true' --export.merge=false
expect_export no 'export.format = official, but it was pesc' --export.format=official
expect_export no 'the checkpoint is of step 0, but it was 4' --checkpoint.step=0
copy_run origin other
rm -r -- "$(checkpoint_folder other 4)"
start train "--run.folder=$work/other" --train.lr=1e-3 || fail "training with another rate ended with $?"
expect_export no "the checkpoint is $(checkpoint_folder other 4), but it was another one of this step" "--run.folder=$work/other"
say "exports from 1, 2 and 4 ranks are the same and verified"

# What the checkpoint computes, with LoRA beside the weights, is not what the dense base does: verify sees the training.
expect 1 1 verify "--model=$(checkpoint_folder origin 4)" "--reference=$base_reference"
# At step 0 it is.
expect 0 2 verify "--model=$(checkpoint_folder origin 0)" "--reference=$base_reference"
refused 1 verify "--model=$work/origin" "--reference=$base_reference" -- "$work/origin is a run"

# A base whose last norm is 2^-30 of the tiny Llama's: float16 has no such numbers, and all logits become 0. The highest
# byte of an fp32 number holds the sign and the exponent's upper bits: one less there is a quarter.
cp -R -- "$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny" "$work/faint"
chmod -R u+w -- "$work/faint"
printf 'Apache License\nVersion 2.0\n' >"$work/faint/LICENSE"
file=$work/faint/model.safetensors
length=$(od -An -tu8 -N 8 -- "$file" | tr -d ' ')
range=$(head -c $((8 + length)) -- "$file" | tail -c "$length" |
  sed -nE 's/.*"model.norm.weight":\{"dtype":"F32"[^}]*"data_offsets":\[([0-9]+),([0-9]+)\].*/\1 \2/p')
begin=${range% *} end=${range#* } bytes='' at=0
for byte in $(tail -c +$((9 + length + begin)) -- "$file" | head -c $((end - begin)) | od -An -v -tu1); do
  printf -v octal '\\0%03o' $((++at % 4 == 0 ? byte - 15 : byte))
  bytes+=$octal
done
printf '%b' "$bytes" | dd of="$file" bs=1 seek=$((8 + length + begin)) conv=notrunc status=none
ranks=1
sed -i "s#^base = .*#base = $work/faint#; s#^folder = .*#folder = $work/faint-run#" -- "$config"
start upcycle || fail "upcycle ended with $?"
expect 1 2 export "$config" --export.dtype=float16
expect_output 'it is marked UNVERIFIED'
out=$work/faint-run/export-step-00000000
grep -qF 'maximum absolute difference' "$out/UNVERIFIED" || fail "UNVERIFIED does not say why"
grep -qF '**Not verified.**' "$out/README.md" || fail "the README says that it is verified"
rm -- "$work/faint/LICENSE"  # step 0 keeps it
expect 0 2 export "$config" --export.dtype=bfloat16 "--export.folder=$work/faint-bfloat16"
grep -q 'Version 2.0' "$work/faint-bfloat16/LICENSE" || fail "the license is not in the export"
grep -qx 'license: "apache-2.0"' "$work/faint-bfloat16/README.md" || fail "the README has no license"
say "a difference is exit 1, and the folder is marked"

# reference MODEL OUT [ADAPTER]: what transformers computes. False where Python cannot.
reference() {
  local status=0
  "$python" "$(dirname -- "${BASH_SOURCE[0]}")/export_reference.py" "$@" || status=$?
  [ "$status" -eq 0 ] || [ "$status" -eq 77 ] || fail "export_reference.py $* ended with $status"
  return $((status == 77))
}
# setting KEY VALUE: of the configuration.
setting() { sed -i "s#^$1 = .*#$1 = $2#" -- "$config"; }

# The Llama of above as an adapter on its base: out from 1 and 2 ranks, in again, and out as the same files.
setting base "$fixtures/llama-tiny"
setting folder "$work/origin"
for ranks in 1 2; do
  out=$work/adapter-$ranks
  expect 0 "$ranks" export "$config" --export.merge=false "--export.folder=$out" "--layout.tp=$ranks"
  expect_output "verified: $out"
  for file in adapter_config.json adapter_model.safetensors pesc/config.json pesc/model.safetensors; do
    cmp -- "$work/adapter-1/$file" "$out/$file" || fail "$out/$file differs from that of one rank"
  done
  grep -qF 'Verified. ' "$out/README.md" || fail "$out/README.md does not say that it is verified"
  [ ! -e "$out/UNVERIFIED" ] && [ ! -e "$out/config.json" ] || fail "$out is marked, or looks like a whole model"
done
expect 0 2 upcycle "$config" "--model.adapter=$work/adapter-1" "--run.folder=$work/again" --lora.rank=8 --upcycle.experts=2
expect_output "$work/adapter-1 has adapters already, which are kept: 4 experts"
expect_output "$work/adapter-1 has LoRA already, which is kept: rank = 4, alpha = 8"
expect 0 1 export "$config" "--run.folder=$work/again" --export.merge=false
for file in adapter_config.json adapter_model.safetensors pesc/config.json pesc/model.safetensors; do
  cmp -- "$work/adapter-1/$file" "$work/again/adapter-step-00000000/$file" || fail "$file is another after upcycle"
done
# What the adapter brought is trained on, whatever the configuration has for models that are made anew.
expect 0 2 train "$config" "--run.folder=$work/again" --lora.rank=8 --upcycle.experts=2 --train.steps=1
expect 1 2 export "$config" --export.merge=false "--model.base=$work/faint" "--export.folder=$work/adapter-faint"
expect_output 'it is marked UNVERIFIED'
[ -e "$work/adapter-faint/UNVERIFIED" ] || fail "the adapter of another base is not marked"
refused 2 export "$config" --export.merge=false "--model.base=$fixtures/qwen2-tiny" -- "$fixtures/qwen2-tiny/config.json"
refused 1 export "$config" --export.merge=false "--model.base=$work/nowhere" -- "$work/nowhere/config.json"
refused 1 export "$config" --export.merge=false --model.rope_theta=20000 -- 'rope_theta = 10000' 'trained with 20000'
refused 1 verify "--model=$(checkpoint_folder origin 0)" "--adapter=$work/adapter-1" "--reference=$base_reference" -- "is a checkpoint"
say "adapters go out and in"

transformers=1
# compare MODEL CHECKPOINT ADAPTER BASE: the whole model and the adapter, as Python computes them.
compare() {
  if reference "$1" "$work/transformers.safetensors"; then
    expect 0 2 verify "--model=$1" "--reference=$work/transformers.safetensors"
    say "$1: $(grep -F 'maximum absolute difference' "$work/output" | head -n 1)"
  else
    transformers=0
  fi
  if reference "$4" "$work/peft.safetensors" "$3"; then
    expect 0 2 verify "--model=$4" "--adapter=$3" "--reference=$work/peft.safetensors"
    say "$3: $(grep -F 'maximum absolute difference' "$work/output" | head -n 1)"
    expect 0 1 verify "--model=$2" "--reference=$work/peft.safetensors"
    expect 1 1 verify "--model=$4" "--reference=$work/peft.safetensors"
  else
    transformers=0
  fi
}
compare "$work/export-1-1-1" "$(checkpoint_folder origin 4)" "$work/adapter-1" "$fixtures/llama-tiny"

# The other families, on some linears only and with rank-stabilised LoRA. They get the Llama's tokenizer, whose
# vocabulary is in theirs.
setting experts 3
setting steps 3
while read -r model targets; do
  mkdir -- "$work/$model"
  cp -- "$fixtures/$model"/{config.json,model.safetensors} "$fixtures"/llama-tiny/tokenizer{.model,_config.json} "$work/$model/"
  setting base "$work/$model"
  setting folder "$work/$model-run"
  setting packed "$work/$model.packed"
  flags=("--lora.targets=$targets" --lora.rslora=true)
  ranks=1
  start upcycle "${flags[@]}" || fail "upcycle of $model ended with $?"
  "$binary" prepare "$config" >"$work/output" 2>&1 || fail "prepare for $model ended with $?"
  start train "${flags[@]}" || fail "training of $model ended with $?"
  expect 0 1 export "$config" "--export.folder=$work/$model-whole"
  expect 0 1 export "$config" --export.merge=false "--export.folder=$work/$model-adapter"
  compare "$work/$model-whole" "$(checkpoint_folder "$model-run" 3)" "$work/$model-adapter" "$work/$model"
done <<'TEXT'
qwen2-tiny k_proj,o_proj,down_proj
qwen2-tied-tiny q_proj
mistral-tiny v_proj,gate_proj,up_proj
TEXT
if [ "$transformers" -eq 1 ]; then
  say "transformers and PEFT compute the same from the exported folders of every family"
else
  say "the comparison with transformers is skipped, in all or in part"
fi
say "done"
