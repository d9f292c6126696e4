#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# verify through the public binary: the fixtures' models give their logits, wrong flags and files are refused, and
# another model is a difference. export: the same files from 1, 2 and 4 ranks, each checked against the
# checkpoint; a model that its element type cannot hold is marked UNVERIFIED; what transformers computes from the
# exported folder, where Python has it.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

fixtures=${CARAVAN_FIXTURES:-$CARAVAN_SOURCE/tests/data/fixtures}
python=${CARAVAN_PYTHON:-python3}

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

for pair in llama-tiny/expected_logits camelidae-tiny/expected camelidae-tiny/expected_padded; do
  model=$fixtures/${pair%/*} reference=$fixtures/$pair.safetensors
  expect 0 1 verify "--model=$model" "--reference=$reference"
  expect_output 'top-1 agreement 100 %'
  expect 0 2 verify "--model=$model" "--reference=$reference" --layout.tp=2
  expect 0 2 verify "--model=$model" "--reference=$reference" --layout.ep=2
  expect_output 'the same within the tolerance'
done
say "the fixtures' models give their logits at 1 and 2 ranks"

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
refused 1 verify "--model=$model" --reference=a --tolerance=small -- '--tolerance=small is not a number'
refused 1 verify "--model=$model" --reference=a --layout.tp=0 -- 'layout.tp = 0 is out of range'
refused 1 verify "--model=$model" a -- 'unexpected argument a'
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
refused 2 export "$config" "--export.folder=$work/export-1-1-1" -- "$work/export-1-1-1 is not empty"
refused 1 export "$config" --evaluate.step=77 -- step-00000077
refused 1 export "$config" --export.dtype=int8 -- export.dtype
expect 0 1 export "$config" --evaluate.step=0 --export.dtype=bfloat16
[ -e "$work/origin/export-step-00000000/config.json" ] || fail "no export in the run folder"
grep -qF 'It was not trained' "$work/origin/export-step-00000000/README.md" || fail "the README of step 0 says otherwise"
say "exports from 1, 2 and 4 ranks are the same and verified"

# What the checkpoint computes, with LoRA beside the weights, is not what the dense base does: verify sees the training.
expect 1 1 verify "--model=$(checkpoint_folder origin 4)" "--reference=$base_reference"
# At step 0 it is.
expect 0 2 verify "--model=$(checkpoint_folder origin 0)" "--reference=$base_reference"
refused 1 verify "--model=$work/origin" "--reference=$base_reference" -- "$work/origin is a run"

# An update of factor 1e6 makes a model in which bfloat16 weights go astray.
ranks=1
sed -i "s/^alpha = .*/alpha = 1e6/; s#^folder = .*#folder = $work/wild#" -- "$config"
start upcycle || fail "upcycle ended with $?"
start train --train.lr=0.1 || fail "training ended with $?"
expect 1 2 export "$config" --export.dtype=bfloat16
expect_output 'it is marked UNVERIFIED'
out=$work/wild/export-step-00000004
grep -qF 'maximum absolute difference' "$out/UNVERIFIED" || fail "UNVERIFIED does not say why"
grep -qF '**Not verified.**' "$out/README.md" || fail "the README says that it is verified"
say "a difference is exit 1, and the folder is marked"

status=0
"$python" "$(dirname -- "${BASH_SOURCE[0]}")/export_reference.py" "$work/export-1-1-1" "$work/transformers.safetensors" ||
  status=$?
if [ "$status" -eq 77 ]; then
  say "the comparison with transformers is skipped"
else
  [ "$status" -eq 0 ] || fail "export_reference.py ended with $status"
  expect 0 2 verify "--model=$work/export-1-1-1" "--reference=$work/transformers.safetensors"
  say "transformers computes the same from the exported folder"
fi
say "done"
