#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# verify through the public binary: every model of the golden fixtures gives the reference's logits, in fp32 on one rank
# and on two (TP 2, EP 2 where the model can be cut so), and in bf16 within its tolerance.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

fixtures=${CARAVAN_FIXTURES:-$CARAVAN_SOURCE/tests/data/fixtures}
more=${CARAVAN_FIXTURES_MORE:-$CARAVAN_SOURCE/tests/data/fixtures-more}

# field MODEL NAME: a whole number of its config.json; nothing when it is not there.
field() { sed -n "s/.*\"$2\": *\([0-9]*\).*/\1/p" "$1/config.json"; }
checks=0
# same MODEL REFERENCE RANKS [ARGUMENTS]
same() {
  expect 0 "$3" verify "--model=$1" "--reference=$2" "${@:4}"
  grep -q '^the same within the tolerance' "$work/output" || fail "verify of $1 does not say that it is the same"
  checks=$((checks + 1))
}
models=0
for folder in "$fixtures"/*/ "$more"/families/*/ "$more"/sparsetral-tiny/; do
  folder=${folder%/}
  [ -e "$folder/config.json" ] || continue
  references=()
  for file in "$folder"/expected*.safetensors; do [ ! -e "$file" ] || references+=("$file"); done
  # The sharded model is another one's weights, cut up.
  [ ${#references[@]} -gt 0 ] || references=("${folder%-sharded}/expected_logits.safetensors")
  models=$((models + 1))
  layout=()
  kv=$(field "$folder" num_key_value_heads) experts=$(field "$folder" num_experts)
  [ $((${kv:-1} % 2)) -ne 0 ] || layout+=(--layout.tp=2)
  [ $((${experts:-1} % 2)) -ne 0 ] || layout+=(--layout.ep=2)
  for reference in "${references[@]}"; do
    same "$folder" "$reference" 1
    same "$folder" "$reference" 1 --precision=bf16
    [ ${#layout[@]} -eq 0 ] || same "$folder" "$reference" 2 "${layout[@]}"
  done
done
[ "$models" -ge 10 ] || fail "only $models models were found"
say "$models models, $checks comparisons: all the same"
