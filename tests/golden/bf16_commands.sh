#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bf16 through the public binary: verify holds it to the tolerance of rounding and not to that of fp32; train, evaluate
# and export compute in it, and what they compute is near to fp32 and not the same.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

fixtures=${CARAVAN_FIXTURES:-$CARAVAN_SOURCE/tests/data/fixtures}

for pair in llama-tiny/expected_logits camelidae-tiny/expected; do
  flags=("--model=$fixtures/${pair%/*}" "--reference=$fixtures/$pair.safetensors" --precision=bf16)
  expect 0 1 verify "${flags[@]}"
  expect_output ', in bf16'
  expect 0 2 verify "${flags[@]}" --layout.tp=2
  expect 1 2 verify "${flags[@]}" --layout.tp=2 --tolerance=1e-4  # as fp32 is
  [ "${pair%/*}" != camelidae-tiny ] || expect 0 2 verify "${flags[@]}" --layout.ep=2
done
expect 1 1 verify "--model=$fixtures/llama-tiny" "--reference=$fixtures/camelidae-tiny/expected.safetensors" --precision=bf16
expect 2 1 verify "${flags[@]:0:2}" --precision=fp8
expect_output 'precision = fp8 is not a choice; use bf16 or fp32'
say "verify tells rounding from a difference"

make_origin 4 0 2 2 2 bf16
config=$work/config.ini
sed -i 's/^packing = .*/&\nheld_out_every = 5/' -- "$config"
"$binary" prepare "$config" >"$work/output" 2>&1 || fail "prepare ended with $?"
start train || fail "training ended with $?"
expect_log origin 'computing in bf16'

# loss PRECISION RANKS TP EP: the held-out loss of the checkpoint.
loss() {
  expect 0 "$2" evaluate "$config" "--train.precision=$1" "--layout.tp=$3" "--layout.ep=$4" --evaluate.answer_tokens=2
  expect_output ", in $1"
  grep -qF "\"precision\": \"$1\"" "$work/origin/evaluate-step-00000004.json" || fail "evaluate's file does not say $1"
  sed -n 's/.*"loss": *\([-+0-9.eE]*\).*/\1/p' "$work/origin/evaluate-step-00000004.json"
}
exact=$(loss fp32 1 1 1)
for layout in '1 1 1' '2 2 1' '2 1 2'; do
  read -r np tp ep <<<"$layout"
  rounded=$(loss bf16 "$np" "$tp" "$ep")
  awk -v a="$exact" -v b="$rounded" 'BEGIN { d = (a - b) / a; if (d < 0) d = -d; exit !(d > 0 && d < 3e-3) }' ||
    fail "held-out loss $rounded in bf16, $exact in fp32"
done
say "held-out loss: $exact in fp32, $rounded in bf16"

for dtype in bfloat16 float32; do
  expect 0 2 export "$config" "--export.folder=$work/export-$dtype" "--export.dtype=$dtype"
  expect_output "verified: $work/export-$dtype"
  grep -qF 'both computed in bf16' "$work/export-$dtype/README.md" || fail "the README does not say bf16"
done
# What is exported does not depend on how the check computes.
expect 0 2 export "$config" "--export.folder=$work/export-fp32" --export.dtype=float32 --train.precision=fp32
cmp -- "$work/export-float32/model.safetensors" "$work/export-fp32/model.safetensors" || fail "the exported files differ"
say "done"
