#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on a tiny model: upcycle, prepare, train on 4 ranks, be killed half-way, resume at another layout,
# measure, export and check. Fails unless the loss on instructions that were never trained on fell by at least 5 %. Some minutes on 2 cores.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
config=inputs/quickstart.ini
run=$(sed -n 's/^folder *= *//p' "$config")
steps=$(sed -n 's/^steps *= *//p' "$config")
kill_at=$((steps / 2 + 5))  # between two checkpoints, so that some steps are computed again
ours=$run/made-by-quickstart

say() { printf '\n== %s\n' "$*"; }
fail() { printf '\nquickstart.sh: %s\n' "$*" >&2; exit 1; }

if [ -e "$run" ] && [ ! -e "$ours" ]; then
  echo "quickstart.sh: $root/$run is there already and is not the quickstart's; move it away first." >&2
  exit 2
fi

scripts/build.sh --program
exec 8>build/.quickstart.lock
flock -n 8 || fail "another quickstart is at work in this folder"
began=$SECONDS

# One thread per rank, and ranks that wait give their core to the others: there may be more ranks than cores.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none  # in containers the kernel refuses the other ways
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

launcher=
on_ranks() { mpirun -n "$1" --oversubscribe --bind-to none build/caravan "${@:2}" </dev/null; }
children_of() {  # the process ids whose parent is $1
  local stat line parent
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    read -r _ parent _ <<<"${line##*) }"  # after the name in brackets: state, parent, …
    [ "$parent" != "$1" ] || basename -- "${stat%/stat}"
  done
}
stop_training() {
  [ -n "$launcher" ] || return 0
  kill -TERM "$launcher" 2>/dev/null || true
  wait "$launcher" 2>/dev/null || true
}
trap stop_training EXIT

last_step() {
  [ ! -e "$run/metrics.jsonl" ] || tail -n 1 -- "$run/metrics.jsonl" | sed -n 's/.*"step": *\([0-9]*\).*/\1/p'
}
held_out_loss() { sed -n 's/.*"loss": *\([-+0-9.eE]*\).*/\1/p' "$run/$(printf 'evaluate-step-%08d.json' "$1")"; }

rm -rf -- "$run"
mkdir -p -- "$run"
echo "scripts/quickstart.sh made this folder and removes it when it starts again." >"$ours"

say "1 of 8: upcycling inputs/tiny-base, a dense Llama, to a mixture of 8 experts, on 2 ranks"
on_ranks 2 upcycle "$config"

say "2 of 8: preparing inputs/instructions.json; every fifth instruction stays out of training"
on_ranks 1 prepare "$config"

say "3 of 8: the held-out loss, and an answer, before training"
on_ranks 2 evaluate "$config" --checkpoint.step=0

say "4 of 8: training on 4 ranks: tensor parallel 2 x data parallel 2, experts over 2; SIGKILL at step $kill_at"
# Not through on_ranks: the background process must be mpirun itself, whose children are the ranks.
mpirun -n 4 --oversubscribe --bind-to none build/caravan train "$config" </dev/null &
launcher=$!
step=
while [ "${step:-0}" -lt "$kill_at" ]; do
  sleep 0.1
  if ! kill -0 "$launcher" 2>/dev/null; then
    status=0
    wait "$launcher" || status=$?
    fail "training ended by itself (exit $status) before it could be killed"
  fi
  step=$(last_step)
done
mapfile -t ranks < <(children_of "$launcher")
[ ${#ranks[@]} -gt 0 ] || fail "mpirun has no ranks to kill"
kill -KILL "${ranks[@]}"
status=0
wait "$launcher" 2>/dev/null || status=$?
launcher=
[ "$status" -ne 0 ] || fail "training finished although its ranks were killed"
say "killed all ${#ranks[@]} processes with SIGKILL after step $step (mpirun ended with $status)"

say "5 of 8: resuming from the newest good checkpoint, at another layout: data parallel 4, each expert pair on one rank"
# tp 1 leaves 4 data-parallel ranks, and 4 x 2 sequences make the same batch of 8.
on_ranks 4 train "$config" --layout.tp=1 --layout.ep=4 --train.micro_batch=2
[ "$(last_step)" = "$steps" ] || fail "training ended at step $(last_step), not $steps"

say "6 of 8: the held-out loss, and an answer, after training"
on_ranks 2 evaluate "$config" "--checkpoint.step=$steps"

say "7 of 8: exporting a Hugging Face model on 4 ranks; it is read back and compared with the trained one"
on_ranks 4 export "$config" "--checkpoint.step=$steps"

reference=tests/data/fixtures/camelidae-tiny
say "8 of 8: verifying against logits of the reference implementation ($reference), and looking into the export"
on_ranks 2 verify "--model=$reference" "--reference=$reference/expected.safetensors" --layout.tp=2
build/caravan info "$run/$(printf 'export-step-%08d' "$steps")" --verify

before=$(held_out_loss 0)
after=$(held_out_loss "$steps")
say "held-out response loss: $before before, $after after $steps steps; $((SECONDS - began)) s in all after the build"
awk -v before="$before" -v after="$after" 'BEGIN {
  fall = before > 0 ? 100 * (before - after) / before : 0
  printf "It fell by %.1f %%; at least 5 %% are asked for.\n", fall
  exit !(before > 0 && after > 0 && fall >= 5)
}' || fail "the held-out loss did not fall enough"

cat <<TEXT

Where to look next:
  $run/metrics.jsonl   one line per step; "restart" counts the resumed starts
  $run/checkpoints/    build/caravan info on a step's folder says what is in it; so does h5dump -H on its master.h5
  $run/export-step-…/  the Hugging Face model; its README.md has the code that chats with it in transformers
  $config         the settings; build/caravan --help explains each
  docs/architecture.md          how it was done
  README.md                     a first run of your own, on a real model
TEXT
