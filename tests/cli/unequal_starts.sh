#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ranks that are started with different settings, programs or files are stopped with exit code 2 before anything is
# written, and one message names what differs, its values and the ranks.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

make_origin 2 1 1 1 1
config=$work/config.ini
listing() { find "$work" ! -path "$work/output" \( -type d -printf '%p\n' -o -printf '%p %s %T@\n' \) | sort; }

# refused WORDS… -- FRAGMENT…: mpirun WORDS… ends with 2 and one message that holds every fragment.
rows=0
refused() {
  local words=() ended=0 fragment before
  while [ "$1" != -- ]; do
    words+=("$1")
    shift
  done
  shift
  rows=$((rows + 1))
  before=$(listing)
  "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" "${words[@]}" >"$work/output" 2>&1 </dev/null || ended=$?
  [ "$ended" -eq 2 ] || fail "row $rows: exit $ended instead of 2"
  [ "$(grep -c '^error' "$work/output")" -eq 1 ] || fail "row $rows: not one message"
  for fragment in "$@"; do grep '^error' "$work/output" | grep -qF -- "$fragment" || fail "row $rows: no \"$fragment\""; done
  [ "$before" = "$(listing)" ] || fail "row $rows: it changed $(comm -3 <(echo "$before") <(listing))"
}

# Settings, from a file or from the command line; where a file lies is none.
sed 's/^lr = .*/lr = 2e-3/' -- "$config" >"$work/other.ini"
cp -- "$config" "$work/same.ini"
refused -n 1 "$binary" train "$config" : -n 2 "$binary" train "$work/other.ini" --train.warmup_steps=4 : -n 1 "$binary" train "$work/same.ini" -- \
  'train.lr = 0.003 on ranks 0 and 3, but 0.002 on ranks 1 and 2; train.warmup_steps = 3 on ranks 0 and 3, but 4 on ranks 1 and 2; start all ranks'
refused -n 1 "$binary" train "$config" : -n 1 "$binary" export "$config" -- 'command = train on rank 0, but export on rank 1'
verify=("$binary" verify "--model=$CARAVAN_SOURCE/tests/data/fixtures/llama-tiny" --reference=a.safetensors)
refused -n 1 "${verify[@]}" : -n 1 "${verify[@]}" --precision=bf16 -- '--precision = fp32 on rank 0, but bf16 on rank 1'
# One that rank 0 would not have spoken of.
refused -n 2 "$binary" train "$config" : -n 1 "$binary" train "$config" --train.lr=2 -- 'rank 2: ' 'train.lr = 2 is out of range'
say "other settings are named"

# Programs that say the same of themselves.
cp -- "$binary" "$work/caravan" && printf x >>"$work/caravan"
refused -n 1 "$binary" train "$config" : -n 1 "$work/caravan" train "$config" -- \
  'checksum of the program = ' ' on rank 0, but ' ' on rank 1; start all ranks with the same program and configuration'
rm -- "$work/caravan"
say "another program is named"

# Files: two nodes with folders of their own, in which the same names mean copies.
sed "s|$work/origin|run|; s|$work/instructions|instructions|" -- "$config" >"$work/node.ini"
for node in 0 1; do
  mkdir -- "$work/node$node"
  cp -- "$work/node.ini" "$work/node$node/config.ini"
  cp -- "$work/instructions.packed" "$work/node$node/"
  cp -R -- "$work/origin" "$work/node$node/run"
done
on_node='cd -- "$1/node${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-${PMI_RANK:-$SLURM_PROCID}}}" && shift && exec "$@"'
nodes=(-n 2 bash -c "$on_node" on_node "$work" "$binary")
step_0=run/checkpoints/step-00000000
shared=("--run.folder=$work/shared" "--model.store=$step_0")  # one run folder, with models and data of each node
small=(--evaluate.samples=2 --evaluate.answer_tokens=1 --data.held_out=instructions.packed)

head -n 40 -- "$work/instructions.jsonl" >"$work/fewer.jsonl"
"$binary" prepare "$config" "--data.source=$work/fewer.jsonl" "--data.packed=$work/fewer.packed" >/dev/null
cp -- "$work/fewer.packed" "$work/node1/instructions.packed"
cp -- "$work/instructions.packed" "$work/node0/held_out.packed"
cp -- "$work/fewer.packed" "$work/node1/held_out.packed"
refused "${nodes[@]}" train config.ini "${shared[@]}" --evaluate.every=1 --data.held_out=held_out.packed -- \
  'error (rank 0 of 2): checksum of instructions.packed = ' ' on rank 0, but ' ' on rank 1; checksum of held_out.packed = ' ' on rank 1; the ranks do not read the same files'
refused "${nodes[@]}" evaluate config.ini "${small[@]}" -- 'error (rank 0 of 2): checksum of instructions.packed = ' ' on rank 0, but ' ' on rank 1;'
cp -- "$work/instructions.packed" "$work/node1/"
say "other files of tokens are named"

# The same names, shapes and sizes, of other values.
(cd -- "$work/node1" && rm -r -- run && "$binary" upcycle config.ini --upcycle.seed=7 >"$work/output")
sed -i 's/"rms_norm_eps": [^,]*/"rms_norm_eps": 0.5/' -- "$work/node1/$step_0/config.json"
refused "${nodes[@]}" train config.ini "${shared[@]}" -- "error (rank 0 of 2): checksum of $step_0/manifest.json = " ' on rank 0, but ' \
  " on rank 1; checksum of $step_0/config.json = " ' on rank 1; the ranks do not read the same files'
rm -r -- "$work/node1/run" && cp -R -- "$work/origin" "$work/node1/run"
mv -- "$work/node1/config.ini" "$work/node1/elsewhere.ini"
refused "${nodes[@]}" train config.ini -- 'rank 1: ' config.ini
mv -- "$work/node1/elsewhere.ini" "$work/node1/config.ini"
say "another checkpoint, model or missing configuration is named"

# Copies of the run folder would go apart, however equal they are now.
refused "${nodes[@]}" train config.ini -- "error (rank 0 of 2): rank 1: on $(uname -n), run.folder = run is $work/node1/run, which does not hold the lock" \
  "made in $work/node0/run on $(uname -n); all ranks need the same folder"
refused "${nodes[@]}" upcycle config.ini --run.folder=other -- \
  "which does not hold the lock that rank 0 has made in $work/node0/other/checkpoints/step-00000000 on $(uname -n); all ranks need the same folder"
say "run folders of each node's own are named"

# Copies of models and data that are the same do; what may differ is reported.
one=("$binary" evaluate config.ini "${small[@]}")
"$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n 1 bash -c "$on_node" on_node "$work" env OMP_NUM_THREADS=1 "${one[@]}" : \
  -n 1 bash -c "$on_node" on_node "$work" env OMP_NUM_THREADS=2 "${one[@]}" >"$work/output" 2>&1 </dev/null || fail "unequal threads: exit $?"
expect_output 'warning: threads (OMP_NUM_THREADS) = 1 on rank 0, but 2 on rank 1;'
[ "$(grep -c '^warning' "$work/output")" -eq 1 ] || fail "not one warning"
expect_output 'held-out response loss'
say "$rows unequal starts are refused, and unequal threads are reported"
